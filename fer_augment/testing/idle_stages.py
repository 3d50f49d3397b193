"""A check of `idle_at`, which says at which of its stages a strategy does not act with its parameters."""

from __future__ import annotations

from collections.abc import Iterator

from fer_augment.hooks.strategy import Strategy
from fer_augment.testing.stages import arguments_of, same
from fer_augment.testing.subject import Subject

_SEEDS = range(3)


def is_idle_only_where_it_does_nothing(subject: Subject) -> Iterator[str]:
    """A strategy acts at a stage that is not in `idle_at`, unless it would not act at any.

    What is in `idle_at` is not called in a run: a strategy that acts nowhere else has no effect at all.
    """
    strategy = subject.build()
    idle = [stage for stage in subject.stages if stage in strategy.idle_at]
    if not idle or any(_acts_at(subject, strategy, stage) for stage in subject.stages if stage not in idle):
        return
    never_idle = {"idle_at": property(lambda self: ()), "__module__": __name__}
    awake: Strategy = type(type(strategy).__name__, (type(strategy),), never_idle)(**subject.parameters)
    for stage in idle:
        if _acts_at(subject, awake, stage):
            yield (
                f"{stage} is in `idle_at`, so it is not called and the strategy has no effect; leave out of `idle_at` "
                "the stages at which it acts with these parameters"
            )


def _acts_at(subject: Subject, strategy: Strategy, stage: str) -> bool:
    """Whether a stage returns anything else than its first argument."""
    for data in subject.datasets:
        for arguments in arguments_of(stage, data):
            for seed in _SEEDS:
                softness = arguments.softness(strategy)
                given = [array.copy() for array in arguments.arrays_of(arguments.first, softness)]
                if not same(given, arguments.arrays_of(arguments.fold(strategy, seed=seed), softness)):
                    return True
    return False
