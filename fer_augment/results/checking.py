"""Checks of the files of a comparison or a run: what is damaged or missing, and how to mend it. Nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_augment.data.digests import changed_files
from fer_augment.data.records import BACKBONE_FILE, HELD_OUT, PREDICTIONS_FILE, RunDirectory, RunRecord
from fer_augment.errors import RunError
from fer_augment.results.comparison import COMPARISON_FILE, REPORT_FILE, ComparisonRecord, read_comparison
from fer_augment.results.confused_images import CONFUSED_FILE, load_confused

_AGAIN = "run the same `fer-augment compare` again: it redoes what is damaged or missing and keeps the rest"
_RUN_AGAIN = "delete its directory and run it again"
_FILES_OF_RUN = ("recipe.yaml", "provenance.safetensors", "weights.safetensors")


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
    except RunError as error:
        yield Damage(str(directory / COMPARISON_FILE), _without(directory / COMPARISON_FILE, error), _AGAIN)
        return
    if comparison.is_of_trainings:
        yield from _missing_runs(directory, comparison, runs)
    report = directory / REPORT_FILE
    if not report.is_file() or not report.stat().st_size:
        yield Damage(str(report), "is missing or empty", f"fer-augment report {directory}")
    if (directory / CONFUSED_FILE).exists():
        try:
            load_confused(directory / CONFUSED_FILE)
        except RunError as error:
            yield Damage(str(directory / CONFUSED_FILE), _without(directory / CONFUSED_FILE, error), _AGAIN)


def _missing_runs(directory: Path, comparison: ComparisonRecord, runs: list[Path]) -> Iterator[Damage]:
    found: dict[str, RunRecord] = {}
    for run in runs:
        try:
            record = RunDirectory(run).record
        except RunError:  # reported with the run
            continue
        found[record.identity.key] = record
    for arm in comparison.arms:
        for seed, key in zip(arm.seeds, arm.run_keys, strict=True):
            if key not in found:
                yield Damage(str(directory / "runs" / arm.recipe), f"the run with seed {seed} is missing", _AGAIN)
            elif found[key].class_names != comparison.class_names:
                yield Damage(
                    str(directory / "runs" / arm.recipe), f"the run with seed {seed} has other classes", _AGAIN
                )


def _of_run(path: Path, remedy: str) -> Iterator[Damage]:
    run = RunDirectory(path)
    damage = run.damage
    if damage:
        file, _, reason = damage.partition(": ")
        yield Damage(file, reason, remedy)
        return
    trains_head = run.record.recipe.get("training", {}).get("train") == "head"
    for name in (*_FILES_OF_RUN, *([BACKBONE_FILE] if trains_head else [])):
        if not (path / name).is_file():
            yield Damage(str(path / name), "is missing", remedy)
    for name in changed_files(path):
        if (path / name).exists():
            yield Damage(str(path / name), "has changed since the run wrote it (SHA-256)", remedy)
    classes = len(run.record.class_names)
    for split in HELD_OUT:
        predictions = run.predictions(split)
        labels, logits = predictions.labels, predictions.logits
        file = str(path / PREDICTIONS_FILE)
        if logits.shape != (len(labels), classes):
            reason = f"{split}: {logits.shape} logits for {len(labels)} rows and {classes} classes"
            yield Damage(file, reason, remedy)
        elif len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            yield Damage(file, f"{split}: labels of classes that do not exist", remedy)
        elif len({len(labels), len(predictions.groups), len(predictions.in_train)}) > 1:
            yield Damage(file, f"{split}: arrays of different lengths", remedy)
        elif np.isnan(logits).any():
            yield Damage(file, f"{split}: logits are NaN", remedy)


def _without(file: Path, error: RunError) -> str:
    """Return the reason of an error, without the file and without what to do."""
    return str(error).removeprefix(f"{file}: ").rpartition("; ")[0] or str(error)
