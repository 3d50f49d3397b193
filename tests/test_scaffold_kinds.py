"""Distributions with a network, a loss, a reader or a tracker: their own tests pass, and they conform and work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fer_augment.scaffold import KINDS
from tests.command_line import Ran, assert_refused, fer_augment

NAMES = {"model": "small_net", "loss": "sum_of_errors", "reader": "pixel_lines", "tracker": "line_log"}
REGISTERS = {
    "model": "register_models", "loss": "register_losses", "reader": "register_dataset_readers",
    "tracker": "register_trackers",
}  # fmt: skip


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write one distribution of each kind."""
    place = tmp_path_factory.mktemp("projects")
    for kind, name in NAMES.items():
        ran = fer_augment("plugins", "new", name, "--kind", kind, "--out", str(place / name))
        assert (ran.code, ran.err) == (0, "")
    return {kind: place / name for kind, name in NAMES.items()}


@pytest.fixture(scope="module")
def environment(projects: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Install all of them, as far as finding plugins goes: their modules, and the metadata with their entry points."""
    site = tmp_path_factory.mktemp("site")
    for kind, folder in projects.items():
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        assert project["entry-points"] == {"fer_augment": {NAMES[kind]: f"fer_augment_{NAMES[kind]}"}}
        info = site / f"{project['name'].replace('-', '_')}-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
        (info / "entry_points.txt").write_text(f"[fer_augment]\n{NAMES[kind]} = fer_augment_{NAMES[kind]}\n")
    folders = [str(site), *map(str, projects.values()), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "NO_COLOR": "1"}


def test_all_of_their_own_tests_pass(projects: dict[str, Path], environment: dict[str, str]) -> None:
    folders = [str(folder / "tests") for folder in projects.values()]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *folders]
    ran = subprocess.run(command, env=environment, cwd=projects["loss"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_they_are_found_and_their_recipes_are_valid(projects: dict[str, Path], environment: dict[str, str]) -> None:
    recipes = [str(folder / f"{NAMES[kind]}.yaml") for kind, folder in projects.items() if kind != "reader"]
    command = [sys.executable, "-m", "fer_augment", "recipes", "check", *recipes]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == [f"{recipe}: OK" for recipe in recipes]


@pytest.mark.parametrize("kind", NAMES)
def test_each_passes_the_kit_as_a_file(kind: str, projects: dict[str, Path]) -> None:
    ran = fer_augment("plugins", "check", str(projects[kind] / f"fer_augment_{NAMES[kind]}.py"), "--json")
    checked = json.loads(ran.out)
    assert (ran.code, checked[KINDS[kind][0]]) == (0, NAMES[kind])
    assert REGISTERS[kind] in (projects[kind] / f"fer_augment_{NAMES[kind]}.py").read_text()


def test_a_name_of_an_installed_plugin_of_this_kind_is_refused(tmp_path: Path) -> None:
    def new(name: str, kind: str) -> Ran:
        return fer_augment("plugins", "new", name, "--kind", kind, "--out", str(tmp_path / "new"))

    assert_refused(new("mse", "loss"), "a loss 'mse' is already installed")
    assert_refused(new("9", "tracker"), "not a valid tracker name")
    assert new("dedup", "loss").code == 0
