"""Base class of strategies that apply the transforms of a library to rows, appended as copies or in every batch."""

from __future__ import annotations

import inspect
import multiprocessing
import pickle
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache, cached_property
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue, field_validator, model_validator

from fer_augment.data.dataset import ImageDataset
from fer_augment.errors import StrategyError, StrategyWarning, did_you_mean
from fer_augment.hooks.specs import hookimpl
from fer_augment.hooks.strategy import ClassName, Context, Effect, Strategy
from fer_augment.hooks.strategy_files import executed_files, module_as_of
from fer_augment.processes import without_main_module
from fer_augment.randomness import uniforms

_TIMED_IMAGES = 200
"""Number of images transformed first, to estimate whether worker processes are worth their startup time."""
_CHUNKS_PER_CORE = 32
"""Number of chunks of work per core: small chunks keep idle time short at the end."""

Probability = Annotated[float, Field(ge=0, le=1)]
Transform = str | dict[str, dict[str, JsonValue]]
"""A transform in a recipe: its name, or its name with parameters."""


class RowTransforms(Strategy, ABC):
    """Transform images row by row with a library: append transformed copies, or transform every batch.

    The random numbers of an image depend only on its row (in batches also on the epoch and on how often the row was
    already drawn in it). Row order, batches and worker processes do not change the result.

    A subclass implements `check_transform`, `transform_images` and, if transforms mirror, `may_mirror`.

    Class attributes:
        startup_seconds: startup time of a worker process, which imports the library.
        converting: names of transforms that change the type of pixels, for messages.
    """

    startup_seconds: ClassVar[float] = 0.8
    converting: ClassVar[Collection[str]] = ()

    transforms: list[Transform] = Field(
        min_length=1,
        description="transforms in order, each a name or {name: {parameter: value}}; containers may be nested.",
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
    target_count: Annotated[int, Field(ge=1)] | Literal["largest_class"] | None = Field(
        default=None, description="rewrite: append copies until each class has this many rows."
    )

    @classmethod
    @abstractmethod
    def check_transform(cls, transform: Transform) -> None:
        """Refuse a transform that does not exist or has invalid parameters.

        Raises:
            ValueError: with the reason.
        """

    @abstractmethod
    def transform_images(self, images: NDArray[np.uint8], seeds: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Transform `(n, H, W, C)` images, each with the random numbers of its seed, `(n,)`.

        Raises:
            StrategyError: if a transform does not support such images, or changes their shape or dtype.
        """

    @staticmethod
    def named(transform: Transform) -> tuple[str, dict[str, JsonValue]]:
        """Return the name and the parameters of a transform.

        Raises:
            ValueError: if it has several names.
        """
        if isinstance(transform, str):
            return transform, {}
        if len(transform) != 1:
            raise ValueError(f"each transform is one {{name: {{parameter: value}}}}, got the names {sorted(transform)}")
        return next(iter(transform.items()))

    @staticmethod
    def class_of(transform: Transform, library: str, transforms: Mapping[str, Callable[..., Any]]) -> Any:
        """Return the class of a transform.

        Args:
            transform: a name, or a name with parameters.
            library: name of the library, for messages.
            transforms: the classes of the library by name.

        Raises:
            ValueError: if the library has no such transform, or the transform has no such parameter.
        """
        name, parameters = RowTransforms.named(transform)
        if name not in transforms:
            raise ValueError(f"{library} has no transform {name!r}{did_you_mean(name, transforms)}")
        known = set(inspect.signature(transforms[name]).parameters)
        for parameter in parameters:
            if parameter not in known:
                raise ValueError(f"{name} has no parameter {parameter!r}{did_you_mean(parameter, known)}")
        return transforms[name]

    def failure(self, error: Exception, image_shape: tuple[int, ...]) -> StrategyError:
        """Return an error that names the transforms, the size of the images, `(H, W, C)`, and the library's reason."""
        size = "x".join(map(str, image_shape))
        reason = " ".join(str(error).split()) or type(error).__name__
        return StrategyError(f"{', '.join(self.names)} cannot transform images of {size}: {reason}")

    @property
    def names(self) -> list[str]:
        """The names of all transforms, including nested ones."""
        return list(_names(self.transforms))

    def check_image(self, image: object, original: NDArray[np.uint8], resize: str) -> NDArray[np.uint8]:
        """Return a transformed image; refuse one of another shape or type.

        Args:
            image: the transformed image, or what the transforms returned in its place.
            original: `(H, W, C) uint8`.
            resize: a transform that restores the size, for the message.

        Raises:
            StrategyError: with what to change.
        """
        if isinstance(image, np.ndarray) and image.shape == original.shape and image.dtype == original.dtype:
            return image
        names = ", ".join(self.names)
        if not isinstance(image, np.ndarray) or image.dtype != original.dtype:
            returned = (
                f"{image.dtype} pixels" if isinstance(image, np.ndarray) else f"a value of type {type(image).__name__}"
            )
            converting = [name for name in dict.fromkeys(self.names) if name in self.converting]
            which = ", ".join(converting) or "the transform that converts them"
            raise StrategyError(
                f"{names} returned {returned} instead of {original.dtype} pixels; remove {which}: the trainer converts "
                "and scales pixels itself"
            )
        changed = f"{names} changed the image shape from {original.shape} to {image.shape}"
        if image.shape[:2] == original.shape[:2]:
            channels = {3: "color", 1: "gray"}.get(image.shape[2] if image.ndim == 3 else 1)
            train_so = f"; to train on {channels} images, set data.channels: {channels}" if channels else ""
            raise StrategyError(
                f"{changed}; images must keep their channels: remove the transform that changes them{train_so}"
            )
        raise StrategyError(
            f"{changed}; images must keep their size: append {resize} or remove the transform that changes it"
        )

    @staticmethod
    def start_worker() -> None:
        """Prepare a worker process; called before the library is imported."""

    def may_mirror(self, name: str) -> bool:
        """Whether a transform may mirror images left to right."""
        return False

    @field_validator("transforms")
    @classmethod
    def _transforms_exist(cls, transforms: list[Transform]) -> list[Transform]:
        for transform in transforms:
            cls.check_transform(transform)
        return transforms

    @model_validator(mode="after")
    def _amount_fits_the_stage(self) -> RowTransforms:
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
        mirrors = any(map(self.may_mirror, self.names))
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
        changed[chosen] = self.transform_images(images[chosen], seeds[chosen])
        return changed

    def _probability_by_class(self, training_set: ImageDataset) -> NDArray[np.float64]:
        """Return the probability that a row of each class is transformed, `(K,)`."""
        if self.classes is None:
            return np.ones(len(training_set.class_names))
        probability_of = self.classes if isinstance(self.classes, dict) else dict.fromkeys(self.classes, 1.0)
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
        counts, in_order = training_set.counts, training_set.rows_by_key
        target = int(counts.max()) if self.target_count == "largest_class" else int(self.target_count or 0)
        parents = [np.empty(0, dtype=np.int64)]
        for label in np.unique(training_set.labels[rows]):
            own = rng.permutation(in_order[training_set.labels[in_order] == label])
            parents.append(np.resize(own, max(0, target - int(counts[label]))))
        if not any(map(len, parents)) and self.target_count != "largest_class":
            message = f"`target_count` is {target}, and all classes have as many rows already: no copies are appended"
            warnings.warn(message, StrategyWarning, stacklevel=2)
        return np.concatenate(parents)

    def _transform_in_parallel(
        self, images: NDArray[np.uint8], seeds: NDArray[np.uint64], cores: int
    ) -> NDArray[np.uint8]:
        """Transform images like `transform_images`, with a worker process on each additional core if that is faster."""
        started = time.perf_counter()
        first = self.transform_images(images[:_TIMED_IMAGES], seeds[:_TIMED_IMAGES])
        remaining_seconds = (time.perf_counter() - started) / _TIMED_IMAGES * max(0, len(images) - _TIMED_IMAGES)
        workers = 0 if multiprocessing.current_process().daemon else cores - 1
        packed = self._packed() if workers and remaining_seconds > self.startup_seconds else None
        if packed is None:
            return np.concatenate([first, self.transform_images(images[_TIMED_IMAGES:], seeds[_TIMED_IMAGES:])])
        edges = np.linspace(_TIMED_IMAGES, len(images), _CHUNKS_PER_CORE * cores + 1).astype(int).tolist()
        chunks = [(images[begin:end], seeds[begin:end]) for begin, end in pairwise(edges)]
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
        try:
            with without_main_module():
                futures = [pool.submit(_transform_in_worker, packed, *chunk) for chunk in chunks]
            # Meanwhile this process works through the chunks from the end.
            local: list[NDArray[np.uint8]] = []
            while futures and futures[-1].cancel():
                local.append(self.transform_images(*chunks[len(futures) - 1]))
                futures.pop()
            return np.concatenate([first, *(future.result() for future in futures), *reversed(local)])
        finally:
            pool.shutdown(cancel_futures=True)

    def _packed(self) -> bytes | None:
        """Return the strategy for worker processes, without what it computed; None if no other process can load it."""
        if type(self).__module__ == "__main__":  # workers do not import the script that runs
            return None
        sent = self.model_copy()
        for name in list(vars(sent)):
            if isinstance(getattr(type(self), name, None), cached_property):
                del vars(sent)[name]
        try:
            return pickle.dumps((executed_files([type(self)]), pickle.dumps(sent)))
        except Exception:  # noqa: BLE001 - a class of a function or a notebook; pickle raises many kinds of errors
            return None


def _transform_in_worker(packed: bytes, images: NDArray[np.uint8], seeds: NDArray[np.uint64]) -> NDArray[np.uint8]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StrategyWarning)  # the calling process gives them
        return _unpacked(packed).transform_images(images, seeds)


@cache
def _unpacked(packed: bytes) -> RowTransforms:
    """Return the strategy of the calling process, once in each worker; execute the file of a local one first."""
    files, sent = pickle.loads(packed)
    for file in files:
        module_as_of(file)
    strategy: RowTransforms = pickle.loads(sent)
    strategy.start_worker()
    return strategy


def _names(transforms: Sequence[Any]) -> Iterator[str]:
    for transform in transforms:
        name, parameters = RowTransforms.named(transform)
        yield name
        inner = parameters.get("transforms", [])
        yield from _names(inner if isinstance(inner, list) else [])


@contextmanager
def seeded_torch(seed: int) -> Iterator[None]:
    """Seed torch's global generator of the CPU while the block runs, for code that can use no other; restore it after.

    The block computes on one thread: sums depend on the number of threads, and worker processes may have another.

    Args:
        seed: in `0 … 2**64 - 1`.
    """
    import torch

    generator, threads = torch.default_generator, torch.get_num_threads()
    before = generator.get_state()
    try:
        generator.manual_seed(seed >> 1)
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)
        generator.set_state(before)
