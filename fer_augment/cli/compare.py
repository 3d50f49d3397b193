"""`fer-augment compare` and `fer-augment demo`: the main job."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from fer_augment.cli._console import messages, progress_of, results
from fer_augment.cli._runs import (
    RunProgress,
    Seeds,
    data_option,
    default_jobs,
    do_runs,
    executor_option,
    jobs_option,
    json_option,
    make_folder,
    read_data,
    refuse_missing,
    refuse_taken,
    set_option,
    warn_of_emulation,
)
from fer_augment.errors import RecipeError, RunError

if TYPE_CHECKING:
    from fer_augment.data.dataset import Splits
    from fer_augment.data.records import RunDirectory
    from fer_augment.recipe.binding import BoundRecipe
    from fer_augment.results.comparison import ComparisonRecord, Failure
    from fer_augment.runs.experiment import Experiment, PlannedRun

DEMO_RECIPES = ("demo", "demo_mirror", "demo_balanced")
DEMO_SEEDS = 3
_LONGEST_NAME = 80
_DIGEST_LETTERS = 8


@click.command(no_args_is_help=True)
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@data_option
@click.option("--seeds", type=Seeds(), default="3", show_default=True, help="How many seeds, or a list such as 0,3,7.")
@click.option("--out", type=click.Path(path_type=Path), help="Where results go.  [default: results/RECIPE_RECIPE…]")
@jobs_option
@executor_option
@set_option
@click.option("--dry-run", is_flag=True, help="Only tell which trainings are needed and which are there already.")
@json_option
def compare(
    recipes: tuple[str, ...],
    source: str,
    seeds: tuple[int, ...],
    out: Path | None,
    jobs: int | None,
    executor: str,
    overrides: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    r"""Compare recipes on the same data; the first one is the baseline.

    Every recipe is trained once with every seed. Called again with the same words it goes on where it stopped; a
    changed recipe or version is a new run, and other data need another OUT. Results: a table, OUT/comparison.json,
    OUT/report.html, and a directory for each run.

    \b
    fer-augment compare paper confusion_mirror --data fer2013.csv --seeds 10
    fer-augment compare modern my_idea.yaml --data faces.zip --seeds 5 --set training.epochs=10
    fer-augment compare paper smote --data demo --dry-run
    """
    refuse_missing(executor)
    comparing = _Comparing.prepared(recipes, source, seeds, overrides, out)
    if dry_run:
        _print_plan(comparing, jobs or default_jobs([bound.recipe for bound in comparing.arms]), as_json=as_json)
        return
    _finish(comparing.run(executor, jobs), comparing.folder, as_json=as_json)


@click.command(short_help="The whole job on drawn faces, in one to three minutes.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("results/demo"), show_default=True,
    help="Where results go.",
)  # fmt: skip
@jobs_option
@executor_option
@json_option
def demo(out: Path, jobs: int | None, executor: str, as_json: bool) -> None:
    r"""Do the whole job on drawn faces, in one to three minutes: three recipes, three seeds, a table and a report.

    The faces are drawn by a seeded generator in FER2013's seven classes, with its imbalance. The recipes are a plain
    baseline, the mirroring of Sad taken for Neutral, and balanced sampling; `fer-augment recipes show demo_mirror`
    shows one.

    \b
    fer-augment demo
    fer-augment demo --out faces --jobs 1
    """
    refuse_missing(executor)
    comparing = _Comparing.prepared(DEMO_RECIPES, "demo", tuple(range(DEMO_SEEDS)), (), out)
    _finish(comparing.run(executor, jobs), comparing.folder, as_json=as_json)


@dataclass(frozen=True)
class _Comparing:
    """A comparison that is about to be made; whatever can be refused was."""

    arms: list[BoundRecipe]
    seeds: tuple[int, ...]
    splits: Splits
    folder: Path
    warnings: tuple[str, ...]

    @classmethod
    def prepared(
        cls,
        names: Sequence[str],
        source: str,
        seeds: tuple[int, ...],
        overrides: Sequence[str],
        out: Path | None,
    ) -> _Comparing:
        from fer_augment.hooks.plugin_manager import installed_plugins
        from fer_augment.recipe.binding import bind, check_classes
        from fer_augment.recipe.recipe import load_recipes
        from fer_augment.recipe.warnings import comparison_warnings

        recipes = load_recipes(names, overrides)
        catalog = installed_plugins()
        arms = [bind(recipe, catalog) for recipe in recipes]
        folder = out or Path("results") / _folder_name([recipe.name for recipe in recipes])
        refuse_taken(folder)
        splits = read_data(catalog, source)
        _refuse_other_data(folder, splits)
        for arm in arms:
            check_classes(arm, splits.class_names)
            arm.model.build(splits.train.image_shape, len(splits.class_names))  # refuses images that are too small
        return cls(arms, seeds, splits, folder, (*catalog.problems, *comparison_warnings(arms)))

    @property
    def experiment(self) -> Experiment:
        from fer_augment.runs.experiment import Experiment
        from fer_augment.training.store import default_store

        return Experiment(self.splits, default_store(), self.folder / "runs")

    @property
    def runs(self) -> list[PlannedRun]:
        from fer_augment.runs.experiment import runs_in_order

        return runs_in_order([arm.recipe for arm in self.arms], self.seeds)

    def run(self, executor: str, jobs: int | None) -> ComparisonRecord:
        """Do all runs and compare those that finished.

        Raises:
            NothingFinishedError: if none did.
            RecipeError: if nothing can be written where results go.
        """
        from fer_augment.data.records import RunDirectory
        from fer_augment.results.comparison import Failure
        from fer_augment.results.verdicts import nothing_finished
        from fer_augment.runs.executors import FailedTask

        make_folder(self.folder)
        if executor == "local":
            warn_of_emulation([arm.recipe for arm in self.arms])
        experiment, runs = self.experiment, self.runs
        with RunProgress(runs) as progress:
            outcomes = do_runs(experiment, runs, executor, jobs, progress)
        finished: dict[str, list[RunDirectory]] = {arm.recipe.name: [] for arm in self.arms}
        failures = []
        for run, outcome in zip(runs, outcomes, strict=True):
            if isinstance(outcome, FailedTask):
                failures.append(Failure(recipe=run.recipe.name, seed=run.seed, message=outcome.message))
                self._keep_details(run, outcome)
            else:
                finished[run.recipe.name].append(RunDirectory(outcome))
        if len(failures) == len(runs):
            raise nothing_finished(failures)
        return self._compared(finished, failures)

    def _compared(self, finished: dict[str, list[RunDirectory]], failures: list[Failure]) -> ComparisonRecord:
        from fer_augment.results.comparison import save_comparison
        from fer_augment.results.verdicts import compare_runs
        from fer_augment.runs.ledger import ledger_warning

        told = ledger_warning(self.experiment.ledger.count(self.splits), len(self.arms))
        comparison = compare_runs(
            finished,
            baseline=self.arms[0].recipe.name,
            source=self.splits.source,
            fingerprint=self.splits.fingerprint,
            counts={name: part.counts for name, part in self.splits.parts.items()},
            audit=self._audited(),
            failures=failures,
            warnings=[*self.warnings, *([told] if told else [])],
        )
        save_comparison(comparison, self.folder)
        self._report(comparison, finished)
        return comparison

    def _audited(self) -> dict[str, int]:
        """Audit the data, keep all of it in `audit.json`, and return its numbers."""
        from fer_augment.data.audit import audit
        from fer_augment.data.records import write_whole

        with progress_of("auditing the data") as progress:
            found = audit(self.splits, progress)
        write_whole(self.folder / "audit.json", found.model_dump_json(indent=1) + "\n")
        return found.summary

    def _report(self, comparison: ComparisonRecord, finished: dict[str, list[RunDirectory]]) -> None:
        """Write `report.html` and the images that it shows."""
        from fer_augment.reports.html import write_report
        from fer_augment.results.confused_images import CONFUSED_FILE
        from fer_augment.runs.galleries import collect_confused

        pairs = [(watched.true, watched.predicted) for arm in comparison.arms for watched in arm.watched]
        collect_confused(self.splits, finished, pairs, self.folder / CONFUSED_FILE)
        write_report(self.folder)

    def _keep_details(self, run: PlannedRun, failed: object) -> None:
        from fer_augment.data.records import write_whole

        details = getattr(failed, "details", "")
        if details:
            write_whole(self.folder / "failures" / f"{run.recipe.name}-seed-{run.seed}.txt", details)


def _folder_name(recipes: Sequence[str]) -> str:
    """Return the recipes' names, or, of many, the first ones and a digest of all."""
    name = "_".join(recipes)
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_LETTERS]
    return f"{name[: _LONGEST_NAME - _DIGEST_LETTERS - 1]}-{digest}"


def _refuse_other_data(folder: Path, splits: Splits) -> None:
    """Refuse a directory that holds a comparison on other data: its results would be lost.

    Raises:
        RecipeError: if it does.
    """
    from fer_augment.reports.wording import printable
    from fer_augment.results.comparison import COMPARISON_FILE, read_comparison

    if not (folder / COMPARISON_FILE).exists():
        return
    try:
        there = read_comparison(folder).data
    except RunError:  # damaged, or of another version: it is made again
        return
    if there.fingerprint != splits.fingerprint:
        raise RecipeError(
            f"{folder}: holds a comparison on other data, {printable(there.source)}; name another directory with --out"
        )


def _finish(comparison: ComparisonRecord, folder: Path, *, as_json: bool) -> None:
    """Print the result, say where the rest is, and exit with 1 if a run failed."""
    from fer_augment.reports.terminal import print_comparison

    if as_json:
        click.echo(comparison.model_dump_json(indent=1))
    else:
        print_comparison(comparison, results())
    messages().print(f"Everything is in {folder}; open {folder / 'report.html'}", markup=False, soft_wrap=True)
    if comparison.failures:
        names = ", ".join(f"{failure.recipe} with seed {failure.seed}" for failure in comparison.failures)
        messages().print(f"failed: {names}", markup=False, soft_wrap=True)
        sys.exit(1)


def _print_plan(comparing: _Comparing, jobs: int, *, as_json: bool) -> None:
    """Tell which distinct trainings a comparison needs, and which of them are there."""
    import json

    plan = comparing.experiment.plan(comparing.runs)
    if as_json:
        content = [
            {"training": one.needed.what, "key": one.needed.key, "stored": one.is_stored, "for": one.runs}
            for one in plan
        ]
        click.echo(json.dumps(content, indent=1))
        return
    table = Table("training", "for", "stored", box=None, header_style="bold")
    for one in plan:
        table.add_row(one.needed.what, "; ".join(one.runs), "yes" if one.is_stored else "no")
    console = results()
    console.print(table)
    missing = [one for one in plan if not one.is_stored]
    console.print(f"{len(plan)} distinct trainings, {len(plan) - len(missing)} stored, {len(missing)} to do.")
    timed = [one.needed.bound for one in missing if not one.needed.is_second_stage]
    if timed:
        from fer_augment.runs.experiment import minutes_for

        settings = [bound.recipe.model_dump_json(include={"model", "training"}) for bound in timed]
        of_settings: dict[str, float] = {}
        for said, bound in zip(settings, timed, strict=True):
            if said not in of_settings:
                of_settings[said] = minutes_for(bound, comparing.splits)
        minutes = sum(of_settings[said] for said in settings) / min(jobs, len(timed))
        second_stages = "; second stages come on top" if len(timed) < len(missing) else ""
        console.print(
            f"About {minutes:.1f} minutes with {jobs} at a time, by a few steps timed just now{second_stages}."
        )
