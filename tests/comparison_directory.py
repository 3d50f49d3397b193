"""Directory of a comparison with synthetic runs and images, for tests of reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from fer_augment.data.records import RunDirectory, StepRecord
from fer_augment.results.comparison import ComparisonRecord, Failure, save_comparison
from fer_augment.results.confused_images import CONFUSED_FILE, ConfusedImages, ConfusedRows, save_confused
from fer_augment.results.verdicts import compare_runs
from tests.data_files import random_images
from tests.synthetic_runs import CLASSES, evaluation, write_arm

COUNTS = (60, 40, 20)
DUPLICATES = (0, 1, 2, 60, 61, 100)
"""Test rows with an exact duplicate in the training split; some of every class."""

BASE, GOOD, SAME = (0.6, 0.5, 0.4), (0.9, 0.85, 0.3), (0.6, 0.5, 0.4)


def write_comparison(
    folder: Path,
    *,
    arms: Sequence[str] = ("base", "good", "same"),
    class_names: Sequence[str] = CLASSES,
    seeds: Sequence[int] = (0, 1, 2),
    counts: Sequence[int] = COUNTS,
    duplicates: Sequence[int] = DUPLICATES,
    failures: Sequence[Failure] = (),
    warnings: Sequence[str] = (),
    source: str = "squares",
    near_train: Sequence[int] | None = None,
    **of_record: Any,
) -> ComparisonRecord:
    """Write runs, `comparison.json` and `confused.safetensors`; return the comparison.

    The first arm is the baseline. The second adds rows and has a higher recall for all classes but the last. The third
    has the recall of the baseline and weighted sampling. Arms may have any names: their folders are numbered.
    """
    in_train = np.isin(np.arange(sum(counts)), duplicates)
    runs: dict[str, list[RunDirectory]] = {}
    for number, (arm, recall) in enumerate(zip(arms, (BASE, GOOD, SAME), strict=False)):
        runs[arm] = write_arm(
            folder / "runs",
            arm,
            recall,
            place=f"arm-{number}",
            seeds=seeds,
            counts=counts,
            in_train=in_train,
            class_names=tuple(class_names),
            **_record_of(number) | of_record,
        )
    for run in runs[arms[1]] if len(arms) > 1 else ():
        _write_examples(run)
    comparison = compare_runs(
        runs,
        baseline=arms[0],
        source=source,
        fingerprint="f" * 64,
        counts={"train": (120, 80, 40), "validation": counts, "test": counts},
        audit={"blank images": 3},
        failures=failures,
        warnings=warnings,
        near_train=near_train,
    )
    save_comparison(comparison, folder)
    save_confused(
        folder / CONFUSED_FILE, [one for of_arm in runs.values() for one in _confused(of_arm[0], class_names)]
    )
    return comparison


def _record_of(number: int) -> dict[str, Any]:
    rows = (120, 80, 47) if number == 1 else (120, 80, 40)
    adding = StepRecord(name="grow", parameters={}, provider="here 1.0", source="a" * 64, rows=7)
    idle = StepRecord(name="blur", parameters={}, provider="here 1.0", source="b" * 64)
    return {
        "steps": (adding, idle) if number == 1 else (),
        "train_counts": (120, 80, 40),
        "rewritten_counts": rows,
        "class_prior": (0.5, 0.3, 0.2) if number == 2 else tuple(count / sum(rows) for count in rows),
        "curve": tuple(evaluation(epoch, 3, validation_accuracy=0.2 + 0.1 * epoch) for epoch in (1, 2, 4)),
    }


def _write_examples(run: RunDirectory) -> None:
    sources = random_images(3, side=8)
    arrays = {
        "images": np.ascontiguousarray(sources[:, :, ::-1]),
        "sources": sources,
        "labels": np.array([2, 2, 2]),
        "step": np.array([1, 1, 1]),
    }
    save_file(arrays, run.path / "examples.safetensors")


def _confused(run: RunDirectory, class_names: Sequence[str]) -> list[ConfusedImages]:
    probabilities = np.array([[0.15, 0.75, 0.1], [0.2, 0.6, 0.2]], dtype=np.float32)
    return [
        ConfusedImages(
            ConfusedRows(
                run=run.record.identity, split=split, true=class_names[0], predicted=class_names[1], total=total
            ),
            random_images(2, side=8, seed=total),
            probabilities,
        )
        for split, total in (("test", 14), ("train", 2))
    ]
