"""Albumentations transforms by class name, applied while rewriting the training set or to every batch."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import random
import sys
import time
import traceback
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator

from fer_augment import (
    ClassName,
    Context,
    Effect,
    ImageDataset,
    Strategy,
    StrategyError,
    did_you_mean,
    hookimpl,
    uniforms,
    without_main_module,
)

_TIMED_IMAGES = 200
"""Number of images transformed first, to estimate whether worker processes are worth their startup time."""
_STARTUP_SECONDS = 0.8
"""Startup time of a worker process, which imports albumentations."""
_CHUNKS_PER_CORE = 32
"""Number of chunks of work per core: small chunks keep idle time short at the end."""

Probability = Annotated[float, Field(ge=0, le=1)]
Transform = str | dict[str, dict[str, JsonValue]]

_MAY_MIRROR = ("D4", "HorizontalFlip", "SquareSymmetry", "TimeReverse")
_NOT_FOR_RECIPES = (
    "BaseCompose",
    "BasicTransform",
    "DualTransform",
    "ImageOnlyTransform",
    "Lambda",
    "Transform3D",
)


class Albumentations(Strategy):
    """Transform images with albumentations: append transformed copies to the training set, or transform every batch.

    The random numbers of an image depend only on its row (in batches also on the epoch and on how often the row was
    already drawn in it). Row order, batches and worker processes do not change the result.

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

    example: ClassVar[Mapping[str, Any]] = {
        "transforms": ["HorizontalFlip", {"Affine": {"rotate": 15, "p": 1.0}}],
        "when": "rewrite",
        "target_count": "largest_class",
    }

    transforms: list[Transform] = Field(
        min_length=1,
        description="transforms in order, each a name or {name: {parameter: value}}; OneOf and the like may be nested.",
    )
    when: Literal["rewrite", "batch"] = Field(
        default="batch",
        description="rewrite: append copies before training; batch: transform every batch during training.",
    )
    classes: list[ClassName] | dict[ClassName, Probability] | None = Field(
        default=None,
        description="transform only rows of these classes; batch: also {class: probability that a row is transformed}.",
    )
    copies: int | None = Field(default=None, ge=1, description="rewrite: number of copies of each row to append.")
    target_count: int | Literal["largest_class"] | None = Field(
        default=None, description="rewrite: append copies until each class has this many rows."
    )

    @field_validator("transforms")
    @classmethod
    def _transforms_exist(cls, transforms: list[Transform]) -> list[Transform]:
        for transform in transforms:
            _build(transform)
        return transforms

    @model_validator(mode="after")
    def _amount_fits_the_stage(self) -> Albumentations:
        amounts = [name for name in ("copies", "target_count") if getattr(self, name) is not None]
        if self.when == "rewrite" and len(amounts) != 1:
            raise ValueError("`when: rewrite` requires either `copies` or `target_count`")
        if self.when == "batch" and amounts:
            raise ValueError(f"`{amounts[0]}` requires `when: rewrite`; batches keep their size")
        if self.when == "rewrite" and isinstance(self.classes, dict):
            raise ValueError("`classes: {class: probability}` requires `when: batch`; list the classes to copy")
        return self

    @property
    def effects(self) -> Effect:
        """Random; whether it mirrors or shifts the class prior depends on the transforms and the amounts."""
        effects = Effect.RANDOM
        mirrors = any(name in _MAY_MIRROR for name in _names(self.transforms))
        if self.when == "batch":
            return effects | Effect.RANDOM_FLIP if mirrors else effects
        if mirrors:
            effects |= Effect.MIRRORED_COPIES
        if self.classes is not None or self.target_count is not None:
            effects |= Effect.SHIFTS_CLASS_PRIOR
        return effects

    @property
    def idle_at(self) -> Collection[str]:
        """The stage that `when` does not select."""
        return ["augment_rows" if self.when == "rewrite" else "rewrite_training_set"]

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset, context: Context) -> ImageDataset:
        """Append transformed copies (`when: rewrite`)."""
        parents = self._parents(training_set, context.rng)
        seeds = context.row_seeds(training_set.copy_keys(parents))
        copies = self._transform_in_parallel(training_set.images[parents], seeds, context.cores)
        return training_set.append(copies, parents=parents)

    @hookimpl
    def augment_rows(
        self,
        images: NDArray[np.uint8],
        rows: NDArray[np.int64],
        draws: NDArray[np.int64],
        training_set: ImageDataset,
        context: Context,
    ) -> NDArray[np.uint8]:
        """Transform the rows of a batch (`when: batch`)."""
        seeds = context.row_seeds(training_set.row_keys(rows), draws)
        chosen = uniforms(seeds, 1)[:, 0] < self._probability_by_class(training_set)[training_set.labels[rows]]
        changed = images.copy()
        changed[chosen] = self._transform(images[chosen], seeds[chosen])
        return changed

    def _probability_by_class(self, training_set: ImageDataset) -> NDArray[np.float64]:
        """Return the probability that a row of each class is transformed, `(K,)`."""
        names = training_set.class_names if self.classes is None else self.classes
        probability_of = names if isinstance(names, dict) else dict.fromkeys(names, 1.0)
        probabilities = np.zeros(len(training_set.class_names))
        for name, probability in probability_of.items():
            probabilities[training_set.class_number(name)] = probability
        return probabilities

    def _rows(self, training_set: ImageDataset) -> NDArray[np.int64]:
        return training_set.rows_of(training_set.class_names if self.classes is None else self.classes)

    def _parents(self, training_set: ImageDataset, rng: np.random.Generator) -> NDArray[np.int64]:
        """Choose the rows to copy: each row equally often, or in random order until each class reaches the target."""
        rows = self._rows(training_set)
        if self.copies is not None:
            return np.tile(rows, self.copies)
        counts = training_set.counts
        target = int(counts.max()) if self.target_count == "largest_class" else int(self.target_count or 0)
        parents = [np.empty(0, dtype=np.int64)]
        for label in np.unique(training_set.labels[rows]):
            own = rng.permutation(np.flatnonzero(training_set.labels == label))
            parents.append(np.resize(own, max(0, target - int(counts[label]))))
        return np.concatenate(parents)

    def _transform_in_parallel(
        self, images: NDArray[np.uint8], seeds: NDArray[np.uint64], cores: int
    ) -> NDArray[np.uint8]:
        """Transform images like `_transform`, with a worker process on each additional core if that is faster."""
        started = time.perf_counter()
        first = self._transform(images[:_TIMED_IMAGES], seeds[:_TIMED_IMAGES])
        remaining_seconds = (time.perf_counter() - started) / _TIMED_IMAGES * max(0, len(images) - _TIMED_IMAGES)
        workers = 0 if multiprocessing.current_process().daemon else cores - 1
        if not workers or remaining_seconds <= _STARTUP_SECONDS:
            return np.concatenate([first, self._transform(images[_TIMED_IMAGES:], seeds[_TIMED_IMAGES:])])
        edges = np.linspace(_TIMED_IMAGES, len(images), _CHUNKS_PER_CORE * cores + 1).astype(int).tolist()
        chunks = [(images[begin:end], seeds[begin:end]) for begin, end in pairwise(edges)]
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _block_torch_import)
        try:
            with without_main_module():
                futures = [pool.submit(_transform_in_worker, self.transforms, *chunk) for chunk in chunks]
            # Meanwhile this process works through the chunks from the end.
            local: list[NDArray[np.uint8]] = []
            while futures and futures[-1].cancel():
                local.append(self._transform(*chunks[len(futures) - 1]))
                futures.pop()
            return np.concatenate([first, *(future.result() for future in futures), *reversed(local)])
        finally:
            pool.shutdown(cancel_futures=True)

    def _transform(self, images: NDArray[np.uint8], seeds: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Transform `(n, H, W, C)` images, each with the random numbers of its seed, `(n,)`.

        Raises:
            StrategyError: if a transform does not support such images, or changes their shape or dtype.
        """
        changed = np.empty_like(images)
        numbers = _RandomNumbers()
        # One stream for all transforms: `set_random_seed` would give each transform its own copy of the same stream,
        # and transforms with equal probabilities would always be applied together.
        self._composed.set_random_state(numbers.generator, numbers.python)
        with warnings.catch_warnings(), _one_opencv_thread():
            warnings.simplefilter("ignore")
            for index, seed in enumerate(seeds.tolist()):
                numbers.restart(seed)
                try:
                    image = self._composed(image=images[index])["image"]
                except Exception as error:  # noqa: BLE001 - transforms raise exceptions of any class
                    raise _transform_error(error, images.shape[1:]) from error
                self._check(image, images[index])
                changed[index] = image
        return changed

    def _check(self, image: NDArray[Any], original: NDArray[np.uint8]) -> None:
        if image.shape == original.shape and image.dtype == original.dtype:
            return
        names = ", ".join(_names(self.transforms))
        if image.shape != original.shape:
            height, width = original.shape[:2]
            raise StrategyError(
                f"{names} changed the image shape from {original.shape} to {image.shape}; images must keep their size: "
                f"append {{Resize: {{height: {height}, width: {width}}}}} or remove the transform that changes it"
            )
        raise StrategyError(
            f"{names} returned {image.dtype} pixels instead of {original.dtype}; remove the transform that converts "
            "them, the trainer scales pixels itself"
        )

    @cached_property
    def _composed(self) -> Any:
        return _library().Compose([_build(transform) for transform in self.transforms])


def _block_torch_import() -> None:
    """Keep albumentations from importing torch (for `ToTensorV2`), so that it starts in a third of the time."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # makes `import torch` raise ImportError


def _transform_in_worker(
    transforms: list[Transform], images: NDArray[np.uint8], seeds: NDArray[np.uint64]
) -> NDArray[np.uint8]:
    return Albumentations(transforms=transforms)._transform(images, seeds)


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


def _library() -> Any:
    """Import albumentations without its online check for a newer version."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def _named(transform: Transform) -> tuple[str, dict[str, JsonValue]]:
    if isinstance(transform, str):
        return transform, {}
    if len(transform) != 1:
        raise ValueError(f"each transform is one {{name: {{parameter: value}}}}, got the names {sorted(transform)}")
    return next(iter(transform.items()))


def _names(transforms: Sequence[Any]) -> Iterator[str]:
    """Yield the names of transforms, including nested ones."""
    for transform in transforms:
        name, parameters = _named(transform)
        yield name
        inner = parameters.get("transforms", [])
        yield from _names(inner if isinstance(inner, list) else [])


def _build(transform: Any) -> Any:
    """Build a transform, including nested ones.

    Raises:
        ValueError: if the transform or a parameter does not exist, or a value is invalid.
    """
    name, parameters = _named(transform)
    transform_class = _transform_class(name)
    valid_names = set(inspect.signature(transform_class).parameters)
    arguments: dict[str, Any] = dict(parameters)
    for parameter in arguments:
        if parameter not in valid_names:
            raise ValueError(f"{name} has no parameter {parameter!r}{did_you_mean(parameter, valid_names)}")
    if "transforms" in arguments:
        arguments["transforms"] = [_build(inner) for inner in arguments["transforms"]]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
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


def _transform_class(name: str) -> Any:
    library = _library()
    base_classes = (library.BasicTransform, library.BaseCompose)
    transforms = {
        public: value
        for public, value in vars(library).items()
        if inspect.isclass(value) and issubclass(value, base_classes) and public not in _NOT_FOR_RECIPES
    }
    if name not in transforms:
        raise ValueError(f"albumentations has no transform {name!r}{did_you_mean(name, transforms)}")
    return transforms[name]


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
