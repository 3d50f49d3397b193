"""Recipes and runs on tiny data that take a second, for tests of commands on runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import fer_augment as fa
from tests.data_files import SQUARE_CLASSES as CLASSES
from tests.data_files import write_squares

__all__ = ["CLASSES", "do_run", "tiny_place", "write_recipe", "write_squares"]


def write_recipe(
    folder: Path, name: str = "tiny", *, steps: str = "", model: str = "convnet4", **training: Any
) -> Path:
    """Write a recipe of one epoch; `steps` are lines of YAML, each `- strategy: {parameters}`."""
    settings = {"epochs": 1, "batch_size": 16, "learning_rate": 0.003, "precision": "float32"} | training
    lines = [f"model: {model}", "training:", *(f"  {key}: {value}" for key, value in settings.items())]
    if steps:
        lines += ["strategies:", *(f"  {step}" for step in steps.splitlines())]
    file = folder / f"{name}.yaml"
    file.write_text("\n".join(lines) + "\n")
    return file


@contextmanager
def tiny_place(folder: Path, *, steps: str = "", **training: Any) -> Iterator[Path]:
    """Give the folder with `data`, a finished run in `run`, and `cache`, which the commands use meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_AUGMENT_CACHE", str(folder / "cache"))
        recipe = write_recipe(folder, steps=steps, **training)
        do_run(recipe, write_squares(folder / "data"), folder / "results").rename(folder / "run")
        yield folder


def do_run(recipe: Path, data: Path, out: Path) -> Path:
    """Do a run with seed 0; return its directory."""
    return fa.run(recipe, data, out=out, progress=False).path
