"""The steps of one run, and the fold of a stage over them in recipe order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from inspect import unwrap
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset, occurrence
from fer_augment.errors import FerAugmentError, StrategyError, in_one_line, raised_at
from fer_augment.hooks.scouts import CachingScout
from fer_augment.hooks.specs import PROJECT
from fer_augment.hooks.stage_manager import StageManager
from fer_augment.hooks.stages import STAGES, TRAINING_STAGES, Stage
from fer_augment.hooks.strategy import Cache, Context, Effect, Scout, Strategy
from fer_augment.hooks.value_checks import changed_arguments, copies_of, pixel_fault

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """A strategy at its place in a recipe.

    Attributes:
        strategy: the strategy with its parameters.
        name: its name.
        number: its place, 1 for the first.
        occurrence: number of earlier steps with the same name.
        provider: the distribution and version it came from.
    """

    strategy: Strategy
    name: str
    number: int
    occurrence: int = 0
    provider: str = ""

    def __str__(self) -> str:
        """Return the step's place and name, for messages."""
        return f"step {self.number} ({self.name})"

    def acts_at(self, stages: Iterable[str]) -> bool:
        """Whether the strategy implements one of the stages and is not idle there."""
        active = set(stages).difference(self.strategy.idle_at)
        return any(hasattr(getattr(self.strategy, stage, None), f"{PROJECT}_impl") for stage in active)

    @property
    def uses_history(self) -> bool:
        """Whether the step is given the last outputs of the network for every training row."""
        return Effect.USES_HISTORY in self.strategy.effects

    @property
    def acts_in_training(self) -> bool:
        """Whether the step affects the trained weights; if not, it needs no training of its own."""
        return self.acts_at(TRAINING_STAGES)

    @property
    def only_refines(self) -> bool:
        """Whether `refine_model` is the only training stage at which the step acts."""
        return self.acts_at(["refine_model"]) and not self.acts_at(set(TRAINING_STAGES) - {"refine_model"})


def steps_of(strategies: Iterable[Strategy], providers: Iterable[str] = ()) -> tuple[Step, ...]:
    """Number strategies in order and count repeated names; an object that occurs again is copied, as steps differ."""
    given = list(strategies)
    distinct = [one.model_copy() if one in given[:place] else one for place, one in enumerate(given)]
    named = [(strategy, strategy.strategy_name()) for strategy in distinct]
    provided = [*providers, *[""] * len(named)]
    return tuple(
        Step(strategy, name, place + 1, sum(earlier == name for _, earlier in named[:place]), provided[place])
        for place, (strategy, name) in enumerate(named)
    )


HookCaller = Callable[..., list[Any]]
HookCallers = Mapping[str, tuple[tuple[Step, HookCaller], ...]]
"""For each stage its acting steps in order, each with a caller of that step's implementation alone."""


def hook_callers(steps: Iterable[Step]) -> HookCallers:
    """Register the strategies of some steps with pluggy.

    Raises:
        PluginError: if a strategy has a hook or an argument that does not exist.
    """
    steps = tuple(steps)
    strategies = {step.strategy for step in steps}
    manager = StageManager(step.strategy for step in steps)
    return {
        stage: tuple(
            (step, manager.subset_hook_caller(stage, strategies - {step.strategy}))
            for step in steps
            if step.acts_at([stage])
        )
        for stage in STAGES
    }


@dataclass(frozen=True, eq=False)
class Pipeline:
    """The steps of a recipe, ready to act with one seed.

    A pipeline counts draws and advances random streams, so each training and each set of predictions needs a fresh
    one: see `fresh`.

    Attributes:
        steps: in recipe order.
        context: shared by all steps; each step gets a copy with its own stream of random numbers.
        scout_for: returns the scout that a step may query; None where there is none.
        cache_for: returns the cache of a step; None for folders that exist until the process ends.
        report: is called with a step and how far its work has come.
        chosen: the numbers that steps noted, by step number.
        checks_values: whether to check, at the first call of an epoch, that a step leaves its arguments alone and
            returns pixels in range.
    """

    steps: tuple[Step, ...]
    context: Context
    scout_for: Callable[[Step], Scout] | None = None
    cache_for: Callable[[Step], Cache] | None = None
    report: Callable[[Step, int, int], None] = lambda step, done, total: None
    chosen: dict[int, dict[str, float]] = field(default_factory=dict, init=False)
    callers: HookCallers | None = field(default=None, repr=False)
    checks_values: bool = True
    _scouts: dict[int, Scout] = field(default_factory=dict, repr=False)
    _contexts: dict[tuple[int, str], tuple[int | None, Context]] = field(default_factory=dict, init=False)
    _drawn: dict[str, tuple[int | None, NDArray[np.int64]]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Register the strategies, unless the callers of the same steps were passed."""
        if self.callers is None:
            object.__setattr__(self, "callers", hook_callers(self.steps))

    def fresh(self) -> Pipeline:
        """Return the same steps with nothing drawn and nothing noted; registered hooks and scouts are shared."""
        return replace(self)

    def acts_at(self, stage: str) -> bool:
        """Whether any step acts at a stage."""
        return bool(self._callers_at(stage))

    def fold(
        self,
        stage: str,
        first: T,
        *,
        epoch: int | None = None,
        batch: int | None = None,
        train: Any = None,
        adapt: Callable[[T], T] | None = None,
        **others: Any,
    ) -> T:
        """Pass a value through all steps that act at a stage: what one returns, the next one receives.

        Args:
            stage: a stage of `StageSpecs`.
            first: the value of the stage's first argument; for `augment_batch` the pair of images and targets.
            epoch: the epoch, for stages that are called in each.
            batch: the number of the batch in the epoch, which then has an `rng` and a `generator` of its own; None for
                those that continue from batch to batch. Seeds of rows are the same in both cases.
            train: the value of `context.train`.
            adapt: converts what a step returned for the next one, and for the caller.
            others: the stage's other arguments; `draws` is counted here unless it is given.

        Raises:
            StrategyError: if a strategy fails, returns nothing, or returns what the stage does not allow.
        """
        value = first
        for _, result in self.each(stage, first, epoch=epoch, batch=batch, train=train, adapt=adapt, **others):
            value = result
        return value

    def each(
        self,
        stage: str,
        first: T,
        *,
        epoch: int | None = None,
        batch: int | None = None,
        train: Any = None,
        adapt: Callable[[T], T] | None = None,
        **others: Any,
    ) -> Iterator[tuple[Step, T]]:
        """Fold as `fold` does; yield every acting step with the value after it."""
        facts, value = STAGES[stage], first
        if facts.counts_draws and "draws" not in others:
            others["draws"] = self._count_draws(stage, epoch, **others)
        if epoch is not None:
            others["epoch"] = epoch
        for step, call in self._callers_at(stage):
            checks_values = self.checks_values and self._is_first_call(step, stage, epoch, batch)
            context = self._context_of(step, facts, epoch, batch)
            if train:
                context = replace(context, train=train)
            arguments = {**others, **facts.folded_arguments(value), "context": context}
            copies = copies_of(arguments) if checks_values else {}
            returned = _returned(step, stage, call, arguments)
            for name in changed_arguments(arguments, copies):
                raise StrategyError(f"{step}, {stage} changed its argument `{name}` in place; it must work on a copy")
            value = cast("T", _checked(step, facts, value, returned, checks_values))
            value = adapt(value) if adapt else value
            yield step, value

    def _callers_at(self, stage: str) -> tuple[tuple[Step, HookCaller], ...]:
        assert self.callers is not None
        return self.callers[stage]

    def _is_first_call(self, step: Step, stage: str, epoch: int | None, batch: int | None) -> bool:
        """Whether a step is called for the first time in an epoch, or at this stage."""
        if batch is not None:
            return batch == 0
        kept_epoch, kept = self._contexts.get((step.number, stage), (None, None))
        return kept is None or kept_epoch != epoch

    def _context_of(self, step: Step, stage: Stage, epoch: int | None, batch: int | None) -> Context:
        """Return the context of a step; per-batch stages keep theirs, so that random streams continue."""
        kept_epoch, kept = self._contexts.get((step.number, stage.name), (None, None))
        if batch is None and kept is not None and kept_epoch == epoch:
            return kept
        stream = (step.name, step.occurrence, stage.name, -1 if epoch is None else epoch)
        scout = self._scout_of(step) if stage.decides_training else None
        chosen = self.chosen.setdefault(step.number, {}) if stage.name == "build_adjustment" else None
        recorded = self.context.recorded if step.uses_history else None
        context = replace(
            self.context,
            stream=stream,
            scout=scout,
            chosen=chosen,
            recorded=recorded,
            cache=self._cache_of(step, stage),
            report=lambda done, total: self.report(step, done, total),
            batch=batch,
        )
        if stage.is_per_batch and batch is None:
            self._contexts[step.number, stage.name] = (epoch, context)
        return context

    def _cache_of(self, step: Step, stage: Stage) -> Cache | None:
        if stage.is_per_batch:
            return None
        return self.cache_for(step) if self.cache_for else self.context.cache

    def _scout_of(self, step: Step) -> Scout | None:
        """Return the scout of a step, the same one at all stages."""
        if step.number not in self._scouts and self.scout_for:
            self._scouts[step.number] = CachingScout(self.scout_for(step))
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


def _returned(step: Step, stage: str, call: HookCaller, arguments: dict[str, Any]) -> Any:
    try:
        results = call(**arguments)
    except FerAugmentError as error:
        raise _own_kind(error)(f"{step}, {stage}: {error}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit and GeneratorExit, too: they are the plugin's, not ours
        place = raised_at(error, unwrap(getattr(step.strategy, stage)).__code__.co_filename)
        raise StrategyError(f"{step}, {stage}: {in_one_line(error)} ({place})") from error
    if not results:
        raise StrategyError(f"{step}, {stage} returned nothing; end it with a return statement")
    return results[0]


def _own_kind(error: FerAugmentError) -> type[FerAugmentError]:
    """Return the nearest class of an error that is ours: a third-party subclass may not take a text."""
    return next(kind for kind in type(error).__mro__ if kind.__module__ == FerAugmentError.__module__)


def _checked(step: Step, stage: Stage, before: Any, after: Any, checks_values: bool) -> Any:
    """Return what a step returned, converted for the next step, if the stage allows it."""
    fault = stage.fault(before, after) or (pixel_fault(stage.name, before, after) if checks_values else None)
    if fault:
        raise StrategyError(f"{step}, {stage.name} must return {fault}")
    return stage.finish(after, step.number)
