"""Trackers that write files: tables of curves and scores (csv), and a log of all events (jsonl)."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_augment import Evaluation, RunIdentity, RunRecord, Tracker, hookimpl

if TYPE_CHECKING:
    from fer_augment import Comparison


class Tables:
    """Writes `curves.csv`, a row for each evaluation of a run, and `scores.csv`, a row for each finished run.

    Both begin anew with each command: a comparison that resumes passes on all evaluations and runs again.
    """

    def __init__(self, out: Path) -> None:
        """Write into the directory of results, from the first event on."""
        self.out = out
        self.begun: set[str] = set()

    @hookimpl
    def epoch_finished(self, run: RunIdentity, evaluation: Evaluation, class_names: Sequence[str]) -> None:
        """Write a row."""
        empty = dict.fromkeys(f"validation_recall/{name}" for name in class_names)
        progress = {"epoch": evaluation.epoch, "step": evaluation.step}
        self._write("curves.csv", {**_labels(run), **progress, **_with_gaps(evaluation.scalars(class_names), empty)})

    @hookimpl
    def run_finished(self, run: RunIdentity, record: RunRecord, scores: Mapping[str, float], directory: Path) -> None:
        """Write a row."""
        measures = ("recall", "precision", "f1")
        empty = dict.fromkeys(f"test_{measure}/{name}" for measure in measures for name in record.class_names)
        self._write("scores.csv", {**_labels(run), **_with_gaps(scores, empty), "directory": str(directory)})

    def _write(self, name: str, row: Mapping[str, object]) -> None:
        """Append a row; begin with a header."""
        is_first = name not in self.begun
        self.begun.add(name)
        with (self.out / name).open("w" if is_first else "a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if is_first:
                writer.writeheader()
            writer.writerow(row)


def _labels(run: RunIdentity) -> dict[str, object]:
    return {"recipe": run.recipe, "seed": run.seed, "key": run.key}


def _with_gaps(values: Mapping[str, float], empty: Mapping[str, None]) -> dict[str, float | None]:
    """Return values with an empty one for each class without rows, in the same order for all runs."""
    return {**{name: value for name, value in values.items() if name not in empty}, **empty, **values}


class EventLog:
    """Writes `events.jsonl`: one JSON object per event, with its time."""

    def __init__(self, out: Path) -> None:
        """Write into the directory of results, from the first event on."""
        self.file = out / "events.jsonl"
        self.has_begun = False

    @hookimpl
    def comparison_started(self, recipes: Sequence[str], seeds: Sequence[int], source: str) -> None:
        """Log the plan."""
        self._write("comparison_started", recipes=list(recipes), seeds=list(seeds), source=source)

    @hookimpl
    def run_started(self, run: RunIdentity, recipe: Mapping[str, Any]) -> None:
        """Log the recipe."""
        self._write("run_started", **_labels(run), settings=recipe)

    @hookimpl
    def epoch_finished(self, run: RunIdentity, evaluation: Evaluation, class_names: Sequence[str]) -> None:
        """Log losses and scores."""
        progress = {"epoch": evaluation.epoch, "step": evaluation.step}
        self._write("epoch_finished", **_labels(run), **progress, **evaluation.scalars(class_names))

    @hookimpl
    def run_finished(self, run: RunIdentity, scores: Mapping[str, float], directory: Path) -> None:
        """Log the scores on the test split."""
        self._write("run_finished", **_labels(run), **scores, directory=str(directory))

    @hookimpl
    def run_failed(self, run: RunIdentity, message: str) -> None:
        """Log the reason."""
        self._write("run_failed", **_labels(run), message=message)

    @hookimpl
    def comparison_finished(self, comparison: Comparison) -> None:
        """Log the verdicts."""
        verdicts = {arm.recipe: str(arm.balanced_accuracy.verdict) for arm in comparison.versus}
        self._write("comparison_finished", baseline=comparison.baseline, balanced_accuracy=verdicts)

    @hookimpl
    def comparison_failed(self, message: str) -> None:
        """Log the reason."""
        self._write("comparison_failed", message=message)

    def _write(self, event: str, **content: object) -> None:
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **content})
        with self.file.open("a" if self.has_begun else "w", encoding="utf-8") as file:
            file.write(line + "\n")
        self.has_begun = True


@hookimpl
def register_trackers() -> list[Tracker]:
    """Register the trackers of this module."""
    return [
        Tracker("csv", "Writes curves.csv and scores.csv into the directory of results.", Tables),
        Tracker("jsonl", "Writes all events into events.jsonl in the directory of results.", EventLog),
    ]
