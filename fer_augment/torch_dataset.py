"""Adapter from `ImageDataset` to a torch `Dataset`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from fer_augment.data.dataset import ImageDataset


class TorchDataset(Dataset[tuple[torch.Tensor, int]]):
    """Map-style torch data set of `(C, H, W) float32` images in [0, 1] and their labels.

    Attributes:
        dataset: the underlying rows with their provenance.
    """

    def __init__(self, dataset: ImageDataset) -> None:
        """Wrap a data set without copying its pixels."""
        self.dataset = dataset

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.dataset)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        """Return the image and label of a row."""
        return self.__getitems__([range(len(self))[row]])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[tuple[torch.Tensor, int]]:
        """Return the images and labels of several rows, read in one operation."""
        images = torch.from_numpy(self.dataset.images[np.asarray(rows)]).permute(0, 3, 1, 2).float() / 255
        return list(zip(images, self.dataset.labels[np.asarray(rows)].tolist(), strict=True))
