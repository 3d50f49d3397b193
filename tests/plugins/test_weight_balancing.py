"""The strategy `weight_balancing` trains the head further with limited norms and class-balanced rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fer_augment import Context, Effect, ImageDataset, StrategyError
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.testing import tiny_dataset
from fer_augment.training.specification import Trained, Training
from fer_augment.training.trainer import refine, train
from tests.networks import model_named, network_named

PLUGINS = installed_plugins()
WeightBalancing: Any = PLUGINS.strategy("weight_balancing").value
DATA = tiny_dataset()
SETTINGS = TrainingSettings(epochs=2, batch_size=16, learning_rate=0.05)


class Steps:
    """Stands in for the second stage: sets the head by an optimizer's steps, and records the weights after each."""

    def __init__(self, *heads: list[list[float]]) -> None:
        self.heads = heads
        self.seen: list[torch.Tensor] = []
        self.arguments: dict[str, Any] = {}

    def __call__(self, model: Any, **arguments: Any) -> Any:
        self.arguments = {**arguments, "parameters": list(arguments["parameters"])}
        optimizer = torch.optim.SGD(self.arguments["parameters"], lr=1)
        self.seen.append(model.head.weight.detach().clone())
        for rows in self.heads:
            model.head.weight.grad = model.head.weight.detach() - torch.tensor(rows)
            optimizer.step()
            self.seen.append(model.head.weight.detach().clone())
        with torch.no_grad():
            model.head.weight.mul_(10)  # as `sam` moves weights for a second pass
            model.head(torch.zeros(1, model.head.in_features))
            model.head.weight.div_(10)
        return model


def balanced(steps: Any, data: ImageDataset = DATA, **parameters: Any) -> Any:
    """Refine a network of two features whose weight vectors have the norms 1, 3 and 5."""
    model = torch.nn.Sequential()
    model.add_module("features", torch.nn.Identity())
    head = torch.nn.Linear(2, 3)
    model.add_module("head", head)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 3.0], [3.0, -4.0]]))
        head.bias.fill_(7)
    pipeline = Pipeline(steps_of([WeightBalancing(**parameters)]), Context(0, data.class_names))
    return pipeline.fold("refine_model", model, training_set=data, train=steps)


def test_weight_vectors_are_shortened_to_the_limit_at_the_beginning_and_after_each_step() -> None:
    """With limit 0.25 the largest norm is 1 + 0.25 (5 - 1) = 2, in all steps."""
    steps = Steps([[0.5, 0.0], [8.0, 6.0], [0.0, 2.0]], [[0.0, 9.0], [1.0, 0.0], [0.6, 0.8]])
    model = balanced(steps, limit=0.25)
    torch.testing.assert_close(steps.seen[0], torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.2, -1.6]]))
    torch.testing.assert_close(steps.seen[1], torch.tensor([[0.5, 0.0], [1.6, 1.2], [0.0, 2.0]]))
    torch.testing.assert_close(steps.seen[2], torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.6, 0.8]]))
    torch.testing.assert_close(model.head.weight.detach(), steps.seen[2])
    assert (model.head.bias == 7).all(), "biases are not limited"


def test_the_network_keeps_no_trace_of_the_limit() -> None:
    def fails(model: Any, **arguments: Any) -> Any:
        other = torch.nn.Parameter(torch.full((2, 2), 5.0, requires_grad=True))
        other.grad = torch.zeros(2, 2)
        torch.optim.SGD([other]).step()
        assert (other == 5).all(), "other optimizers are left alone"
        networks.append(model)
        raise RuntimeError("stopped")

    networks: list[Any] = []
    with pytest.raises(StrategyError, match="stopped"):
        balanced(fails, limit=0)
    for model in (balanced(Steps(), limit=0), *networks):
        model.head.weight.grad = torch.full_like(model.head.weight, -5)
        torch.optim.SGD([model.head.weight], lr=1).step()
        assert (model.head.weight.norm(dim=1) > 4).all()


def test_rows_are_drawn_by_the_effective_number_of_their_class() -> None:
    steps = Steps()
    balanced(steps, beta=0.9, epochs=4)
    effective = (1 - 0.9 ** DATA.counts.astype(float)) / (1 - 0.9)
    assert steps.arguments["weights"] == pytest.approx(1 / effective[DATA.labels])
    assert steps.arguments["epochs"] == 4 and len(steps.arguments["parameters"]) == 2
    balanced(unweighted := Steps(), beta=0)
    assert np.array_equal(unweighted.arguments["weights"], np.ones(len(DATA)))


def trained(*strategies: Any) -> Trained:
    pipeline = Pipeline(steps_of(strategies), Context(0, DATA.class_names))
    loss = PLUGINS.loss("cross_entropy").value
    training = Training(model_named("convnet0"), loss, SETTINGS, pipeline, DATA, len(DATA), DATA, 4)
    return refine(training, train(training))


def test_a_real_second_stage_trains_the_head_within_the_limit() -> None:
    once, again = trained().model.state_dict(), trained(WeightBalancing(epochs=3, limit=0.1)).model.state_dict()
    norms = once["head.weight"].norm(dim=1) if "head.weight" in once else None
    assert norms is not None
    limit = float(norms.min() + 0.1 * (norms.max() - norms.min()))
    assert again["head.weight"].norm(dim=1).max() <= limit * (1 + 1e-5)
    assert not torch.equal(once["head.weight"], again["head.weight"])
    assert all(torch.equal(once[name], again[name]) for name in once if not name.startswith("head"))


def test_networks_without_a_linear_head_are_rejected() -> None:
    pipeline = Pipeline(steps_of([WeightBalancing()]), Context(0, DATA.class_names))
    with pytest.raises(StrategyError, match=r"weight_balancing.*choose another"):
        pipeline.fold("refine_model", network_named("convnet4", DATA.image_shape, 3), training_set=DATA, train=Steps())


def test_effects_are_declared() -> None:
    assert WeightBalancing().effects == Effect.NEEDS_LINEAR_HEAD | Effect.CORRECTS_CLASS_PRIOR
