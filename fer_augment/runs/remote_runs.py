"""Runs on a Ray cluster: what a run needs there, and how its directory comes here from a machine that shares no disk.

A machine that sees the directories of this one works in them, as local processes do. On any other a run uses that
machine's own cache of trainings, and the files of its directory travel back with the result.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory

from fer_augment.data.records import whole_directory
from fer_augment.errors import RunError
from fer_augment.runs.executors import FailedTask, Listener, ReportTask
from fer_augment.runs.experiment import Experiment, PlannedRun
from fer_augment.runs.ray_executor import Needs, do_tasks_on_ray
from fer_augment.training.store import TrainingStore, default_store


@dataclass(frozen=True)
class Delivery:
    """What comes back of a run.

    Attributes:
        path: the run's directory, below the folder of runs.
        files: its content by name, if it was made where that folder is not seen; else empty.
    """

    path: Path
    files: dict[str, bytes]


@dataclass(frozen=True, eq=False)
class RemoteExperiment:
    """An experiment that can be sent to any machine, and called there with a run.

    Attributes:
        experiment: with absolute paths.
        marks: files that are seen where the experiment's directories are those of the sender.
        finished: run directories that the sender has, below the folder of runs.
    """

    experiment: Experiment
    marks: tuple[Path, ...]
    finished: frozenset[Path]

    def __call__(self, task: PlannedRun, report: ReportTask) -> Delivery:
        """Do a run, or find it done."""
        if all(map(os.path.exists, self.marks)):  # says no where Path.exists raises that it may not look
            path = self.experiment(task, report)
            return Delivery(path.relative_to(self.experiment.folder), {})
        with TemporaryDirectory(prefix="fer_augment-") as scratch:
            for path in self.finished:
                (Path(scratch) / path).mkdir(parents=True)  # is found, and not done again
            path = replace(self.experiment, store=default_store(), folder=Path(scratch))(task, report)
            return Delivery(path.relative_to(scratch), {file.name: file.read_bytes() for file in path.iterdir()})


def do_runs_on_ray(
    experiment: Experiment, runs: Sequence[PlannedRun], listener: Listener[PlannedRun], at_once: int | None = None
) -> list[Path | FailedTask]:
    """Do runs as `do_tasks` does, on a Ray cluster.

    Args:
        experiment: knows the data, and where results go on this machine.
        runs: queued in this order.
        listener: told what happens.
        at_once: how many at a time at the most; as many as the cluster has room for if None.

    Returns:
        The directory of each run or why it has none, in their order.

    Raises:
        RunError: if there is no Ray, no cluster, or no machine in it that is large enough, or if results cannot be
            written on this machine.
    """

    def receive(run: PlannedRun, delivery: Delivery) -> Path:
        path = experiment.folder / delivery.path
        if delivery.files:
            experiment.ledger.note(run.recipe, experiment.splits)
            with whole_directory(path) as scratch:
                for name, content in delivery.files.items():
                    (scratch / name).write_bytes(content)
        return path

    with _marked(experiment) as marks:
        absolute = replace(
            experiment, store=TrainingStore(experiment.store.root.absolute()), folder=experiment.folder.absolute()
        )
        work = RemoteExperiment(absolute, marks, _finished(experiment.folder))
        return do_tasks_on_ray(work, runs, _needs, listener, receive=receive, at_once=at_once)


def _needs(run: PlannedRun) -> Needs:
    settings = run.recipe.training
    return Needs(settings.threads, settings.device)


@contextmanager
def _marked(experiment: Experiment) -> Iterator[tuple[Path, ...]]:
    """Put a file of a new name into both directories of an experiment while the block runs."""
    with ExitStack() as stack:
        marks = []
        for directory in (experiment.store.root, experiment.folder):
            try:
                directory.mkdir(parents=True, exist_ok=True)
                marks.append(stack.enter_context(NamedTemporaryFile(prefix=".seen-", dir=directory.absolute())))
            except OSError as error:
                raise RunError(f"{directory}: cannot be written to ({error.strerror})") from error
        yield tuple(Path(mark.name) for mark in marks)


def _finished(folder: Path) -> frozenset[Path]:
    return frozenset(path.relative_to(folder) for path in folder.glob("*/seed-*"))
