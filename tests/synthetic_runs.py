"""Run directories with synthetic predictions, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fer_augment.data.records import Evaluation, Predictions, RunDirectory, RunIdentity, RunRecord, StepRecord, save_run

CLASSES = ("ant", "bee", "cat")


def labels_of(counts: Sequence[int]) -> np.ndarray:
    """Return labels with the given number of rows per class, in order."""
    return np.repeat(np.arange(len(counts)), counts).astype(np.int64)


def logits_for(predicted: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Return `(N, K) float32` logits with the largest at the predicted class."""
    logits = rng.uniform(0, 1, (len(predicted), classes))
    logits[np.arange(len(predicted)), predicted] += 1.5
    return logits.astype(np.float32)


def guesses(labels: np.ndarray, recall: Sequence[float] | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return predicted classes: correct with the recall of the true class, otherwise a random other class."""
    classes = len(recall)
    is_correct = rng.uniform(size=len(labels)) < np.asarray(recall)[labels]
    return np.where(is_correct, labels, (labels + rng.integers(1, classes, len(labels))) % classes)


def predictions(labels, predicted, *, classes=3, groups=None, in_train=None, rng=None) -> Predictions:
    rows = len(labels)
    return Predictions(
        labels=labels,
        logits=logits_for(predicted, classes, rng or np.random.default_rng(0)),
        groups=np.arange(rows, dtype=np.int64) if groups is None else groups,
        in_train=np.zeros(rows, dtype=bool) if in_train is None else in_train,
    )


def evaluation(epoch: int, classes: int, **changes) -> Evaluation:
    values = {
        "epoch": epoch,
        "step": 10 * epoch,
        "training_loss": 1 / epoch,
        "selection_loss": 0.5 / epoch,
        "validation_loss": 2 / epoch,
        "validation_accuracy": 0.5,
        "validation_recall": (0.5,) * classes,
    }
    return Evaluation(**values | changes)


def record(recipe="base", seed=0, *, class_names=CLASSES, steps: Sequence[StepRecord] = (), settings=None, **changes):
    """Return the record of a run; `settings` override its recipe, `changes` the record."""
    classes = len(class_names)
    values = {
        "identity": RunIdentity(recipe=recipe, seed=seed, key=f"key-{recipe}-{seed}"),
        "training_key": f"training-{recipe}-{seed}",
        "recipe": {
            "name": recipe,
            "description": f"Tries {recipe}.",
            "model": "tiny",
            "training": {"epochs": 2, "loss": "mse"},
        }
        | (settings or {}),
        "steps": tuple(steps),
        "class_names": class_names,
        "image_shape": (8, 8, 1),
        "data_fingerprint": "f" * 64,
        "train_counts": tuple(range(10, 10 + classes)),
        "rewritten_counts": tuple(range(20 + seed, 20 + seed + classes)),
        "class_prior": (1 / classes,) * classes,
        "optimizer_steps": 20,
        "parameter_count": 1234,
        "curve": (evaluation(1, classes), evaluation(2, classes)),
        "test_loss": 0.75,
        "environment": {"torch": "2.13.0", "device": "cpu"},
        "warnings": (),
        "training_seconds": 12.0,
    }
    return RunRecord(**values | changes)


def write_run(path: Path, run_record: RunRecord, of_splits: Mapping[str, Predictions]) -> RunDirectory:
    """Write a run directory, without weights or provenance."""
    return save_run(path, run_record, f"name: {run_record.identity.recipe}\n", of_splits)


def write_arm(
    folder: Path,
    recipe: str,
    recall: Sequence[float],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    counts: Sequence[int] = (40, 30, 20),
    spread: float = 0.02,
    groups=None,
    in_train=None,
    place: str = "",
    **of_record,
) -> list[RunDirectory]:
    """Write the runs of an arm; their recalls are normal around `recall` with standard deviation `spread`.

    `place` names the folder of the runs, and their random numbers, if the recipe does not.
    """
    labels, place = labels_of(counts), place or recipe
    directories = []
    for seed in seeds:
        rng = np.random.default_rng([len(place), *place.encode(), seed])
        of_run = np.clip(np.asarray(recall) + spread * rng.standard_normal(len(recall)), 0, 1)
        test, validation = (guesses(labels, of_run, rng) for _ in range(2))
        of_splits = {
            "test": predictions(labels, test, classes=len(recall), groups=groups, in_train=in_train, rng=rng),
            "validation": predictions(labels, validation, classes=len(recall), rng=rng),
        }
        directories.append(write_run(folder / place / str(seed), record(recipe, seed, **of_record), of_splits))
    return directories


def counts_by_split(counts: Sequence[int]) -> dict[str, Sequence[int]]:
    """Return the `counts` argument of `compare_runs` for held-out splits with these rows per class."""
    return {"train": [2 * count for count in counts], "validation": counts, "test": counts}
