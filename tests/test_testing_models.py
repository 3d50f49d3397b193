"""The conformity kit for networks: shipped networks pass it, and each check reports a planted fault."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import pytest
from pydantic import Field
from torch import nn

from fer_augment import ConfigurableModel, Model
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.testing import (
    PluginCheck,
    assert_conforms,
    check_model,
    parametrize_with_model_checks,
)
from fer_augment.testing.checks import FIRST_MODEL_CHECKS, MODEL_CHECKS
from tests.networks import model_named
from tests.planted_faults.models import FAULTS, NoNetwork, Shape, parts, sound, ten_classes

SHIPPED = [offer.name for offer in installed_plugins().of_kind("model") if offer.name != "timm"]  # which needs an extra
CONFIGURED: list[Any] = [model_named("vgg_mini", width=4, dropout=0.0), model_named("resnet_small", width=4, depth=2)]


@parametrize_with_model_checks([*SHIPPED, *CONFIGURED])
def test_shipped_networks_conform(model: Any, check: PluginCheck) -> None:
    check(model)


class Layered(ConfigurableModel):
    """A network with a list among its parameters."""

    widths: list[int] = Field(default=[8, 16], description="Channels of each layer.")

    def build(self, image_shape: Shape, classes: int) -> nn.Module:
        layers: list[nn.Module] = []
        for before, width in pairwise([image_shape[2], *self.widths]):
            layers += [nn.Conv2d(before, width, 3), nn.ReLU()]
        pooled = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return parts(pooled, nn.Linear(self.widths[-1], classes))


@parametrize_with_model_checks([Layered, Layered(widths=[8])])
def test_parameters_may_be_lists(model: Any, check: PluginCheck) -> None:
    check(model)


LISTED: Any = Model("listed", "a list of distributions", sound, distributions=["torch"])  # type: ignore[arg-type] # a list


@pytest.mark.parametrize(("model", "outcome"), [(LISTED, None), (NoNetwork, "must be a Model or a subclass of")])
def test_what_has_no_hash_and_what_is_no_network_are_cases_of_pytest(model: Any, outcome: str | None) -> None:
    cases = parametrize_with_model_checks([model]).args[1]
    assert cases[0].id in ("listed-is_declared_as_a_model", "NoNetwork-is_declared_as_a_model")
    with pytest.raises(AssertionError, match=outcome) if outcome else nullcontext():
        cases[0].values[1](model)


@pytest.mark.parametrize(("model", "check", "advice"), FAULTS)
def test_a_planted_fault_is_reported_by_its_check(model: Any, check: str, advice: str) -> None:
    failed = {result.name: result.advice for result in check_model(model) if not result.passed}
    assert advice in failed.get(check, f"reported only: {failed}")


def test_every_check_reports_a_planted_fault() -> None:
    assert {check.__name__ for check in (*FIRST_MODEL_CHECKS, *MODEL_CHECKS)} == {check for _, check, _ in FAULTS}


def test_assert_conforms_names_the_network_and_what_failed() -> None:
    with pytest.raises(AssertionError, match=r"^ten_classes does not conform:\n  returns_logits: the output must have"):
        assert_conforms(Model("ten_classes", "a fault", ten_classes))
