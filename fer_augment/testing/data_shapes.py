"""A check with other numbers of classes and other image sizes than those of the usual data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fer_augment.errors import FerAugmentError, StrategyError
from fer_augment.testing.fixtures import tiny_dataset
from fer_augment.testing.stages import arguments_of
from fer_augment.testing.subject import Subject

SHAPES = ((7, 50, 66, 1), (4, 33, 20, 3))
"""Classes, height, width and channels of the data."""


def accepts_any_number_of_classes_and_size(subject: Subject) -> Iterator[str]:
    """Data with other classes and image sizes, or a batch of one row, is accepted, or refused with a StrategyError."""
    accepted = {data.image_shape[2] for data in subject.datasets}
    for classes, height, width, channels in SHAPES:
        if channels not in accepted:
            continue
        case = f"{classes} classes of {height}x{width}x{channels}"
        data = tiny_dataset(channels, classes=classes, height=height, width=width)
        try:
            subject.refusals(data)
        except Exception as error:  # noqa: BLE001 - the loss that a hook returns may raise anything
            kind = "" if isinstance(error, FerAugmentError) else f"{type(error).__name__}: "
            yield (
                f"{case}: {kind}{error}; take the number of classes and the size from the arguments, or raise a "
                "StrategyError that says what to do"
            )
    yield from _failures_with_one_row(subject)


def _failures_with_one_row(subject: Subject) -> Iterator[str]:
    """Run what is given a batch on the last batch of an epoch, which may have one row."""
    for stage in ("build_loss", "augment_batch"):
        for data in subject.datasets[:1] if stage in subject.stages else ():
            for arguments in arguments_of(stage, data, np.zeros(1, dtype=np.int64)):
                try:
                    arrays = arguments.outcome(subject.build())
                except StrategyError as error:
                    if not isinstance(error.__cause__, StrategyError):
                        yield f"a batch of one row: {error}"
                except Exception as error:  # noqa: BLE001 - as above
                    yield f"{stage}: a batch of one row: {type(error).__name__}: {error}"
                else:
                    if not all(np.isfinite(array).all() for array in arrays):
                        yield f"{stage}: the result is NaN or infinite for a batch of one row, which has no spread"
