"""A recipe's rewriting of the training set, step by step: what each one made and took away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fer_augment.data.dataset import ImageDataset
from fer_augment.hooks.pipeline import Step
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.training.torch_runtime import reproducible
from fer_augment.training.trainings import Trainings

STAGE = "rewrite_training_set"


@dataclass(frozen=True)
class StepResult:
    """What one step did to the training set.

    Attributes:
        step: which one.
        made: how many rows it added.
        removed: how many of the rows before it are gone.
    """

    step: Step
    made: int
    removed: int


@dataclass(frozen=True, eq=False)
class Rewriting:
    """A training set before and after a recipe's rewriting.

    Attributes:
        before: the training split, after the recipe's `data` settings.
        after: what is trained on.
        steps: what each step did that rewrites, in order.
    """

    before: ImageDataset
    after: ImageDataset
    steps: tuple[StepResult, ...]


def rewrite(bound: BoundRecipe, trainings: Trainings) -> Rewriting:
    """Rewrite the training set; what strategies ask of scouts is trained, or found in the store.

    Raises:
        RunError: if the training of a scout fails.
        StrategyError: if a strategy does.
    """
    dataset = trainings.splits.train
    results = []
    for step, rewritten in _step_by_step(bound, trainings):
        made = int((rewritten.step == step.number).sum())
        results.append(StepResult(step, made, len(dataset) + made - len(rewritten)))
        dataset = rewritten
    return Rewriting(trainings.splits.train, dataset, tuple(results))


def _step_by_step(bound: BoundRecipe, trainings: Trainings) -> Iterator[tuple[Step, ImageDataset]]:
    """Give the training set after each step; the last one is what `Trainings.rewritten` gives."""
    pipeline, dataset = trainings.pipeline(bound), trainings.splits.train
    for step in bound.steps:
        if step.acts_at([STAGE]):
            with reproducible(bound.recipe.training, 0):
                dataset = replace(pipeline, steps=(step,)).fold(STAGE, dataset)
            yield step, dataset
