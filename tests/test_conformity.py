"""Every installed strategy passes the conformity kit; a new plugin is covered without a new test."""

from __future__ import annotations

from typing import Any

from fer_augment import Strategy
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.testing import PluginCheck, parametrize_with_checks
from tests.libraries import need_library_of

INSTALLED = [offer.name for offer in installed_plugins().of_kind("strategy")]

OTHER_PARAMETERS: list[tuple[str, dict[str, Any]]] = [
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
    ("temperature_scaling", {"temperature": 2}),
    ("label_aware_smoothing", {"smallest_class": 0.1, "shape": "convex"}),
    ("cmo", {"probability": 1, "exponent": 0}),
    ("power_sampler", {"exponent": 1, "ramp_epochs": 2}),
]
"""Parameters with which a strategy acts at other stages, or differently, than with its `example`."""


@parametrize_with_checks(INSTALLED)
def test_installed_strategy_conforms(strategy: type[Strategy], check: PluginCheck) -> None:
    need_library_of(strategy.strategy_name())
    check(strategy)


@parametrize_with_checks([installed_plugins().strategy(name).value(**values) for name, values in OTHER_PARAMETERS])
def test_installed_strategy_conforms_with_other_parameters(strategy: Strategy, check: PluginCheck) -> None:
    check(strategy)


def test_the_built_in_strategies_are_installed() -> None:
    built_in = {"albumentations", "confusion_mirror", "flip_crop_affine", "imblearn", "power_sampler"}
    assert built_in <= set(INSTALLED)
