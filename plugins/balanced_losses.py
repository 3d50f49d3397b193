"""Losses for unequal classes and for hard rows, each of them around the loss that it is given.

All of them wrap: the recipe's loss is still what is computed, on other logits, other targets or with other weights, so
that steps of one recipe add up in their order and a recipe differs from its baseline in one thing. Around
`cross_entropy` each is the loss of its paper.

Legend of shapes: B rows of a batch, K classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fer_augment import BatchLoss, Context, Effect, ImageDataset, Strategy, hookimpl, linear_head

if TYPE_CHECKING:
    import torch
    from torch import nn


class _LossAround(Strategy, ABC):
    """A loss around the given one, from some epoch on."""

    from_epoch: int = Field(
        default=0,
        ge=0,
        description="the first epoch, counted from 0, in which it acts; before it the loss is as it was given. An "
        "epoch and not a share of the training, as a loss is not told how long training lasts.",
    )

    @property
    def acts_from(self) -> int:
        """The first epoch with this loss."""
        return self.from_epoch

    @hookimpl
    def build_loss(
        self,
        loss: BatchLoss,
        class_prior: NDArray[np.float64],
        training_set: ImageDataset,
        epoch: int,
        context: Context,
    ) -> BatchLoss:
        """Put this loss around the given one, once its epoch has come."""
        if epoch < self.from_epoch:
            return loss
        return self._around(loss, self._counts(class_prior, training_set), context.device)

    def _counts(self, class_prior: NDArray[np.float64], training_set: ImageDataset) -> NDArray[np.float64]:
        """Return how many rows of each class an epoch as long as the training set draws on average, `(K,)`."""
        return class_prior * len(training_set)

    @abstractmethod
    def _around(self, loss: BatchLoss, counts: NDArray[np.float64], device: str) -> BatchLoss:
        """Return the loss around another.

        Args:
            loss: the other.
            counts: `(K,)`, from `_counts`.
            device: where logits and targets live.
        """


class WeightedLoss(_LossAround):
    """Weight the loss of a row by a power of its class's frequency, n^-exponent for a class of n rows.

    Frequencies are those in which rows are drawn, after all rewriting and sampling; weights have the mean 1 over the
    drawn rows, so the learning rate keeps its meaning. With 1 these are the "balanced" class weights N / (K n) of
    scikit-learn. A class without rows has the weight 0. Soft targets take the weighted sum over their classes.

    When: small classes are overlooked, and every row is to be seen as often as before.

    Cost: no time and no memory. Mistakes on large classes weigh less, so these tend to lose recall; with an exponent of
    1 a row of FER2013's Disgust weighs 16.5 times one of Happy, and a few rows rule a batch.

    Try: exponent 0.5; 1 only with `from_epoch` at four fifths of the epochs.

    Elsewhere: error on CIFAR-10 made unequal 100 to 1 (ResNet-32, one number each) 30.1 % without, 31.6 % with exponent
    0.5, 31.2 % with 1, 26.7 % with 1 deferred: Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for Long-Tailed Visual
    Recognition", AAAI, in the tables of its code.

    Source: weighting by the inverse frequency is folklore; its square root is in Mahajan et al. 2018, "Exploring the
    Limits of Weakly Supervised Pretraining", ECCV (as sampling). `from_epoch` gives the deferred re-weighting of Cao
    et al. 2019, "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS, section 3.3.
    """

    exponent: float = Field(
        default=0.5, ge=0, le=1, description="0: no weights; 0.5: square root; 1: all classes weigh the same in sum."
    )

    @property
    def effects(self) -> Effect:
        """The loss makes up for class frequencies."""
        return Effect.CORRECTS_CLASS_PRIOR if self.exponent else Effect(0)

    def _around(self, loss: BatchLoss, counts: NDArray[np.float64], device: str) -> BatchLoss:
        return _weighted(loss, _power(counts, -self.exponent), counts, device)


class ClassBalancedLoss(_LossAround):
    """Weight the loss of a row by the inverse effective number of its class: (1 - beta) / (1 - beta^n).

    The effective number of n rows is (1 - beta^n) / (1 - beta): each further row overlaps more with those before. It is
    1 for beta 0 (no weights) and approaches n for beta towards 1 (weights 1/n). n counts the rows of a class that an
    epoch as long as the training set draws. The paper lets the weights sum to K; here their mean over the drawn rows is
    1, in the same proportions, so the learning rate keeps its meaning. A class without rows has the weight 0. Soft
    targets take the weighted sum over their classes.

    When: as `weighted_loss`, where the rows of a large class are much alike, so that most of them add little.

    Cost: no time and no memory. Mistakes on large classes weigh less, so these tend to lose recall.

    Try: beta 0.999, with which a row of FER2013's smallest class weighs 2.8 times one of the largest, or 0.9999 (12
    times) with `from_epoch` at four fifths of the epochs. 0.99 is next to nothing there.

    Elsewhere: error on CIFAR-10 made unequal 100 to 1 (ResNet-32, one number each) 30.1 % without, 29.8 % with it, 26.9
    % with it deferred: Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for Long-Tailed Visual Recognition", AAAI, in the
    tables of its code.

    Source: Cui, Jia, Lin, Song and Belongie 2019, "Class-Balanced Loss Based on Effective Number of Samples", CVPR,
    proposition 1 and section 4.
    """

    example: ClassVar[Mapping[str, Any]] = {"beta": 0.9}

    beta: float = Field(
        default=0.999,
        ge=0,
        lt=1,
        description="(N - 1) / N for classes of N distinguishable examples; the paper tries 0.9 to 0.9999.",
    )

    @property
    def effects(self) -> Effect:
        """The loss makes up for class frequencies."""
        return Effect.CORRECTS_CLASS_PRIOR if self.beta else Effect(0)

    def _around(self, loss: BatchLoss, counts: NDArray[np.float64], device: str) -> BatchLoss:
        effective = (1 - self.beta**counts) / (1 - self.beta)
        return _weighted(loss, _power(effective, -1), counts, device)


class FocalLoss(_LossAround):
    """Weight the loss of a row by (1 - p)^gamma, p being the probability that the network gives its class.

    Rows that the network knows already count less, whatever their class. Soft targets take the weighted sum over their
    classes. For the class weights alpha of the paper add a `weighted_loss`.

    When: most rows are learnt early and drown the others. It looks at no class frequency, so it balances only where
    small classes are the hard ones.

    Cost: no time and no memory. Rows with a wrong label are never learnt and so count most. Probabilities are no longer
    estimates (it is no proper scoring rule), as a `logit_adjustment` after it assumes.

    Try: gamma 2, the paper's choice among 0.5 to 5; 1 where labels are doubtful.

    Elsewhere: error on CIFAR-10 made unequal 100 to 1 (ResNet-32, one number each) 30.1 % without, 30.9 % with it:
    Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for Long-Tailed Visual Recognition", AAAI, in the tables of its code.

    Source: Lin, Goyal, Girshick, He and Dollár 2017, "Focal Loss for Dense Object Detection", ICCV, equation 4.
    """

    gamma: float = Field(default=2, ge=0, description="how much known rows are discounted; 0: not at all.")

    @property
    def effects(self) -> Effect:
        """The loss reads probabilities from logits."""
        return Effect.NEEDS_RAW_LOGITS if self.gamma else Effect(0)

    def _around(self, loss: BatchLoss, counts: NDArray[np.float64], device: str) -> BatchLoss:
        def of_labels(logits: torch.Tensor, one_hot: torch.Tensor) -> torch.Tensor:
            # The logarithm of 1 - p is finite where 1 - p itself is rounded to 0 and its power has no gradient.
            others = logits.log_softmax(dim=1).masked_fill(one_hot.bool(), -math.inf)
            return (self.gamma * others.logsumexp(dim=1)).exp() * loss(logits, one_hot)

        return _for_soft_targets(of_labels)


class LdamLoss(_LossAround):
    """Ask for a larger margin for smaller classes: n^(-1/4) for a class of n rows, `max_margin` for the smallest.

    The loss is taken with the margin subtracted from the logit of a row's class: of the cosine between the features and
    the weights of the class, before `scale`. A margin means nothing where a network can outgrow it, so the linear head
    is replaced by the one of the paper, without bias, whose features and weights have length 1; it gives `scale` times
    the cosine. Networks without a linear head are refused. `from_epoch` defers the margins, not the head.

    n counts the rows of the training set as earlier steps have left it, however a sampler draws them: the paper's bound
    is one for distinct examples, and no draw makes a new one. Rows that a step has appended do count, plain copies too.

    When: small classes are learnt by heart. A margin asks for more room around them without showing their rows more
    often.

    Cost: no time and no memory. Room for small classes is taken from large ones. As the head changes too, a comparison
    is one of head and margins; `max_margin: 0` is the head alone.

    Try: max_margin 0.5 and scale 30, as the authors' code; together with a `class_balanced_loss` whose `from_epoch` is
    four fifths of the epochs it is LDAM-DRW, the recipe `modern_ldam_drw`.

    Elsewhere: error on CIFAR-10 made unequal 100 to 1 (ResNet-32, one number each) 30.1 % without, 29.4 % with it, 24.6
    % as LDAM-DRW: Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for Long-Tailed Visual Recognition", AAAI, in the tables
    of its code.

    Source: Cao, Wei, Gaidon, Arechiga and Ma 2019, "Learning Imbalanced Datasets with Label-Distribution-Aware Margin
    Loss", NeurIPS, section 3.2, with the head and the settings of the authors' code.
    """

    max_margin: float = Field(default=0.5, ge=0, le=2, description="margin of the smallest class, as a cosine.")
    scale: float = Field(default=30, gt=0, description="the logits are this times the cosines.")

    @property
    def effects(self) -> Effect:
        """Another head, and margins in its logits that favor small classes, however rows are drawn."""
        head = Effect.NEEDS_LINEAR_HEAD | Effect.NEEDS_RAW_LOGITS
        return head | Effect.FAVORS_SMALL_CLASSES if self.max_margin else head

    @hookimpl
    def prepare_model(self, model: nn.Module) -> nn.Module:
        """Replace the head by one whose logits are cosines, times `scale`."""
        model.head = _cosine_head(linear_head(model), self.scale)
        return model

    def _counts(self, class_prior: NDArray[np.float64], training_set: ImageDataset) -> NDArray[np.float64]:
        """Return how many rows of each class there are, `(K,)`, however they are drawn."""
        return training_set.counts.astype(np.float64)

    def _around(self, loss: BatchLoss, counts: NDArray[np.float64], device: str) -> BatchLoss:
        margins = _power(counts, -0.25)
        margins_K = _tensor(self.scale * self.max_margin * margins / margins.max(), device)
        return _for_soft_targets(lambda logits, one_hot: loss(logits - margins_K * one_hot, one_hot))


class BalancedSoftmax(_LossAround):
    """Train the softmax of the logits plus the logarithms of the class frequencies; predict with the logits alone.

    The network then learns what it would say if all classes were equally frequent: exp(z_k) n_k / sum_j exp(z_j) n_j
    estimates the probabilities under the frequencies n, as rows are drawn, and exp(z_k) / sum_j exp(z_j) those under
    equal ones. A class without rows is not adjusted, so that it is learnt to be improbable. `logit_adjusted_loss` is
    the same with a factor.

    When: classes are to count alike, whatever their size. With no number to choose, it is the loss to try first.

    Cost: no time and no memory. Predictions move from large classes to small ones, so large ones lose recall, and so
    does accuracy on data with the frequencies of the training.

    Try: it has nothing to choose. Where large classes lose too much, `logit_adjusted_loss` with tau 0.5.

    Elsewhere: error on CIFAR-10 made unequal 100 to 1 (ResNet-32, one number each) 30.1 % without, 23.6 % with it:
    Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for Long-Tailed Visual Recognition", AAAI, in the tables of its code.

    Source: Ren, Yu, Sheng, Ma, Zhao, Yi and Li 2020, "Balanced Meta-Softmax for Long-Tailed Visual Recognition",
    NeurIPS, section 3.
    """

    @property
    def effects(self) -> Effect:
        """The loss makes up for class frequencies, in the logits."""
        return Effect.CORRECTS_CLASS_PRIOR | Effect.NEEDS_RAW_LOGITS

    def _around(self, loss: BatchLoss, counts: NDArray[np.float64], device: str) -> BatchLoss:
        return _with_prior(loss, counts, 1, device)


class LogitAdjustedLoss(_LossAround):
    """Train the softmax of the logits plus tau times the logarithms of the class frequencies.

    With tau 1 this is `balanced_softmax`, and what is learnt is right for equal class frequencies; more favors small
    classes further. Frequencies are those in which rows are drawn; a class without rows is not adjusted. The strategy
    `logit_adjustment` does the same to a trained network, without training again.

    When: as `balanced_softmax`, where you want to say how far large classes may pay for small ones.

    Cost: no time and no memory. The larger tau, the more recall moves from large classes to small ones.

    Try: tau 0.5 and 1.

    Elsewhere: accuracy on CIFAR-10 made unequal 100 to 1 (one number each) 71.3 % without, 78.6 % with tau 1:
    github.com/Chumsy0725/logit-adj-pytorch, code of others for the paper.

    Source: Menon et al. 2021, "Long-Tail Learning via Logit Adjustment", ICLR, equation 10.
    """

    tau: float = Field(default=1, ge=0, description="0: no adjustment; 1: as if all classes were equally frequent.")

    @property
    def effects(self) -> Effect:
        """The loss makes up for class frequencies, in the logits."""
        return Effect.CORRECTS_CLASS_PRIOR | Effect.NEEDS_RAW_LOGITS if self.tau else Effect(0)

    def _around(self, loss: BatchLoss, counts: NDArray[np.float64], device: str) -> BatchLoss:
        return _with_prior(loss, counts, self.tau, device)


class LabelSmoothing(_LossAround):
    """Give a share of each target to all K classes alike: (1 - smoothing) target + smoothing / K.

    When: labels are wrong or arguable, as many of FER2013 are, or the network is too sure of itself.

    Cost: no time and no memory. It looks at no class frequency, so small classes gain nothing by it as such;
    probabilities of sure predictions come out lower.

    Try: smoothing 0.1, as the paper; 0.05 or 0.2 for fewer or more doubtful labels.

    Elsewhere: error on CIFAR-10 made unequal 100 to 1 (ResNet-32, one number each) 30.1 % without, 30.4 % with it:
    Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for Long-Tailed Visual Recognition", AAAI, in the tables of its code.

    Source: Szegedy, Vanhoucke, Ioffe, Shlens and Wojna 2016, "Rethinking the Inception Architecture for Computer
    Vision", CVPR, section 7.
    """

    smoothing: float = Field(default=0.1, ge=0, lt=1, description="share of a target that is spread over all classes.")

    @property
    def effects(self) -> Effect:
        """Targets are no longer one-hot."""
        return Effect.SOFT_TARGETS if self.smoothing else Effect(0)

    def _around(self, loss: BatchLoss, counts: NDArray[np.float64], device: str) -> BatchLoss:
        uniform = self.smoothing / len(counts)
        return lambda logits, targets: loss(logits, (1 - self.smoothing) * targets + uniform)


def _power(counts: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """Return each count to a power, `(K,)`; 0 for a count of 0."""
    return np.power(counts, exponent, out=np.zeros_like(counts), where=counts > 0)


def _tensor(values: NDArray[np.float64], device: str) -> torch.Tensor:
    import torch

    return torch.tensor(values, dtype=torch.float32, device=device)


def _weighted(loss: BatchLoss, weights: NDArray[np.float64], counts: NDArray[np.float64], device: str) -> BatchLoss:
    """Weight a loss by class, `(K,)`, after scaling the weights to the mean 1 over the drawn rows."""
    weights_K = _tensor(weights * counts.sum() / (weights @ counts), device)
    return _for_soft_targets(lambda logits, one_hot: (weights_K * one_hot).sum(dim=1) * loss(logits, one_hot))


def _with_prior(loss: BatchLoss, counts: NDArray[np.float64], tau: float, device: str) -> BatchLoss:
    """Add tau times the logarithms of the class frequencies to the logits; a class without rows counts as frequent."""
    prior = counts / counts.sum()
    offsets_K = _tensor(tau * np.log(np.where(prior > 0, prior, 1)), device)
    return lambda logits, targets: loss(logits + offsets_K, targets)


def _for_soft_targets(of_labels: BatchLoss) -> BatchLoss:
    """Extend a loss that takes one-hot targets to all targets: the sum over the classes, weighted by the targets."""
    import torch

    def of_targets(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        rows, labels = targets.nonzero(as_tuple=True)
        one_hot = torch.eye(targets.shape[1], dtype=targets.dtype, device=targets.device)[labels]
        losses = of_labels(logits[rows], one_hot)
        return (targets * losses.new_zeros(targets.shape).index_put((rows, labels), losses)).sum(dim=1)

    return of_targets


def _cosine_head(head: nn.Linear, scale: float) -> nn.Module:
    """Return a layer with a linear head's weights that gives `scale` times the cosines of features and weights."""
    from torch import nn
    from torch.nn.functional import linear, normalize

    class CosineHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = head.weight

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return scale * linear(normalize(features), normalize(self.weight))

    return CosineHead()


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Offer the strategies of this file."""
    return [
        WeightedLoss,
        ClassBalancedLoss,
        FocalLoss,
        LdamLoss,
        BalancedSoftmax,
        LogitAdjustedLoss,
        LabelSmoothing,
    ]
