"""What the runs of a comparison left on disk, found again by their keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fer_augment.data.records import RunDirectory, RunRecord
from fer_augment.errors import RunError
from fer_augment.metrics import CalibrationBins, Scores, calibration_bins, score
from fer_augment.results.comparison import Arm


@dataclass(frozen=True)
class FoundRun:
    """A run of an arm whose directory is there.

    Attributes:
        record: what is known of it.
        directory: its files.
    """

    record: RunRecord
    directory: RunDirectory

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.record.identity.seed

    @cached_property
    def scores(self) -> Scores:
        """How well it did on the test split.

        Raises:
            RunError: if the predictions are missing or damaged.
        """
        said = self.directory.predictions("test")
        return score(said.labels, said.logits.argmax(axis=1), said.logits.shape[1])

    @cached_property
    def calibration(self) -> CalibrationBins:
        """Its test predictions by confidence.

        Raises:
            RunError: if the predictions are missing or damaged.
        """
        said = self.directory.predictions("test")
        return calibration_bins(said.labels, said.logits)

    @property
    def recipe_yaml(self) -> str | None:
        """The recipe as resolved; None if its file is gone."""
        try:
            return (self.directory.path / "recipe.yaml").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    @cached_property
    def examples(self) -> Examples | None:
        """A few rows that its strategies made; None if the file is gone or damaged."""
        try:
            arrays = load_file(self.directory.path / "examples.safetensors")
            return Examples(**{name: arrays[name] for name in Examples.__annotations__})
        except (OSError, KeyError, SafetensorError):
            return None


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows of a rewritten training set beside the rows that they were made from.

    Attributes:
        images: `(n, H, W, C) uint8`.
        sources: `(n, H, W, C) uint8`, the first source row of each.
        labels: `(n,) int64`.
        step: `(n,) int64`, number of the step that made the row, from 1.
    """

    images: NDArray[np.uint8]
    sources: NDArray[np.uint8]
    labels: NDArray[np.int64]
    step: NDArray[np.int64]

    def of_step(self, number: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], int]]:
        """Give source, result and label of each row that a step made."""
        for row in np.flatnonzero(self.step == number):
            yield self.sources[row], self.images[row], int(self.labels[row])


class RunFiles:
    """The run directories below `DIR/runs`, by key; a directory is never sought by a name that a file says."""

    def __init__(self, directory: Path) -> None:
        """Look at every run directory of a comparison; what is not readable is as good as gone."""
        self._of_key: dict[str, FoundRun] = {}
        for path in sorted(directory.glob("runs/*/*/record.json")):
            run = RunDirectory(path.parent)
            try:
                found = FoundRun(run.record, run)
                run.predictions("test")
            except RunError:
                continue
            self._of_key[found.record.identity.key] = found

    def of(self, arm: Arm) -> Sequence[FoundRun]:
        """Return the runs of an arm that are there, in the order of its seeds."""
        return [self._of_key[key] for key in arm.run_keys if key in self._of_key]
