"""Combinations in a recipe, and differences between recipes, that work and yet mislead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fer_augment.hooks.pipeline import Step
from fer_augment.hooks.strategy import Effect
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.recipe.recipe import Recipe


def recipe_warnings(bound: BoundRecipe) -> tuple[str, ...]:
    """Return a sentence for each combination in a recipe that works and yet misleads."""
    shifting, favoring = _having(bound, Effect.SHIFTS_CLASS_PRIOR), _having(bound, Effect.FAVORS_SMALL_CLASSES)
    correcting = _having(bound, Effect.CORRECTS_CLASS_PRIOR | Effect.FAVORS_SMALL_CLASSES)
    mirroring, flipping = _having(bound, Effect.MIRRORED_COPIES), _having(bound, Effect.RANDOM_FLIP)
    over_logits, in_sample = _having(bound, Effect.NEEDS_RAW_LOGITS), _having(bound, Effect.IN_SAMPLE_MINING)
    warnings = []
    if favoring and set(shifting) - set(favoring):  # a step that does both by itself means to
        warnings.append(
            f"Class frequencies are changed by {_listed(shifting)} and made up for by {_listed(favoring)}: "
            "small classes may be favored twice."
        )
    if len(correcting) > 1:
        warnings.append(
            f"Class frequencies are made up for more than once, by {_listed(correcting)}: "
            "small classes may be favored too much."
        )
    if mirroring and flipping:
        warnings.append(
            f"Under the random flip of {_listed(flipping)}, the mirrored copies of {_listed(mirroring)} are "
            "plain copies: they add weight, not new images."
        )
    if over_logits and not bound.loss.over_logits:
        warnings.append(
            f"The loss {bound.loss.name!r} sees the softmax output; {_listed(over_logits)} is meant for a "
            "loss over logits."
        )
    if in_sample:
        warnings.append(
            "Predictions of a model about the rows that it was trained on under-report confusion: "
            f"{_listed(in_sample)} chooses rows by them; out-of-fold predictions do not have this fault."
        )
    epochs = bound.recipe.training.epochs
    for step in bound.steps:
        if step.strategy.acts_from >= epochs:
            warnings.append(
                f"Training has {epochs} epochs, and {step} acts from epoch {step.strategy.acts_from} on, counted "
                "from 0: it never acts."
            )
    return tuple(warnings)


def comparison_warnings(bounds: Sequence[BoundRecipe]) -> tuple[str, ...]:
    """Return a sentence for each reason why arms do not compare as simply as it looks.

    Args:
        bounds: the arms; the first is the baseline.
    """
    warnings = []
    for bound in bounds[1:]:
        settings, baseline = _settings(bound.recipe), _settings(bounds[0].recipe)
        different = [key for key, value in settings.items() if value != baseline[key]]
        if different:
            warnings.append(
                f"{bound.recipe.name} differs from {bounds[0].recipe.name} in more than its strategies, "
                f"namely in {', '.join(different)}: its result is not that of the strategies alone."
            )
    longer = [bound.recipe.name for bound in bounds if _may_train_longer(bound)]
    if longer and len(bounds) > 1:
        warnings.append(
            "With `training.budget: epochs` a larger rewritten training set is trained on for more optimizer "
            f"steps ({', '.join(longer)}): a difference may come from the length of training alone."
        )
    return tuple(warnings)


def _having(bound: BoundRecipe, effects: Effect) -> list[Step]:
    """Return the steps that declare any of some effects."""
    return [step for step in bound.steps if effects & step.strategy.effects]


def _listed(steps: Iterable[Step]) -> str:
    return " and ".join(map(str, steps))


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Return what arms should agree in, under dotted keys."""
    return dict(_flat(recipe.model_dump(include={"model", "training", "data"})))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _may_train_longer(bound: BoundRecipe) -> bool:
    rewrites = any(step.acts_at(["rewrite_training_set"]) for step in bound.steps)
    return rewrites and bound.recipe.training.budget == "epochs"
