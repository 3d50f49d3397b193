"""A small residual network for images of about 48 to 96 pixels."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from fer_augment import ConfigurableModel, DatasetError, hookimpl

if TYPE_CHECKING:
    import torch
    from torch import nn

_AT_LEAST = 8


class ResnetSmall(ConfigurableModel):
    """Small residual network: one 3x3 convolution, three stages of a convolution and residual blocks, linear head.

    Each stage begins with a convolution that doubles the channels, followed by residual blocks of the same shape. The
    first convolution and those of the first two stages are followed by max pooling. Images need 8 pixels on each side.

    Source: Page 2018, "How to Train Your ResNet" (myrtle.ai), whose ResNet-9 learns CIFAR-10 in a minute; blocks: He,
    Zhang, Ren and Sun 2016, "Deep Residual Learning for Image Recognition", CVPR.
    """

    width: int = Field(default=16, ge=1, description="Channels of the first convolution; the last has 8 times as many.")
    depth: int = Field(default=1, ge=1, description="Residual blocks of each stage, of two convolutions each.")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Probability of dropping a feature before the head.")

    def build(self, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Build the untrained network.

        Raises:
            DatasetError: if the images are too small.
        """
        from torch import nn

        height, width, channels = image_shape
        if min(height, width) < _AT_LEAST:
            raise DatasetError(
                f"{self.name} needs images of at least {_AT_LEAST}x{_AT_LEAST} pixels, these are {height}x{width}; "
                "enlarge the images or choose another model"
            )
        layers = [*_convolution(channels, self.width), nn.MaxPool2d(2), nn.ReLU()]
        inputs = self.width
        for pooling in (True, True, False):
            outputs = 2 * inputs
            layers += [*_convolution(inputs, outputs), *([nn.MaxPool2d(2)] if pooling else []), nn.ReLU()]
            layers += [_block(outputs) for _ in range(self.depth)]
            inputs = outputs
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(self.dropout)]
        parts = ("features", nn.Sequential(*layers)), ("head", nn.Linear(inputs, classes))
        return nn.Sequential(OrderedDict(parts))


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    from torch import nn

    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]


def _block(channels: int) -> nn.Module:
    from torch import nn

    residual = nn.Sequential(*_convolution(channels, channels), nn.ReLU(), *_convolution(channels, channels))
    return nn.Sequential(_added_class()(residual), nn.ReLU())


@functools.cache
def _added_class() -> Callable[[nn.Module], nn.Module]:
    """Return the module that adds the output of another to its input; this file is imported without torch."""
    from torch import nn

    class Added(nn.Module):
        def __init__(self, residual: nn.Module) -> None:
            super().__init__()
            self.residual = residual

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            added: torch.Tensor = images + self.residual(images)
            return added

    return Added


@hookimpl
def register_models() -> Sequence[type[ConfigurableModel]]:
    """Register the network of this module."""
    return [ResnetSmall]
