"""Losses for imbalanced classes and hard rows, implemented as wrappers around the recipe's loss.

Each strategy modifies the logits, the targets or the weights, and computes the recipe's loss with them. So the steps of
a recipe combine in their order, and a recipe differs from its baseline in one thing only. Wrapped around
`cross_entropy`, each is the loss of its paper.

Shapes: B rows of a batch, K classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fer_augment import BatchLoss, Context, Effect, ImageDataset, Strategy, StrategyError, hookimpl, linear_head

if TYPE_CHECKING:
    import torch
    from torch import nn

_ROUNDING = 1e-4
"""Difference between losses, relative to the largest, up to which they count as equal; `float32` has seven digits."""


class _LossWrapper(Strategy, ABC):
    """Base class: wrap the loss from a given epoch on."""

    from_epoch: int = Field(
        default=0,
        ge=0,
        description="first epoch in which the step acts, counted from 0; before it, the loss is unchanged. An epoch "
        "number and not a fraction of the training, because a loss does not receive the length of the training.",
    )

    @property
    def acts_from(self) -> int:
        """The first epoch with the wrapped loss."""
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
        """Wrap the loss from epoch `from_epoch` on."""
        if epoch < self.from_epoch:
            return loss
        return self._wrap(loss, self._counts(class_prior, training_set), context.device)

    def _counts(self, class_prior: NDArray[np.float64], training_set: ImageDataset) -> NDArray[np.float64]:
        """Return the expected number of draws of each class in an epoch as long as the training set, `(K,)`."""
        return class_prior * len(training_set)

    @abstractmethod
    def _wrap(self, loss: BatchLoss, counts: NDArray[np.float64], device: str) -> BatchLoss:
        """Return the wrapped loss.

        Args:
            loss: the loss to wrap.
            counts: `(K,)`, from `_counts`.
            device: device of logits and targets.
        """


class WeightedLoss(_LossWrapper):
    """Weight the loss by class frequency: n^-exponent for the rows of a class of n rows.

    Class frequencies are those of the drawn rows, after all rewriting and sampling. Weights are scaled to mean 1 over
    the drawn rows, so the learning rate keeps its meaning. With exponent 1, they are the "balanced" class weights
    N / (K n) of scikit-learn. Classes without rows get weight 0. For soft targets, the loss is the weighted sum over
    the classes.

    When: small classes are rarely predicted, and every row should be drawn as often as before.

    Cost: no time or memory. Errors on large classes weigh less, so their recall tends to drop. With exponent 1, a row
    of FER2013's Disgust weighs 16.5 times as much as a row of Happy, and a few rows dominate a batch.

    Try: exponent 0.5; 1 only with `from_epoch` at four fifths of the epochs.

    Elsewhere: error on long-tailed CIFAR-10 (imbalance ratio 100, ResNet-32, no spread given) 30.1 % without, 31.6 %
    with exponent 0.5, 31.2 % with 1, 26.7 % with 1 deferred: Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for
    Long-Tailed Visual Recognition", AAAI, tables in the code repository.

    Source: weighting by inverse frequency is folklore; its square root is from Mahajan et al. 2018, "Exploring the
    Limits of Weakly Supervised Pretraining", ECCV (as sampling). `from_epoch` gives the deferred re-weighting of Cao
    et al. 2019, "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS, section 3.3.
    """

    exponent: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="0: no weights; 0.5: inverse square root; 1: all classes have the same total weight.",
    )

    @property
    def effects(self) -> Effect:
        """The loss corrects for class frequencies."""
        return Effect.CORRECTS_CLASS_PRIOR if self.exponent else Effect(0)

    def _wrap(self, loss: BatchLoss, counts: NDArray[np.float64], device: str) -> BatchLoss:
        return _weighted(loss, _power(counts, -self.exponent), counts, device)


class ClassBalancedLoss(_LossWrapper):
    """Apply the class-balanced loss: weight rows by the inverse effective number of their class.

    The effective number of n rows is (1 - beta^n) / (1 - beta): each additional row overlaps more with the previous
    ones. It is 1 for beta 0 (no weights) and approaches n as beta approaches 1 (weights 1/n). n is the expected number
    of draws of the class in an epoch as long as the training set. In the paper, the weights sum to K; here they are
    scaled to mean 1 over the drawn rows, in the same proportions, so the learning rate keeps its meaning. Classes
    without rows get weight 0. For soft targets, the loss is the weighted sum over the classes.

    When: as for `weighted_loss`, if the rows of a large class are similar, so that most of them add little information.

    Cost: no time or memory. Errors on large classes weigh less, so their recall tends to drop.

    Try: beta 0.999, with which a row of FER2013's smallest class weighs 2.8 times as much as a row of the largest, or
    0.9999 (12 times) with `from_epoch` at four fifths of the epochs. 0.99 has almost no effect on FER2013.

    Elsewhere: error on long-tailed CIFAR-10 (imbalance ratio 100, ResNet-32, no spread given) 30.1 % without, 29.8 %
    with it, 26.9 % with it deferred: Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for Long-Tailed Visual Recognition",
    AAAI, tables in the code repository.

    Source: Cui, Jia, Lin, Song and Belongie 2019, "Class-Balanced Loss Based on Effective Number of Samples", CVPR,
    proposition 1 and section 4.
    """

    example: ClassVar[Mapping[str, Any]] = {"beta": 0.9}

    beta: float = Field(
        default=0.999,
        ge=0,
        lt=1,
        description="(N - 1) / N for classes with N distinguishable examples; the paper tries 0.9 to 0.9999.",
    )

    @property
    def effects(self) -> Effect:
        """The loss corrects for class frequencies."""
        return Effect.CORRECTS_CLASS_PRIOR if self.beta else Effect(0)

    def _wrap(self, loss: BatchLoss, counts: NDArray[np.float64], device: str) -> BatchLoss:
        effective = (1 - self.beta**counts) / (1 - self.beta)
        return _weighted(loss, _power(effective, -1), counts, device)


class FocalLoss(_LossWrapper):
    """Apply focal loss: weight the loss of a row by (1 - p)^gamma, where p is the predicted probability of its class.

    Well-classified rows weigh less, regardless of class. For soft targets, the loss is the weighted sum over the
    classes. For the class weights alpha of the paper, add `weighted_loss`.

    When: most rows are learned early and dominate the loss. Class frequencies are not used, so it balances classes only
    if the small classes are the hard ones.

    Cost: no time or memory. Mislabeled rows stay hard and so weigh most. Predicted probabilities are no longer
    calibrated (focal loss is not a proper scoring rule), although a subsequent `logit_adjustment` assumes it.

    Try: gamma 2, the paper's choice among 0.5 to 5; 1 if labels are noisy.

    Elsewhere: error on long-tailed CIFAR-10 (imbalance ratio 100, ResNet-32, no spread given) 30.1 % without, 30.9 %
    with it: Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for Long-Tailed Visual Recognition", AAAI, tables in the code
    repository.

    Source: Lin, Goyal, Girshick, He and Dollár 2017, "Focal Loss for Dense Object Detection", ICCV, equation 4.
    """

    gamma: float = Field(
        default=2, ge=0, description="how strongly well-classified rows are down-weighted; 0: not at all."
    )

    @property
    def effects(self) -> Effect:
        """The loss reads probabilities from logits."""
        return Effect.NEEDS_RAW_LOGITS if self.gamma else Effect(0)

    def _wrap(self, loss: BatchLoss, counts: NDArray[np.float64], device: str) -> BatchLoss:
        return _weighted_by_class(loss, lambda logits: (self.gamma * _log_of_others(logits)).exp(), len(counts), device)


class LdamLoss(_LossWrapper):
    """Apply the LDAM loss: enforce larger margins for smaller classes, in proportion to n^(-1/4) for n rows.

    The margin is subtracted from the logit of the row's class before the loss is computed: from the cosine between the
    features and the weights of the class, before `scale`. The margin of the smallest class is `max_margin`. A margin
    has no effect if the network can scale up its logits, so the linear head is replaced by that of the paper, which
    normalizes features and weights to length 1, has no bias and returns `scale` times the cosine. Networks without a
    linear head raise an error. `from_epoch` defers the margins, not the head.

    n counts the rows of the training set as rewritten by earlier steps, regardless of sampling: the paper's bound is
    for distinct examples, and repeated draws add none. Appended rows count, including unchanged copies.

    When: the network overfits small classes. A margin separates them more clearly without drawing their rows more
    often.

    Cost: no time or memory with one-hot targets; with soft targets, one evaluation of the loss for each class. Larger
    margins for small classes reduce the recall of large ones. As the head changes too,
    a comparison measures head and margins together; `max_margin: 0` measures the head alone.

    Try: max_margin 0.5 and scale 30, as in the authors' code. Together with a `class_balanced_loss` whose `from_epoch`
    is four fifths of the epochs, it is LDAM-DRW (recipe `modern_ldam_drw`).

    Elsewhere: error on long-tailed CIFAR-10 (imbalance ratio 100, ResNet-32, no spread given) 30.1 % without, 29.4 %
    with it, 24.6 % as LDAM-DRW: Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for Long-Tailed Visual Recognition", AAAI,
    tables in the code repository.

    Source: Cao, Wei, Gaidon, Arechiga and Ma 2019, "Learning Imbalanced Datasets with Label-Distribution-Aware Margin
    Loss", NeurIPS, section 3.2, with the head and the settings of the authors' code.
    """

    max_margin: float = Field(default=0.5, ge=0, le=2, description="margin of the smallest class, as a cosine.")
    scale: float = Field(default=30, gt=0, description="factor from cosines to logits.")

    @property
    def effects(self) -> Effect:
        """Replaces the head, and adds margins that favor small classes regardless of sampling."""
        head = Effect.NEEDS_LINEAR_HEAD | Effect.NEEDS_RAW_LOGITS
        return head | Effect.FAVORS_SMALL_CLASSES if self.max_margin else head

    @property
    def acts_from(self) -> int:
        """The head is replaced from the beginning."""
        return 0

    @hookimpl
    def prepare_model(self, model: nn.Module) -> nn.Module:
        """Replace the head by one that returns cosines times `scale`."""
        model.head = _cosine_head(linear_head(model), self.scale)
        return model

    def _counts(self, class_prior: NDArray[np.float64], training_set: ImageDataset) -> NDArray[np.float64]:
        """Return the number of rows of each class, `(K,)`, regardless of sampling."""
        return training_set.counts.astype(np.float64)

    def _wrap(self, loss: BatchLoss, counts: NDArray[np.float64], device: str) -> BatchLoss:
        margins = _power(counts, -0.25)
        margins_K = _tensor(self.scale * self.max_margin * margins / margins.max(), device)
        return _for_soft_targets(lambda logits, one_hot: loss(logits - margins_K * one_hot, one_hot))


class BalancedSoftmax(_LossWrapper):
    """Apply balanced softmax: add the log class frequencies to the logits in the loss, but not in predictions.

    The network then learns logits for equal class frequencies: exp(z_k) n_k / sum_j exp(z_j) n_j estimates the class
    probabilities under the frequencies n of the drawn rows, and exp(z_k) / sum_j exp(z_j) those under equal
    frequencies. Classes without rows are not adjusted, so the network learns that they are improbable.
    `logit_adjusted_loss` adds a factor tau.

    When: all classes are equally important, regardless of size. It has no parameter to tune, so try this loss first.

    Cost: no time or memory. Predictions shift from large classes to small ones, so large classes lose recall, and
    accuracy drops on data with the class frequencies of the training set.

    Try: no parameters to tune. If large classes lose too much recall, use `logit_adjusted_loss` with tau 0.5.

    Elsewhere: error on long-tailed CIFAR-10 (imbalance ratio 100, ResNet-32, no spread given) 30.1 % without, 23.6 %
    with it: Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for Long-Tailed Visual Recognition", AAAI, tables in the code
    repository.

    Source: Ren, Yu, Sheng, Ma, Zhao, Yi and Li 2020, "Balanced Meta-Softmax for Long-Tailed Visual Recognition",
    NeurIPS, section 3.
    """

    @property
    def effects(self) -> Effect:
        """The loss corrects for class frequencies, in the logits."""
        return Effect.CORRECTS_CLASS_PRIOR | Effect.NEEDS_RAW_LOGITS

    def _wrap(self, loss: BatchLoss, counts: NDArray[np.float64], device: str) -> BatchLoss:
        return _with_prior(loss, counts, 1, device)


class LogitAdjustedLoss(_LossWrapper):
    """Apply the logit-adjusted loss: add tau times the log class frequencies to the logits in the loss.

    With tau 1 it equals `balanced_softmax`, and the learned logits are for equal class frequencies; larger values favor
    small classes further. Class frequencies are those of the drawn rows; classes without rows are not adjusted. The
    strategy `logit_adjustment` applies the same correction to a trained network, without retraining.

    When: as for `balanced_softmax`, with control over how much recall large classes may lose to small ones.

    Cost: no time or memory. The larger tau, the more recall shifts from large classes to small ones.

    Try: tau 0.5 and 1.

    Elsewhere: accuracy on long-tailed CIFAR-10 (imbalance ratio 100, no spread given) 71.3 % without, 78.6 % with tau
    1: github.com/Chumsy0725/logit-adj-pytorch, a third-party implementation of the paper.

    Source: Menon et al. 2021, "Long-Tail Learning via Logit Adjustment", ICLR, equation 10.
    """

    tau: float = Field(default=1, ge=0, description="0: no adjustment; 1: as if all classes were equally frequent.")

    @property
    def effects(self) -> Effect:
        """The loss corrects for class frequencies, in the logits."""
        return Effect.CORRECTS_CLASS_PRIOR | Effect.NEEDS_RAW_LOGITS if self.tau else Effect(0)

    def _wrap(self, loss: BatchLoss, counts: NDArray[np.float64], device: str) -> BatchLoss:
        return _with_prior(loss, counts, self.tau, device)


class LabelSmoothing(_LossWrapper):
    """Apply label smoothing: replace each target by (1 - smoothing) target + smoothing / K.

    When: labels are wrong or ambiguous, as many in FER2013 are, or the network is overconfident.

    Cost: no time or memory. Class frequencies are not used, so small classes do not gain from it as such; the
    probabilities of confident predictions are lower.

    Try: smoothing 0.1, as in the paper; 0.05 for fewer and 0.2 for more ambiguous labels.

    Elsewhere: error on long-tailed CIFAR-10 (imbalance ratio 100, ResNet-32, no spread given) 30.1 % without, 30.4 %
    with it: Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for Long-Tailed Visual Recognition", AAAI, tables in the code
    repository.

    Source: Szegedy, Vanhoucke, Ioffe, Shlens and Wojna 2016, "Rethinking the Inception Architecture for Computer
    Vision", CVPR, section 7.
    """

    smoothing: float = Field(
        default=0.1, ge=0, lt=1, description="fraction of each target that is spread evenly over all classes."
    )

    @property
    def effects(self) -> Effect:
        """Targets are no longer one-hot."""
        return Effect.SOFT_TARGETS if self.smoothing else Effect(0)

    def _wrap(self, loss: BatchLoss, counts: NDArray[np.float64], device: str) -> BatchLoss:
        uniform = self.smoothing / len(counts)
        return lambda logits, targets: loss(logits, (1 - self.smoothing) * targets + uniform)


def _power(counts: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """Return counts raised to a power, `(K,)`; 0 for a count of 0."""
    return np.power(counts, exponent, out=np.zeros_like(counts), where=counts > 0)


def _tensor(values: NDArray[np.float64], device: str) -> torch.Tensor:
    import torch

    return torch.tensor(values, dtype=torch.float32, device=device)


def _weighted(loss: BatchLoss, weights: NDArray[np.float64], counts: NDArray[np.float64], device: str) -> BatchLoss:
    """Weight a loss by class weights, `(K,)`, scaled to mean 1 over the drawn rows."""
    weights_K = _tensor(weights * counts.sum() / (weights @ counts), device)
    return _weighted_by_class(loss, lambda logits: weights_K, len(counts), device)


def _with_prior(loss: BatchLoss, counts: NDArray[np.float64], tau: float, device: str) -> BatchLoss:
    """Add tau times the log class frequencies to the logits; nothing is added for classes without rows."""
    prior = counts / counts.sum()
    offsets_K = _tensor(tau * np.log(np.where(prior > 0, prior, 1)), device)
    return lambda logits, targets: loss(logits + offsets_K, targets)


def _weighted_by_class(
    loss: BatchLoss, weights_of: Callable[[torch.Tensor], torch.Tensor], classes: int, device: str
) -> BatchLoss:
    """Weight the loss of each class by weights that may depend on the logits, `(K,)` or `(B, K)`.

    The loss of a row is the sum over the classes k of target_k weight_k loss(logits, class k). With a loss that is
    affine in the targets this is one evaluation, at the weighted targets scaled to sum to 1.
    """
    if not _is_affine_in_targets(loss, classes, device):
        return _for_soft_targets(
            lambda logits, one_hot: (weights_of(logits) * one_hot).sum(dim=1) * loss(logits, one_hot)
        )

    def of_targets(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        weighted = weights_of(logits) * targets
        total = weighted.sum(dim=1)
        return total * loss(logits, weighted / total.clamp_min(1e-30).unsqueeze(1))

    return of_targets


def _is_affine_in_targets(loss: BatchLoss, classes: int, device: str) -> bool:
    """Return whether the loss of mixed targets is the mixture of their losses, at random ones.

    The loss is given float32, as in training. One that asks for features cannot be evaluated outside of an optimizer
    step, and counts as not affine.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    logits, first, second = torch.randn((3, 2, classes), generator=generator, dtype=torch.float32).to(device)
    share = torch.rand((2, 1), generator=generator, dtype=torch.float32).to(device)
    first, second = first.softmax(dim=1), second.softmax(dim=1)
    try:
        with torch.no_grad():
            mixed = loss(logits, share * first + (1 - share) * second)
            mixture = share[:, 0] * loss(logits, first) + (1 - share[:, 0]) * loss(logits, second)
    except StrategyError:
        return False
    return bool((mixed - mixture).abs().max() <= _ROUNDING * mixture.abs().max())


def _log_of_others(logits: torch.Tensor) -> torch.Tensor:
    """Return log(1 - p) of each class, `(B, K)`; it stays finite and has a gradient where 1 - p is rounded to 0."""
    import torch

    log_p = logits.log_softmax(dim=1)
    largest = log_p.argmax(dim=1, keepdim=True)
    is_largest = torch.zeros_like(log_p, dtype=torch.bool).scatter_(1, largest, True)
    below = log_p.masked_fill(is_largest, -math.inf)  # at most log(1/2), where log1p is exact
    return torch.where(is_largest, below.logsumexp(dim=1, keepdim=True), torch.log1p(-below.exp()))


def _for_soft_targets(of_labels: BatchLoss) -> BatchLoss:
    """Extend a loss for one-hot targets to soft targets: the sum over the classes, weighted by the targets."""
    import torch

    def of_targets(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        rows, labels = targets.nonzero(as_tuple=True)
        one_hot = torch.eye(targets.shape[1], dtype=targets.dtype, device=targets.device)[labels]
        losses = of_labels(logits[rows], one_hot)
        return (targets * losses.new_zeros(targets.shape).index_put((rows, labels), losses)).sum(dim=1)

    return of_targets


def _cosine_head(head: nn.Linear, scale: float) -> nn.Module:
    """Return a layer with the head's weights that computes `scale` times the cosine of features and weights."""
    import torch
    from torch import nn
    from torch.nn.functional import linear, normalize

    class CosineHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = head.weight

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            # In bfloat16, logits near a scale of 30 would be multiples of 0.125.
            with torch.autocast(features.device.type, enabled=False):
                return scale * linear(normalize(features.float()), normalize(self.weight))

    return CosineHead()


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategies of this module."""
    return [
        WeightedLoss,
        ClassBalancedLoss,
        FocalLoss,
        LdamLoss,
        BalancedSoftmax,
        LogitAdjustedLoss,
        LabelSmoothing,
    ]
