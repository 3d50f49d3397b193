"""Base class of strategies, the effects that they declare, and the context that their hooks receive.

Legend of shapes: N rows of a training set, n rows of a selection, K classes, D features.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from fer_augment.data.dataset import ImageDataset
from fer_augment.errors import StrategyError
from fer_augment.hooks.history import History
from fer_augment.hooks.naming import snake_case
from fer_augment.hooks.temporary_folders import made_in_temporary_folder
from fer_augment.randomness import nth_seeds, stream_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

PredictionKind = Literal["in_sample", "out_of_fold"]
Cache: TypeAlias = Callable[[str, Callable[[Path], None]], Path]
"""A function from a key, and from a function that does the work in a folder, to the folder with its result."""


class ClassName(str):
    """Type of a parameter that is the name of a class of the data set, such as `sad`.

    The pre-flight refuses names that the data set does not have. Integers and booleans are converted to text, since
    YAML reads unquoted names such as `3` and `true` as such.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate a scalar as non-empty text and convert it to a `ClassName`."""
        text = core_schema.no_info_before_validator_function(_scalar_as_text, core_schema.str_schema(min_length=1))
        return core_schema.no_info_after_validator_function(cls, text)


def _scalar_as_text(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else value


class Effect(enum.Flag):
    """Effects that a strategy declares.

    They are used to warn about steps that interact, to list the trainings that a recipe needs, and to refuse networks
    that a step cannot work with. Combine several with `|`. The conformity kit checks the declaration.
    """

    SHIFTS_CLASS_PRIOR = enum.auto()
    """Changes the class frequencies of the rows drawn in training (oversampling, weighted sampling)."""
    CORRECTS_CLASS_PRIOR = enum.auto()
    """Corrects the loss or the logits for the class frequencies of the rows drawn (class weights, logit adjustment)."""
    FAVORS_SMALL_CLASSES = enum.auto()
    """Favors small classes independently of the class frequencies of the rows drawn (tau-normalization)."""
    NEEDS_RAW_LOGITS = enum.auto()
    """Requires a loss over logits; has no sound interpretation with `mse` on the softmax output."""
    SOFT_TARGETS = enum.auto()
    """Makes targets that are not one-hot (mixup)."""
    MIRRORED_COPIES = enum.auto()
    """Adds mirrored copies; a random flip in the same recipe makes them equivalent to plain copies."""
    RANDOM_FLIP = enum.auto()
    """Mirrors images at random in training."""
    IN_SAMPLE_MINING = enum.auto()
    """Selects rows by predictions of a scout or network trained on the same rows, which under-report confusion."""
    OUT_OF_FOLD_MINING = enum.auto()
    """Selects rows by out-of-fold predictions of scouts, at the cost of one training per fold."""
    ASKS_FOR_EMBEDDINGS = enum.auto()
    """Uses the features of a scout trained on the same rows, at the cost of its training."""
    NEEDS_LINEAR_HEAD = enum.auto()
    """Requires a linear last layer, `model.head`."""
    NEEDS_FEATURES = enum.auto()
    """Has a loss that is given the outputs of the network's module `features`."""
    USES_HISTORY = enum.auto()
    """Uses `context.history`, the last outputs of the network for every training row, which are collected for it."""
    NEEDS_HARD_LABELS = enum.auto()
    """Requires one-hot targets, such as a loss that uses only the class with the largest target."""
    RANDOM = enum.auto()
    """The result depends on the seed."""


NO_EFFECT = Effect(0)
NEEDS_SCOUT = Effect.IN_SAMPLE_MINING | Effect.OUT_OF_FOLD_MINING | Effect.ASKS_FOR_EMBEDDINGS
"""Effects of strategies that query a scout, so that it must be trained first."""


class Strategy(BaseModel):
    """Base class of strategies, which act at one or more stages of a run.

    Subclass it, annotate the parameters as in any pydantic model, and implement the hooks of `StageSpecs` that you need
    with `@hookimpl`. Instances are frozen: they hold parameters, never the state of a run, so that a run can be
    repeated and resumed.

    Class attributes:
        example: parameters with which the conformity kit builds the strategy, if it has required ones; the classes of
            the kit are `ant`, `bee` and `cat`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    example: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def strategy_name(cls) -> str:
        """Return the name used in recipes: the name of the class in snake case."""
        return snake_case(cls.__name__)

    @property
    def effects(self) -> Effect:
        """The effects of the strategy with its parameters; override it if there are any."""
        return NO_EFFECT

    @property
    def acts_from(self) -> int:
        """The first epoch in which the strategy has an effect, counted from 0; override it if that may be later."""
        return 0

    @property
    def idle_at(self) -> Collection[str]:
        """Implemented stages at which the strategy is not called; override it if that depends on parameters."""
        return ()

    @property
    def watched_pairs(self) -> Collection[tuple[str, str]]:
        """Pairs (true class, predicted class) whose confusion is reported for all arms; override it to declare some."""
        return ()

    @property
    def distributions(self) -> Collection[str]:
        """Distributions that the strategy uses beyond the requirements of its provider, such as those of an extra.

        Runs are refused while one is missing; versions are part of the training key. Override it to declare some.
        """
        return ()

    @property
    def files(self) -> Collection[Path]:
        """Files that the strategy reads; their content is part of the training key. Override it to declare some."""
        return ()

    def __eq__(self, other: object) -> bool:
        """Compare by identity, since a recipe may contain two equal steps."""
        return self is other

    def __hash__(self) -> int:
        """Hash by identity, consistent with equality."""
        return id(self)


class Scout(Protocol):
    """Auxiliary model that mining strategies query for predictions on the training set.

    It is the recipe with the steps before the querying step only, trained with `training.scout.epochs` or as many
    epochs as the run. Probabilities are cached within a run, so repeated queries of the same set are free; embeddings,
    which are large, are computed for each query.
    """

    def probabilities(self, training_set: ImageDataset, how: PredictionKind = "out_of_fold") -> NDArray[np.float32]:
        """Return the class probabilities of each row.

        Args:
            training_set: N rows that descend from the training split.
            how: `in_sample` for a model trained on all training rows; `out_of_fold` for models that were each trained
                without the source rows of the row and their exact duplicates.

        Returns:
            `(N, K) float32`. Out of fold, rows that descend from source rows of several folds are NaN, and so are rows
            from outside the training split, which every model is trained on.

        Raises:
            RunError: if the training of a model fails.
        """
        ...

    def embeddings(self, training_set: ImageDataset) -> NDArray[np.float32]:
        """Return the features of each row, computed by a model trained on all training rows.

        Args:
            training_set: N rows.

        Returns:
            `(N, D) float32`, the outputs of the module `features` of the network.

        Raises:
            StrategyError: if the network has no module `features`.
        """
        ...


class TrainAgain(Protocol):
    """Train the network again, for strategies with a second stage of training."""

    def __call__(
        self,
        model: torch.nn.Module,
        *,
        parameters: Iterable[torch.nn.Parameter] | None = None,
        weights: NDArray[np.float64] | None = None,
        epochs: int = 1,
    ) -> torch.nn.Module:
        """Train some or all parameters of the network with the training settings of the recipe.

        Args:
            model: the network that `refine_model` received; it is modified in place.
            parameters: the parameters to train; None for all.
            weights: `(N,)` sampling weights of the rows; None for those of the `sampling_weights` hooks.
            epochs: number of epochs; epoch numbers continue from the first stage.

        Returns:
            The same network, in evaluation mode.

        Raises:
            StrategyError: if the weights are not N finite, non-negative numbers that are not all zero.
            RunError: if the loss is not finite.
        """
        ...


@dataclass(frozen=True)
class Context:
    """The context of a step at a stage of a run, passed to hooks that declare the argument `context`.

    Attributes:
        seed: the seed of the run.
        class_names: the K class names.
        stream: name of the random stream of this context: step, occurrence, stage and epoch.
        device: the device of the tensors of the run, `cpu` or `cuda`.
        cores: number of processor cores that the strategy may use; results must not depend on it.
        scout: predictions on the training set; None at stages after training. See `require_scout`.
        train: trains the network again; None at stages other than `refine_model`.
        chosen: values recorded with `note`; None at stages other than `build_adjustment`.
        recorded: see `history`; None where it is not available.
        cache: see `cached`; None at stages that are called for each batch.
        report: see `progress`.
        batch: number of the batch in the epoch, where each batch has its own `rng` and `generator`; None elsewhere.
            `row_seeds` does not depend on it.
    """

    seed: int
    class_names: tuple[str, ...]
    stream: tuple[str | int, ...] = ()
    device: str = "cpu"
    cores: int = 1
    scout: Scout | None = None
    train: TrainAgain | None = None
    chosen: dict[str, float] | None = None
    recorded: History | None = None
    cache: Cache | None = made_in_temporary_folder
    report: Callable[[int, int], None] = lambda done, total: None
    batch: int | None = None

    @property
    def history(self) -> History:
        """The last outputs of the network for every training row, up to the end of the epoch before.

        Raises:
            StrategyError: if the strategy does not declare `Effect.USES_HISTORY`, or at stages that are not called in
                every epoch of a training. Each optimization starts with no outputs, also that of `context.train`.
        """
        if self.recorded is None:
            raise StrategyError(
                "no history is available here: declare Effect.USES_HISTORY, and use context.history at stages that are "
                "called in every epoch of a training"
            )
        return self.recorded

    @cached_property
    def rng(self) -> np.random.Generator:
        """A numpy generator for this step at this stage, derived from the seed."""
        return np.random.default_rng(self._stream_key)

    @cached_property
    def generator(self) -> torch.Generator:
        """A torch generator for this step at this stage, derived from the seed, on the device of the run."""
        import torch

        return torch.Generator(self.device).manual_seed(self._stream_key >> 1)

    @property
    def _stream_key(self) -> int:
        """Key of the stream of `rng` and `generator`."""
        of_batch = () if self.batch is None else ("batch", self.batch)
        return stream_key(self.seed, *self.stream, *of_batch)

    def require_scout(self) -> Scout:
        """Return the scout.

        Raises:
            StrategyError: if there is none: after training, and in uses without trainings.
        """
        if self.scout is None:
            raise StrategyError("no scout is available here for predictions on the training set")
        return self.scout

    def note(self, name: str, value: float) -> None:
        """Record a value that the strategy selected, such as a strength tuned on validation, for reports.

        Args:
            name: the name of the value.
            value: the value, finite.

        Raises:
            StrategyError: at stages other than `build_adjustment`, or if the value is not finite.
        """
        if self.chosen is None:
            raise StrategyError(f"context.note({name!r}, ...) is available at build_adjustment only")
        if not math.isfinite(value):
            raise StrategyError(f"context.note({name!r}, ...): the value must be finite, got {value}")
        self.chosen[name] = float(value)

    def cached(self, key: str, make: Callable[[Path], None]) -> Path:
        """Return a folder with the result of long work, which is done only if it was not done before.

        The folder is in the cache, below the strategy's name, and is found again by the strategy's code, the files it
        reads, its parameters, the versions of the libraries it uses, and the key. What else the work depends on must be
        in the key: usually `training_set.fingerprint`, and `seed` if it draws random numbers.

        Args:
            key: a text.
            make: is given an empty folder and writes files into it; draw random numbers for it from a generator of its
                own, since it is not called where the work was done before.

        Returns:
            The folder; its files must not be changed. Without a run, as in the conformity kit, the work is always done.

        Raises:
            StrategyError: at stages that are called for each batch, or if the folder cannot be written.
        """
        if self.cache is None:
            raise StrategyError("context.cached is not available at stages that are called for each batch")
        if not isinstance(key, str) or not key:
            raise StrategyError(f"context.cached: the key must be a text, got {key!r}")
        return self.cache(key, make)

    def progress(self, done: int, total: int) -> None:
        """Report how far long work has come; shown as the progress of the step.

        Raises:
            StrategyError: if not 0 <= done <= total.
        """
        if not 0 <= done <= total:
            raise StrategyError(f"context.progress({done}, {total}): the first number must be between 0 and the second")
        self.report(done, total)

    def row_seeds(self, keys: NDArray[np.uint64], draws: NDArray[np.int64] | None = None) -> NDArray[np.uint64]:
        """Return a seed for each row that is independent of its batch and of the order of rows.

        Args:
            keys: `(n,) uint64`, from `ImageDataset.row_keys` or `copy_keys`.
            draws: `(n,) int64`, number of earlier draws of each row in this epoch, so that repeated draws of a row get
                different seeds; None for 0.

        Returns:
            `(n,) uint64`, for example for `fer_augment.uniforms`.
        """
        own = keys ^ np.uint64(stream_key(self.seed, *self.stream))
        return nth_seeds(own, np.zeros(len(keys), np.int64) if draws is None else draws)
