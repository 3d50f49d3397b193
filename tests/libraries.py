"""Optional libraries of strategies: skip a test where one is missing."""

from __future__ import annotations

import pytest

from fer_augment import import_with_torchvision

MODULES = {"kornia": "kornia.augmentation", "torchvision": "torchvision.transforms.v2"}
"""A module of the library that a strategy needs."""


def need_library_of(strategy: str) -> None:
    """Skip the test unless the library of a strategy can be imported."""
    if strategy in MODULES:
        try:
            import_with_torchvision(MODULES[strategy])
        except ImportError as error:
            reason = " ".join(str(error).split())
            pytest.skip(f"{strategy} cannot be imported ({reason}): pip install 'fer_augment[{strategy}]'")
