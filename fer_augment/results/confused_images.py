"""Misclassified images of pairs of classes, stored as `confused.safetensors`; reading them needs no torch.

Legend of shapes: n images, H height, W width, C channels, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fer_augment.data.image_files import regular_file
from fer_augment.data.records import RunDirectory, RunIdentity
from fer_augment.data.whole_files import write_whole
from fer_augment.errors import DamagedFileError, RunError

CONFUSED_FILE = "confused.safetensors"

Pair: TypeAlias = tuple[str, str]
"""A true class and a predicted one, by name."""


class ConfusedRows(BaseModel):
    """Identity of a set of confused images.

    Attributes:
        run: the run whose network made the predictions.
        split: the split of the images.
        true: their true class.
        predicted: their predicted class.
        total: number of distinct images; only those with the most confident predictions are stored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: RunIdentity
    split: Literal["test", "train"]
    true: str
    predicted: str
    total: int


@dataclass(frozen=True, eq=False)
class ConfusedImages:
    """Images of one class that one network predicted as another.

    Attributes:
        rows: identity of the set.
        images: `(n, H, W, C) uint8`, the most confident prediction first.
        probabilities: `(n, K) float32`, predicted class probabilities.
    """

    rows: ConfusedRows
    images: NDArray[np.uint8]
    probabilities: NDArray[np.float32]


_ROWS = TypeAdapter(tuple[ConfusedRows, ...])


def save_confused(path: Path, confused: Sequence[ConfusedImages]) -> None:
    """Write a file of confused images atomically."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for number, one in enumerate(confused):
        arrays[f"{number}.images"] = np.ascontiguousarray(one.images)
        arrays[f"{number}.probabilities"] = np.ascontiguousarray(one.probabilities)
    rows = _ROWS.dump_json(tuple(one.rows for one in confused)).decode()
    write_whole(path, save(arrays, metadata={"rows": rows}))


def load_confused(path: Path) -> tuple[ConfusedImages, ...]:
    """Read a file of confused images.

    Raises:
        RunError: if the file is missing or damaged.
    """
    try:
        with safe_open(regular_file(path), framework="numpy") as file:
            return tuple(
                ConfusedImages(rows, file.get_tensor(f"{n}.images"), file.get_tensor(f"{n}.probabilities"))
                for n, rows in enumerate(load_confused_rows(path))
            )
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error


def load_confused_rows(path: Path) -> tuple[ConfusedRows, ...]:
    """Read which sets of confused images a file holds, without the images.

    Raises:
        RunError: if the file is missing or damaged.
    """
    try:
        with safe_open(regular_file(path), framework="numpy") as file:
            return _ROWS.validate_json((file.metadata() or {}).get("rows", ""))
    except (OSError, SafetensorError, ValidationError) as error:
        raise _unreadable(path, error) from error


def has_confused(path: Path, runs_by_arm: Mapping[str, Sequence[RunDirectory]], pairs: Iterable[Pair]) -> bool:
    """Return whether a file holds the images that `galleries.collect_confused` would store for the same arguments."""
    identities = [run.record.identity for run in first_runs(runs_by_arm)]
    wanted = {(run.key, split, *pair) for run in identities for split in ("test", "train") for pair in pairs}
    try:
        stored = {(rows.run.key, rows.split, rows.true, rows.predicted) for rows in load_confused_rows(path)}
    except RunError:
        return False
    return stored == wanted


def first_runs(runs_by_arm: Mapping[str, Sequence[RunDirectory]]) -> list[RunDirectory]:
    """Return the run with the smallest seed of each arm that has runs: the one whose network is shown."""
    return [min(runs, key=lambda run: run.record.identity.seed) for runs in runs_by_arm.values() if runs]


def _unreadable(path: Path, error: Exception) -> DamagedFileError:
    reason = f"cannot be read ({str(error).splitlines()[0]})"
    return DamagedFileError(path, reason, "run `fer-augment compare` again to rewrite it")
