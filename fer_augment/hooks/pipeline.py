"""The strategies of one run, and the fold of a stage over them in recipe order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset, occurrence
from fer_augment.errors import FerAugmentError, StrategyError
from fer_augment.hooks.scouts import RememberingScout
from fer_augment.hooks.specs import PROJECT, STAGES, TRAINING_STAGES
from fer_augment.hooks.stage_manager import StageManager
from fer_augment.hooks.strategy import Context, Scout, Strategy

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """A strategy at its place in a recipe.

    Attributes:
        strategy: the strategy with its parameters.
        name: its name.
        number: its place, 1 for the first.
        occurrence: how many steps of the same name stand before it.
        provider: the distribution and version it came from.
    """

    strategy: Strategy
    name: str
    number: int
    occurrence: int = 0
    provider: str = ""

    def __str__(self) -> str:
        """Name the step for people."""
        return f"step {self.number} ({self.name})"

    def acts_at(self, stages: Iterable[str]) -> bool:
        """Whether the strategy implements one of the stages and is not idle there."""
        asked = set(stages).difference(self.strategy.idle_at)
        return any(hasattr(getattr(self.strategy, stage, None), f"{PROJECT}_impl") for stage in asked)

    @property
    def acts_in_training(self) -> bool:
        """Whether the step decides what is learnt; if not, it retrains nothing."""
        return self.acts_at(TRAINING_STAGES)

    @property
    def only_refines(self) -> bool:
        """Whether the step leaves the training alone and acts on the trained network only."""
        return self.acts_at(["refine_model"]) and not self.acts_at(set(TRAINING_STAGES) - {"refine_model"})


def steps_of(strategies: Iterable[Strategy], providers: Iterable[str] = ()) -> tuple[Step, ...]:
    """Number strategies in order and count repeated names."""
    named = [(strategy, strategy.strategy_name()) for strategy in strategies]
    provided = [*providers, *[""] * len(named)]
    return tuple(
        Step(strategy, name, place + 1, sum(earlier == name for _, earlier in named[:place]), provided[place])
        for place, (strategy, name) in enumerate(named)
    )


@dataclass(frozen=True, eq=False)
class Pipeline:
    """The steps of one run with one seed.

    Attributes:
        steps: in recipe order.
        context: what all steps share; each step gets a copy with its own stream of random numbers.
        scout_for: gives the scout that a step may ask, None where there is nobody to ask.
        chosen: what steps noted, by their number.
    """

    steps: tuple[Step, ...]
    context: Context
    scout_for: Callable[[Step], Scout] | None = None
    chosen: dict[int, dict[str, float]] = field(default_factory=dict, init=False)
    _contexts: dict[tuple[int, str], tuple[int | None, Context]] = field(default_factory=dict, init=False)
    _drawn: dict[str, tuple[int | None, NDArray[np.int64]]] = field(default_factory=dict, init=False)
    _scouts: dict[int, Scout] = field(default_factory=dict, init=False)

    def fold(self, stage: str, first: T, *, epoch: int | None = None, train: Any = None, **others: Any) -> T:
        """Pass a value through all steps that act at a stage: what one returns, the next one receives.

        Args:
            stage: a stage of `StageSpecs`.
            first: the value of the stage's first argument; for `augment_batch` the pair of images and targets.
            epoch: the epoch, for stages that are called in each.
            train: what `context.train` is to be.
            others: the stage's other arguments; `draws` is counted here unless it is given.

        Raises:
            StrategyError: if a strategy fails, returns nothing, or returns what the stage does not allow.
        """
        value = first
        if stage in _ROW_STAGES and "draws" not in others:
            others["draws"] = self._count_draws(stage, epoch, **others)
        for step, call in self._calls[stage]:
            context = replace(self._context_of(step, stage, epoch), train=train) if train else None
            arguments = dict(others, context=context or self._context_of(step, stage, epoch))
            if epoch is not None:
                arguments["epoch"] = epoch
            if stage == "augment_batch":
                arguments["images"], arguments["targets"] = cast("tuple[Any, Any]", value)
            else:
                arguments[_FIRST[stage]] = value
            value = cast("T", _checked(step, stage, value, _returned(step, stage, call, arguments)))
        return value

    def acts_at(self, stage: str) -> bool:
        """Whether any step acts at a stage."""
        return bool(self._calls[stage])

    @functools.cached_property
    def _calls(self) -> dict[str, list[tuple[Step, Callable[..., list[Any]]]]]:
        """For each stage the steps that act, each with a caller of that step's implementation alone."""
        strategies = {step.strategy for step in self.steps}
        manager = StageManager(step.strategy for step in self.steps)
        return {
            stage: [
                (step, manager.subset_hook_caller(stage, strategies - {step.strategy}))
                for step in self.steps
                if step.acts_at([stage])
            ]
            for stage in STAGES
        }

    def _context_of(self, step: Step, stage: str, epoch: int | None) -> Context:
        """Make the context of a step; stages called for each batch keep theirs, so that random numbers go on."""
        kept_epoch, kept = self._contexts.get((step.number, stage), (None, None))
        if kept is not None and kept_epoch == epoch:
            return kept
        stream = (step.name, step.occurrence, stage, -1 if epoch is None else epoch)
        scout = self._scout_of(step) if stage in TRAINING_STAGES else None
        chosen = self.chosen.setdefault(step.number, {}) if stage == "build_adjustment" else None
        context = replace(self.context, stream=stream, scout=scout, chosen=chosen)
        if stage in _BATCH_STAGES:
            self._contexts[step.number, stage] = (epoch, context)
        return context

    def _scout_of(self, step: Step) -> Scout | None:
        """Return the scout that a step keeps through all stages."""
        if step.number not in self._scouts and self.scout_for:
            self._scouts[step.number] = RememberingScout(self.scout_for(step))
        return self._scouts.get(step.number)

    def _count_draws(
        self, stage: str, epoch: int | None, rows: NDArray[np.int64], training_set: ImageDataset, **_: Any
    ) -> NDArray[np.int64]:
        """Count how often each row of a batch was drawn before in this epoch, `(B,)`."""
        kept_epoch, drawn = self._drawn.get(stage, (None, None))
        if drawn is None or kept_epoch != epoch:
            drawn = np.zeros(len(training_set), dtype=np.int64)
            self._drawn[stage] = (epoch, drawn)
        draws = drawn[rows] + occurrence(rows)
        np.add.at(drawn, rows, 1)
        return draws


_ROW_STAGES = ("augment_rows", "augment_batch")
_BATCH_STAGES = ("augment_rows", "augment_batch", "predict_views")
_FIRST = {
    "rewrite_training_set": "training_set",
    "prepare_model": "model",
    "sampling_weights": "weights",
    "build_loss": "loss",
    "augment_rows": "images",
    "refine_model": "model",
    "predict_views": "views",
    "build_adjustment": "adjust",
}


def _returned(step: Step, stage: str, call: Callable[..., list[Any]], arguments: dict[str, Any]) -> Any:
    try:
        results = call(**arguments)
    except FerAugmentError as error:
        raise _own_kind(error)(f"{step}, {stage}: {error}") from error
    except Exception as error:
        told = " ".join(str(error).split())
        raise StrategyError(f"{step}, {stage}: {type(error).__name__}: {told}") from error
    if not results:
        raise StrategyError(f"{step}, {stage} returned nothing; end it with a return statement")
    return results[0]


def _own_kind(error: FerAugmentError) -> type[FerAugmentError]:
    """Return the class of an error or the nearest base of it that takes a text: a stranger's may take anything."""
    return next(kind for kind in type(error).__mro__ if kind.__module__ == FerAugmentError.__module__)


def _checked(step: Step, stage: str, before: Any, after: Any) -> Any:
    """Return what a step gave, as the framework goes on with it, if the stage allows it."""
    fault = _FAULTS[stage](before, after)
    if fault:
        raise StrategyError(f"{step}, {stage} must return {fault}")
    if stage == "rewrite_training_set":
        return after.stamped(step.number)
    if stage == "sampling_weights":
        return after.astype(np.float64)  # the running sum of smaller floats would lose rows, or overflow
    if stage == "augment_rows":
        return np.ascontiguousarray(after)  # torch takes no array of negative strides
    return after


def _rewriting_fault(before: ImageDataset, after: Any) -> str | None:
    if not isinstance(after, ImageDataset):
        return f"an ImageDataset, not {_kind(after)}"
    if after.class_names != before.class_names or after.image_shape != before.image_shape:
        return "a set with the classes and the image size of the one it was given"
    if not len(after):
        return "at least one row; it left none"
    if not np.isin(after.origins, np.append(before.origins, -1)).all():
        return "rows that descend from the set it was given"
    return None


def weights_fault(before: NDArray[np.float64], after: Any) -> str | None:
    """Return what sampling weights have to be, if some are not that, else None."""
    if not isinstance(after, np.ndarray) or after.shape != before.shape:
        return f"weights of shape {before.shape}, not {_kind(after)}"
    is_number = np.issubdtype(after.dtype, np.number)
    if not (is_number and np.isfinite(after).all() and (after >= 0).all() and after.any()):
        return "finite weights, 0 or more, that are not all zero"
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


_FAULTS: dict[str, Callable[[Any, Any], str | None]] = {
    "rewrite_training_set": _rewriting_fault,
    "prepare_model": _callable_fault,
    "sampling_weights": weights_fault,
    "build_loss": _callable_fault,
    "augment_rows": _rows_fault,
    "augment_batch": _batch_fault,
    "refine_model": _callable_fault,
    "predict_views": _views_fault,
    "build_adjustment": _callable_fault,
}
