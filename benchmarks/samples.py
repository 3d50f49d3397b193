"""Samples of data sets."""

from __future__ import annotations

import numpy as np

from fer_augment import ImageDataset


def sample(dataset: ImageDataset, rows: int) -> ImageDataset:
    """Return about the given number of rows, evenly spaced, so that class frequencies are roughly preserved."""
    return dataset.take(np.arange(0, len(dataset), max(1, len(dataset) // rows)))
