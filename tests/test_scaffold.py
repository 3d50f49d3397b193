"""What `fer-augment plugins new` writes installs, passes its own tests and runs as its README says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fer_augment.errors import PluginError
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.scaffold import write_distribution
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
    """Install the project beside what is installed, without any network; return what a shell then needs."""
    site = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site), str(project)]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stderr
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(site), "NO_COLOR": "1", "COLUMNS": "80"}


def shell(command: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a command as a person would in a folder; return what it wrote."""
    ran = subprocess.run(shlex.split(command), cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def readme_commands(project: Path) -> list[str]:
    blocks = re.findall(r"```\n(.*?)```", (project / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_what_was_written_is_told_with_what_to_do_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_it_is_a_distribution_of_its_own(project: Path) -> None:
    described = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    assert described["project"]["name"] == "fer-augment-mirror-twice"
    assert described["project"]["entry-points"] == {"fer_augment": {"mirror_twice": "fer_augment_mirror_twice"}}


def test_its_own_tests_pass(project: Path, environment: dict[str, str]) -> None:
    assert "2 passed" in shell("pytest -q -p no:cacheprovider", project, environment)


def test_it_is_found_under_its_name_and_conforms(project: Path, environment: dict[str, str]) -> None:
    shown = shell("fer-augment plugins show mirror_twice", project, environment)
    assert "fer-augment-mirror-twice 0.1.0, module fer_augment_mirror_twice" in shown
    assert "helps when  a class is small" in shown
    assert "0 failed" in shell("fer-augment plugins check mirror_twice", project, environment)


def test_its_recipe_is_sound(project: Path, environment: dict[str, str]) -> None:
    assert shell("fer-augment recipes check mirror_twice.yaml", project, environment) == "mirror_twice.yaml: sound\n"


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
    ("name", "told"),
    [
        ("Mirror-Twice", "parted by _, such as mirror_twice"),
        ("mirrorTwice", "such as mirror_twice"),
        ("../mirror", "such as mirror"),
        ("a_b", "of two letters or more"),
        ("2fold", "such as mirror_classes"),
        ("", "such as mirror_classes"),
        ("é", "such as mirror_classes"),
        ("true", "its class would be True, and that is taken"),
        ("class_name", "its class would be ClassName, and that is taken"),
        ("mapping", "its class would be Mapping, and that is taken"),
        ("imblearn", "a strategy 'imblearn' is installed already, by fer_augment"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_and_nothing_is_written(
    name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    assert_refused(fer_augment("plugins", "new", "--", name), told)
    assert list(tmp_path.rglob("*")) == [inside]


def test_every_name_that_is_taken_comes_back_from_its_class(tmp_path: Path) -> None:
    for name in ("mirror", "mirror2", "m1rror_of_all2", "xy_zz"):
        write_distribution(name, tmp_path / name)
        class_name = re.search(r"class (\w+)\(Strategy\)", (tmp_path / name / f"fer_augment_{name}.py").read_text())
        assert class_name is not None
        strategy_class = type(class_name[1], (installed_plugins().strategy("imblearn").value,), {})
        assert strategy_class.strategy_name() == name


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    assert_refused(fer_augment("plugins", "new", "squint", "--out", str(tmp_path)), "exists already; name a new folder")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(PluginError, match="cannot be written: Not a directory"):
        write_distribution("squint", tmp_path / "file" / "squint")
