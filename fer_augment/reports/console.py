"""Consoles and progress bars: results go to stdout, progress and warnings to stderr."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from fer_augment.errors import display_text
from fer_augment.progress import Advance, Event, Report
from fer_augment.streams import results_stream


class ResultsConsole(Console):
    """A console whose tables and wrapped texts have no spaces at the ends of lines."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print like `rich.console.Console`; a single table or padded text is printed line by line."""
        if len(objects) != 1 or options or not isinstance(objects[0], _FILLED):
            super().print(*objects, **options)
            return
        for segments in self.render_lines(objects[0], pad=False):
            line = Text.assemble(*((segment.text, segment.style or "") for segment in segments))
            line.rstrip()
            super().print(line, soft_wrap=True)


_FILLED = (Table, Padding, Text)
"""What rich fills with spaces up to the width of the column or of the console."""


def results() -> Console:
    """Return the console for results; it follows the terminal, `NO_COLOR` and `COLUMNS` at the time of the call."""
    return ResultsConsole(file=results_stream(), highlight=False)


def print_plain(text: str, *, end: str = "\n") -> None:
    """Print a result as it is, for programs: JSON, YAML, Markdown."""
    results_stream().write(text + end)


def shows_bars(console: Console) -> bool:
    """Return whether progress bars can be displayed: on a terminal, or in a notebook with ipywidgets."""
    return console.is_terminal or (console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None)


def messages(*, quiet: bool = False) -> Console:
    """Return the console for progress and warnings."""
    return Console(stderr=True, highlight=False, quiet=quiet)


def print_warnings(warnings: Iterable[str]) -> None:
    """Print warnings to stderr, one line each."""
    for warning in warnings:
        messages().print(Text.assemble(("warning: ", "yellow"), display_text(warning)), soft_wrap=True)


def progress_bars(*, quiet: bool = False) -> Progress:
    """Return bars with the time left, on stderr; they disappear at the end, and a file receives none."""
    console = messages(quiet=quiet)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not shows_bars(console),
    )


@contextmanager
def progress_of(description: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show one bar while the block runs; yields a function of the units done and the units in all."""
    with progress_bars(quiet=quiet) as bars:
        task = bars.add_task(escape(display_text(description)), total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def progress_of_activities(*, quiet: bool = False) -> Iterator[Report]:
    """Show a bar for each activity while the block runs; yields a function of progress events."""
    with progress_bars(quiet=quiet) as bars:
        shown: dict[str, TaskID] = {}

        def report(event: Event) -> None:
            if isinstance(event, Advance):
                if event.activity not in shown:
                    shown[event.activity] = bars.add_task(
                        escape(display_text(event.activity)), total=event.total or None
                    )
                bars.update(shown[event.activity], completed=event.done, total=event.total)

        yield report
