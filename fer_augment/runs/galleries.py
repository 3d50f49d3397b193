"""Images for a report, collected while data and networks are at hand: what was taken for what, and how surely."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset, Splits
from fer_augment.data.records import RunDirectory
from fer_augment.metrics import softmax
from fer_augment.results.confused_images import ConfusedImages, ConfusedRows, save_confused
from fer_augment.runs.experiment import splits_for
from fer_augment.runs.run_models import bound_recipe_of, load_run_model

IMAGES_OF_A_PAIR = 12
"""How many images are kept for each arm, split and pair of classes."""

Pair = tuple[str, str]


def collect_confused(
    splits: Splits, runs_by_arm: Mapping[str, Sequence[RunDirectory]], pairs: Iterable[Pair], path: Path
) -> None:
    """Keep the test and training images that each arm's network of the first seed takes for another class.

    What is said of a test image is what the run recorded; what is said of a training image is asked of the run's
    weights, and a run without weights has none of these. Images that are byte for byte the same are kept once.

    Args:
        splits: the data as read.
        runs_by_arm: the finished runs of each arm.
        pairs: true class and the class that it is taken for, by name, such as `Arm.watched` has.
        path: the file to write, see `confused_images`.

    Raises:
        DatasetError: if the data have no such class.
        RunError: if a run's files are damaged.
    """
    first_runs = [min(runs, key=lambda run: run.record.identity.seed) for runs in runs_by_arm.values() if runs]
    distinct = tuple(dict.fromkeys(pairs))
    save_confused(path, [confused for run in first_runs for confused in _of_run(run, splits, distinct)])


def _of_run(run: RunDirectory, splits: Splits, pairs: Sequence[Pair]) -> Iterator[ConfusedImages]:
    said_of_test = run.predictions("test").logits
    for pair in pairs:
        yield _confused(run, "test", splits.test, said_of_test, pair)
    if not (run.path / "weights.safetensors").is_file():
        return
    model = load_run_model(run)
    train = splits_for(bound_recipe_of(run).recipe, splits).train
    for pair in pairs:
        asked = train.take(train.rows_of(pair[:1]))
        if len(asked):
            yield _confused(run, "train", asked, model.logits(asked.images[:]), pair)


def _confused(
    run: RunDirectory,
    split: Literal["test", "train"],
    part: ImageDataset,
    logits: NDArray[np.float32],
    pair: Pair,
) -> ConfusedImages:
    """Choose the images of a pair, `logits (N, K)` being what is said of the N rows of a part."""
    true, predicted = map(part.class_number, pair)
    probabilities = softmax(logits)
    rows = np.flatnonzero((part.labels == true) & (logits.argmax(axis=1) == predicted))
    rows = rows[np.argsort(-probabilities[rows, predicted], kind="stable")]
    _, first = np.unique(part.digests[rows], return_index=True)
    rows = rows[np.sort(first)]
    shown = rows[:IMAGES_OF_A_PAIR]
    told = ConfusedRows(run=run.record.identity, split=split, true=pair[0], predicted=pair[1], total=len(rows))
    return ConfusedImages(told, part.images[shown], probabilities[shown].astype(np.float32))
