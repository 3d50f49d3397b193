"""The optimizers and learning-rate schedules that a recipe may name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fer_augment.recipe.recipe import TrainingSettings

if TYPE_CHECKING:
    import torch

WARM_UP = 0.3
"""Share of a one-cycle training in which the learning rate rises."""
START_DIVISOR = 25.0
"""How many times smaller than the highest rate a one-cycle training begins."""
END_DIVISOR = 1e4
"""How many times smaller than at its beginning a one-cycle training ends."""


def make_optimizer(settings: TrainingSettings, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Make the optimizer of a recipe; all of them update in one fused kernel."""
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

    `cosine` falls from the recipe's rate to 0 along half a cosine (Loshchilov and Hutter 2017, "SGDR", ICLR, without
    restarts). `one_cycle` rises to it over the first three tenths and falls to almost nothing (Smith and Topin 2018,
    "Super-Convergence"), with the numbers of torch's `OneCycleLR`; momentum stays as it is.

    Args:
        settings: name the schedule and the highest rate.
        step: `0 … steps - 1`.
        steps: of the whole training.
    """
    highest = settings.learning_rate
    if settings.schedule == "constant":
        return highest
    if settings.schedule == "cosine":
        return _along_cosine(highest, 0.0, step / steps)
    peak = WARM_UP * steps - 1
    start = highest / START_DIVISOR
    if step <= peak:
        return _along_cosine(start, highest, step / peak if peak > 0 else 1.0)
    return _along_cosine(highest, start / END_DIVISOR, (step - peak) / (steps - 1 - peak))


def _along_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
