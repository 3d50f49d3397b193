"""Grad-CAM finds the region that a network was built to look at."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.runs.grad_cam import grad_cam, overlaid
from tests.networks import network_named

SETTINGS = TrainingSettings(precision="float32", device="cpu")


def brightness_network() -> nn.Module:
    """Build a network whose logit 0 is the mean brightness and whose logit 1 is its opposite."""
    first, second = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    head = nn.Linear(1, 2)
    features = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        for module in (first, second):
            module.weight.fill_(1)
            module.bias.zero_()
        head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    return nn.Sequential(OrderedDict([("features", features), ("head", head)])).eval()


@pytest.fixture
def spot() -> np.ndarray:
    image = np.zeros((16, 12, 1), np.uint8)
    image[4:7, 2:5] = 200
    return image


def test_the_region_that_speaks_for_a_class_is_marked(spot: np.ndarray) -> None:
    cam = grad_cam(brightness_network(), spot, 0, SETTINGS)
    np.testing.assert_allclose(cam, spot[..., 0] / 200, atol=1e-6)


def test_nothing_speaks_for_the_opposite_class(spot: np.ndarray) -> None:
    cam = grad_cam(brightness_network(), spot, 1, SETTINGS)
    assert cam is not None and not cam.any()


@pytest.mark.parametrize("name", ["vgg_tiny", "resnet_small", "convnet0", "convnet5"])
def test_shipped_networks_have_it(name: str) -> None:
    network = network_named(name, (48, 40, 3), 3).eval()
    image = np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8)
    maps = [grad_cam(network, image, label, SETTINGS) for label in range(3)]
    assert all(cam is not None and cam.shape == (48, 40) and 0 <= cam.min() <= cam.max() <= 1 for cam in maps)
    assert not any(module._forward_hooks for module in network.modules())


def test_a_network_that_is_not_convolutional_has_none(spot: np.ndarray) -> None:
    parts: Any = ("features", nn.Flatten()), ("head", nn.Linear(16 * 12, 2))
    assert grad_cam(nn.Sequential(OrderedDict(parts)), spot, 0, SETTINGS) is None


def test_the_overlay_colors_marked_regions_only(spot: np.ndarray) -> None:
    shown = overlaid(spot, (spot[..., 0] / 200).astype(np.float32))
    assert shown.shape == (16, 12, 3)
    outside = spot[..., 0] == 0
    assert (shown[outside] == 0).all()
    assert (np.ptp(shown[~outside].astype(int), axis=1) > 20).all()
