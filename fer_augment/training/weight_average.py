"""An exponential moving average of the weights of a network."""

from __future__ import annotations

import copy

import torch


class WeightAverage:
    """An exponential moving average of a network, updated after each optimizer step.

    With decay d and n updates so far, each number a of the average becomes d_n a + (1 - d_n) w, where w is that of the
    network and d_n = min(d, (n + 1) / (n + 10)), so that a short training is not dominated by its initial weights.
    Statistics of batch norm are averaged likewise; other buffers, such as counts of batches, are copied.

    Source: Polyak and Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging"; the lower decay of the
    first updates is that of TensorFlow's `ExponentialMovingAverage`.

    Attributes:
        network: a copy of the network with averaged weights, in evaluation mode.
        decay: d.
        updates: n.
    """

    def __init__(self, network: torch.nn.Module, decay: float) -> None:
        """Start from the present weights of a network."""
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay, self.updates = decay, 0
        pairs = list(zip(_tensors_of(self.network), _tensors_of(network), strict=True))
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Include the present weights of the network."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 9))
        averages, present = ([pair[side] for pair in self._averaged] for side in (0, 1))
        torch._foreach_lerp_(averages, present, 1 - decay)
        for average, tensor in self._copied:
            average.copy_(tensor)


def _tensors_of(network: torch.nn.Module) -> list[torch.Tensor]:
    """Return parameters and buffers, each once."""
    return [*network.parameters(), *network.buffers()]
