"""The small residual network: its shape, its start, and that it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fer_augment.training.trainer import train
from tests.networks import model_named, network_named
from tests.tiny_training import training_of


def convolutions(network: Any) -> list[torch.nn.Conv2d]:
    return [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]


@pytest.mark.parametrize(("width", "depth"), [(32, 1), (8, 3)])
def test_width_and_depth(width: int, depth: int) -> None:
    network = network_named("resnet_small", (48, 48, 1), 7, width=width, depth=depth)
    assert network.features[0].out_channels == width
    assert network.head.in_features == 8 * width
    assert len(convolutions(network)) == 1 + 2 * 4 * depth + 3  # the first one, the blocks, the projections


def test_a_block_starts_as_its_shortcut() -> None:
    network = network_named("resnet_small", (48, 48, 1), 7, depth=2).eval()
    same_shape: Any = network.features[4][0]  # the second block of the first stage
    images = torch.rand(3, 32, 24, 24)
    torch.testing.assert_close(same_shape(images), images)


def test_it_learns() -> None:
    model = model_named("resnet_small", width=8, dropout=0.0)
    curve = train(training_of(model=model, epochs=12, evaluate_every=4)).curve
    assert curve[-1].selection_loss < 0.5 * curve[0].selection_loss
