"""Progress of runs: bars on a terminal, a line now and then in a file, nothing if quiet."""

from __future__ import annotations

import re

import pytest

from fer_augment.progress import Advance, Cached, Event, throttled
from fer_augment.recipe.recipe import load_recipe
from fer_augment.reports import run_progress
from fer_augment.reports.console import print_warnings
from fer_augment.reports.run_progress import RunProgress
from fer_augment.runs.executors import FailedTask
from fer_augment.runs.experiment import PlannedRun


def lines_of_two_runs(capsys: pytest.CaptureFixture[str], *, quiet: bool = False) -> list[str]:
    """Return the lines on stderr after two runs, the second of which fails."""
    runs = [PlannedRun(load_recipe("paper"), seed) for seed in (0, 1)]
    with RunProgress(runs, quiet=quiet) as progress:
        progress.started(runs[0])
        progress.progressed(runs[0], Cached("scout of dedup"))
        for epoch in range(4):
            progress.progressed(runs[0], Advance(f"training, epoch {epoch + 1} of 4", epoch, 4, measures_run=True))
        progress.ended(runs[0], None)
        progress.started(runs[1])
        progress.progressed(runs[1], Advance("scout of dedup, epoch 1 of 4", 3, 4))
        progress.ended(runs[1], FailedTask("epoch 1: the loss is not finite"))
    out, err = capsys.readouterr()
    assert not out
    return err.splitlines()


def test_every_finished_run_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    done, failed = lines_of_two_runs(capsys)
    assert re.fullmatch(r"done   paper, seed 0 \(\d+ s; cached: scout of dedup\)", done)
    assert failed == "failed paper, seed 1: epoch 1: the loss is not finite"


def test_a_file_receives_the_overall_progress_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_progress, "SECONDS_BETWEEN_LINES", 0.0)
    lines = lines_of_two_runs(capsys)
    shapes = [
        rf" *{share} %  2 runs, [\d:-]+ left \(paper, seed 0: training, epoch {epoch} of 4\)"
        for epoch, share in ((1, 0), (2, 12), (3, 25), (4, 38))
    ]
    assert all(re.fullmatch(shape, line) for shape, line in zip(shapes, lines[:4], strict=True)), lines
    assert lines[5].lstrip().startswith("50 %"), "a scout does not measure its run"


def test_an_activity_of_unknown_length_has_no_percentage() -> None:
    run = PlannedRun(load_recipe("paper"), 0)
    progress = RunProgress([run])
    progress.started(run)
    bar = progress.running[str(run)][0]
    for event, total in (
        (Advance("training", 0, 1), 1),
        (Advance("rewriting the training set, step 1 (dedup)", 0, 0), None),
    ):
        progress.progressed(run, event)
        (task,) = (task for task in progress.bars.tasks if task.id == bar)
        assert task.total == total
    line = progress.bars.make_tasks_table([task]).columns
    assert [str(cell) for cell in line[2].cells] == [""]


def test_control_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    with RunProgress(["\x1b[31ma"]) as progress:
        progress.started("\x1b[31ma")
        progress.ended("\x1b[31ma", None)
        progress.warn("\x1b]0;b")
    print_warnings(["\x1b]0;c"])
    err = capsys.readouterr().err
    assert "\x1b" not in err and r"\x1b[31ma" in err and r"\x1b]0;c" in err


def test_quiet_progress_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of_two_runs(capsys, quiet=True) == []


def test_throttled_progress_has_the_start_and_the_end_of_each_piece_of_work() -> None:
    events: list[Event] = [Advance("training", 0, 1)]
    events += [Advance(f"training, epoch {step // 3 + 1} of 3", step + 1, 9) for step in range(9)]
    events += [Cached("training"), *(Advance("again", step + 1, 9) for step in range(9)), Advance("rewriting", 0, 0)]
    few, all_of_them = list[Event](), list[Event]()
    for seconds, reported in ((1e9, few), (0.0, all_of_them)):
        report = throttled(reported.append, seconds)
        for event in events:
            report(event)
    assert all_of_them == events
    assert few == [*events[:2], *events[9:12], *events[19:]]
