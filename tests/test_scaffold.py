"""A distribution written by `fer-augment plugins new` installs, passes its tests, and its README commands run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fer_augment.errors import PluginError
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.scaffold import write_distribution
from fer_augment.testing.checks import CHECKS, FIRST_CHECKS
from tests.command_line import assert_readable, assert_refused, fer_augment

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new") / "mirror_twice"
    ran = fer_augment("plugins", "new", "mirror_twice", "--out", str(folder))
    assert (ran.code, ran.err) == (0, "")
    return folder


@pytest.fixture(scope="module")
def environment(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Install the project in addition to the installed packages, offline; return the environment variables to use."""
    site = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site), str(project)]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stderr
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(site), "NO_COLOR": "1", "COLUMNS": "80"}


def shell(command: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a command in a folder; return its standard output."""
    ran = subprocess.run(shlex.split(command), cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def readme_commands(project: Path) -> list[str]:
    blocks = re.findall(r"```\n(.*?)```", (project / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_the_written_files_and_next_commands_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = fer_augment("plugins", "new", "squint")
    assert (ran.code, ran.err) == (0, "")
    assert_readable(ran)
    written = {str(file.relative_to("squint")) for file in Path("squint").rglob("*") if file.is_file()}
    assert written == {
        "README.md", "pyproject.toml", "fer_augment_squint.py", "squint.yaml", "tests/test_squint.py",
    }  # fmt: skip
    assert all(f"  {name} " in ran.out for name in written)
    assert ran.out.startswith("Wrote squint/\n")
    assert ran.out.endswith(
        "Next:\n  cd squint\n  pip install -e '.[test]'\n  fer-augment plugins check squint\n  pytest\n"
    )


def test_it_is_a_distribution_with_an_entry_point(project: Path) -> None:
    pyproject = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    assert pyproject["project"]["name"] == "fer-augment-mirror-twice"
    assert pyproject["project"]["entry-points"] == {"fer_augment": {"mirror_twice": "fer_augment_mirror_twice"}}


def test_its_own_tests_pass(project: Path, environment: dict[str, str]) -> None:
    output = shell("pytest -v -p no:cacheprovider", project, environment)
    for check in (*FIRST_CHECKS, *CHECKS):
        assert f"test_conforms[mirror_twice-{check.__name__}] PASSED" in output
    assert f"{len(FIRST_CHECKS) + len(CHECKS) + 1} passed" in output


def test_it_is_installed_under_its_name_and_conforms(project: Path, environment: dict[str, str]) -> None:
    shown = shell("fer-augment plugins show mirror_twice", project, environment)
    assert "fer-augment-mirror-twice 0.1.0, module fer_augment_mirror_twice" in shown
    assert "helps when  a class is small" in shown
    assert "0 failed" in shell("fer-augment plugins check mirror_twice", project, environment)


def test_its_recipe_is_valid(project: Path, environment: dict[str, str]) -> None:
    assert shell("fer-augment recipes check mirror_twice.yaml", project, environment) == "mirror_twice.yaml: OK\n"


def test_the_readme_has_these_commands_and_the_comparison(project: Path) -> None:
    assert readme_commands(project) == [
        "pip install -e '.[test]'",
        "fer-augment plugins show mirror_twice",
        "fer-augment plugins check mirror_twice",
        "pytest",
        "fer-augment recipes check mirror_twice.yaml",
        "fer-augment compare demo mirror_twice.yaml --data demo --seeds 3",
    ]


def test_its_comparison_runs(project: Path, environment: dict[str, str], tmp_path: Path) -> None:
    shortened = " --seeds 1 --set training.epochs=1 --set model=convnet0 --jobs 1 --out "
    shell(readme_commands(project)[-1] + shortened + shlex.quote(str(tmp_path / "out")), project, environment)
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert [arm["recipe"] for arm in comparison["arms"]] == ["demo", "mirror_twice"]


def test_its_files_are_tidy(project: Path) -> None:
    for command in (
        "ruff format --isolated --line-length 100 --check .",
        "ruff check --isolated --select E4,E7,E9,F,I,B,UP .",
    ):
        shell(command, project, {**os.environ, "PATH": str(BIN)})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mirror.twice", "joined by _, such as mirror_twice"),
        ("a-b", "of two or more letters"),
        ("../mirror", "such as mirror"),
        ("a_b", "of two or more letters"),
        ("2fold", "such as mirror_classes"),
        ("", "such as mirror_classes"),
        ("é", "such as mirror_classes"),
        ("true", "the class name True is already in use"),
        ("class_name", "the class name ClassName is already in use"),
        ("mapping", "the class name Mapping is already in use"),
        ("imblearn", "a strategy 'imblearn' is already installed, by fer_augment"),
    ],
)
def test_an_invalid_name_is_refused_and_nothing_is_written(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    assert_refused(fer_augment("plugins", "new", "--", name), message)
    assert list(tmp_path.rglob("*")) == [inside]


@pytest.mark.parametrize("name", ["Soft-Focus", "SoftFocus", "soft focus"])
def test_a_name_that_is_spelled_otherwise_is_corrected_and_printed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = fer_augment("plugins", "new", name)
    assert ran.code == 0
    assert ran.out.startswith("The strategy is named soft_focus, as a recipe writes it.\nWrote soft_focus/\n")
    assert Path("soft_focus/soft_focus.yaml").is_file()


def test_the_class_of_every_valid_name_has_that_strategy_name(tmp_path: Path) -> None:
    for name in ("mirror", "mirror2", "m1rror_of_all2", "xy_zz"):
        write_distribution(name, tmp_path / name)
        class_name = re.search(r"class (\w+)\(Strategy\)", (tmp_path / name / f"fer_augment_{name}.py").read_text())
        assert class_name is not None
        strategy_class: Any = type(class_name[1], (installed_plugins().strategy("imblearn").value,), {})
        assert strategy_class.strategy_name() == name


def test_its_file_is_named_where_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_distribution("soft_squint", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    hint = "; fer_augment_soft_squint.py is not installed: run `pip install -e .`, or use fer_augment_soft_squint.py"
    assert_refused(fer_augment("plugins", "check", "soft_squint"), f"no plugin named 'soft_squint' is installed{hint}")
    refusal = f"there is no strategy 'soft_squint'{hint}:SoftSquint"
    assert refusal in fer_augment("recipes", "check", "soft_squint.yaml").out
    Path("pyproject.toml").unlink()
    assert_refused(fer_augment("plugins", "show", "soft_squint"), "is not installed: use fer_augment_soft_squint.py")
    readme = Path("README.md").read_text(encoding="utf-8")
    assert "`fer-augment plugins check fer_augment_soft_squint.py`" in readme


def test_an_existing_folder_is_not_changed(tmp_path: Path) -> None:
    assert_refused(fer_augment("plugins", "new", "squint", "--out", str(tmp_path)), "already exists; name a new folder")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(PluginError, match="cannot be written: Not a directory"):
        write_distribution("squint", tmp_path / "file" / "squint")
