"""Every installed strategy conforms: a new plugin is tested with no test written."""

from __future__ import annotations

import pytest

from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.testing import assert_conforms

STRATEGIES = [offer.name for offer in installed_plugins().of_kind("strategy")]


@pytest.mark.parametrize("name", STRATEGIES)
def test_installed_strategy_conforms(name: str) -> None:
    assert_conforms(installed_plugins().strategy(name).value)


def test_the_built_in_strategies_are_among_them() -> None:
    built_in = {"albumentations", "confusion_mirror", "flip_crop_affine", "imblearn", "power_sampler"}
    assert built_in <= set(STRATEGIES)
