"""Checks that a strategy acts, and of `idle_at`, which says at which of its stages it does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from fer_augment.errors import FerAugmentError
from fer_augment.hooks.strategy import Effect, Strategy
from fer_augment.testing.fixtures import with_unusual_images
from fer_augment.testing.stages import Arguments, arguments_of, same
from fer_augment.testing.subject import Subject

if TYPE_CHECKING:
    import torch

_SEEDS = range(6)


def acts_at_some_stage(subject: Subject) -> Iterator[str]:
    """A stage returns something else than it was given, on some data, with some seed and in some epoch.

    Some of the data have images that are black, white or of one value. A strategy with all its stages in `idle_at` says
    that it does nothing; one that needs hard labels may do something with soft ones alone.
    """
    strategy = subject.build()
    stages = [stage for stage in subject.stages if stage not in strategy.idle_at]
    if not stages or Effect.NEEDS_HARD_LABELS in strategy.effects:
        return
    if any(_acts_at(subject, strategy, stage) for stage in stages):
        return
    for data, rows in map(with_unusual_images, subject.datasets):
        with suppress(FerAugmentError):  # copes_with_images_of_any_content reports this
            if any(_changes(one, strategy) for stage in stages for one in arguments_of(stage, data, rows)):
                return
    yield (
        f"{', '.join(stages)}: nothing changes: rows, images, targets, weights, losses, logits and networks are "
        "returned as they were given; return what the strategy has made, or set `example` to parameters with which it "
        f"acts on {len(subject.datasets[0])} rows"
    )


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
    return any(
        _changes(arguments, strategy, seed)
        for data in subject.datasets
        for arguments in arguments_of(stage, data)
        for seed in _SEEDS
    )


def _changes(arguments: Arguments, strategy: Strategy, seed: int = 0) -> bool:
    softness = arguments.softness(strategy)
    given = [array.copy() for array in arguments.arrays_of(arguments.first, softness)]
    traits = _traits_of(arguments.first) if arguments.stage.endswith("_model") else []
    result = arguments.fold(strategy, seed=seed)
    if arguments.stage.endswith("_model") and _traits_of(result) != traits:
        return True
    return not same(given, arguments.arrays_of(result, softness))


def _traits_of(network: torch.nn.Module) -> Sequence[str]:
    """Return what training depends on beside the values of weights: attributes, hooks and what has a gradient."""
    return [
        *(str(vars(module)) for module in network.modules()),
        *(str((weight.requires_grad, weight._backward_hooks)) for weight in network.parameters()),
    ]
