"""Smaller sets with the proportions of a larger one."""

from __future__ import annotations

import numpy as np

from fer_augment import ImageDataset


def sample(dataset: ImageDataset, rows: int) -> ImageDataset:
    """Return about so many rows, evenly spread over the set, so that all classes are there."""
    return dataset.take(np.arange(0, len(dataset), max(1, len(dataset) // rows)))
