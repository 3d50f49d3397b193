"""Checks of `optimizer_step`: what is left when a function that sets gradients returns.

Legend of shapes: B rows of a batch, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fer_augment.hooks.declarations import Gradients
from fer_augment.testing.stages import Arguments, Arrays, arguments_of, same, tiny_step
from fer_augment.testing.subject import Subject

if TYPE_CHECKING:
    import torch


def returns_to_the_weights(subject: Subject) -> Iterator[str]:
    """After a function of `optimizer_step` the parameters have exactly their former values."""
    for arguments, gradients in _steps(subject):
        before = [parameter.detach().clone() for parameter in arguments.others["parameters"]]
        gradients(tiny_step(arguments.data, arguments.rows).targets, None)
        after = arguments.others["parameters"]
        if not same(_arrays(before), _arrays(after)):
            yield "optimizer_step: the parameters are not those before the call; copy them back, bit by bit"


def sets_finite_gradients(subject: Subject) -> Iterator[str]:
    """A function of `optimizer_step` sets finite gradients of all parameters and returns the mean loss, detached.

    This holds for a batch without any loss, too, whose gradients are 0, and for parameters that are frozen.
    """
    for arguments, gradients in _steps(subject):
        parameters: list[torch.nn.Parameter] = arguments.others["parameters"]
        targets = tiny_step(arguments.data, arguments.rows).targets
        for case, weights in (("a batch", None), ("a batch of weights 0", targets.sum(dim=1) * 0)):
            loss = gradients(targets, weights)
            if getattr(loss, "shape", None) != () or loss.requires_grad or not bool(loss.isfinite()):
                yield f"optimizer_step: {case}: return the mean loss, a finite scalar tensor without gradient"
            if any(one.grad is None or not bool(one.grad.isfinite().all()) for one in parameters):
                yield f"optimizer_step: {case}: every parameter needs a finite gradient"
        parameters[0].requires_grad_(False)
        try:
            gradients(targets, None)
        except Exception as error:  # noqa: BLE001 - a strategy may raise anything
            yield f"optimizer_step: fails if a parameter is frozen, whose gradient is None: {error}"


def passes_weights_on(subject: Subject) -> Iterator[str]:
    """A function of `optimizer_step` uses the weights of rows that it is given, for later steps that split a batch."""
    for arguments, gradients in _steps(subject):
        targets = tiny_step(arguments.data, arguments.rows).targets
        uneven = targets @ targets.new_tensor(np.arange(1.0, targets.shape[1] + 1))
        results = []
        for weights in (None, uneven):
            gradients(targets, weights)
            results.append(_arrays([parameter.grad for parameter in arguments.others["parameters"]]))
        if all(np.allclose(one, other) for one, other in zip(*results, strict=True)):
            yield "optimizer_step: the weights of rows are lost; pass both arguments on to `gradients`"


def _steps(subject: Subject) -> Iterator[tuple[Arguments, Gradients]]:
    if "optimizer_step" in subject.stages:
        for data in subject.datasets:
            for arguments in arguments_of("optimizer_step", data):
                yield arguments, arguments.fold(subject.build())


def _arrays(tensors: list[torch.Tensor]) -> Arrays:
    return [tensor.detach().clone().numpy() for tensor in tensors]
