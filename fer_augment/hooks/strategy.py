"""The contract between the framework and a strategy: what a strategy declares, and what it is handed at a stage."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from fer_augment.data.dataset import ImageDataset
from fer_augment.errors import StrategyError
from fer_augment.randomness import nth_seeds, stream_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

PredictionKind = Literal["in_sample", "out_of_fold"]


class ClassName(str):
    """A parameter that names a class of the data set; the names of all arms are checked before any training.

    Also takes what YAML makes of names such as `3` and `true`.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate a scalar as text and mark it as a class name."""
        text = core_schema.no_info_before_validator_function(_scalar_as_text, core_schema.str_schema(min_length=1))
        return core_schema.no_info_after_validator_function(cls, text)


def _scalar_as_text(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else value


class Effect(enum.Flag):
    """What a strategy changes; the loader refuses what cannot work together and warns of what compounds."""

    SHIFTS_CLASS_PRIOR = enum.auto()
    """Classes are drawn in other proportions than they stand in the source (oversampling, weighted draws)."""
    CORRECTS_CLASS_PRIOR = enum.auto()
    """The loss or the logits make up for class frequencies as rows are drawn (class weights, logit adjustment)."""
    FAVORS_SMALL_CLASSES = enum.auto()
    """Small classes gain whatever the frequencies in which rows are drawn (tau-normalization)."""
    NEEDS_RAW_LOGITS = enum.auto()
    """Assumes a loss over logits; means little with `mse` on the softmax output."""
    SOFT_TARGETS = enum.auto()
    """Targets are no longer one-hot (mixup)."""
    MIRRORED_COPIES = enum.auto()
    """Adds mirrored copies, which a random flip in the same recipe turns into plain copies."""
    RANDOM_FLIP = enum.auto()
    """Mirrors images at random while training."""
    IN_SAMPLE_MINING = enum.auto()
    """Chooses rows by predictions of a model that was trained on the same rows, which under-report confusion."""
    OUT_OF_FOLD_MINING = enum.auto()
    """Asks models about rows that they were not trained on, which costs one training a fold."""
    ASKS_FOR_EMBEDDINGS = enum.auto()
    """Asks for the features of a model that was trained on the same rows, which costs its training."""
    NEEDS_LINEAR_HEAD = enum.auto()
    """Works on the weights of a linear last layer (`model.head`)."""
    RANDOM = enum.auto()
    """Another seed gives another result."""


NO_EFFECT = Effect(0)
ASKS_SCOUTS = Effect.IN_SAMPLE_MINING | Effect.OUT_OF_FOLD_MINING | Effect.ASKS_FOR_EMBEDDINGS
"""What a strategy declares that needs another network to be trained first."""


class Strategy(BaseModel):
    """A plugin object that acts at one or more stages of a run.

    Subclass it, annotate the parameters, and implement the hooks of `StageSpecs` that you need with `@hookimpl`. An
    instance is frozen: it holds parameters, never the state of a run, so that a run can be repeated or resumed.

    Class attributes:
        example: parameters with which the conformity kit builds the strategy; the kit's classes are `ant`, `bee`
            and `cat`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    example: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def strategy_name(cls) -> str:
        """Return the name used in recipes: the class name in snake case."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__).lower()

    @property
    def effects(self) -> Effect:
        """What these parameters change; override it where there is something to declare."""
        return NO_EFFECT

    @property
    def acts_from(self) -> int:
        """The first epoch, counted from 0, in which it acts while training; override it where that may be later."""
        return 0

    @property
    def idle_at(self) -> Collection[str]:
        """The stages that it implements and is not asked at; override it where the parameters decide where it acts."""
        return ()

    @property
    def watched_pairs(self) -> Collection[tuple[str, str]]:
        """Pairs (true class, predicted class) whose confusions every report counts; override it to name some."""
        return ()

    @property
    def files(self) -> Collection[Path]:
        """Files that the strategy reads; their content becomes part of the training key, so an edit trains again."""
        return ()

    def __eq__(self, other: object) -> bool:
        """Two strategies are equal only if they are one object: a recipe may hold two equal steps."""
        return self is other

    def __hash__(self) -> int:
        """Hash by identity, as equality is."""
        return id(self)


class Scout(Protocol):
    """The model that a mining strategy asks about the training set: the recipe cut before the asking step."""

    def probabilities(self, training_set: ImageDataset, how: PredictionKind = "out_of_fold") -> NDArray[np.float32]:
        """Return the `(N, K) float32` class probabilities of each row.

        `in_sample` asks the model that was trained on these very rows. `out_of_fold` asks for each row a model
        that was trained without the row's source rows and their duplicates; rows that descend from source rows of
        several folds get NaN. In a run, asking again about the same set costs nothing.
        """
        ...

    def embeddings(self, training_set: ImageDataset) -> NDArray[np.float32]:
        """Return the `(N, D) float32` outputs of the in-sample model's `features`."""
        ...


class TrainAgain(Protocol):
    """Trains a model once more, for strategies with a second stage of training."""

    def __call__(
        self,
        model: torch.nn.Module,
        *,
        parameters: Iterable[torch.nn.Parameter] | None = None,
        weights: NDArray[np.float64] | None = None,
        epochs: int = 1,
    ) -> torch.nn.Module:
        """Train the given parameters (all by default) with rows drawn by `(N,)` weights (as they stand by default).

        Raises:
            StrategyError: if the weights are not N finite numbers, 0 or more, some of them more.
            RunError: if the loss stops being finite.
        """
        ...


@dataclass(frozen=True)
class Context:
    """What a strategy knows of the run at one stage.

    Attributes:
        seed: the seed of the run.
        class_names: the K class names.
        stream: the words that name this context's random numbers: step, occurrence, stage and epoch.
        device: where tensors of this run live, `cpu` or `cuda`.
        cores: how many processor cores a strategy may use; what it gives must not depend on it.
        scout: predictions about the training set; None at stages that come after training.
        train: trains again; only at `refine_model`.
        chosen: numbers that the step chose by itself, see `note`; only at `build_adjustment`.
    """

    seed: int
    class_names: tuple[str, ...]
    stream: tuple[str | int, ...] = ()
    device: str = "cpu"
    cores: int = 1
    scout: Scout | None = None
    train: TrainAgain | None = None
    chosen: dict[str, float] | None = None

    @cached_property
    def rng(self) -> np.random.Generator:
        """A numpy generator that belongs to this step at this stage."""
        return np.random.default_rng(stream_key(self.seed, *self.stream))

    @cached_property
    def generator(self) -> torch.Generator:
        """A torch generator, on the device of the run, that belongs to this step at this stage."""
        import torch

        return torch.Generator(self.device).manual_seed(stream_key(self.seed, *self.stream) >> 1)

    def require_scout(self) -> Scout:
        """Return the scout.

        Raises:
            StrategyError: if there is none to ask.
        """
        if self.scout is None:
            raise StrategyError("there is no scout to ask for predictions about the training set")
        return self.scout

    def note(self, name: str, value: float) -> None:
        """Write down a number that the step chose by itself: it stands in the run's record and in reports.

        Raises:
            StrategyError: at a stage other than `build_adjustment`, or if the number is not finite.
        """
        if self.chosen is None:
            raise StrategyError(f"{name!r} can be noted at build_adjustment only")
        if not math.isfinite(value):
            raise StrategyError(f"{name!r} must be a finite number to be noted, not {value}")
        self.chosen[name] = float(value)

    def row_seeds(self, keys: NDArray[np.uint64], draws: NDArray[np.int64] | None = None) -> NDArray[np.uint64]:
        """Return `(n,) uint64` seeds that depend on each row alone, not on its place in a batch or in the set.

        Args:
            keys: `(n,) uint64`, from `ImageDataset.row_keys` or `copy_keys`.
            draws: `(n,)`, how often each row was drawn before in this epoch, so that a row drawn again gets
                another seed; 0 for all by default.
        """
        own = keys ^ np.uint64(stream_key(self.seed, *self.stream))
        return nth_seeds(own, np.zeros(len(keys), np.int64) if draws is None else draws)
