"""Every installed strategy conforms: a new plugin is tested with no test written."""

from __future__ import annotations

from typing import Any

import pytest

from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.testing import assert_conforms

STRATEGIES = [offer.name for offer in installed_plugins().of_kind("strategy")]

OTHER_WAYS = [
    ("albumentations", {"transforms": ["HorizontalFlip", "RandomBrightnessContrast"], "when": "batch"}),
    ("confusion_mirror", {"pairs": [["ant", "bee"]], "rows": "random_same_class", "predictions": "in_sample"}),
    ("dedup", {"conflicts": "drop", "mirrored": True}),
    ("flip_crop_affine", {"shift": 0, "rotate": 0, "scale": 0}),
    ("hard_examples", {"when": "sampling"}),
    ("hard_examples", {"copies": 2, "transform": "mirror"}),
    ("imblearn", {"sampler": "SMOTETomek", "space": "embeddings"}),
    ("imblearn", {"sampler": "ADASYN"}),
    ("imblearn", {"sampler": "RandomOverSampler"}),
    ("logit_adjustment", {"tau": 1}),
    ("power_sampler", {"exponent": 1, "ramp_epochs": 2}),
]
"""Parameters by which a strategy acts at other stages, or does something else there, than by its example."""


@pytest.mark.parametrize("name", STRATEGIES)
def test_installed_strategy_conforms(name: str) -> None:
    assert_conforms(installed_plugins().strategy(name).value)


@pytest.mark.parametrize(("name", "parameters"), OTHER_WAYS)
def test_so_does_what_comes_with_fer_augment_with_other_parameters(name: str, parameters: dict[str, Any]) -> None:
    strategy_class = installed_plugins().strategy(name).value
    told = {"__doc__": strategy_class.__doc__, "__module__": strategy_class.__module__, "example": parameters}
    assert_conforms(type(strategy_class.__name__, (strategy_class,), told))


def test_the_built_in_strategies_are_among_them() -> None:
    built_in = {"albumentations", "confusion_mirror", "flip_crop_affine", "imblearn", "power_sampler"}
    assert built_in <= set(STRATEGIES)
