"""Files of predictions for tests."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("ant", "bee", "cat")
ROWS = 120
TRUE = np.random.default_rng(7).integers(0, 3, ROWS)


def probabilities_of(arm: str, seed: int, recall: float) -> np.ndarray:
    """Return `(N, 3)` probabilities whose largest is that of the true class with the given frequency."""
    rng = np.random.default_rng([*arm.encode(), seed])
    probabilities = rng.dirichlet([1.0, 1.0, 1.0], ROWS)
    largest = np.where(rng.random(ROWS) < recall, TRUE, (TRUE + rng.integers(1, 3, ROWS)) % 3)
    rows, found = np.arange(ROWS), probabilities.argmax(axis=1)
    swapped = probabilities.copy()
    swapped[rows, found], swapped[rows, largest] = probabilities[rows, largest], probabilities[rows, found]
    return swapped.round(6)


RECALLS = {"plain": 0.5, "good": 0.9}


def columns(
    arm: str = "plain", seed: int = 0, *, scores: str = "", order: Sequence[int] | None = None
) -> dict[str, Any]:
    """Return the columns of a run: predicted classes, or scores if `scores` is `prob` or `logit`."""
    kept = np.arange(ROWS) if order is None else np.asarray(order)
    probabilities = probabilities_of(arm, seed, RECALLS[arm])[kept]
    values = {"id": [f"{row}.png" for row in kept], "true": [NAMES[label] for label in TRUE[kept]]}
    if not scores:
        return values | {"predicted": [NAMES[label] for label in probabilities.argmax(axis=1)]}
    numbers = probabilities if scores == "prob" else np.log(probabilities + 1e-9)
    return values | {f"{scores}_{name}": numbers[:, place].tolist() for place, name in enumerate(NAMES)}


def with_run(values: Mapping[str, Any], arm: str, seed: object) -> dict[str, Any]:
    """Return columns with `arm` and `seed`."""
    rows = len(values["id"])
    return {**values, "arm": [arm] * rows, "seed": [seed] * rows}


def write_csv(path: Path, values: Mapping[str, Any]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(values)
        writer.writerows(zip(*values.values(), strict=True))
    return path


def write_json_lines(path: Path, values: Mapping[str, Any]) -> Path:
    rows = zip(*values.values(), strict=True)
    path.write_text("".join(json.dumps(dict(zip(values, row, strict=True))) + "\n" for row in rows), encoding="utf-8")
    return path


def write_npz(path: Path, values: Mapping[str, Any]) -> Path:
    arrays: dict[str, Any] = {name: np.array(column) for name, column in values.items()}
    np.savez(path, **arrays)
    return path


def write_parquet(path: Path, values: Mapping[str, Any]) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(dict(values)), path)
    return path


def write_runs(folder: Path, write=write_csv, suffix: str = ".csv", *, seeds=(0, 1, 2), scores: str = "") -> list[Path]:
    """Write a file for each run of two arms, with rows in another order each, and return the files."""
    files = []
    for arm in RECALLS:
        for seed in seeds:
            order = np.random.default_rng([seed, *arm.encode()]).permutation(ROWS)
            files.append(
                write(folder / f"{arm}_seed{seed}{suffix}", columns(arm, seed, scores=scores, order=order.tolist()))
            )
    return files
