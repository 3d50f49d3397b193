"""The conformity kit for losses, readers and trackers: shipped ones pass, and each check reports a planted fault."""

from __future__ import annotations

from collections.abc import Callable
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
from fer_augment.testing.checks import CHECKS_OF_KIND
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


def test_assert_conforms_names_the_loss_and_what_failed() -> None:
    with pytest.raises(AssertionError, match=r"^mean_of_the_batch does not conform:\n  gives_one_loss_per_row: "):
        assert_conforms(Loss("mean_of_the_batch", "a fault", losses.mean_of_the_batch))
