"""Rows of batches, augmented on the CPU: in the training process, or ahead of it in processes of their own.

Each batch has a `context.rng` of its own and learns how often its rows were drawn before, so batches are independent of
each other, and any number of processes gives the same bytes. Seeds of rows do not depend on the batch at all. A process
receives its share of the batches of an epoch at the start of the epoch, computes them in order, and waits whenever the
training process has not taken the last one.

Legend of shapes: S batches of an epoch, B rows of a batch, H, W, C height, width and channels.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from fer_augment import errors
from fer_augment.data.dataset import ImageDataset, occurrence
from fer_augment.errors import FerAugmentError, RunError, StrategyError, StrategyWarning
from fer_augment.hooks.pipeline import Pipeline, Step
from fer_augment.hooks.strategy import NEEDS_SCOUT, Context
from fer_augment.hooks.strategy_files import ExecutedFile, executed_files, module_as_of
from fer_augment.hooks.strategy_warnings import collected_warnings
from fer_augment.processes import cores, start_process
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.training.machine import device_of
from fer_augment.training.specification import Training
from fer_augment.training.torch_runtime import reproducible

MOST_WORKERS = 8
"""How many processes feed an accelerator if the recipe does not say."""


class AugmentedRows:
    """Gathers and augments the rows of batches, in as many processes as `training.workers` says.

    Steps that query a scout or the history act in the training process, which has them.
    """

    def __init__(self, training: Training) -> None:
        """Prepare the work; processes are started when the first epoch begins."""
        self._rows = _Rows(training.pipeline, training.training_set, training.settings)
        self._count = _worker_count(training)
        self._is_chosen = training.settings.workers is not None
        self._workers: list[_Worker] = []
        self._warnings = set[str]()

    def epoch(self, rows: NDArray[np.int64], epoch: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the images of the batches of an epoch, in order.

        Args:
            rows: `(S, B)` positions in the training set.
            epoch: the epoch number passed to strategies.

        Yields:
            `(B, H, W, C) uint8` arrays.

        Raises:
            StrategyError: if a strategy fails, or cannot be sent to a process.
            RunError: if a process dies.
        """
        draws = occurrence(rows.reshape(-1)).reshape(rows.shape)
        workers = self._started()
        if not workers:
            for number in range(len(rows)):
                yield self._rows.augmented(rows[number], draws[number], epoch, number)
            return
        numbers = np.arange(len(rows))
        for place, worker in enumerate(workers):
            share = numbers[place :: len(workers)]
            worker.send((epoch, share, rows[share], draws[share]))
        for number in range(len(rows)):
            shape = rows.shape[1], *self._rows.training_set.image_shape
            images, messages = workers[number % len(workers)].receive(shape)
            self._warn(messages)
            yield images

    def one(self, rows: NDArray[np.int64], epoch: int) -> NDArray[np.uint8]:
        """Return the images of a single batch, augmented in this process."""
        return self._rows.augmented(rows, occurrence(rows), epoch, 0)

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.stop()
        self._workers = []

    def _warn(self, messages: list[str]) -> None:
        """Give the warnings of strategies in the processes, each message once."""
        for message in messages:
            if message not in self._warnings:
                self._warnings.add(message)
                warnings.warn(message, StrategyWarning, stacklevel=2)

    def _started(self) -> list[_Worker]:
        if self._count and not self._workers:
            try:
                work = pickle.dumps(self._rows)
            except Exception as error:
                if not self._is_chosen:  # a strategy typed into an interpreter
                    self._count = 0
                    return []
                reason = " ".join(str(error).split())
                raise StrategyError(
                    f"augment_rows cannot act in processes of its own ({reason}); set training.workers to 0"
                ) from error
            for _ in range(self._count):
                self._workers.append(_Worker())
            for worker in self._workers:  # all of them import what they need at the same time
                worker.send((executed_files(type(step.strategy) for step in self._rows.acting), work))
        return self._workers


@dataclass(frozen=True, eq=False)
class _Rows:
    """The steps that act on rows, and the rows; sent to each process once.

    Attributes:
        pipeline: the strategies and the seed.
        training_set: the rewritten training set.
        settings: how it computes.
    """

    pipeline: Pipeline
    training_set: ImageDataset
    settings: TrainingSettings

    @property
    def acting(self) -> tuple[Step, ...]:
        """The steps that act on rows."""
        return tuple(step for step in self.pipeline.steps if step.acts_at(["augment_rows"]))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the steps that act here, without the scouts, which belong to the training process."""
        context = self.pipeline.context
        return _rows, (self.acting, context.seed, context.class_names, context.device, self.training_set, self.settings)

    def augmented(self, rows: NDArray[np.int64], draws: NDArray[np.int64], epoch: int, batch: int) -> NDArray[np.uint8]:
        """Return the `(B, H, W, C)` images of `(B,)` rows, augmented."""
        data = self.training_set
        return self.pipeline.fold(
            "augment_rows",
            data.images[rows],
            epoch=epoch,
            batch=batch,
            labels=data.labels[rows],
            rows=rows,
            draws=draws,
            training_set=data,
        )


def _rows(
    steps: tuple[Step, ...],
    seed: int,
    class_names: tuple[str, ...],
    device: str,
    training_set: ImageDataset,
    settings: TrainingSettings,
) -> _Rows:
    on_cpu = settings.model_copy(update={"device": "cpu"})  # where rows are augmented; the accelerator stays untouched
    return _Rows(Pipeline(steps, Context(seed, class_names, device=device)), training_set, on_cpu)


def _worker_count(training: Training) -> int:
    acting = [step for step in training.pipeline.steps if step.acts_at(["augment_rows"])]
    if any(step.strategy.effects & NEEDS_SCOUT or step.uses_history for step in acting):
        return 0
    if training.settings.workers is not None:
        return training.settings.workers
    return 0 if device_of(training.settings) == "cpu" else min(MOST_WORKERS, cores())


class _Worker:
    """A process that augments rows, and this end of the pipe to it."""

    def __init__(self) -> None:
        self.connection, other_end = multiprocessing.Pipe()
        self.process = start_process(_serve, other_end, daemon=True)
        other_end.close()

    def send(self, message: object) -> None:
        """Send work or batches; the process is waiting for them."""
        try:
            self.connection.send(message)
        except ConnectionError as error:
            raise self._death() from error

    def receive(self, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], list[str]]:
        """Return the next batch of the process, and the messages of new warnings of strategies."""
        try:
            failure, messages = self.connection.recv()
            if failure is None:
                images = np.empty(shape, np.uint8)
                self.connection.recv_bytes_into(images.reshape(-1).data)
                return images, messages
        except (EOFError, ConnectionError) as error:
            raise self._death() from error
        kind, message, details = failure
        raise getattr(errors, kind)(message) from _ErrorInProcess(details)

    def _death(self) -> RunError:
        self.process.join()
        return RunError(
            f"a process of training.workers ended with exit code {self.process.exitcode}; was there enough memory? "
            "With training.workers=0, rows are augmented in the training process"
        )

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


class _ErrorInProcess(Exception):
    """The traceback of an error in another process, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _serve(connection: Connection) -> None:
    """Augment rows until the other end of the pipe closes; Ctrl-C is handled by the training process alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        files, work = connection.recv()
        with collected_warnings() as messages:
            failure, rows = _unpacked(files, work)
            sent = 0
            while True:
                epoch, numbers, batches, draws = connection.recv()
                for number, batch, drawn in zip(numbers.tolist(), batches, draws, strict=True):
                    images = None
                    if rows is not None:
                        failure, images = _attempted(rows, batch, drawn, epoch, number)
                    connection.send((failure, messages[sent:]))
                    sent = len(messages)
                    if images is not None:
                        connection.send_bytes(images.reshape(-1).data)
    except (EOFError, ConnectionError):
        return


Failure = tuple[str, str, str]
"""The class of an error of ours, its message, and the traceback."""


def _unpacked(files: list[ExecutedFile], work: bytes) -> tuple[Failure | None, _Rows | None]:
    """Execute the files of local strategies as the training process did, and load the work."""
    try:
        for file in files:
            module_as_of(file)
        rows: _Rows = pickle.loads(work)
    except Exception as error:  # noqa: BLE001 - loading code of plugins may raise anything
        reason = " ".join(str(error).split())
        return ("StrategyError", f"augment_rows cannot act in a process of its own: {reason}", _traceback()), None
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)  # the processes together use the cores
    return None, rows


def _attempted(
    rows: _Rows, batch: NDArray[np.int64], draws: NDArray[np.int64], epoch: int, number: int
) -> tuple[Failure | None, NDArray[np.uint8] | None]:
    try:
        with reproducible(rows.settings, 0):
            return None, np.ascontiguousarray(rows.augmented(batch, draws, epoch, number))
    except FerAugmentError as error:
        return (type(error).__name__, str(error), _traceback()), None


def _traceback() -> str:
    return traceback.format_exc()
