"""Tiny data sources of drawn squares and runs on them that take a second, for tests of commands about runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.command_line import fer_augment

CLASSES = ("ant", "bee", "cat")
SIDE = 16
COUNTS = {"train": (40, 24, 8), "validation": (12, 9, 6), "test": (10, 8, 6)}


def squares(label: int, count: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    """Return `(count, SIDE, SIDE, channels)` noise with a bright square whose place tells the class, roughly."""
    images = rng.integers(0, 160, (count, SIDE, SIDE, channels), dtype=np.uint8)
    for image in images:
        top, left = rng.integers(0, 4, 2) + 4 * (label % 3)
        image[top : top + 5, left : left + 5] = 255
    return images


def write_squares(folder: Path, *, classes: Sequence[str] = CLASSES, channels: int = 1) -> Path:
    """Write `split/class/NUMBER.png`; classes from the fourth on are as small as the third."""
    rng = np.random.default_rng(0)
    for split, counts in COUNTS.items():
        for label, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for number, image in enumerate(squares(label, counts[min(label, 2)], channels, rng)):
                cv2.imwrite(str(folder / split / name / f"{number:02}.png"), image)
    return folder


def write_recipe(folder: Path, name: str = "tiny", *, steps: str = "", **training: object) -> Path:
    """Write a recipe of one epoch; `steps` are lines of YAML, each `- strategy: {parameters}`."""
    settings = {"epochs": 1, "batch_size": 16, "learning_rate": 0.003, "precision": "float32"} | training
    lines = ["model: convnet4", "training:", *(f"  {key}: {value}" for key, value in settings.items())]
    if steps:
        lines += ["strategies:", *(f"  {step}" for step in steps.splitlines())]
    file = folder / f"{name}.yaml"
    file.write_text("\n".join(lines) + "\n")
    return file


@contextmanager
def tiny_place(folder: Path, *, steps: str = "", **training: object) -> Iterator[Path]:
    """Give the folder with `data`, a finished run in `run`, and `cache`, which the commands use meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_AUGMENT_CACHE", str(folder / "cache"))
        recipe = write_recipe(folder, steps=steps, **training)
        do_run(recipe, write_squares(folder / "data"), folder / "results").rename(folder / "run")
        yield folder


def do_run(recipe: Path, data: Path, out: Path) -> Path:
    """Do a run with seed 0; return its directory."""
    ran = fer_augment("run", str(recipe), "--data", str(data), "--out", str(out))
    assert ran.code == 0, ran.err
    (record,) = out.glob(f"runs/{recipe.stem}/*/record.json")
    return record.parent
