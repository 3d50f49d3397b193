"""Distributions are complete, and an installed wheel works; releases set the version everywhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import click
import pytest
import yaml

from tests.markdown import ROOT
from tools.release import UNRELEASED, VERSION_LINES, set_version

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PARTS = ("pyproject.toml", "README.md", "LICENSE", "fer_augment", "plugins", "recipes")


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build an sdist, and a wheel from it, of a copy of the project."""
    copy = tmp_path_factory.mktemp("project")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / part, copy / part)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(copy / "dist"), str(copy)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,), (sdist,) = (copy / "dist").glob("*.whl"), (copy / "dist").glob("*.tar.gz")
    return wheel, sdist


class TestDistributions:
    def test_sdist_and_wheel_have_every_module_and_recipe(self, distributions: tuple[Path, Path]) -> None:
        wheel, sdist = distributions
        in_wheel = set(zipfile.ZipFile(wheel).namelist())
        with tarfile.open(sdist) as archive:
            in_sdist = {name.partition("/")[2] for name in archive.getnames()}
        for folder, package in {
            "fer_augment": "fer_augment",
            "plugins": "fer_augment_plugins",
            "recipes": "fer_augment_recipes",
        }.items():
            for file in (ROOT / folder).rglob("*"):
                if file.suffix in (".py", ".yaml", ".html", ".css", ".js") or file.name == "py.typed":
                    relative = file.relative_to(ROOT / folder).as_posix()
                    assert f"{package}/{relative}" in in_wheel
                    assert f"{folder}/{relative}" in in_sdist
        assert not [name for name in in_wheel if name.startswith(("tests", "benchmarks", "docs", "tools"))]

    def test_metadata_are_complete(self, distributions: tuple[Path, Path]) -> None:
        wheel, _ = distributions
        archive = zipfile.ZipFile(wheel)
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
        assert metadata["Name"] == "fer_augment" and metadata["Version"] == PROJECT["version"]
        assert metadata["License-Expression"] == "MIT" and metadata["License-File"] == "LICENSE"
        assert metadata["Author"] and metadata["Keywords"] and metadata["Requires-Python"] == ">=3.11"
        assert {*metadata.get_all("Provides-Extra")} == {*PROJECT["optional-dependencies"]}
        listed = {value.rpartition(" ")[2] for value in metadata.get_all("Classifier") if ":: Python :: 3." in value}
        assert listed == {"3.11", "3.12", "3.13"}, "those with which `make dist-check` passed"

    def test_an_installed_wheel_runs_a_comparison(self, distributions: tuple[Path, Path], tmp_path: Path) -> None:
        """The dependencies are those of this environment; `make dist-check` installs them anew."""
        wheel, _ = distributions
        environment = tmp_path / "environment"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
        (packages,) = environment.glob("lib/python*/site-packages")
        others = [entry for entry in sys.path if entry.endswith("site-packages")]
        (packages / "others.pth").write_text("".join(f"{entry}\n" for entry in others), encoding="utf-8")
        installer = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", "-q",
                     "--no-deps", "--no-index", "--ignore-installed", str(wheel)]  # fmt: skip
        installed = subprocess.run(installer, capture_output=True, text=True, check=False)
        if "No module named pip" in installed.stderr:
            pytest.skip("pip is not installed")
        assert installed.returncode == 0, installed.stderr
        smoke = [str(environment / "bin" / "python"), str(ROOT / "tools" / "smoke.py")]
        done = subprocess.run(smoke, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"fer_augment {PROJECT['version']} on Python 3." in done.stdout


class TestRelease:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        for name in (*VERSION_LINES, "CHANGELOG.md"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(ROOT / name, tmp_path / name)
        return tmp_path

    def test_sets_the_version_everywhere_and_closes_the_changelog(self, project: Path) -> None:
        set_version(project, "7.8.9", "2031-02-03")
        assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["version"] == "7.8.9"
        assert '__version__ = "7.8.9"' in (project / "fer_augment/__init__.py").read_text()
        assert yaml.safe_load((project / "CITATION.cff").read_text())["version"] == "7.8.9"
        changelog = (project / "CHANGELOG.md").read_text()
        assert f"{UNRELEASED}\n\n## [7.8.9] - 2031-02-03\n\n### Added" in changelog
        with pytest.raises(click.UsageError, match="CHANGELOG.md has no changes"):
            set_version(project, "7.8.10", "2031-02-04")

    def test_the_version_is_the_same_everywhere(self) -> None:
        assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == PROJECT["version"]

    def test_a_file_without_a_version_is_refused(self, project: Path) -> None:
        (project / "CITATION.cff").write_text("title: none\n", encoding="utf-8")
        with pytest.raises(click.UsageError, match=r"CITATION\.cff has no version"):
            set_version(project, "7.8.9", "2031-02-03")
