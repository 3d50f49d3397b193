"""Rewriting of the training set by a recipe, step by step."""

from __future__ import annotations

from dataclasses import dataclass

from fer_augment.data.dataset import ImageDataset
from fer_augment.hooks.pipeline import Step
from fer_augment.training.trainings import RecipeTrainings


@dataclass(frozen=True)
class StepResult:
    """What one step did to the training set.

    Attributes:
        step: the step.
        made: rows that it added.
        removed: rows of the set before it that it removed.
    """

    step: Step
    made: int
    removed: int


@dataclass(frozen=True, eq=False)
class Rewriting:
    """A training set before and after the rewriting of a recipe.

    Attributes:
        recipe: the recipe in the trainings of one seed.
        before: the training split, after the recipe's `data` settings.
        after: the rewritten training set, with the provenance of every row.
        steps: the result of each step that rewrites, in order.
        warnings: warnings of the strategies, and about classes that lose most of their rows.
    """

    recipe: RecipeTrainings
    before: ImageDataset
    after: ImageDataset
    steps: tuple[StepResult, ...]
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Summarize the effect."""
        return (
            f"Rewriting({self.recipe.bound.recipe.name!r}: {len(self.before):,} rows before, {len(self.after):,} after)"
        )


def rewriting_of(recipe: RecipeTrainings) -> Rewriting:
    """Rewrite the training set; scouts that strategies query are trained, or cached.

    Raises:
        RunError: if the training of a scout fails.
        StrategyError: if a strategy fails.
    """
    before = dataset = recipe.trainings.splits.train
    results = []
    for step, rewritten in recipe.first_stage.rewritings():
        made = int((rewritten.step == step.number).sum())
        results.append(StepResult(step, made, len(dataset) + made - len(rewritten)))
        dataset = rewritten
    return Rewriting(recipe, before, dataset, tuple(results), tuple(recipe.first_stage.rewriting_warnings))
