"""Tasks of a comparison: scouts and first stages before the runs, each once, with the same results."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import fer_augment as fa
from fer_augment.progress import Advance
from fer_augment.recipe.recipe import Recipe, load_recipes
from fer_augment.runs.executors import FailedTask, do_tasks
from fer_augment.runs.experiment import Experiment, PlannedRun, runs_in_order
from fer_augment.runs.finished_runs import FinishedRuns
from fer_augment.runs.plan import Plan, plan
from fer_augment.runs.recipe_data import RecipeData
from fer_augment.training.store import TrainingStore
from fer_augment.training.trainings import RecipeTrainings
from tests.test_executors import Recorder
from tests.tiny_training import tiny_splits

BASE = """
name: {name}
model: vgg_tiny
training: {{epochs: 2, batch_size: 16, learning_rate: 0.01, precision: float32, scout: {{folds: 2}}}}
strategies: [{steps}]
"""
STRATEGIES = '''
from pathlib import Path
import numpy as np
from fer_augment import Effect, Strategy, hookimpl

class Mines(Strategy):
    """Adds the rows with a small probability of their class again."""

    above: float = 0.0
    how: str = "out_of_fold"

    @property
    def effects(self):
        return Effect.OUT_OF_FOLD_MINING if self.how == "out_of_fold" else Effect.IN_SAMPLE_MINING

    @hookimpl
    def rewrite_training_set(self, training_set, context):
        probabilities = context.scout.probabilities(training_set, how=self.how)
        own = probabilities[np.arange(len(training_set)), training_set.labels]
        rows = np.flatnonzero(own > self.above)[:5]
        return training_set.append(training_set.images[rows], parents=rows)

class Breaks(Strategy):
    """Fails wherever it is part of a scout."""

    @hookimpl
    def rewrite_training_set(self, training_set):
        raise ValueError("broken rows")
'''
OUT_OF_FOLD, IN_SAMPLE = "./mining.py:Mines: {}", "./mining.py:Mines: {how: in_sample}"


@pytest.fixture
def arms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Recipe]:
    monkeypatch.chdir(tmp_path)
    Path("mining.py").write_text(STRATEGIES)
    steps = {
        "plain": [],
        "in_sample": [IN_SAMPLE],
        "mined": [OUT_OF_FOLD],
        "mined_other": ["./mining.py:Mines: {above: 0.3}"],
        "nested": [OUT_OF_FOLD, OUT_OF_FOLD],
        "refined": ["tau_norm: {}"],
        "refined_more": ["tau_norm: {tau: 0.5}"],
        "broken": ["./mining.py:Breaks: {}", OUT_OF_FOLD],
        "sampled": ["power_sampler: {}"],
        "sharp": ["sam: {}"],
        "sharper": ["sam: {rho: 0.1}"],
        "sharp_tail": ["imb_sam: {}"],
        "sharp_short_tail": ["imb_sam: {tail_below: 5}"],
        "flipped": ["flip_crop_affine: {}"],
    }
    for name, listed in steps.items():
        text = BASE.format(name=name, steps=", ".join(f"{{{step}}}" for step in listed))
        Path(f"{name}.yaml").write_text(text)
    return {recipe.name: recipe for recipe in load_recipes([f"{name}.yaml" for name in steps])}


def experiment_in(folder: Path) -> Experiment:
    return Experiment(RecipeData.of(tiny_splits()), TrainingStore(folder / "trainings"), folder / "runs")


def planned(experiment: Experiment, *recipes: Recipe, seeds: tuple[int, ...] = (0,)) -> tuple[list[PlannedRun], Plan]:
    runs = runs_in_order(recipes, seeds)
    return runs, plan(runs, experiment, FinishedRuns.among(runs, experiment))


def names(of: Plan) -> list[tuple[str, list[int]]]:
    return [(str(one.task), sorted(one.waits)) for one in of.tasks]


def done(experiment: Experiment, of: Plan, jobs: int) -> list[Path | FailedTask]:
    return do_tasks(experiment, [one.task for one in of.tasks], jobs, Recorder(), waits=of.waits)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.safetensors")}


def test_scouts_of_two_arms_are_tasks_and_trained_once(arms: dict[str, Recipe], tmp_path: Path) -> None:
    _, of = planned(experiment_in(tmp_path), arms["mined"], arms["mined_other"])
    assert names(of) == [
        ("scout of mines, fold 1 of 2 (mined, seed 0)", []),
        ("scout of mines, fold 2 of 2 (mined, seed 0)", []),
        ("mined, seed 0", [0, 1]),
        ("mined_other, seed 0", [0, 1]),
    ]


def test_the_baseline_is_the_scout_of_other_arms(arms: dict[str, Recipe], tmp_path: Path) -> None:
    _, of = planned(experiment_in(tmp_path), arms["in_sample"], arms["plain"], seeds=(0, 1))
    expected = [("in_sample, seed 0", [2]), ("in_sample, seed 1", [3]), ("plain, seed 0", []), ("plain, seed 1", [])]
    assert names(of) == expected


def test_scouts_of_a_second_mining_step_wait_for_those_of_the_first(arms: dict[str, Recipe], tmp_path: Path) -> None:
    _, of = planned(experiment_in(tmp_path), arms["nested"])
    assert names(of) == [
        ("scout of mines, fold 1 of 2 (nested, seed 0)", []),
        ("scout of mines, fold 2 of 2 (nested, seed 0)", []),
        ("scout of mines (step 2), fold 1 of 2 (nested, seed 0)", [0, 1]),
        ("scout of mines (step 2), fold 2 of 2 (nested, seed 0)", [0, 1]),
        ("nested, seed 0", [0, 1, 2, 3]),
    ]


def test_a_first_stage_is_a_task_if_several_second_stages_start_from_it(
    arms: dict[str, Recipe], tmp_path: Path
) -> None:
    experiment = experiment_in(tmp_path)
    assert names(planned(experiment, arms["refined"])[1]) == [("refined, seed 0", [])]
    _, of = planned(experiment, arms["refined"], arms["refined_more"])
    expected = [("first stage (refined, seed 0)", []), ("refined, seed 0", [0]), ("refined_more, seed 0", [0])]
    assert names(of) == expected
    _, of = planned(experiment, arms["plain"], arms["refined"], arms["refined_more"])
    assert names(of) == [("plain, seed 0", []), ("refined, seed 0", [0]), ("refined_more, seed 0", [0])]


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_are_those_of_runs_that_train_their_scouts_themselves(
    jobs: int, arms: dict[str, Recipe], tmp_path: Path
) -> None:
    recipes = [arms[name] for name in ("plain", "in_sample", "mined", "nested", "refined", "refined_more")]
    alone, together = experiment_in(tmp_path / "alone"), experiment_in(tmp_path / "together")
    do_tasks(alone, runs_in_order(recipes, [0]), 1, Recorder())
    _, of = planned(together, *recipes)
    outcomes = done(together, of, jobs)
    assert not [outcome for outcome in outcomes if isinstance(outcome, FailedTask)]
    assert contents(together.folder) == contents(alone.folder)
    assert contents(together.store.root) == contents(alone.store.root), "the same trainings, each once"


def test_only_what_is_missing_is_planned(arms: dict[str, Recipe], tmp_path: Path) -> None:
    experiment = experiment_in(tmp_path)
    (run,), of = planned(experiment, arms["mined"])
    done(experiment, of, 1)
    runs = contents(experiment.folder)
    assert planned(experiment, arms["mined"])[1].tasks == ()
    shutil.rmtree(experiment.folder)
    scouts, own = of.trainings[:2], of.trainings[-1].needed.key
    shutil.rmtree(experiment.store.root / scouts[0].needed.key)
    _, again = planned(experiment, arms["mined"])
    assert names(again) == [(str(run), [])] and not again.missing, "its own training is cached and needs no scout"
    shutil.rmtree(experiment.store.root / own)
    _, again = planned(experiment, arms["mined"])
    assert names(again) == [("scout of mines, fold 1 of 2 (mined, seed 0)", []), (str(run), [0])]
    done(experiment, again, 1)
    assert contents(experiment.folder) == runs


def test_a_run_meets_the_failure_of_its_scout_itself(arms: dict[str, Recipe], tmp_path: Path) -> None:
    experiment = experiment_in(tmp_path)
    _, of = planned(experiment, arms["plain"], arms["broken"])
    outcomes = dict(zip((str(one.task) for one in of.tasks), done(experiment, of, 1), strict=True))
    assert isinstance(outcomes["plain, seed 0"], Path)
    failed = outcomes["broken, seed 0"]
    assert isinstance(failed, FailedTask)
    assert failed.message == "step 1 (breaks), rewrite_training_set: ValueError: broken rows (mining.py, line 28)"


def test_the_estimate_follows_the_order(
    arms: dict[str, Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the rows are a fold, and an epoch of all of them takes a minute."""
    monkeypatch.setattr("fer_augment.runs.plan.minutes_for", lambda recipe: float(recipe.settings.epochs))
    experiment = experiment_in(tmp_path)
    _, of = planned(experiment, arms["plain"], arms["mined"])
    assert [of.minutes(jobs) for jobs in (1, 2, 3)] == [2 + 2 * 2 + 2, 2 + 2, 2 + 2]
    by_rows = [arm.model_copy(update={"training": arm.training.model_copy(update={"budget": "epochs"})})
               for arm in (arms["plain"], arms["mined"])]  # fmt: skip
    assert planned(experiment, *by_rows)[1].minutes(1) == 2 + 2 * 1 + 2


def test_the_estimate_times_each_kind_of_optimizer_step_once(
    arms: dict[str, Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of sharpness-aware minimization takes two minutes, any other takes one; an epoch has one step."""
    timed: list[str] = []

    def minutes_for(recipe: RecipeTrainings) -> float:
        timed.append(recipe.bound.recipe.name)
        passes = 2 if "sam" in [step.name for step in recipe.bound.steps] else 1
        return float(passes * recipe.settings.epochs)

    monkeypatch.setattr("fer_augment.runs.plan.minutes_for", minutes_for)
    minutes = {"plain": 2, "sampled": 2, "mined": 2 * 2 + 2, "sharp": 4, "sharper": 4, "sharp_tail": 2}
    minutes |= {"sharp_short_tail": 2, "flipped": 2}
    _, of = planned(experiment_in(tmp_path), *(arms[name] for name in minutes), seeds=(0, 1))
    assert of.minutes(1) == 2 * sum(minutes.values())
    assert timed == ["plain", "sharp", "sharp_tail", "sharp_short_tail", "flipped"]


def test_progress_of_a_scout_measures_its_task(arms: dict[str, Recipe], tmp_path: Path) -> None:
    experiment, recorder = experiment_in(tmp_path), Recorder()
    _, of = planned(experiment, arms["mined"])
    do_tasks(experiment, [one.task for one in of.tasks], 1, recorder, waits=of.waits)
    scout = of.tasks[0].task
    events = [event[2] for event in recorder.events if event[0] == "progressed" and event[1] == scout]
    advances = [event for event in events if isinstance(event, Advance)]
    assert advances and all(event.measures_run for event in advances)


def test_a_single_run_does_its_scouts_at_the_same_time(arms: dict[str, Recipe], tmp_path: Path) -> None:
    run = fa.run(arms["mined"], tiny_splits(), out=tmp_path / "out", progress=False)
    alone = experiment_in(tmp_path / "alone")
    (path,) = do_tasks(alone, [PlannedRun(arms["mined"], 0)], 1, Recorder())
    assert isinstance(path, Path)
    assert contents(run.path) == contents(path)
