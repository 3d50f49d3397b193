"""`fer-augment run`: one recipe with one seed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from fer_augment.cli._console import messages, results
from fer_augment.cli._runs import (
    RunProgress,
    data_option,
    json_option,
    make_folder,
    read_data,
    refuse_taken,
    set_option,
    warn_of_emulation,
)

if TYPE_CHECKING:
    from fer_augment.data.records import RunDirectory


@click.command(no_args_is_help=True)
@click.argument("recipe")
@data_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The seed of the run.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
    help="The run's directory is made below it.",
)  # fmt: skip
@set_option
@json_option
def run(recipe: str, source: str, seed: int, out: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    r"""Train one recipe with one seed, score it on the test split once, and keep everything.

    One run cannot tell a recipe from luck: `fer-augment compare` judges.

    \b
    fer-augment run paper --data fer2013.csv
    fer-augment run my_idea.yaml --data faces/ --seed 3 --set training.epochs=10
    """
    from fer_augment.data.records import RunDirectory
    from fer_augment.hooks.plugin_manager import installed_plugins
    from fer_augment.recipe.binding import bind, check_classes
    from fer_augment.recipe.recipe import load_recipes
    from fer_augment.runs.executors import FailedTask, do_tasks
    from fer_augment.runs.experiment import Experiment, PlannedRun
    from fer_augment.training.store import default_store

    (loaded,) = load_recipes([recipe], overrides)
    catalog = installed_plugins()
    bound = bind(loaded, catalog)
    refuse_taken(out)
    splits = read_data(catalog, source)
    check_classes(bound, splits.class_names)
    make_folder(out)
    warn_of_emulation([loaded])
    task = PlannedRun(loaded, seed)
    with RunProgress([task]) as progress:
        (outcome,) = do_tasks(Experiment(splits, default_store(), out / "runs"), [task], 1, progress)
    if isinstance(outcome, FailedTask):
        if outcome.details:
            messages().print(outcome.details, markup=False, soft_wrap=True)
        sys.exit(1)
    directory = RunDirectory(outcome)
    if as_json:
        click.echo(json.dumps(_as_json(directory), indent=1))
    else:
        _print(directory)
    messages().print(f"Everything is in {directory.path}", markup=False, soft_wrap=True)


def _as_json(directory: RunDirectory) -> dict[str, object]:
    from fer_augment.metrics import score

    record, said = directory.record, directory.predictions("test")
    scores = score(said.labels, said.logits.argmax(axis=1), len(record.class_names))
    recall = [None if share != share else share for share in scores.recall.tolist()]
    return {
        "run": str(directory.path),
        "recipe": record.identity.recipe,
        "seed": record.identity.seed,
        "test": {
            "accuracy": scores.accuracy,
            "balanced_accuracy": scores.balanced_accuracy,
            "macro_f1": scores.macro_f1,
            "recall": dict(zip(record.class_names, recall, strict=True)),
        },
    }


def _print(directory: RunDirectory) -> None:
    from fer_augment.metrics import score

    record, said = directory.record, directory.predictions("test")
    scores = score(said.labels, said.logits.argmax(axis=1), len(record.class_names))
    console = results()
    console.print(
        f"[bold]{escape(record.identity.recipe)}[/bold], seed {record.identity.seed}: test accuracy "
        f"{scores.accuracy:.1%}, balanced accuracy {scores.balanced_accuracy:.1%} (one run, {len(said.labels):,} rows)"
    )
    table = Table("class", "rows", "recall", "precision", "F1", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for label, name in enumerate(record.class_names):
        shares = (scores.recall[label], scores.precision[label], scores.f1[label])
        rows = int(scores.confusion[label].sum())
        table.add_row(escape(name), f"{rows:,}", *(f"{share:.1%}" if rows else "no rows" for share in shares))
    console.print(table)
    for step in record.steps:
        if step.rows:
            console.print(f"{escape(step.name)} made {step.rows:,} rows of the training set.")
    for warning in record.warnings:
        console.print(f"[yellow]Note:[/yellow] {escape(warning)}")
