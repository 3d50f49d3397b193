"""Losses with one fault each."""

from __future__ import annotations

import random
import warnings
from typing import Any

import torch

from fer_augment import Loss
from fer_augment.losses import cross_entropy


def of_ten_classes(logits: Any, targets: Any) -> Any:
    return cross_entropy(logits, targets * torch.ones(10))


def takes_labels(logits: Any, targets: Any) -> Any:
    return torch.nn.functional.nll_loss(logits.log_softmax(dim=1), targets.long(), reduction="none")


def mean_of_the_batch(logits: Any, targets: Any) -> Any:
    return cross_entropy(logits, targets).mean()


def takes_the_logarithm_of_softmax(logits: Any, targets: Any) -> Any:
    return -(targets * logits.softmax(dim=1).log()).sum(dim=1)


def norm_of_the_logits(logits: Any, targets: Any) -> Any:
    return cross_entropy(logits, targets) + logits.pow(2).sum(dim=1).sqrt()


def counts_errors(logits: Any, targets: Any) -> Any:
    return (logits.argmax(dim=1) != targets.argmax(dim=1)).float()


def has_the_wrong_sign(logits: Any, targets: Any) -> Any:
    return -((logits.softmax(dim=1) - targets) ** 2).sum(dim=1)


def ignores_shares(logits: Any, targets: Any) -> Any:
    return torch.nn.functional.cross_entropy(logits, targets.argmax(dim=1), reduction="none")


def centers_the_batch(logits: Any, targets: Any) -> Any:
    losses = cross_entropy(logits, targets)
    return losses + 0.1 * losses.mean()


CALLS: list[int] = []


def grows(logits: Any, targets: Any) -> Any:
    CALLS.append(1)
    return cross_entropy(logits, targets) * (1 + len(CALLS))


def hinge(logits: Any, targets: Any) -> Any:
    return (1 - logits * (2 * targets - 1)).clamp(min=0).sum(dim=1)


def shifts_in_place(logits: Any, targets: Any) -> Any:
    return cross_entropy(logits, targets.mul_(1.0).clamp_(0.01))


def draws(logits: Any, targets: Any) -> Any:
    random.random()
    return cross_entropy(logits, targets)


def warns(logits: Any, targets: Any) -> Any:
    warnings.warn("look out", stacklevel=1)
    return cross_entropy(logits, targets)


FAULTS: list[tuple[Loss, str, str]] = [
    (Loss("My Loss", "a fault", cross_entropy), "is_declared_as_a_loss", "'My Loss' must be lower-case letters"),
    (Loss("silent", "", cross_entropy), "is_declared_as_a_loss", "add a summary"),
    *(
        (Loss(function.__name__, "a fault", function), check, advice)
        for function, check, advice in (
            (of_ten_classes, "accepts_logits_and_targets", "RuntimeError for 14 rows of 2 classes"),
            (takes_labels, "accepts_logits_and_targets", "targets are class weights"),
            (mean_of_the_batch, "gives_one_loss_per_row", "must be (14,) floats, are float32 ()"),
            (takes_the_logarithm_of_softmax, "is_finite_with_its_gradient", "not finite for large logits"),
            (norm_of_the_logits, "is_finite_with_its_gradient", "the gradient is not finite for equal logits"),
            (counts_errors, "is_finite_with_its_gradient", "the loss has no gradient"),
            (has_the_wrong_sign, "is_lower_for_the_right_class", "is the sign right"),
            (ignores_shares, "depends_on_soft_targets", "shares of soft targets are lost"),
            (centers_the_batch, "gives_each_row_its_own_loss", "depends on the rest of its batch"),
            (grows, "gives_each_row_its_own_loss", "keep no state"),
            (shifts_in_place, "leaves_batch_and_generators_alone", "changed in place"),
            (draws, "leaves_batch_and_generators_alone", "Python's global random"),
            (warns, "loss_emits_no_warnings", "UserWarning: look out"),
        )
    ),
    (Loss("hinge", "a fault", hinge, over_logits=False), "uses_the_softmax_if_declared", "remove over_logits=False"),
]
"""A loss with one fault, the check that must report it, and a part of the advice."""
