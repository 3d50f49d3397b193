"""What the commands that train have in common: reading their arguments, and showing how far the runs are."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from fer_augment.cli._console import messages, progress_of
from fer_augment.errors import RecipeError
from fer_augment.runs.executors import FailedTask, Listener, cores, do_tasks

if TYPE_CHECKING:
    from fer_augment.data.dataset import Splits
    from fer_augment.hooks.plugin_manager import Catalog
    from fer_augment.recipe.recipe import Recipe
    from fer_augment.runs.experiment import Experiment, PlannedRun

SECONDS_BETWEEN_LINES = 300.0
"""How often a file or a pipe is told how far runs are; a terminal sees bars."""

data_option = click.option(
    "--data", "source", required=True, metavar="SRC",
    help="fer2013.csv, icml_face_data.csv, a zip or folder of images, a converted folder, or demo.",
)  # fmt: skip
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="Override a setting of every recipe, such as training.epochs=5; may be repeated.",
)  # fmt: skip
jobs_option = click.option(
    "--jobs", type=click.IntRange(min=1),
    help="Runs at a time.  [default: as many as there are cores; on Ray, as the cluster has room for]",
)  # fmt: skip
executor_option = click.option(
    "--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True,
    help="Where runs are done: in processes here, or on the Ray cluster at RAY_ADDRESS, else one started here.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


class Seeds(click.ParamType[tuple[int, ...]]):
    """`5` for the seeds 0 to 4, or a list such as `0,3,7`."""

    name = "seeds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Read the text; a trailing comma makes one number a list."""
        if isinstance(value, tuple):
            return value
        text = str(value).replace(" ", "")
        if re.fullmatch(r"\d{1,6}", text) and int(text) > 0:
            return tuple(range(int(text)))
        listed = re.fullmatch(r"\d{1,18}(,\d{1,18})*,?", text) if "," in text else None
        seeds = tuple(int(seed) for seed in text.split(",") if seed) if listed else ()
        if not seeds or len(set(seeds)) != len(seeds):
            self.fail(f"{value!r}: give how many seeds, such as 5, or which, such as 0,3,7", param, ctx)
        return seeds


def read_data(catalog: Catalog, source: str) -> Splits:
    """Read a data source and show how far it is."""
    with progress_of(f"reading {escape(source)}") as progress:
        return catalog.read(source, progress)


def do_runs(
    experiment: Experiment, runs: Sequence[PlannedRun], executor: str, jobs: int | None, listener: Listener[PlannedRun]
) -> list[Path | FailedTask]:
    """Do runs in processes on this machine or on a Ray cluster.

    Args:
        experiment: what is done with a run.
        runs: begun in this order.
        executor: `local` or `ray`.
        jobs: how many at a time; None for as many as there is room for.
        listener: told what happens.

    Returns:
        The directory of each run or why it has none, in their order.

    Raises:
        RunError: if there is no Ray, or no cluster that could do them.
    """
    if executor == "ray":
        from fer_augment.runs.remote_runs import do_runs_on_ray

        return do_runs_on_ray(experiment, runs, listener, jobs)
    return do_tasks(experiment, runs, jobs or default_jobs([run.recipe for run in runs]), listener)


def default_jobs(recipes: Sequence[Recipe]) -> int:
    """Return how many runs fit on the processor at a time; one on an accelerator."""
    from fer_augment.training.torch_runtime import device_of

    if any(device_of(recipe.training) != "cpu" for recipe in recipes):
        return 1
    threads = max(recipe.training.threads for recipe in recipes)
    return max(1, cores() // threads)


def warn_of_emulation(recipes: Sequence[Recipe]) -> None:
    """Say, before hours go into it, that this machine is slow at the precision that recipes ask for."""
    from fer_augment.training.torch_runtime import emulates_bfloat16

    slow = [recipe.name for recipe in recipes if emulates_bfloat16(recipe.training)]
    if slow:
        messages().print(
            f"warning: {', '.join(slow)}: training.precision is bfloat16, which this machine emulates, at a fraction "
            "of the speed of float32; `auto` takes what is fast",
            markup=False,
            soft_wrap=True,
        )


def refuse_missing(executor: str) -> None:
    """Refuse an executor that is not installed.

    Raises:
        RunError: if it is `ray`, and Ray is not there.
    """
    if executor == "ray":
        from fer_augment.runs.ray_executor import require_ray

        require_ray()


def refuse_taken(folder: Path) -> None:
    """Refuse an output directory that is a file.

    Raises:
        RecipeError: if it is.
    """
    if folder.exists() and not folder.is_dir():
        raise RecipeError(f"{folder}: is a file; name a directory with --out")


def make_folder(folder: Path) -> None:
    """Make an output directory, before hours go into what is to lie in it.

    Raises:
        RecipeError: if that cannot be, or nothing can be written into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RecipeError(
            f"{folder}: cannot be written ({error.strerror}); name another directory with --out"
        ) from error


class RunProgress:
    """Shows runs: a bar for each that goes on now, one for all, and a line for each that ended.

    Where there is no terminal to show bars, a line now and then says how far everything is. It is a `Listener` of
    `do_tasks`, and a context manager.
    """

    def __init__(self, runs: Sequence[PlannedRun]) -> None:
        """Show nothing yet."""
        console = messages()
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.all = self.bars.add_task(f"{len(runs)} runs", total=len(runs))
        self.open: dict[str, tuple[TaskID, float]] = {}
        self.found: dict[str, list[str]] = {}
        self.ended_count = 0
        self.told_at = time.monotonic()

    def __enter__(self) -> RunProgress:
        """Begin to show."""
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bars away."""
        self.bars.stop()

    def started(self, task: PlannedRun) -> None:
        """Show a bar for the run."""
        self.open[str(task)] = self.bars.add_task(f"  {escape(str(task))}", total=None), time.monotonic()

    def progressed(self, task: PlannedRun, what: str, done: int, total: int) -> None:
        """Move the run's bar, and the one for all; remember what was there already."""
        from fer_augment.training.store import FOUND

        if what.startswith(FOUND):
            self.found.setdefault(str(task), []).append(what.removeprefix(FOUND))
            return
        self.bars.update(
            self.open[str(task)][0], description=f"  {escape(str(task))}: {escape(what)}", completed=done, total=total
        )
        if what.startswith("training"):
            self.bars.update(self.all, completed=self.ended_count + self._share_done())
        if self.bars.disable and time.monotonic() - self.told_at >= SECONDS_BETWEEN_LINES:
            self.told_at = time.monotonic()
            self.bars.console.print(self._how_far(f"{task}: {what}"), soft_wrap=True)

    def ended(self, task: PlannedRun, outcome: object) -> None:
        """Put a line in the place of the run's bar."""
        bar, since = self.open.pop(str(task))
        self.bars.remove_task(bar)
        self.ended_count += 1
        self.bars.update(self.all, completed=self.ended_count + self._share_done())
        seconds = time.monotonic() - since
        if isinstance(outcome, FailedTask):
            told = f"[red]failed[/red] {escape(str(task))}: {escape(outcome.message)}"
        else:
            known = "".join(f"; {what} was there" for what in dict.fromkeys(self.found.pop(str(task), [])))
            told = f"[dim]done   {escape(str(task))} ({seconds:.0f} s{escape(known)})[/dim]"
        self.bars.console.print(told, soft_wrap=True)

    def _how_far(self, now: str) -> Text:
        task = next(task for task in self.bars.tasks if task.id == self.all)
        left = TimeRemainingColumn().render(task)
        return Text(f"at     {task.description}: {task.percentage:.0f} %, {left} left ({now})", style="dim")

    def _share_done(self) -> float:
        tasks = {task.id: task for task in self.bars.tasks}
        running = [tasks[bar] for bar, _ in self.open.values() if tasks[bar].total]
        return sum(0.01 * task.percentage for task in running)
