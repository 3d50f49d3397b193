"""The table of stages: for each point of a run where steps act, everything that the framework knows about it.

The hook's signature in `StageSpecs` is the source of the argument names. Adding a stage takes its specification there
and one row here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.hooks.specs import StageSpecs

Fault = Callable[[Any, Any], str | None]
"""From the value given to a step and the value that it returned to what it must return; None if the value is valid."""
Finish = Callable[[Any, int], Any]
"""From a valid value and the number of the step to the value that the framework passes on."""


@dataclass(frozen=True)
class Stage:
    """Facts about one stage.

    Attributes:
        name: the name of its hook.
        fault: checks what a step returned.
        decides_training: whether it decides the trained weights; its steps are part of the training key and may query
            a scout. A step that acts at other stages only trains nothing anew.
        is_per_batch: whether it is called for each batch; a step then keeps one random stream for all batches of an
            epoch.
        folded: how many of the first arguments a step receives and returns: one value, or a pair.
        finish: converts what a step returned; by default it is passed on unchanged.
    """

    name: str
    fault: Fault
    decides_training: bool = True
    is_per_batch: bool = False
    folded: int = 1
    finish: Finish = lambda value, step: value

    @cached_property
    def arguments(self) -> tuple[str, ...]:
        """The names of the hook's arguments, the folded ones first."""
        return tuple(inspect.signature(getattr(StageSpecs, self.name)).parameters)[1:]

    @property
    def is_per_epoch(self) -> bool:
        """Whether it is called in every epoch, once or for each batch."""
        return "epoch" in self.arguments

    @property
    def counts_draws(self) -> bool:
        """Whether steps learn how often each row was drawn before in the epoch."""
        return "draws" in self.arguments

    def folded_arguments(self, value: Any) -> dict[str, Any]:
        """Return the value that passes through the steps as arguments of the hook."""
        values = (value,) if self.folded == 1 else value
        return dict(zip(self.arguments[: self.folded], values, strict=True))


def weights_fault(before: NDArray[np.float64], after: Any) -> str | None:
    """Return what sampling weights must be if some values are not valid weights, else None."""
    if not isinstance(after, np.ndarray) or after.shape != before.shape:
        return f"weights of shape {before.shape}, not {_kind(after)}"
    is_number = np.issubdtype(after.dtype, np.number)
    if not (is_number and np.isfinite(after).all() and (after >= 0).all() and after.any()):
        return "finite weights, 0 or more, that are not all zero"
    return None


def _rewriting_fault(before: ImageDataset, after: Any) -> str | None:
    if not isinstance(after, ImageDataset):
        return f"an ImageDataset, not {_kind(after)}"
    if after.class_names != before.class_names or after.image_shape != before.image_shape:
        return "a set with the classes and the image size of the set it was given"
    if not len(after):
        return "at least one row; it removed all rows"
    if not (np.isin(after.origins, before.origins) | (after.origins < 0)).all():
        return "rows that descend from the set it was given"
    return None


def _rows_fault(before: NDArray[np.uint8], after: Any) -> str | None:
    fits = isinstance(after, np.ndarray) and after.shape == before.shape and after.dtype == before.dtype
    return None if fits else f"{before.dtype} images of shape {before.shape}, not {_kind(after)}"


def _batch_fault(before: tuple[Any, Any], after: Any) -> str | None:
    fits = isinstance(after, tuple) and len(after) == 2 and all(map(_same_tensor_kind, before, after))
    return None if fits else "a pair: images and targets with the shapes and dtypes that it was given"


def _views_fault(before: list[Any], after: Any) -> str | None:
    fits = isinstance(after, list) and after and all(_same_tensor_kind(before[0], view) for view in after)
    return None if fits else "a list of views with the shape and dtype of the images"


def _callable_fault(_: Any, after: Any) -> str | None:
    return None if callable(after) else f"a callable, not {_kind(after)}"


def _same_tensor_kind(one: Any, other: Any) -> bool:
    return all(getattr(one, name) == getattr(other, name, None) for name in ("shape", "dtype", "device"))


def _kind(value: Any) -> str:
    name, shape, dtype = type(value).__name__, getattr(value, "shape", None), getattr(value, "dtype", None)
    return name if shape is None or dtype is None else f"{name} {dtype} {tuple(shape)}"


def _stamped(training_set: ImageDataset, step: int) -> ImageDataset:
    return training_set.stamped(step)


def _as_float64(weights: NDArray[Any], _: int) -> NDArray[np.float64]:
    return weights.astype(np.float64)  # the running sum of a smaller float type would lose rows, or overflow


def _contiguous(images: NDArray[np.uint8], _: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(images)  # torch takes no array with negative strides


STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("rewrite_training_set", _rewriting_fault, finish=_stamped),
        Stage("prepare_model", _callable_fault),
        Stage("sampling_weights", weights_fault, finish=_as_float64),
        Stage("build_loss", _callable_fault),
        Stage("optimizer_step", _callable_fault),
        Stage("augment_rows", _rows_fault, is_per_batch=True, finish=_contiguous),
        Stage("augment_batch", _batch_fault, is_per_batch=True, folded=2),
        Stage("refine_model", _callable_fault),
        Stage("predict_views", _views_fault, decides_training=False, is_per_batch=True),
        Stage("build_adjustment", _callable_fault, decides_training=False),
    )
}
"""All stages by name, in the order in which a run reaches them."""

TRAINING_STAGES = tuple(name for name, stage in STAGES.items() if stage.decides_training)
