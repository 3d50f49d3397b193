"""The forward and backward passes of an optimizer step: the losses of a batch and their gradients.

Legend of shapes: B rows of a batch, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fer_augment.errors import RunError
from fer_augment.hooks.declarations import BatchLoss
from fer_augment.training.specification import Training
from fer_augment.training.torch_runtime import autocast


class StepPasses:
    """Computes the gradients of a batch, once for an optimizer step or, for steps of `optimizer_step`, several times.

    All passes of a step see the same augmented batch and the same dropout masks; they differ by the weights of the
    network and of the rows alone. The first pass of a step updates the statistics of batch norm and other buffers,
    as without such a step; what later passes write to them is undone.

    Attributes:
        logits: `(B, K) float32`, of the first pass of the step, without gradient.
    """

    logits: torch.Tensor

    def __init__(self, training: Training, model: torch.nn.Module, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Prepare passes of a network.

        Args:
            training: its settings give the device and precision.
            model: the network.
            parameters: the parameters that are trained.
        """
        self.training, self.model, self.parameters = training, model, parameters
        self._images: torch.Tensor | None = None
        self._loss: BatchLoss | None = None
        self._is_first = True
        self._repeats = False
        self._generators: list[torch.Tensor] = []

    def begin(self, images: torch.Tensor, loss: BatchLoss, *, repeats: bool) -> None:
        """Begin a step.

        Args:
            images: the batch, as the network takes it.
            loss: the loss of logits and targets.
            repeats: whether there may be several passes.
        """
        self._images, self._loss, self._is_first, self._repeats = images, loss, True, repeats
        self._generators = _generator_states(images.device) if repeats else []

    def gradients(self, targets: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """Set the gradients of the parameters to those of the mean loss; see `declarations.Gradients`."""
        if self._is_first:
            self._is_first = False
            return self._pass(targets, weights)
        buffers = list(self.model.buffers())
        before = [buffer.clone() for buffer in buffers]
        _set_generator_states(self._generators)
        loss = self._pass(targets, weights, is_first=False)
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
        return loss

    def _pass(self, targets: torch.Tensor, weights: torch.Tensor | None, *, is_first: bool = True) -> torch.Tensor:
        assert self._images is not None and self._loss is not None
        with autocast(self.training.settings):
            logits = self.model(self._images)
        losses = self._loss(logits.float(), targets)
        if losses.shape != targets.shape[:1]:
            raise RunError(
                f"{self.training.causes_of_loss} must have shape ({len(targets)},), one value per row, has "
                f"{tuple(losses.shape)}"
            )
        mean = losses.mean() if weights is None else (losses * weights).mean()
        for parameter in self.parameters:
            parameter.grad = None
        torch.autograd.backward(mean)
        if is_first:
            self.logits = logits.detach().float()
        return mean.detach()


def _generator_states(device: torch.device) -> list[torch.Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _set_generator_states(states: Sequence[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1])
