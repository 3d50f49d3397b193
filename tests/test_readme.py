"""README's code and commands work."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fer_augment as fa
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.binding import bind
from fer_augment.recipe.recipe import check_recipe_file, load_recipe
from fer_augment.testing import check_strategy
from tests.command_line import fer_augment
from tests.markdown import DOCS, Block, blocks_of

README = DOCS.parent / "README.md"
BLOCKS = blocks_of(README)


def only(language: str, section: str) -> Block:
    (block,) = [block for block in BLOCKS if (block.language, block.section) == (language, section)]
    return block


API = only("python", "From Python")
PLUGIN, RECIPE = (only(language, "A plugin in twelve lines") for language in ("python", "yaml"))


@pytest.fixture
def recipe_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mirror_classes.py").write_text(PLUGIN.text)
    (tmp_path / "mirror.yaml").write_text(RECIPE.text)
    return tmp_path


def test_python_example_uses_the_public_api():
    tree = ast.parse(API.text)
    accesses = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    names = {node.attr for node in accesses if isinstance(node.value, ast.Name) and node.value.id == "fa"}
    assert names and names <= set(fa.__all__)
    (call,) = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "fa.compare"]
    inspect.signature(fa.compare).bind(*call.args, **{keyword.arg: keyword.value for keyword in call.keywords})


def test_plugin_has_twelve_lines_and_lacks_only_its_declarations(recipe_folder):
    assert len(PLUGIN.text.splitlines()) <= 12
    namespace: dict[str, Any] = {}
    exec(compile(PLUGIN.text, str(README), "exec"), namespace)
    strategy = type("MirrorClasses", (namespace["MirrorClasses"],), {"__doc__": "d", "example": {"classes": ["ant"]}})
    failed = [result for result in check_strategy(strategy) if not result.passed]
    assert [result.name for result in failed] == ["declares_what_it_changes"]
    result = fer_augment("plugins", "check", "mirror_classes.py")
    assert result.code == 1
    assert "set the class attribute `example`" in " ".join(result.out.split())


def test_recipe_is_valid_and_extends_the_compared_baseline(recipe_folder):
    assert check_recipe_file("mirror.yaml") == []
    bound = bind(load_recipe("mirror.yaml"), installed_plugins())
    assert [step.name for step in bound.steps] == ["mirror_classes"]


def test_recipe_runs(recipe_folder, monkeypatch):
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(recipe_folder / "cache"))
    result = fer_augment("rewrite", "mirror.yaml", "--data", "demo", "--out", "out", "--dry-run")
    assert result.code == 0, result.err
    assert "mirror_classes" in result.out


def test_make_targets_exist():
    output = subprocess.run(["make", "help"], cwd=README.parent, capture_output=True, text=True, check=True).stdout
    assert {"demo", "test"} <= {line.split()[1] for line in output.splitlines() if line.startswith("make ")}
    assert sys.version_info >= (3, 11)
    assert Path(README.parent, "LICENSE").exists()
