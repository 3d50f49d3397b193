"""What is wrong with a data source before anything is trained on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fer_augment.dataset import ImageDataset, Splits
from fer_augment.duplicates import group_ids
from fer_augment.errors import DatasetError


def drop_held_out_copies(splits: Splits) -> Splits:
    """Return the splits less the training rows that are byte for byte the same as a validation or test row.

    The rows that stay are the source rows of the result: their origins are numbered anew. No pixels are copied.

    Args:
        splits: as read; validation and test stay as they are.

    Raises:
        DatasetError: if a class would have held-out rows and no training row left.
    """
    train, *held_out = np.split(
        group_ids(np.concatenate([part.digests for part in splits.parts.values()])),
        np.cumsum([len(splits.train), len(splits.validation)]),
    )
    copied = np.isin(train, np.concatenate(held_out))
    if not copied.any():
        return splits
    source = f"{splits.source} (less {copied.sum():,} training rows with a copy held out)"
    try:
        return replace(splits, train=_source_rows(splits.train, np.flatnonzero(~copied)), source=source)
    except DatasetError as error:
        raise DatasetError(f"{error}; set held_out_copies to keep") from error


def _source_rows(dataset: ImageDataset, rows: NDArray[np.int64]) -> ImageDataset:
    """Return rows of a set as source rows of a set of their own."""
    zeros = np.zeros(len(rows), dtype=np.int64)
    return replace(
        dataset,
        index=dataset.index[rows],
        labels=dataset.labels[rows],
        origins=np.arange(len(rows))[:, None],
        copies=zeros,
        step=zeros,
    )
