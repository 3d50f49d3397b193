"""The strategy `temperature_scaling` divides logits by a temperature, given or fitted on the validation split."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from fer_augment import Context, Strategy, StrategyError
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins

TemperatureScaling: Any = installed_plugins().strategy("temperature_scaling").value
LogitAdjustment: Any = installed_plugins().strategy("logit_adjustment").value
LOGITS = torch.tensor([[1.0, 0.5], [0.0, 0.0], [-2.0, 3.0]])


def adjusted(logits: torch.Tensor, labels: list[int], *steps: Strategy) -> torch.Tensor:
    """Adjust logits by steps that are fitted on them."""
    pipeline = Pipeline(steps_of(steps), Context(0, ("a", "b")))
    adjust = pipeline.fold(
        "build_adjustment",
        lambda logits: logits,
        validation_logits=logits,
        validation_labels=torch.tensor(labels, dtype=torch.int64),
        class_prior=np.array([0.8, 0.2]),
    )
    return adjust(logits)


def test_logits_are_divided_by_the_temperature() -> None:
    ours = adjusted(LOGITS, [0, 1, 1], TemperatureScaling(temperature=4))
    assert torch.equal(ours, LOGITS / 4) and ours.dtype == LOGITS.dtype
    assert torch.equal(adjusted(LOGITS, [0, 1, 1], TemperatureScaling(temperature=1)), LOGITS)


def test_the_fitted_temperature_is_that_of_hand_arithmetic() -> None:
    """Three of four rows are right at logits (6, 0): the likelihood is largest where p = 3/4, at 6 / T = log 3."""
    logits = torch.tensor([[6.0, 0.0]]).repeat(4, 1)
    ours = adjusted(logits, [0, 0, 0, 1], TemperatureScaling())
    assert ours[0].softmax(dim=0)[0] == pytest.approx(0.75, abs=1e-6)
    assert float(logits[0, 0] / ours[0, 0]) == pytest.approx(6 / math.log(3), rel=1e-6)


def test_the_fitted_temperature_maximizes_the_likelihood_of_several_classes() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(500, 2)) * 8)
    labels = torch.from_numpy((rng.random(500) < (logits[:, 1] / 5 - logits[:, 0] / 5).sigmoid().numpy()).astype(int))
    ours = adjusted(logits, labels.tolist(), TemperatureScaling())
    loss = torch.nn.functional.cross_entropy(ours, labels)
    for factor in (0.98, 1.02):
        assert loss < torch.nn.functional.cross_entropy(ours * factor, labels)
    assert float(logits[0, 0] / ours[0, 0]) == pytest.approx(5, rel=0.2)
    assert torch.equal(ours.argmax(dim=1), logits.argmax(dim=1))


@pytest.mark.parametrize(("labels", "temperature"), [([0, 1], 0.01), ([1, 0], 100.0)])
def test_rows_that_are_all_right_or_all_wrong_have_the_limits(labels: list[int], temperature: float) -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    ours = adjusted(logits, labels, TemperatureScaling())
    torch.testing.assert_close(ours, logits / temperature)


def test_it_is_fitted_after_the_adjustments_of_earlier_steps_and_recorded() -> None:
    pipeline = Pipeline(steps_of([LogitAdjustment(tau=1), TemperatureScaling()]), Context(0, ("a", "b")))
    logits = torch.tensor([[6.0, 0.0]]).repeat(4, 1)
    adjust = pipeline.fold(
        "build_adjustment",
        lambda logits: logits,
        validation_logits=logits,
        validation_labels=torch.tensor([0, 0, 0, 1]),
        class_prior=np.array([0.8, 0.2]),
    )
    assert adjust(logits)[0].softmax(dim=0)[0] == pytest.approx(0.75, abs=1e-6)
    assert pipeline.chosen[2] == {"temperature": pytest.approx((6 - math.log(4)) / math.log(3), rel=1e-6)}


def test_no_validation_rows_are_refused_by_auto_alone() -> None:
    nothing = torch.zeros(0, 2)
    with pytest.raises(StrategyError, match="requires validation rows.*set `temperature` to a number"):
        adjusted(nothing, [], TemperatureScaling())
    assert adjusted(nothing, [], TemperatureScaling(temperature=2)).shape == (0, 2)


@pytest.mark.parametrize("temperature", [0, 1e-40, "best"])
def test_invalid_temperatures_are_rejected(temperature: object) -> None:
    with pytest.raises(ValueError, match="temperature"):
        TemperatureScaling(temperature=temperature)
