"""Runs that are named by their directory, with or without the key at its end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import fer_augment as fa
from fer_augment.testing.finished_runs import finished_comparison
from tests.command_line import assert_refused, fer_augment


@pytest.fixture
def arm(tmp_path: Path) -> Path:
    """A folder with the runs `seed-0-key` and `seed-1-key` of an arm."""
    finished_comparison(tmp_path)
    return tmp_path / "runs" / "arm"


def test_the_key_may_be_left_out(arm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (arm / "seed-10-key").mkdir()
    assert fa.load_run(arm / "seed-1").path == fa.load_run(arm / "seed-1-key").path == arm / "seed-1-key"
    assert "seed-1-key/weights.safetensors: is missing" in fer_augment("verify", str(arm / "seed-1")).out
    monkeypatch.chdir(arm)
    assert fa.load_run("seed-1").record.identity.seed == 1
    with pytest.raises(fa.RunError, match="seed: not a run directory"):
        fa.load_run("seed")


def test_of_several_runs_the_one_in_the_comparison_is_meant(arm: Path) -> None:
    earlier = shutil.copytree(arm / "seed-0-key", arm / "seed-0-earlier") / "record.json"
    earlier.write_text(earlier.read_text().replace("key-arm-0", "earlier"))
    assert fa.load_run(arm / "seed-0").path == arm / "seed-0-key"
    (arm.parents[1] / "comparison.json").unlink()
    assert_refused(fer_augment("predict", str(arm / "seed-0"), "a.png"), "2 runs begin with this; name one, such as")
