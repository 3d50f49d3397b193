"""A strategy stands in a pipeline of imbalanced-learn, and its result in a torch loader."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from imblearn.over_sampling import SMOTE
from imblearn.pipeline import make_pipeline
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader

from fer_augment import DatasetError, ImageDataset, PluginError, StrategyError
from fer_augment.data.dataset import PixelBlock
from fer_augment.resampling import StrategySampler, as_torch_dataset, make_strategy
from fer_augment.testing import NearestMeanScout, tiny_dataset

DATA = tiny_dataset(3)
IMAGES = DATA.images[:]
WORDS = np.array(DATA.class_names)[DATA.labels]
SHAPE = DATA.image_shape
FLAT = IMAGES.reshape(len(IMAGES), -1)


def counts(labels: np.ndarray) -> dict[Any, int]:
    names, number = np.unique(labels, return_counts=True)
    return dict(zip(names.tolist(), number.tolist(), strict=True))


def test_in_a_pipeline_the_classifier_sees_the_rewritten_set_when_fitted_and_all_rows_when_asked() -> None:
    seen = []

    class Watched(KNeighborsClassifier):
        def fit(self, X: Any, y: Any) -> Any:
            seen.append(counts(y))
            return super().fit(X, y)

    sampler = StrategySampler(make_strategy("imblearn", sampler="SMOTE"), image_shape=SHAPE)
    pipeline = make_pipeline(sampler, StandardScaler(), Watched(1))
    predicted = pipeline.fit(FLAT, WORDS).predict(FLAT)
    assert seen == [{"ant": 24, "bee": 24, "cat": 24}]
    assert (predicted == WORDS).mean() > 0.9


def test_it_gives_what_imbalanced_learn_gives() -> None:
    images, labels = StrategySampler(make_strategy("imblearn", sampler="SMOTE"), image_shape=SHAPE).fit_resample(
        FLAT.astype(np.float64), DATA.labels
    )
    _, expected = SMOTE(random_state=0).fit_resample(FLAT.astype(float), DATA.labels)
    assert labels.tolist() == expected.tolist()
    assert images.dtype == np.float64 and images.shape == (72, FLAT.shape[1])
    assert (images[: len(FLAT)] == FLAT).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("shape", [(16, 14, 3), (16, 42), (672,)])
def test_images_and_labels_come_back_as_they_came(dtype: Any, shape: tuple[int, ...]) -> None:
    given = IMAGES.reshape(len(IMAGES), *shape).astype(dtype)
    sampler = StrategySampler(
        make_strategy("imblearn", sampler="RandomUnderSampler"), image_shape=SHAPE if len(shape) == 1 else None
    )
    images, labels = sampler.fit_resample(given, WORDS)
    assert images.dtype == dtype and images.shape == (30, *shape)
    assert (images == given[sampler.training_set_.origin]).all()
    assert (labels == WORDS[sampler.training_set_.origin]).all()


def test_labels_may_be_anything_and_may_have_names() -> None:
    odd = np.array([7, -2, 30])[DATA.labels]
    undersample = make_strategy("imblearn", sampler="RandomUnderSampler", sampling_strategy={"30": 5})
    _, labels = StrategySampler(undersample).fit_resample(IMAGES, odd)
    assert counts(labels) == {7: 10, -2: 15, 30: 5}
    named = make_strategy("imblearn", sampler="RandomUnderSampler", sampling_strategy={"cat": 5})
    _, labels = StrategySampler(named, class_names=(*DATA.class_names, "dog")).fit_resample(IMAGES, DATA.labels)
    assert counts(labels) == {0: 10, 1: 15, 2: 5}


def test_equal_seeds_give_equal_results_and_others_do_not() -> None:
    def of(seed: int) -> bytes:
        sampler = StrategySampler(make_strategy("imblearn", sampler="SMOTE"), seed)
        images: np.ndarray = sampler.fit_resample(IMAGES, WORDS)[0]
        return images.tobytes()

    assert of(0) == of(0) != of(1)


def test_sampling_weights_are_drawn_by() -> None:
    balanced = StrategySampler(make_strategy("power_sampler", exponent=1))
    many = np.tile(IMAGES, (40, 1, 1, 1))
    drawn = counts(balanced.fit_resample(many, np.tile(WORDS, 40))[1])
    assert sum(drawn.values()) == len(many)
    assert min(drawn.values()) > 590 and max(drawn.values()) < 720, "a third each"
    as_it_stands = StrategySampler(make_strategy("power_sampler", exponent=0)).fit_resample(IMAGES, WORDS)
    assert (as_it_stands[0] == IMAGES).all()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("flip_crop_affine", {"flip": 1, "shift": 0, "rotate": 0, "scale": 0}),
        ("albumentations", {"transforms": [{"HorizontalFlip": {"p": 1}}]}),
    ],
)
def test_images_are_augmented_as_in_one_epoch_and_remember_their_origin(name: str, parameters: dict[str, Any]) -> None:
    sampler = StrategySampler(make_strategy(name, **parameters))
    many = np.tile(IMAGES, (7, 1, 1, 1))
    images, labels = sampler.fit_resample(many, np.tile(WORDS, 7))
    assert (images == many[:, :, ::-1]).all()
    assert labels.tolist() == np.tile(WORDS, 7).tolist()
    assert sampler.training_set_.origin.tolist() == list(range(len(many)))
    assert (sampler.training_set_.step == 1).all()


def test_rows_that_are_not_erased_count_as_read() -> None:
    sampler = StrategySampler(make_strategy("random_erasing", probability=0.5))
    images, _ = sampler.fit_resample(IMAGES, WORDS)
    changed = (images != IMAGES).any(axis=(1, 2, 3))
    assert 10 < changed.sum() < 39
    assert (sampler.training_set_.step == changed).all()


def test_a_mining_strategy_asks_a_callable_out_of_fold() -> None:
    asked = []

    def judge(X: np.ndarray, y: np.ndarray) -> np.ndarray:
        asked.append((X.shape, counts(y)))
        probabilities: np.ndarray = cross_val_predict(KNeighborsClassifier(3), X, y, cv=3, method="predict_proba")
        return probabilities

    mirror = make_strategy("confusion_mirror", pairs=[["ant", "bee"], ["cat", "ant"]], both_directions=True)
    sampler = StrategySampler(mirror, image_shape=SHAPE, scout=judge)
    _, labels = sampler.fit_resample(FLAT, WORDS)
    assert asked == [(FLAT.shape, counts(WORDS))]
    predicted = np.unique(WORDS)[judge(FLAT, WORDS).argmax(axis=1)]
    confused = [row for row in range(len(WORDS)) if {WORDS[row], predicted[row]} in ({"ant", "bee"}, {"ant", "cat"})]
    assert len(confused) > 3
    added = sampler.training_set_.take(sampler.training_set_.step == 1)
    assert sorted(added.origin.tolist()) == confused
    assert len(labels) == len(WORDS) + len(confused)


def test_a_scout_may_be_an_object() -> None:
    space = make_strategy("imblearn", sampler="SMOTE", space="embeddings")
    _, labels = StrategySampler(space, scout=NearestMeanScout()).fit_resample(IMAGES, WORDS)
    assert counts(labels) == {"ant": 24, "bee": 24, "cat": 24}


def test_it_can_be_cloned_and_searched_over() -> None:
    sampler = StrategySampler(make_strategy("imblearn", sampler="SMOTE"), 3, image_shape=SHAPE)
    copied = clone(sampler)
    assert copied.strategy.model_dump() == sampler.strategy.model_dump()
    assert (copied.seed, copied.image_shape) == (3, SHAPE)
    pipeline = make_pipeline(sampler, StandardScaler(), LogisticRegression(max_iter=300))
    strategies = [make_strategy("power_sampler", exponent=exponent) for exponent in (0, 1)]
    search = GridSearchCV(pipeline, {"strategysampler__strategy": strategies}, cv=2, scoring="balanced_accuracy")
    search.fit(FLAT, WORDS)
    assert len(search.cv_results_["mean_test_score"]) == 2
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_fit_alone_checks_and_names_the_classes() -> None:
    sampler = StrategySampler(make_strategy("power_sampler"))
    assert sampler.fit(IMAGES, WORDS) is sampler
    assert sampler.classes_.tolist() == ["ant", "bee", "cat"]


@pytest.mark.parametrize(
    ("images", "labels", "options", "message"),
    [
        (FLAT, WORDS, {}, r"flat; say by `image_shape`"),
        (FLAT, WORDS, {"image_shape": (48, 48)}, r"shape \(672,\) are no images of shape \(48, 48\)"),
        (IMAGES / 255, WORDS, {}, "whole numbers from 0 to 255"),
        (IMAGES.astype(int) + 1000, WORDS, {}, "whole numbers from 0 to 255"),
        (np.full((49, 2, 2), np.nan), WORDS, {}, "whole numbers from 0 to 255"),
        (IMAGES.astype(str), WORDS, {}, "whole numbers from 0 to 255"),
        (IMAGES, WORDS[1:], {}, "labels has 48 rows, index has 49"),
        (IMAGES, DATA.labels, {"class_names": ("ant", "bee")}, "label 2 is outside 0..1"),
        (IMAGES, WORDS, {"class_names": ("ant", "bee")}, "labels must be integers"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(
    images: np.ndarray, labels: np.ndarray, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        StrategySampler(make_strategy("power_sampler"), **options).fit_resample(images, labels)


def test_strategies_that_cannot_be_shown_in_x_and_y_are_refused() -> None:
    with pytest.raises(StrategyError, match="mixup shares labels between classes, which y cannot hold"):
        StrategySampler(make_strategy("mixup")).fit(IMAGES, WORDS)
    with pytest.raises(StrategyError, match="logit_adjustment does nothing to a training set"):
        StrategySampler(make_strategy("logit_adjustment")).fit(IMAGES, WORDS)
    with pytest.raises(PluginError, match="no strategy 'smoote'"):
        make_strategy("smoote")


def test_a_scout_that_answers_in_another_shape_is_refused() -> None:
    mining = make_strategy("hard_examples")
    with pytest.raises(StrategyError, match=r"of shape \(49, 3\), gave \(49, 2\)"):
        StrategySampler(mining, scout=lambda X, y: np.ones((len(X), 2))).fit_resample(IMAGES, WORDS)
    with pytest.raises(StrategyError, match="there is no scout"):
        StrategySampler(mining).fit_resample(IMAGES, WORDS)
    space = make_strategy("imblearn", sampler="SMOTE", space="embeddings")
    with pytest.raises(StrategyError, match="a callable scout has no embeddings"):
        StrategySampler(space, scout=lambda X, y: np.ones((len(X), 3))).fit_resample(IMAGES, WORDS)


def test_a_torch_loader_gives_images_and_labels() -> None:
    sampler = StrategySampler(make_strategy("imblearn", sampler="SMOTE"))
    sampler.fit_resample(IMAGES, WORDS)
    rewritten = sampler.training_set_
    dataset = as_torch_dataset(rewritten)
    image, label = dataset[-1]
    assert image.shape == (3, 16, 14) and image.dtype == torch.float32
    assert (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8).tolist() == rewritten.images[-1][0].tolist()
    assert label == rewritten.labels[-1]
    batches = list(DataLoader(dataset, batch_size=32))
    assert [len(labels) for _, labels in batches] == [32, 32, 8]
    assert torch.cat([labels for _, labels in batches]).tolist() == rewritten.labels.tolist()
    assert torch.equal(batches[2][0][-1], image)
    with pytest.raises(IndexError):
        dataset[len(rewritten)]


def test_workers_open_a_memory_mapped_file_themselves(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    mapped = ImageDataset.from_arrays(PixelBlock.open(tmp_path / "x.npy"), DATA.labels, DATA.class_names)
    dataset = as_torch_dataset(mapped)
    pickled = pickle.dumps(dataset)
    assert len(pickled) < IMAGES.nbytes / 4
    again = pickle.loads(pickled)
    assert torch.equal(again[5][0], dataset[5][0])
