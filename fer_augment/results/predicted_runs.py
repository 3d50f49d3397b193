"""Predictions of single runs, from the rows of files; in a cross-validation a run is a repeat, from several files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.errors import PredictionError, excerpt, text_fault
from fer_augment.results.prediction_table import PredictionTable

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_MOST_SEED_DIGITS = 18


@dataclass(frozen=True, eq=False)
class PredictedRun:
    """Predictions of one run for N images; images, classes, groups and folds have numbers that all runs share.

    Attributes:
        tables: the files, without their values and scores.
        of_table: `(N,)` file of each row.
        rows: `(N,)` row in its file.
        images: `(N,)` number of the image.
        true: `(N,)` number of the true class.
        predicted: `(N,)` number of the predicted class.
        confidence: `(N,)` probability of the predicted class; NaN without scores.
        losses: `(N,)` `-ln p(true class)`; NaN without scores.
        groups: `(N,)` number of the group; None without.
        folds: `(N,)` number of the fold that held the image out; None on a fixed test split.
    """

    tables: tuple[PredictionTable, ...]
    of_table: IntArray
    rows: IntArray
    images: IntArray
    true: IntArray
    predicted: IntArray
    confidence: FloatArray
    losses: FloatArray
    groups: IntArray | None = None
    folds: IntArray | None = None

    @property
    def title(self) -> str:
        """Its first file, for messages."""
        return self.tables[0].title

    def at(self, position: int) -> str:
        """Return file and place of one of the N images, for messages."""
        return self.tables[int(self.of_table[position])].at(int(self.rows[position]))

    def in_order(self, order: IntArray) -> PredictedRun:
        """Return the images in another order."""
        arrays = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "tables"}
        ordered: dict[str, Any] = {name: None if array is None else array[order] for name, array in arrays.items()}
        return PredictedRun(tables=self.tables, **ordered)

    def joined(self, other: PredictedRun, run: str) -> PredictedRun:
        """Add the images of another fold of the same repeat.

        Args:
            other: images of other folds.
            run: arm and seed, for messages.

        Raises:
            PredictionError: if the run has no folds, or contains the same fold.
        """
        if (self.folds is None) != (other.folds is None):
            without, with_folds = (self, other) if self.folds is None else (other, self)
            raise PredictionError(f"{without.title}: no fold of {run}, but {with_folds.title} has one; give all one")
        if self.folds is None or other.folds is None or np.isin(other.folds, self.folds).any():
            what = "the same fold of " if other.folds is not None else ""
            raise PredictionError(f"{other.at(0)}: {what}{run} is in {self.title} already; name each run once")
        arrays: dict[str, Any] = {}
        for one in fields(self):
            if one.name != "tables":
                parts = getattr(self, one.name), getattr(other, one.name)
                if one.name == "groups" and (parts[0] is None) != (parts[1] is None):
                    without, with_groups = (self, other) if parts[0] is None else (other, self)
                    raise PredictionError(f"{without.title}: no group, but {with_groups.title} has; give all folds one")
                arrays[one.name] = None if any(part is None for part in parts) else np.concatenate(parts)
        arrays["of_table"] = np.concatenate([self.of_table, other.of_table + len(self.tables)])
        return PredictedRun(tables=(*self.tables, *other.tables), **arrays)

    def refuse_repeated(self, image_name: Callable[[int], str]) -> None:
        """Raise PredictionError if an image has two rows."""
        _, first, counts = np.unique(self.images, return_index=True, return_counts=True)
        for place in first[counts > 1][:1]:
            again = np.flatnonzero(self.images == self.images[place])[1]
            raise PredictionError(
                f"{self.at(again)}: image {image_name(self.images[place])} is in {self.at(place)} already; keep one "
                "row per image and run"
            )


def runs_in(table: PredictionTable, named: Mapping[str, str]) -> Iterator[tuple[str, int, IntArray]]:
    """Yield arm, seed and rows of each run of a file.

    Raises:
        PredictionError: if a seed is not a number, or an arm cannot be written to a file.
    """
    rows_of: dict[tuple[str, str], Sequence[int]] = {}
    if "arm" in named and "seed" in named:
        rows_of[named["arm"], named["seed"]] = range(table.rows)
    else:
        columns = [table.values[role] if role not in named else [named[role]] * table.rows for role in ("arm", "seed")]
        found: dict[tuple[str, str], list[int]] = defaultdict(list)
        for row, (arm, seed) in enumerate(zip(*columns, strict=True)):
            found[arm, seed].append(row)
        rows_of.update(found)
    for (arm, seed), rows in rows_of.items():
        if not (seed.isascii() and seed.isdigit() and len(seed) <= _MOST_SEED_DIGITS):
            raise PredictionError(f"{table.at(rows[0])}: seed is {excerpt(seed, 40)!r}; expected a number from 0")
        if fault := text_fault(arm):
            raise PredictionError(f"{table.at(rows[0])}: arm {fault}")
        yield arm, int(seed), np.array(rows)
