"""The cache: what it holds, and what is deleted first."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from fer_augment.cache import DEFAULT_LIMIT, Entry, cache_folder, entries, hold, prune, size_limit
from tests.command_line import assert_readable, assert_refused, fer_augment

DAY = 86_400


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache with two trainings, a checkpoint that is in use, pixels, and a ledger."""
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path))
    for number, (name, size) in enumerate(
        {"trainings/old/weights": 300, "pixels/faces/pixels.npy": 500, "trainings/new/weights": 200}.items()
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes(size))
        os.utime(file.parent, (DAY * number, DAY * number))
    for name in ("trainings/running.checkpoint", "scored/split.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with FileLock(tmp_path / "trainings/running.lock"):
        yield tmp_path


def names(chosen: list[Entry]) -> list[str]:
    return [entry.path.name for entry in chosen]


def test_entries_are_sorted_by_last_use(folder: Path) -> None:
    assert names(entries(folder)) == ["old", "faces", "new", "running.checkpoint"]
    assert [entry.size for entry in entries(folder)] == [300, 500, 200, 1]
    assert entries(folder / "nowhere") == []


def test_the_least_recently_used_are_deleted_until_the_rest_fits(folder: Path) -> None:
    held = entries(folder)
    assert names(prune(held, max_bytes=2000)) == []
    assert names(prune(held, max_bytes=900)) == ["old"]
    assert names(prune(held, max_bytes=300)) == ["old", "faces"]
    assert names(prune(held, max_bytes=0)) == ["old", "faces", "new"], "what is locked is kept"


def test_entries_unused_for_some_days_are_deleted(folder: Path) -> None:
    held = entries(folder)
    assert names(prune(held, unused_days=1.5, now=3 * DAY)) == ["old", "faces"]
    assert names(prune(held, unused_days=2.5, max_bytes=250, now=3 * DAY)) == ["old", "faces"]


IN_PROGRESS = {
    "trainings/key.checkpoint": "key.lock",
    "trainings/.key.checkpoint.71-140": "key.lock",
    "trainings/.key-a1b2c3d4": "key.lock",
    "pixels/key.partial": "key.lock",
    "strategies/.slow-key-a1b2c3d4": "slow-key.lock",
}
"""What processes write, by the file of their lock."""


@pytest.mark.parametrize(("name", "lock"), IN_PROGRESS.items())
def test_work_in_progress_is_kept_until_its_lock_is_released(name: str, lock: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.mkdir(parents=True)
    assert all_unused(tmp_path) == [path.name]
    assert [*path.parent.iterdir()] == [path], "no lock is created where there is none"
    with FileLock(path.with_name(lock)):
        assert all_unused(tmp_path) == []
    path.with_name(lock).touch()  # an interrupted process leaves it
    assert all_unused(tmp_path) == [path.name]


@pytest.mark.parametrize("kind", ["pixels", "features"])
def test_what_a_process_holds_is_kept(kind: str, tmp_path: Path) -> None:
    (tmp_path / kind / "key").mkdir(parents=True)
    hold(tmp_path / kind / "gone")()
    assert not (tmp_path / kind / "gone").exists()
    release, release_again = (hold(tmp_path / kind / "key") for _ in range(2))
    release()
    assert all_unused(tmp_path) == []
    release_again()
    assert all_unused(tmp_path) == ["key"]


@pytest.mark.parametrize(("kind", "expected"), [("trainings", []), ("strategies", []), ("pixels", ["key"])])
def test_what_may_be_copied_now_is_kept(kind: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / kind / "key").mkdir(parents=True)
    assert names(prune(entries(tmp_path), max_bytes=-1)) == expected


def test_an_entry_whose_lock_cannot_be_opened_is_kept(tmp_path: Path) -> None:
    (tmp_path / "pixels/key.partial").mkdir(parents=True)
    (tmp_path / "pixels/key.lock").mkdir()
    assert all_unused(tmp_path) == []


def all_unused(folder: Path) -> list[str]:
    """Return what would be deleted if nothing had been used for long."""
    return names(prune(entries(folder), unused_days=1, now=1e12))


class TestCommand:
    def test_show_has_number_and_size(self, folder: Path) -> None:
        ran = fer_augment("cache", "show")
        assert ran.code == 0
        lines = [line.split() for line in ran.out.splitlines()]
        assert ["trainings", "3", "0.0", "MB", "1970-01-01"] in lines
        assert ["decoded", "pixels", "1", "0.0", "MB", "1970-01-02"] in lines
        content = json.loads(fer_augment("cache", "show", "--json").out)
        assert content["trainings"] == {"entries": 3, "bytes": 501}
        assert (content["pixels"], content["ledgers"]) == ({"entries": 1, "bytes": 500}, 1)

    def test_prune_deletes_and_says_what(self, folder: Path) -> None:
        assert "Would delete 3 entries" in fer_augment("cache", "prune", "--max-size", "0MB", "--dry-run").out
        assert len(entries(folder)) == 4
        ran = fer_augment("cache", "prune", "--max-size", "0.0005 MB")
        assert_readable(ran)
        assert ran.out == "Deleted 2 entries, 0.0 MB.\n"
        assert [line.split("/")[-1] for line in ran.err.splitlines()] == ["old", "faces"]
        assert names(entries(folder)) == ["new", "running.checkpoint"]
        assert (folder / "scored/split.txt").exists()

    def test_prune_needs_a_rule(self, folder: Path) -> None:
        assert_refused(fer_augment("cache", "prune"), "--max-size", "--unused-days")
        assert "give a size such as 20GB" in fer_augment("cache", "prune", "--max-size", "20").err


def test_the_limit_of_pixels_is_set_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FER_AUGMENT_CACHE_LIMIT", raising=False)
    assert size_limit() == DEFAULT_LIMIT * 1e9
    monkeypatch.setenv("FER_AUGMENT_CACHE_LIMIT", "2.5")
    assert size_limit() == 2_500_000_000


def test_the_folder_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FER_AUGMENT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "fer_augment"
