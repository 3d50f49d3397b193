"""Any transforms of albumentations, by class name, while rewriting the training set or in every batch."""

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
)

_TRIED = 200
"""So many copies are made before it is judged whether more processes are worth their start."""
_SECONDS_TO_START = 0.8
"""How long it takes until a process has imported albumentations."""
_PARTS_A_CORE = 32
"""Into so many times the number of cores long work is divided; the last parts decide how long cores are idle."""

Chance = Annotated[float, Field(ge=0, le=1)]
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
    """Transform images with albumentations: append transformed copies, or transform every batch anew.

    An image's random numbers depend on its row alone (and in a batch on the epoch and how often the row was drawn
    before in it), so order, batches and worker processes change nothing.

    When: the network learns its training images by heart, and the transforms leave their labels true. Appended copies
    fill up small classes with images that are not all alike.

    Cost: about 0.2 ms a small image on one core for four transforms: with `when: rewrite` once for each copy, which
    then takes memory as a row does, and long work is shared among the cores that are there; with `when: batch` in each
    epoch, six seconds for as many rows as FER2013 has. Classes that are filled up take draws from the others, whose
    recall may fall.

    Try: small changes of pose, light and sharpness, as in the recipe `albumentations`; nothing that changes what a face
    expresses, such as an upside-down mirror image.

    Source: Buslaev et al. 2020, "Albumentations: Fast and Flexible Image Augmentations", Information 11(2), 125;
    https://albumentations.ai/docs names the parameters of each transform.
    """

    example: ClassVar[Mapping[str, Any]] = {
        "transforms": ["HorizontalFlip", {"Affine": {"rotate": 15, "p": 1.0}}],
        "when": "rewrite",
        "target_count": "largest_class",
    }

    transforms: list[Transform] = Field(
        min_length=1,
        description="what to apply, in order: a name, or {name: {parameter: value}}; OneOf may nest.",
    )
    when: Literal["rewrite", "batch"] = Field(
        default="batch",
        description="rewrite: append copies before training; batch: transform while training.",
    )
    classes: list[ClassName] | dict[ClassName, Chance] | None = Field(
        default=None,
        description="only rows of these classes; in a batch also {class: chance that a row is transformed}.",
    )
    copies: int | None = Field(default=None, ge=1, description="rewrite: how many copies of each row to append.")
    target_count: int | Literal["largest_class"] | None = Field(
        default=None, description="rewrite: append copies until each class has this many rows."
    )

    @field_validator("transforms")
    @classmethod
    def _transforms_exist(cls, transforms: list[Transform]) -> list[Transform]:
        for transform in transforms:
            _built(transform)
        return transforms

    @model_validator(mode="after")
    def _amount_fits_the_stage(self) -> Albumentations:
        amounts = [name for name in ("copies", "target_count") if getattr(self, name) is not None]
        if self.when == "rewrite" and len(amounts) != 1:
            raise ValueError("`when: rewrite` needs either `copies` or `target_count`")
        if self.when == "batch" and amounts:
            raise ValueError(f"`{amounts[0]}` belongs to `when: rewrite`; batches keep their size")
        if self.when == "rewrite" and isinstance(self.classes, dict):
            raise ValueError("`classes: {class: chance}` belongs to `when: batch`; list the classes to copy")
        return self

    @property
    def effects(self) -> Effect:
        """What the transforms and the amounts amount to."""
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
        """The stage that `when` does not name."""
        return ["augment_rows" if self.when == "rewrite" else "rewrite_training_set"]

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset, context: Context) -> ImageDataset:
        """Append transformed copies, with `when: rewrite`."""
        parents = self._parents(training_set, context.rng)
        seeds = context.row_seeds(training_set.copy_keys(parents))
        copies = self._transformed_by(context.cores, training_set.images[parents], seeds)
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
        """Transform a batch, with `when: batch`."""
        seeds = context.row_seeds(training_set.row_keys(rows), draws)
        chosen = uniforms(seeds, 1)[:, 0] < self._chance_of_class(training_set)[training_set.labels[rows]]
        changed = images.copy()
        changed[chosen] = self._transformed(images[chosen], seeds[chosen])
        return changed

    def _chance_of_class(self, training_set: ImageDataset) -> NDArray[np.float64]:
        """Return the chance that a row of each class is transformed, `(K,)`."""
        names = training_set.class_names if self.classes is None else self.classes
        chances = names if isinstance(names, dict) else dict.fromkeys(names, 1.0)
        result = np.zeros(len(training_set.class_names))
        for name, chance in chances.items():
            result[training_set.class_number(name)] = chance
        return result

    def _rows(self, training_set: ImageDataset) -> NDArray[np.int64]:
        return training_set.rows_of(training_set.class_names if self.classes is None else self.classes)

    def _parents(self, training_set: ImageDataset, rng: np.random.Generator) -> NDArray[np.int64]:
        """Choose the rows to copy: all equally often, or in random order until each class is large enough."""
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

    def _transformed_by(self, cores: int, images: NDArray[np.uint8], seeds: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Transform images as `_transformed` does, with a process on each further core where that pays."""
        started = time.perf_counter()
        first = self._transformed(images[:_TRIED], seeds[:_TRIED])
        rest_takes = (time.perf_counter() - started) / _TRIED * max(0, len(images) - _TRIED)
        helpers = 0 if multiprocessing.current_process().daemon else cores - 1
        if not helpers or rest_takes <= _SECONDS_TO_START:
            return np.concatenate([first, self._transformed(images[_TRIED:], seeds[_TRIED:])])
        edges = np.linspace(_TRIED, len(images), _PARTS_A_CORE * cores + 1).astype(int).tolist()
        parts = [(images[begin:end], seeds[begin:end]) for begin, end in pairwise(edges)]
        pool = ProcessPoolExecutor(helpers, multiprocessing.get_context("spawn"), _leave_out_torch)
        try:
            elsewhere = [pool.submit(_transformed_elsewhere, self.transforms, *part) for part in parts]
            here: list[NDArray[np.uint8]] = []
            while elsewhere and elsewhere[-1].cancel():
                here.append(self._transformed(*parts[len(elsewhere) - 1]))
                elsewhere.pop()
            return np.concatenate([first, *(part.result() for part in elsewhere), *reversed(here)])
        finally:
            pool.shutdown(cancel_futures=True)

    def _transformed(self, images: NDArray[np.uint8], seeds: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Transform `(n, H, W, C)` images, each by the random numbers of its seed, `(n,)`.

        Raises:
            StrategyError: if a transform cannot take such images, or does not leave their size and type.
        """
        changed = np.empty_like(images)
        numbers = _RandomNumbers()
        # One stream for all: `set_random_seed` would give every transform its own copy of the same one, so that all
        # chances of one half would come true together.
        self._composed.set_random_state(numbers.generator, numbers.python)
        with warnings.catch_warnings(), _one_opencv_thread():
            warnings.simplefilter("ignore")
            for place, seed in enumerate(seeds.tolist()):
                numbers.restart(seed)
                try:
                    image = self._composed(image=images[place])["image"]
                except Exception as error:  # noqa: BLE001 - transforms fail in every possible way
                    raise _refusal(error, images.shape[1:]) from error
                self._check(image, images[place])
                changed[place] = image
        return changed

    def _check(self, image: NDArray[Any], original: NDArray[np.uint8]) -> None:
        if image.shape == original.shape and image.dtype == original.dtype:
            return
        names = ", ".join(_names(self.transforms))
        if image.shape != original.shape:
            height, width = original.shape[:2]
            raise StrategyError(
                f"{names} made an image of shape {image.shape} from one of {original.shape}; images keep their "
                f"size: end the list with {{Resize: {{height: {height}, width: {width}}}}} or drop what changes it"
            )
        raise StrategyError(f"{names} made {image.dtype} pixels; drop what does, pixels are scaled by the trainer")

    @cached_property
    def _composed(self) -> Any:
        return _library().Compose([_built(transform) for transform in self.transforms])


def _leave_out_torch() -> None:
    """Have albumentations start in a third of the time: it imports torch where that is, for a transform to tensors."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # what Python itself understands as "not there"


def _transformed_elsewhere(
    transforms: list[Transform], images: NDArray[np.uint8], seeds: NDArray[np.uint64]
) -> NDArray[np.uint8]:
    return Albumentations(transforms=transforms)._transformed(images, seeds)


class _RandomNumbers:
    """The two generators that albumentations draws from, begun anew for each image.

    Making them anew would take a quarter of the time of transforming a small image.

    Attributes:
        generator: numpy's.
        python: that of the standard library.
    """

    def __init__(self) -> None:
        """Make the generators."""
        self._philox = np.random.Philox(key=0)
        self._beginning: Any = self._philox.state
        self.generator, self.python = np.random.Generator(self._philox), random.Random()

    def restart(self, seed: int) -> None:
        """Begin the streams of a seed in `0 … 2**64 - 1`."""
        self._beginning["state"]["key"][0] = seed
        self._philox.state = self._beginning
        self.python.seed(seed)


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV to one thread: between images its others wait by spinning, on the cores of the training."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _library() -> Any:
    """Import albumentations, which would ask the network for a newer version of itself."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def _named(transform: Transform) -> tuple[str, dict[str, JsonValue]]:
    if isinstance(transform, str):
        return transform, {}
    if len(transform) != 1:
        raise ValueError(f"one transform is one {{name: {{parameter: value}}}}, got {sorted(transform)}")
    return next(iter(transform.items()))


def _names(transforms: Sequence[Any]) -> Iterator[str]:
    """Give the names of transforms, nested ones included."""
    for transform in transforms:
        name, parameters = _named(transform)
        yield name
        inner = parameters.get("transforms", [])
        yield from _names(inner if isinstance(inner, list) else [])


def _built(transform: Any) -> Any:
    """Make a transform, and those nested in it.

    Raises:
        ValueError: if there is no such transform or parameter, or a value is not allowed.
    """
    name, parameters = _named(transform)
    transform_class = _transform_class(name)
    known = set(inspect.signature(transform_class).parameters)
    given: dict[str, Any] = dict(parameters)
    for parameter in given:
        if parameter not in known:
            raise ValueError(f"{name} has no parameter {parameter!r}{did_you_mean(parameter, known)}")
    if "transforms" in given:
        given["transforms"] = [_built(inner) for inner in given["transforms"]]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            built = transform_class(**given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {_told(error)}") from error
    lacking = sorted(set(getattr(built, "targets_as_params", ())) - {"image"})
    if lacking:
        raise ValueError(f"{name} needs {', '.join(lacking)} beside the image, which a recipe cannot give")
    return built


def _told(error: Exception) -> str:
    """Say in one line what albumentations, or pydantic inside it, has against some parameters."""
    if isinstance(error.__cause__, ValidationError):
        faults = error.__cause__.errors()
        return "; ".join(": ".join([*map(str, fault["loc"]), fault["msg"]]) for fault in faults)
    return " ".join(str(error).split()) or type(error).__name__


def _transform_class(name: str) -> Any:
    library = _library()
    kinds = (library.BasicTransform, library.BaseCompose)
    known = {
        public: value
        for public, value in vars(library).items()
        if inspect.isclass(value) and issubclass(value, kinds) and public not in _NOT_FOR_RECIPES
    }
    if name not in known:
        raise ValueError(f"albumentations has no transform {name!r}{did_you_mean(name, known)}")
    return known[name]


def _refusal(error: Exception, image_shape: tuple[int, ...]) -> StrategyError:
    """Say which transform failed, on what images, and why."""
    failed = [
        type(frame.f_locals["self"]).__name__
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if isinstance(frame.f_locals.get("self"), _library().BasicTransform)
    ]
    size = "x".join(map(str, image_shape))
    return StrategyError(f"{failed[-1] if failed else 'Compose'} cannot transform images of {size}: {_told(error)}")


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Offer the strategy of this file."""
    return [Albumentations]
