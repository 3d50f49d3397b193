"""Weight balancing: train the classifier again while no weight vector may become longer than a limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fer_augment import Context, Effect, ImageDataset, Strategy, hookimpl, linear_head

if TYPE_CHECKING:
    import torch
    from torch import nn


class WeightBalancing(Strategy):
    """Balance weights: train the linear head further with balanced sampling, its weight vectors limited in norm.

    After training, the features are kept and the head is trained further. After each optimizer step, weight vectors
    that are longer than the limit are shortened to it (MaxNorm, projected gradient descent), so those of small classes
    grow while those of large classes cannot. The limit lies between the smallest and the largest norm of the trained
    head: n_min + limit (n_max - n_min). Biases are not limited.

    A row of a class of n rows is drawn with weight (1 - beta) / (1 - beta^n), the weight that class-balanced loss gives
    it. The second stage uses the recipe's optimizer, schedule, weight decay, loss and batch strategies.

    This is the second half of the method. Its first half is a strong weight decay in training, set by
    `training.weight_decay`: it balances the norms while the features are learned, and accounts for most of the gain in
    the paper. Networks without a linear head raise an error before training.

    When: large classes have longer weight vectors than small ones. `tau_norm` makes all norms equal; here they only
    have an upper limit.

    Cost: `epochs` additional passes over the training set, with a backward pass through the last layer only; training
    starts from the networks of the recipe without this step. Weight decay must be tuned: too much of it and the network
    does not learn.

    Try: a weight decay of 5e-3, ten times the usual one, as in the paper (recipe `modern_weight_balancing`).

    Elsewhere: accuracy on long-tailed CIFAR-100 (imbalance ratio 100, no spread given) 39.6 % without, 47.9 % with
    strong weight decay, 52.6 % with tau-normalization after it, 53.1 % with this second stage after it: the paper.

    Source: Alshammari, Wang, Ramanan and Kong 2022, "Long-Tailed Recognition via Weight Balancing", CVPR, section 4.
    Limit, beta and epochs are those of the authors' code, which shortens weight vectors once per epoch and weights the
    loss instead of drawing rows.
    """

    epochs: int = Field(default=10, ge=1, description="number of epochs of the second stage.")
    limit: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="largest norm, between the smallest (0) and the largest (1) norm of the trained head.",
    )
    beta: float = Field(
        default=0.9999,
        ge=0,
        lt=1,
        description="as in `class_balanced_loss`; 0: rows are drawn unweighted; near 1: all classes equally often.",
    )

    @property
    def effects(self) -> Effect:
        """The head corrects for class frequencies."""
        return Effect.NEEDS_LINEAR_HEAD | Effect.CORRECTS_CLASS_PRIOR

    @hookimpl
    def refine_model(self, model: nn.Module, training_set: ImageDataset, context: Context) -> nn.Module:
        """Train the head with limited norms."""
        from torch.optim.optimizer import register_optimizer_step_post_hook

        head = linear_head(model)
        norms = head.weight.detach().norm(dim=1)
        largest = float(norms.min() + self.limit * (norms.max() - norms.min()))

        def project(optimizer: torch.optim.Optimizer, *arguments: object) -> None:
            if any(parameter is head.weight for group in optimizer.param_groups for parameter in group["params"]):
                _limit_norms(head.weight, largest)

        assert context.train is not None, "always set at refine_model"
        _limit_norms(head.weight, largest)
        # After the step itself: an average of the weights sees them limited, and weights moved by `sam` are not.
        hook = register_optimizer_step_post_hook(project)
        try:
            weights = self._row_weights(training_set)
            return context.train(model, parameters=head.parameters(), weights=weights, epochs=self.epochs)
        finally:
            hook.remove()

    def _row_weights(self, training_set: ImageDataset) -> NDArray[np.float64]:
        """Return the inverse effective number of the class of each row, `(N,)`."""
        counts = training_set.counts[training_set.labels].astype(np.float64)
        return np.asarray((1 - self.beta) / (1 - self.beta**counts))


def _limit_norms(weight: torch.Tensor, largest: float) -> None:
    """Shorten the rows of a matrix that are longer than `largest`, in place."""
    import torch

    with torch.no_grad():
        norms = weight.norm(dim=1, keepdim=True)
        weight.mul_(torch.where(norms > largest, largest / norms.clamp_min(1e-30), 1.0))


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [WeightBalancing]
