"""Tau-normalization: even out the lengths of a trained classifier's weight vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from fer_augment import Effect, Strategy, hookimpl, linear_head

if TYPE_CHECKING:
    from torch import nn


class TauNorm(Strategy):
    """Divide the weight vector of each class in the trained linear head by its length to the power of tau.

    Frequent classes tend to get longer weight vectors, and so larger logits; with tau 1 all are equally long. The paper
    leaves out the bias of the head. Here it is divided along with the weights, so that tau 0 changes nothing;
    probabilities become sharper where vectors are shorter than 1 and duller where they are longer. Networks without a
    linear head are refused before training.

    Tau is a number and not chosen on the validation split, as no step that works on weights sees it: compare a few. All
    of them begin with the same trained network, the baseline's.

    When: the features are good and the head favors frequent classes, and `logit_adjustment` is to be checked by
    another way that needs no class counts.

    Cost: no training. Classes with long weight vectors lose recall, and these need not be the large ones.
    Probabilities are no longer estimates.

    Try: tau 0.5 and 1.

    Measured: on FER2013, tau 1 (recipe `modern_tau_norm`), 18 epochs, n = 3 runs: balanced accuracy -2.1 points (95 %
    interval -3.0 to -1.2), worse; accuracy -0.9 points (-1.5 to -0.3), worse.

    Elsewhere: error on CIFAR-10 made unequal 100 to 1 (ResNet-32, one number each) 30.1 % without, 29.3 % with it:
    Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for Long-Tailed Visual Recognition", AAAI, in the tables of its code.

    Source: Kang et al. 2020, "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR, section 4,
    "tau-normalized classifier".
    """

    tau: float = Field(default=1, ge=0, le=2, description="0: weights as trained; 1: all of length 1.")

    @property
    def effects(self) -> Effect:
        """The head's weights make up for class frequencies."""
        return Effect.NEEDS_LINEAR_HEAD | Effect.FAVORS_SMALL_CLASSES if self.tau else Effect.NEEDS_LINEAR_HEAD

    @hookimpl
    def refine_model(self, model: nn.Module) -> nn.Module:
        """Scale the rows of the head; a row of zeros stays as it is."""
        import torch

        head = linear_head(model)
        with torch.no_grad():
            lengths = head.weight.norm(dim=1, keepdim=True)
            scales = torch.where(lengths > 0, lengths, 1) ** -self.tau
            head.weight.mul_(scales)
            if head.bias is not None:
                head.bias.mul_(scales.squeeze(dim=1))
        return model


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Offer the strategy of this file."""
    return [TauNorm]
