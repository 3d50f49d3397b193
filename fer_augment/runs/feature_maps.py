"""Feature maps: the outputs of a network's convolutions for an image, and a contact sheet of them.

Source: appendix B of the originating report (2021), which shows the feature maps of each convolution for one image of
each class.

Legend of shapes: H, W, C height, width and channels of an image, M maps of a layer, h, w their height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.errors import RunError
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.runs.grad_cam import overlaid
from fer_augment.sheets import Picture, Sheet, picture_of
from fer_augment.training.prediction import predict

_TILE = 60
_IMAGE = 120
_WIDTH = 1060


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """The output of one convolution for one image.

    Attributes:
        layer: the name of the module in the network.
        maps: `(M, h, w) float32`, the output of the convolution itself.
    """

    layer: str
    maps: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Explained:
    """An image with its predictions and feature maps.

    Attributes:
        title: the title to display.
        prediction: the predicted class probabilities, as text.
        image: `(H, W, C) uint8`.
        layers: its feature maps, in the order of computation.
        cam: `(H, W)` Grad-CAM of the predicted class; None if the network is not convolutional.
    """

    title: str
    prediction: str
    image: NDArray[np.uint8]
    layers: tuple[LayerMaps, ...]
    cam: NDArray[np.float32] | None = None


def feature_maps(
    network: torch.nn.Module, image: NDArray[np.uint8], settings: TrainingSettings
) -> tuple[LayerMaps, ...]:
    """Return the output of every `Conv2d` of a network for an image `(H, W, C) uint8`.

    Of a convolution that is applied several times, the first output is returned.

    Args:
        network: in evaluation mode.
        image: one image.
        settings: how the network computes.

    Raises:
        RunError: if the network has no such layer.
    """
    outputs: dict[str, NDArray[np.float32]] = {}

    def keep(name: str, output: torch.Tensor) -> None:
        outputs.setdefault(name, output[0].float().cpu().numpy())

    hooks = [
        module.register_forward_hook(lambda module, given, output, name=name: keep(name, output))
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    try:
        predict(network, ImageDataset.from_arrays(image[None], [0], ["any"]), settings)
    finally:
        for hook in hooks:
            hook.remove()
    if not outputs:
        raise RunError("this network has no convolution (Conv2d) and therefore no feature maps")
    return tuple(LayerMaps(name, maps) for name, maps in outputs.items())


def feature_map_sheet(explained: Sequence[Explained]) -> bytes:
    """Draw images, each with Grad-CAM beside it and the feature maps of all layers below it.

    Each map is scaled separately, from black for its lowest value to white for its highest; a constant map is gray.

    Returns:
        A PNG file.

    Raises:
        FerAugmentError: if the sheet is too high for one picture.
    """
    sheet = Sheet(_WIDTH)
    for one in explained:
        sheet.write(one.title, size=18, bold=True)
        sheet.write(one.prediction, size=12)
        overlay = [] if one.cam is None else [picture_of(overlaid(one.image, one.cam), _IMAGE)]
        if overlay:
            sheet.write("image, and in color the regions that speak for the first class (Grad-CAM)")
        sheet.show([picture_of(one.image, _IMAGE), *overlay])
        for number, layer in enumerate(one.layers, 1):
            maps, height, width = layer.maps.shape
            sheet.write(f"convolution {number} ({layer.layer}): {maps} maps of {width}x{height}", space_above=8)
            sheet.show([_map_picture(values) for values in layer.maps])
        sheet.write("", space_above=20)
    return sheet.png()


def _map_picture(values: NDArray[np.float32]) -> Picture:
    low, high = float(values.min()), float(values.max())
    gray = (values - low) * (255 / (high - low)) if high > low else np.full(values.shape, 128)
    return picture_of(np.round(gray).astype(np.uint8)[..., None], _TILE)
