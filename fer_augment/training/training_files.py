"""The files of a finished training: weights, where each row of the training set came from, examples, and facts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from safetensors.torch import save_model

from fer_augment.data.dataset import ImageDataset
from fer_augment.data.records import NO_SOURCE, WEIGHTS_FILE, provenance_arrays
from fer_augment.training.folds import places_of
from fer_augment.training.specification import Trained
from fer_augment.training.store import TrainingFacts

EXAMPLES_OF_A_STEP = 12
"""How many of the rows that a step made are kept for display."""


def write_training(
    folder: Path,
    trained: Trained,
    rewritten: ImageDataset,
    source: ImageDataset,
    *,
    parameter_count: int,
    seconds: float,
    warnings: Sequence[str],
) -> None:
    """Write a training.

    Args:
        folder: an empty folder.
        trained: the result of the trainer.
        rewritten: the training set that was trained on.
        source: the training split.
        parameter_count: parameters of the whole network.
        seconds: how long the training took.
        warnings: sentences; equal ones are written once.
    """
    save_model(trained.model.cpu(), str(folder / WEIGHTS_FILE))
    save_file(provenance_arrays(rewritten), folder / "provenance.safetensors")
    save_file(examples_of(rewritten, source), folder / "examples.safetensors")
    facts = TrainingFacts(
        curve=trained.curve,
        optimizer_steps=trained.optimizer_steps,
        class_prior=tuple(trained.class_prior.tolist()),
        kept_epoch=trained.kept_epoch,
        parameter_count=parameter_count,
        rewritten_counts=tuple(rewritten.counts.tolist()),
        seconds=seconds,
        warnings=tuple(dict.fromkeys(warnings)),
    )
    (folder / "facts.json").write_text(facts.model_dump_json(indent=1) + "\n", encoding="utf-8")


def examples_of(rewritten: ImageDataset, source: ImageDataset) -> dict[str, NDArray[np.generic]]:
    """Choose a few rows that each step made.

    A row from outside the training split has a blank source.

    Args:
        rewritten: the training set after the recipe's steps.
        source: the training split.

    Returns:
        For n rows: `images` and their first `sources`, `(n, H, W, C) uint8`, `labels` and `step` numbers, `(n,)`.
    """
    numbers = [number for number in np.unique(rewritten.step).tolist() if number > 0]
    chosen = [_evenly_spaced(np.flatnonzero(rewritten.step == number)) for number in numbers]
    rows = np.concatenate([np.empty(0, np.int64), *chosen])
    sources = source.images[np.maximum(places_of(rewritten.origin[rows], source), 0)]
    sources[rewritten.origin[rows] < 0] = NO_SOURCE
    return {
        "images": rewritten.images[rows],
        "sources": sources,
        "labels": rewritten.labels[rows],
        "step": rewritten.step[rows],
    }


def _evenly_spaced(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[np.unique(np.linspace(0, len(rows) - 1, EXAMPLES_OF_A_STEP).astype(np.int64))]
