"""Networks shipped with fer_augment: those of the originating report, a stronger small one, and a fast one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from fer_augment import ConfigurableModel, DatasetError, Model, hookimpl

if TYPE_CHECKING:
    from torch import nn

ImageShape = tuple[int, int, int]


def convnet0(image_shape: ImageShape, classes: int) -> nn.Module:
    """Build the report's ConvNet 0: three convolutions and a linear layer, without pooling or batch norm.

    Args:
        image_shape: H, W, C, at least 4 pixels on each side.
        classes: K.

    Raises:
        DatasetError: if the images are too small.
    """
    from torch import nn

    height, width, channels = image_shape
    _refuse_small("convnet0", image_shape, at_least=4)
    features = nn.Sequential(
        nn.Conv2d(channels, 8, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
    )
    return _network(features, nn.Linear(16 * (height // 4) * (width // 4), classes), has_linear_head=True)


def convnet(
    image_shape: ImageShape, classes: int, *, name: str, channels: Sequence[int], hidden: int, dropout: float
) -> nn.Module:
    """Build one of the report's ConvNets 1 to 5: three convolutional blocks and two dense blocks.

    The report's blocks are convolution, batch norm, ReLU, channel dropout, pooling. Here, pooling directly follows
    batch norm: ReLU and channel dropout scale by non-negative numbers, so the maximum commutes with both. The result is
    the same with a quarter of the computation.

    As in the report, the last block ends in batch norm, dropout and ReLU, so there is no linear `head`.

    Args:
        image_shape: H, W, C, at least 8 pixels on each side.
        classes: K.
        name: name of the network, for error messages.
        channels: output channels of the convolutions.
        hidden: outputs of the first dense block.
        dropout: dropout probability, of channels after convolutions and of units after dense layers.

    Raises:
        DatasetError: if the images are too small.
    """
    from torch import nn

    height, width, inputs = image_shape
    _refuse_small(name, image_shape, at_least=2 ** len(channels))
    layers: list[nn.Module] = []
    for outputs in channels:
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Dropout2d(dropout),
        ]
        inputs, height, width = outputs, height // 2, width // 2
    layers += [nn.Flatten(), *_dense_block(inputs * height * width, hidden, dropout)]
    return _network(nn.Sequential(*layers), nn.Sequential(*_dense_block(hidden, classes, dropout)))


class VggMini(ConfigurableModel):
    """Small VGG: seven 3x3 convolutions with batch norm, linear head.

    The first convolution stands alone, the others come in pairs; each group is followed by pooling and has twice the
    channels of the one before. Images need 8 pixels on each side.

    Source: Simonyan and Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR;
    here with batch norm, a single convolution before the first pooling, and global average pooling instead of wide
    dense layers (Lin, Chen and Yan 2014, "Network In Network", ICLR).
    """

    width: int = Field(default=32, ge=1, description="Channels of the first convolution; the last has 8 times as many.")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Probability of dropping a feature before the head.")

    def build(self, image_shape: ImageShape, classes: int) -> nn.Module:
        """Build the untrained network.

        Raises:
            DatasetError: if the images are too small.
        """
        from torch import nn

        _refuse_small(self.name, image_shape, at_least=8)
        layers = [*_convolution(image_shape[2], self.width), nn.MaxPool2d(2), nn.ReLU()]
        inputs = self.width
        for pooling in (True, True, False):
            outputs = 2 * inputs
            layers += [*_convolution(inputs, outputs), nn.ReLU(), *_convolution(outputs, outputs)]
            layers += [nn.MaxPool2d(2), nn.ReLU()] if pooling else [nn.ReLU()]
            inputs = outputs
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(self.dropout)]
        return _network(nn.Sequential(*layers), nn.Linear(inputs, classes), has_linear_head=True)


class VggTiny(ConfigurableModel):
    """Fast VGG for experiments of seconds: four 3x3 convolutions with batch norm, linear head.

    It learns the demo data in ten epochs. Unlike the report's fast networks, it has batch norm and a linear head, so
    that it works with every strategy. Images need 8 pixels on each side.
    """

    width: int = Field(default=12, ge=1, description="Channels of the first convolution; the last has 8 times as many.")

    def build(self, image_shape: ImageShape, classes: int) -> nn.Module:
        """Build the untrained network.

        Raises:
            DatasetError: if the images are too small.
        """
        from torch import nn

        _refuse_small(self.name, image_shape, at_least=8)
        layers: list[nn.Module] = []
        inputs = image_shape[2]
        for factor in (1, 2, 4):
            layers += [*_convolution(inputs, factor * self.width), nn.MaxPool2d(2), nn.ReLU()]
            inputs = factor * self.width
        outputs = 8 * self.width
        layers += [*_convolution(inputs, outputs), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return _network(nn.Sequential(*layers), nn.Linear(outputs, classes), has_linear_head=True)


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    from torch import nn

    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]


def _dense_block(inputs: int, outputs: int, dropout: float) -> list[nn.Module]:
    from torch import nn

    return [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.Dropout(dropout), nn.ReLU()]


def _network(features: nn.Module, last: nn.Module, *, has_linear_head: bool = False) -> nn.Module:
    """Chain `features` and the last part, named `head` if it is linear and `output` otherwise."""
    from collections import OrderedDict

    from torch import nn

    return nn.Sequential(OrderedDict([("features", features), ("head" if has_linear_head else "output", last)]))


def _refuse_small(name: str, image_shape: ImageShape, at_least: int) -> None:
    if min(image_shape[:2]) < at_least:
        height, width, _ = image_shape
        raise DatasetError(
            f"{name} needs images of at least {at_least}x{at_least} pixels, these are {height}x{width}; "
            "enlarge the images or choose another model"
        )


_CONVNETS = (
    ("convnet1", (64, 128, 512), 1024, 0.1),
    ("convnet2", (64, 64, 64), 1024, 0.1),
    ("convnet3", (64, 64, 64), 512, 0.1),
    ("convnet4", (32, 32, 32), 512, 0.1),
    ("convnet5", (64, 64, 64), 512, 0.4),
)
"""The table of networks in the report: name, channels, hidden units, dropout."""


@hookimpl
def register_models() -> list[Model | type[ConfigurableModel]]:
    """Register the networks of this module."""
    models: list[Model | type[ConfigurableModel]] = [VggMini, VggTiny]
    models.append(Model("convnet0", "ConvNet 0 of the report: 8, 12, 16 channels, no batch norm", convnet0))
    for name, channels, hidden, dropout in _CONVNETS:
        widths = ", ".join(map(str, channels))
        number = name.removeprefix("convnet")
        summary = f"ConvNet {number} of the report: {widths} channels, {hidden} hidden units, dropout {dropout}"
        build = partial(convnet, name=name, channels=channels, hidden=hidden, dropout=dropout)
        models.append(Model(name, summary, build))
    return models
