"""Whether a strategy corrects for class frequencies: what it favors with a class prior, and with the reversed one.

Legend of shapes: B rows of a batch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.hooks.strategy import Effect
from fer_augment.testing.stages import Arguments, arguments_of, some_logits, with_features
from fer_augment.testing.subject import Subject

_CLEARLY = 1e-3


def undeclared_prior_correction(subject: Subject) -> Iterator[str]:
    """Yield the stages at which `class_prior` raises the small classes of the prior, unless this is declared.

    A strategy that draws predictions towards the prior, and so towards its large classes, does not correct for it.
    """
    if subject.build().effects & (Effect.CORRECTS_CLASS_PRIOR | Effect.FAVORS_SMALL_CLASSES):
        return
    favored_at: dict[str, Callable[[Arguments, Any], NDArray[np.floating[Any]]]] = {
        "build_loss": _favored_by_loss,
        "build_adjustment": _favored_by_adjustment,
    }
    for stage, favored in favored_at.items():
        if subject.takes(stage, "class_prior"):
            for data in subject.datasets:
                for arguments in arguments_of(stage, data):
                    prior = arguments.others["class_prior"]
                    of_prior, of_reversed = (
                        favored(arguments, replace(arguments, others=others).fold(subject.build()))
                        for others in (arguments.others, {**arguments.others, "class_prior": prior[::-1].copy()})
                    )
                    raised = of_prior - of_reversed
                    if raised[prior.argmin()] - raised[prior.argmax()] > _CLEARLY:
                        yield (
                            f"{stage}: small classes are favored by `class_prior`; declare "
                            f"Effect.{Effect.CORRECTS_CLASS_PRIOR.name}"
                        )


def _favored_by_loss(arguments: Arguments, built: Any) -> NDArray[np.floating[Any]]:
    """Return how far a gradient step raises the logit of each class, `(K,)`, if every class is the target as often."""
    import torch

    classes = len(arguments.data.class_names)
    rows = np.repeat(arguments.rows, classes)
    logits = some_logits(rows, classes).requires_grad_()
    targets = torch.eye(classes).repeat(len(arguments.rows), 1)
    (gradient,) = torch.autograd.grad(with_features(built, rows)(logits, targets).mean(), logits)
    raised: NDArray[np.floating[Any]] = -gradient.sum(dim=0).numpy()
    return raised


def _favored_by_adjustment(arguments: Arguments, built: Any) -> NDArray[np.floating[Any]]:
    """Return the mean adjusted logit of each class, `(K,)`."""
    logits = some_logits(arguments.rows, len(arguments.data.class_names))
    means: NDArray[np.floating[Any]] = built(logits).detach().mean(dim=0).numpy()
    return means
