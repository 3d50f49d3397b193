"""The trainings that a recipe needs, with those of the scouts that its steps query; nothing is trained here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fer_augment.errors import StrategyError
from fer_augment.hooks.pipeline import Step
from fer_augment.hooks.strategy import Effect
from fer_augment.training.folds import Fold
from fer_augment.training.store import StoredTraining
from fer_augment.training.trainings import RecipeTrainings, TrainedScout, name_of


@dataclass(frozen=True)
class NeededTraining:
    """A training that a recipe needs.

    Attributes:
        name: what is trained, for display.
        key: its training key.
        recipe: the recipe, as it is trained.
        fold: source rows that are left out; None if all are trained on.
        scout_of: the step whose scout this is; None for the training of a run.
        first_stage: for a second stage, the key of the training that it starts from; else empty.
        after: keys of the trainings that are done before it; each of them is needed, too.
    """

    name: str
    key: str
    recipe: RecipeTrainings
    fold: Fold | None = None
    scout_of: Step | None = None
    first_stage: str = ""
    after: tuple[str, ...] = ()

    @property
    def is_second_stage(self) -> bool:
        """Whether it starts from a trained network and refines it."""
        return bool(self.first_stage)

    @property
    def epochs(self) -> float:
        """How many epochs of the whole training split its optimizer steps are."""
        settings = self.recipe.settings
        rows = 1 - 1 / self.fold.folds if self.fold and settings.budget != "steps" else 1
        return 0.0 if self.is_second_stage else settings.epochs * rows

    def obtain(self) -> StoredTraining:
        """Do the training unless it is cached; see `RecipeTrainings.trained`."""
        obtain = self.recipe.trained if self.is_second_stage else self.recipe.trained_from_scratch
        return obtain(fold=self.fold, scout_of=self.scout_of)


def needed_trainings(recipe: RecipeTrainings) -> list[NeededTraining]:
    """List the distinct trainings that a recipe needs, its own last, each after those that it waits for.

    Scouts are those that the strategies' effects declare, with the scouts of the steps before theirs.

    Raises:
        StrategyError: if a step asks for out-of-fold predictions, and all rows are in one fold.
    """
    return list({training.key: training for training in _needed(recipe, [None], None)}.values())


@dataclass(frozen=True)
class _Queried:
    """The scout that a step queries, trained on all rows, for a fold of None, or without those of a fold."""

    step: Step
    recipe: RecipeTrainings
    folds: list[Fold | None]


def _needed(recipe: RecipeTrainings, folds: Sequence[Fold | None], scout_of: Step | None) -> list[NeededTraining]:
    """Return what the trainings without the rows of some folds need, and then these."""
    first = recipe.first_stage
    scouts = _queried_by(first, first.bound.steps)
    of_refining = _queried_by(recipe, [step for step in recipe.bound.steps if step.acts_at(["refine_model"])])
    before, before_refining = _keys_of(scouts), _keys_of(of_refining)
    needed = [one for scout in (*scouts, *of_refining) for one in _needed(scout.recipe, scout.folds, scout.step)]
    for fold in folds:
        name = name_of(scout_of, fold) if scout_of else recipe.bound.recipe.name
        key = first.key_before_refinement(fold)
        needed.append(NeededTraining(name, key, first, fold, scout_of, after=before))
        if recipe.refines:
            stage, after = f"{name}, second stage", (key, *before, *before_refining)
            needed.append(NeededTraining(stage, recipe.key(fold), recipe, fold, scout_of, first_stage=key, after=after))
    return needed


def _queried_by(recipe: RecipeTrainings, steps: Iterable[Step]) -> list[_Queried]:
    """Return the scouts that steps query, by their declared effects."""
    queried = []
    for step in steps:
        effects, folds = step.strategy.effects, list[Fold | None]()
        embeds = Effect.ASKS_FOR_EMBEDDINGS in effects and not recipe.frozen  # the embeddings of a frozen backbone
        if embeds or Effect.IN_SAMPLE_MINING in effects:
            folds.append(None)
        if Effect.OUT_OF_FOLD_MINING in effects:
            try:
                folds += recipe.source_folds()
            except StrategyError as error:
                raise StrategyError(f"{step}: {error}") from error
        if folds:
            queried.append(_Queried(step, TrainedScout(recipe, step).recipe, folds))
    return queried


def _keys_of(scouts: Iterable[_Queried]) -> tuple[str, ...]:
    return tuple(scout.recipe.key(fold) for scout in scouts for fold in scout.folds)
