"""Confused images for a report: which images each arm misclassifies, with the class probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.data.records import WEIGHTS_FILE, RunDirectory
from fer_augment.metrics import softmax
from fer_augment.results.confused_images import ConfusedImages, ConfusedRows, Pair, first_runs, save_confused
from fer_augment.runs.recipe_data import RecipeData
from fer_augment.runs.run_models import load_run_model, recipe_of

IMAGES_OF_A_PAIR = 12
"""How many images are stored for each arm, split and pair of classes."""


def collect_confused(
    data: RecipeData, runs_by_arm: Mapping[str, Sequence[RunDirectory]], pairs: Iterable[Pair], path: Path
) -> None:
    """Store the test and training images that the first seed's network of each arm misclassifies.

    Predictions for test images are those that the run recorded. Training images are predicted with the run's weights;
    a run without weights contributes none. Of exact duplicates one is stored.

    Args:
        data: the data as each recipe sees it.
        runs_by_arm: the finished runs of each arm.
        pairs: (true class, predicted class) by name, as in `Arm.watched`.
        path: the file to write, see `confused_images`.

    Raises:
        DatasetError: if the data have no such class.
        RunError: if a run's files are damaged.
    """
    distinct = tuple(dict.fromkeys(pairs))
    save_confused(path, [confused for run in first_runs(runs_by_arm) for confused in _of_run(run, data, distinct)])


def _of_run(run: RunDirectory, data: RecipeData, pairs: Sequence[Pair]) -> Iterator[ConfusedImages]:
    recipe = recipe_of(run)
    splits, test_logits = data.splits_for(recipe, run.record.identity.fold), run.predictions("test").logits
    for pair in pairs:
        yield _confused(run, "test", splits.test, test_logits, pair)
    if not (run.path / WEIGHTS_FILE).is_file():
        return
    model = load_run_model(run)
    train = splits.train
    for pair in pairs:
        candidates = train.take(train.rows_of(pair[:1]))
        if len(candidates):
            yield _confused(run, "train", candidates, model.logits_of(candidates), pair)


def _confused(
    run: RunDirectory,
    split: Literal["test", "train"],
    part: ImageDataset,
    logits: NDArray[np.float32],
    pair: Pair,
) -> ConfusedImages:
    """Choose the images of a pair from the N rows of a part, by their `(N, K)` logits."""
    true, predicted = map(part.class_number, pair)
    probabilities = softmax(logits)
    rows = np.flatnonzero((part.labels == true) & (logits.argmax(axis=1) == predicted))
    rows = rows[np.argsort(-probabilities[rows, predicted], kind="stable")]
    _, first = np.unique(part.digests[rows], return_index=True)
    rows = rows[np.sort(first)]
    shown = rows[:IMAGES_OF_A_PAIR]
    confused = ConfusedRows(run=run.record.identity, split=split, true=pair[0], predicted=pair[1], total=len(rows))
    return ConfusedImages(confused, part.images[shown], probabilities[shown].astype(np.float32))
