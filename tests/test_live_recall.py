"""The table of validation recall that a terminal shows while arms train."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fer_augment.data.records import Evaluation
from fer_augment.progress import Evaluated
from fer_augment.recipe.recipe import load_recipe
from fer_augment.reports import run_progress
from fer_augment.reports.live_recall import live_recall
from fer_augment.reports.run_progress import RunProgress
from fer_augment.runs.experiment import PlannedRun

FACES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def point(epoch: int, *recall: float | None) -> Evaluation:
    losses = dict.fromkeys(("training_loss", "selection_loss", "validation_loss", "validation_accuracy"), 0.5)
    return Evaluation(epoch=epoch, step=epoch, validation_recall=recall, **losses)


def lines(latest: dict[str, dict[str, Evaluation]], class_names: tuple[str, ...], width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(live_recall(latest, class_names, width))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


def test_a_row_has_the_mean_of_the_runs_of_an_arm() -> None:
    latest = {
        "a": {"a0": point(5, 0.5, None, 1.0), "a1": point(10, 0.7, None, 0.9)},
        "b": {"b0": point(5, 0.1, 0.2, 0.3)},
    }
    _, heading, _, first, second = lines(latest, ("ant", "bee", "cat"))
    assert heading.split()[-3:] == ["ant", "bee", "cat"]
    assert first.split() == ["a", "2", "5–10", "78", "60", "-", "95"]
    assert second.split() == ["b", "1", "5", "20", "10", "20", "30"]


def test_seven_classes_fit_eighty_columns_and_more_are_summarized() -> None:
    shown = lines({"modern_balanced": {"r": point(5, *[0.5] * 7)}}, FACES)
    assert all(name in shown[1] for name in FACES) and max(map(len, shown)) <= 80
    names = tuple(f"class{number}" for number in range(40))
    shown = lines({"modern_balanced": {"r": point(5, *[0.5] * 39, 0.25)}}, names)
    assert shown[-1].split()[-2:] == ["class39", "25"] and max(map(len, shown)) <= 80


def test_runs_may_progress_while_the_table_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    run = PlannedRun(load_recipe("modern"), 0)
    progress = RunProgress([run], ("ant", "bee", "cat"))
    progress.latest["a"] = {"a0": point(5, 0.5, 0.5, 0.5)}

    def drawn(latest, *_):
        for arm, runs in latest.items():
            for name in runs:
                progress.latest[arm][f"{name}+"] = runs[name]
            progress.latest[f"{arm}+"] = {}
        return "table"

    monkeypatch.setattr(run_progress, "live_recall", drawn)
    assert list(progress._table()) == ["table"]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_it_is_shown_on_a_terminal_only(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=is_terminal, width=80, color_system=None)
    monkeypatch.setattr(run_progress, "messages", lambda quiet=False: console)
    run = PlannedRun(load_recipe("modern"), 0)
    with RunProgress([run], ("ant", "bee", "cat")) as progress:
        progress.started(run)
        progress.progressed(run, Evaluated(point(5, 0.123, 0.5, 0.5)))
        progress.bars.refresh()
        progress.ended(run, None)
    assert ("modern" in screen.getvalue() and " 12 " in screen.getvalue()) is is_terminal
