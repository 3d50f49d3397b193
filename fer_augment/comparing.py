"""Comparing recipes from Python: prepare, run, judge. The command line is a client of this module.

```python
import fer_augment as fa

comparison = fa.compare(["modern", "modern_balanced"], data="faces/", seeds=5)
comparison                    # in a notebook: verdicts and the recall table
comparison.to_frame()         # one tidy row per arm, split, endpoint and class
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from fer_augment.arguments import (
    AnyRecipe,
    Grid,
    Overrides,
    check_jobs,
    check_precision,
    cross_validation_of,
    directory_name,
    grid_lines,
    loaded_recipes,
    seeds_of,
)
from fer_augment.finished import Comparison
from fer_augment.prepared_comparison import MAX_SEEDS, Executor, PreparedComparison
from fer_augment.preparing import RESULTS, checked_networks, data_for, observers_of, with_plugins
from fer_augment.reading import Data
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.recipe.parameter_grid import grid_arms
from fer_augment.recipe.warnings import comparison_warnings, recipe_warnings
from fer_augment.reports.console import print_warnings, progress_of
from fer_augment.results.comparison import Against
from fer_augment.results.judgments import check_against
from fer_augment.runs.experiment import Experiment, runs_in_order
from fer_augment.runs.finished_runs import FinishedRuns
from fer_augment.runs.preflight import check_executor, preflight
from fer_augment.training.store import default_store


def compare(
    recipes: AnyRecipe | Sequence[AnyRecipe],
    data: Data,
    *,
    seeds: int | Sequence[int] | None = None,
    folds: int | None = None,
    repeats: int | None = None,
    keep_test: bool = False,
    precision: float | None = None,
    max_seeds: int = MAX_SEEDS,
    out: str | PathLike[str] | None = None,
    jobs: int | None = None,
    executor: Executor = "local",
    overrides: Overrides = (),
    grid: Grid = (),
    against: Against = "baseline",
    track: str | Sequence[str] = (),
    progress: bool = True,
) -> Comparison:
    """Compare recipes on the same data; the first one is the baseline.

    Every recipe is trained once with every seed, scored on the test split once, and compared with the baseline. With
    `folds`, all rows are divided into folds `repeats` times; every fold is held out once by a training of each recipe.
    Called again with the same arguments, it resumes: finished runs and trainings are cached.

    Args:
        recipes: names of shipped recipes, paths of recipe files, or `Recipe` objects.
        data: a data source, see docs/data.md, or `Splits`.
        seeds: how many seeds, or which; None for 3. Not with `folds`, where each training has a seed of its own.
        folds: number of folds of a cross-validation; None for a fixed test split. Given splits are joined.
        repeats: how often the rows are divided into folds; None for 2.
        keep_test: with `folds`, leave the given test split out of them; it is not scored.
        precision: half-width in points; seeds are added until the 95 % interval of each difference in balanced accuracy
            is at most this wide to either side, and at least five seeds are done, or `max_seeds` are. Not with `folds`.
        max_seeds: with `precision`, the largest number of seeds.
        out: the directory for results; None for `results/RECIPE_RECIPE…`.
        jobs: runs at a time; None for as many as cores and memory allow with the threads of a training, one on an
            accelerator, on Ray as the cluster has room for.
        executor: `local` for processes on this machine, `ray` for the cluster at `$RAY_ADDRESS`, or else a local one.
        overrides: settings for every recipe: `key=value` lines such as `training.epochs=5`, or a mapping.
        grid: settings with several values, each of which makes an arm of every recipe that has the setting:
            `key=value,value…` lines, or a mapping such as `{"strategies.power_sampler.exponent": [0.25, 0.5, 1]}`, also
            with arrays of values. Several settings are combined. The best arm is chosen on the validation split, see
            `ComparisonRecord.grid`.
        against: `all` to test every two arms, with Holm's correction over all pairs; the baseline stays the first arm.
        track: names of trackers, such as `mlflow`, in addition to those that the recipes name.
        progress: whether to show progress and warnings on stderr.

    Returns:
        The comparison; `out` holds it as `comparison.json` and `report.html`, with a directory for each run. Runs that
        failed are in `failures`.

    Raises:
        FerAugmentError: in one line, for whatever the pre-flight refuses.
        NothingFinishedError: if all runs failed.
    """
    prepared = prepare(
        recipes,
        data,
        seeds=seeds,
        folds=folds,
        repeats=repeats,
        keep_test=keep_test,
        precision=precision,
        max_seeds=max_seeds,
        out=out,
        jobs=jobs,
        executor=executor,
        overrides=overrides,
        grid=grid,
        against=against,
        track=track,
        progress=progress,
    )
    return prepared.run()


def prepare(
    recipes: AnyRecipe | Sequence[AnyRecipe],
    data: Data,
    *,
    seeds: int | Sequence[int] | None = None,
    folds: int | None = None,
    repeats: int | None = None,
    keep_test: bool = False,
    precision: float | None = None,
    max_seeds: int = MAX_SEEDS,
    out: str | PathLike[str] | None = None,
    jobs: int | None = None,
    executor: Executor = "local",
    overrides: Overrides = (),
    grid: Grid = (),
    against: Against = "baseline",
    track: str | Sequence[str] = (),
    progress: bool = True,
) -> PreparedComparison:
    """Check everything that can be checked before a comparison; nothing is trained or written.

    Args:
        recipes: as for `compare`, as are the other arguments.
        data: a data source or `Splits`.
        seeds: how many seeds, or which.
        folds: number of folds of a cross-validation.
        repeats: how often the rows are divided into folds.
        keep_test: whether the given test split is left out of the folds.
        precision: half-width in points until which seeds are added.
        max_seeds: with `precision`, the largest number of seeds.
        out: the directory for results.
        jobs: runs at a time.
        executor: `local` or `ray`.
        overrides: `key=value` settings for every recipe.
        grid: settings with several values, each of which makes an arm.
        against: `baseline` or `all`.
        track: names of trackers, in addition to those that the recipes name.
        progress: whether to show progress and warnings on stderr.

    Raises:
        FerAugmentError: in one line, for the first thing that is refused; see `runs.preflight.preflight`.
    """
    check_executor(executor)
    check_against(against)
    design = cross_validation_of(folds, repeats, keep_test, seeds)
    chosen_seeds = seeds_of(3 if seeds is None else seeds)
    check_jobs(jobs)
    of_grid = grid_arms(loaded_recipes(recipes, overrides), grid_lines(grid))
    check_precision(precision, max_seeds, chosen_seeds, len(of_grid), folds)
    arms = with_plugins([arm.recipe for arm in of_grid], quiet=not progress)
    directory = Path(out) if out is not None else RESULTS / directory_name([arm.recipe.name for arm in arms])
    observers = observers_of(arms, track, directory)
    recipe_data = data_for(arms, data, progress=progress)
    if design:
        with progress_of("dividing the data into folds", quiet=not progress) as report:
            recipe_data.divide(arms[0].recipe.data.pixels, design, report)
    store = default_store()
    notices = [*observers.failures, *preflight(arms, recipe_data, store, out=directory)]
    experiment = Experiment(recipe_data, store, directory / "runs")
    runs = runs_in_order([arm.recipe for arm in arms], chosen_seeds, design.identities if design else ())
    finished = FinishedRuns.among(runs, experiment)
    unfinished = {run.recipe.name for run, path in zip(runs, finished.paths, strict=True) if path is None}
    arms_to_do = [arm for arm in arms if arm.recipe.name in unfinished]
    memory = 0
    if arms_to_do:
        checked, memory = checked_networks(arms_to_do, recipe_data, store, jobs=jobs, is_local=executor == "local")
        notices += [*checked, *recipe_data.as_read(arms[0].recipe).omissions]
    values = {arm.recipe.name: arm.values for arm in of_grid if arm.values}
    if progress:
        print_warnings([*notices, *_warnings_before(arms, values)])
    return PreparedComparison(
        arms=tuple(arms),
        seeds=() if design else chosen_seeds,
        runs=tuple(runs),
        finished=finished,
        experiment=experiment,
        directory=directory,
        jobs=jobs,
        executor=executor,
        progress=progress,
        observers=observers,
        memory=memory,
        precision=precision,
        max_seeds=max_seeds,
        grid=values,
        against=against,
    )


def _warnings_before(arms: Sequence[BoundRecipe], grid: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return what misleads in the recipes and between them, so that people see it before they wait for the result."""
    of_arms = [f"{arm.recipe.name}: {warning}" for arm in arms for warning in recipe_warnings(arm)]
    return list(dict.fromkeys([*comparison_warnings(arms, grid), *of_arms]))
