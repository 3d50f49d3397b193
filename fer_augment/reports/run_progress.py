"""Progress of the runs of a comparison: bars on a terminal, a line now and then in a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from fer_augment.data.records import Evaluation
from fer_augment.errors import display_text
from fer_augment.progress import Advance, Cached, Evaluated, Event
from fer_augment.reports.console import messages, shows_bars
from fer_augment.reports.live_recall import live_recall

SECONDS_BETWEEN_LINES = 300.0
"""How often a file or a pipe receives a line about running runs."""


class _BarsBelowTable(Progress):
    """Progress bars below something else that changes."""

    def __init__(self, above: Callable[[], Iterable[RenderableType]], *columns: ProgressColumn, **options: Any) -> None:
        """Prepare the bars; `above` returns what is shown above them."""
        self.above = above
        super().__init__(*columns, **options)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the table, then the bars."""
        yield from self.above()
        yield from super().get_renderables()


class RunProgress:
    """Shows a bar for each running run, one for all, and a line for each finished one.

    Above the bars, a table has the validation recall of each arm. Without a terminal, a line now and then shows the
    overall progress. It is a `Listener` of the executors, and a context manager. Runs are displayed by their `str`; a
    result with a `message` is a failure.
    """

    def __init__(
        self,
        tasks: Sequence[object],
        class_names: Sequence[str] = (),
        *,
        weights: Sequence[float] = (),
        quiet: bool = False,
    ) -> None:
        """Prepare the display; nothing is shown yet.

        Args:
            tasks: runs, and trainings that are done for several of them; the arm of a run is the `name` of its
                `recipe`.
            class_names: the K class names, for the table.
            weights: the relative duration of each task; by default they take equally long.
            quiet: whether to show nothing.
        """
        names = list(map(str, tasks))
        self.weights = dict(zip(names, weights or [1.0] * len(names), strict=True))
        console = messages(quiet=quiet)
        self.latest: dict[str, dict[str, Evaluation]] = {}
        self.class_names = class_names
        self.bars = _BarsBelowTable(
            self._table,
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not shows_bars(console),
        )
        self.all = self.bars.add_task(f"{len(names)} runs", total=sum(self.weights.values()))
        self.running: dict[str, tuple[TaskID, float]] = {}
        self.cached: dict[str, list[str]] = {}
        self.done = 0.0
        self.line_at = time.monotonic()

    def __enter__(self) -> RunProgress:
        """Start the display."""
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bars."""
        self.bars.stop()

    def started(self, task: object) -> None:
        """Add a bar for the run."""
        self.running[str(task)] = self.bars.add_task(f"  {_shown(task)}", total=None), time.monotonic()

    def progressed(self, task: object, event: Event) -> None:
        """Advance the run's bar and the one for all; remember what was cached."""
        if isinstance(event, Cached):
            self.cached.setdefault(str(task), []).append(event.name)
        if isinstance(event, Evaluated):
            arm = str(getattr(getattr(task, "recipe", None), "name", task))
            self.latest.setdefault(arm, {})[str(task)] = event.evaluation
        if not isinstance(event, Advance):
            return
        description = f"  {_shown(task)}: {_shown(event.activity)}"
        bar, _ = self.running[str(task)]
        self.bars.update(bar, description=description, completed=event.done, total=event.total)
        if not event.total:
            self.bars.tasks[self.bars.task_ids.index(bar)].total = None  # `update` takes None as no change
        if event.measures_run:
            self.bars.update(self.all, completed=self.done + self._done_in_running())
        if self.bars.disable and time.monotonic() - self.line_at >= SECONDS_BETWEEN_LINES:
            self.line_at = time.monotonic()
            self.bars.console.print(self._overall(f"{task}: {event.activity}"), soft_wrap=True)

    def ended(self, task: object, outcome: object) -> None:
        """Replace the run's bar by a line."""
        bar, since = self.running.pop(str(task))
        self.bars.remove_task(bar)
        self.done += self.weights.get(str(task), 0.0)
        self.bars.update(self.all, completed=self.done + self._done_in_running())
        seconds = time.monotonic() - since
        failure = getattr(outcome, "message", None)
        if failure is not None:
            line = f"[red]failed[/red] {_shown(task)}: {_shown(failure)}"
        else:
            names = ", ".join(dict.fromkeys(self.cached.pop(str(task), [])))
            cached = f"; cached: {names}" if names else ""
            line = f"[dim]done   {_shown(task)} ({seconds:.0f} s{_shown(cached)})[/dim]"
        self.bars.console.print(line, soft_wrap=True)

    def warn(self, message: str) -> None:
        """Show a warning above the bars."""
        self.bars.console.print(f"[yellow]warning:[/yellow] {_shown(message)}", soft_wrap=True)

    def _table(self) -> Iterable[RenderableType]:
        if self.latest and self.class_names:
            latest = {arm: dict(runs) for arm, runs in list(self.latest.items())}  # runs progress in other threads
            yield live_recall(latest, self.class_names, self.bars.console.width)

    def _overall(self, current: str) -> Text:
        task = next(task for task in self.bars.tasks if task.id == self.all)
        left = TimeRemainingColumn().render(task)
        return Text(f"{task.percentage:3.0f} %  {task.description}, {left} left ({display_text(current)})", style="dim")

    def _done_in_running(self) -> float:
        bars = {task.id: task for task in self.bars.tasks}
        return sum(
            0.01 * bars[bar].percentage * self.weights.get(name, 0.0)
            for name, (bar, _) in self.running.items()
            if bars[bar].total
        )


def _shown(text: object) -> str:
    """Return text for markup, with brackets and control characters escaped."""
    return escape(display_text(str(text)))
