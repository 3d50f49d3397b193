"""Fixtures of the benchmarks, and the description of the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.side_by_side import SideBySide
from fer_augment import Splits
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.processes import cores
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.training.machine import precision_of

_VERSIONS = ("numpy", "torch", "scipy", "scikit-learn", "imbalanced-learn", "pandas")


@pytest.fixture
def side_by_side(benchmark: BenchmarkFixture) -> SideBySide:
    return SideBySide(benchmark)


@pytest.fixture(scope="session")
def source() -> str:
    """`fer2013_images.zip` in the folder `$FER2013`, or the demo data if the variable is not set."""
    folder = os.environ.get("FER2013")
    return str(Path(folder, "fer2013_images.zip")) if folder else "demo"


@pytest.fixture(scope="session")
def faces(source: str) -> Splits:
    return installed_plugins().read(source, lambda done, total: None)


@pytest.fixture(scope="session")
def data_name(source: str) -> str:
    return "the demo data" if source == "demo" else "FER2013"


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Add one-line descriptions of the machine and of library versions."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cpu = machine_info.get("cpu", {}).get("brand_raw", platform.processor())
    bf16 = " bf16" if precision_of(TrainingSettings(precision="auto", device="cpu")) == "bfloat16" else ""
    machine_info["instructions"] = f"{torch.backends.cpu.get_cpu_capability()}{bf16}"
    machine_info["description"] = f"{cpu}, {cores()} cores, {gigabytes:.0f} GB, {platform.system()}"
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _VERSIONS]
    machine_info["versions"] = ", ".join([f"Python {platform.python_version()}", *versions])
