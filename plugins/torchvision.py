"""Transforms of torchvision (v2) by class name, applied while rewriting the training set or to every batch."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fer_augment import (
    PluginError,
    RowTransforms,
    Strategy,
    Transform,
    hookimpl,
    import_with_torchvision,
    seeded_torch,
)

_MAY_MIRROR = ("RandomHorizontalFlip",)
_CONTAINERS = ("Compose", "RandomApply", "RandomChoice", "RandomOrder")
_NOT_FOR_RECIPES = ("CutMix", "JPEG", "Lambda", "LinearTransformation", "MixUp", "Normalize", "Transform")


class Torchvision(RowTransforms):
    """Transform images with torchvision v2: append transformed copies to the training set, or transform every batch.

    Transforms get one image at a time, `(C, H, W) uint8` on the CPU. The random numbers of an image depend only on its
    row (in batches also on the epoch and on how often the row was already drawn in it). Row order, batches and worker
    processes do not change the result.

    When: as for `albumentations`, if the transforms that you use are written with torchvision already.

    Cost: about 0.3 ms per small image and transform on one core. With `when: rewrite`, this is paid once per copy; with
    `when: batch`, in every epoch. Enlarged classes are drawn more often than before, so the recall of the others may
    drop.

    Try: `RandomAffine` with small ranges and `ColorJitter`, as in the recipe `torchvision`.

    Source: https://docs.pytorch.org/vision/stable/transforms.html documents the parameters of each transform. Needs the
    extra `torchvision`.
    """

    startup_seconds: ClassVar[float] = 4.0
    converting: ClassVar[Collection[str]] = ("ConvertImageDtype", "ToPILImage")
    example: ClassVar[Mapping[str, Any]] = {
        "transforms": [
            {"RandomAffine": {"degrees": 15, "translate": [0.1, 0.1]}},
            {"ColorJitter": {"brightness": 0.3}},
        ],
        "when": "rewrite",
        "target_count": "largest_class",
    }

    @classmethod
    def check_transform(cls, transform: Transform) -> None:
        """Build the transform; without the library, only its name and form are checked."""
        cls.named(transform)
        if importlib.util.find_spec("torchvision") is not None:
            _build(transform)

    @property
    def distributions(self) -> Collection[str]:
        """The library."""
        return ["torchvision"]

    def may_mirror(self, name: str) -> bool:
        """Whether a transform may mirror images left to right."""
        return name in _MAY_MIRROR

    def transform_images(self, images: NDArray[np.uint8], seeds: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Transform each image with the random numbers of its seed."""
        import torch

        changed, (height, width) = np.empty_like(images), images.shape[1:3]
        resize = f"{{Resize: {{size: [{height}, {width}]}}}}"
        for index, seed in enumerate(seeds.tolist()):
            image = torch.from_numpy(images[index].copy()).permute(2, 0, 1)
            with seeded_torch(seed):
                try:
                    transformed = self._composed(image)
                except Exception as error:  # noqa: BLE001 - transforms raise exceptions of any class
                    raise self.failure(error, images.shape[1:]) from error
            is_image = isinstance(transformed, torch.Tensor) and transformed.ndim == 3
            array = transformed.permute(1, 2, 0).numpy() if is_image else transformed
            changed[index] = self.check_image(array, images[index], resize)
        return changed

    @cached_property
    def _composed(self) -> Any:
        return _library().Compose([_build(transform) for transform in self.transforms])


def _library() -> Any:
    """Import the transforms.

    Raises:
        PluginError: if torchvision is not installed, or cannot be imported.
    """
    try:
        return import_with_torchvision("torchvision.transforms.v2")
    except ImportError as error:
        raise PluginError(f"{error}; pip install 'fer_augment[torchvision]'") from error


def _build(transform: Any) -> Any:
    """Build a transform, including nested ones.

    Raises:
        ValueError: if the transform or a parameter does not exist, or a value is invalid.
    """
    name, parameters = RowTransforms.named(transform)
    transform_class = RowTransforms.class_of(transform, "torchvision", _transforms())
    arguments: dict[str, Any] = dict(parameters)
    if name in _CONTAINERS:
        inner = parameters.get("transforms")
        arguments["transforms"] = [_build(one) for one in inner] if isinstance(inner, list) else inner
    try:
        return transform_class(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {' '.join(str(error).split())}") from error


def _transforms() -> dict[str, Any]:
    """Return the classes of transforms by name."""
    library = _library()
    return {
        public: value
        for public, value in vars(library).items()
        if inspect.isclass(value)
        and (issubclass(value, library.Transform) or public in _CONTAINERS)
        and public not in _NOT_FOR_RECIPES
    }


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [Torchvision]
