"""Warnings about valid but misleading recipes and comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fer_augment.hooks.pipeline import Step
from fer_augment.hooks.stages import STAGES
from fer_augment.hooks.strategy import Effect
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.recipe.recipe import Recipe


def recipe_warnings(bound: BoundRecipe) -> tuple[str, ...]:
    """Return a warning for each misleading combination of steps in a recipe."""
    shifting, favoring = _having(bound, Effect.SHIFTS_CLASS_PRIOR), _having(bound, Effect.FAVORS_SMALL_CLASSES)
    correcting = _having(bound, Effect.CORRECTS_CLASS_PRIOR | Effect.FAVORS_SMALL_CLASSES)
    mirroring, flipping = _having(bound, Effect.MIRRORED_COPIES), _having(bound, Effect.RANDOM_FLIP)
    over_logits, in_sample = _having(bound, Effect.NEEDS_RAW_LOGITS), _having(bound, Effect.IN_SAMPLE_MINING)
    warnings = []
    if favoring and set(shifting) - set(favoring):  # a step with both effects intends this
        warnings.append(
            f"Class frequencies are changed by {_listed(shifting)}, and small classes are favored by "
            f"{_listed(favoring)}: they may be favored twice."
        )
    if len(correcting) > 1:
        warnings.append(
            f"Class frequencies are corrected more than once, by {_listed(correcting)}: "
            "small classes may be favored too much."
        )
    if mirroring and flipping:
        warnings.append(
            f"With the random flip of {_listed(flipping)}, the mirrored copies of {_listed(mirroring)} equal plain "
            "copies: they add weight, but no new images."
        )
    if over_logits and not bound.loss.over_logits:
        warnings.append(
            f"The loss {bound.loss.name!r} uses the softmax output, but {_listed(over_logits)} requires a "
            "loss over logits."
        )
    if in_sample:
        warnings.append(
            f"In-sample predictions under-report confusion, and {_listed(in_sample)} selects rows by them; "
            "out-of-fold predictions avoid this."
        )
    mixing = [step for step in _having(bound, Effect.SOFT_TARGETS) if step.acts_at(["augment_batch"])]
    following = _having(bound, Effect.USES_HISTORY)
    if mixing and following:
        warnings.append(
            f"{_listed(following)} uses the last outputs for each training row, and these are for images that "
            f"{_listed(mixing)} has mixed: they say little of the row itself."
        )
    for step in bound.steps:
        if not step.acts_at(STAGES):
            warnings.append(f"With these parameters, {step} acts at no stage (see its `idle_at`): it has no effect.")
    return (*warnings, *_warnings_on_epochs(bound))


def _warnings_on_epochs(bound: BoundRecipe) -> Iterator[str]:
    """Yield a warning for each setting of epochs with which something never acts."""
    training = bound.recipe.training
    epochs, keeps_best = training.epochs, training.keep == "best"
    if keeps_best and training.evaluate_every >= epochs:
        yield (
            "With `keep: best`, there is a single evaluation to choose from: set `training.evaluate_every` below "
            f"training.epochs, {epochs}."
        )
    trains_again = any(step.acts_at(["refine_model"]) for step in bound.steps)
    for step in bound.steps:
        if step.strategy.acts_from == epochs and trains_again:
            continue  # from the beginning of the second stage, in which epoch numbers continue
        if step.strategy.acts_from >= epochs:
            when = "it acts late in the second stage, or never" if trains_again else "it never acts"
            yield (
                f"Training has only {epochs} {'epoch' if epochs == 1 else 'epochs'}, but {step} starts at epoch "
                f"{step.strategy.acts_from}, counted from 0: {when}."
            )
        elif keeps_best and step.strategy.acts_from >= training.evaluate_every:
            yield (
                f"With `keep: best`, the weights of an epoch before {step} starts, at epoch "
                f"{step.strategy.acts_from} counted from 0, may be kept."
            )


def comparison_warnings(
    bounds: Sequence[BoundRecipe], grid: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[str, ...]:
    """Return a warning for each reason why differences between arms may mislead.

    Args:
        bounds: the arms; the first is the baseline.
        grid: the values of each arm of a grid by dotted key; these settings are meant to differ.
    """
    varied = tuple({_setting(key) for values in (grid or {}).values() for key in values})
    warnings = []
    for bound in bounds[1:]:
        settings, baseline = _settings(bound.recipe), _settings(bounds[0].recipe)
        different = [
            key
            for key in {**baseline, **settings}
            if settings.get(key) != baseline.get(key) and not f"{key}.".startswith(varied)
        ]
        if different:
            warnings.append(
                f"{bound.recipe.name} differs from {bounds[0].recipe.name} not only in its strategies, but also in "
                f"{', '.join(different)}: differences are not due to the strategies alone."
            )
    longer = [bound.recipe.name for bound in bounds if _may_train_longer(bound)]
    if longer and len(bounds) > 1:
        warnings.append(
            "With `training.budget: epochs`, a larger rewritten training set is trained for more optimizer steps "
            f"({', '.join(longer)}): differences may be due to the length of training alone."
        )
    return tuple(warnings)


def _having(bound: BoundRecipe, effects: Effect) -> list[Step]:
    """Return the steps that declare any of the given effects."""
    return [step for step in bound.steps if effects & step.strategy.effects]


def _listed(steps: Iterable[Step]) -> str:
    return " and ".join(map(str, steps))


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings in which arms should agree, by dotted key: all that may change results."""
    model = {"model": recipe.model.name, **{f"model.{key}": value for key, value in recipe.model.parameters.items()}}
    settings = recipe.model_dump(include={"training", "data"}, exclude={"training": {"workers"}})
    return {**model, **dict(_flat(settings))}


def _setting(key: str) -> str:
    """Return a key of a grid as the beginning of keys of `_settings`, with a dot at the end."""
    kind, *names = key.split(".")
    return ".".join([kind, *(names[1:] if kind == "model" else names), ""])


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _may_train_longer(bound: BoundRecipe) -> bool:
    rewrites = any(step.acts_at(["rewrite_training_set"]) for step in bound.steps)
    return rewrites and bound.recipe.training.budget == "epochs"
