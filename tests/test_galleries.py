"""Confused images are collected by probability without duplicates; reading them does not require torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from safetensors.numpy import save_file

from fer_augment import ImageDataset, Splits
from fer_augment.data.pixel_blocks import Images
from fer_augment.data.records import Predictions, RunDirectory, RunIdentity
from fer_augment.errors import DatasetError, RunError
from fer_augment.metrics import softmax
from fer_augment.recipe.recipe import Recipe, load_recipes
from fer_augment.reports.html import report_html
from fer_augment.results.confused_images import (
    CONFUSED_FILE,
    ConfusedImages,
    ConfusedRows,
    load_confused,
    save_confused,
)
from fer_augment.results.verdicts import compare_runs
from fer_augment.runs.executors import do_tasks
from fer_augment.runs.experiment import Experiment, runs_in_order
from fer_augment.runs.galleries import IMAGES_OF_A_PAIR, collect_confused
from fer_augment.runs.recipe_data import RecipeData
from fer_augment.runs.run_models import load_run_model
from fer_augment.training.store import TrainingStore
from tests.data_files import random_images
from tests.html_page import parse
from tests.synthetic_runs import CLASSES, record, write_run
from tests.test_executors import Recorder
from tests.tiny_runs import write_recipe
from tests.tiny_training import tiny_splits

ANT, BEE, CAT = range(3)


def splits_in(experiment: Experiment) -> Splits:
    return experiment.data.as_read(Recipe(name="any", model="any"))


def splits_with(test: ImageDataset) -> Splits:
    other = ImageDataset.from_arrays(random_images(6, side=8, seed=1), [ANT, BEE, CAT] * 2, CLASSES)
    return Splits(other, other, test, "noise")


def data_with(test: ImageDataset) -> RecipeData:
    return RecipeData.of(splits_with(test))


def run_with_logits(folder: Path, labels, logits, *, recipe="base", seed=0) -> RunDirectory:
    rows = len(labels)
    logits = np.asarray(logits, np.float32)
    predictions = Predictions(np.asarray(labels), logits, np.arange(rows), np.zeros(rows, dtype=bool))
    return write_run(
        folder / recipe / str(seed), record(recipe, seed), {"test": predictions, "validation": predictions}
    )


def test_confused_test_images_are_sorted_by_probability(tmp_path):
    labels = [ANT, ANT, ANT, BEE, ANT]
    logits = [[0, 1, 0], [0, 3, 0], [2, 0, 0], [0, 5, 0], [0, 0, 4]]
    test = ImageDataset.from_arrays(random_images(5, side=8), labels, CLASSES)
    run = run_with_logits(tmp_path, labels, logits)
    collect_confused(data_with(test), {"base": [run]}, [("ant", "bee")], tmp_path / CONFUSED_FILE)
    (confused,) = load_confused(tmp_path / CONFUSED_FILE)
    assert confused.rows == ConfusedRows(run=run.record.identity, split="test", true="ant", predicted="bee", total=2)
    assert np.array_equal(confused.images, test.images[[1, 0]])
    assert_allclose(confused.probabilities, softmax(np.array(logits, np.float32))[[1, 0]], rtol=1e-6)


def test_exact_duplicates_are_shown_once_and_the_number_of_images_is_limited(tmp_path):
    rows = 3 * IMAGES_OF_A_PAIR
    images = random_images(rows, side=8)
    images[1::3] = images[::3]
    labels = [ANT] * rows
    logits = np.zeros((rows, 3))
    logits[:, BEE] = np.linspace(1, 2, rows)
    run = run_with_logits(tmp_path, labels, logits)
    test = ImageDataset.from_arrays(images, labels, CLASSES)
    collect_confused(
        RecipeData.of(splits_with(test)), {"base": [run]}, [("ant", "bee"), ("ant", "bee")], tmp_path / CONFUSED_FILE
    )
    (confused,) = load_confused(tmp_path / CONFUSED_FILE)
    assert confused.rows.total == 2 * IMAGES_OF_A_PAIR
    assert len(confused.images) == IMAGES_OF_A_PAIR == len(np.unique(confused.images, axis=0))
    assert np.array_equal(confused.images[0], images[-1])
    assert np.all(np.diff(confused.probabilities[:, BEE]) < 0)


def test_each_arm_is_represented_by_its_first_seed(tmp_path):
    labels = [ANT, BEE]
    test = ImageDataset.from_arrays(random_images(2, side=8), labels, CLASSES)
    runs = {
        "base": [run_with_logits(tmp_path, labels, np.eye(3)[[BEE, BEE]], seed=seed) for seed in (5, 2, 9)],
        "failed": [],
        "other": [run_with_logits(tmp_path, labels, np.eye(3)[[ANT, BEE]], recipe="other", seed=2)],
    }
    pairs = [("ant", "bee"), ("bee", "cat")]
    collect_confused(data_with(test), runs, pairs, tmp_path / CONFUSED_FILE)
    confused = [
        (one.rows.run.recipe, one.rows.run.seed, one.rows.true, one.rows.total)
        for one in load_confused(tmp_path / CONFUSED_FILE)
    ]
    assert confused == [("base", 2, "ant", 1), ("base", 2, "bee", 0), ("other", 2, "ant", 0), ("other", 2, "bee", 0)]


def test_unknown_classes_are_refused(tmp_path):
    test = ImageDataset.from_arrays(random_images(1, side=8), [ANT], CLASSES)
    run = run_with_logits(tmp_path, [ANT], [[0, 1, 0]])
    with pytest.raises(DatasetError, match="no class 'dog'"):
        collect_confused(data_with(test), {"base": [run]}, [("ant", "dog")], tmp_path / CONFUSED_FILE)


MIRROR = "- confusion_mirror: {pairs: [[ant, cat], [bee, cat]], predictions: in_sample}"


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison of two arms with real trainings."""
    folder = tmp_path_factory.mktemp("compared")
    files = [write_recipe(folder, "base"), write_recipe(folder, "mirror", steps=MIRROR)]
    recipes = load_recipes([str(file) for file in files])
    experiment = Experiment(RecipeData.of(tiny_splits()), TrainingStore(folder / "cache"), folder / "runs")
    outcomes = do_tasks(experiment, runs_in_order(recipes, [0, 1]), 1, Recorder())
    directories = [RunDirectory(outcome) for outcome in outcomes if isinstance(outcome, Path)]
    assert len(directories) == 4, outcomes
    runs = {"base": directories[:2], "mirror": directories[2:]}
    counts = {name: part.counts for name, part in splits_in(experiment).parts.items()}
    comparison = compare_runs(runs, baseline="base", source="tiny", fingerprint="f", counts=counts)
    pairs = [(one.true, one.predicted) for one in comparison.arms[0].watched]
    collect_confused(experiment.data, runs, pairs, folder / CONFUSED_FILE)
    return folder, splits_in(experiment), runs, comparison


def test_confused_training_images_are_predicted_with_the_final_weights(compared):
    folder, splits, runs, _ = compared
    train = splits.train
    in_train = [one for one in load_confused(folder / CONFUSED_FILE) if one.rows.split == "train"]
    assert [(one.rows.run.recipe, one.rows.true, one.rows.predicted) for one in in_train] == [
        (arm, true, "cat") for arm in ("base", "mirror") for true in ("ant", "bee")
    ]
    model = load_run_model(runs["base"][0])
    assert np.array_equal(model.logits_of(train), model.logits(train.images[:]))
    probabilities = softmax(model.logits(train.images[:]))
    for one, true in zip(in_train[:2], (ANT, BEE), strict=True):
        rows = np.flatnonzero((train.labels == true) & (probabilities.argmax(axis=1) == CAT))
        assert one.rows.total == len(np.unique(train.digests[rows])) > 0
        assert {image.tobytes() for image in one.images} <= {image.tobytes() for image in train.images[rows]}
        assert_allclose(one.probabilities[0, CAT], probabilities[rows, CAT].max(), rtol=1e-4)


def test_training_images_are_predicted_a_few_at_a_time(compared, tmp_path, monkeypatch):
    _, splits, runs, _ = compared
    gathered, gather = [], Images.__getitem__

    def recording(images, rows):
        gathered.append(gather(images, rows))
        return gathered[-1]

    monkeypatch.setattr(Images, "__getitem__", recording)
    monkeypatch.setattr("fer_augment.training.prediction.rows_at_once", lambda image_shape: 4)
    collect_confused(RecipeData.of(splits), runs, [("cat", "bee")], tmp_path / CONFUSED_FILE)
    assert (splits.train.labels == CAT).sum() > IMAGES_OF_A_PAIR
    assert max(map(len, gathered)) <= IMAGES_OF_A_PAIR


def test_reports_of_real_runs_show_confused_images(compared):
    folder, _, _, comparison = compared
    page = parse(report_html(comparison, folder))
    confused = next(page.find("section", id="confused"))
    assert "ant predicted as cat training images" in confused.text
    assert len(list(confused.find("img"))) > 2
    added = next(page.find("section", id="added"))
    assert "confusion_mirror in mirror" in added.text
    assert len(list(added.find("img"))) >= 2


def test_confused_images_round_trip_without_torch(tmp_path):
    rows = ConfusedRows(
        run=RunIdentity(recipe="ä", seed=3, key="k"), split="train", true="<a>", predicted="b\n", total=99
    )
    images, probabilities = random_images(2, side=4, channels=3), np.eye(2, 3, dtype=np.float32)
    file = tmp_path / "deeper" / CONFUSED_FILE
    save_confused(
        file, [ConfusedImages(rows, images, probabilities), ConfusedImages(rows, images[:0], probabilities[:0])]
    )
    full, empty = load_confused(file)
    assert full.rows == empty.rows == rows
    assert np.array_equal(full.images, images) and np.array_equal(full.probabilities, probabilities)
    assert empty.images.shape == (0, 4, 4, 3)
    code = (
        "import sys; from pathlib import Path; from fer_augment.results.confused_images import load_confused; "
        "load_confused(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(file)], check=False).returncode == 0


@pytest.mark.parametrize("content", [b"", b"\0" * 40, None])
def test_missing_or_damaged_files_are_refused_by_name(tmp_path, content):
    file = tmp_path / CONFUSED_FILE
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RunError, match=CONFUSED_FILE):
        load_confused(file)


def test_other_files_are_refused_by_name(tmp_path):
    save_file({"0.images": np.zeros(3)}, tmp_path / CONFUSED_FILE)
    with pytest.raises(RunError, match=CONFUSED_FILE):
        load_confused(tmp_path / CONFUSED_FILE)
