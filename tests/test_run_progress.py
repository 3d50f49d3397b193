"""Who watches runs sees bars on a terminal; a file is told now and then how far they are."""

from __future__ import annotations

import re

import pytest

from fer_augment.cli import _runs
from fer_augment.cli._runs import RunProgress
from fer_augment.recipe.recipe import load_recipes
from fer_augment.runs.executors import FailedTask
from fer_augment.runs.experiment import PlannedRun


def told_of_two_runs(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what stands on stderr after two runs, the second of which fails."""
    runs = [PlannedRun(load_recipes(["paper"])[0], seed) for seed in (0, 1)]
    with RunProgress(runs) as progress:
        progress.started(runs[0])
        for epoch in range(4):
            progress.progressed(runs[0], f"training, epoch {epoch + 1} of 4", epoch, 4)
        progress.ended(runs[0], None)
        progress.started(runs[1])
        progress.ended(runs[1], FailedTask("epoch 1: the loss is not finite"))
    out, err = capsys.readouterr()
    assert not out
    return err.splitlines()


def test_every_run_that_ended_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    done, failed = told_of_two_runs(capsys)
    assert re.fullmatch(r"done   paper, seed 0 \(\d+ s\)", done)
    assert failed == "failed paper, seed 1: epoch 1: the loss is not finite"


def test_a_file_is_told_how_far_all_runs_and_the_present_one_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_runs, "SECONDS_BETWEEN_LINES", 0.0)
    lines = told_of_two_runs(capsys)[:4]
    shapes = [
        rf"at     2 runs: {share} %, [\d:-]+ left \(paper, seed 0: training, epoch {epoch} of 4\)"
        for epoch, share in ((1, 0), (2, 12), (3, 25), (4, 38))
    ]
    assert all(re.fullmatch(shape, line) for shape, line in zip(shapes, lines, strict=True)), lines
