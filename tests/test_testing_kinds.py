"""The conformity kit for losses, readers and trackers: shipped ones pass, and each check reports a planted fault."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_augment import DatasetReader, Loss, Tracker
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.testing import (
    CheckResult,
    PluginCheck,
    assert_conforms,
    check_loss,
    check_reader,
    check_tracker,
    parametrize_with_loss_checks,
    parametrize_with_reader_checks,
    parametrize_with_tracker_checks,
)
from fer_augment.testing.checks import CHECKS_OF_KIND, run_check
from fer_augment.testing.losses import LossSubject
from fer_augment.testing.readers import ReaderSubject, recognizes_and_reads_its_example, refuses_damaged_data
from tests.data_files import small_csv_rows, write_csv, write_npz, write_squares
from tests.planted_faults import losses, readers, trackers

FAULTS: dict[str, list[tuple[Any, str, str]]] = {
    "loss": losses.FAULTS,
    "dataset reader": readers.FAULTS,
    "tracker": trackers.FAULTS,
}
CHECK: dict[str, Callable[[Any], list[CheckResult]]] = {
    "loss": check_loss,
    "dataset reader": check_reader,
    "tracker": check_tracker,
}


@parametrize_with_loss_checks([offer.name for offer in installed_plugins().of_kind("loss")])
def test_shipped_losses_conform(loss: Loss, check: PluginCheck) -> None:
    check(loss)


@parametrize_with_tracker_checks(["csv", "jsonl"])
def test_shipped_trackers_without_extras_conform(tracker: Tracker, check: PluginCheck) -> None:
    check(tracker)


@parametrize_with_reader_checks([readers.reader()])
def test_a_sound_reader_conforms(reader: DatasetReader, check: PluginCheck) -> None:
    check(reader)


def write_arrays(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (20, 8, 8)).astype(np.uint8)
        arrays[f"{split}_labels"] = np.arange(20) % 3
    return write_npz(folder / "arrays.npz", arrays)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("image_files", lambda folder: write_squares(folder / "squares")),
        ("csv_file", lambda folder: write_csv(folder / "fer.csv", small_csv_rows())),
        ("npz_file", write_arrays),
    ],
)
def test_shipped_readers_conform_on_a_given_source(name: str, write: Any, tmp_path: Path) -> None:
    results = check_reader(installed_plugins().reader(name).value, str(write(tmp_path)))
    assert {result.name: result.advice for result in results if not result.passed} == {}


def writing_beside(name: str) -> Callable[[str, Any], Any]:
    """Return a function that reads dots and writes a file beside them."""

    def read(source: str, progress: Any) -> Any:
        with (Path(source).parent / name).open("a", encoding="utf-8") as file:
            file.write("read\n")
        return readers.read_dots(source, progress)

    return read


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("dots.index", "reading changes dots.index of the source; write to the cache, or nowhere"),
        (".dots.dots.lock", "reading changes .dots.dots.lock of the source; write to the cache, or nowhere"),
        ("download.log", ""),
    ],
)
def test_beside_a_given_source_only_files_of_its_name_are_watched(name: str, advice: str, tmp_path: Path) -> None:
    results = check_reader(readers.reader(writing_beside(name)), readers.write_dots(tmp_path))
    assert {result.name: result.advice for result in results}["leaves_the_source_alone"] == advice


def test_files_beside_a_source_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = readers.write_dots(tmp_path)
    (tmp_path / "dots_of_last_year.dots").write_bytes(b"large")
    read_bytes, names = Path.read_bytes, set[str]()

    def recorded(path: Path) -> bytes:
        names.add(path.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", recorded)
    check_reader(readers.reader(), source)
    assert names == {"dots.dots"}


def test_of_a_large_source_no_damaged_copies_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_augment.testing.readers._MOST_DAMAGED", 2000)
    (result,) = (one for one in check_reader(readers.reader()) if one.name == "refuses_damaged_data")
    assert result.passed and "damaged copies are made of at most 0 MB; check with a smaller source" in result.advice
    with pytest.raises(pytest.skip.Exception, match="check with a smaller source"):
        PluginCheck(refuses_damaged_data)(readers.reader())


@pytest.mark.parametrize(
    ("kind", "plugin", "check", "advice"), [(kind, *fault) for kind, faults in FAULTS.items() for fault in faults]
)
def test_a_planted_fault_is_reported_by_its_check(kind: str, plugin: Any, check: str, advice: str) -> None:
    failed = {result.name: result.advice for result in CHECK[kind](plugin) if not result.passed}
    assert advice in failed.get(check, f"reported only: {failed}")


@pytest.mark.parametrize("kind", FAULTS)
def test_every_check_reports_a_planted_fault(kind: str) -> None:
    first, others = CHECKS_OF_KIND[kind]
    assert {check.__name__ for check in (*first, *others)} == {check for _, check, _ in FAULTS[kind]}


def test_faults_before_an_exception_are_kept_and_an_exit_is_one() -> None:
    def yields_and_exits(subject: Any) -> Iterator[str]:
        yield "a fault"
        sys.exit(0)

    faults, error = run_check(yields_and_exits, LossSubject(Loss("any", "", losses.mean_of_the_batch)))
    assert faults == ["a fault", "SystemExit: 0"] and isinstance(error, SystemExit)


def test_an_example_that_raises_is_reported_with_its_error() -> None:
    def raises(folder: Path) -> str:
        raise OSError("no space")

    with pytest.raises(AssertionError, match="OSError: no space"):
        PluginCheck(recognizes_and_reads_its_example)(readers.reader(example=raises))


def test_damaged_copies_of_read_only_files_can_be_written(tmp_path: Path) -> None:
    source, modes = readers.write_folder(tmp_path), set[int]()
    Path(source, "dots.dots").chmod(0o400)

    def read(folder: str, progress: Any) -> Any:
        modes.add(Path(folder, "dots.dots").stat().st_mode & 0o777)
        return readers.read_dots(str(Path(folder, "dots.dots")), progress)

    folders = readers.reader(read, lambda folder: Path(folder, "dots.dots").is_file())
    assert run_check(refuses_damaged_data, ReaderSubject(folders, source)) == ([], None)
    assert modes == {0o700}


def test_assert_conforms_names_the_loss_and_what_failed() -> None:
    with pytest.raises(AssertionError, match=r"^mean_of_the_batch does not conform:\n  gives_one_loss_per_row: "):
        assert_conforms(Loss("mean_of_the_batch", "a fault", losses.mean_of_the_batch))
