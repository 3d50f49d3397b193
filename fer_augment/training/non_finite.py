"""Why a loss is not finite: pixels of a strategy, the loss, the network, or a diverging training.

Legend of shapes: S steps of an epoch, B rows of a batch, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fer_augment.training.specification import Training


class StepSums:
    """The loss of each step of an epoch, and whether its inputs and its logits were finite, as sums on the device.

    Nothing is copied from the device before the end of the epoch.
    """

    def __init__(self, training: Training, steps: int, device: str) -> None:
        """Make room for the steps of an epoch."""
        self.training = training
        self.augments = training.pipeline.acts_at("augment_batch")
        self._sums = torch.zeros(steps, 3, device=device)

    def add(
        self, number: int, logits: torch.Tensor, images: torch.Tensor, targets: torch.Tensor, loss: torch.Tensor
    ) -> None:
        """Note a step: logits `(B, K)`, images and targets of its batch, and the mean loss."""
        inputs = images.sum() + targets.sum() if self.augments else torch.zeros((), device=loss.device)
        self._sums[number] = torch.stack([inputs, logits.detach().sum(), loss.detach()])

    def fetched(self) -> NDArray[np.float32]:
        """Return the sums, `(S, 3)`: inputs, logits and loss."""
        sums: NDArray[np.float32] = self._sums.cpu().numpy()
        return sums

    def fault(self, sums: NDArray[np.float32], epoch: int) -> str | None:
        """Return what the first loss that is not finite comes from and what to do, or None if all are finite."""
        invalid = np.flatnonzero(~np.isfinite(sums[:, 2]))
        if not len(invalid):
            return None
        number = int(invalid[0])
        inputs, logits, loss = sums[number].tolist()
        message = f"the loss became {loss} in epoch {epoch + 1}, step {number + 1} of {len(sums)}"
        if not np.isfinite(inputs):
            return f"{message}: {self.training.causes('augment_batch')} returned pixels or targets that are not finite"
        if np.isfinite(logits):
            return f"{message}, although the logits were finite: it comes from {self.training.causes_of_loss}"
        if epoch == 0 and number == 0:
            networks = self.training.causes("prepare_model", f"the network {self.training.model.name!r}")
            return (
                f"{message}, with the initial weights: {networks} returns logits that are not finite; check its weights"
            )
        advice = f"{message}: the training diverged; lower training.learning_rate"
        if number and self.training.pipeline.acts_at("build_loss"):
            return f"{advice}, unless a gradient is not finite in {self.training.causes_of_loss}"
        return advice
