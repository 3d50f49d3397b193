"""A stage is a fold: what earlier steps of a recipe made of its first argument is built on, and shows in the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_augment.testing.fixtures import as_tensor, tiny_network
from fer_augment.testing.stages import Arguments, Arrays, arguments_of
from fer_augment.testing.subject import Subject

if TYPE_CHECKING:
    import torch


def builds_on_earlier_steps(subject: Subject) -> Iterator[str]:
    """What earlier steps made of a stage's first argument shows in the result, for each class and row it was made for.

    A stage is run twice, on two values of its first argument that differ in what an earlier step may have done. Where
    the results do not differ, its work was dropped. `rewrite_training_set` may drop rows and `prepare_model` may
    give another network, so they are not asked.
    """
    for stage, earlier in _EARLIER.items():
        if stage in subject.stages:
            for data in subject.datasets:
                for given in arguments_of(stage, data):
                    for first, other in earlier.values_of(given):
                        one, changed = (
                            replace(given, first=value).outcome(subject.build()) for value in (first, other)
                        )
                        if earlier.is_lost(given, one, changed):
                            yield f"{stage}: {earlier.advice}"


class _Earlier(NamedTuple):
    """What earlier steps may have done at one stage.

    Attributes:
        values_of: gives pairs of values of the first argument that differ by an earlier step.
        is_lost: whether the results of such a pair do not show it.
        advice: what is wrong then, and what to do.
    """

    values_of: Callable[[Arguments], Iterator[tuple[Any, Any]]]
    is_lost: Callable[[Arguments, Arrays, Arrays], bool]
    advice: str


def _weights(given: Arguments) -> Iterator[tuple[Any, Any]]:
    yield given.first, given.first * (1 + np.arange(len(given.data)) % 3)


def _weights_are_lost(given: Arguments, one: Arrays, other: Arrays) -> bool:
    """Whether rows of one class, of those that are drawn at all, are drawn in the same proportions both times."""
    for label in np.unique(given.data.labels):
        drawn = (given.data.labels == label) & (one[0] > 0)
        shares = [weights[drawn] / weights[drawn].sum() for weights in (one[0], other[0])]
        if drawn.sum() > 1 and np.allclose(*shares):
            return True
    return False


def _losses(given: Arguments) -> Iterator[tuple[Any, Any]]:
    yield given.first, _squared_error


def _squared_error(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return ((logits.softmax(dim=1) - targets) ** 2).sum(dim=1)


def _losses_are_lost(given: Arguments, one: Arrays, other: Arrays) -> bool:
    """Whether rows of one class, of those that have a loss at all, have the same losses both times."""
    classes = given.rows % len(given.data.class_names)
    if one[0].shape != classes.shape:
        return False  # another check tells that it gives no loss for each row
    counted = one[0] != 0
    of_class = [(classes == label) & counted for label in np.unique(classes)]
    return any(chosen.any() and np.allclose(one[0][chosen], other[0][chosen]) for chosen in of_class)


def _row_images(given: Arguments) -> Iterator[tuple[Any, Any]]:
    yield given.first, _another_image(given.first)


def _batches(given: Arguments) -> Iterator[tuple[Any, Any]]:
    images, targets = given.first
    yield (images, targets), (as_tensor(_another_image(given.data.images[given.rows])), targets)
    yield (images, targets), (images, 0.7 * targets + 0.3 * targets.roll(1, dims=1))


def _another_image(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn `(B, H, W, C)` images upside down and invert them: no change of levels or place makes up for both."""
    return 255 - images[:, ::-1]


def _rows_are_lost(given: Arguments, one: Arrays, other: Arrays) -> bool:
    """Whether a row came out the same both times, flat images aside: these may have been erased."""
    same_row = np.ones(len(given.rows), dtype=bool)
    for array, changed in zip(one, other, strict=True):
        same_row &= (array == changed).reshape(len(array), -1).all(axis=1)
    pixels = one[0].reshape(len(one[0]), -1)
    return bool((same_row & (np.ptp(pixels, axis=1) > 0)).any())


def _trained_networks(given: Arguments) -> Iterator[tuple[Any, Any]]:
    shape, classes = given.data.image_shape, len(given.data.class_names)
    yield tiny_network(shape, classes), tiny_network(shape, classes, seed=1)


def _logits_are_lost(given: Arguments, one: Arrays, other: Arrays) -> bool:
    return np.allclose(one[-1], other[-1])


def _views(given: Arguments) -> Iterator[tuple[Any, Any]]:
    (images,) = given.first
    moved, turned = images.roll(3, dims=2), images.flip(2)
    yield [images, moved], [images, turned]
    yield [moved, images], [turned, images]


def _views_are_lost(given: Arguments, one: Arrays, other: Arrays) -> bool:
    return len(one) == len(other) and all(np.allclose(*pair) for pair in zip(one, other, strict=True))


def _adjustments(given: Arguments) -> Iterator[tuple[Any, Any]]:
    yield given.first, lambda logits: logits + (2 * logits).sin()


def _adjustments_are_lost(given: Arguments, one: Arrays, other: Arrays) -> bool:
    """Whether the logits of all rows moved by the same: so they do where only the adjustment itself was refitted."""
    moved = one[0] - other[0]
    return np.allclose(moved, moved.mean(axis=0), atol=1e-4)


_EARLIER = {
    "sampling_weights": _Earlier(
        _weights, _weights_are_lost, "the weights of earlier steps are lost; multiply the `weights` that are given"
    ),
    "build_loss": _Earlier(
        _losses,
        _losses_are_lost,
        "the loss of the recipe and of earlier steps is lost; wrap the `loss` that is given "
        "(to offer a loss that a recipe can choose instead, see register_losses)",
    ),
    "augment_rows": _Earlier(
        _row_images,
        _rows_are_lost,
        "what earlier steps made of a row is lost; work on the `images` that are given, not on those of the set",
    ),
    "augment_batch": _Earlier(
        _batches,
        _rows_are_lost,
        "what earlier steps made of a row is lost; work on the `images` and `targets` that are given, "
        "not on those of the set",
    ),
    "refine_model": _Earlier(
        _trained_networks, _logits_are_lost, "the trained network is lost; return the `model` that is given, refined"
    ),
    "predict_views": _Earlier(
        _views, _views_are_lost, "a view of an earlier step is lost; add to the `views` that are given"
    ),
    "build_adjustment": _Earlier(
        _adjustments,
        _adjustments_are_lost,
        "the adjustment of earlier steps is lost; return a function that calls the `adjust` that is given",
    ),
}
