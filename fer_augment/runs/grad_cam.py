"""Grad-CAM: the regions of an image that a convolutional network bases its prediction of a class on.

Source: Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra 2017, "Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization", ICCV. The libraries for it need packages that conflict with ours (opencv-python beside
opencv-python-headless, or numpy before 2).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.training.device_images import as_batch
from fer_augment.training.machine import device_of
from fer_augment.training.torch_runtime import reproducible

_FEWEST_CONVOLUTIONS = 2
"""A network with fewer is not convolutional: transformers have one, which cuts the image into patches."""


def grad_cam(
    network: torch.nn.Module, image: NDArray[np.uint8], label: int, settings: TrainingSettings
) -> NDArray[np.float32] | None:
    """Return how much each pixel's region speaks for a class, by the last feature maps of the network.

    The maps are weighted by the mean gradient of the class's logit and summed; what speaks against the class is 0.

    Args:
        network: in evaluation mode.
        image: `(H, W, C) uint8`.
        label: the number of the class.
        settings: device and threads.

    Returns:
        `(H, W) float32` in [0, 1], 1 for the largest value; all 0 if nothing speaks for the class. None if the network
        is not convolutional.
    """
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in network.modules())
    if convolutions < _FEWEST_CONVOLUTIONS:
        return None
    maps: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, given: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            maps.append(output)

    hooks = [module.register_forward_hook(keep) for module in network.modules()]
    try:
        with reproducible(settings, 0), torch.enable_grad():
            images = as_batch(image[None], device_of(settings)).requires_grad_()
            logit = network(images)[0, label]
            (gradient,) = torch.autograd.grad(logit, maps[-1])
    finally:
        for hook in hooks:
            hook.remove()
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    cam = (weights * maps[-1]).sum(dim=1, keepdim=True).relu().detach().float()
    cam = functional.interpolate(cam, image.shape[:2], mode="bilinear")[0, 0]
    scaled: NDArray[np.float32] = (cam / cam.max().clamp(min=torch.finfo(torch.float32).tiny)).cpu().numpy()
    return scaled


def overlaid(image: NDArray[np.uint8], cam: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return an image in gray, colored where Grad-CAM is high.

    Args:
        image: `(H, W, C) uint8`.
        cam: `(H, W) float32` in [0, 1].

    Returns:
        `(H, W, 3) uint8`.
    """
    import matplotlib as mpl

    gray = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2) / 255
    heat = mpl.colormaps["inferno"](cam)[..., :3]
    share = 0.7 * cam[..., None]
    return np.asarray(np.round(255 * ((1 - share) * gray + share * heat)), np.uint8)
