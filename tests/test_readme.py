"""The README's code and commands are what they say."""

import subprocess
import sys
from pathlib import Path

import pytest

from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.binding import bind
from fer_augment.recipe.recipe import check_recipe_file, load_recipe
from fer_augment.testing import check_strategy
from tests.command_line import fer_augment
from tests.markdown import DOCS, Block, blocks_of

README = DOCS.parent / "README.md"
BLOCKS = blocks_of(README)


def only(language: str) -> Block:
    (block,) = [block for block in BLOCKS if block.language == language]
    return block


@pytest.fixture
def beside_the_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mirror_classes.py").write_text(only("python").text)
    (tmp_path / "mirror.yaml").write_text(only("yaml").text)
    return tmp_path


def test_the_plugin_has_twelve_lines_and_lacks_what_the_kit_says(beside_the_recipe):
    assert len(only("python").text.splitlines()) <= 12
    namespace: dict[str, object] = {}
    exec(compile(only("python").text, str(README), "exec"), namespace)
    strategy = type("MirrorClasses", (namespace["MirrorClasses"],), {"__doc__": "d", "example": {"classes": ["ant"]}})
    failed = [result for result in check_strategy(strategy) if not result.passed]
    assert [result.name for result in failed] == ["declares_what_it_changes"]
    checked = fer_augment("plugins", "check", "mirror_classes.py")
    assert checked.code == 1
    assert "set the class attribute `example`" in " ".join(checked.out.split())


def test_the_recipe_is_without_fault_and_extends_what_it_is_compared_with(beside_the_recipe):
    assert check_recipe_file("mirror.yaml") == []
    bound = bind(load_recipe("mirror.yaml"), installed_plugins())
    assert [step.name for step in bound.steps] == ["flip_crop_affine", "mirror_classes"]


def test_it_runs_from_the_recipe(beside_the_recipe, monkeypatch):
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(beside_the_recipe / "cache"))
    ran = fer_augment("rewrite", "mirror.yaml", "--data", "demo", "--out", "out", "--dry-run")
    assert ran.code == 0, ran.err
    assert "mirror_classes" in ran.out


def test_its_make_targets_exist():
    listed = subprocess.run(["make", "help"], cwd=README.parent, capture_output=True, text=True, check=True).stdout
    assert {"demo", "test"} <= {line.split()[1] for line in listed.splitlines() if line.startswith("make ")}
    assert sys.version_info >= (3, 11)
    assert Path(README.parent, "LICENSE").exists()
