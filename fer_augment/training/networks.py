"""Build a network with its preprocessing and its initial weights, and load the weights of a training."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model

from fer_augment.errors import RecipeError, RunError
from fer_augment.hooks.networks import AnyModel, ImageShape, ModelInput
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.training.initial_weights import PREPROCESSED, load_initial_weights
from fer_augment.training.machine import device_of
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
        RecipeError: if the network does not fit into memory, or the initial weights cannot be read or are of another
            network.
    """
    try:
        network = model.build(model.input.shape_for(image_shape), len(class_names))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error):
            raise RecipeError(f"model {model.name}: does not fit into memory; make it smaller") from error
        raise
    notice = load_initial_weights(network, model.weights, class_names) if model.weights else None
    return _with_preprocessing(network, model.input, image_shape), notice


def with_weights(model: torch.nn.Module, files: Sequence[Path], settings: TrainingSettings) -> torch.nn.Module:
    """Load weights from files into a network; return it on its device, in evaluation mode.

    Args:
        model: the network.
        files: files that together hold all of its weights.
        settings: the device.

    Raises:
        RunError: if a file is missing, damaged, or of another network.
    """
    missing = set(model.state_dict())
    for file in files:
        try:
            # A network may hold a parameter under two names, the file holds it once.
            not_in_file, unknown = load_model(model, file, strict=False)
            missing &= set(not_in_file)
            if unknown or (file == files[-1] and missing):
                raise RuntimeError(f"of another network: {min([*unknown, *missing])}")
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(f"{file}: not usable ({reason}); delete {file.parent} to train again") from error
    model = model.to(device_of(settings)).eval()
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return] # its stub lacks it


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
