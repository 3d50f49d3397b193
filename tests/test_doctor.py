"""`fer-augment doctor` names versions, device, cache and plugins, and finds what is planted."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from fer_augment.cache import Entry
from fer_augment.doctor import diagnose
from fer_augment.hooks.plugin_manager import installed_plugins
from tests.command_line import fer_augment


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_facts_are_those_of_the_installation() -> None:
    facts = diagnose().facts
    assert facts["versions"]["torch"] == importlib.metadata.version("torch")
    assert facts["versions"]["fer_augment"] == importlib.metadata.version("fer_augment")
    assert facts["device"]["device"].startswith(("cpu", "cuda"))
    assert facts["extras"]["pandas"] == f"pandas {importlib.metadata.version('pandas')}"
    (by_us,) = (text for provider, text in facts["plugins"].items() if provider.startswith("fer_augment"))
    assert f"strategy: {len(installed_plugins().of_kind('strategy'))}" in by_us


def test_text_and_json_have_the_same_facts_and_fit_the_terminal() -> None:
    ran, as_json = fer_augment("doctor"), json.loads(fer_augment("doctor", "--json").out)
    assert ran.code == (1 if as_json["problems"] else 0)
    assert all(title in ran.out for title in as_json["facts"])
    assert max(map(len, ran.out.splitlines())) <= 80


def test_size_of_the_cache_is_given(cache: Path) -> None:
    (cache / "trainings" / "a").mkdir(parents=True)
    (cache / "trainings" / "a" / "weights").write_bytes(bytes(30_000_000))
    assert diagnose().facts["cache"]["size"] == "0.03 GB in 1 entries"


def test_problems_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.1" if name == "rich" else real(name))
    monkeypatch.setenv("FER_AUGMENT_CACHE_LIMIT", "much")
    problems = diagnose().problems
    assert any(problem.startswith("rich 0.1 does not satisfy >=13.9: pip install 'rich>=13.9'") for problem in problems)
    assert "FER_AUGMENT_CACHE_LIMIT is not a number of GB" in problems


def test_a_missing_requirement_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "filelock":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert any(problem.startswith("filelock is missing: pip install ") for problem in diagnose().problems)


def test_a_cache_that_no_file_system_holds_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_AUGMENT_CACHE", f"/{'a' * 300}")
    assert any("File name too long; set FER_AUGMENT_CACHE" in problem for problem in diagnose().problems)


def test_a_cache_that_may_not_be_entered_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path) -> list[Entry]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("fer_augment.doctor.entries", refused)
    assert any("Permission denied; set FER_AUGMENT_CACHE to a folder of" in problem for problem in diagnose().problems)


def test_a_fork_with_the_same_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    providers = {"albumentations": ["albumentations", "nrtk-albumentations"], "numpy": ["numpy"]}
    monkeypatch.setattr("fer_augment.doctor.distributions_of_modules", lambda: providers)
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.3.0" if name[:5] == "nrtk-" else real(name))
    versions = diagnose().facts["versions"]
    assert versions["albumentations"] == f"{real('albumentations')}; nrtk-albumentations 2.3.0 has the same module"
    assert versions["numpy"] == real("numpy")


def test_a_cache_that_cannot_be_written_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_AUGMENT_CACHE", "/proc/version/cache")
    assert any("cannot be written to; set FER_AUGMENT_CACHE" in problem for problem in diagnose().problems)
