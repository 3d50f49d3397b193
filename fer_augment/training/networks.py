"""Build a network with its preprocessing and its initial weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch

from fer_augment.hooks.networks import AnyModel, ImageShape, ModelInput
from fer_augment.training.initial_weights import PREPROCESSED, load_initial_weights
from fer_augment.training.preprocessing import Preprocessing


def build_network(
    model: AnyModel, image_shape: ImageShape, class_names: Sequence[str]
) -> tuple[torch.nn.Module, str | None]:
    """Build a network with its preprocessing and its initial weights.

    Args:
        model: the network with its parameters.
        image_shape: H, W, C of the data.
        class_names: the K classes of the data.

    Returns:
        The network, and a sentence if the last layers of the initial weights are not used.

    Raises:
        DatasetError: if the network does not take such images.
        RecipeError: if the initial weights cannot be read or are of another network.
    """
    network = model.build(model.input.shape_for(image_shape), len(class_names))
    notice = load_initial_weights(network, model.weights, class_names) if model.weights else None
    return _with_preprocessing(network, model.input, image_shape), notice


def _with_preprocessing(network: torch.nn.Module, target: ModelInput, image_shape: ImageShape) -> torch.nn.Module:
    """Put the preprocessing before `features`, as a part of it, unless the network takes images as they are."""
    preprocessing = Preprocessing(target, image_shape)
    if preprocessing.changes_nothing:
        return network
    features = getattr(network, "features", None)
    if not isinstance(features, torch.nn.Module):
        return torch.nn.Sequential(OrderedDict([("preprocessing", preprocessing), (PREPROCESSED, network)]))
    parts = OrderedDict([("preprocessing", preprocessing), (PREPROCESSED, features)])
    network.features = torch.nn.Sequential(parts)
    return network
