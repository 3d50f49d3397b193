"""`fer-augment doctor`: versions, device, cache, plugins, and what is wrong."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click
from rich.table import Table
from rich.text import Text

from fer_augment.cli._options import json_option
from fer_augment.reports.console import print_plain, results


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    r"""Show versions, device, cache and plugins, and what is wrong.

    Exits with 1 if something is wrong. Include the output in a bug report.

    \b
    fer-augment doctor
    """
    from fer_augment.doctor import diagnose

    diagnosis = diagnose()
    if as_json:
        print_plain(json.dumps(asdict(diagnosis), indent=1))
    else:
        console = results()
        for title, facts in diagnosis.facts.items():
            console.print(Text(title, style="bold"))
            table = Table.grid(padding=(0, 2, 0, 0))
            table.add_column(no_wrap=True)
            table.add_column(overflow="fold")
            for name, value in facts.items():
                table.add_row(Text(f"  {name}"), Text(value))
            console.print(table)
        console.print()
        for problem in diagnosis.problems:
            console.print(Text.assemble(("problem: ", "bold red"), problem), soft_wrap=True)
        if not diagnosis.problems:
            console.print(Text("No problems found."))
    if diagnosis.problems:
        sys.exit(1)
