"""Classes that are small, empty, or drawn in other proportions than they stand in the set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.errors import FerAugmentError
from fer_augment.hooks.strategy import Effect
from fer_augment.testing.fixtures import NearestMeanScout
from fer_augment.testing.stages import Arguments, Arrays, arguments_of
from fer_augment.testing.subject import Subject


def counts_classes_as_drawn(subject: Subject) -> Iterator[str]:
    """A loss that goes by how frequent classes are goes by `class_prior`, or says that it favors small classes.

    By the counts of the set, what was drawn evenly would be evened out twice. A loss that means to do so declares
    `Effect.FAVORS_SMALL_CLASSES`; one that asks a scout about the set may depend on the set.
    """
    if "build_loss" in subject.stages and Effect.FAVORS_SMALL_CLASSES not in subject.build().effects:
        for data in subject.datasets:
            for given in arguments_of("build_loss", data):
                scout = NearestMeanScout()
                as_it_is = given.outcome(subject.build(), scout=scout)
                other_counts = _with(given, training_set=_with_reversed_counts(data)).outcome(subject.build())
                other_prior = _with(given, class_prior=given.others["class_prior"][::-1].copy()).outcome(
                    subject.build()
                )
                if not scout.asked and _equal(as_it_is, other_prior) and not _equal(as_it_is, other_counts):
                    yield (
                        "build_loss: it counts rows of the set, however they are drawn; go by `class_prior`, or "
                        "declare Effect.FAVORS_SMALL_CLASSES in place of CORRECTS_CLASS_PRIOR"
                    )


def _with(given: Arguments, **others: Any) -> Arguments:
    return replace(given, others={**given.others, **others})


def _with_reversed_counts(data: ImageDataset) -> ImageDataset:
    """Return as many rows of the same classes, where the first class is as large as the last one was."""
    of_class = [np.flatnonzero(data.labels == label) for label in range(len(data.class_names))]
    return data.take(np.concatenate([np.resize(r, n) for r, n in zip(of_class, data.counts[::-1], strict=True)]))


def _equal(some: Arrays, others: Arrays) -> bool:
    return all(np.allclose(one, other, equal_nan=True) for one, other in zip(some, others, strict=True))


def copes_with_classes_of_one_or_no_row(subject: Subject) -> Iterator[str]:
    """Data with an empty class, or a class of one row, is taken or refused by an error that says why.

    Where it is taken, losses and adjusted logits are finite, and no adjustment favors a class without rows.
    """
    for data in subject.datasets:
        cat, bees = data.rows_of(["cat"]), data.rows_of(["bee"])
        for what, scarce in (
            ("an empty class", data.without(cat)),
            ("a class of one row", data.without(bees[1:])),
        ):
            try:
                refused = subject.refusals(scarce)
            except FerAugmentError as error:
                yield f"{what}: handle it, or raise a StrategyError that says what to do; now: {error}"
            else:
                if not refused:
                    yield from (f"{what}: {fault}" for fault in _faults_where_rows_are_scarce(subject, scarce))


def _faults_where_rows_are_scarce(subject: Subject, scarce: ImageDataset) -> Iterator[str]:
    if "build_loss" in subject.stages:
        for given in arguments_of("build_loss", scarce):
            if not all(np.isfinite(array).all() for array in given.outcome(subject.build())):
                yield "losses and their gradients must be finite; where `class_prior` is 0, let the weight be 0"
    if "build_adjustment" in subject.stages:
        for given in arguments_of("build_adjustment", scarce):
            (adjusted,) = given.outcome(subject.build())
            if (np.isnan(adjusted) | np.isposinf(adjusted)).any():
                yield "adjusted logits must not be NaN or infinitely large"
            undecided = _of_equal_logits(given, subject)
            absent = scarce.counts == 0
            if (undecided[absent] > undecided[scarce.counts.argmax()] + 1e-4).any():
                yield (
                    "build_adjustment favors a class without rows; where `class_prior` is 0, leave the logit alone: "
                    "np.where(class_prior > 0, class_prior, 1)"
                )


def _of_equal_logits(given: Arguments, subject: Subject) -> NDArray[np.floating[Any]]:
    """Return what becomes of equal logits, `(K,)`: all that is left is what the adjustment itself favors."""
    import torch

    adjusted = given.fold(subject.build())(torch.zeros(1, len(given.data.class_names)))
    logits: NDArray[np.floating[Any]] = adjusted.detach().numpy()[0]
    return logits
