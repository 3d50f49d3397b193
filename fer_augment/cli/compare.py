"""`fer-augment compare` and `fer-augment demo`: the main job."""

from __future__ import annotations

import json
import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource
from rich.table import Table

from fer_augment.cli._comparison_output import against_option, chosen_format, fail_option, finish, format_option
from fer_augment.cli._options import (
    Seeds,
    data_option,
    executor_option,
    jobs_option,
    json_option,
    quiet_option,
    set_option,
    track_option,
    with_reader,
)
from fer_augment.reports.console import messages, print_plain, results

if TYPE_CHECKING:
    from fer_augment.prepared_comparison import Executor, PreparedComparison
    from fer_augment.reading import Source
    from fer_augment.results.comparison import Against

DEMO_RECIPES = ("demo", "demo_mirror", "demo_balanced")
DEMO_SEEDS = 5


@click.command(no_args_is_help=True)
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@data_option
@with_reader
@click.option("--seeds", type=Seeds(), help="Number of seeds, or a list such as 0,3,7; not with --folds.  [default: 3]")
@click.option(
    "--folds", type=click.IntRange(min=2), help="Hold out every image once by K-fold cross-validation, such as 5."
)
@click.option("--repeats", type=click.IntRange(min=1), help="With --folds: how often to divide anew.  [default: 2]")
@click.option("--keep-test", is_flag=True, help="With --folds: leave the given test split out; it is not scored.")
@click.option(
    "--precision", type=click.FloatRange(0, 100, min_open=True, max_open=True), metavar="POINTS",
    help="Add seeds until balanced accuracy is known to ± POINTS (95 % interval); not with --folds.",
)  # fmt: skip
@click.option(
    "--max-seeds", type=click.IntRange(min=2), default=20, show_default=True, help="With --precision: at most."
)
@click.option("--out", type=click.Path(path_type=Path), help="Output directory.  [default: results/RECIPE_RECIPE…]")
@jobs_option
@executor_option
@set_option
@click.option(
    "--grid", multiple=True, metavar="KEY=VALUE,VALUE…",
    help="Make an arm for each value of a setting, such as strategies.mixup.alpha=0.2,0.4; may be repeated for all "
    "combinations.",
)  # fmt: skip
@against_option
@track_option
@click.option("--dry-run", is_flag=True, help="Train nothing: list the trainings, which are cached, and the time.")
@format_option
@json_option
@fail_option
@quiet_option
def compare(
    recipes: tuple[str, ...],
    source: str | Source,
    seeds: tuple[int, ...] | None,
    folds: int | None,
    repeats: int | None,
    keep_test: bool,
    precision: float | None,
    max_seeds: int,
    out: Path | None,
    jobs: int | None,
    executor: Executor,
    overrides: tuple[str, ...],
    grid: tuple[str, ...],
    against: Against,
    track: tuple[str, ...],
    dry_run: bool,
    chosen: str | None,
    as_json: bool,
    fail_on: str | None,
    quiet: bool,
) -> None:
    r"""Compare recipes on the same data; the first one is the baseline.

    Every recipe is trained once with every seed, and scored on the test split. With --folds, given splits are joined
    and divided into K folds; each fold is held out once by a training on the others. Use it for small data, up to a
    few thousand images, or for classes with few test images. Run the same command again to resume an interrupted
    comparison; a changed recipe or version is trained again, and other data need another OUT. Results: a table,
    OUT/comparison.json, OUT/report.html, and a directory for each run.

    \b
    fer-augment compare paper confusion_mirror --data fer2013.csv --seeds 10
    fer-augment compare modern my_idea.yaml --data faces --set training.epochs=10
    fer-augment compare modern modern_balanced --data lesions.yaml --folds 5
    fer-augment compare modern modern_balanced --data faces --precision 2
    fer-augment compare modern --data faces --grid training.learning_rate=.05,.02
    fer-augment compare modern smote my_idea.yaml --data faces --against all
    fer-augment compare paper smote --data demo --dry-run
    fer-augment compare paper smote --data faces --format github --fail-on worse
    fer-augment compare modern my_idea.yaml --data faces --track mlflow
    """
    from fer_augment.comparing import prepare

    shown = chosen_format(chosen, as_json=as_json)
    if dry_run and (shown not in ("terminal", "json") or fail_on):
        unused = "--fail-on" if fail_on else f"--format {shown}"
        raise click.UsageError(f"--dry-run has no results for {unused}; it prints a table, or --json")
    if precision is None and click.get_current_context().get_parameter_source("max_seeds") != ParameterSource.DEFAULT:
        raise click.UsageError("--max-seeds limits --precision, which is missing; use --seeds")
    if fail_on and folds is None and precision is None and seeds is not None and len(seeds) == 1:
        raise click.UsageError(
            "--fail-on needs a significance test, which one seed does not give; use at least two seeds"
        )
    if fail_on and len(recipes) == 1 and not grid:
        raise click.UsageError("--fail-on needs an arm to test against the first recipe; name a second one")
    prepared = prepare(
        recipes,
        source,
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
        progress=not quiet,
    )
    if dry_run:
        _print_plan(prepared, as_json=shown == "json")
        return
    finish(prepared.run(), shown, fail_on, quiet=quiet)


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("results/demo"), show_default=True, help="Output directory.",
)  # fmt: skip
@jobs_option
@executor_option
@json_option
@quiet_option
def demo(out: Path, jobs: int | None, executor: Executor, as_json: bool, quiet: bool) -> None:
    r"""Compare three recipes on synthetic faces, in about a minute.

    Trains every recipe with five seeds; prints a table and writes a report. The faces are rendered by a seeded
    generator, with FER2013's seven classes and their imbalance. The recipes are a plain baseline, mirroring the images
    of Surprise predicted as Fear, and balanced sampling; `fer-augment recipes show demo_mirror` prints one.

    \b
    fer-augment demo
    fer-augment demo --out faces --jobs 1
    """
    from fer_augment.comparing import compare as compared

    comparison = compared(
        DEMO_RECIPES, "demo", seeds=DEMO_SEEDS, out=out, jobs=jobs, executor=executor, progress=not quiet
    )
    finish(comparison, "json" if as_json else "terminal", quiet=quiet)
    messages(quiet=quiet).print(
        "This is a demo with a tiny network on synthetic faces; its results do not transfer to other images.",
        soft_wrap=True,
    )


def _print_plan(prepared: PreparedComparison, *, as_json: bool) -> None:
    """Print the distinct trainings of a comparison, which of them are cached, and how long the others take."""
    plan = prepared.plan
    if as_json:
        content = [
            {"training": one.needed.name, "key": one.needed.key, "stored": one.is_stored, "for": one.runs}
            for one in plan.trainings
        ]
        print_plain(json.dumps(content, indent=1))
        return
    table = Table("training", "for", "cached", box=None, header_style="bold")
    for one in plan.trainings:
        table.add_row(one.needed.name, "; ".join(one.runs), "yes" if one.is_stored else "no")
    console = results()
    console.print(table)
    total, missing = len(plan.trainings), len(plan.missing)
    console.print(f"{total} distinct trainings: {total - missing} cached, {missing} to do.")
    features = plan.missing_features
    if features:
        console.print(f"Features of {features:,} images are missing and will be computed once.")
    lines = textwrap.wrap(prepared.precision_so_far, console.width)
    minutes = plan.minutes(prepared.local_jobs)
    if minutes is not None:
        duration = f"{minutes:.1f} minutes" if minutes >= 1 else f"about {10 * math.ceil(6 * minutes)} seconds"
        second_stages = "; second stages not included" if plan.missing_second_stages else ""
        estimate = (
            f"Estimated time: {duration}, {prepared.local_jobs} at a time (from a few optimizer steps timed "
            f"now{second_stages})."
        )
        lines += textwrap.wrap(estimate, console.width)
    console.print("\n".join(lines), markup=False, soft_wrap=True)
