"""What comes before runs: recipes with their plugins, trackers, the data, and checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from fer_augment.arguments import AnyRecipe, Overrides, loaded_recipes
from fer_augment.errors import PluginError, RunError
from fer_augment.hooks.observers import Observers
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.processes import cores
from fer_augment.reading import Data, loaded_plugins, open_data
from fer_augment.recipe.binding import BoundRecipe, bind, tracker_named
from fer_augment.recipe.recipe import Recipe
from fer_augment.reports.console import progress_of
from fer_augment.runs.recipe_data import RecipeData
from fer_augment.training.machine import device_of
from fer_augment.training.store import TrainingStore

RESULTS = Path("results")
"""Where results are written by default."""


def bound_recipes(recipes: AnyRecipe | Sequence[AnyRecipe], overrides: Overrides, *, quiet: bool) -> list[BoundRecipe]:
    """Load recipes with the plugins that they name.

    Raises:
        FerAugmentError: if a recipe or an override is invalid, or a plugin is missing.
    """
    return with_plugins(loaded_recipes(recipes, overrides), quiet=quiet)


def with_plugins(recipes: Iterable[Recipe], *, quiet: bool) -> list[BoundRecipe]:
    """Return recipes with the plugins that they name."""
    catalog = loaded_plugins(quiet=quiet)
    return [bind(recipe, catalog) for recipe in recipes]


def observers_of(arms: Sequence[BoundRecipe], track: str | Sequence[str], directory: Path) -> Observers:
    """Create the trackers that are asked for by name or by a recipe, each once.

    Raises:
        PluginError: if there is no such tracker.
    """
    trackers = {tracker.name: tracker for arm in arms for tracker in arm.trackers}
    for name in [track] if isinstance(track, str) else track:
        try:
            trackers[name] = tracker_named(name, installed_plugins())
        except PluginError as error:
            raise PluginError(f"track: {error}") from error
    return Observers.of(trackers.values(), directory)


def data_for(arms: Sequence[BoundRecipe], data: Data, *, progress: bool) -> RecipeData:
    """Read the data once for each size and color that the recipes ask for.

    Raises:
        DatasetError: if the data cannot be read in one of them.
    """
    source = open_data(data, progress=progress)
    recipe_data = RecipeData(source)
    for arm in arms:
        with progress_of(f"decoding {source.description}", quiet=not progress) as report:
            recipe_data.as_read(arm.recipe, report)
    return recipe_data


def checked_networks(
    arms: Sequence[BoundRecipe],
    data: RecipeData,
    store: TrainingStore,
    *,
    jobs: int | None = None,
    is_local: bool = True,
) -> tuple[list[str], int]:
    """Build the networks of recipes that have runs to do, and refuse what cannot be trained.

    Returns:
        What people should know before they wait, and the peak memory of a run in bytes, 0 if unknown.

    Raises:
        FerAugmentError: if a network cannot be trained as a recipe says.
        RecipeError: if a run does not fit into memory.
    """
    from fer_augment.runs.memory_of_runs import memory_notice, memory_of_a_run
    from fer_augment.runs.network_checks import check_networks

    notices = [*check_networks(arms, data, store)]
    memory = memory_of_a_run(arms, data, store) if is_local else 0
    too_many = memory_notice(jobs, memory) if jobs else None
    return [*notices, *([too_many] if too_many else [])], memory


def jobs_on_this_machine(recipes: Sequence[Recipe], memory: int) -> int:
    """Return how many runs fit on the processor and into memory at a time; one on an accelerator."""
    from fer_augment.runs.memory_of_runs import jobs_that_fit

    if any(device_of(recipe.training) != "cpu" for recipe in recipes):
        return 1
    threads = max(recipe.training.threads for recipe in recipes)
    jobs = max(1, cores() // threads)
    return min(jobs, jobs_that_fit(memory) or jobs)


def create_folder(directory: Path) -> None:
    """Create the directory of results, unless it exists.

    Raises:
        RunError: if it cannot be created.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{directory}: cannot be created ({error.strerror})") from error
