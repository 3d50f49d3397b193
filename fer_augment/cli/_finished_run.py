"""Shared code of the commands on a finished run: the RUN argument and sorted class probabilities."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from fer_augment.reports.wording import printable

run_argument = click.argument("run", type=click.Path(path_type=Path))


def probability_by_class(class_names: tuple[str, ...], probabilities: NDArray[np.float64]) -> dict[str, float]:
    """Return the `(K,)` class probabilities of one image by class name, in descending order."""
    order = np.argsort(-probabilities, kind="stable")
    return {printable(class_names[label]): float(probabilities[label]) for label in order}
