"""Checks of the files of a comparison or a run: what is damaged or missing, and how to mend it. Nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_augment.data.dataset import HELD_OUT
from fer_augment.data.digests import changed_files
from fer_augment.data.records import BACKBONE_FILE, PREDICTIONS_FILE, WEIGHTS_FILE, Predictions, RunDirectory, RunRecord
from fer_augment.errors import DamagedFileError, RunError
from fer_augment.results.comparison import COMPARISON_FILE, REPORT_FILE, ComparisonRecord, read_comparison
from fer_augment.results.confused_images import CONFUSED_FILE, load_confused

_AGAIN = "run the same `fer-augment compare` again: it redoes what is damaged or missing and keeps the rest"
_RUN_AGAIN = "delete its directory and run it again"
_FILES_OF_RUN = ("recipe.yaml", "provenance.safetensors", WEIGHTS_FILE)


@dataclass(frozen=True)
class Damage:
    """Something wrong with the files of results.

    Attributes:
        file: the file or directory.
        reason: what is wrong.
        remedy: what to do.
    """

    file: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        """Return all of it in one line."""
        return f"{self.file}: {self.reason}; {self.remedy}"


def damages_in(directory: Path) -> list[Damage]:
    """Check the directory of a comparison or of a run.

    Args:
        directory: a directory with `comparison.json`, with `record.json`, or with run directories below `runs`.

    Raises:
        RunError: if it is none of these.
    """
    if (directory / "record.json").exists():
        return list(_of_run(directory, _RUN_AGAIN))
    runs = sorted(path.parent for path in directory.glob("runs/*/*/record.json"))
    if not (directory / COMPARISON_FILE).exists() and not runs:
        raise RunError(f"{directory}: neither a comparison nor a run: it has no {COMPARISON_FILE} and no record.json")
    damages = [damage for run in runs for damage in _of_run(run, _AGAIN)]
    if (directory / COMPARISON_FILE).exists():
        damages += _of_comparison(directory, runs)
    return damages


def _of_comparison(directory: Path, runs: list[Path]) -> Iterator[Damage]:
    try:
        comparison = read_comparison(directory)
    except DamagedFileError as error:
        yield Damage(str(error.file), error.reason, _AGAIN)
        return
    if comparison.is_of_trainings:
        yield from _missing_runs(directory, comparison, runs)
    report = directory / REPORT_FILE
    if not report.is_file() or not report.stat().st_size:
        yield Damage(str(report), "is missing or empty", f"fer-augment report {directory}")
    if (directory / CONFUSED_FILE).exists():
        try:
            load_confused(directory / CONFUSED_FILE)
        except DamagedFileError as error:
            yield Damage(str(error.file), error.reason, _AGAIN)


def _missing_runs(directory: Path, comparison: ComparisonRecord, runs: list[Path]) -> Iterator[Damage]:
    found: dict[tuple[str, str], RunRecord] = {}
    for run in runs:
        try:
            record = RunDirectory(run).record
        except RunError:  # reported with the run
            continue
        found[record.identity.recipe, record.identity.key] = record
    for arm in comparison.arms:
        for seed, key in zip(arm.seeds, arm.run_keys, strict=True):
            of_run = found.get((arm.recipe, key))
            if of_run is None:
                yield Damage(str(directory / "runs" / arm.recipe), f"the run with seed {seed} is missing", _AGAIN)
            elif of_run.class_names != comparison.class_names:
                yield Damage(
                    str(directory / "runs" / arm.recipe), f"the run with seed {seed} has other classes", _AGAIN
                )


def _of_run(path: Path, remedy: str) -> Iterator[Damage]:
    run = RunDirectory(path)
    damage = run.damage
    if damage:
        file, reason = damage
        yield Damage(str(file), reason, remedy)
        return
    trains_head = run.record.recipe.get("training", {}).get("train") == "head"
    changed = list(changed_files(path))
    for name in dict.fromkeys((*_FILES_OF_RUN, *([BACKBONE_FILE] if trains_head else []), *changed)):
        if not (path / name).is_file():
            yield Damage(str(path / name), "is missing", remedy)
        elif name in changed:
            yield Damage(str(path / name), "has changed since the run wrote it (SHA-256)", remedy)
    for split in HELD_OUT:
        fault = fault_of_predictions(run.predictions(split), len(run.record.class_names))
        if fault:
            yield Damage(str(path / PREDICTIONS_FILE), f"{split}: {fault}", remedy)


def fault_of_predictions(predictions: Predictions, classes: int) -> str | None:
    """Return what is wrong with the arrays of a split for a number of classes; None if they can be scored."""
    labels, logits = predictions.labels, predictions.logits
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or logits.shape != (len(labels), classes):
        return f"{logits.shape} logits for {len(labels)} rows and {classes} classes"
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        return "labels of classes that do not exist"
    if len({len(labels), len(predictions.groups), len(predictions.in_train)}) > 1:
        return "arrays of different lengths"
    return "logits are NaN" if np.isnan(logits).any() else None
