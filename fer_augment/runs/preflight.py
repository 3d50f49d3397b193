"""The pre-flight: what can be refused is refused here, before the first training, for every entry alike.

Networks are built by `network_checks`, which needs torch: only for recipes that have runs to do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic_core import PydanticSerializationError

from fer_augment.data.splitting import without_made_splits
from fer_augment.errors import FerAugmentError, PluginError, RecipeError, RunError, excerpt
from fer_augment.hooks.declared_values import declaration_fault, missing_distribution
from fer_augment.hooks.networks import AnyModel
from fer_augment.hooks.strategy import Strategy
from fer_augment.recipe.binding import BoundRecipe, check_classes
from fer_augment.recipe.recipe import recipe_yaml
from fer_augment.results.comparison import COMPARISON_FILE, read_comparison
from fer_augment.runs.recipe_data import RecipeData
from fer_augment.training.keys import run_key
from fer_augment.training.machine import emulates_bfloat16
from fer_augment.training.store import TrainingStore


def preflight(
    arms: Sequence[BoundRecipe],
    data: RecipeData,
    store: TrainingStore,
    *,
    out: Path | None = None,
    is_comparison: bool = True,
) -> tuple[str, ...]:
    """Refuse what would fail later.

    Refused are: class names that the data does not have; data settings that leave no training rows; a device that is
    missing; packages that a strategy or the network declares and that are missing; files that a strategy declares and
    that cannot be read; an output directory that is a file, cannot be written, or holds a comparison on other data.
    Nothing is created.

    Args:
        arms: the recipes.
        data: the data as each recipe sees it.
        store: where trainings are kept.
        out: the directory for results; None if nothing is written.
        is_comparison: whether `out` is to hold a comparison; a single run is added beside what is there.

    Returns:
        A sentence for each thing that works and that people should know before they wait for it.

    Raises:
        FerAugmentError: in one line, for the first thing that is refused.
    """
    for arm in arms:
        check_classes(arm, data.as_read(arm.recipe).class_names)
        try:
            _check_declarations(arm.model, f"model {arm.model.name}")
            for step in arm.steps:
                _check_declarations(step.strategy, str(step))
            run_key(arm, 0, data.splits_for(arm.recipe, data.first_fold))
            _check_yaml(arm)
        except FerAugmentError as error:
            raise RecipeError(f"recipe {arm.recipe.name!r}: {error}") from error
    check_writable(store.root, "set FER_AUGMENT_CACHE to a directory for the cache")
    if out is not None:
        check_writable(out)
        check_writable(out / "runs")
        if is_comparison:
            _refuse_other_data(out, arms[0], data)
    return _slow_precisions(arms)


def _check_declarations(plugin: Strategy | AnyModel, name: str) -> None:
    """Refuse what a plugin declares if it is invalid, or needs something that is not installed."""
    fault = declaration_fault(plugin)
    if fault:
        raise PluginError(f"{name}: {fault}")
    missing = missing_distribution(plugin)
    if missing:
        raise PluginError(f"{name} {missing}")


def _check_yaml(arm: BoundRecipe) -> None:
    """Refuse parameters that cannot be written to the run as YAML."""
    try:
        recipe_yaml(arm.recipe)
    except (yaml.YAMLError, PydanticSerializationError) as error:
        raise RecipeError(
            "a parameter cannot be written as YAML: give numbers, strings, lists and mappings, not "
            + " ".join(str(error).split())[-100:]
        ) from error


def check_executor(executor: str) -> None:
    """Refuse an executor that does not exist or is not installed.

    Raises:
        RunError: if it is neither `local` nor `ray`, or Ray is not installed.
    """
    if executor not in ("local", "ray"):
        raise RunError(f"executor: must be 'local' or 'ray', got {executor!r}")
    if executor == "ray":
        from fer_augment.runs.ray_executor import require_ray

        require_ray()


def check_writable(directory: Path, remedy: str = "name another directory with --out") -> None:
    """Refuse a directory that cannot be created or written to, by writing to the nearest one that exists.

    Raises:
        RecipeError: if it is a file, or cannot be written.
    """
    try:
        existing = next(parent for parent in (directory, *directory.absolute().parents) if parent.exists())
    except OSError as error:
        raise RecipeError(f"{excerpt(str(directory))}: {error.strerror}; {remedy}") from error
    if not existing.is_dir():
        problem = "is a file" if existing == directory else f"cannot be created, {existing} is a file"
        raise RecipeError(f"{directory}: {problem}; {remedy}")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise RecipeError(f"{directory}: cannot be written ({error.strerror}); {remedy}") from error


def _refuse_other_data(directory: Path, arm: BoundRecipe, data: RecipeData) -> None:
    """Refuse a directory that holds a comparison on other data, or on other folds, which would be overwritten.

    Raises:
        RecipeError: if it does.
    """
    if not (directory / COMPARISON_FILE).exists():
        return
    try:
        existing = read_comparison(directory)
    except RunError:  # damaged, or of another version: it is written again
        return
    if existing.data.fingerprint == data.fingerprint(arm.recipe):
        return
    source = "".join(letter if letter.isprintable() else "?" for letter in existing.data.source)
    design = existing.cross_validation
    before = _design((design.folds, design.keeps_test) if design else None)
    settings = data.folds.settings if data.folds else None
    now = _design((settings.folds, settings.keeps_test) if settings else None)
    if without_made_splits(existing.data.source) != without_made_splits(data.as_read(arm.recipe).source):
        problem = f"holds a comparison on other data, {source}"
    elif before != now:
        problem = f"holds a comparison on {before}, not on {now}, of {source}"
    else:
        problem = (
            f"holds a comparison on {source} with other images: data.size, data.fit or data.channels was different, "
            "or the source has changed"
        )
    raise RecipeError(f"{directory}: {problem}; name another directory with --out")


def _design(folds: tuple[int, bool] | None) -> str:
    """Describe a number of folds, and whether the test split is not part of them; None is a fixed test split."""
    if folds is None:
        return "a fixed test split"
    return f"{folds[0]} folds{' without the test split' if folds[1] else ''}"


def _slow_precisions(arms: Sequence[BoundRecipe]) -> tuple[str, ...]:
    slow = [arm.recipe.name for arm in arms if emulates_bfloat16(arm.recipe.training)]
    if not slow:
        return ()
    return (
        f"{', '.join(slow)}: training.precision is bfloat16, which this machine emulates at a fraction of the speed of "
        "float32; `auto` selects what is fast",
    )
