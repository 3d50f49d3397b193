"""A comparison as terminal output: verdicts, then tables, then notes, failures and warnings.

Text is passed to rich as `Text`, never as markup, because names of classes and recipes come from files.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fer_augment.reports.grids import Grid, comparison_grids
from fer_augment.reports.pairs import pair_grids
from fer_augment.reports.wording import (
    DEDUPLICATED,
    cost_sentence,
    failures,
    headline,
    notes,
    verdict_sentence,
    warning_lines,
)
from fer_augment.results.comparison import ComparisonRecord, Versus
from fer_augment.significance import Verdict

WIDE = 110
"""Minimum width in columns for tables with all columns and without abbreviations."""

_STYLES = {Verdict.BETTER: "bold green", Verdict.WORSE: "bold red"}
_SHORT_VERDICTS = {Verdict.NO_EVIDENCE: "no ev.", Verdict.ONE_RUN: "1 run", Verdict.UNTESTABLE: "n/a"}
_SHORT_HEADINGS = {"difference": "diff."}
_SHORT_LABELS = {"balanced accuracy": "balanced", DEDUPLICATED: "dedup."}


def print_comparison(comparison: ComparisonRecord, console: Console) -> None:
    """Print a comparison; it is readable without color and at 80 columns."""
    console.print(Text(headline(comparison), style="bold"))
    for versus in comparison.versus:
        console.print()
        console.print(_verdict(versus))
        console.print(Padding(Text(cost_sentence(versus)), (0, 0, 0, 2)))
    tables = (*comparison_grids(comparison), *pair_grids(comparison))
    for grid in tables:
        print_grid(grid, console)
    remarks = notes(comparison) + ([] if console.width >= WIDE else _abbreviations(tables))
    for title, lines in (
        ("", remarks),
        ("Failed runs:", failures(comparison)),
        ("Warnings:", warning_lines(comparison)),
    ):
        _print_list(title, list(lines), console)


def _verdict(versus: Versus) -> Text:
    verdict = versus.balanced_accuracy.verdict
    text = Text(verdict_sentence(versus))
    text.highlight_words([str(verdict)], _STYLES.get(verdict, "bold"))
    return text


def print_grid(grid: Grid, console: Console) -> None:
    """Print a table, and its note if it has one, below an empty line."""
    wide = console.width >= WIDE
    shown = _fitting(grid, console.width)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    for place, heading in enumerate(shown.columns):
        text = heading if wide else _SHORT_HEADINGS.get(heading, heading)
        table.add_column(Text(text), justify="left" if shown.is_left(place) else "right", overflow="fold")
    for group in shown.groups:
        table.add_section()
        for label, *cells in group:
            first = label if wide else _SHORT_LABELS.get(label, label)
            others = (_cell(heading, cell, wide) for heading, cell in zip(shown.columns[1:], cells, strict=True))
            table.add_row(Text(first), *others)
    console.print()
    console.print(Text(shown.title, style="bold"))  # the title of a rich table is wrapped at the width of the table
    console.print(table)
    if shown.note:
        console.print(Text(shown.note))


def _fitting(grid: Grid, width: int) -> Grid:
    """Return the table without as many optional columns as needed to print it without line breaks in its cells."""
    shown, optional = grid, list(grid.optional)
    while optional and _width(shown, is_wide=width >= WIDE) > width:
        shown = shown.without(optional.pop())
    return shown


def _width(grid: Grid, *, is_wide: bool) -> int:
    headings = grid.columns if is_wide else tuple(_SHORT_HEADINGS.get(heading, heading) for heading in grid.columns)
    rows = [headings, *(row for group in grid.groups for row in group)]
    return sum(max(map(len, column)) + 1 for column in zip(*rows, strict=True)) - 1


def _cell(heading: str, cell: str, wide: bool) -> Text:
    if heading != "verdict":
        return Text(cell)
    verdict = Verdict(cell)
    return Text(cell if wide else _SHORT_VERDICTS.get(verdict, cell), style=_STYLES.get(verdict, ""))


def _abbreviations(tables: Iterable[Grid]) -> list[str]:
    """Explain the abbreviated verdicts in the tables."""
    shown = {
        cell
        for grid in tables
        for group in grid.groups
        for row in group
        for heading, cell in zip(grid.columns, row, strict=True)
        if heading == "verdict"
    }
    explained = [f"{short}: {verdict}" for verdict, short in _SHORT_VERDICTS.items() if verdict in shown]
    return [f"{'; '.join(explained)}."] if explained else []


def _print_list(title: str, lines: Iterable[str], console: Console) -> None:
    """Print paragraphs as a list with hanging indents."""
    grid = Table.grid(padding=(0, 1))
    for line in lines:
        grid.add_row("-", Text(line))
    if grid.row_count:
        console.print()
        if title:
            console.print(Text(title, style="bold yellow"))
        console.print(grid)
