"""A comparison that passed the pre-flight: it does its runs, judges them, and adds seeds for a precision."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fer_augment.data.audit_records import Audit, audit_warnings, warning_on_test_groups
from fer_augment.data.audit_store import audited
from fer_augment.data.dataset import Splits
from fer_augment.data.records import RunDirectory
from fer_augment.data.splitting import without_made_splits
from fer_augment.data.whole_files import write_whole
from fer_augment.doing_runs import outcomes_of
from fer_augment.errors import RunError
from fer_augment.finished import Comparison
from fer_augment.hooks.observers import Observers
from fer_augment.preparing import checked_networks, create_folder, jobs_on_this_machine
from fer_augment.reading import loaded_plugins
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.recipe.warnings import comparison_warnings
from fer_augment.reports.console import print_warnings, progress_of
from fer_augment.reports.html import write_report
from fer_augment.reports.wording import precision_sentence
from fer_augment.results.comparison import Against, ComparisonRecord, Failure, read_comparison, save_comparison
from fer_augment.results.confused_images import CONFUSED_FILE, has_confused
from fer_augment.results.earlier import holds_runs_of, keep_earlier
from fer_augment.results.verdicts import compare_runs, nothing_finished
from fer_augment.runs.executors import FailedTask, Listener, do_tasks
from fer_augment.runs.experiment import Experiment, PlannedRun, Task, runs_in_order
from fer_augment.runs.failures import with_traceback
from fer_augment.runs.finished_runs import FinishedRuns
from fer_augment.runs.ledger import ledger_warning
from fer_augment.runs.task_order import Waits
from fer_augment.runs.tracking import reason

if TYPE_CHECKING:
    from fer_augment.runs.plan import Plan

Executor: TypeAlias = Literal["local", "ray"]

MAX_SEEDS = 20
FEWEST_SEEDS = 5
"""Seeds before a precision counts as reached: with fewer, a variance that is small by chance stops too early."""
AUDIT_FILE = "audit.json"


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
        reported: the runs of an earlier round of seeds, which were reported to trackers and on stderr.
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
    reported: tuple[PlannedRun, ...] = ()

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
        if self.experiment.data.folds:
            return "Precision is not estimated for folds; see the confidence intervals after the comparison."
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
        return self.jobs or jobs_on_this_machine([arm.recipe for arm in self.arms], self.memory)

    def run(self) -> Comparison:
        """Do all runs and compare those that finished.

        Raises:
            NothingFinishedError: if none did.
            RunError: if there is no Ray cluster, or results cannot be written.
        """
        create_folder(self.directory)
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
        is_precise = all(half is not None and half <= self.precision for half in _half_widths(comparison))
        if len(self.seeds) >= FEWEST_SEEDS and (is_precise or self._is_out_of_reach(comparison)):
            return ()
        count = min(self.max_seeds, len(self.seeds) + max(1, len(self.seeds) // 4)) - len(self.seeds)
        unused = (seed for seed in itertools.count() if seed not in self.seeds)
        return tuple(itertools.islice(unused, count))

    def _is_out_of_reach(self, comparison: ComparisonRecord) -> bool:
        return comparison.seeds_for_precision.get(f"{self.precision:g}", 0) is None

    def _of_limit(self, comparison: ComparisonRecord) -> tuple[str, ...]:
        """Return a warning if `max_seeds` ended the comparison before its precision was reached."""
        if self.precision is None or len(self.seeds) < self.max_seeds or self._is_out_of_reach(comparison):
            return ()
        widest = max(filter(None, _half_widths(comparison)), default=0.0)
        if widest <= self.precision:
            return ()
        return (
            f"Stopped at {len(self.seeds)} seeds: ± {widest:.3g} points, not ± {self.precision:g}; allow more with "
            "--max-seeds.",
        )

    def _with(self, further: tuple[int, ...]) -> PreparedComparison:
        """Return the comparison with more seeds."""
        seeds = (*self.seeds, *further)
        runs = tuple(runs_in_order([arm.recipe for arm in self.arms], seeds))
        finished, memory = FinishedRuns.among(runs, self.experiment), self.memory
        if not all(finished.paths):  # so far only arms that had runs to do were estimated
            _, memory = checked_networks(
                self.arms, self.experiment.data, self.experiment.store, is_local=self.executor == "local"
            )
        return replace(self, seeds=seeds, runs=runs, finished=finished, memory=memory, reported=self.runs)

    def _notify(self, event: str, **arguments: object) -> None:
        failures = self.observers.notify(event, **arguments)
        if self.progress:
            print_warnings(failures)

    def _done(self) -> ComparisonRecord:
        audit = self._audited()
        notices = self.finished.remove_damaged()
        if self.progress:
            print_warnings([*(() if self.reported else self._warnings_of(audit)), *notices])
        outcomes = outcomes_of(
            self.runs,
            self.finished,
            () if all(self.finished.paths) else self.plan.tasks,
            self._outcomes_of_tasks,
            self.experiment,
            self.observers,
            self.directory,
            reported=self.reported,
            progress=self.progress,
        )
        finished: dict[str, list[RunDirectory]] = {arm.recipe.name: [] for arm in self.arms}
        failures = []
        for run, outcome in zip(self.runs, outcomes, strict=True):
            if isinstance(outcome, FailedTask):
                failure = Failure(recipe=run.recipe.name, seed=run.seed, fold=run.fold, message=outcome.message)
                failures.append(failure)
            else:
                finished[run.recipe.name].append(RunDirectory(outcome))
        if len(failures) == len(self.runs):
            raise with_traceback(nothing_finished(failures), self.directory, self.runs[0])
        comparison = self._judged(finished, failures, audit)
        warnings = (*comparison.warnings, *self._of_limit(comparison))
        comparison = comparison.model_copy(update={"warnings": warnings})
        # Until the last round, a comparison in the directory that has these runs, and maybe more, is left as it is.
        if not (self._further_seeds(comparison) and holds_runs_of(comparison, self.directory)):
            self._save(comparison, finished)
        return comparison

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
        source = data.as_read(first).source
        scored = ledger_warning(self.experiment.ledger.count(data.scored(first)), len(self.arms))
        counts = {name: part.counts for name, part in self.splits.parts.items()}
        return compare_runs(
            finished,
            baseline=first.name,
            source=without_made_splits(source) if data.folds else source,
            fingerprint=data.fingerprint(first),
            counts={**counts, "test": data.scored_counts(first)},
            audit=audit.summary,
            failures=failures,
            warnings=[
                *filter(None, [self.experiment.ledger.fault(data.scored(first))]),
                *self._warnings_of(audit),
                *self.splits.omissions,
                *loaded_plugins(quiet=True).problems,
                *self.observers.failures,
                *comparison_warnings(self.arms, self.grid),
                *([scored] if scored else []),
            ],
            near_train=None if data.folds else audit.held_out_near_train_rows["test"],
            precisions=() if self.precision is None else (self.precision,),
            grid=self.grid,
            against=self.against,
        )

    def _save(self, comparison: ComparisonRecord, finished: Mapping[str, Sequence[RunDirectory]]) -> None:
        """Write the comparison, its images and the report; move one that has other runs away before."""
        kept = keep_earlier(comparison, self.directory)
        if kept and self.progress:
            print_warnings([kept])
        save_comparison(comparison, self.directory)
        pairs = [(watched.true, watched.predicted) for arm in comparison.arms for watched in arm.watched]
        if not has_confused(self.directory / CONFUSED_FILE, finished, pairs):
            from fer_augment.runs.galleries import collect_confused

            collect_confused(self.experiment.data, finished, pairs, self.directory / CONFUSED_FILE)
        write_report(self.directory)

    def _audited(self) -> Audit:
        """Audit the data, unless the cache has their audit."""
        with progress_of("auditing the data", quiet=not self.progress) as report:
            return audited(self.splits, report)

    def _warnings_of(self, audit: Audit) -> tuple[str, ...]:
        """Return warnings about images and groups that splits share or that tests take apart; folds do neither."""
        if self.experiment.data.folds:
            return ()
        of_groups = warning_on_test_groups(self.splits.test)
        return (*audit_warnings(audit), *([of_groups] if of_groups else []))


def _half_widths(comparison: ComparisonRecord) -> list[float | None]:
    """Return half of the 95 % interval of each difference in balanced accuracy, in points; None without an interval."""
    intervals = [one.balanced_accuracy.ci95 for one in comparison.tests]
    return [50 * (ci95[1] - ci95[0]) if ci95 else None for ci95 in intervals]
