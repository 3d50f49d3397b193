"""Files, pyproject.toml and the installed package agree; imports stay fast."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import fer_augment
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.recipe import shipped_recipes
from tests.wheels import build_wheel

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ENTRY_POINTS = PYPROJECT["project"]["entry-points"]["fer_augment"]
FOLDERS = {"fer_augment": "fer_augment", "fer_augment_plugins": "plugins", "fer_augment_recipes": "recipes"}
SLOW_TO_IMPORT = {"torch", "albumentations", "scipy", "sklearn", "imblearn", "matplotlib", "cv2", "pandas", "ray"}


def public_modules(folder: str) -> set[str]:
    return {file.stem for file in (ROOT / folder).glob("*.py") if not file.stem.startswith("_")}


def slow_modules_loaded_by(code: str) -> list[str]:
    """Return the slow modules that a new interpreter has loaded after running the code."""
    program = f"import sys\ntry:\n    {code}\nfinally:\n    print(sorted({SLOW_TO_IMPORT} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    loaded = ast.literal_eval(ran.stdout.splitlines()[-1])
    assert isinstance(loaded, list)
    return loaded


def test_plugin_files_and_entry_points_correspond() -> None:
    declared = {name for name, value in ENTRY_POINTS.items() if value.startswith("fer_augment_plugins.")}

    assert declared == public_modules("plugins")
    assert all(ENTRY_POINTS[name] == f"fer_augment_plugins.{name}" for name in declared)


def test_readers_models_and_losses_have_entry_points() -> None:
    declared = {name: value for name, value in ENTRY_POINTS.items() if value.startswith("fer_augment.")}

    readers = {name: f"fer_augment.readers.{name}" for name in public_modules("fer_augment/readers")}
    assert declared == {**readers, "models": "fer_augment.models", "losses": "fer_augment.losses"}


def test_installed_entry_points_are_the_declared_ones() -> None:
    own = {offer.module for offer in installed_plugins().offers if offer.provider.startswith("fer_augment ")}

    assert own == set(ENTRY_POINTS.values()), "entry points have changed: reinstall with `make venv`"
    assert not installed_plugins().problems


def modules_imported_in(file: Path) -> set[str]:
    """Return the top-level modules that a file imports anywhere."""
    imported = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported.add(node.module.partition(".")[0])
    return imported


@pytest.mark.parametrize("library", ["albumentations", "kornia", "mlflow", "tensorboard", "timm"])
def test_only_its_plugin_imports_a_library_of_strategies_networks_or_trackers(library: str) -> None:
    files = [file for folder in FOLDERS.values() for file in (ROOT / folder).rglob("*.py")]
    importing = {str(file.relative_to(ROOT)) for file in files if library in modules_imported_in(file)}
    assert importing <= {f"plugins/{library}.py"}


def test_every_package_folder_is_declared() -> None:
    packages = {
        ".".join((name, *file.parent.relative_to(ROOT / folder).parts))
        for name, folder in FOLDERS.items()
        for file in (ROOT / folder).rglob("__init__.py")
    }

    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == packages
    assert PYPROJECT["tool"]["setuptools"]["package-dir"] == FOLDERS


def test_wheel_contains_every_file_of_the_packages(tmp_path: Path) -> None:
    wheel = build_wheel(ROOT, ["pyproject.toml", "README.md", "LICENSE", *FOLDERS.values()], tmp_path)

    contents = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert contents == {
        f"{name}/{file.relative_to(ROOT / folder).as_posix()}"
        for name, folder in FOLDERS.items()
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_recipe_files_are_the_shipped_recipes() -> None:
    assert set(shipped_recipes()) == {file.stem for file in (ROOT / "recipes").glob("*.yaml")}


def test_version_matches_pyproject() -> None:
    assert fer_augment.__version__ == PYPROJECT["project"]["version"]


def test_pinned_versions_satisfy_the_requirements() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    versions = {canonicalize_name(name): version for name, version in pinned.items()}
    project = PYPROJECT["project"]
    for text in [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]:
        requirement = Requirement(text)
        pinned_version = versions[canonicalize_name(requirement.name)]
        assert pinned_version in requirement.specifier, f"{text} excludes the version pinned in constraints.txt"
    assert "+" not in versions[canonicalize_name("torch")]


def test_public_names_exist_and_are_sorted() -> None:
    assert fer_augment.__all__ == sorted(fer_augment.__all__)
    assert all(hasattr(fer_augment, name) for name in fer_augment.__all__)


def test_import_loads_no_slow_modules() -> None:
    assert not slow_modules_loaded_by("import fer_augment")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["compare", "--help"]])
def test_help_loads_no_slow_modules(arguments: list[str]) -> None:
    assert not slow_modules_loaded_by(f"from fer_augment.cli import main; main({arguments})")


def test_collecting_plugins_loads_no_slow_modules() -> None:
    assert not slow_modules_loaded_by(
        "from fer_augment.hooks.plugin_manager import installed_plugins; installed_plugins()"
    )
