"""The networks of the report match its table; all networks support any image size, channels and classes."""

from typing import Any

import pytest
import torch

from fer_augment import DatasetError
from fer_augment.errors import RecipeError
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.models import VggMini
from fer_augment.training.networks import build_network
from tests.networks import network_named

NAMES = [offer.name for offer in installed_plugins().of_kind("model") if offer.name != "timm"]
"""All networks that need no parameter."""


def build(name: str, shape: tuple[int, int, int] = (48, 48, 1), classes: int = 7) -> Any:
    return network_named(name, shape, classes)


def parameter_count(channels: tuple[int, int, int], hidden: int) -> int:
    """Count the weights and biases of each layer, and two parameters per output of each batch norm."""
    one, two, three = channels
    convolutions = (9 * 1 * one + one) + (9 * one * two + two) + (9 * two * three + three)
    dense = (6 * 6 * three * hidden + hidden) + (hidden * 7 + 7)
    return convolutions + dense + 2 * (one + two + three + hidden + 7)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("convnet0", (4 * 4 * 8 + 8) + (9 * 8 * 12 + 12) + (16 * 12 * 16 + 16) + (16 * 12 * 12 * 7 + 7)),
        ("convnet1", parameter_count((64, 128, 512), 1024)),
        ("convnet2", parameter_count((64, 64, 64), 1024)),
        ("convnet3", parameter_count((64, 64, 64), 512)),
        ("convnet4", parameter_count((32, 32, 32), 512)),
        ("convnet5", parameter_count((64, 64, 64), 512)),
    ],
)
def test_parameter_counts_match_the_table(name: str, parameters: int) -> None:
    assert sum(parameter.numel() for parameter in build(name).parameters()) == parameters


@pytest.mark.parametrize(("name", "dropout"), [("convnet4", 0.1), ("convnet5", 0.4)])
def test_dropout_matches_the_table(name: str, dropout: float) -> None:
    kinds = torch.nn.Dropout, torch.nn.Dropout2d
    probabilities = [module.p for module in build(name).modules() if isinstance(module, kinds)]
    assert probabilities == [dropout] * 5


def test_pooling_after_batch_norm_equals_the_order_of_the_report() -> None:
    torch.manual_seed(0)
    model = build("convnet5")
    reported: list[torch.nn.Module] = []
    for module in model.features:
        reported.append(module)
        if isinstance(module, torch.nn.Dropout2d):  # convolution, batch norm, ReLU, dropout, pooling
            pooling = next(index for index in range(len(reported) - 1, -1, -1) if _pools(reported[index]))
            reported.append(reported.pop(pooling))
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(norm.weight)  # includes negative scales
    images = torch.rand(5, 1, 48, 48)
    for mode in (True, False):
        model.train(mode)
        state = torch.random.get_rng_state()
        actual = model.features[:15](images)
        torch.random.set_rng_state(state)
        expected = torch.nn.Sequential(*reported[:15])(images)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


def _pools(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.MaxPool2d)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "classes"), [((48, 48, 1), 7), ((33, 20, 3), 4), ((8, 9, 2), 2)])
def test_any_image_size_channels_and_classes_are_supported(
    name: str, shape: tuple[int, int, int], classes: int
) -> None:
    height, width, channels = shape
    images = torch.rand(3, channels, height, width)
    model = build(name, shape, classes).eval()
    assert model(images).shape == (3, classes)
    assert model.features(images).ndim == 2


@pytest.mark.parametrize("name", NAMES)
def test_the_output_is_the_last_layer_applied_to_the_features(name: str) -> None:
    model = build(name).eval()
    images = torch.rand(3, 1, 48, 48)
    last = getattr(model, "head", None) or model.output
    torch.testing.assert_close(last(model.features(images)), model(images))
    assert hasattr(model, "head") == isinstance(last, torch.nn.Linear)


@pytest.mark.parametrize("name", NAMES)
def test_too_small_images_are_rejected(name: str) -> None:
    with pytest.raises(DatasetError, match=rf"{name} needs images of at least \d+x\d+ pixels, these are 3x48"):
        build(name, (3, 48, 1))


def test_a_network_that_does_not_fit_into_memory_is_refused() -> None:
    with pytest.raises(RecipeError, match="model vgg_mini: does not fit into memory; make it smaller"):
        build_network(VggMini(width=10**12), (48, 48, 1), ("a", "b"))
