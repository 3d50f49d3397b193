"""Tasks of runs on a Ray cluster: their resources, and the transfer of files from and to machines that share no disk.

A machine that shares the directories of this one works in them, as local processes do. On any other machine a task uses
that machine's own cache of trainings, which receives the trainings that the task waited for, and the files of the run
or training are sent back with the result.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any, TypeAlias

from fer_augment.data.records import RunDirectory
from fer_augment.data.whole_files import whole_directory
from fer_augment.errors import RunError
from fer_augment.progress import Report
from fer_augment.runs.executors import FailedTask, Listener
from fer_augment.runs.experiment import Experiment, PlannedRun, SharedTraining, Task
from fer_augment.runs.ray_executor import Needs, do_tasks_on_ray, several_machines
from fer_augment.runs.task_order import Waits
from fer_augment.training.store import TrainingStore, default_store

Files: TypeAlias = dict[str, bytes]
"""The content of a directory, by path below it."""


@dataclass(frozen=True)
class Package:
    """A task, as it is sent to a machine.

    Attributes:
        task: the task.
        trainings: the trainings that it waited for, by key; references to their `Files` in Ray's object store, which
            a machine fetches only if it has no such training.
    """

    task: Task
    trainings: dict[str, Any]


@dataclass(frozen=True)
class Delivery:
    """The result of a task, as it is sent back.

    Attributes:
        path: the directory of the run or training, below the folder of runs or trainings.
        files: its content, if it was written on a machine that does not share that folder; else empty.
    """

    path: Path
    files: Files


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

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the pixels of the cache, too, if there are machines that may not have it."""
        if not several_machines():
            return vars(self)
        return vars(self) | {"experiment": replace(self.experiment, data=self.experiment.data.without_cache())}

    def __call__(self, task: Package, report: Report) -> Delivery:
        """Do a task unless its result is cached."""
        if all(map(os.path.exists, self.marks)):  # False where Path.exists would raise PermissionError
            path = self.experiment(task.task, report)
            return Delivery(path.relative_to(_folder_of(task.task, self.experiment)), {})
        with TemporaryDirectory(prefix="fer_augment-") as scratch:
            for path in self.finished:
                (Path(scratch) / path).mkdir(parents=True)  # is cached, and not done again
            here = replace(self.experiment, store=default_store(), folder=Path(scratch))
            _unpack(task.trainings, here.store)
            path = here(task.task, report)
            return Delivery(path.relative_to(_folder_of(task.task, here)), _files_in(path))


def _folder_of(task: Task, experiment: Experiment) -> Path:
    return experiment.store.root if isinstance(task, SharedTraining) else experiment.folder


def _files_in(directory: Path) -> Files:
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def _write(files: Files, directory: Path) -> None:
    with whole_directory(directory) as scratch:
        for name, content in files.items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_bytes(content)


def _unpack(trainings: dict[str, Any], store: TrainingStore) -> None:
    """Add trainings to the cache of this machine, if it does not have them."""
    import ray

    for key, reference in trainings.items():
        if store.find(key) is None:
            _write(ray.get(reference), store.root / key)


def do_runs_on_ray(
    experiment: Experiment,
    tasks: Sequence[Task],
    listener: Listener[Task],
    at_once: int | None = None,
    *,
    waits: Waits | None = None,
) -> list[Path | FailedTask]:
    """Do the tasks of runs on a Ray cluster, as `do_tasks` does them locally.

    Args:
        experiment: the data, and where results are written on this machine.
        tasks: queued in this order, but for those that wait.
        listener: receives what happens.
        at_once: maximum number of tasks at a time; None for as many as the cluster has room for.
        waits: for each task the numbers of those that end before it is queued; None if no task waits.

    Returns:
        The directory of each run or training, or its `FailedTask`, in the order of the tasks.

    Raises:
        RunError: if there is no Ray, no cluster, or no machine in it that is large enough, or if results cannot be
            written on this machine.
    """
    keys: dict[str, str] = {}
    packed: dict[str, Any] = {}

    def receive(task: Task, delivery: Delivery) -> Path:
        path = _folder_of(task, experiment) / delivery.path
        if delivery.files:
            if isinstance(task, PlannedRun):
                experiment.ledger.note(task.recipe, experiment.data.scored(task.recipe))
            _write(delivery.files, path)
        keys[str(task)] = path.name if isinstance(task, SharedTraining) else RunDirectory(path).record.training_key
        return path

    def send(number: int, task: Task) -> Package:
        others = [str(tasks[other]) for other in (waits[number] if waits else ())]
        needed = [keys[other] for other in others if other in keys] if several_machines() else []
        return Package(task, {key: reference for key in needed if (reference := put(key)) is not None})

    def put(key: str) -> Any:
        import ray

        stored = experiment.store.find(key)
        if key not in packed and stored:
            packed[key] = ray.put(_files_in(stored.path))
        return packed.get(key)

    with _marked(experiment) as marks:
        absolute = replace(
            experiment, store=TrainingStore(experiment.store.root.absolute()), folder=experiment.folder.absolute()
        )
        work = RemoteExperiment(absolute, marks, _finished(experiment.folder))
        return do_tasks_on_ray(work, tasks, _needs, listener, receive=receive, at_once=at_once, waits=waits, send=send)


def _needs(task: Task) -> Needs:
    settings = task.recipe.training
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
