"""What the steps of a recipe need of the network, the labels and the settings."""

from __future__ import annotations

import torch

from fer_augment.data.dataset import Splits
from fer_augment.errors import RecipeError, StrategyError
from fer_augment.heads import linear_head
from fer_augment.hooks.pipeline import Step
from fer_augment.hooks.strategy import Effect
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.training.specification import backbone_of

_OF_A_BACKBONE = ("freeze_epochs", "backbone_learning_rate")


def check_requirements(bound: BoundRecipe, splits: Splits, network: torch.nn.Module) -> None:
    """Refuse what would otherwise fail only in or after a training.

    Args:
        bound: the recipe.
        splits: the data.
        network: the network as the recipe's steps prepare it.

    Raises:
        RecipeError: if a setting is for a backbone and the network has none.
        StrategyError: if a step needs a linear head, embeddings or hard labels, and there are none.
    """
    for step in bound.steps:
        effects = step.strategy.effects
        try:
            if Effect.NEEDS_LINEAR_HEAD in effects and step.acts_at(["refine_model"]):
                linear_head(network)
            if (Effect.ASKS_FOR_EMBEDDINGS | Effect.NEEDS_FEATURES) & effects:
                require_features(bound, network)
            if Effect.NEEDS_HARD_LABELS in effects:
                _require_hard_labels(bound, splits, step)
        except StrategyError as error:
            raise StrategyError(f"{step}: {error}") from error
    if backbone_of(network) is None:
        for key in _OF_A_BACKBONE:
            if getattr(bound.recipe.training, key) != TrainingSettings.model_fields[key].default:
                raise RecipeError(
                    f"training.{key}: the backbone is a network's `features`, and {bound.model.name} has no such "
                    "module; choose another model"
                )


def require_features(bound: BoundRecipe, network: torch.nn.Module) -> None:
    """Refuse a network that cannot give embeddings.

    Raises:
        StrategyError: if it has no module `features`.
    """
    if backbone_of(network) is None:
        raise StrategyError(
            f"embeddings are the outputs of a network's `features`, and {bound.model.name} has no such module; choose "
            "another model"
        )


def _require_hard_labels(bound: BoundRecipe, splits: Splits, step: Step) -> None:
    if splits.train.targets is not None:
        raise StrategyError("needs hard labels, but the data have soft labels; set data.labels to majority")
    for other in bound.steps:
        is_given_its_targets = other.acts_at(["augment_batch"]) or other.number > step.number  # later losses wrap
        if Effect.SOFT_TARGETS in other.strategy.effects and is_given_its_targets and other is not step:
            raise StrategyError(f"needs hard labels, but {other} makes soft targets; remove one of them")
