"""The batches of a training: images and targets of rows, augmented by the strategies.

Legend of shapes: N rows, B rows of a batch, H, W, C height, width and channels, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from fer_augment.training.device_images import ResidentImages, as_batch, fit_on
from fer_augment.training.row_workers import AugmentedRows
from fer_augment.training.specification import Training


class Batches:
    """Gathers batches of a training on its device.

    Attributes:
        one_hot: `(K, K) float32`, the target of each label.
    """

    def __init__(self, training: Training, device: str) -> None:
        """Copy labels, soft labels and, if they fit, images to the device."""
        data = training.training_set
        self.training, self.device = training, device
        self.one_hot = torch.eye(len(data.class_names), device=device)
        self._labels = torch.from_numpy(data.labels.copy()).to(device)
        self._soft = None if data.targets is None else torch.from_numpy(data.targets).to(device)
        self._features = training.frozen.rows_of(data) if training.frozen else None
        self._augmented = AugmentedRows(training) if training.pipeline.acts_at("augment_rows") else None
        is_resident = not self._features and not self._augmented and fit_on(device, data.images)
        self._resident = ResidentImages(data.images, device) if is_resident else None
        self._ahead: Iterator[NDArray[np.uint8]] | None = None

    def begin(self, rows: NDArray[np.int64], epoch: int) -> None:
        """Announce the batches of an epoch, `(S, B)` rows, so that they can be prepared ahead; `batch` follows."""
        self._ahead = self._augmented.epoch(rows, epoch) if self._augmented else None

    def close(self) -> None:
        """End the processes that prepare batches."""
        if self._augmented:
            self._augmented.close()

    def on_device(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Copy row numbers of any shape to the device."""
        return torch.from_numpy(rows).to(self.device)

    def batch(self, rows: NDArray[np.int64], on_device: torch.Tensor, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Gather images and targets of a batch and augment them.

        Args:
            rows: `(B,)` positions in the training set; after `begin`, the next of those announced.
            on_device: the same as a tensor on the device.
            epoch: the epoch number passed to strategies.

        Returns:
            `(B, C, H, W) float32` images in [0, 1], or their `(B, D) float32` features if the head alone is trained,
            and `(B, K) float32` targets.
        """
        data, pipeline = self.training.training_set, self.training.pipeline
        if self._features:
            return self._features.batch(on_device), self._targets(on_device)
        images = self._resident.batch(on_device) if self._resident else as_batch(self._rows(rows, epoch), self.device)
        batch = images, self._targets(on_device)
        if pipeline.acts_at("augment_batch"):
            batch = pipeline.fold("augment_batch", batch, epoch=epoch, rows=rows, training_set=data)
        return batch

    def _targets(self, on_device: torch.Tensor) -> torch.Tensor:
        return self.one_hot[self._labels[on_device]] if self._soft is None else self._soft[on_device]

    def _rows(self, rows: NDArray[np.int64], epoch: int) -> NDArray[np.uint8]:
        """Gather the images of rows and augment them on the CPU, or take what was prepared."""
        if self._augmented is None:
            return self.training.training_set.images[rows]
        return self._augmented.one(rows, epoch) if self._ahead is None else next(self._ahead)
