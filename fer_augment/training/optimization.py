"""Optimizers and learning-rate schedules of recipes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fer_augment.recipe.training_settings import TrainingSettings

if TYPE_CHECKING:
    import torch

WARM_UP = 0.3
"""Fraction of the steps of `one_cycle` in which the learning rate rises."""
START_DIVISOR = 25.0
"""Maximum divided by initial learning rate of `one_cycle`."""
END_DIVISOR = 1e4
"""Initial divided by final learning rate of `one_cycle`."""
_FACTOR = "learning_rate_factor"


def make_optimizer(
    settings: TrainingSettings,
    parameters: Sequence[torch.nn.Parameter],
    backbone: Iterable[torch.nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """Create the optimizer of a recipe, with fused kernels.

    Args:
        settings: the optimizer and its settings.
        parameters: the parameters to train.
        backbone: those of the backbone; they are a group of their own if their learning rate is another, or if they
            are frozen at first: fused kernels need momentum for all parameters of a group or for none.
    """
    import torch

    rate, decay = settings.learning_rate, settings.weight_decay
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if settings.backbone_learning_rate != 1 or settings.freeze_epochs:
        of_backbone = {id(parameter) for parameter in backbone}
        others, slower = ([one for one in parameters if (id(one) in of_backbone) is side] for side in (False, True))
        groups = [{"params": others}, {"params": slower, _FACTOR: settings.backbone_learning_rate}]
    if settings.optimizer == "sgd":
        momentum = settings.momentum
        nesterov = momentum > 0
        return torch.optim.SGD(groups, rate, momentum, weight_decay=decay, nesterov=nesterov, fused=True)
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, rate, weight_decay=decay, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all groups, each times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(_FACTOR, 1.0)


def learning_rate(settings: TrainingSettings, step: int, steps: int, warm_up: int = 0) -> float:
    """Return the learning rate of an optimizer step, that of the backbone without its factor.

    In the steps of warm-up the rate rises linearly to `training.learning_rate` (Goyal et al. 2017, "Accurate, Large
    Minibatch SGD"). The schedule spans the remaining steps. `cosine` decays to 0 along half a cosine (Loshchilov and
    Hutter 2017, "SGDR", ICLR, without restarts). `one_cycle` rises to the maximum over the first 30 % of the steps,
    then decays to nearly 0 (Smith and Topin 2018, "Super-Convergence"), like torch's `OneCycleLR` without cycling
    momentum.

    Args:
        settings: schedule and maximum learning rate.
        step: the step, from 0 to `steps - 1`.
        steps: number of steps of the training.
        warm_up: number of steps of warm-up.
    """
    maximum = settings.learning_rate
    if step < warm_up:
        return maximum * (step + 1) / warm_up
    step, steps = step - warm_up, steps - warm_up
    if settings.schedule == "constant":
        return maximum
    if settings.schedule == "cosine":
        return _cosine_between(maximum, 0.0, step / steps)
    peak = WARM_UP * steps - 1
    start = maximum / START_DIVISOR
    if step <= peak:
        return _cosine_between(start, maximum, step / peak if peak > 0 else 1.0)
    return _cosine_between(maximum, start / END_DIVISOR, (step - peak) / (steps - 1 - peak))


def _cosine_between(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2
