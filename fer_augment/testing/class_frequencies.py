"""Checks with classes that are small, empty, or drawn in proportions other than those of the training set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.errors import FerAugmentError
from fer_augment.hooks.strategy import Effect
from fer_augment.testing.fixtures import NearestMeanScout, with_reversed_counts
from fer_augment.testing.stages import Arguments, Arrays, arguments_of
from fer_augment.testing.subject import Subject


def counts_classes_as_drawn(subject: Subject) -> Iterator[str]:
    """A loss that depends on class frequencies takes them from `class_prior`, or declares that it favors small classes.

    With the class counts of the set, an imbalance that sampling has already corrected would be corrected twice. A loss
    that intends this declares `Effect.FAVORS_SMALL_CLASSES`. A loss that uses a scout may depend on the set, and so may
    one that depends on the rows of each class, such as their mean image.
    """
    if "build_loss" in subject.stages and Effect.FAVORS_SMALL_CLASSES not in subject.build().effects:
        for data in subject.datasets:
            for arguments in arguments_of("build_loss", data):
                scout = NearestMeanScout()
                unchanged = arguments.outcome(subject.build(), scout=scout)
                other_counts, other_rows = (
                    _with(arguments, other, training_set=other).outcome(subject.build())
                    for other in (with_reversed_counts(data), _with_other_rows(data))
                )
                reversed_prior = arguments.others["class_prior"][::-1].copy()
                other_prior = _with(arguments, data, class_prior=reversed_prior).outcome(subject.build())
                depends_on_rows = scout.asked or not _equal(unchanged, other_rows)
                if not depends_on_rows and _equal(unchanged, other_prior) and not _equal(unchanged, other_counts):
                    yield (
                        "build_loss: class frequencies are counted in the set, regardless of how rows are drawn; use "
                        "`class_prior`, or declare Effect.FAVORS_SMALL_CLASSES instead of CORRECTS_CLASS_PRIOR"
                    )


def _with(arguments: Arguments, data: ImageDataset, **others: Any) -> Arguments:
    return replace(arguments, data=data, others={**arguments.others, **others})


def _with_other_rows(data: ImageDataset) -> ImageDataset:
    """Return a set with the same class counts, in which each class consists of the first half of its rows, repeated."""
    of_class = [np.flatnonzero(data.labels == label) for label in range(len(data.class_names))]
    return data.take(np.concatenate([np.resize(rows[: -(-len(rows) // 2)], len(rows)) for rows in of_class]))


def _equal(some: Arrays, others: Arrays) -> bool:
    return all(np.allclose(one, other, equal_nan=True) for one, other in zip(some, others, strict=True))


def copes_with_classes_of_one_or_no_row(subject: Subject) -> Iterator[str]:
    """Data with an empty class, or a class of one row, is accepted, or refused with a StrategyError.

    If accepted, losses and adjusted logits are finite, and no adjustment favors a class without rows.
    """
    for data in subject.datasets:
        cat, bees = data.rows_of(["cat"]), data.rows_of(["bee"])
        for case, scarce in (
            ("an empty class", data.without(cat)),
            ("a class of one row", data.without(bees[1:])),
        ):
            try:
                refused = subject.refusals(scarce)
            except FerAugmentError as error:
                yield f"{case}: handle it, or raise a StrategyError that says what to do; error: {error}"
            else:
                if not refused:
                    yield from (f"{case}: {fault}" for fault in _faults_with_scarce_rows(subject, scarce))


def _faults_with_scarce_rows(subject: Subject, scarce: ImageDataset) -> Iterator[str]:
    if "build_loss" in subject.stages:
        for arguments in arguments_of("build_loss", scarce):
            if not all(np.isfinite(array).all() for array in arguments.outcome(subject.build())):
                yield "losses and their gradients must be finite; where `class_prior` is 0, use the weight 0"
    if "build_adjustment" in subject.stages:
        for arguments in arguments_of("build_adjustment", scarce):
            (adjusted,) = arguments.outcome(subject.build())
            if (np.isnan(adjusted) | np.isposinf(adjusted)).any():
                yield "adjusted logits must not be NaN or +infinity"
            undecided = _adjusted_equal_logits(arguments, subject)
            absent = scarce.counts == 0
            if (undecided[absent] > undecided[scarce.counts.argmax()] + 1e-4).any():
                yield (
                    "build_adjustment favors a class without rows; where `class_prior` is 0, keep the logit: "
                    "np.where(class_prior > 0, class_prior, 1)"
                )


def _adjusted_equal_logits(arguments: Arguments, subject: Subject) -> NDArray[np.floating[Any]]:
    """Return the adjustment of equal logits, `(K,)`: differences show which classes the adjustment itself favors."""
    import torch

    adjusted = arguments.fold(subject.build())(torch.zeros(1, len(arguments.data.class_names)))
    logits: NDArray[np.floating[Any]] = adjusted.detach().numpy()[0]
    return logits
