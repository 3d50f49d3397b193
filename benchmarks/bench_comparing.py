"""Comparing: the runs of a comparison in several processes, and what arms need not train again."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from benchmarks.samples import sample
from benchmarks.side_by_side import SideBySide
from fer_augment import Splits
from fer_augment.progress import Event
from fer_augment.recipe.recipe import Recipe, load_recipes
from fer_augment.runs.executors import FailedTask, cores, do_tasks
from fer_augment.runs.experiment import Experiment, PlannedRun, runs_in_order
from fer_augment.training.store import TrainingStore

pytestmark = pytest.mark.benchmark(timer=time.perf_counter)

ROWS, HELD_OUT = 2048, 256


class Comparing:
    """Does the runs of comparisons, each time as if nothing had been trained before."""

    def __init__(self, faces: Splits, folder: Path) -> None:
        self.splits = Splits(
            *(sample(faces.train, ROWS), sample(faces.validation, HELD_OUT), sample(faces.test, HELD_OUT)), "a sample"
        )
        self.folders = (folder / str(number) for number in itertools.count())

    def __call__(self, *groups: list[PlannedRun], jobs: int = 1) -> None:
        """Do groups of runs; what one group trained, the next does not find."""
        for runs in groups:
            folder = next(self.folders)
            experiment = Experiment(self.splits, TrainingStore(folder / "store"), folder / "runs")
            outcomes = do_tasks(experiment, runs, jobs, self)
            assert not [outcome for outcome in outcomes if isinstance(outcome, FailedTask)]

    def started(self, task: PlannedRun) -> None:
        """Show nothing."""

    def progressed(self, task: PlannedRun, event: Event) -> None:
        """Show nothing."""

    def ended(self, task: PlannedRun, outcome: object) -> None:
        """Show nothing."""


@pytest.fixture
def comparing(faces: Splits, tmp_path: Path) -> Comparing:
    return Comparing(faces, tmp_path)


def recipes(*names: str, threads: int = 1, epochs: int = 2) -> list[Recipe]:
    return load_recipes(list(names), [f"training.epochs={epochs}", f"training.threads={threads}"])


def test_processes(side_by_side: SideBySide, comparing: Comparing) -> None:
    if cores() < 2:
        pytest.skip("there is one core: nothing runs beside anything")
    side_by_side(
        "two arms of two seeds of ConvNet5, 2 epochs of 2,048 rows, on two cores",
        ours=lambda: comparing(runs_in_order(recipes("paper", "flip"), [0, 1]), jobs=2),
        peer=lambda: comparing(runs_in_order(recipes("paper", "flip", threads=2), [0, 1]), jobs=1),
        peer_is="the same runs one after another with two threads",
        n=3,
    )


def test_a_mining_arm(side_by_side: SideBySide, comparing: Comparing) -> None:
    """Its scout is the baseline's training."""
    baseline, mining = ([run] for run in runs_in_order(recipes("paper", "confusion_mirror"), [0]))
    side_by_side(
        "`paper` and `confusion_mirror` in a comparison, 2 epochs of 2,048 rows",
        ours=lambda: comparing([*baseline, *mining]),
        peer=lambda: comparing(baseline, mining),
        peer_is="both by themselves (1.5: one training of three is saved)",
        n=3,
    )


def test_a_second_stage(side_by_side: SideBySide, comparing: Comparing) -> None:
    """It begins with the baseline's network."""
    settings = ["training.epochs=2", "model=convnet0"]
    baseline, refining = ([run] for run in runs_in_order(load_recipes(["modern", "modern_tau_norm"], settings), [0]))
    side_by_side(
        "`modern` and `modern_tau_norm` in a comparison, 2 epochs of 2,048 rows of convnet0",
        ours=lambda: comparing([*baseline, *refining]),
        peer=lambda: comparing(baseline, refining),
        peer_is="both by themselves (2: one training of two is saved)",
        n=3,
    )
