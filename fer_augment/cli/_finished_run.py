"""Shared code of the commands on a finished run: the RUN argument and sorted class probabilities."""

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
        RunError: if the path is not a run directory; the message names a run in a subdirectory, if there is one.
    """
    if not (path / "record.json").is_file():
        record = next(iter(sorted(path.glob("runs/*/*/record.json"))), None)
        hint = (
            f"it contains run directories, such as {record.parent}" if record else "create one with `fer-augment run`"
        )
        raise RunError(f"{path}: not a run directory (no record.json); {hint}")
    return RunDirectory(path)


def probability_by_class(class_names: tuple[str, ...], probabilities: NDArray[np.float64]) -> dict[str, float]:
    """Return the `(K,)` class probabilities of one image by class name, in descending order."""
    order = np.argsort(-probabilities, kind="stable")
    return {printable(class_names[label]): float(probabilities[label]) for label in order}
