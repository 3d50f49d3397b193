"""A network with one hidden layer."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from fer_augment import Model, hookimpl

if TYPE_CHECKING:
    from torch import nn


def one_hidden_layer(image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build the network; it has a linear head."""
    from torch import nn

    height, width, channels = image_shape
    features = nn.Sequential(nn.Flatten(), nn.Linear(height * width * channels, 16), nn.ReLU())
    return nn.Sequential(OrderedDict(features=features, head=nn.Linear(16, classes)))


@hookimpl
def register_models() -> list[Model]:
    """Register the network of this module."""
    return [Model("one_hidden_layer", "sixteen hidden units", one_hidden_layer)]
