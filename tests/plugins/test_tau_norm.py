"""The strategy `tau_norm` equalizes the norms of the head's weight vectors, and requires a linear head."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fer_augment import Context, Effect, StrategyError
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from tests.networks import network_named

PLUGINS = installed_plugins()
TauNorm: Any = PLUGINS.strategy("tau_norm").value
IMAGES = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def network(name: str = "convnet0") -> Any:
    """Return a network whose weight vectors have norms 0.5, 1 and 4."""
    model = network_named(name, (16, 16, 1), 3).eval()
    if hasattr(model, "head"):
        with torch.no_grad():
            model.head.weight.mul_(torch.tensor([[0.5], [1], [4]]) / model.head.weight.norm(dim=1, keepdim=True))
            model.head.bias.copy_(torch.tensor([0.5, -1, 2]))
    return model


def refined(model: Any, **parameters: float) -> Any:
    pipeline = Pipeline(steps_of([TauNorm(**parameters)]), Context(0, ("a", "b", "c")))
    return pipeline.fold("refine_model", model, training_set=None)


@pytest.mark.parametrize("tau", [0.5, 1, 2])
def test_logits_are_divided_by_the_norms_to_the_power_of_tau(tau: float) -> None:
    """As in the paper if the bias is 0; the bias is divided, too."""
    model = network()
    with torch.no_grad():
        expected = model(IMAGES) / torch.tensor([0.5, 1, 4]) ** tau
        torch.testing.assert_close(refined(model, tau=tau)(IMAGES), expected)
    norms = torch.tensor([0.5, 1, 4]) ** (1 - tau)
    torch.testing.assert_close(model.head.weight.norm(dim=1), norms)


def test_tau_0_changes_nothing() -> None:
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    after = refined(model, tau=0).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_zero_weight_vector_and_its_bias_are_unchanged() -> None:
    model = network()
    with torch.no_grad():
        model.head.weight[1] = 0
    logits = refined(model, tau=1)(IMAGES)
    assert logits.isfinite().all() and (logits[:, 1] == -1).all()


def test_a_head_without_bias_is_supported() -> None:
    model = network()
    model.head.bias = None
    torch.testing.assert_close(refined(model, tau=1).head.weight.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("name", ["convnet1", "convnet5"])
def test_networks_without_a_linear_head_are_rejected(name: str) -> None:
    message = (
        r"step 1 \(tau_norm\), refine_model: .* has no `head` \(convnet1 to convnet5 .*; choose another model, such"
    )
    with pytest.raises(StrategyError, match=message):
        refined(network(name))


def test_a_head_that_is_not_linear_is_rejected() -> None:
    model = network()
    model.head = torch.nn.Sequential(model.head)
    with pytest.raises(StrategyError, match=r"the network has a Sequential as `head`"):
        refined(model)


def test_effects_are_declared() -> None:
    assert TauNorm().effects == Effect.NEEDS_LINEAR_HEAD | Effect.FAVORS_SMALL_CLASSES
    assert TauNorm(tau=0).effects == Effect.NEEDS_LINEAR_HEAD
