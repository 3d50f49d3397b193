"""Runs on a Ray cluster: their resources, and the transfer of run directories from machines that share no disk.

A machine that shares the directories of this one works in them, as local processes do. On any other machine a run uses
that machine's own cache of trainings, and the files of the run directory are sent back with the result.
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
from fer_augment.progress import Report
from fer_augment.runs.executors import FailedTask, Listener
from fer_augment.runs.experiment import Experiment, PlannedRun
from fer_augment.runs.ray_executor import Needs, do_tasks_on_ray
from fer_augment.training.store import TrainingStore, default_store


@dataclass(frozen=True)
class Delivery:
    """The result of a run, as it is sent back.

    Attributes:
        path: the run's directory, below the folder of runs.
        files: its content by name, if it was written on a machine that does not share that folder; else empty.
    """

    path: Path
    files: dict[str, bytes]


@dataclass(frozen=True, eq=False)
class RemoteExperiment:
    """An experiment that can be sent to any machine, and called there with a run.

    Attributes:
        experiment: with absolute paths.
        marks: files that exist only where the experiment's directories are those of the sender.
        finished: run directories of the sender, below the folder of runs.
    """

    experiment: Experiment
    marks: tuple[Path, ...]
    finished: frozenset[Path]

    def __call__(self, task: PlannedRun, report: Report) -> Delivery:
        """Do a run unless it is cached."""
        if all(map(os.path.exists, self.marks)):  # False where Path.exists would raise PermissionError
            path = self.experiment(task, report)
            return Delivery(path.relative_to(self.experiment.folder), {})
        with TemporaryDirectory(prefix="fer_augment-") as scratch:
            for path in self.finished:
                (Path(scratch) / path).mkdir(parents=True)  # is cached, and not done again
            path = replace(self.experiment, store=default_store(), folder=Path(scratch))(task, report)
            return Delivery(path.relative_to(scratch), {file.name: file.read_bytes() for file in path.iterdir()})


def do_runs_on_ray(
    experiment: Experiment, runs: Sequence[PlannedRun], listener: Listener[PlannedRun], at_once: int | None = None
) -> list[Path | FailedTask]:
    """Do runs on a Ray cluster, as `do_tasks` does them locally.

    Args:
        experiment: the data, and where results are written on this machine.
        runs: queued in this order.
        listener: receives what happens.
        at_once: maximum number of runs at a time; None for as many as the cluster has room for.

    Returns:
        The directory of each run, or its `FailedTask`, in their order.

    Raises:
        RunError: if there is no Ray, no cluster, or no machine in it that is large enough, or if results cannot be
            written on this machine.
    """

    def receive(run: PlannedRun, delivery: Delivery) -> Path:
        path = experiment.folder / delivery.path
        if delivery.files:
            experiment.ledger.note(run.recipe, experiment.data.scored(run.recipe))
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
    """Create a file of a unique name in both directories of an experiment while the block runs."""
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
