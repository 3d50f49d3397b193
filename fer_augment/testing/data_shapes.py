"""A check with other numbers of classes and other image sizes than those of the usual data."""

from __future__ import annotations

from collections.abc import Iterator

from fer_augment.errors import FerAugmentError
from fer_augment.testing.fixtures import tiny_dataset
from fer_augment.testing.subject import Subject

SHAPES = ((7, 50, 66, 1), (4, 33, 20, 3))
"""Classes, height, width and channels of the data."""


def accepts_any_number_of_classes_and_size(subject: Subject) -> Iterator[str]:
    """Data with other classes and image sizes is accepted, or refused with a StrategyError."""
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
