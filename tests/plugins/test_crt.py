"""The strategy `crt` retrains only the last layer, with class-balanced sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fer_augment import Context, Effect, ImageDataset, Strategy, StrategyError
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.testing import tiny_dataset
from fer_augment.training.prediction import predict
from fer_augment.training.specification import Trained, Training
from fer_augment.training.trainer import refine, train
from tests.networks import model_named, network_named

PLUGINS = installed_plugins()
Crt: Any = PLUGINS.strategy("crt").value
DATA = tiny_dataset()
SETTINGS = TrainingSettings(epochs=3, batch_size=16, learning_rate=0.01)


def trained(*strategies: Strategy, model: str = "convnet0", seed: int = 0) -> Trained:
    """Train for three epochs of four optimizer steps."""
    pipeline = Pipeline(steps_of(strategies), Context(seed, DATA.class_names))
    loss = PLUGINS.loss("cross_entropy").value
    training = Training(model_named(model), loss, SETTINGS, pipeline, DATA, len(DATA), DATA, 4)
    return refine(training, train(training))


def state(result: Trained, part: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in result.model.state_dict().items() if name.startswith(part)}


def same(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(some[name], others[name]) for name in some)


@pytest.mark.parametrize("model", ["convnet0", "vgg_mini"])
def test_only_the_head_is_retrained(model: str) -> None:
    """Batch norm statistics are part of the features, and unchanged."""
    once, again = trained(model=model), trained(Crt(epochs=2), model=model)
    assert same(state(once, "features"), state(again, "features"))
    assert not same(state(once, "head"), state(again, "head"))
    assert again.optimizer_steps == once.optimizer_steps + 2 * 4


def test_the_head_learns_after_reinitialization() -> None:
    again = trained(Crt(epochs=30))
    labels = predict(again.model, DATA, SETTINGS).argmax(axis=1)
    assert np.bincount(DATA.labels[labels == DATA.labels], minlength=3).min() > 5
    assert same(state(again, "head"), state(trained(Crt(epochs=30)), "head")), "equal seeds give equal results"
    assert not same(state(again, "head"), state(trained(Crt(epochs=30), seed=1), "head"))


class RecordingTrain:
    """Records the arguments of `context.train`, and returns the network unchanged."""

    def __init__(self) -> None:
        self.arguments: dict[str, Any] = {}
        self.head: dict[str, torch.Tensor] = {}

    def __call__(self, model: Any, **arguments: Any) -> Any:
        self.arguments = {**arguments, "parameters": list(arguments["parameters"])}
        self.head = {name: tensor.clone() for name, tensor in model.head.state_dict().items()}
        return model


def refined(
    strategy: Strategy, data: ImageDataset, seed: int = 0, model: str = "convnet0"
) -> tuple[Any, RecordingTrain]:
    network, train_again = network_named(model, data.image_shape, 3), RecordingTrain()
    pipeline = Pipeline(steps_of([strategy]), Context(seed, data.class_names))
    pipeline.fold("refine_model", network, training_set=data, train=train_again)
    return network, train_again


def test_all_classes_are_drawn_equally_often() -> None:
    model, train_again = refined(Crt(epochs=7), DATA)
    drawn = np.bincount(DATA.labels, train_again.arguments["weights"])
    assert drawn == pytest.approx([1, 1, 1])
    assert train_again.arguments["weights"].dtype == np.float64 and train_again.arguments["epochs"] == 7
    parameters = train_again.arguments["parameters"]
    assert [id(parameter) for parameter in parameters] == [id(parameter) for parameter in model.head.parameters()]


def test_a_class_without_rows_is_allowed() -> None:
    _, train_again = refined(Crt(), DATA.without(DATA.rows_of(["bee"])))
    drawn = np.bincount(DATA.without(DATA.rows_of(["bee"])).labels, train_again.arguments["weights"], minlength=3)
    assert drawn == pytest.approx([1, 0, 1])


def test_the_head_is_initialized_like_a_linear_layer_of_torch() -> None:
    heads = [refined(Crt(), DATA, seed)[1].head for seed in (0, 0, 1)]
    weight, bias = heads[0]["weight"], heads[0]["bias"]
    bound = weight.shape[1] ** -0.5
    assert weight.abs().max() <= bound and bias.abs().max() <= bound
    assert float(weight.std()) == pytest.approx(bound / 3**0.5, rel=0.1)
    assert torch.equal(weight, heads[1]["weight"]) and not torch.equal(weight, heads[2]["weight"])


def test_networks_without_a_linear_head_are_rejected() -> None:
    with pytest.raises(StrategyError, match=r"step 1 \(crt\), refine_model: .*convnet1 to convnet5.*choose another"):
        refined(Crt(), DATA, model="convnet4")


def test_effects_are_declared() -> None:
    assert Crt().effects == Effect.NEEDS_LINEAR_HEAD | Effect.CORRECTS_CLASS_PRIOR | Effect.RANDOM
