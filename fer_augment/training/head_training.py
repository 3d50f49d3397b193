"""Which recipes can train the head alone, on features that are computed once."""

from __future__ import annotations

import hashlib

import torch

from fer_augment.data.dataset import Splits
from fer_augment.errors import RecipeError, StrategyError
from fer_augment.heads import linear_head
from fer_augment.hooks.pipeline import Pipeline
from fer_augment.recipe.binding import BoundRecipe, head_training_faults
from fer_augment.training.networks import build_network
from fer_augment.training.torch_runtime import reproducible


def check_head_training(bound: BoundRecipe, splits: Splits, pipeline: Pipeline) -> None:
    """Refuse a recipe whose head cannot be trained on features of its backbone.

    Args:
        bound: the recipe.
        splits: its data.
        pipeline: its steps, fresh.

    Raises:
        RecipeError: if the backbone starts from random weights, or the network has no linear head on its features.
        StrategyError: if a step draws new pixels in each batch, or changes the backbone.
    """
    name, settings = bound.model.name, bound.recipe.training
    for fault in head_training_faults(bound):
        raise fault
    with reproducible(settings, 0):
        network = build_network(bound.model.untrained, splits.train.image_shape, splits.class_names)[0]
        try:
            linear_head(network)
        except StrategyError:
            raise RecipeError(
                f"training.train: head needs a network with a linear last layer, `head`, and {name} has none; choose "
                "another model, such as vgg_tiny or vgg_mini"
            ) from None
        before = _backbone_digest(network)
        for step, prepared in pipeline.each("prepare_model", network):
            if _backbone_digest(prepared) != before:
                raise StrategyError(
                    f"{step}: changes the network outside its head, but with training.train: head the backbone is "
                    "used as it is given; remove the step, or train the whole network"
                )
            network = prepared
        _refuse_other_structure(network, splits, name)


def _backbone_digest(network: torch.nn.Module) -> str:
    """Return a digest of structure and weights of everything but the head."""
    digest = hashlib.sha256()
    for name, module in network.named_modules():
        if name.partition(".")[0] not in ("", "head"):
            digest.update(f"{name} {type(module).__qualname__} {module.extra_repr()} {module.training}".encode())
            digest.update(f"{len(module._forward_hooks)} {len(module._forward_pre_hooks)}".encode())
    for name, tensor in network.state_dict().items():
        if not name.startswith("head."):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _refuse_other_structure(network: torch.nn.Module, splits: Splits, name: str) -> None:
    """Refuse a network whose output is not that of its head on its `(B, D)` features."""
    height, width, channels = splits.train.image_shape
    images = torch.rand(2, channels, height, width)
    network.eval()
    with torch.inference_mode():
        features = network.get_submodule("features")(images)
        is_matrix = features.ndim == 2
        if is_matrix and torch.allclose(network.get_submodule("head")(features), network(images), atol=1e-5):
            return
    raise RecipeError(
        f"training.train: head needs a network whose output is head(features(images)) with a vector of features for "
        f"each image, and that of {name} is not"
    )
