"""A check that stages build on earlier steps: changes to the first argument have to show in the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_augment.hooks.strategy import Effect
from fer_augment.testing.fixtures import as_tensor, tiny_network
from fer_augment.testing.stages import Arguments, Arrays, arguments_of
from fer_augment.testing.subject import Subject

if TYPE_CHECKING:
    import torch

_SEEDS = range(4)
_MANY_ROWS = 0.25
"""Share of the rows of a few seeds that a random strategy does not lose by chance."""


def builds_on_earlier_steps(subject: Subject) -> Iterator[str]:
    """What an earlier step changed in the first argument of a stage shows in the result, for every class and row.

    Each stage is run on two values of its first argument that differ as if an earlier step had changed them. If the
    results are equal, the change was lost. `rewrite_training_set` and `prepare_model` are not checked, as they may drop
    rows or replace the network. A random strategy may lose single rows with some of the seeds: the share of an image in
    a mix may be too small for float32.
    """
    for stage, earlier in _EARLIER.items():
        if stage in subject.stages:
            for data in subject.datasets:
                for arguments in arguments_of(stage, data):
                    if _is_lost(subject, arguments, earlier):
                        yield f"{stage}: {earlier.advice}"


def _is_lost(subject: Subject, arguments: Arguments, earlier: _Earlier) -> bool:
    """Whether a change is lost; for a random strategy in a part with every seed, or in many parts of all seeds."""
    of_seeds: list[list[NDArray[np.bool_]]] = []
    for seed in _SEEDS if Effect.RANDOM in subject.build().effects else _SEEDS[:1]:
        lost = []
        for pair in earlier.values_of(arguments):
            one, changed = (replace(arguments, first=value).outcome(subject.build(), seed=seed) for value in pair)
            lost.append(np.asarray(earlier.lost(arguments, one, changed)))
        of_seeds.append(lost)
        if not any(parts.any() for parts in lost):
            return False
    return any(np.all(parts, axis=0).any() or np.mean(parts) > _MANY_ROWS for parts in zip(*of_seeds, strict=True))


class _Earlier(NamedTuple):
    """Possible changes by earlier steps at one stage.

    Attributes:
        values_of: yields pairs of values of the first argument, without and with a change by an earlier step.
        lost: of each part of the results of a pair, such as a row or a class, whether it does not show the change.
        advice: what is wrong and what to do.
    """

    values_of: Callable[[Arguments], Iterator[tuple[Any, Any]]]
    lost: Callable[[Arguments, Arrays, Arrays], bool | NDArray[np.bool_]]
    advice: str


def _weights(arguments: Arguments) -> Iterator[tuple[Any, Any]]:
    yield arguments.first, arguments.first * (1 + np.arange(len(arguments.data)) / len(arguments.data))


def _weights_are_lost(arguments: Arguments, one: Arrays, other: Arrays) -> NDArray[np.bool_]:
    """Of each class, whether its rows (those with a weight above 0) have the same relative weights both times."""
    lost = []
    for label in np.unique(arguments.data.labels):
        drawn = (arguments.data.labels == label) & (one[0] > 0)
        shares = [weights[drawn] / weights[drawn].sum() for weights in (one[0], other[0])]
        lost.append(drawn.sum() > 1 and np.allclose(*shares))
    return np.array(lost)


def _losses(arguments: Arguments) -> Iterator[tuple[Any, Any]]:
    yield arguments.first, _squared_error


def _squared_error(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return ((logits.softmax(dim=1) - targets) ** 2).sum(dim=1)


def _losses_are_lost(arguments: Arguments, one: Arrays, other: Arrays) -> NDArray[np.bool_]:
    """Of each class, whether its rows (those with a loss other than 0) have the same losses both times."""
    classes = arguments.rows % len(arguments.data.class_names)
    if one[0].shape != classes.shape:
        return np.zeros(len(np.unique(classes)), dtype=bool)  # gives_one_finite_loss_per_row reports this
    counted = one[0] != 0
    of_class = [(classes == label) & counted for label in np.unique(classes)]
    return np.array([chosen.any() and np.allclose(one[0][chosen], other[0][chosen]) for chosen in of_class])


def _gradients(arguments: Arguments) -> Iterator[tuple[Any, Any]]:
    def of_other_targets(targets: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        loss: torch.Tensor = arguments.first(targets.roll(1, dims=1), weights)
        return loss

    yield arguments.first, of_other_targets


def _gradients_are_lost(arguments: Arguments, one: Arrays, other: Arrays) -> bool:
    return all(np.allclose(*pair) for pair in zip(one[1:], other[1:], strict=True))


def _row_images(arguments: Arguments) -> Iterator[tuple[Any, Any]]:
    yield arguments.first, _another_image(arguments.first)


def _batches(arguments: Arguments) -> Iterator[tuple[Any, Any]]:
    images, targets = arguments.first
    yield (images, targets), (as_tensor(_another_image(arguments.data.images[arguments.rows])), targets)
    yield (images, targets), (images, targets.roll(1, dims=1))


def _another_image(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Flip `(B, H, W, C)` images upside down and invert them: no photometric or geometric change alone undoes both."""
    return 255 - images[:, ::-1]


def _rows_are_lost(arguments: Arguments, one: Arrays, other: Arrays) -> NDArray[np.bool_]:
    """Of each row, whether it has the same result both times; constant images may have been erased, and do not."""
    same_row = np.ones(len(arguments.rows), dtype=bool)
    for array, changed in zip(one, other, strict=True):
        same_row &= (array == changed).reshape(len(array), -1).all(axis=1)
    pixels = one[0].reshape(len(one[0]), -1)
    return np.asarray(same_row & (np.ptp(pixels, axis=1) > 0))


def _trained_networks(arguments: Arguments) -> Iterator[tuple[Any, Any]]:
    shape, classes = arguments.data.image_shape, len(arguments.data.class_names)
    yield tiny_network(shape, classes), tiny_network(shape, classes, seed=1)


def _logits_are_lost(arguments: Arguments, one: Arrays, other: Arrays) -> bool:
    return np.allclose(one[-1], other[-1])


def _views(arguments: Arguments) -> Iterator[tuple[Any, Any]]:
    (images,) = arguments.first
    moved, flipped = images.roll(3, dims=2), images.flip(2)
    yield [images, moved], [images, flipped]
    yield [moved, images], [flipped, images]


def _views_are_lost(arguments: Arguments, one: Arrays, other: Arrays) -> bool:
    return len(one) == len(other) and all(np.allclose(*pair) for pair in zip(one, other, strict=True))


def _adjustments(arguments: Arguments) -> Iterator[tuple[Any, Any]]:
    yield arguments.first, lambda logits: logits + (2 * logits).sin()


def _adjustments_are_lost(arguments: Arguments, one: Arrays, other: Arrays) -> bool:
    """Whether the logits of all rows differ by the same offsets, as when only the adjustment itself was refitted."""
    offsets = one[0] - other[0]
    return np.allclose(offsets, offsets.mean(axis=0), atol=1e-4)


_EARLIER = {
    "sampling_weights": _Earlier(
        _weights, _weights_are_lost, "the weights of earlier steps are lost; multiply the `weights` argument"
    ),
    "build_loss": _Earlier(
        _losses,
        _losses_are_lost,
        "the loss of the recipe and of earlier steps is lost; wrap the `loss` argument "
        "(to register a loss that a recipe can select instead, see register_losses)",
    ),
    "optimizer_step": _Earlier(
        _gradients,
        _gradients_are_lost,
        "the gradients of earlier steps are lost; call the `gradients` argument, with the targets that are given",
    ),
    "augment_rows": _Earlier(
        _row_images,
        _rows_are_lost,
        "changes by earlier steps are lost; use the `images` argument, not the images of the training set",
    ),
    "augment_batch": _Earlier(
        _batches,
        _rows_are_lost,
        "changes by earlier steps are lost; use the arguments `images` and `targets`, "
        "not the images and labels of the training set",
    ),
    "refine_model": _Earlier(
        _trained_networks, _logits_are_lost, "the trained network is lost; refine and return the `model` argument"
    ),
    "predict_views": _Earlier(
        _views, _views_are_lost, "a view of an earlier step is lost; add to the `views` argument"
    ),
    "build_adjustment": _Earlier(
        _adjustments,
        _adjustments_are_lost,
        "the adjustment of earlier steps is lost; return a function that calls the `adjust` argument",
    ),
}
