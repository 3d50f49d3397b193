"""Sharpness-aware minimization: gradients at nearby weights where the loss is higher, for all or for small classes.

Shapes: B rows of a batch, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from fer_augment import Effect, Gradients, ImageDataset, Strategy, hookimpl

if TYPE_CHECKING:
    import torch

_TINY = 1e-12
"""Added to the norm of gradients, which may be 0."""


class Sam(Strategy):
    """Train with sharpness-aware minimization (SAM), which prefers weights around which the loss is flat.

    Each step moves the weights by `rho` along their gradient, uphill, computes the gradient there, returns, and takes
    the optimizer's step with that gradient. Both passes see the same augmented batch and the same dropout masks;
    statistics of batch norm are those of the first. Gradient clipping applies to the second gradient, weight decay is
    the optimizer's and moves no weights uphill, and an average of the weights sees the weights after the step.

    When: the training loss is near 0 and the classes of the test images are not: the network memorizes. It does not
    know of classes; `imb_sam` does this for small classes alone.

    Cost: each step takes twice as long. In bfloat16, the default where the hardware supports it, the passes round the
    weights to 8 bits: the move, spread over all weights, changes most of them by less and is partly lost. Its effect
    there is not measured; `training.precision: float32` avoids the doubt.

    Try: rho 0.05, the default of the paper; 0.02 to 0.2.

    Elsewhere: accuracy on long-tailed CIFAR-100 (imbalance ratio 100, ResNet-32, no spread given) 47.6 % without, 48.9
    % with it, but 13.5 and 12.4 % on the classes with few rows: Zhou, Qu, Xu and Shen 2023, "ImbSAM: A Closer Look at
    Sharpness-Aware Minimization in Class-Imbalanced Recognition", ICCV, table in the code repository.

    Source: Foret, Kleiner, Mobahi and Neyshabur 2021, "Sharpness-Aware Minimization for Efficiently Improving
    Generalization", ICLR, algorithm 1 with p = 2 and equation 3.
    """

    rho: float = Field(default=0.05, gt=0, description="distance by which weights are moved, in the Euclidean norm.")

    @hookimpl
    def optimizer_step(self, gradients: Gradients, parameters: Sequence[torch.nn.Parameter]) -> Gradients:
        """Replace the gradients by those at the moved weights."""

        def at_moved_weights(targets: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
            loss = gradients(targets, weights)
            with _moved_uphill(parameters, self.rho):
                gradients(targets, weights)
            return loss

        return at_moved_weights


class ImbSam(Strategy):
    """Train with imbalanced SAM: sharpness-aware minimization for the rows of small classes, plain for the others.

    The loss of a batch is split into that of the rows of large and of small classes. The gradient of the first is
    taken at the weights, that of the second after moving the weights by `rho` along its own gradient; the optimizer
    takes a step with their sum. With soft targets a row counts with its share of small classes. Passes, batch norm,
    clipping and averaging are as for `sam`.

    When: the network memorizes the few rows of small classes, and SAM for all rows would cost them recall.

    Cost: each step with rows of small classes takes three times as long. In bfloat16 the move is partly lost, see
    `sam`.

    Try: rho 0.05. `tail_weight` 2 is that of the authors' code, 1 that of the paper.

    Elsewhere: accuracy on long-tailed CIFAR-100 (imbalance ratio 100, ResNet-32, no spread given) 47.6 % without, 51.1
    % with it; 13.5 and 19.4 % on the classes with few rows: the source's code repository.

    Source: Zhou, Qu, Xu and Shen 2023, "ImbSAM: A Closer Look at Sharpness-Aware Minimization in Class-Imbalanced
    Recognition", ICCV. There small classes have fewer than a given number of rows; here the default is the mean.
    """

    rho: float = Field(default=0.05, gt=0, description="distance by which weights are moved, in the Euclidean norm.")
    tail_below: int | None = Field(
        default=None, ge=1, description="small classes have fewer training rows; by default fewer than the mean class."
    )
    tail_weight: float = Field(default=1, gt=0, description="weight of the loss of small classes.")

    @property
    def effects(self) -> Effect:
        """Small classes are treated better, whatever the sampling."""
        return Effect.FAVORS_SMALL_CLASSES

    @hookimpl
    def optimizer_step(
        self, gradients: Gradients, parameters: Sequence[torch.nn.Parameter], training_set: ImageDataset
    ) -> Gradients:
        """Add the gradients of large classes to those of small ones at the moved weights."""
        import torch

        below = training_set.counts.mean() if self.tail_below is None else self.tail_below
        is_small_K = torch.from_numpy((training_set.counts < below).astype(np.float32))

        def of_both(targets: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
            share = targets @ is_small_K.to(targets.device)
            given = torch.ones_like(share) if weights is None else weights
            if not share.any():
                return gradients(targets, weights)
            loss = gradients(targets, given * share)
            with _moved_uphill(parameters, self.rho):
                gradients(targets, given * share)
            small = [parameter.grad for parameter in parameters]
            loss = loss + gradients(targets, given * (1 - share))
            for parameter, gradient in zip(parameters, small, strict=True):
                if parameter.grad is not None and gradient is not None:
                    parameter.grad.add_(gradient, alpha=self.tail_weight)
            return loss

        return of_both


@contextmanager
def _moved_uphill(parameters: Sequence[torch.nn.Parameter], rho: float) -> Iterator[None]:
    """Move the parameters by a distance along their gradients; afterwards they have exactly their former values."""
    import torch

    moved = [parameter for parameter in parameters if parameter.grad is not None]
    before = [parameter.detach().clone() for parameter in moved]
    gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
    with torch.no_grad():
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        for parameter, gradient in zip(moved, gradients, strict=True):
            parameter.add_(gradient * (rho / (norm + _TINY)))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(moved, before, strict=True):
                parameter.copy_(value)


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategies of this module."""
    return [Sam, ImbSam]
