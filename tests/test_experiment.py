"""Runs: their files, predictions and reproducibility, the ledger, and the plan of a comparison."""

from pathlib import Path

import numpy as np
import pytest

from fer_augment import ImageDataset, Splits
from fer_augment.data.records import RunDirectory
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.binding import bind
from fer_augment.recipe.recipe import Recipe, load_recipes
from fer_augment.runs.executors import FailedTask, do_tasks
from fer_augment.runs.experiment import Experiment, PlannedRun, runs_in_order
from fer_augment.runs.finished_runs import FinishedRuns
from fer_augment.runs.plan import minutes_for, plan
from fer_augment.runs.recipe_data import RecipeData
from fer_augment.testing import tiny_dataset
from fer_augment.training.store import TrainingStore
from fer_augment.training.trainings import Trainings
from tests.test_executors import Recorder
from tests.tiny_training import tiny_splits

BASE = """
name: {name}
model: convnet4
training: {{epochs: 2, batch_size: 16, learning_rate: 0.01, precision: float32, evaluate_every: 1}}
strategies: [{strategies}]
"""
MIRROR = "confusion_mirror: {pairs: [[cat, bee]], predictions: in_sample}"
ADJUSTED = "./shifting.py:TowardsAnts: {by: 50.0}"
STRATEGIES = '''
import torch
from fer_augment import Strategy, StrategyError, hookimpl

class TowardsAnts(Strategy):
    """Raises the logit of the first class."""

    by: float = 1.0

    @hookimpl
    def build_adjustment(self, adjust, context):
        context.note("by", self.by)
        return lambda logits: adjust(logits) + self.by * torch.eye(logits.shape[1])[0]

class Undecided(Strategy):
    """Makes all logits equal."""

    @hookimpl
    def build_adjustment(self, adjust):
        return lambda logits: 0 * adjust(logits)

class Fails(Strategy):
    """Fails with some seeds."""

    @hookimpl
    def rewrite_training_set(self, training_set, context):
        if context.seed == 1:
            raise StrategyError("refused for seed 1")
        return training_set
'''


def splits_in(experiment: Experiment) -> Splits:
    return experiment.data.as_read(Recipe(name="any", model="any"))


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "shifting.py").write_text(STRATEGIES)

    def load(name: str, *strategies: str, overrides=()) -> Recipe:
        file = tmp_path / f"{name}.yaml"
        file.write_text(BASE.format(name=name, strategies=", ".join(f"{{{step}}}" for step in strategies)))
        (loaded,) = load_recipes([str(file)], overrides)
        return loaded

    return load


@pytest.fixture
def experiment(tmp_path):
    return Experiment(RecipeData.of(tiny_splits()), TrainingStore(tmp_path / "cache" / "trainings"), tmp_path / "runs")


def do_runs(experiment: Experiment, *recipes: Recipe, seeds=(0,), jobs=1) -> list[RunDirectory]:
    outcomes = do_tasks(experiment, runs_in_order(recipes, seeds), jobs, Recorder())
    directories = [RunDirectory(outcome) for outcome in outcomes if isinstance(outcome, Path)]
    assert len(directories) == len(outcomes), outcomes
    return directories


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.suffix == ".safetensors"}


class TestRun:
    def test_directory_has_record_recipe_predictions_provenance_and_weights(self, experiment, recipe):
        (run,) = do_runs(experiment, recipe("mirror", MIRROR), seeds=(3,))
        assert sorted(file.name for file in run.path.iterdir()) == [
            "SHA256SUMS",
            "examples.safetensors",
            "predictions.safetensors",
            "provenance.safetensors",
            "recipe.yaml",
            "record.json",
            "weights.safetensors",
        ]
        record = run.record
        assert (record.identity.recipe, record.identity.seed) == ("mirror", 3)
        assert run.path.name == f"seed-3-{record.identity.key[:12]}"
        assert record.train_counts == (10, 15, 24)
        (step,) = record.steps
        assert step.rows > 0
        assert record.rewritten_counts == (10, 15, 24 + step.rows)
        assert step.provider.startswith("fer_augment ")
        assert len(step.source) == 64
        assert record.environment["torch"].startswith("2.")
        assert record.environment["precision"] == "float32"
        assert any("under-report confusion" in warning for warning in record.warnings)
        assert load_recipes([str(run.path / "recipe.yaml")])[0].training == recipe("mirror", MIRROR).training

    def test_loss_is_that_of_the_saved_logits(self, experiment, recipe):
        (run,) = do_runs(experiment, recipe("plain"))
        predictions = run.predictions("test")
        assert predictions.logits.shape == (len(splits_in(experiment).test), 3)
        np.testing.assert_array_equal(predictions.labels, splits_in(experiment).test.labels)
        losses = -(predictions.logits - np.log(np.exp(predictions.logits).sum(axis=1, keepdims=True)))
        assert run.record.test_loss == pytest.approx(
            losses[np.arange(len(losses)), predictions.labels].mean(), rel=1e-5
        )

    def test_held_out_rows_with_a_duplicate_in_training_are_marked(self, tmp_path, recipe):
        train = tiny_dataset()
        held_out = ImageDataset.from_arrays(
            np.concatenate([train.images[[4, 7]], 255 - train.images[[4]]]), train.labels[[4, 7, 4]], train.class_names
        )
        store = TrainingStore(tmp_path / "cache" / "trainings")
        experiment = Experiment(RecipeData.of(Splits(train, held_out, held_out, "leaky")), store, tmp_path / "runs")
        kept, dropped = (
            do_runs(experiment, recipe(name, overrides=[f"data.held_out_duplicates={name}"]))[0]
            for name in ("keep", "drop")
        )
        for run in (kept, dropped):
            np.testing.assert_array_equal(run.predictions("test").in_train, [True, True, False])
        assert sum(kept.record.train_counts) - sum(dropped.record.train_counts) >= 2
        assert kept.record.data_fingerprint != dropped.record.data_fingerprint

    def test_adjustment_changes_predictions_without_training(self, experiment, recipe):
        plain, adjusted = do_runs(experiment, recipe("plain"), recipe("adjusted", ADJUSTED))
        assert plain.record.training_key == adjusted.record.training_key
        assert plain.record.training_seconds is not None
        assert adjusted.record.training_seconds is None
        expected = plain.predictions("test").logits + np.array([50, 0, 0], np.float32)
        np.testing.assert_allclose(adjusted.predictions("test").logits, expected, rtol=1e-6)
        assert plain.record.identity.key != adjusted.record.identity.key
        assert [step.chosen for step in adjusted.record.steps] == [{"by": 50.0}]

    def test_ties_are_broken_at_random_for_each_row(self, tmp_path, recipe):
        data, few = tiny_dataset(), tiny_splits()
        many, undecided = (
            data.take(np.tile(np.arange(len(data)), 20)),
            recipe("undecided", "./shifting.py:Undecided: {}"),
        )
        logits = []
        for name, test in (("original", many), ("reversed", many.take(np.arange(len(many))[::-1]))):
            splits = Splits(few.train, few.validation, test, name)
            experiment = Experiment(
                RecipeData.of(splits), TrainingStore(tmp_path / name / "trainings"), tmp_path / name
            )
            logits += [run.predictions("test").logits for run in do_runs(experiment, undecided, seeds=(0, 1))]
        for logits_NK in logits:
            np.testing.assert_allclose(logits_NK, 0, atol=1e-44)
            counts = np.bincount(logits_NK.argmax(axis=1), minlength=3)
            np.testing.assert_allclose(counts / len(many), 1 / 3, atol=0.06)
        assert (logits[0].argmax(axis=1) != logits[1].argmax(axis=1)).mean() > 0.5
        np.testing.assert_array_equal(logits[2][::-1], logits[0])


class TestRuns:
    def test_files_are_identical_for_any_number_of_processes(self, tmp_path, recipe):
        recipes, seeds = (recipe("plain"), recipe("mirror", MIRROR)), (0, 1)
        files = []
        for jobs in (1, 2):
            folder = tmp_path / str(jobs)
            experiment = Experiment(RecipeData.of(tiny_splits()), TrainingStore(folder / "trainings"), folder / "runs")
            files.append([contents(run.path) for run in do_runs(experiment, *recipes, seeds=seeds, jobs=jobs)])
        assert files[0] == files[1]

    def test_finished_run_is_cached(self, experiment, recipe):
        (first,) = do_runs(experiment, recipe("plain"))
        changed = first.path.stat().st_mtime_ns
        (again,) = do_runs(experiment, recipe("plain"))
        assert again.path == first.path
        assert again.path.stat().st_mtime_ns == changed

    def test_changed_recipe_or_strategy_file_gives_a_new_run(self, experiment, recipe, tmp_path):
        (first,) = do_runs(experiment, recipe("adjusted", ADJUSTED))
        (longer,) = do_runs(experiment, recipe("adjusted", ADJUSTED, overrides=["training.epochs=3"]))
        with (tmp_path / "shifting.py").open("a") as file:
            file.write("# edited\n")
        (edited,) = do_runs(experiment, recipe("adjusted", ADJUSTED))
        assert len({first.path, longer.path, edited.path}) == 3

    def test_failed_run_does_not_affect_others(self, experiment, recipe):
        arms = [recipe("plain"), recipe("failing", "./shifting.py:Fails: {}")]
        outcomes = do_tasks(experiment, runs_in_order(arms, [0, 1]), 1, Recorder())
        assert [isinstance(outcome, FailedTask) for outcome in outcomes] == [False, False, False, True]
        assert outcomes[3].message == "step 1 (fails), rewrite_training_set: refused for seed 1"

    def test_recipes_are_counted_in_the_ledger_of_the_test_split(self, experiment, recipe):
        assert experiment.ledger.count(splits_in(experiment).test.fingerprint) == 0
        do_runs(experiment, recipe("plain"), recipe("mirror", MIRROR), seeds=(0, 1))
        assert experiment.ledger.count(splits_in(experiment).test.fingerprint) == 2
        do_runs(experiment, recipe("renamed"))
        assert experiment.ledger.count(splits_in(experiment).test.fingerprint) == 2


class TestPlan:
    def test_lists_distinct_trainings_and_whether_they_are_cached(self, experiment, recipe):
        arms = [recipe("plain"), recipe("mirror", MIRROR), recipe("adjusted", ADJUSTED)]
        runs = runs_in_order(arms, [0, 1])
        before = plan(runs, experiment, FinishedRuns.among(runs, experiment)).trainings
        assert [one.needed.name for one in before] == ["plain", "plain", "mirror", "mirror"]
        assert before[0].runs == ("plain, seed 0", "mirror, seed 0", "adjusted, seed 0")
        assert not any(one.is_stored for one in before)
        do_tasks(experiment, runs, 1, Recorder())
        assert {path.name for path in experiment.store.root.iterdir()} == {one.needed.key for one in before}
        assert not plan(runs, experiment, FinishedRuns.among(runs, experiment)).missing

    def test_estimates_minutes(self, experiment, recipe):
        bound = bind(recipe("plain"), installed_plugins())
        assert 0 < minutes_for(Trainings(splits_in(experiment), 0, experiment.store).of(bound)) < 5


def test_planned_run_is_displayed_with_recipe_and_seed(recipe):
    assert str(PlannedRun(recipe("plain"), 7)) == "plain, seed 7"
