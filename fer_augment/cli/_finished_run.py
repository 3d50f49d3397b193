"""What the commands about one finished run have in common: the RUN argument, and class scores as text."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from fer_augment.data.records import RunDirectory
from fer_augment.errors import RunError
from fer_augment.reports.wording import printable

run_argument = click.argument("run", type=click.Path(path_type=Path))


def finished_run(path: Path) -> RunDirectory:
    """Return a run directory.

    Raises:
        RunError: if it is none; where there are runs below it, one is named.
    """
    if not (path / "record.json").is_file():
        below = next(iter(sorted(path.glob("runs/*/*/record.json"))), None)
        hint = f"; it holds runs, such as {below.parent}" if below else "; `fer-augment run` makes one"
        raise RunError(f"{path}: is no directory of a run, it has no record.json{hint}")
    return RunDirectory(path)


def score_by_class(class_names: tuple[str, ...], probabilities: NDArray[np.float64]) -> dict[str, float]:
    """Return the scores of one image, `(K,)`, by class name, the highest first."""
    order = np.argsort(-probabilities, kind="stable")
    return {printable(class_names[label]): float(probabilities[label]) for label in order}
