"""Run directories of a comparison, located by recipe and run key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fer_augment.data.image_files import regular_file
from fer_augment.data.records import PREDICTIONS_FILE, RunDirectory, RunRecord
from fer_augment.errors import RunError
from fer_augment.metrics import CalibrationBins, Scores, calibration_bins, score
from fer_augment.results.checking import fault_of_predictions
from fer_augment.results.comparison import Arm

Example: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.uint8], int]
"""Source image, result and label of an added row."""


@dataclass(frozen=True)
class LocatedRun:
    """A run of an arm with a readable directory.

    Attributes:
        record: record of the run.
        directory: files of the run.
    """

    record: RunRecord
    directory: RunDirectory

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.record.identity.seed

    @property
    def name(self) -> str:
        """Its seed, or its held-out fold."""
        return str(self.record.identity.fold or f"seed {self.seed}")

    @cached_property
    def scores(self) -> Scores:
        """Scores on the test split.

        Raises:
            RunError: if the predictions are missing or damaged.
        """
        predictions = self.directory.predictions("test")
        return score(predictions.labels, predictions.logits.argmax(axis=1), predictions.logits.shape[1])

    @cached_property
    def calibration(self) -> CalibrationBins:
        """Test predictions binned by confidence.

        Raises:
            RunError: if the predictions are missing or damaged.
        """
        predictions = self.directory.predictions("test")
        return calibration_bins(predictions.labels, predictions.logits)

    @property
    def recipe_yaml(self) -> str | None:
        """The resolved recipe; None if its file is missing or not text."""
        try:
            return regular_file(self.directory.path / "recipe.yaml").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    @cached_property
    def examples(self) -> Examples | None:
        """Examples of rows added by strategies; None if the file is missing or damaged."""
        try:
            arrays = load_file(regular_file(self.directory.path / "examples.safetensors"))
            examples = Examples(**{name: arrays[name] for name in Examples.__annotations__})
        except (OSError, KeyError, SafetensorError):
            return None
        return examples if examples.are_whole(len(self.record.class_names)) else None


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples of rows of a rewritten training set with their source rows.

    Attributes:
        images: `(n, H, W, C) uint8`.
        sources: `(n, H, W, C) uint8`, the first source row of each.
        labels: `(n,) int64`.
        step: `(n,) int64`, number of the step that added the row, from 1.
    """

    images: NDArray[np.uint8]
    sources: NDArray[np.uint8]
    labels: NDArray[np.int64]
    step: NDArray[np.int64]

    def are_whole(self, classes: int) -> bool:
        """Return whether dtypes and shapes fit together, and there is a class for each label."""
        rows = self.images.shape[:1]
        return (
            self.images.dtype == self.sources.dtype == np.uint8
            and self.images.ndim == 4
            and self.images.size > 0
            and self.images.shape == self.sources.shape
            and rows == self.labels.shape == self.step.shape
            and self.labels.dtype.kind in "iu"
            and 0 <= int(self.labels.min()) <= int(self.labels.max()) < classes
        )

    def of_step(self, number: int) -> Iterator[Example]:
        """Yield source, result and label of each row that a step added."""
        for row in np.flatnonzero(self.step == number):
            yield self.sources[row], self.images[row], int(self.labels[row])


class RunFiles:
    """The run directories below `DIR/runs` by recipe and run key; paths are never built from names in files."""

    def __init__(self, directory: Path) -> None:
        """Read every run directory of a comparison; those that are damaged or have changed are ignored."""
        self._runs: dict[tuple[str, str], LocatedRun] = {}
        for path in sorted(directory.glob("runs/*/*/record.json")):
            run = RunDirectory(path.parent)
            try:
                located = LocatedRun(run.record, run)
                run.refuse_changed("record.json", PREDICTIONS_FILE)
                predictions = run.predictions("test")
            except RunError:
                continue
            record, classes = located.record, len(located.record.class_names)
            fits = {classes} == {len(record.rewritten_counts), len(record.class_prior)}
            if fits and fault_of_predictions(predictions, classes) is None:
                self._runs[record.identity.recipe, record.identity.key] = located

    def of(self, arm: Arm) -> Sequence[LocatedRun]:
        """Return the located runs of an arm, those with its classes, in the order of its seeds."""
        found = (self._runs.get((arm.recipe, key)) for key in arm.run_keys)
        return [run for run in found if run and run.record.class_names == tuple(arm.test.recall)]
