"""Optimizers and learning-rate schedules of recipes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fer_augment.recipe.recipe import TrainingSettings

if TYPE_CHECKING:
    import torch

WARM_UP = 0.3
"""Fraction of the steps of `one_cycle` in which the learning rate rises."""
START_DIVISOR = 25.0
"""Maximum divided by initial learning rate of `one_cycle`."""
END_DIVISOR = 1e4
"""Initial divided by final learning rate of `one_cycle`."""


def make_optimizer(settings: TrainingSettings, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Create the optimizer of a recipe, with fused kernels."""
    import torch

    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        momentum = settings.momentum
        nesterov = momentum > 0
        return torch.optim.SGD(parameters, rate, momentum, weight_decay=decay, nesterov=nesterov, fused=True)
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, rate, weight_decay=decay, fused=True)


def learning_rate(settings: TrainingSettings, step: int, steps: int) -> float:
    """Return the learning rate of an optimizer step.

    `cosine` decays from `training.learning_rate` to 0 along half a cosine (Loshchilov and Hutter 2017, "SGDR", ICLR,
    without restarts). `one_cycle` rises to it over the first 30 % of the steps, then decays to nearly 0 (Smith and
    Topin 2018, "Super-Convergence"), like torch's `OneCycleLR` without cycling momentum.

    Args:
        settings: schedule and maximum learning rate.
        step: the step, from 0 to `steps - 1`.
        steps: number of steps of the training.
    """
    maximum = settings.learning_rate
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
