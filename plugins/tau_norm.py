"""Tau-normalization: equalize the norms of a trained classifier's weight vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from fer_augment import Effect, Strategy, hookimpl, linear_head

if TYPE_CHECKING:
    from torch import nn


class TauNorm(Strategy):
    """Apply tau-normalization: divide each class's weight vector in the linear head by its norm to the power of tau.

    Frequent classes tend to have weight vectors with larger norms, and so larger logits; with tau 1, all norms are 1.
    The paper drops the bias of the head. Here it is divided along with the weights, so that tau 0 changes nothing.
    Probabilities become more extreme if norms are below 1 and less extreme if they are above. Networks without a linear
    head raise an error before training.

    Tau is fixed and not chosen on the validation split, which steps that change weights do not receive: compare several
    values. All of them start from the same trained network, that of the baseline.

    When: the features are good and the head favors frequent classes; as an alternative to `logit_adjustment` that needs
    no class counts.

    Cost: no training. Classes with large norms lose recall, and these need not be the large classes. Probabilities are
    no longer calibrated.

    Try: tau 0.5 and 1.

    Measured: on FER2013, tau 1 (recipe `modern_tau_norm`), 18 epochs, n = 3 runs: balanced accuracy -2.1 points (95 %
    CI -3.0 to -1.2), worse; accuracy -0.9 points (-1.5 to -0.3), worse.

    Elsewhere: error on long-tailed CIFAR-10 (imbalance ratio 100, ResNet-32, no spread given) 30.1 % without, 29.3 %
    with it: Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for Long-Tailed Visual Recognition", AAAI, tables in the code
    repository.

    Source: Kang et al. 2020, "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR, section 4,
    "tau-normalized classifier".
    """

    tau: float = Field(default=1, ge=0, le=2, description="0: weights as trained; 1: all norms are 1.")

    @property
    def effects(self) -> Effect:
        """The changed head favors small classes."""
        return Effect.NEEDS_LINEAR_HEAD | Effect.FAVORS_SMALL_CLASSES if self.tau else Effect.NEEDS_LINEAR_HEAD

    @hookimpl
    def refine_model(self, model: nn.Module) -> nn.Module:
        """Scale the rows of the head; rows of zeros are unchanged."""
        import torch

        head = linear_head(model)
        with torch.no_grad():
            norms = head.weight.norm(dim=1, keepdim=True)
            scales = torch.where(norms > 0, norms, 1) ** -self.tau
            head.weight.mul_(scales)
            if head.bias is not None:
                head.bias.mul_(scales.squeeze(dim=1))
        return model


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [TauNorm]
