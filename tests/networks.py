"""Installed networks with parameters, built as a run builds them."""

from typing import Any

from fer_augment.hooks.networks import AnyModel
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.binding import configured_model
from fer_augment.training.networks import build_network


def model_named(name: str, **parameters: Any) -> AnyModel:
    """Return an installed network with these parameters."""
    return configured_model(installed_plugins().model(name).value, parameters)


def network_named(name: str, image_shape: tuple[int, int, int], classes: int, **parameters: Any) -> Any:
    """Build an installed network for images of a shape and a number of classes."""
    names = [f"class {number}" for number in range(classes)]
    return build_network(model_named(name, **parameters), image_shape, names)[0]
