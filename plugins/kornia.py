"""Transforms of kornia by class name, applied while rewriting the training set or to every batch."""

from __future__ import annotations

import importlib
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
    seeded_torch,
)

_NOT_FOR_RECIPES = ("Denormalize", "Normalize")
"""The trainer scales pixels itself. Names with `Base` are base classes."""


class Kornia(RowTransforms):
    """Transform images with kornia: append transformed copies to the training set, or transform every batch.

    Transforms get one image at a time, `(1, C, H, W) float32` in [0, 1] on the CPU; pixels are rounded to levels of
    1/255 afterward. The random numbers of an image depend only on its row (in batches also on the epoch and on how
    often the row was already drawn in it). Row order, batches and worker processes do not change the result.

    When: as for `albumentations`, if the transforms that you use are written with kornia already.

    Cost: one to two ms per small image and transform on one core, as kornia is made for whole batches with random
    numbers of their own. Prefer `when: rewrite`, where this is paid once per copy. Enlarged classes are drawn more
    often than before, so the recall of the others may drop.

    Try: `RandomAffine` with small ranges and `RandomBrightness`, as in the recipe `kornia`. A transform has the
    probability 0.5 unless `p` is set.

    Source: Riba, Mishkin, Ponsa, Rublee and Bradski 2020, "Kornia: an Open Source Differentiable Computer Vision
    Library for PyTorch", WACV; https://kornia.readthedocs.io documents the parameters of each transform. Needs the
    extra `kornia`.
    """

    startup_seconds: ClassVar[float] = 5.0
    example: ClassVar[Mapping[str, Any]] = {
        "transforms": [{"RandomAffine": {"degrees": 15.0, "p": 1.0}}, {"RandomGaussianNoise": {"std": 0.05, "p": 1.0}}],
        "when": "rewrite",
        "target_count": "largest_class",
    }

    @classmethod
    def check_transform(cls, transform: Transform) -> None:
        """Build the transform; without the library, only its name and form are checked."""
        cls.named(transform)
        if importlib.util.find_spec("kornia") is not None:
            _build(transform)

    @property
    def distributions(self) -> Collection[str]:
        """The library."""
        return ["kornia"]

    def may_mirror(self, name: str) -> bool:
        """Whether a transform may mirror images left to right."""
        return name == "RandomHorizontalFlip"

    def transform_images(self, images: NDArray[np.uint8], seeds: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Transform each image with the random numbers of its seed."""
        import torch

        changed, (height, width) = np.empty_like(images), images.shape[1:3]
        resize = f"{{Resize: {{size: [{height}, {width}], p: 1}}}}"
        for index, seed in enumerate(seeds.tolist()):
            image = torch.from_numpy(images[index].copy()).permute(2, 0, 1)[None].float() / 255
            with seeded_torch(seed), torch.inference_mode():
                try:
                    for transform in self._built:
                        image = transform(image)
                except Exception as error:  # noqa: BLE001 - transforms raise exceptions of any class
                    raise self.failure(error, images.shape[1:]) from error
            array = (image[0] * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
            changed[index] = self.check_image(array, images[index], resize)
        return changed

    @cached_property
    def _built(self) -> list[Any]:
        return [_build(transform) for transform in self.transforms]


def _library() -> Any:
    """Import the transforms.

    Raises:
        PluginError: if kornia is not installed.
    """
    if importlib.util.find_spec("kornia") is None:
        raise PluginError("the strategy kornia needs kornia: pip install 'fer_augment[kornia]'")
    return importlib.import_module("kornia.augmentation")


def _build(transform: Any) -> Any:
    """Build a transform.

    Raises:
        ValueError: if the transform or a parameter does not exist, or a value is invalid.
    """
    name, parameters = RowTransforms.named(transform)
    transform_class = RowTransforms.class_of(transform, "kornia", _transforms())
    arguments: dict[str, Any] = {
        parameter: tuple(value) if isinstance(value, list) else value for parameter, value in parameters.items()
    }
    try:
        return transform_class(**arguments)
    except Exception as error:  # noqa: BLE001 - kornia raises AttributeError, AssertionError and others
        raise ValueError(f"{name}: {' '.join(str(error).split()) or type(error).__name__}") from error


def _transforms() -> dict[str, Any]:
    """Return the classes of transforms by name."""
    library = _library()
    base = importlib.import_module("kornia.augmentation._2d.base").AugmentationBase2D
    return {
        public: value
        for public, value in vars(library).items()
        if inspect.isclass(value)
        and issubclass(value, base)
        and "Base" not in public
        and public not in _NOT_FOR_RECIPES
    }


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [Kornia]
