"""A third-party distribution, installed from a wheel, works like the built-in plugins and is named as provider."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from fer_augment.data.records import RunDirectory
from tests.command_line import assert_refused, fer_augment
from tests.wheels import build_wheel

PROJECT = Path(__file__).parent / "sample_distribution"
PROVIDER = "fer-augment-sample 1.2.0"
RECIPE = """\
model: one_hidden_layer
training: {epochs: 4, batch_size: 8, learning_rate: 0.01}
strategies:
  - dimmed_copies: {classes: [ring]}
"""
SHAPES = {"cross": ("#...#", ".#.#.", "..#..", ".#.#.", "#...#"), "ring": (".###.", "#...#", "#...#", "#...#", ".###.")}
ROWS = {"train": 20, "validation": 6, "test": 10}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create an environment with the wheel of the sample, and with access to the packages installed here."""
    wheel = build_wheel(PROJECT, ["pyproject.toml", "fer_augment_sample"], tmp_path_factory.mktemp("wheel"))
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    scheme = {"base": str(home), "platbase": str(home)}
    python = Path(sysconfig.get_path("scripts", "venv", scheme)) / "python"
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", *options, wheel], check=True)
    link = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    (Path(sysconfig.get_path("purelib", "venv", scheme)) / "link.pth").write_text(link, encoding="utf-8")
    return python


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a recipe, and a file of drawings with one random pixel set in each."""
    rng = np.random.default_rng(0)
    lines = []
    for split, count in ROWS.items():
        for number in range(count):
            name = ("cross", "ring")[number % 2]
            letters = [list(row) for row in SHAPES[name]]
            letters[rng.integers(5)][rng.integers(5)] = "#"
            lines.append(f"{split} {name} {'/'.join(map(''.join, letters))}\n")
    (tmp_path / "shapes.drawings").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "dimmed.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def in_environment(python: Path, folder: Path, *arguments: str) -> str:
    """Run `fer-augment ARGUMENTS` in the environment; return its standard output."""
    command = [str(python), "-c", "from fer_augment.cli import main; main()", *arguments]
    environment = {**os.environ, "FER_AUGMENT_CACHE": str(folder / "cache"), "COLUMNS": "200"}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_its_plugins_are_listed_with_their_distribution_and_version(python: Path, folder: Path) -> None:
    listed = json.loads(in_environment(python, folder, "plugins", "list", "--json"))["plugins"]

    own = {(one["kind"], one["name"], one["module"]) for one in listed if one["provider"] == PROVIDER}
    assert own == {
        ("strategy", "dimmed_copies", "fer_augment_sample.strategy"),
        ("model", "one_hidden_layer", "fer_augment_sample.model"),
        ("dataset reader", "drawings", "fer_augment_sample.reader"),
        ("recipe", "dimmed_rings", "fer_augment_sample.shipped_recipes"),
    }
    assert {"confusion_mirror", "convnet5"} < {one["name"] for one in listed}


def test_its_strategy_conforms(python: Path, folder: Path) -> None:
    in_environment(python, folder, "plugins", "check", "dimmed_copies")


def test_a_recipe_uses_its_strategy_network_and_reader(python: Path, folder: Path) -> None:
    arguments = ["--data", "shapes.drawings", "--seed", "0", "--out", "results"]
    in_environment(python, folder, "run", "dimmed.yaml", *arguments)

    (file,) = (folder / "results").rglob("record.json")
    run = RunDirectory(file.parent)
    (step,) = run.record.steps
    assert (step.name, step.provider, step.rows) == ("dimmed_copies", PROVIDER, 10)
    assert step.parameters == {"classes": ["ring"], "darkest": 0.5}
    assert run.record.class_names == ("cross", "ring")
    assert run.record.image_shape == (5, 5, 1)
    assert run.record.train_counts == (10, 10)
    assert run.record.rewritten_counts == (10, 20)
    assert run.record.parameter_count == 5 * 5 * 16 + 16 + 16 * 2 + 2
    predictions = run.predictions("test")
    assert predictions.logits.shape == (10, 2)
    assert (predictions.logits.argmax(axis=1) == predictions.labels).mean() >= 0.8


def test_without_it_its_names_are_unknown(folder: Path) -> None:
    ran = fer_augment("run", str(folder / "dimmed.yaml"), "--data", "demo", "--out", str(folder / "results"))

    assert_refused(ran, "one_hidden_layer")


def test_its_recipe_is_listed_and_used_by_name(python: Path, folder: Path) -> None:
    listed = json.loads(in_environment(python, folder, "recipes", "list", "--json"))["recipes"]
    own = [recipe for recipe in listed if recipe["provider"] == PROVIDER]
    assert own == [
        {"name": "dimmed_rings", "extends": None, "description": "Darker copies of rings.", "provider": PROVIDER}
    ]
    (folder / "child.yaml").write_text("extends: dimmed_rings\ntraining: {epochs: 2}\n", encoding="utf-8")
    planned = in_environment(
        python, folder, "compare", "dimmed_rings", "child.yaml", "--data", "shapes.drawings", "--dry-run"
    )
    assert "dimmed_rings" in planned and "child" in planned
