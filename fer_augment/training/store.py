"""Finished trainings on disk, by training key; concurrent processes that need the same training do it once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.numpy import load_file

from fer_augment.cache import TRAININGS, cache_folder
from fer_augment.data.digests import changed_files, write_digests
from fer_augment.data.records import WEIGHTS_FILE, Evaluation
from fer_augment.data.whole_files import whole_directory
from fer_augment.errors import RunError


class TrainingFacts(BaseModel):
    """Facts about a finished training, besides its arrays.

    Attributes:
        curve: evaluations in order.
        optimizer_steps: steps taken.
        class_prior: class frequencies as drawn in the last epoch, or in the one kept, summing to 1.
        kept_epoch: number of epochs after which the network had the weights that are kept.
        parameter_count: numbers in the network.
        rewritten_counts: rows of each class in the rewritten training set.
        warnings: warnings of the strategies, and about their rewriting of the training set.
        seconds: wall time of rewriting and training, without scouts and a first stage, which are trainings of their
            own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    curve: tuple[Evaluation, ...]
    optimizer_steps: int
    class_prior: tuple[float, ...]
    kept_epoch: int
    parameter_count: int
    rewritten_counts: tuple[int, ...]
    seconds: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredTraining:
    """A finished training.

    Attributes:
        path: its directory.
        was_reused: whether it was finished before it was needed.
    """

    path: Path
    was_reused: bool

    @cached_property
    def facts(self) -> TrainingFacts:
        """Read `facts.json`.

        Raises:
            RunError: if it is missing or damaged.
        """
        file = self.path / "facts.json"
        try:
            return TrainingFacts.model_validate_json(file.read_bytes())
        except (OSError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(f"{file}: not readable ({reason}); delete {self.path} to train again") from error

    def refuse_changed(self) -> None:
        """Refuse a training whose files have changed since they were written.

        Raises:
            RunError: for the first of them.
        """
        for name in changed_files(self.path):
            raise RunError(
                f"{self.path / name}: has changed since it was written (SHA-256); delete {self.path} to train again"
            )

    @property
    def weights(self) -> Path:
        """The network's weights, a safetensors file."""
        return self.path / WEIGHTS_FILE

    @property
    def provenance(self) -> dict[str, NDArray[np.int64]]:
        """Label, source rows, copy number and making step of each row of the rewritten training set."""
        return load_file(self.path / "provenance.safetensors")

    @property
    def files(self) -> list[Path]:
        """The arrays that a run directory holds, too: weights, provenance, and a few rows that each step made."""
        return [self.path / f"{name}.safetensors" for name in ("weights", "provenance", "examples")]


@dataclass(frozen=True)
class TrainingStore:
    """A directory of finished trainings; safe for any number of processes.

    Attributes:
        root: the directory; created when needed.
    """

    root: Path

    def find(self, key: str) -> StoredTraining | None:
        """Return a training if it is finished."""
        path = self.root / key
        return StoredTraining(path, was_reused=True) if path.is_dir() else None

    def obtain(
        self, key: str, make: Callable[[Path, Path], None], waits: Callable[[], None] = lambda: None
    ) -> StoredTraining:
        """Return a training, doing it if necessary; other processes that need the same one wait meanwhile.

        Args:
            key: of the training.
            make: trains and writes its files into a directory, the first argument; the second is a file for
                checkpoints, which outlives an interruption.
            waits: called before this process waits for another one that does the same training.
        """
        finished = self.find(key)
        if finished:
            finished.refuse_changed()
            with suppress(OSError):  # of a cache that cannot be written to
                os.utime(finished.path)  # the time of the last use, for pruning
            return finished
        self.root.mkdir(parents=True, exist_ok=True)
        checkpoint, lock = self.root / f"{key}.checkpoint", self.root / f"{key}.lock"
        with _held(lock, waits):
            was_reused = self.find(key) is not None
            if not was_reused:
                for leftover in self.root.glob(f".{key}-*"):  # of a killed process: the lock excludes a running one
                    shutil.rmtree(leftover, ignore_errors=True)
                with whole_directory(self.root / key) as scratch:
                    make(scratch, checkpoint)
                    write_digests(scratch)
                checkpoint.unlink(missing_ok=True)
        with suppress(OSError):  # Windows keeps a file that another process has open
            lock.unlink()  # safe once the training is finished: a process that waits, or locks anew, finds it
        return StoredTraining(self.root / key, was_reused)


@contextmanager
def _held(lock: Path, waits: Callable[[], None]) -> Iterator[None]:
    """Hold a lock, which the system releases if this process dies."""
    file_lock = FileLock(lock)
    try:
        file_lock.acquire(blocking=False)
    except Timeout:
        waits()
        file_lock.acquire()
    try:
        yield
    finally:
        file_lock.release()


def default_store() -> TrainingStore:
    """Return the user's store, in the folder of the cache."""
    return TrainingStore(cache_folder() / TRAININGS)
