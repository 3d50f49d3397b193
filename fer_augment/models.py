"""The networks that come with fer_augment: those of the originating report, a stronger small one, and a quick one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from fer_augment import DatasetError, Model, hookimpl

if TYPE_CHECKING:
    from torch import nn

ImageShape = tuple[int, int, int]


def convnet0(image_shape: ImageShape, classes: int) -> nn.Module:
    """Build the report's set-up network: three convolutions and a linear layer, without pooling or batch norm."""
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
    """Build one of the report's networks 1 to 5: three convolution blocks and two dense blocks.

    The report's blocks are convolution, batch norm, ReLU, dropout of channels, pooling. Here pooling comes right
    after batch norm: ReLU and a channel's dropout scale by numbers that are not negative, so the maximum commutes
    with both. The result is the same, at a quarter of the work.

    The last block ends in batch norm, dropout and ReLU, as the report has it, so there is no linear `head`.

    Args:
        image_shape: H, W, C, at least 8 pixels on each side.
        classes: K.
        name: of the network, for errors.
        channels: of the three convolutions.
        hidden: outputs of the first dense block.
        dropout: probability, of a channel after a convolution and of a number after a dense layer.
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


def vgg_mini(image_shape: ImageShape, classes: int) -> nn.Module:
    """Build a small network in the manner of VGG: 3x3 convolutions in pairs, with batch norm, and a linear head.

    After Simonyan and Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR,
    with batch norm, one convolution before the first pooling, and a global average in the place of the wide dense
    layers (Lin, Chen and Yan 2014, "Network In Network", ICLR).

    Args:
        image_shape: H, W, C, at least 8 pixels on each side.
        classes: K.
    """
    from torch import nn

    _refuse_small("vgg_mini", image_shape, at_least=8)
    layers = [*_convolution(image_shape[2], 32), nn.MaxPool2d(2), nn.ReLU()]
    inputs = 32
    for outputs, pooling in ((64, True), (128, True), (256, False)):
        layers += [*_convolution(inputs, outputs), nn.ReLU(), *_convolution(outputs, outputs)]
        layers += [nn.MaxPool2d(2), nn.ReLU()] if pooling else [nn.ReLU()]
        inputs = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2)]
    return _network(nn.Sequential(*layers), nn.Linear(inputs, classes), has_linear_head=True)


def vgg_tiny(image_shape: ImageShape, classes: int) -> nn.Module:
    """Build a network for trying things out in seconds: `vgg_mini` with one narrow convolution where that has two.

    It learns the demo faces in ten epochs and, unlike the report's quick networks, has batch norm and a linear head,
    so that every strategy can act on it.

    Args:
        image_shape: H, W, C, at least 8 pixels on each side.
        classes: K.
    """
    from torch import nn

    _refuse_small("vgg_tiny", image_shape, at_least=8)
    layers: list[nn.Module] = []
    inputs = image_shape[2]
    for outputs in (12, 24, 48):
        layers += [*_convolution(inputs, outputs), nn.MaxPool2d(2), nn.ReLU()]
        inputs = outputs
    layers += [*_convolution(inputs, 96), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return _network(nn.Sequential(*layers), nn.Linear(96, classes), has_linear_head=True)


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    from torch import nn

    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]


def _dense_block(inputs: int, outputs: int, dropout: float) -> list[nn.Module]:
    from torch import nn

    return [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.Dropout(dropout), nn.ReLU()]


def _network(features: nn.Module, last: nn.Module, *, has_linear_head: bool = False) -> nn.Module:
    """Chain both parts; the last one is called `head` if it is linear, or else `output`."""
    from collections import OrderedDict

    from torch import nn

    return nn.Sequential(OrderedDict([("features", features), ("head" if has_linear_head else "output", last)]))


def _refuse_small(name: str, image_shape: ImageShape, at_least: int) -> None:
    if min(image_shape[:2]) < at_least:
        height, width, _ = image_shape
        raise DatasetError(
            f"{name} needs images of at least {at_least}x{at_least} pixels, these are {height}x{width}; "
            "enlarge them, or choose another model"
        )


_CONVNETS = (
    ("convnet1", (64, 128, 512), 1024, 0.1),
    ("convnet2", (64, 64, 64), 1024, 0.1),
    ("convnet3", (64, 64, 64), 512, 0.1),
    ("convnet4", (32, 32, 32), 512, 0.1),
    ("convnet5", (64, 64, 64), 512, 0.4),
)
"""The report's table: name, channels, hidden, dropout."""


@hookimpl
def register_models() -> list[Model]:
    """Offer the networks of this file."""
    models = [Model("convnet0", "the report's set-up network: 8, 12, 16 channels, no batch norm", convnet0)]
    for name, channels, hidden, dropout in _CONVNETS:
        widths = ", ".join(map(str, channels))
        summary = f"the report's: {widths} channels, {hidden} hidden, dropout {dropout}"
        build = partial(convnet, name=name, channels=channels, hidden=hidden, dropout=dropout)
        models.append(Model(name, summary, build))
    models.append(Model("vgg_mini", "seven 3x3 convolutions of 32 to 256 channels, linear head", vgg_mini))
    return [*models, Model("vgg_tiny", "four 3x3 convolutions of 12 to 96 channels, linear head: quick", vgg_tiny)]
