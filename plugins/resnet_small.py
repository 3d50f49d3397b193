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

_STAGES = 4
_AT_LEAST = 8


class ResnetSmall(ConfigurableModel):
    """Small residual network: four stages of 3x3 convolutions with batch norm, linear head.

    The first convolution halves the size of the images; every stage after the first halves it again and doubles the
    channels. The last batch norm of each block starts at 0, so that a block starts as the identity. Images need 8
    pixels on each side.

    Source: He, Zhang, Ren and Sun 2016, "Deep Residual Learning for Image Recognition", CVPR, with the first
    convolution and average pooling in the shortcuts after He, Zhang, Zhang et al. 2019, "Bag of Tricks for Image
    Classification with Convolutional Neural Networks", CVPR.
    """

    width: int = Field(default=32, ge=1, description="Channels of the first stage; the last has 8 times as many.")
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
        layers: list[nn.Module] = [*_convolution(channels, self.width, stride=2), nn.ReLU()]
        inputs = self.width
        for stage in range(_STAGES):
            for block in range(self.depth):
                outputs = self.width << stage
                layers.append(_block(inputs, outputs, stride=2 if stage and not block else 1))
                inputs = outputs
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(self.dropout)]
        parts = ("features", nn.Sequential(*layers)), ("head", nn.Linear(inputs, classes))
        return nn.Sequential(OrderedDict(parts))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    from torch import nn

    return [nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs)]


def _block(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Build a residual block: two convolutions and a shortcut, which is pooled and projected where shapes change."""
    from torch import nn

    residual = nn.Sequential(*_convolution(inputs, outputs, stride), nn.ReLU(), *_convolution(outputs, outputs))
    nn.init.zeros_(residual[-1].weight)  # type: ignore[arg-type] # the type of a batch norm's weight is not known
    shortcut: list[nn.Module] = [nn.AvgPool2d(2, ceil_mode=True)] if stride == 2 else []
    if inputs != outputs:
        shortcut += [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(_sum_class()(residual, nn.Sequential(*shortcut)), nn.ReLU())


@functools.cache
def _sum_class() -> Callable[[nn.Module, nn.Module], nn.Module]:
    """Return the module that adds the outputs of two others; defined here, as this file is imported without torch."""
    from torch import nn

    class Sum(nn.Module):
        def __init__(self, residual: nn.Module, shortcut: nn.Module) -> None:
            super().__init__()
            self.residual = residual
            self.shortcut = shortcut

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            added: torch.Tensor = self.residual(images) + self.shortcut(images)
            return added

    return Sum


@hookimpl
def register_models() -> Sequence[type[ConfigurableModel]]:
    """Register the network of this module."""
    return [ResnetSmall]
