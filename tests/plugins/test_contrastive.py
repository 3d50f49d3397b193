"""The supervised contrastive loss against hand arithmetic, and in a training."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fer_augment import Model, RecipeError, Strategy, StrategyError, hookimpl
from fer_augment.functional import StrategyLoss
from fer_augment.hooks.loss_features import LossFeatures
from fer_augment.resampling import make_strategy
from fer_augment.training.store import TrainingStore
from fer_augment.training.trainer import train
from fer_augment.training.trainings import Trainings
from tests.test_trainings import bound
from tests.tiny_training import same_bits, tiny_splits, training_of, weights_of

contrastive_loss = importlib.import_module("fer_augment_plugins.contrastive").contrastive_loss


def test_loss_agrees_with_hand_arithmetic() -> None:
    """Unit vectors at 0, 60 and 90 degrees, lengths 2, 1 and 3: products 0.5, 0 and cos 30; temperature 0.5."""
    angles = torch.deg2rad(torch.tensor([0.0, 60.0, 90.0]))
    features = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.tensor([[2.0], [1.0], [3.0]])
    one_hot = torch.eye(2)[torch.tensor([0, 0, 1])]

    losses = contrastive_loss(features, one_hot, 0.5)

    near, far, cosine = math.exp(0.5 / 0.5), math.exp(0.0), math.exp(math.cos(math.pi / 6) / 0.5)
    expected = [-math.log(near / (near + far)), -math.log(near / (near + cosine)), 0.0]
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_two_positives_are_averaged_outside_the_logarithm() -> None:
    features = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    losses = contrastive_loss(features, torch.ones(3, 1), 1.0)
    share, other = math.e / (math.e + 1), 1 / (math.e + 1)
    np.testing.assert_allclose(losses[0].item(), -(math.log(share) + math.log(other)) / 2, rtol=1e-5)


def test_soft_targets_weight_pairs_by_their_product() -> None:
    features = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    soft = torch.tensor([[0.75, 0.25], [1.0, 0.0], [0.0, 1.0]])
    share, other = math.log(math.e / (math.e + 1)), math.log(1 / (math.e + 1))
    assert contrastive_loss(features, soft, 1.0)[0].item() == pytest.approx(-(0.75 * share + 0.25 * other), rel=1e-5)


@pytest.mark.parametrize("rows", [1, 4])
def test_rows_without_partners_and_features_of_zero_have_finite_gradients(rows: int) -> None:
    features = torch.zeros(rows, 5, requires_grad=True)
    losses = contrastive_loss(features, torch.eye(rows), 0.01)
    (gradient,) = torch.autograd.grad(losses.sum(), features)
    assert losses.tolist() == [0] * rows and bool(gradient.isfinite().all())


def test_gradient_gathers_the_rows_of_a_class() -> None:
    features = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(12) % 3
    for _ in range(300):
        (gradient,) = torch.autograd.grad(contrastive_loss(features, torch.eye(3)[labels], 0.5).mean(), features)
        features.data -= gradient
    unit = torch.nn.functional.normalize(features.detach(), dim=1)
    same, cosines = labels[:, None] == labels, unit @ unit.T
    assert cosines[same].min() > 0.95 and cosines[~same].max() < 0


def test_training_reduces_the_contrastive_loss_of_the_features() -> None:
    def loss_after(*strategies: Strategy) -> float:
        training = training_of(*strategies, epochs=4)
        network: Any = train(training).model
        data = training.training_set
        images = torch.from_numpy(data.images[:].transpose(0, 3, 1, 2).copy()).float() / 255
        targets = torch.eye(3)[torch.from_numpy(data.labels.copy())]
        return float(contrastive_loss(network.features(images), targets, 0.1).mean().detach())

    assert loss_after(make_strategy("sup_con_loss", weight=1)) < 0.8 * loss_after()


def test_other_losses_may_wrap_one_that_asks_for_features() -> None:
    """In either order the training works; a wrapped loss gets the features, too."""
    steps = make_strategy("sup_con_loss"), make_strategy("weighted_loss"), make_strategy("ldam_loss")
    trained = [train(training_of(*order, epochs=1)).model for order in (steps, steps[::-1], steps[:2])]
    assert not same_bits(weights_of(trained[0]), weights_of(trained[1]))


class Lengths(Strategy):
    """Adds 0 times the features, so the training is that without it."""

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        return lambda logits, targets, features: loss(logits, targets) + 0 * features.sum(dim=1)


def test_features_are_those_of_the_step_and_no_hook_remains() -> None:
    network: Any = torch.nn.Sequential()
    network.add_module("features", torch.nn.Linear(3, 2))
    network.add_module("head", torch.nn.Linear(2, 2))
    slot = LossFeatures()

    def lengths(logits: torch.Tensor, targets: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return features.sum(dim=1)

    loss = slot.offered_to(lengths)
    images = torch.rand(4, 3)
    with slot.captured(network):
        logits = network(images)
        np.testing.assert_array_equal(loss(logits, logits).detach(), network.features(images).sum(dim=1).detach())
        with pytest.raises(
            StrategyError, match="given 2 rows of logits, but there are features of 4 rows; place its step after"
        ):
            loss(logits[:2], logits[:2])
    assert not network.features._forward_hooks
    plain = LossFeatures()
    plain.offered_to(lambda logits, targets: logits.sum(dim=1))
    with plain.captured(network):
        assert not network.features._forward_hooks, "no cost where no loss asks"
    assert same_bits(weights_of(train(training_of(Lengths())).model), weights_of(train(training_of()).model))
    with pytest.raises(StrategyError, match="it has no such module; choose another model"), slot.captured(network.head):
        pass


def test_training_loops_of_ones_own_pass_the_features() -> None:
    loss_of = StrategyLoss(make_strategy("sup_con_loss", weight=2, temperature=1), labels=[0, 1, 1])
    features, logits = torch.tensor([[1.0, 0], [1, 0], [0, 1]]), torch.zeros(3, 2)
    added = 2 * contrastive_loss(features, torch.eye(2)[torch.tensor([0, 1, 1])], 1.0)
    losses = loss_of.of_rows(logits, torch.tensor([0, 1, 1]), features)
    np.testing.assert_allclose(losses.numpy(), math.log(2) + added.numpy(), rtol=1e-5)
    with pytest.raises(StrategyError, match="but there are features of none"):
        loss_of(logits, torch.tensor([0, 1, 1]))


def test_temperatures_whose_quotients_overflow_are_rejected() -> None:
    with pytest.raises(RecipeError, match=r"temperature: .*0\.01"):
        make_strategy("sup_con_loss", temperature=1e-39)


def test_networks_without_features_are_refused_before_training(tmp_path: Path) -> None:
    def without_features(shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(math.prod(shape), classes))

    recipe = replace(bound(make_strategy("sup_con_loss")), model=Model("plain", "", without_features))
    trainings = Trainings(tiny_splits(), 0, TrainingStore(tmp_path))
    with pytest.raises(StrategyError, match=r"step 1 \(sup_con_loss\): .*plain has no such module; choose"):
        trainings.of(recipe).check()
