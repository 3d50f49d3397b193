"""Comparing recipes from Python: prepare, run, judge. The command line is a client of this module.

```python
import fer_augment as fa

comparison = fa.compare(["modern", "modern_balanced"], data="faces/", seeds=5)
comparison                    # in a notebook: verdicts and the recall table
comparison.to_frame()         # one tidy row per arm, split, endpoint and class
```
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

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
    seed_of,
    seeds_of,
)
from fer_augment.data.audit import Audit, audit_warnings
from fer_augment.data.audit_store import audited
from fer_augment.data.dataset import Splits
from fer_augment.data.records import RunDirectory, write_whole
from fer_augment.errors import NothingFinishedError, PluginError, RunError
from fer_augment.finished import Comparison, Run
from fer_augment.hooks.observers import Observers
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.processes import cores
from fer_augment.progress import Cached
from fer_augment.reading import Data, loaded_plugins, open_data
from fer_augment.recipe.binding import BoundRecipe, bind, tracker_named
from fer_augment.recipe.parameter_grid import grid_arms
from fer_augment.recipe.recipe import Recipe
from fer_augment.recipe.warnings import comparison_warnings, recipe_warnings
from fer_augment.reports.console import print_warnings, progress_of, progress_of_activities
from fer_augment.reports.html import write_report
from fer_augment.reports.run_progress import RunProgress
from fer_augment.reports.wording import precision_sentence
from fer_augment.results.comparison import Against, ComparisonRecord, Failure, read_comparison, save_comparison
from fer_augment.results.confused_images import CONFUSED_FILE, has_confused
from fer_augment.results.earlier import keep_earlier
from fer_augment.results.judgments import check_against
from fer_augment.results.verdicts import compare_runs, nothing_finished
from fer_augment.runs.executors import FailedTask, Listener, do_tasks
from fer_augment.runs.experiment import Experiment, PlannedRun, Task, runs_in_order
from fer_augment.runs.failures import keep_traceback, traceback_file
from fer_augment.runs.finished_runs import FinishedRuns
from fer_augment.runs.ledger import ledger_warning
from fer_augment.runs.preflight import check_executor, preflight
from fer_augment.runs.recipe_data import RecipeData
from fer_augment.runs.task_order import Waits
from fer_augment.runs.tracking import Tracking, reason
from fer_augment.training.machine import device_of
from fer_augment.training.store import TrainingStore, default_store

if TYPE_CHECKING:
    from fer_augment.runs.plan import Plan, PlannedTask
    from fer_augment.runs.rewriting import Rewriting

Executor: TypeAlias = Literal["local", "ray"]

RESULTS = Path("results")
MAX_SEEDS = 20
FEWEST_SEEDS = 5
"""Seeds before a precision counts as reached: with fewer, a variance that is small by chance stops too early."""
AUDIT_FILE = "audit.json"


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
        jobs: runs at a time; None for as many as there are processor cores, on Ray as the cluster has room for.
        executor: `local` for processes on this machine, `ray` for the cluster at `$RAY_ADDRESS`, or else a local one.
        overrides: settings for every recipe: `key=value` lines such as `training.epochs=5`, or a mapping.
        grid: settings with several values, each of which makes an arm of every recipe that has the setting:
            `key=value,value…` lines, or a mapping such as `{"strategies.power_sampler.exponent": [0.25, 0.5, 1]}`.
            Several settings are combined. The best arm is chosen on the validation split, see `ComparisonRecord.grid`.
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
    arms = _with_plugins([arm.recipe for arm in of_grid], quiet=not progress)
    directory = Path(out) if out is not None else RESULTS / directory_name([arm.recipe.name for arm in arms])
    observers = _observers(arms, track, directory)
    recipe_data = _read_for(arms, data, progress=progress)
    if design:
        with progress_of("dividing the data into folds", quiet=not progress) as report:
            recipe_data.divide(arms[0].recipe, design, report)
    store = default_store()
    notices = [*observers.failures, *preflight(arms, recipe_data, store, out=directory)]
    experiment = Experiment(recipe_data, store, directory / "runs")
    runs = runs_in_order([arm.recipe for arm in arms], chosen_seeds, design.identities if design else ())
    finished = FinishedRuns.among(runs, experiment)
    unfinished = {run.recipe.name for run, path in zip(runs, finished.paths, strict=True) if path is None}
    arms_to_do = [arm for arm in arms if arm.recipe.name in unfinished]
    memory = 0
    if arms_to_do:
        checked, memory = _checked(arms_to_do, recipe_data, store, jobs=jobs, is_local=executor == "local")
        notices += checked
    if progress:
        print_warnings([*notices, *_warnings_before(arms)])
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
        grid={arm.recipe.name: arm.values for arm in of_grid if arm.values},
        against=against,
    )


@dataclass(frozen=True, eq=False)
class PreparedComparison:
    """A comparison that passed the pre-flight.

    Attributes:
        arms: the recipes with their plugins, the baseline first.
        seeds: the seeds; empty for a cross-validation, whose folds have seeds of their own.
        runs: the runs, an arm after the other.
        finished: which of the runs are finished.
        experiment: data, cache and folder of the runs.
        directory: where results are written.
        jobs: runs at a time; None for the default.
        executor: where runs are done.
        progress: whether to show progress on stderr.
        observers: the trackers.
        memory: estimated peak memory of a run, in bytes; 0 if unknown.
        precision: half-width in points until which seeds are added; None for no more than `seeds`.
        max_seeds: with `precision`, the largest number of seeds.
        grid: the values of each arm of a grid by dotted key; empty without a grid.
        against: `all` to test every two arms.
    """

    arms: tuple[BoundRecipe, ...]
    seeds: tuple[int, ...]
    runs: tuple[PlannedRun, ...]
    finished: FinishedRuns
    experiment: Experiment
    directory: Path
    jobs: int | None
    executor: Executor
    progress: bool
    observers: Observers
    memory: int = 0
    precision: float | None = None
    max_seeds: int = MAX_SEEDS
    grid: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    against: Against = "baseline"

    def __repr__(self) -> str:
        """Name recipes, seeds and directory."""
        recipes = ", ".join(arm.recipe.name for arm in self.arms)
        folds = self.experiment.data.folds
        design = f"{folds.settings.repeats} x {folds.settings.folds} folds" if folds else f"{len(self.seeds)} seeds"
        return f"PreparedComparison({recipes}; {design}; {self.directory})"

    @property
    def splits(self) -> Splits:
        """The data as read for the baseline; of a cross-validation, those of the first fold."""
        return self.experiment.data.splits_of(self.arms[0].recipe, self.experiment.data.first_fold)

    @property
    def precision_so_far(self) -> str:
        """How precise the results in the directory are, and how many seeds more precision would take."""
        try:
            earlier = read_comparison(self.directory)
        except RunError:  # there is none, or one that nobody can read
            earlier = None
        recipes = [arm.recipe.name for arm in self.arms]
        if earlier and [arm.recipe for arm in earlier.arms] == recipes and (sentence := precision_sentence(earlier)):
            return sentence
        return "Precision, and the seeds that it takes, are known after a comparison of two recipes with two seeds."

    @cached_property
    def plan(self) -> Plan:
        """The trainings that the runs need, and which of them are cached."""
        from fer_augment.runs.plan import plan

        return plan(self.runs, self.experiment, self.finished)

    @property
    def local_jobs(self) -> int:
        """Runs at a time on this machine: as given, or one on an accelerator, else as cores and memory allow."""
        return self.jobs or _jobs([arm.recipe for arm in self.arms], self.memory)

    def run(self) -> Comparison:
        """Do all runs and compare those that finished.

        Raises:
            NothingFinishedError: if none did.
            RunError: if there is no Ray cluster, or results cannot be written.
        """
        _create(self.directory)
        recipes = [arm.recipe.name for arm in self.arms]
        self._notify("comparison_started", recipes=recipes, seeds=self.seeds, source=self.splits.source)
        try:
            prepared, record = self, self._done()
            while further := prepared._further_seeds(record):
                prepared = prepared._with(further)
                record = prepared._done()
            comparison = Comparison.at(self.directory, record)
        except BaseException as error:
            self._notify("comparison_failed", message=reason(error))
            raise
        self._notify("comparison_finished", comparison=comparison)
        return comparison

    def _further_seeds(self, comparison: ComparisonRecord) -> tuple[int, ...]:
        """Return seeds to add for the precision, a quarter of those so far; none if it is reached or cannot be."""
        if self.precision is None or comparison.failures or len(self.seeds) >= self.max_seeds:
            return ()
        intervals = [one.balanced_accuracy.ci95 for one in comparison.tests]
        is_precise = all(ci95 and 100 * (ci95[1] - ci95[0]) / 2 <= self.precision for ci95 in intervals)
        is_out_of_reach = comparison.seeds_for_precision.get(f"{self.precision:g}", 0) is None
        if len(self.seeds) >= FEWEST_SEEDS and (is_precise or is_out_of_reach):
            return ()
        count = min(self.max_seeds, len(self.seeds) + max(1, len(self.seeds) // 4)) - len(self.seeds)
        unused = (seed for seed in itertools.count() if seed not in self.seeds)
        return tuple(itertools.islice(unused, count))

    def _with(self, further: tuple[int, ...]) -> PreparedComparison:
        """Return the comparison with more seeds."""
        seeds = (*self.seeds, *further)
        runs = tuple(runs_in_order([arm.recipe for arm in self.arms], seeds))
        return replace(self, seeds=seeds, runs=runs, finished=FinishedRuns.among(runs, self.experiment))

    def _notify(self, event: str, **arguments: object) -> None:
        failures = self.observers.notify(event, **arguments)
        if self.progress:
            print_warnings(failures)

    def _done(self) -> ComparisonRecord:
        audit = self._audited()
        notices = self.finished.remove_damaged()
        if self.progress:
            print_warnings([*audit_warnings(audit), *notices])
        planned = () if all(self.finished.paths) else self.plan.tasks
        with (
            RunProgress(
                [one.task for one in planned],
                self.splits.class_names,
                weights=[one.weight for one in planned],
                quiet=not self.progress,
            ) as display,
            Tracking(self.observers, display, self.experiment.identify) as tracking,
        ):
            outcomes = self._outcomes(planned, tracking)
        finished: dict[str, list[RunDirectory]] = {arm.recipe.name: [] for arm in self.arms}
        failures = []
        for run, outcome in zip(self.runs, outcomes, strict=True):
            if isinstance(outcome, FailedTask):
                failure = Failure(recipe=run.recipe.name, seed=run.seed, fold=run.fold, message=outcome.message)
                failures.append(failure)
                keep_traceback(self.directory, run, outcome.details)
            else:
                finished[run.recipe.name].append(RunDirectory(outcome))
                keep_traceback(self.directory, run, "")
        if len(failures) == len(self.runs):
            raise _with_traceback(nothing_finished(failures), self.directory, self.runs[0])
        return self._judged(finished, failures, audit)

    def _outcomes(self, planned: Sequence[PlannedTask], listener: Listener[Task]) -> list[Path | FailedTask]:
        """Do the runs that are not finished; return the directory of every run, or why there is none."""
        for run, path in zip(self.runs, self.finished.paths, strict=True):
            if path:
                listener.started(run)
                listener.progressed(run, Cached("run"))
                listener.ended(run, path)
        tasks, waits = [one.task for one in planned], [one.waits for one in planned]
        outcomes = self._outcomes_of_tasks(tasks, waits, listener) if tasks else []
        done = iter(outcome for task, outcome in zip(tasks, outcomes, strict=True) if isinstance(task, PlannedRun))
        return [path or next(done) for path in self.finished.paths]

    def _outcomes_of_tasks(
        self, tasks: Sequence[Task], waits: Waits, listener: Listener[Task]
    ) -> list[Path | FailedTask]:
        if self.executor == "ray":
            from fer_augment.runs.remote_runs import do_runs_on_ray

            return do_runs_on_ray(self.experiment, tasks, listener, self.jobs, waits=waits)
        return do_tasks(self.experiment, tasks, self.local_jobs, listener, waits=waits, isolated=True)

    def _judged(
        self, finished: dict[str, list[RunDirectory]], failures: list[Failure], audit: Audit
    ) -> ComparisonRecord:
        write_whole(self.directory / AUDIT_FILE, audit.model_dump_json(indent=1) + "\n")
        data, first = self.experiment.data, self.arms[0].recipe
        scored = ledger_warning(self.experiment.ledger.count(data.scored(first)), len(self.arms))
        counts = {name: part.counts for name, part in self.splits.parts.items()}
        comparison = compare_runs(
            finished,
            baseline=first.name,
            source=data.as_read(first).source,
            fingerprint=data.fingerprint(first),
            counts={**counts, "test": data.scored_counts(first)},
            audit=audit.summary,
            failures=failures,
            warnings=[
                *filter(None, [self.experiment.ledger.fault(data.scored(first))]),
                *audit_warnings(audit),
                *loaded_plugins(quiet=True).problems,
                *self.observers.failures,
                *comparison_warnings(self.arms),
                *([scored] if scored else []),
            ],
            near_train=None if data.folds else audit.held_out_near_train_rows["test"],
            precisions=() if self.precision is None else (self.precision,),
            grid=self.grid,
            against=self.against,
        )
        kept = keep_earlier(comparison, self.directory)
        if kept and self.progress:
            print_warnings([kept])
        save_comparison(comparison, self.directory)
        pairs = [(watched.true, watched.predicted) for arm in comparison.arms for watched in arm.watched]
        if not has_confused(self.directory / CONFUSED_FILE, finished, pairs):
            from fer_augment.runs.galleries import collect_confused

            collect_confused(self.experiment.data, finished, pairs, self.directory / CONFUSED_FILE)
        write_report(self.directory)
        return comparison

    def _audited(self) -> Audit:
        """Audit the data, unless the cache has their audit."""
        with progress_of("auditing the data", quiet=not self.progress) as report:
            return audited(self.splits, report)


def run(
    recipe: AnyRecipe,
    data: Data,
    *,
    seed: int = 0,
    out: str | PathLike[str] = RESULTS,
    overrides: Overrides = (),
    track: str | Sequence[str] = (),
    progress: bool = True,
) -> Run:
    """Train one recipe with one seed and score it on the test split once.

    A single run gives no verdict on a recipe: use `compare` for that.

    Args:
        recipe: the name of a shipped recipe, the path of a recipe file, or a `Recipe`.
        data: a data source or `Splits`.
        seed: the seed of the run.
        out: the run's directory is created below `out/runs`.
        overrides: `key=value` settings, such as `training.epochs=5`.
        track: names of trackers, in addition to those that the recipe names.
        progress: whether to show progress and warnings on stderr.

    Raises:
        FerAugmentError: in one line, for whatever the pre-flight refuses.
        RunError: if the run fails; its traceback is in `out/failures`, and in the `__notes__` of the error.
    """
    from fer_augment.runs.plan import PlannedTask, plan

    chosen_seed = seed_of(seed)
    (arm,) = _bound([recipe], overrides, quiet=not progress)
    observers = _observers([arm], track, Path(out))
    directory, recipe_data, store = Path(out), _read_for([arm], data, progress=progress), default_store()
    notices = [*observers.failures, *preflight([arm], recipe_data, store, out=directory, is_comparison=False)]
    checked, memory = _checked([arm], recipe_data, store)
    if progress:
        print_warnings([*notices, *checked, *recipe_warnings(arm)])
    task = PlannedRun(arm.recipe, chosen_seed)
    _create(directory)
    experiment = Experiment(recipe_data, store, directory / "runs")
    finished = FinishedRuns.among([task], experiment)
    damaged = finished.remove_damaged()
    if progress:
        print_warnings(damaged)
    planned = plan([task], experiment, finished).tasks or (PlannedTask(task),)
    tasks, waits = [one.task for one in planned], [one.waits for one in planned]
    jobs = _jobs([arm.recipe], memory)
    with (
        RunProgress(
            tasks,
            recipe_data.as_read(arm.recipe).class_names,
            weights=[one.weight for one in planned],
            quiet=not progress,
        ) as display,
        Tracking(observers, display, experiment.identify) as tracking,
    ):
        outcome = do_tasks(experiment, tasks, jobs, tracking, waits=waits)[-1]
    if isinstance(outcome, FailedTask):
        keep_traceback(directory, task, outcome.details)
        raise _with_traceback(NothingFinishedError(f"{task} failed: {outcome.message}"), directory, task)
    keep_traceback(directory, task, "")
    return Run(outcome)


def rewrite(
    recipe: AnyRecipe, data: Data, *, seed: int = 0, overrides: Overrides = (), progress: bool = True
) -> Rewriting:
    """Rewrite the training set as a recipe does, and train nothing but the scouts that its strategies query.

    Args:
        recipe: the name of a shipped recipe, the path of a recipe file, or a `Recipe`.
        data: a data source or `Splits`.
        seed: the seed.
        overrides: `key=value` settings, such as `training.epochs=5`.
        progress: whether to show progress and warnings on stderr.

    Returns:
        The training set before and after, with the provenance of every row, and the effect of each step.

    Raises:
        FerAugmentError: in one line, for whatever the pre-flight refuses.
        RunError: if the training of a scout fails.
        StrategyError: if a strategy fails.
    """
    from fer_augment.runs.rewriting import rewriting_of
    from fer_augment.training.trainings import Trainings

    chosen_seed = seed_of(seed)
    (arm,) = _bound([recipe], overrides, quiet=not progress)
    recipe_data, store = _read_for([arm], data, progress=progress), default_store()
    preflight([arm], recipe_data, store)
    _checked([arm], recipe_data, store, is_local=False)
    with progress_of_activities(quiet=not progress) as report:
        trainings = Trainings(recipe_data.splits_for(arm.recipe), chosen_seed, store, report, cores=cores())
        return rewriting_of(trainings.of(arm))


def _with_traceback(error: NothingFinishedError, directory: Path, run: PlannedRun) -> NothingFinishedError:
    """Return an error that names the file with the traceback of a run, and has it as a note."""
    file = traceback_file(directory, run.recipe.name, run.seed)
    if not file.is_file():
        return error
    named = NothingFinishedError(f"{error} (traceback: {file})")
    named.add_note(file.read_text(encoding="utf-8"))
    return named


def _warnings_before(arms: Sequence[BoundRecipe]) -> list[str]:
    """Return what misleads in the recipes and between them, so that people see it before they wait for the result."""
    of_arms = [f"{arm.recipe.name}: {warning}" for arm in arms for warning in recipe_warnings(arm)]
    return list(dict.fromkeys([*comparison_warnings(arms), *of_arms]))


def _checked(
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
    """
    from fer_augment.runs.memory_of_runs import memory_notice, memory_of_a_run
    from fer_augment.runs.network_checks import check_networks

    notices = [*check_networks(arms, data, store)]
    memory = memory_of_a_run(arms, data, store) if is_local else 0
    too_many = memory_notice(jobs, memory) if jobs else None
    return [*notices, *([too_many] if too_many else [])], memory


def _read_for(arms: Sequence[BoundRecipe], data: Data, *, progress: bool) -> RecipeData:
    """Read the data once for each size and color that the recipes ask for."""
    source = open_data(data, progress=progress)
    recipe_data = RecipeData(source)
    for arm in arms:
        with progress_of(f"decoding {source.description}", quiet=not progress) as report:
            recipe_data.as_read(arm.recipe, report)
    return recipe_data


def _bound(recipes: AnyRecipe | Sequence[AnyRecipe], overrides: Overrides, *, quiet: bool) -> list[BoundRecipe]:
    """Load recipes with the plugins that they name."""
    return _with_plugins(loaded_recipes(recipes, overrides), quiet=quiet)


def _with_plugins(recipes: Iterable[Recipe], *, quiet: bool) -> list[BoundRecipe]:
    catalog = loaded_plugins(quiet=quiet)
    return [bind(recipe, catalog) for recipe in recipes]


def _observers(arms: Sequence[BoundRecipe], track: str | Sequence[str], directory: Path) -> Observers:
    """Create the trackers that are asked for by name or by a recipe, each once."""
    trackers = {tracker.name: tracker for arm in arms for tracker in arm.trackers}
    for name in [track] if isinstance(track, str) else track:
        try:
            trackers[name] = tracker_named(name, installed_plugins())
        except PluginError as error:
            raise PluginError(f"track: {error}") from error
    return Observers.of(trackers.values(), directory)


def _jobs(recipes: Sequence[Recipe], memory: int) -> int:
    """Return how many runs fit on the processor and into memory at a time; one on an accelerator."""
    from fer_augment.runs.memory_of_runs import jobs_that_fit

    if any(device_of(recipe.training) != "cpu" for recipe in recipes):
        return 1
    threads = max(recipe.training.threads for recipe in recipes)
    jobs = max(1, cores() // threads)
    return min(jobs, jobs_that_fit(memory) or jobs)


def _create(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{directory}: cannot be created ({error.strerror})") from error
