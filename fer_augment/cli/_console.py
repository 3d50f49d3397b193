"""Where output goes: results to stdout, progress to stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


def results() -> Console:
    """Return the console for results; looks at the terminal, `NO_COLOR` and `COLUMNS` when it is made."""
    return Console(highlight=False)


def messages() -> Console:
    """Return the console for progress and warnings."""
    return Console(stderr=True, highlight=False)


def progress_bars() -> Progress:
    """Return bars with time left, on stderr; they vanish when done, and a file sees nothing of them."""
    console = messages()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def progress_of(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show one bar while the block runs; gives what is to be called with how much is done and how much there is."""
    with progress_bars() as bars:
        task = bars.add_task(description, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def progress_of_tasks() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each task while the block runs; gives what is to be called with what is done and how far."""
    with progress_bars() as bars:
        shown: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in shown:
                shown[what] = bars.add_task(escape(what), total=total)
            bars.update(shown[what], completed=done, total=total)

        yield report
