"""`fer-augment verify`: do a run again and compare bit by bit."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from fer_augment.cli._console import progress_of_tasks, results
from fer_augment.cli._finished_run import finished_run, run_argument
from fer_augment.cli._runs import data_option, json_option, read_data
from fer_augment.reports.wording import printable

if TYPE_CHECKING:
    from fer_augment.runs.verification import Verification


@click.command(no_args_is_help=True)
@run_argument
@data_option
@json_option
def verify(run: Path, source: str, as_json: bool) -> None:
    r"""Train a run again, and compare it with the run bit by bit.

    RUN is the directory of a finished run, SRC the data that it was trained on. Weights, logits and the rewritten
    training set are compared. Nothing is reused and nothing is kept; it takes as long as the run did, scouts included.
    Exits with 0 if all is equal, with 1 if not; then it tells what is not as it was: data, versions, processor,
    threads, device, code.

    \b
    fer-augment verify results/runs/paper/seed-0-1a2b3c4d5e6f --data fer2013.csv
    """
    from fer_augment.hooks.plugin_manager import installed_plugins
    from fer_augment.runs.verification import verify_run

    directory = finished_run(run)
    splits = read_data(installed_plugins(), source)
    with tempfile.TemporaryDirectory(prefix="fer_augment-") as scratch, progress_of_tasks() as report:
        verification = verify_run(directory, splits, Path(scratch), report)
    if as_json:
        click.echo(json.dumps({"equal": verification.is_equal, **asdict(verification)}, indent=1, ensure_ascii=False))
    else:
        _print(verification)
    if not verification.is_equal:
        sys.exit(1)


def _print(verification: Verification) -> None:
    console = results()
    for part in verification.parts:
        verdict = Text("different", style="bold red") if part.different else Text("equal", style="green")
        count = f"{part.different:,} of {part.total:,} {part.unit}" if part.different else f"{part.total:,} {part.unit}"
        largest = "" if part.largest is None else f", by up to {part.largest:.2g}"
        console.print(Text.assemble(verdict, f": {part.name}, {count}{largest}"))
    if not verification.parts:
        console.print(Text("different: these are not the data that the run was trained on; it was not trained again."))
    if verification.changes:
        console.print("\nNot as it was at the time of the run:")
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
        for heading in ("", "then", "now"):
            table.add_column(heading, overflow="fold")
        for change in verification.changes:
            table.add_row(*(Text(printable(told)) for told in (change.what, change.then, change.now)))
        console.print(table)
    elif not verification.is_equal:
        console.print(
            "\nAll that decides a run is as it was: data, versions, processor, threads, device, code. What is left: "
            "the run's files were changed, or this machine does not compute the same thing twice."
        )
