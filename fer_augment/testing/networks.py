"""Checks of losses, networks and predictions: shapes, finite values, and independence of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fer_augment.hooks.strategy import Effect
from fer_augment.testing.stages import BATCH, Arguments, arguments_of, some_logits, trial
from fer_augment.testing.subject import Subject

if TYPE_CHECKING:
    import torch

    from fer_augment.hooks.declarations import BatchLoss

_LARGE = 20
"""Factor of large logits, which are in -60..60."""


def predicts_each_row_alone(subject: Subject) -> Iterator[str]:
    """Views and adjusted logits of a row do not depend on the other rows of the batch."""
    for stage in ("predict_views", "build_adjustment"):
        for together, alone in subject.together_and_alone(stage):
            if not np.allclose(together, alone, atol=1e-5):
                yield f"{stage}: the result of a row depends on the rest of its batch; compute it from the row alone"


def gives_one_finite_loss_per_row(subject: Subject) -> Iterator[str]:
    """The loss has shape `(B,)`, is finite and differentiable, and the loss of a row depends on that row alone.

    It is finite for large logits, too: these differ by up to 120, and the softmax of one is then 0 in float32. And for
    equal logits, as of a network whose last layer begins with zeros.
    A loss that asks for features may compare the rows of a batch.
    """
    if "build_loss" in subject.stages:
        for data in subject.datasets:
            arrays = trial(subject.build(), "build_loss", data)
            if any(losses.shape != (BATCH,) for losses in arrays[::2]):  # gradients are between them
                yield f"the loss of {BATCH} rows must have shape ({BATCH},); sum over classes, the trainer averages"
                return
            if not all(np.isfinite(array).all() for array in arrays):
                yield "losses and their gradients must be finite"
                return
            if Effect.NEEDS_FEATURES in subject.build().effects:
                continue
            for arguments in arguments_of("build_loss", data):
                loss = arguments.fold(subject.build())
                if not _is_finite(loss, arguments, factor=_LARGE):
                    yield (
                        "losses and their gradients must be finite for large logits, too; use log_softmax, not "
                        "softmax().log()"
                    )
                if not _is_finite(loss, arguments, factor=0):
                    yield "losses and their gradients must be finite for equal logits, too, whose spread and norm are 0"
    if Effect.NEEDS_FEATURES in subject.build().effects:
        return
    for together, alone in subject.together_and_alone("build_loss"):
        if not np.allclose(together, alone, atol=1e-5):
            yield "the loss of a row must depend on that row alone"


def _is_finite(loss: BatchLoss, arguments: Arguments, *, factor: int) -> bool:
    """Whether losses and gradients are finite for the logits of the kit times a factor."""
    import torch

    classes = len(arguments.data.class_names)
    logits = (factor * some_logits(arguments.rows, classes)).requires_grad_()
    losses = loss(logits, torch.nn.functional.one_hot(torch.from_numpy(arguments.rows % classes), classes).float())
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    return bool(losses.isfinite().all() and gradient.isfinite().all())


def gives_networks_that_a_run_can_use(subject: Subject) -> Iterator[str]:
    """Networks return finite logits `(B, K)` and have `features`; `refine_model` keeps the names of the parameters."""
    for stage in ("prepare_model", "refine_model"):
        for data, network in subject.results(stage):
            logits = trial(subject.build(), stage, data)[-1]
            if logits.shape[1:] != (len(data.class_names),) or not np.isfinite(logits).all():
                yield f"{stage}: the network must return finite logits of shape (B, {len(data.class_names)})"
            if not hasattr(network, "features"):
                yield f"{stage}: the network must keep its `features`"
            if stage == "refine_model" and _shapes(network) != _shapes(arguments_of(stage, data)[0].first):
                yield (
                    "refine_model: keep the names and shapes of the parameters of a trained network; "
                    "change layers in prepare_model"
                )


def _shapes(network: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in network.state_dict().items()}
