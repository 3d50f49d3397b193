"""Trainings: scouts, training keys, the store, second stages."""

import functools
import json
import multiprocessing
import shutil
import time
import warnings
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from filelock import FileLock
from pydantic import Field
from safetensors.numpy import load_file

import fer_augment.training.trainings
from fer_augment import (
    ClassName,
    Effect,
    ImageDataset,
    Model,
    RunError,
    Splits,
    Strategy,
    StrategyError,
    StrategyWarning,
    hookimpl,
)
from fer_augment.data import audit_store
from fer_augment.data.dataset import SourceRows
from fer_augment.hooks.pipeline import steps_of
from fer_augment.metrics import softmax
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.recipe.recipe import Recipe, ScoutSettings, TrainingSettings
from fer_augment.resampling import make_strategy
from fer_augment.training import code_digests, keys
from fer_augment.training.folds import folds_of
from fer_augment.training.keys import run_key, source_digest, step_identity, training_key
from fer_augment.training.needed import needed_trainings
from fer_augment.training.prediction import predict
from fer_augment.training.store import StoredTraining, TrainingStore, default_store
from fer_augment.training.trainer import train
from fer_augment.training.trainings import Trainings
from tests.tiny_training import LOSS, MODEL, same_bits, tiny_convnet, tiny_splits

SETTINGS = TrainingSettings(
    epochs=2, batch_size=16, precision="float32", learning_rate=0.01, scout=ScoutSettings(folds=3)
)


class RecordsPredictions(Strategy):
    """Changes nothing and records the predictions of its scout."""

    how: str = "in_sample"
    predictions: ClassVar[list[np.ndarray]] = []

    @property
    def effects(self):
        return Effect.IN_SAMPLE_MINING if self.how == "in_sample" else Effect.OUT_OF_FOLD_MINING

    @hookimpl
    def rewrite_training_set(self, training_set, context):
        self.predictions.append(context.scout.probabilities(training_set, self.how))
        return training_set


class Repeats(Strategy):
    """Repeats the rows of some classes."""

    classes: list[ClassName] = [ClassName("ant")]

    @hookimpl
    def rewrite_training_set(self, training_set):
        return training_set.take(np.r_[np.arange(len(training_set)), training_set.rows_of(self.classes)])


class Blends(Strategy):
    """Appends blends of neighboring rows, which descend from two source rows."""

    @hookimpl
    def rewrite_training_set(self, training_set):
        parents = np.stack([np.arange(0, 40), np.arange(1, 41)], axis=1)
        blended = training_set.images[parents.ravel()].reshape(40, 2, *training_set.image_shape).mean(axis=1)
        return training_set.append(blended.astype(np.uint8), parents=parents)


class Shifts(Strategy):
    """Acts on predictions only."""

    by: float = 1.0

    @hookimpl
    def build_adjustment(self, adjust):
        return lambda logits: adjust(logits) + self.by


class ShiftsOrWeights(Shifts):
    """Acts on predictions, and in training if `trains` is set."""

    trains: bool

    @property
    def idle_at(self):
        return () if self.trains else ["sampling_weights"]

    @hookimpl
    def sampling_weights(self, weights):
        return weights * 2


def bound(*strategies: Strategy, settings: TrainingSettings = SETTINGS, name: str = "r") -> BoundRecipe:
    recipe = Recipe(name=name, model="tiny_convnet", training=settings)
    return BoundRecipe(recipe, steps_of(strategies), MODEL, LOSS, ())


@pytest.fixture
def trainings(tmp_path):
    return Trainings(tiny_splits(), 0, TrainingStore(tmp_path / "store"))


def splits_of_images(distinct: int) -> Splits:
    """Return 18 training rows with few distinct images."""
    images = np.random.default_rng(0).integers(0, 256, (distinct, 8, 8), dtype=np.uint8)
    rows = np.arange(18) % distinct
    part = ImageDataset.from_arrays(images[rows], np.arange(18) % 3, ("ant", "bee", "cat"))
    return Splits(part, part.take([0, 1, 2]), part.take([0, 1, 2]), "few")


def stored_keys(trainings: Trainings) -> set[str]:
    return {path.name for path in trainings.store.root.iterdir()}


def test_each_step_that_rewrites_is_reported_before_it_does(tmp_path):
    events: list[Any] = []
    trainings = Trainings(tiny_splits(), 0, TrainingStore(tmp_path), report=events.append)
    _ = trainings.of(bound(Repeats(), Shifts(), Blends())).rewritten
    activities = [event.activity for event in events]
    assert activities == ["rewriting the training set, step 1 (repeats)", "rewriting the training set, step 3 (blends)"]


def test_steps_of_both_stages_are_not_all_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(fer_augment.training.trainings, "SECONDS_BETWEEN_REPORTS", 1e9)
    events: list[Any] = []
    trainings = Trainings(tiny_splits(), 0, TrainingStore(tmp_path), report=events.append)
    trainings.of(bound(HeadAgain(epochs=3))).trained()
    second = [(event.done, event.total) for event in events if event.activity == "training, second stage"]
    first = [(event.done, event.total) for event in events if event.activity != "training, second stage"]
    for of_stage in (first, second):
        total = of_stage[-1][1]
        assert total > 3 and of_stage == [(0, 1), (1, total), (total, total)]


class TestScout:
    def test_shares_the_training_of_the_recipe_without_later_steps(self, trainings):
        baseline = trainings.of(bound()).trained()
        trainings.of(bound(RecordsPredictions(), name="mining")).trained()
        assert len(stored_keys(trainings)) == 2
        assert trainings.of(bound()).trained().was_reused
        assert baseline.path.name in stored_keys(trainings)

    def test_in_sample_predictions_are_those_of_that_training(self, trainings):
        step = RecordsPredictions()
        _ = trainings.of(bound(step)).rewritten
        network = trainings.of(bound()).network(trainings.of(bound()).trained())
        expected = softmax(predict(network, trainings.splits.train, SETTINGS)).astype(np.float32)
        np.testing.assert_array_equal(step.predictions[-1], expected)

    def test_scout_of_a_later_step_is_trained_with_earlier_steps(self, trainings):
        _ = trainings.of(bound(Repeats(), RecordsPredictions())).rewritten
        assert stored_keys(trainings) == {training_key(bound(Repeats()), 0, trainings.splits)}

    def test_number_of_epochs_can_be_set(self, trainings):
        settings = SETTINGS.model_copy(update={"scout": ScoutSettings(folds=3, epochs=1)})
        _ = trainings.of(bound(RecordsPredictions(), settings=settings)).rewritten
        shorter = bound(settings=SETTINGS.model_copy(update={"epochs": 1}))
        assert stored_keys(trainings) == {training_key(shorter, 0, trainings.splits)}

    def test_out_of_fold_predictions_are_of_rows_not_trained_on(self, tmp_path):
        """A network can memorize noise images with random labels, but not generalize to others."""
        rng = np.random.default_rng(0)
        images, labels = rng.integers(0, 256, (90, 8, 8)).astype(np.uint8), rng.permutation(np.arange(90) % 3)
        part = ImageDataset.from_arrays(images, labels, ("ant", "bee", "cat"))
        splits = Splits(part, part.take(np.arange(9)), part.take(np.arange(9)), "noise")
        trainings = Trainings(splits, 0, TrainingStore(tmp_path))
        settings = SETTINGS.model_copy(update={"epochs": 60})
        accuracy = {}
        for how in ("in_sample", "out_of_fold"):
            step = RecordsPredictions(how=how)
            _ = trainings.of(bound(step, settings=settings)).rewritten
            accuracy[how] = (step.predictions[-1].argmax(axis=1) == labels).mean()
        assert accuracy["in_sample"] > 0.95
        assert accuracy["out_of_fold"] < 0.55  # chance is one third

    def test_out_of_fold_is_nan_for_rows_whose_sources_span_folds(self, trainings):
        step = RecordsPredictions(how="out_of_fold")
        rewritten = trainings.of(bound(Blends(), step)).rewritten
        folds = folds_of(rewritten, trainings.splits.train, 3, trainings.seed)
        spans = (folds[:, 1] >= 0) & (folds[:, 0] != folds[:, 1])
        assert 0 < spans.sum() < 40
        np.testing.assert_array_equal(np.isnan(step.predictions[-1]).any(axis=1), spans)

    def test_exact_duplicates_and_copies_are_in_one_fold(self, trainings):
        data = trainings.splits.train
        folds = folds_of(data, trainings.splits.train, 3, trainings.seed)[:, 0]
        for digest in np.unique(data.digests):
            assert len(set(folds[data.digests == digest])) == 1
        assert len(data.digests) > len(np.unique(data.digests))
        repeated = trainings.of(bound(Repeats())).rewritten
        fold_of = dict(zip(data.origin.tolist(), folds.tolist(), strict=True))
        expected = [fold_of[origin] for origin in repeated.origin.tolist()]
        np.testing.assert_array_equal(folds_of(repeated, trainings.splits.train, 3, trainings.seed)[:, 0], expected)

    def test_folds_without_rows_are_not_trained(self, tmp_path):
        """There are two distinct images, so two of three folds have rows."""
        settings = SETTINGS.model_copy(update={"epochs": 1})
        trainings = Trainings(splits_of_images(2), 0, TrainingStore(tmp_path))
        step = RecordsPredictions(how="out_of_fold")
        recipe = trainings.of(bound(step, settings=settings))
        assert [needed.fold.number for needed in needed_trainings(recipe) if needed.fold] == [0, 1]
        _ = recipe.rewritten
        assert np.isfinite(step.predictions[-1]).all() and len(stored_keys(trainings)) == 2

    def test_out_of_fold_predictions_of_a_single_group_are_refused_before_training(self, tmp_path):
        trainings = Trainings(splits_of_images(1), 0, TrainingStore(tmp_path))
        recipe = trainings.of(bound(RecordsPredictions(how="out_of_fold")))
        for attempt in (lambda: needed_trainings(recipe), lambda: recipe.rewritten):
            with pytest.raises(StrategyError, match=r"step 1 \(records_predictions\).*require at least two groups"):
                attempt()
        assert not trainings.store.root.exists() or not stored_keys(trainings)

    def test_predictions_that_a_strategy_does_not_declare_are_refused_before_any_training(self, trainings):
        class Hides(RecordsPredictions):
            """Queries a scout without declaring it."""

            @property
            def effects(self):
                return Effect(0)

        for how, effect in (("in_sample", "IN_SAMPLE_MINING"), ("out_of_fold", "OUT_OF_FOLD_MINING")):
            with pytest.raises(StrategyError, match=rf"step 1 \(hides\), .*does not declare it; add Effect.{effect}"):
                _ = trainings.of(bound(Hides(how=how))).rewritten
        assert not trainings.store.root.exists() or not stored_keys(trainings)

    def test_embeddings_are_the_outputs_of_features(self, trainings):
        class Embeds(Strategy):
            """Records embeddings."""

            embeddings: ClassVar[list[np.ndarray]] = []

            @property
            def effects(self):
                return Effect.ASKS_FOR_EMBEDDINGS

            @hookimpl
            def rewrite_training_set(self, training_set, context):
                self.embeddings.append(context.scout.embeddings(training_set))
                return training_set

        step = Embeds()
        _ = trainings.of(bound(step)).rewritten
        assert step.embeddings[-1].shape == (49, 4 * 8 * 7)
        assert step.embeddings[-1].dtype == np.float32

    def test_embeddings_of_a_network_without_features_are_refused_before_training(self, trainings):
        class Embeds(Strategy):
            """Queries embeddings."""

            @property
            def effects(self):
                return Effect.ASKS_FOR_EMBEDDINGS

            @hookimpl
            def rewrite_training_set(self, training_set, context):
                context.scout.embeddings(training_set)
                return training_set

        def featureless(shape: tuple[int, int, int], classes: int):
            return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(shape[0] * shape[1] * shape[2], classes))

        recipe = replace(bound(Embeds()), model=Model("featureless", "", featureless))
        with pytest.raises(StrategyError, match=r"step 1 \(embeds\), .* and featureless has no such module"):
            _ = trainings.of(recipe).rewritten
        assert not trainings.store.root.exists()


class TestTrainingKey:
    BASE = staticmethod(lambda **changes: training_key(changes.pop("of", bound()), **{**_GIVEN, **changes}))

    def test_names_and_prediction_steps_do_not_matter(self):
        assert self.BASE() == self.BASE(of=bound(name="other"))
        assert self.BASE() == self.BASE(of=bound(Shifts()))

    def test_differs_with_data_settings_seed_and_steps(self):
        settings = [
            SETTINGS.model_copy(update=change)
            for change in ({"epochs": 3}, {"threads": 2}, {"learning_rate": 0.02}, {"precision": "bfloat16"})
        ]
        other_data = replace(_GIVEN["splits"], train=_GIVEN["splits"].train.take(np.arange(48)))
        keys = [
            self.BASE(),
            self.BASE(seed=1),
            self.BASE(splits=other_data),
            self.BASE(part="without fold 1 of 3"),
            self.BASE(of=bound(Repeats())),
            self.BASE(of=bound(Repeats(classes=["bee"]))),
            self.BASE(of=bound(Repeats(), Repeats())),
            *(self.BASE(of=bound(settings=changed)) for changed in settings),
        ]
        assert len(set(keys)) == len(keys)

    def test_scout_settings_matter_only_with_a_mining_step(self):
        other = SETTINGS.model_copy(update={"scout": ScoutSettings(folds=7)})
        assert self.BASE() == self.BASE(of=bound(settings=other))
        assert self.BASE(of=bound(RecordsPredictions())) != self.BASE(of=bound(RecordsPredictions(), settings=other))

    def test_classes_without_a_source_file_have_different_keys(self):
        namespace: dict[str, Any] = {"Strategy": Strategy, "hookimpl": hookimpl, "__name__": "interactive"}
        code = "class Interactive(Strategy):\n    @hookimpl\n    def rewrite_training_set(self, training_set):\n"
        classes = []
        for body in ("return training_set", "return training_set.take([0])"):
            exec(f"{code}        {body}\n", namespace)
            classes.append(namespace["Interactive"])
        first, second = (self.BASE(of=bound(strategy_class())) for strategy_class in classes)
        assert first != second
        assert first == self.BASE(of=bound(classes[0]()))

    def test_the_order_of_a_mapping_matters(self):
        first, second = Named(numbers={"a": 1.0, "b": 2.0}), Named(numbers={"b": 2.0, "a": 1.0})
        assert self.BASE(of=bound(first)) != self.BASE(of=bound(second))

    def test_the_order_of_a_set_does_not_matter(self):
        step = replace(bound(Named(names={"a", "b", "c"})).steps[0])
        assert json.loads(step_identity(step)["parameters"])["names"] == ["a", "b", "c"]

    def test_fields_that_are_not_dumped_matter(self):
        assert self.BASE(of=bound(Named(hidden=1))) != self.BASE(of=bound(Named(hidden=2)))

    def test_arguments_of_a_partial_function_matter(self):
        halves, thirds, same = (functools.partial(round, ndigits=digits) for digits in (2, 3, 2))
        assert source_digest(halves) == source_digest(same) != source_digest(thirds)

    @pytest.mark.parametrize(("how", "count"), [("out_of_fold", 3), ("in_sample", 1)])
    def test_near_duplicates_are_part_of_keys_where_folds_keep_them_together(self, how, count):
        splits, keys = tiny_splits(), set[str]()
        for near in (None, np.arange(49), np.arange(49) // 2):
            train = replace(splits.train, sources=SourceRows(near=near))
            assert train.fingerprint == splits.train.fingerprint
            keys.add(training_key(bound(RecordsPredictions(how=how)), 0, replace(splits, train=train)))
        assert len(keys) == count

    def test_run_key_depends_on_prediction_steps(self):
        keys = {run_key(bound(*steps), **_GIVEN) for steps in ((), (Shifts(),), (Shifts(by=2.0),))}
        assert len(keys) == 3

    @pytest.mark.parametrize("module", ["hooks/networks", "training/networks"])
    def test_the_modules_that_build_networks_matter(self, module, tmp_path, monkeypatch):
        package = tmp_path / "fer_augment"
        shutil.copytree(Path(fer_augment.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.setattr("importlib.resources.files", lambda name: tmp_path / name)
        digests = []
        for _ in range(2):
            digests.append([keys._source_digest_of.__wrapped__(part) for part in (keys._BACKBONE, keys._CORE)])
            with (package / f"{module}.py").open("a") as file:
                file.write("# changed\n")
        assert all(before != after for before, after in zip(*digests, strict=True))

    def test_the_module_that_predicts_matters_for_runs_alone(self, monkeypatch):
        before = run_key(bound(), **_GIVEN), training_key(bound(), **_GIVEN)
        monkeypatch.setattr(keys, "_OF_A_RUN", ("runs/performing", "errors"))
        assert run_key(bound(), **_GIVEN) != before[0]
        assert training_key(bound(), **_GIVEN) == before[1]

    @pytest.mark.parametrize("modules", [keys._CORE, (*keys._CORE, *keys._OF_A_RUN), audit_store._CODE])
    def test_modules_import_others_of_the_key_or_what_decides_nothing(self, modules):
        package, imported = Path(fer_augment.__file__).parent, set[str]()
        for module in modules:
            name = f"fer_augment.{module.replace('/', '.')}"
            names = code_digests._imports_in((package / f"{module}.py").read_bytes(), name, is_package=False)
            imported.update(name.removeprefix("fer_augment.").replace(".", "/") for name in names)
        imported = {name for name in imported if (package / f"{name}.py").is_file()}
        assert imported and imported - {*modules} - {*DECIDES_NOTHING} == set()

    def test_modules_whose_names_plugins_import_are_in_the_key_or_decide_nothing(self):
        public = [getattr(fer_augment, name) for name in fer_augment.__all__ if name not in fer_augment._LAZY]
        modules = {getattr(value, "__module__", "") for value in public}
        ours = {name.removeprefix("fer_augment.").replace(".", "/") for name in modules if "fer_augment" in name}
        assert ours and ours - {*keys._CORE} - {*DECIDES_NOTHING} == set()

    def test_step_idle_in_training_does_not_matter(self):
        adjusting, training = bound(ShiftsOrWeights(trains=False)), bound(ShiftsOrWeights(trains=True))
        assert self.BASE(of=adjusting) == self.BASE() != self.BASE(of=training)
        assert run_key(adjusting, **_GIVEN) != run_key(bound(), **_GIVEN)


DECIDES_NOTHING = {
    "cache": "where files are kept",
    "data/audit_records": "fields and wording of what the audit finds",
    "data/class_order": "the order of classes is in the data's fingerprint",
    "data/image_files": "pixels are in the data's fingerprint",
    "data/image_source": "pixels are in the data's fingerprint",
    "data/pixels": "pixels are in the data's fingerprint",
    "data/records": "how results are written, and which file has the weights of a run, whose content is in the key",
    "data/whole_files": "how files are written",
    "errors": "messages",
    "hooks/declarations": "types",
    "hooks/naming": "names of plugins are in the key",
    "hooks/specs": "signatures of hooks",
    "hooks/strategy_files": "runs files whose content is in the key",
    "hooks/strategy_warnings": "messages",
    "hooks/temporary_folders": "where files are kept",
    "hooks/value_checks": "refuses",
    "phases": "progress",
    "processes": "in how many processes rows are prepared, which get the same ones in any number",
    "progress": "progress",
    "recipe/binding": "what it binds is in the key",
    "recipe/recipe": "settings are in the key",
    "recipe/training_settings": "settings are in the key",
    "recipe/warnings": "messages",
    "torchvision_import": "versions of other distributions are in the key",
    "training/head_training": "refuses",
    "training/keys": "the key",
    "training/nested_clock": "times",
    "training/non_finite": "refuses",
    "training/requirements": "refuses",
    "training/rewriting_checks": "refuses and warns",
    "training/store": "where files are kept",
    "training/strategy_cache": "has keys of its own",
}
"""What modules of this package do that a key leaves out, although modules in it import them."""


class Named(Strategy):
    """Has fields of every kind that a key treats specially."""

    numbers: dict[str, float] = {}
    names: set[str] = set()
    hidden: int = Field(0, exclude=True)

    @hookimpl
    def rewrite_training_set(self, training_set):
        return training_set


_GIVEN: dict[str, Any] = {"seed": 0, "splits": tiny_splits()}


def _slow(scratch: Path, checkpoint: Path) -> None:
    with (scratch.parent / "made").open("a") as file:
        file.write("x")
    time.sleep(0.3)
    (scratch / "facts.json").write_text("{}")


def _obtain(root: Path) -> None:
    TrainingStore(root).obtain("key", _slow)


class TestStore:
    def test_two_processes_make_a_training_once(self, tmp_path):
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=_obtain, args=(tmp_path,)) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0]
        assert (tmp_path / "made").read_text() == "x"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "made"]

    def test_who_waits_for_another_process_says_so(self, tmp_path):
        store, said, reported = TrainingStore(tmp_path), list[str](), Event()
        with FileLock(tmp_path / "key.lock"):

            def waits() -> None:
                said.append("waits")
                reported.set()

            waiting = Thread(target=store.obtain, args=("key", _slow, waits))
            waiting.start()
            assert reported.wait(timeout=60)
            assert store.find("key") is None
        waiting.join()
        store.obtain("other", _slow, lambda: said.append("waits for nobody"))
        assert store.find("key") and said == ["waits"]

    def test_a_training_whose_files_have_changed_is_not_used(self, tmp_path):
        store = TrainingStore(tmp_path)
        facts = store.obtain("key", _slow).path / "facts.json"
        facts.write_text("{ }")
        with pytest.raises(RunError, match=r"facts.json: has changed .* delete .*key to train again"):
            store.obtain("key", _slow)

    def test_interrupted_training_leaves_only_its_checkpoint(self, tmp_path):
        def interrupted(scratch: Path, checkpoint: Path) -> None:
            (scratch / "half").write_text("")
            checkpoint.write_text("state")
            raise KeyboardInterrupt

        store = TrainingStore(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            store.obtain("key", interrupted)
        assert store.find("key") is None
        assert (tmp_path / "key.checkpoint").read_text() == "state"

        def resumed(scratch: Path, checkpoint: Path) -> None:
            (scratch / "facts.json").write_text(checkpoint.read_text())

        assert not store.obtain("key", resumed).was_reused
        assert store.obtain("key", resumed).was_reused
        assert {path.name for path in tmp_path.iterdir()} == {"key"}

    def test_warnings_before_an_interruption_are_kept(self, trainings, monkeypatch):
        class Warns(Strategy):
            """Warns in the first epoch."""

            @hookimpl
            def sampling_weights(self, weights, epoch):
                if epoch == 0:
                    warnings.warn("said early", StrategyWarning, stacklevel=2)
                return weights

        def interrupt(evaluation):
            raise KeyboardInterrupt

        every_epoch = functools.partial(train, seconds_between_checkpoints=0)
        monkeypatch.setattr(fer_augment.training.trainings, "train", every_epoch)
        recipe = trainings.of(bound(Warns(), settings=SETTINGS.model_copy(update={"evaluate_every": 2})))
        with pytest.raises(KeyboardInterrupt):
            recipe.trained(evaluated=interrupt)
        assert list(trainings.store.root.glob("*.checkpoint"))
        assert recipe.trained().facts.warnings == ("said early",)

    def test_message_about_damage_says_what_to_do(self, trainings):
        trained = trainings.of(bound()).trained()
        (trained.path / "facts.json").write_text("{}")
        with pytest.raises(RunError, match="not readable .* to train again"):
            _ = StoredTraining(trained.path, was_reused=True).facts
        trained.weights.write_bytes(b"no weights")
        with pytest.raises(RunError, match="not usable .* to train again"):
            trainings.of(bound()).network(trained)

    def test_folder_is_set_by_the_environment_variable(self, monkeypatch, tmp_path):
        monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path))
        assert default_store().root == tmp_path / "trainings"


class TestTrained:
    def test_has_curve_provenance_and_examples(self, trainings):
        trained = trainings.of(bound(Repeats())).trained()
        facts = StoredTraining(trained.path, was_reused=True).facts
        assert facts.rewritten_counts == (20, 15, 24)
        assert [point.epoch for point in facts.curve] == [2]
        assert sum(facts.class_prior) == pytest.approx(1)
        assert np.bincount(trained.provenance["step"]).tolist() == [49, 10]
        examples = load_file(trained.path / "examples.safetensors")
        np.testing.assert_array_equal(examples["images"], examples["sources"])
        assert examples["images"].shape == (10, 16, 14, 1)
        assert set(examples["step"]) == {1}

    def test_weights_are_identical_in_two_stores(self, tmp_path):
        some, others = (Trainings(tiny_splits(), 3, TrainingStore(tmp_path / name)) for name in "ab")
        files = [trainings.of(bound()).trained().weights.read_bytes() for trainings in (some, others)]
        assert files[0] == files[1]
        assert same_bits([np.frombuffer(files[0], np.uint8)], [np.frombuffer(files[1], np.uint8)])

    def test_refine_model_must_keep_parameter_names(self, trainings):
        class Replaces(Strategy):
            """Returns another network."""

            @hookimpl
            def refine_model(self, model):
                return tiny_convnet((16, 14, 1), 3).features

        with pytest.raises(StrategyError, match="refine_model must keep the names of the network's parameters"):
            trainings.of(bound(Replaces())).trained()

    def test_parameter_can_have_two_names(self, trainings):
        def twice(shape: tuple[int, int, int], classes: int):
            network: Any = tiny_convnet(shape, classes)
            network.register_parameter("again", network.head.weight)
            return network

        recipe = replace(bound(), model=Model("twice", "", twice))
        network = trainings.of(recipe).network(trainings.of(recipe).trained())
        assert network.again is network.head.weight
        assert trainings.of(recipe).trained().facts.parameter_count == sum(p.numel() for p in network.parameters())

    def test_error_of_a_model_is_raised(self, tmp_path):
        def refuses(shape: tuple[int, int, int], classes: int):
            raise RunError("too small")

        trainings = Trainings(tiny_splits(), 0, TrainingStore(tmp_path))
        with pytest.raises(RunError, match="too small"):
            trainings.of(replace(bound(), model=Model("refuses", "", refuses))).trained()


def test_needed_trainings_are_those_made(trainings):
    recipe = bound(Repeats(), RecordsPredictions(), RecordsPredictions(how="out_of_fold"))
    needed = [one.key for one in needed_trainings(trainings.of(recipe))]
    trainings.of(recipe).trained()
    assert set(needed) == stored_keys(trainings)
    assert len(needed) == 1 + 3 + 1


class LeaksNearly(Strategy):
    """Appends brighter copies of images that are held out."""

    @hookimpl
    def rewrite_training_set(self, training_set):
        held_out = tiny_splits().validation
        brighter = (held_out.images[:20] // 2 + 40).astype(np.uint8)
        return training_set.append(brighter, held_out.labels[:20], source="elsewhere")


def test_a_leak_is_named_whether_a_scout_or_the_recipe_was_trained_first(trainings):
    trainings.of(bound(LeaksNearly(), RecordsPredictions())).trained()
    reused = trainings.of(bound(LeaksNearly())).trained()
    assert reused.was_reused
    assert any("near" in warning for warning in reused.facts.warnings)


class HeadAgain(Strategy):
    """Trains the last layer again on rows of one class."""

    epochs: int = 1

    @property
    def effects(self) -> Effect:
        return Effect.NEEDS_LINEAR_HEAD

    @hookimpl
    def refine_model(self, model, training_set, context):
        weights = (training_set.labels == 2).astype(np.float64)
        return context.train(model, parameters=model.head.parameters(), weights=weights, epochs=self.epochs)


class RepeatsAndRefines(Repeats):
    """Acts before and after training."""

    @hookimpl
    def refine_model(self, model):
        with torch.no_grad():
            model.head.bias.add_(1)
        return model


class TestSeconds:
    def test_time_excludes_nested_trainings(self, trainings, monkeypatch):
        """Every optimization takes ten seconds on this clock; scouts and first stages are counted separately."""
        clock = [0.0]
        monkeypatch.setattr("fer_augment.training.nested_clock.time.monotonic", lambda: clock[0])

        def taking_ten_seconds(function):
            def wrapped(*arguments, **options):
                clock[0] += 10
                return function(*arguments, **options)

            return wrapped

        for name in ("train", "refine"):
            function = getattr(fer_augment.training.trainings, name)
            monkeypatch.setattr(fer_augment.training.trainings, name, taking_ten_seconds(function))
        recipe = bound(Repeats(), RecordsPredictions(), RecordsPredictions(how="out_of_fold"), HeadAgain())
        trainings.of(recipe).trained()
        needed = [StoredTraining(trainings.store.root / key, was_reused=True) for key in stored_keys(trainings)]
        assert [trained.facts.seconds for trained in needed] == [10] * (1 + 3 + 1 + 1)


class TestWeightsOfTrainAgain:
    @pytest.mark.parametrize(
        "weights",
        [np.ones(3), np.full(49, np.nan), np.zeros(49), -np.ones(49), [1.0] * 49],
        ids=["too few", "NaN", "all zero", "negative", "a list"],
    )
    def test_invalid_weights_are_refused(self, trainings, weights):
        class Weighs(Strategy):
            """Trains again with invalid weights."""

            @hookimpl
            def refine_model(self, model, context):
                return context.train(model, weights=weights)

        with pytest.raises(StrategyError, match=r"step 1 \(weighs\), refine_model: context.train requires .*weights"):
            trainings.of(bound(Weighs())).trained()

    def test_integer_weights_are_accepted(self, trainings):
        class Weighs(Strategy):
            """Draws ants with integer weights."""

            @hookimpl
            def refine_model(self, model, training_set, context):
                return context.train(model, weights=(training_set.labels == 0).astype(np.int8))

        assert trainings.of(bound(Weighs())).trained().facts.class_prior == (1, 0, 0)


class TestSecondStage:
    def test_starts_from_the_training_without_refining_steps(self, trainings):
        plain = trainings.of(bound()).trained()
        again, longer = (trainings.of(bound(HeadAgain(epochs=epochs))).trained() for epochs in (1, 3))
        assert len(stored_keys(trainings)) == 3, "only second stages were trained"
        before, after = (load_file(trained.weights) for trained in (plain, again))
        assert {name for name in before if before[name].tobytes() != after[name].tobytes()} == {
            "head.weight",
            "head.bias",
        }
        assert again.weights.read_bytes() != longer.weights.read_bytes()
        steps = plain.facts.optimizer_steps
        assert [again.facts.optimizer_steps, longer.facts.optimizer_steps] == [steps * 3 // 2, steps * 5 // 2]
        assert again.facts.curve == plain.facts.curve
        assert again.facts.class_prior == (0, 0, 1)

    def test_is_identical_with_a_cached_first_stage(self, trainings, tmp_path):
        trainings.of(bound()).trained()
        from_cached = trainings.of(bound(HeadAgain())).trained()
        from_scratch = Trainings(tiny_splits(), 0, TrainingStore(tmp_path / "other")).of(bound(HeadAgain())).trained()
        assert from_cached.weights.read_bytes() == from_scratch.weights.read_bytes()

    def test_step_that_also_acts_before_training_needs_its_own_first_stage(self, trainings):
        refined = trainings.of(bound(RepeatsAndRefines())).trained()
        needed = needed_trainings(trainings.of(bound(RepeatsAndRefines())))
        assert stored_keys(trainings) == {one.key for one in needed} and len(needed) == 2
        assert [one.is_second_stage for one in needed] == [False, True]
        first = trainings.store.find(needed[0].key)
        before, after = (load_file(trained.weights)["head.bias"] for trained in (first, refined))
        np.testing.assert_allclose(after, before + 1, rtol=0, atol=1e-6)

    def test_step_after_a_refining_one_asks_the_same_scout_in_both_stages(self, trainings):
        recipe = bound(HeadAgain(), make_strategy("confusion_mix"))
        needed = [one.key for one in needed_trainings(trainings.of(recipe))]
        trainings.of(recipe).trained()
        assert stored_keys(trainings) == set(needed) and len(needed) == SETTINGS.scout.folds + 2

    def test_missing_linear_head_is_refused_before_training(self, trainings):
        def headless(shape: tuple[int, int, int], classes: int):
            network = tiny_convnet(shape, classes)
            network.output = network.head
            del network.head
            return network

        recipe = replace(bound(HeadAgain()), model=Model("headless", "", headless))
        with pytest.raises(StrategyError, match=r"step 1 \(head_again\): .* has no `head`"):
            trainings.of(recipe).trained()
        assert not trainings.store.root.exists()
