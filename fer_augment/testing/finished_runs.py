"""A comparison with synthetic predictions, in run directories like those of a real one, for checks of trackers.

Legend of shapes: N rows, K classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.records import Evaluation, Predictions, RunDirectory, RunIdentity, RunRecord, save_run
from fer_augment.finished import Comparison
from fer_augment.reports.html import write_report
from fer_augment.results.comparison import save_comparison
from fer_augment.results.verdicts import compare_runs

CLASSES = ("ant", "bee", "a class of two words")
ARMS = ("baseline", "arm")
_COUNTS = (20, 12, 8)


def finished_comparison(folder: Path) -> tuple[Comparison, list[RunDirectory]]:
    """Write runs of two arms with two seeds below a folder and compare them.

    `comparison.json` and `report.html` are written, too.

    Returns:
        The comparison, and the run directories in the order of the runs.
    """
    directories = {
        arm: [_write_run(folder / "runs" / arm / f"seed-{seed}-key", arm, seed) for seed in range(2)] for arm in ARMS
    }
    comparison = compare_runs(
        directories,
        baseline=ARMS[0],
        source="faces",
        fingerprint="0" * 64,
        counts=dict.fromkeys(("train", "validation", "test"), _COUNTS),
    )
    save_comparison(comparison, folder)
    write_report(folder)
    return Comparison.at(folder, comparison), [run for runs in directories.values() for run in runs]


def _write_run(path: Path, arm: str, seed: int) -> RunDirectory:
    record = _record(arm, seed)
    rng = np.random.default_rng([len(arm), seed])
    of_splits = {split: _predictions(rng) for split in ("validation", "test")}
    return save_run(path, record, f"name: {arm}\n", of_splits)


def _predictions(rng: np.random.Generator) -> Predictions:
    """Return predictions of N rows, most of them right."""
    labels = np.repeat(np.arange(len(CLASSES)), _COUNTS).astype(np.int64)
    logits: NDArray[np.float32] = rng.normal(size=(len(labels), len(CLASSES))).astype(np.float32)
    logits[np.arange(len(labels)), labels] += 1
    return Predictions(labels, logits, np.arange(len(labels), dtype=np.int64), np.zeros(len(labels), dtype=bool))


def _record(arm: str, seed: int) -> RunRecord:
    return RunRecord(
        identity=RunIdentity(recipe=arm, seed=seed, key=f"key-{arm}-{seed}"),
        training_key=f"training-{arm}-{seed}",
        recipe={"name": arm, "description": "", "model": "vgg_tiny", "training": {"epochs": 2, "loss": "mse"}},
        steps=(),
        class_names=CLASSES,
        image_shape=(16, 14, 1),
        data_fingerprint="0" * 64,
        train_counts=_COUNTS,
        rewritten_counts=_COUNTS,
        class_prior=tuple(count / sum(_COUNTS) for count in _COUNTS),
        optimizer_steps=20,
        parameter_count=1234,
        curve=tuple(_evaluation(epoch) for epoch in (1, 2)),
        test_loss=0.75,
        environment={"device": "cpu"},
        warnings=(),
        training_seconds=12.0,
    )


def _evaluation(epoch: int) -> Evaluation:
    """Return a point of a curve; the recall of a class without validation rows is not known."""
    return Evaluation(
        epoch=epoch,
        step=10 * epoch,
        training_loss=1 / epoch,
        selection_loss=0.5 / epoch,
        validation_loss=2 / epoch,
        validation_accuracy=0.5,
        validation_recall=(0.5, 0.25, None),
    )
