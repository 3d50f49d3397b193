"""Predicted class, its probability and the loss of each row, from one score per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fer_augment.errors import PredictionError, excerpt
from fer_augment.metrics import row_losses, softmax
from fer_augment.randomness import stream_key
from fer_augment.results.largest_scores import drawn_largest
from fer_augment.results.prediction_table import PredictionTable

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def scored_predictions(
    table: PredictionTable,
    classes: Sequence[str],
    scores: FloatArray,
    values: Mapping[str, list[str]],
    seed: int,
    rows: IntArray,
) -> tuple[list[str], FloatArray, FloatArray, FloatArray]:
    """Return predicted class, its probability in `[0, 1]`, `-ln p(true class)`, and `(n, K)` probabilities of a run.

    Args:
        table: the file, for messages and for the kind of its scores.
        classes: the K classes of the scores.
        scores: `(n, K)`.
        values: ids, true and, if the file has them, predicted classes of the rows.
        seed: seed of the run, for ties between the largest scores.
        rows: `(n,)` rows of the file.

    Raises:
        PredictionError: if a class has no score, or most predicted classes have not the largest score.
    """
    column_of = {name: column for column, name in enumerate(classes)}
    for role in ("true", "predicted"):
        for place, name in enumerate(values.get(role, ())):
            if name not in column_of:
                raise PredictionError(
                    f"{table.at(int(rows[place]))}: the scores have no class {excerpt(name)!r}, only "
                    f"{excerpt(', '.join(classes))}; use the same names"
                )
    every_row = np.arange(len(rows))
    true = np.array([column_of[name] for name in values["true"]])
    probabilities = softmax(scores) if table.kind == "logit" else scores
    if "predicted" in values:
        predicted = np.array([column_of[name] for name in values["predicted"]], dtype=np.int64)
        other = int((scores[every_row, predicted] < scores.max(axis=1)).sum())
        if other > len(rows) / 2:
            raise PredictionError(
                f"{table.title}: in {other:,} of {len(rows):,} rows the predicted class does not have the largest "
                "score; check the names and the order of the columns of scores"
            )
    else:
        ids = values["id"]
        predicted = drawn_largest(scores, classes, lambda row: stream_key(seed, "tie", ids[row]) / 2**64)
    if table.kind == "logit":
        losses = row_losses(true, scores)
    else:
        with np.errstate(divide="ignore"):
            losses = -np.log(probabilities[every_row, true])
    return (
        [classes[column] for column in predicted.tolist()],
        probabilities[every_row, predicted],
        losses,
        probabilities,
    )
