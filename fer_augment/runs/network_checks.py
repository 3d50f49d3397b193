"""The part of the pre-flight that builds networks: what would otherwise fail only in or after a training."""

from __future__ import annotations

from collections.abc import Sequence

from fer_augment.data.dataset import Splits
from fer_augment.errors import FerAugmentError, RecipeError
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.runs.recipe_data import RecipeData
from fer_augment.training.networks import build_network
from fer_augment.training.store import TrainingStore
from fer_augment.training.torch_runtime import reproducible
from fer_augment.training.trainings import Trainings


def check_networks(arms: Sequence[BoundRecipe], data: RecipeData, store: TrainingStore) -> tuple[str, ...]:
    """Refuse networks that cannot be trained as recipes say.

    Refused are: images that are too small for a network; initial weights of another network; steps that need a linear
    head, or embeddings, of a network without.

    Args:
        arms: the recipes that have runs to do: what a finished run needed, it has had.
        data: the data as each recipe sees it.
        store: where trainings are kept.

    Returns:
        A sentence for each thing that works and that people should know before they wait for it.

    Raises:
        RecipeError: in one line, for the first thing that is refused.
    """
    notices: list[str] = []
    for arm in arms:
        try:
            splits = data.splits_for(arm.recipe, data.first_fold)
            Trainings(splits, 0, store).of(arm).check()
            notices += _initial_weights_notices(arm, splits)
        except FerAugmentError as error:
            raise RecipeError(f"recipe {arm.recipe.name!r}: {error}") from error
    return tuple(notices)


def _initial_weights_notices(arm: BoundRecipe, splits: Splits) -> list[str]:
    """Load the initial weights that a recipe names; return a sentence if their last layers are not used.

    Raises:
        RecipeError: if they cannot be read or are of another network.
    """
    if arm.model == arm.model.untrained:
        return []
    with reproducible(arm.recipe.training, 0):
        notice = build_network(arm.model, splits.train.image_shape, splits.class_names)[1]
    return [f"{arm.recipe.name}: {notice}"] if notice else []
