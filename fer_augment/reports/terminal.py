"""A comparison on one screen of a terminal: the verdicts first, the tables behind them, then what to be careful of.

Text goes through rich as `Text`, never as markup: names of classes and recipes come from files.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fer_augment.reports.grids import Grid, against_baseline, overview
from fer_augment.reports.wording import cost_sentence, failures, headline, notes, printable, verdict_sentence
from fer_augment.results.comparison import ComparisonRecord, Versus
from fer_augment.significance import Verdict

WIDE = 100
"""From this many columns on, verdicts are written in full and tables have all of their columns."""

_ONLY_WIDE = ("macro F1", "NLL (nats)")
_STYLES = {Verdict.BETTER: "bold green", Verdict.WORSE: "bold red"}
_SHORT = {Verdict.NO_EVIDENCE: "no ev.", Verdict.ONE_RUN: "1 run", Verdict.UNTESTABLE: "n/a"}


def print_comparison(comparison: ComparisonRecord, console: Console) -> None:
    """Print a comparison, readable without color and from 80 columns on."""
    console.print(Text(headline(comparison), style="bold"))
    for versus in comparison.versus:
        console.print()
        console.print(_verdict(versus))
        console.print(Padding(Text(cost_sentence(versus)), (0, 0, 0, 2)))
    tables = [overview(comparison), *(against_baseline(comparison, versus) for versus in comparison.versus)]
    for grid in tables:
        print_grid(grid, console)
    remarks = notes(comparison) + ([] if console.width >= WIDE else _legend(tables))
    for title, lines in (
        ("", remarks),
        ("Runs that failed:", failures(comparison)),
        ("Warnings:", map(printable, comparison.warnings)),
    ):
        _print_list(title, list(lines), console)


def _verdict(versus: Versus) -> Text:
    verdict = versus.balanced_accuracy.verdict
    text = Text(verdict_sentence(versus))
    text.highlight_words([str(verdict)], _STYLES.get(verdict, "bold"))
    return text


def print_grid(grid: Grid, console: Console) -> None:
    """Print a table below an empty line."""
    wide = console.width >= WIDE
    shown = grid if wide else grid.without(_ONLY_WIDE)
    table = Table(
        title=Text(shown.title, style="bold"),
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=0,
    )
    for place, heading in enumerate(shown.columns):
        table.add_column(heading, justify="left" if shown.is_left(place) else "right", overflow="fold")
    for group in shown.groups:
        table.add_section()
        for row in group:
            table.add_row(*(_cell(heading, cell, wide) for heading, cell in zip(shown.columns, row, strict=True)))
    console.print()
    console.print(table)


def _cell(heading: str, cell: str, wide: bool) -> Text:
    if heading != "verdict":
        return Text(cell)
    verdict = Verdict(cell)
    return Text(cell if wide else _SHORT.get(verdict, cell), style=_STYLES.get(verdict, ""))


def _legend(tables: Iterable[Grid]) -> list[str]:
    """Explain the short words that stand in tables."""
    shown = {
        cell
        for grid in tables
        for group in grid.groups
        for row in group
        for heading, cell in zip(grid.columns, row, strict=True)
        if heading == "verdict"
    }
    told = [f'{short} = "{verdict}"' for verdict, short in _SHORT.items() if verdict in shown]
    return [f"{', '.join(told)}."] if told else []


def _print_list(title: str, lines: Iterable[str], console: Console) -> None:
    """Print paragraphs whose further lines stand under the first word."""
    grid = Table.grid(padding=(0, 1))
    for line in lines:
        grid.add_row("-", Text(line))
    if grid.row_count:
        console.print()
        if title:
            console.print(Text(title, style="bold yellow"))
        console.print(grid)
