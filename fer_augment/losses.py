"""Losses shipped with fer_augment, for hard and soft targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fer_augment import Loss, hookimpl

if TYPE_CHECKING:
    import torch


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of each row, `-sum_k target_k log softmax(logits)_k`, `(B,)`, in nats.

    Args:
        logits: `(B, K) float32`.
        targets: `(B, K) float32`, class probabilities that sum to 1 in each row.
    """
    return -(targets * logits.log_softmax(dim=1)).sum(dim=1)


def mse(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the squared error of the softmax output of each row, summed over the classes, `(B,)` in [0, 2].

    This is the Brier score (Brier 1950, Monthly Weather Review 78, p. 1), and the loss of the originating report.

    Args:
        logits: `(B, K) float32`.
        targets: `(B, K) float32`, class probabilities that sum to 1 in each row.
    """
    return (logits.softmax(dim=1) - targets).square().sum(dim=1)


@hookimpl
def register_losses() -> list[Loss]:
    """Register the losses of this module."""
    return [
        Loss("cross_entropy", "cross-entropy of the softmax output", cross_entropy),
        Loss("mse", "squared error of the softmax output, as in the report (Brier score)", mse, over_logits=False),
    ]
