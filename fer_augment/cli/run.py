"""`fer-augment run`: one recipe with one seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from fer_augment.cli._options import (
    data_option,
    json_option,
    quiet_option,
    set_option,
    track_option,
    with_reader,
)
from fer_augment.errors import display_name
from fer_augment.reports.console import messages, print_plain, results

if TYPE_CHECKING:
    from fer_augment.finished import Run
    from fer_augment.reading import Source


@click.command(no_args_is_help=True)
@click.argument("recipe")
@data_option
@with_reader
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The seed of the run.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
    help="The run's directory is created below OUT/runs.",
)  # fmt: skip
@set_option
@track_option
@json_option
@quiet_option
def run(
    recipe: str,
    source: str | Source,
    seed: int,
    out: Path,
    overrides: tuple[str, ...],
    track: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    r"""Train one recipe with one seed, score it on the test split once, and keep all results.

    A single run gives no verdict on a recipe: use `fer-augment compare` for that.

    \b
    fer-augment run paper --data fer2013.csv
    fer-augment run my_idea.yaml --data faces/ --seed 3 --set training.epochs=10
    """
    from fer_augment.single_runs import run as finished_run

    finished = finished_run(recipe, source, seed=seed, out=out, overrides=overrides, track=track, progress=not quiet)
    if as_json:
        print_plain(json.dumps(_as_json(finished), indent=1))
    else:
        _print(finished)
    messages(quiet=quiet).print(display_name(f"Results are in {finished.path}"), markup=False, soft_wrap=True)


def _as_json(finished: Run) -> dict[str, object]:
    from fer_augment.metrics import score

    record, test = finished.record, finished.predictions("test")
    scores = score(test.labels, test.logits.argmax(axis=1), len(record.class_names))
    recall = [None if share != share else share for share in scores.recall.tolist()]
    return {
        "run": str(finished.path),
        "recipe": record.identity.recipe,
        "seed": record.identity.seed,
        "test": {
            "accuracy": scores.accuracy,
            "balanced_accuracy": scores.balanced_accuracy,
            "macro_f1": scores.macro_f1,
            "recall": dict(zip(record.class_names, recall, strict=True)),
        },
    }


def _print(finished: Run) -> None:
    from fer_augment.metrics import score

    record, test = finished.record, finished.predictions("test")
    scores = score(test.labels, test.logits.argmax(axis=1), len(record.class_names))
    console = results()
    console.print(
        f"[bold]{escape(record.identity.recipe)}[/bold], seed {record.identity.seed}: test accuracy "
        f"{scores.accuracy:.1%}, balanced accuracy {scores.balanced_accuracy:.1%} "
        f"(one run, {len(test.labels):,} images)"
    )
    table = Table("class", "images", "recall", "precision", "F1", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for label, name in enumerate(record.class_names):
        shares = (scores.recall[label], scores.precision[label], scores.f1[label])
        rows = int(scores.confusion[label].sum())
        table.add_row(escape(name), f"{rows:,}", *(f"{share:.1%}" if rows else "-" for share in shares))
    console.print(table)
    for step in record.steps:
        if step.rows:
            console.print(f"{escape(step.name)} added {step.rows:,} rows to the training set.")
    for warning in record.warnings:
        console.print(f"[yellow]Warning:[/yellow] {escape(warning)}")
