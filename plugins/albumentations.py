"""Albumentations transforms by class name, applied while rewriting the training set or to every batch."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import inspect
import os
import random
import sys
import traceback
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from fer_augment import (
    PluginError,
    RowTransforms,
    Strategy,
    StrategyError,
    StrategyWarning,
    Transform,
    hookimpl,
)

SUCCESSOR = "albumentationsx"
DISTRIBUTIONS = ("albumentations", "nrtk-albumentations", SUCCESSOR)
"""Distributions with the module albumentations: the last release under the MIT license, its maintained fork, and the
successor under the AGPL."""
_MAY_MIRROR = ("D4", "HorizontalFlip", "SquareSymmetry", "TimeReverse")
_NOT_FOR_RECIPES = (
    "BaseCompose",
    "BasicTransform",
    "DualTransform",
    "ImageOnlyTransform",
    "Lambda",
    "Transform3D",
)


class Albumentations(RowTransforms):
    """Transform images with albumentations: append transformed copies to the training set, or transform every batch.

    The random numbers of an image depend only on its row (in batches also on the epoch and on how often the row was
    already drawn in it). Row order, batches and worker processes do not change the result.

    The library is albumentations 2.0.8, the last release under the MIT license, or its maintained fork
    nrtk-albumentations, whichever is installed.

    When: the network overfits, and the transforms preserve the labels. Appended copies enlarge small classes with
    varied images.

    Cost: about 0.2 ms per small image on one core for four transforms. With `when: rewrite`, this is paid once per
    copy, on all available cores if it takes long, and each copy needs the memory of a row. With `when: batch`, it is
    paid in every epoch: six seconds for the rows of FER2013. Enlarged classes are drawn more often than before, so the
    recall of the others may drop.

    Try: small changes of pose, brightness and sharpness, as in the recipe `albumentations`. Avoid transforms that
    change the expression, such as a vertical flip.

    Source: Buslaev et al. 2020, "Albumentations: Fast and Flexible Image Augmentations", Information 11(2), 125;
    https://albumentations.ai/docs documents the parameters of each transform.
    """

    converting: ClassVar[Collection[str]] = ("FromFloat", "Normalize", "ToFloat", "ToTensor3D", "ToTensorV2")
    example: ClassVar[Mapping[str, Any]] = {
        "transforms": ["HorizontalFlip", {"Affine": {"rotate": 15, "p": 1.0}}],
        "when": "rewrite",
        "target_count": "largest_class",
    }

    @classmethod
    def check_transform(cls, transform: Transform) -> None:
        """Build the transform."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a run repeats them
            _build(transform)

    @staticmethod
    def start_worker() -> None:
        """Keep albumentations from importing torch (for `ToTensorV2`), so that it starts in a third of the time."""
        sys.modules["torch"] = None  # type: ignore[assignment]  # makes `import torch` raise ImportError

    @property
    def distributions(self) -> Collection[str]:
        """The distribution that installed the library."""
        return [provider()]

    def may_mirror(self, name: str) -> bool:
        """Whether a transform may mirror images left to right."""
        return name in _MAY_MIRROR

    def transform_images(self, images: NDArray[np.uint8], seeds: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Transform `(n, H, W, C)` images, each with the random numbers of its seed, `(n,)`.

        Raises:
            StrategyError: if a transform does not support such images, or changes their shape or dtype.
        """
        changed, (height, width) = np.empty_like(images), images.shape[1:3]
        resize = f"{{Resize: {{height: {height}, width: {width}}}}}"
        numbers = _RandomNumbers()
        composed, messages = self._composed
        # One stream for all transforms: `set_random_seed` would give each transform its own copy of the same stream,
        # and transforms with equal probabilities would always be applied together.
        composed.set_random_state(numbers.generator, numbers.python)
        with warnings.catch_warnings(record=True) as caught, _one_opencv_thread():
            warnings.simplefilter("default")  # each message once, not once an image
            for index, seed in enumerate(seeds.tolist()):
                numbers.restart(seed)
                try:
                    image = composed(image=images[index])["image"]
                except Exception as error:  # noqa: BLE001 - transforms raise exceptions of any class
                    raise _transform_error(error, images.shape[1:]) from error
                changed[index] = self.check_image(image, images[index], resize)
        for message in dict.fromkeys([*messages, *(str(warning.message) for warning in caught)]):
            warnings.warn(f"albumentations: {message}", StrategyWarning, stacklevel=2)
        return changed

    @cached_property
    def _composed(self) -> tuple[Any, list[str]]:
        """The transforms, and the warnings that albumentations gave when they were built."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            composed = _library().Compose([_build(transform) for transform in self.transforms])
        return composed, [str(warning.message) for warning in caught]


class _RandomNumbers:
    """The two random generators used by albumentations, reseeded for each image.

    Creating them for each image would take a quarter of the time of transforming a small image.

    Attributes:
        generator: the numpy generator.
        python: the generator of the standard library.
    """

    def __init__(self) -> None:
        """Create the generators."""
        self._philox = np.random.Philox(key=0)
        self._initial_state: Any = self._philox.state
        self.generator, self.python = np.random.Generator(self._philox), random.Random()

    def restart(self, seed: int) -> None:
        """Restart both generators from a seed in `0 … 2**64 - 1`."""
        self._initial_state["state"]["key"][0] = seed
        self._philox.state = self._initial_state
        self.python.seed(seed)


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Limit OpenCV to one thread: its idle threads busy-wait on the cores used for training."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


@cache
def _library() -> Any:
    """Import albumentations or its fork, without its online check for a newer version.

    Raises:
        PluginError: if its successor under another license is installed.
    """
    if provider() == SUCCESSOR:
        raise PluginError(
            "the installed albumentations is albumentationsx, which is licensed under the AGPL and not supported; "
            "replace it: pip uninstall albumentationsx, then pip install --force-reinstall albumentations"
        )
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def provider() -> str:
    """Return the distribution that installed the module albumentations, by the hash of its file.

    Several distributions install files of the same names; the one that was installed last is in effect.
    """
    spec = importlib.util.find_spec("albumentations")
    content = Path(spec.origin).read_bytes() if spec and spec.origin else b""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    for name in DISTRIBUTIONS:
        with suppress(importlib.metadata.PackageNotFoundError):
            for file in importlib.metadata.files(name) or ():
                if file.as_posix() == "albumentations/__init__.py" and file.hash and file.hash.value == digest:
                    return name
    return DISTRIBUTIONS[0]


def _build(transform: Any) -> Any:
    """Build a transform, including nested ones.

    Raises:
        ValueError: if the transform or a parameter does not exist, or a value is invalid.
    """
    name, parameters = RowTransforms.named(transform)
    transform_class = RowTransforms.class_of(transform, "albumentations", _transforms())
    arguments: dict[str, Any] = dict(parameters)
    if "transforms" in arguments:
        arguments["transforms"] = [_build(inner) for inner in arguments["transforms"]]
    try:
        built = transform_class(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {_one_line(error)}") from error
    missing = sorted(set(getattr(built, "targets_as_params", ())) - {"image"})
    if missing:
        raise ValueError(f"{name} requires {', '.join(missing)} besides the image, which a recipe cannot provide")
    return built


def _one_line(error: Exception) -> str:
    """Return the message of albumentations, or of pydantic inside it, in one line."""
    if isinstance(error.__cause__, ValidationError):
        details = error.__cause__.errors()
        return "; ".join(": ".join([*map(str, detail["loc"]), detail["msg"]]) for detail in details)
    return " ".join(str(error).split()) or type(error).__name__


def _transforms() -> dict[str, Any]:
    """Return the classes of transforms and containers by name."""
    library = _library()
    base_classes = (library.BasicTransform, library.BaseCompose)
    return {
        public: value
        for public, value in vars(library).items()
        if inspect.isclass(value) and issubclass(value, base_classes) and public not in _NOT_FOR_RECIPES
    }


def _transform_error(error: Exception, image_shape: tuple[int, ...]) -> StrategyError:
    """Return an error that names the failed transform, the image size and the reason."""
    failed = [
        type(frame.f_locals["self"]).__name__
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if isinstance(frame.f_locals.get("self"), _library().BasicTransform)
    ]
    size = "x".join(map(str, image_shape))
    return StrategyError(f"{failed[-1] if failed else 'Compose'} cannot transform images of {size}: {_one_line(error)}")


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [Albumentations]
