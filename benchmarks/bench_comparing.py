"""Comparisons: runs in several processes, and trainings shared between arms."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.samples import sample
from benchmarks.side_by_side import SideBySide, children_time
from fer_augment import Splits
from fer_augment.processes import cores
from fer_augment.progress import Event
from fer_augment.recipe.recipe import Recipe, load_recipes
from fer_augment.runs.executors import FailedTask, do_tasks
from fer_augment.runs.experiment import Experiment, PlannedRun, runs_in_order
from fer_augment.runs.recipe_data import RecipeData
from fer_augment.training.store import TrainingStore

pytestmark = pytest.mark.benchmark(timer=time.perf_counter)

ROWS, HELD_OUT = 2048, 256


class Comparing:
    """Does the runs of comparisons, each time with an empty cache."""

    def __init__(self, faces: Splits, folder: Path) -> None:
        self.splits = Splits(
            *(sample(faces.train, ROWS), sample(faces.validation, HELD_OUT), sample(faces.test, HELD_OUT)), "a sample"
        )
        self.folders = (folder / str(number) for number in itertools.count())

    def __call__(self, *groups: list[PlannedRun], jobs: int = 1) -> None:
        """Do groups of runs, each group with a cache of its own."""
        for runs in groups:
            folder = next(self.folders)
            experiment = Experiment(RecipeData.of(self.splits), TrainingStore(folder / "store"), folder / "runs")
            outcomes = do_tasks(experiment, runs, jobs, self)
            assert not [outcome for outcome in outcomes if isinstance(outcome, FailedTask)]

    def started(self, task: PlannedRun) -> None:
        """Ignore the event."""

    def progressed(self, task: PlannedRun, event: Event) -> None:
        """Ignore the event."""

    def ended(self, task: PlannedRun, outcome: object) -> None:
        """Ignore the event."""


@pytest.fixture
def comparing(faces: Splits, tmp_path: Path) -> Comparing:
    return Comparing(faces, tmp_path)


def recipes(*names: str, threads: int = 1, epochs: int = 2) -> list[Recipe]:
    return load_recipes(list(names), [f"training.epochs={epochs}", f"training.threads={threads}"])


def test_processes(side_by_side: SideBySide, comparing: Comparing) -> None:
    if cores() < 2:
        pytest.skip("requires two cores")
    side_by_side(
        "two arms with two seeds of ConvNet5, 2 epochs of 2,048 rows, in two processes",
        ours=lambda: comparing(runs_in_order(recipes("paper", "flip"), [0, 1]), jobs=2),
        theirs=lambda: comparing(runs_in_order(recipes("paper", "flip", threads=2), [0, 1]), jobs=1),
        alternative="the same runs sequentially with two threads",
        n=3,
    )


def test_shared_training_of_a_scout(side_by_side: SideBySide, comparing: Comparing) -> None:
    """The scout of the mining arm is the training of the baseline."""
    baseline, mining = ([run] for run in runs_in_order(recipes("paper", "confusion_mirror"), [0]))
    side_by_side(
        "`paper` and `confusion_mirror` in a comparison, 2 epochs of 2,048 rows",
        ours=lambda: comparing([*baseline, *mining]),
        theirs=lambda: comparing(baseline, mining),
        alternative="each with a cache of its own (1.5: saves one of three trainings)",
        n=3,
    )


def test_second_stage_of_training(side_by_side: SideBySide, comparing: Comparing) -> None:
    """The second stage starts from the network of the baseline."""
    settings = ["training.epochs=2", "model=convnet0"]
    baseline, refining = ([run] for run in runs_in_order(load_recipes(["modern", "modern_tau_norm"], settings), [0]))
    side_by_side(
        "`modern` and `modern_tau_norm` in a comparison, 2 epochs of 2,048 rows of convnet0",
        ours=lambda: comparing([*baseline, *refining]),
        theirs=lambda: comparing(baseline, refining),
        alternative="each with a cache of its own (2: saves one of two trainings)",
        n=3,
    )


@pytest.mark.benchmark(timer=children_time)
def test_finished_comparison(side_by_side: SideBySide, source: str, data_name: str, tmp_path: Path) -> None:
    """What remains is starting, reading the names in the archive, judging, and writing the report."""
    command = ["compare", "paper", "confusion_mirror", "--data", source, "--seeds", "2", "--jobs", "1",
               "--set", "model=convnet0", "--set", "training.epochs=1", "--out", str(tmp_path / "out")]  # fmt: skip

    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, "-c", *arguments], stdout=subprocess.DEVNULL, check=True)

    run("from fer_augment.cli import main; main()", *command)
    side_by_side(
        f"`fer-augment compare` of 2 finished arms with 2 seeds on {data_name}",
        ours=lambda: run("from fer_augment.cli import main; main()", *command),
        theirs=lambda: run("import torch"),
        alternative="`import torch`, as in any training script",
        at_most=3.0,
    )
