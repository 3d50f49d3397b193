"""Keys change with helper modules and with the content of files and directories that parameters name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import DirectoryPath, FilePath

from fer_augment import RowTransforms, Strategy, StrategyError
from fer_augment.hooks.pipeline import steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.hooks.strategy_files import strategy_in_file
from fer_augment.training.code_digests import helper_digests, path_digests
from fer_augment.training.keys import source_digest, step_identity

OWN = """
import json
import numpy
import helper_beside
from fer_augment import Strategy, hookimpl

class Mine(Strategy):
    @hookimpl
    def rewrite_training_set(self, training_set):
        return helper_beside.unchanged(training_set)
"""


class Reads(Strategy):
    """Has parameters that name files."""

    table: FilePath
    folders: dict[str, DirectoryPath] | None = None
    output: Path = Path("nowhere")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "helper_beside.py").write_text("from helper_of_helper import unchanged\n")
    (tmp_path / "helper_of_helper.py").write_text("def unchanged(rows):\n    return rows\n")
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_helper_modules_beside_a_local_strategy_are_part_of_its_identity(place: Path) -> None:
    mine = strategy_in_file(place / "own.py", "Mine")
    (step,) = steps_of([mine()])
    before = step_identity(step)
    assert list(before["helpers"]) == ["helper_beside", "helper_of_helper"]
    (place / "helper_of_helper.py").write_text("def unchanged(rows):\n    return rows[:-1]\n")
    assert step_identity(step) == before, "it runs the helper as it was"
    (edited,) = steps_of([strategy_in_file(place / "own.py", "Mine")()])
    changed = {name for name, value in step_identity(edited).items() if value != before[name]}
    assert changed == {"helpers"}
    assert step_identity(step) == before


def test_modules_of_the_same_package_are_part_of_a_plugin_installed_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "fer_test_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(
        "from . import sibling\nfrom .inner import deep\nfrom fer_test_package import sibling\n"
    )
    for name in ("sibling.py", "inner/__init__.py", "inner/deep.py"):
        (package / name).write_text("import os, numpy, torch\n")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("fer_test_package.plugin")
    names = ["fer_test_package", "fer_test_package.inner", "fer_test_package.inner.deep", "fer_test_package.sibling"]
    assert list(helper_digests("fer_test_package.plugin")) == names
    for name in [name for name in sys.modules if name.startswith("fer_test_package")]:
        del sys.modules[name]


def test_modules_that_a_hook_imports_are_part_of_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "late_package"
    (package / "inner").mkdir(parents=True)
    (tmp_path / "late_names").mkdir()  # a package without __init__.py
    for name in ("late_package/__init__", "late_package/deep", "late_package/inner/__init__", "late_names/deep"):
        (tmp_path / f"{name}.py").write_text("N = 1\n")
    (package / "inner/last.py").write_text("N = 1\n")
    (tmp_path / "late.py").write_text(
        "def hook():\n    from late_package import deep\n    import late_package.inner.last\n"
        "    from late_names.deep import N\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    __import__("late")
    names = ["late_names.deep", "late_package", "late_package.deep", "late_package.inner", "late_package.inner.last"]
    before = helper_digests("late")
    assert list(before) == names
    (package / "inner/last.py").write_text("N = 2\n")
    assert helper_digests("late") != before
    assert not {"late_package", "late_names"} & set(sys.modules), "nothing is imported for it"
    del sys.modules["late"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of a plugin that imports `ops`, and `late` in a hook; it is on the path and not imported."""
    folder = tmp_path / "edited_package"
    folder.mkdir()
    for name in ("__init__", "ops", "late"):
        (folder / f"{name}.py").write_text("N = 1\n")
    (folder / "plugin.py").write_text(
        "from edited_package import ops\n\nclass First:\n    pass\n\nclass Second:\n    pass\n\n"
        "def hook():\n    from edited_package import late\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("edited_package")]:
        del sys.modules[name]


@pytest.mark.parametrize("change", ["edited", "deleted"])
def test_a_loaded_module_of_a_package_counts_as_it_was_until_it_is_loaded_again(package: Path, change: str) -> None:
    plugin, ops = importlib.import_module("edited_package.plugin"), package / "ops.py"
    before = helper_digests("edited_package.plugin")
    assert list(before) == ["edited_package", "edited_package.late", "edited_package.ops"]
    ops.unlink()
    if change == "edited":
        ops.write_text("N = 22\n")
    assert plugin.ops.N == 1 and helper_digests("edited_package.plugin") == before
    ops.write_text("N = 22\n")
    importlib.invalidate_caches()
    importlib.reload(plugin.ops)
    assert plugin.ops.N == 22 and helper_digests("edited_package.plugin") != before


def test_a_module_that_a_hook_imported_counts_as_it_was_then(package: Path) -> None:
    plugin = importlib.import_module("edited_package.plugin")
    before = helper_digests("edited_package.plugin")
    plugin.hook()
    (package / "late.py").write_text("N = 22\n")
    assert helper_digests("edited_package.plugin") == before


def test_two_classes_of_a_module_have_the_same_digest_after_an_edit(package: Path) -> None:
    plugin = importlib.import_module("edited_package.plugin")
    before = source_digest(plugin.First)
    (package / "plugin.py").write_text("")
    assert source_digest(plugin.Second) == before


def test_shipped_plugins_have_no_helpers() -> None:
    assert helper_digests(importlib.import_module("fer_augment_plugins.mixing").__name__) == {}


def test_base_classes_of_another_distribution_are_part_of_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    albumentations = installed_plugins().strategy("albumentations").value
    (step,) = steps_of([albumentations.model_validate(dict(albumentations.example))])
    before = step_identity(step)
    assert before["bases"] == [source_digest(RowTransforms)]
    monkeypatch.setattr("fer_augment.training.keys.source_digest", lambda thing: f"edited {thing.__name__}")
    assert step_identity(step)["bases"] == ["edited RowTransforms"]
    (plain,) = steps_of([installed_plugins().strategy("dedup").value()])
    assert step_identity(plain)["bases"] == []


def test_content_of_files_and_directories_is_part_of_the_identity(tmp_path: Path) -> None:
    table, folder = tmp_path / "table.txt", tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    table.write_text("1")
    (folder / "below/a.txt").write_text("a")
    reads = Reads(table=table, folders={"one": folder})
    assert list(path_digests(reads)) == [str(table), str(folder)]
    seen = [path_digests(reads)]
    for change in (
        lambda: table.write_text("22"),
        lambda: (folder / "below/a.txt").write_text("bb"),
        lambda: (folder / "below/a.txt").rename(folder / "below/b.txt"),
    ):
        change()
        assert path_digests(reads) not in seen
        seen.append(path_digests(reads))


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "table.txt").write_text("1")
    (step,) = steps_of([Reads(table=tmp_path / "table.txt")])
    (tmp_path / "table.txt").unlink()
    with pytest.raises(StrategyError, match=r"step 1 \(reads\): .*table.txt: cannot be read \(No such file"):
        step_identity(step)
