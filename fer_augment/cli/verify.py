"""`fer-augment verify`: check the files of results, or repeat a run and compare it bit by bit."""

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

from fer_augment.cli._finished_run import run_argument
from fer_augment.cli._options import json_option, with_reader
from fer_augment.finished import load_run, run_directory
from fer_augment.reports.console import print_plain, progress_of_activities, results
from fer_augment.reports.wording import printable

if TYPE_CHECKING:
    from fer_augment.reading import Source
    from fer_augment.runs.verification import Verification


@click.command(no_args_is_help=True)
@run_argument
@click.option("--data", "source", metavar="SRC", help="The data of the run; without it, only files are checked.")
@with_reader
@json_option
def verify(run: Path, source: str | Source | None, as_json: bool) -> None:
    r"""Check the files of results, or repeat a run and compare it bit by bit.

    Without --data, RUN is the directory of a comparison or a run: every file is read, and what is missing or damaged is
    listed with how to mend it. Nothing is trained.

    With --data, RUN is the directory of a finished run, with or without the key at its end, SRC its data. Compares
    weights, logits and the rewritten training set. The cache is not used and nothing is saved, so this takes as long as
    the run, including scouts. On differences, lists the changes since the run: data, versions, processor, threads,
    device, code.

    Exits with status 0 if everything is whole or equal, otherwise with status 1.

    \b
    fer-augment verify results/paper_smote
    fer-augment verify results/runs/paper/seed-0 --data fer2013.csv
    """
    if source is None:
        _check_files(run_directory(run), as_json=as_json)
        return
    from fer_augment.reading import open_data
    from fer_augment.runs.recipe_data import RecipeData
    from fer_augment.runs.verification import verify_run

    directory = load_run(run)
    data = RecipeData(open_data(source))
    with tempfile.TemporaryDirectory(prefix="fer_augment-") as scratch, progress_of_activities() as report:
        verification = verify_run(directory, data, Path(scratch), report)
    if as_json:
        print_plain(json.dumps({"equal": verification.is_equal, **asdict(verification)}, indent=1, ensure_ascii=False))
    else:
        _print(verification)
    if not verification.is_equal:
        sys.exit(1)


def _check_files(directory: Path, *, as_json: bool) -> None:
    from fer_augment.results.checking import damages_in

    damages = damages_in(directory)
    if as_json:
        print_plain(json.dumps({"damages": [asdict(damage) for damage in damages]}, indent=1, ensure_ascii=False))
    else:
        for damage in damages:
            results().print(printable(str(damage)), markup=False, soft_wrap=True)
        if not damages:
            results().print("OK: all files are readable and match.")
    if damages:
        sys.exit(1)


def _print(verification: Verification) -> None:
    console = results()
    for part in verification.parts:
        verdict = Text("different", style="bold red") if part.different else Text("equal", style="green")
        count = f"{part.different:,} of {part.total:,} {part.unit}" if part.different else f"{part.total:,} {part.unit}"
        largest = "" if part.largest is None else f", by up to {part.largest:.2g}"
        console.print(Text.assemble(verdict, f": {part.name}, {count}{largest}"))
    if not verification.parts:
        console.print(Text("different: this is not the data that the run was trained on; training was not repeated."))
    if verification.changes:
        console.print("\nChanges since the run:")
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
        for heading in ("", "then", "now"):
            table.add_column(heading, overflow="fold")
        for change in verification.changes:
            table.add_row(*(Text(printable(cell)) for cell in (change.what, change.then, change.now)))
        console.print(table)
    elif not verification.is_equal:
        console.print(
            "\nData, versions, processor, threads, device and code are unchanged. Possible causes: the files of the "
            "run were modified, a strategy reads a file that it does not declare in `files`, or results on this "
            "machine are not deterministic."
        )
