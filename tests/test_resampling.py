"""Strategies as samplers in pipelines of imbalanced-learn, and data sets in torch data loaders."""

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

from fer_augment import DatasetError, ImageDataset, PluginError, StrategyError, StrategyWarning
from fer_augment.data.pixel_blocks import PixelBlock
from fer_augment.recipe.recipe import load_recipe
from fer_augment.resampling import StrategySampler, as_torch_dataset, make_strategy
from fer_augment.testing import NearestMeanScout, tiny_dataset

DATA = tiny_dataset(3)
IMAGES = DATA.images[:]
NAMES = np.array(DATA.class_names)[DATA.labels]
SHAPE = DATA.image_shape
FLAT = IMAGES.reshape(len(IMAGES), -1)


def counts(labels: np.ndarray) -> dict[Any, int]:
    names, number = np.unique(labels, return_counts=True)
    return dict(zip(names.tolist(), number.tolist(), strict=True))


def test_a_pipeline_resamples_in_fit_and_not_in_predict() -> None:
    fitted = []

    class RecordingClassifier(KNeighborsClassifier):  # type: ignore[misc]  # scikit-learn is untyped
        def fit(self, X: Any, y: Any) -> Any:
            fitted.append(counts(y))
            return super().fit(X, y)

    sampler = StrategySampler(make_strategy("imblearn", sampler="SMOTE"), image_shape=SHAPE)
    pipeline = make_pipeline(sampler, StandardScaler(), RecordingClassifier(1))
    predicted = pipeline.fit(FLAT, NAMES).predict(FLAT)
    assert fitted == [{"ant": 24, "bee": 24, "cat": 24}]
    assert (predicted == NAMES).mean() > 0.9


def test_the_result_equals_that_of_imbalanced_learn() -> None:
    images, labels = StrategySampler(make_strategy("imblearn", sampler="SMOTE"), image_shape=SHAPE).fit_resample(
        FLAT.astype(np.float64), DATA.labels
    )
    _, expected = SMOTE(random_state=0).fit_resample(FLAT.astype(float), DATA.labels)
    assert labels.tolist() == expected.tolist()
    assert images.dtype == np.float64 and images.shape == (72, FLAT.shape[1])
    assert (images[: len(FLAT)] == FLAT).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("shape", [(16, 14, 3), (16, 42), (672,)])
def test_image_shape_dtype_and_labels_are_preserved(dtype: Any, shape: tuple[int, ...]) -> None:
    inputs = IMAGES.reshape(len(IMAGES), *shape).astype(dtype)
    sampler = StrategySampler(
        make_strategy("imblearn", sampler="RandomUnderSampler"), image_shape=SHAPE if len(shape) == 1 else None
    )
    images, labels = sampler.fit_resample(inputs, NAMES)
    assert images.dtype == dtype and images.shape == (30, *shape)
    assert (images == inputs[sampler.training_set_.origin]).all()
    assert (labels == NAMES[sampler.training_set_.origin]).all()


def test_labels_of_any_kind_and_class_names_are_supported() -> None:
    integers = np.array([7, -2, 30])[DATA.labels]
    undersample = make_strategy("imblearn", sampler="RandomUnderSampler", sampling_strategy={"30": 5})
    _, labels = StrategySampler(undersample).fit_resample(IMAGES, integers)
    assert counts(labels) == {7: 10, -2: 15, 30: 5}
    named = make_strategy("imblearn", sampler="RandomUnderSampler", sampling_strategy={"cat": 5})
    small = DATA.labels.astype(np.uint8)
    _, labels = StrategySampler(named, class_names=(*DATA.class_names, "dog")).fit_resample(IMAGES, small)
    assert counts(labels) == {0: 10, 1: 15, 2: 5} and labels.dtype == np.uint8


def test_the_result_depends_on_the_seed() -> None:
    def resampled(seed: int) -> bytes:
        sampler = StrategySampler(make_strategy("imblearn", sampler="SMOTE"), seed)
        images: np.ndarray = sampler.fit_resample(IMAGES, NAMES)[0]
        return images.tobytes()

    assert resampled(0) == resampled(0) != resampled(1)


def test_rows_are_drawn_by_sampling_weight() -> None:
    balanced = StrategySampler(make_strategy("power_sampler", exponent=1))
    many = np.tile(IMAGES, (40, 1, 1, 1))
    drawn = counts(balanced.fit_resample(many, np.tile(NAMES, 40))[1])
    assert sum(drawn.values()) == len(many)
    assert min(drawn.values()) > 590 and max(drawn.values()) < 720, "a third each"
    unweighted = StrategySampler(make_strategy("power_sampler", exponent=0)).fit_resample(IMAGES, NAMES)
    assert (unweighted[0] == IMAGES).all()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("flip_crop_affine", {"flip": 1, "shift": 0, "rotate": 0, "scale": 0}),
        ("albumentations", {"transforms": [{"HorizontalFlip": {"p": 1}}]}),
    ],
)
def test_images_are_augmented_as_in_one_epoch_with_provenance(name: str, parameters: dict[str, Any]) -> None:
    sampler = StrategySampler(make_strategy(name, **parameters))
    many = np.tile(IMAGES, (7, 1, 1, 1))
    images, labels = sampler.fit_resample(many, np.tile(NAMES, 7))
    assert (images == many[:, :, ::-1]).all()
    assert labels.tolist() == np.tile(NAMES, 7).tolist()
    assert sampler.training_set_.origin.tolist() == list(range(len(many)))
    assert (sampler.training_set_.step == 1).all()


def test_unchanged_rows_have_no_step_in_their_provenance() -> None:
    sampler = StrategySampler(make_strategy("random_erasing", probability=0.5))
    images, _ = sampler.fit_resample(IMAGES, NAMES)
    changed = (images != IMAGES).any(axis=(1, 2, 3))
    assert 10 < changed.sum() < 39
    assert (sampler.training_set_.step == changed).all()


def test_a_callable_scout_gives_out_of_fold_predictions_to_a_mining_strategy() -> None:
    calls = []

    def predict(X: np.ndarray, y: np.ndarray) -> np.ndarray:
        calls.append((X.shape, counts(y)))
        probabilities: np.ndarray = cross_val_predict(
            KNeighborsClassifier(3, weights="distance"), X, y, cv=3, method="predict_proba"
        )
        return probabilities

    mirror = make_strategy("confusion_mirror", pairs=[["ant", "bee"], ["cat", "ant"]], both_directions=True)
    sampler = StrategySampler(mirror, image_shape=SHAPE, scout=predict)
    _, labels = sampler.fit_resample(FLAT, NAMES)
    assert calls == [(FLAT.shape, counts(NAMES))]
    predicted = np.unique(NAMES)[predict(FLAT, NAMES).argmax(axis=1)]
    confused = [row for row in range(len(NAMES)) if {NAMES[row], predicted[row]} in ({"ant", "bee"}, {"ant", "cat"})]
    assert len(confused) > 3
    added = sampler.training_set_.take(sampler.training_set_.step == 1)
    assert sorted(added.origin.tolist()) == confused
    assert len(labels) == len(NAMES) + len(confused)


def test_a_scout_object_is_supported() -> None:
    space = make_strategy("imblearn", sampler="SMOTE", space="embeddings")
    _, labels = StrategySampler(space, scout=NearestMeanScout()).fit_resample(IMAGES, NAMES)
    assert counts(labels) == {"ant": 24, "bee": 24, "cat": 24}


def test_samplers_can_be_cloned_and_used_in_a_grid_search() -> None:
    sampler: Any = StrategySampler(make_strategy("imblearn", sampler="SMOTE"), 3, image_shape=SHAPE)
    copied = clone(sampler)
    assert copied.strategy.model_dump() == sampler.strategy.model_dump()
    assert (copied.seed, copied.image_shape) == (3, SHAPE)
    pipeline = make_pipeline(sampler, StandardScaler(), LogisticRegression(max_iter=300))
    strategies = [make_strategy("power_sampler", exponent=exponent) for exponent in (0, 1)]
    search = GridSearchCV(pipeline, {"strategysampler__strategy": strategies}, cv=2, scoring="balanced_accuracy")
    search.fit(FLAT, NAMES)
    assert len(search.cv_results_["mean_test_score"]) == 2
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_fit_sets_the_classes_and_returns_the_sampler() -> None:
    sampler = StrategySampler(make_strategy("power_sampler"))
    assert sampler.fit(IMAGES, NAMES) is sampler
    assert sampler.classes_.tolist() == ["ant", "bee", "cat"]


@pytest.mark.parametrize(
    ("images", "labels", "options", "message"),
    [
        (FLAT, NAMES, {}, r"flat; set `image_shape`"),
        (FLAT, NAMES, {"image_shape": (48, 48)}, r"shape \(672,\) do not match `image_shape` \(48, 48\)"),
        (IMAGES / 255, NAMES, {}, "integers from 0 to 255"),
        (IMAGES.astype(int) + 1000, NAMES, {}, "integers from 0 to 255"),
        (np.full((49, 2, 2), np.nan), NAMES, {}, "integers from 0 to 255"),
        (IMAGES.astype(str), NAMES, {}, "integers from 0 to 255"),
        ((IMAGES // 2).astype(np.int8), NAMES, {}, "dtype int8 cannot hold values up to 255"),
        (IMAGES, np.where(DATA.labels == 2, np.nan, DATA.labels), {}, r"\d+ of 49 labels are missing, first in row"),
        (IMAGES, [*NAMES[:7], None, *NAMES[8:]], {}, "1 of 49 labels are missing, first in row 7; remove these rows"),
        (IMAGES, NAMES[1:], {}, "labels has 48 rows, index has 49"),
        (IMAGES, DATA.labels, {"class_names": ("ant", "bee")}, "label 2 is outside 0..1"),
        (IMAGES, NAMES, {"class_names": ("ant", "bee")}, "labels must be integers"),
    ],
)
def test_invalid_images_and_labels_are_rejected(
    images: np.ndarray, labels: np.ndarray, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        StrategySampler(make_strategy("power_sampler"), **options).fit_resample(images, labels)


def test_unsupported_strategies_are_rejected() -> None:
    with pytest.raises(StrategyError, match="mixup gives soft targets, which y cannot represent"):
        StrategySampler(make_strategy("mixup")).fit(IMAGES, NAMES)
    with pytest.raises(StrategyError, match="logit_adjustment does not act on the training set"):
        StrategySampler(make_strategy("logit_adjustment")).fit(IMAGES, NAMES)
    with pytest.raises(PluginError, match="no strategy 'smoote'"):
        make_strategy("smoote")


def test_scouts_with_missing_or_invalid_predictions_are_rejected() -> None:
    mining = make_strategy("hard_examples")
    with pytest.raises(StrategyError, match=r"of shape \(49, 3\), got \(49, 2\)"):
        StrategySampler(mining, scout=lambda X, y: np.ones((len(X), 2))).fit_resample(IMAGES, NAMES)
    with pytest.raises(StrategyError, match="no scout is available here"):
        StrategySampler(mining).fit_resample(IMAGES, NAMES)
    space = make_strategy("imblearn", sampler="SMOTE", space="embeddings")
    with pytest.raises(StrategyError, match="a callable scout has no embeddings"):
        StrategySampler(space, scout=lambda X, y: np.ones((len(X), 3))).fit_resample(IMAGES, NAMES)


def test_a_torch_loader_yields_images_and_labels() -> None:
    sampler = StrategySampler(make_strategy("imblearn", sampler="SMOTE"))
    sampler.fit_resample(IMAGES, NAMES)
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


def test_pickled_data_sets_reopen_memory_mapped_files(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    mapped = ImageDataset.from_arrays(PixelBlock.open(tmp_path / "x.npy"), DATA.labels, DATA.class_names)
    dataset = as_torch_dataset(mapped)
    pickled = pickle.dumps(dataset)
    assert len(pickled) < IMAGES.nbytes / 4
    again = pickle.loads(pickled)
    assert torch.equal(again[5][0], dataset[5][0])


class TestRecipes:
    """Several strategies, and the steps of recipes."""

    def test_steps_act_in_order_with_their_numbers_in_the_provenance(self) -> None:
        flip = make_strategy("flip_crop_affine", flip=1, shift=0, rotate=0, scale=0)
        sampler = StrategySampler([make_strategy("imblearn", sampler="RandomOverSampler"), flip])
        images, labels = sampler.fit_resample(IMAGES, NAMES)
        assert counts(labels) == {"ant": 24, "bee": 24, "cat": 24}
        assert (images[: len(IMAGES)] == IMAGES[:, :, ::-1]).all()
        assert (sampler.training_set_.step == 2).all()

    def test_a_recipe_is_named_and_steps_that_act_elsewhere_are_left_out(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.yaml"
        file.write_text(
            "model: vgg_mini\nstrategies: [{imblearn: {sampler: RandomOverSampler}}, balanced_softmax]\n",
            encoding="utf-8",
        )
        for recipe in (str(file), file, load_recipe(str(file))):
            with pytest.warns(StrategyWarning, match="do not act on the training set: balanced_softmax"):
                _, labels = StrategySampler(recipe).fit_resample(IMAGES, NAMES)
            assert counts(labels) == {"ant": 24, "bee": 24, "cat": 24}
        _, labels = StrategySampler("oversample").fit_resample(IMAGES, NAMES)
        assert counts(labels) == {"ant": 24, "bee": 24, "cat": 24}
        with pytest.raises(StrategyError, match="there is no strategy to apply"):
            StrategySampler("paper").fit(IMAGES, NAMES)
        with pytest.raises(StrategyError, match="focal_loss does not act on the training set"):
            StrategySampler([make_strategy("focal_loss"), make_strategy("dedup")]).fit(IMAGES, NAMES)
        elsewhere = [make_strategy("focal_loss"), make_strategy("mirror_views")]
        with pytest.raises(StrategyError, match="focal_loss and mirror_views do not act on .*; use them in a recipe"):
            StrategySampler(elsewhere).fit(IMAGES, NAMES)

    def test_parameters_of_strategies_are_parameters_of_the_sampler(self) -> None:
        sampler: Any = StrategySampler([make_strategy("power_sampler"), make_strategy("power_sampler", exponent=1)])
        shown = sampler.get_params()
        assert (shown["power_sampler__exponent"], shown["power_sampler_2__exponent"]) == (0.5, 1)
        assert "power_sampler__exponent" not in sampler.get_params(deep=False)
        assert sampler.set_params(seed=4, power_sampler_2__exponent=0.25) is sampler
        assert [one.exponent for one in sampler.strategy] == [0.5, 0.25] and sampler.seed == 4
        with pytest.raises(ValueError, match="no parameter 'power_sampler__exponnt'; did you mean"):
            sampler.set_params(power_sampler__exponnt=1)
        with pytest.raises(ValueError, match="less than or equal to 1"):
            sampler.set_params(power_sampler__exponent=7)
        one: Any = StrategySampler(make_strategy("power_sampler")).set_params(power_sampler__exponent=1)
        assert one.strategy.exponent == 1

    def test_parameters_that_belong_together_are_changed_together(self) -> None:
        sampler: Any = StrategySampler(make_strategy("albumentations", transforms=["HorizontalFlip"]))
        sampler.set_params(albumentations__when="rewrite", albumentations__copies=2)
        assert len(sampler.fit_resample(IMAGES, NAMES)[1]) == 3 * len(NAMES)

    def test_a_recipe_with_other_parameters_is_still_a_recipe(self) -> None:
        sampler: Any = StrategySampler("modern_balanced")
        assert sampler.set_params(power_sampler__exponent=1, logit_adjustment__tau=0.5) is sampler
        again = clone(sampler)
        again.set_params(**sampler.get_params())
        for one in (sampler, again):
            shown = one.get_params()
            assert (shown["power_sampler__exponent"], shown["logit_adjustment__tau"]) == (1, 0.5)
            with pytest.warns(StrategyWarning, match="do not act on the training set: mirror_views, logit_adjustment"):
                _, labels = one.fit_resample(np.tile(IMAGES, (40, 1, 1, 1)), np.tile(NAMES, 40))
            assert min(counts(labels).values()) > 590, "a third each"
        with pytest.raises(ValueError, match="less than or equal to 1"):
            sampler.set_params(power_sampler__exponent=7)
        assert sampler.get_params()["power_sampler__exponent"] == 1

    @pytest.mark.filterwarnings("ignore:left out")
    def test_a_recipe_with_steps_that_act_elsewhere_is_searched(self) -> None:
        sampler = StrategySampler("modern_balanced", image_shape=SHAPE)
        pipeline = make_pipeline(sampler, StandardScaler(), LogisticRegression(max_iter=300))
        grid = {"strategysampler__power_sampler__exponent": [0, 1]}
        search = GridSearchCV(pipeline, grid, cv=2, error_score="raise")
        search.fit(FLAT, NAMES)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()

    def test_a_recipe_is_cloned_and_searched(self) -> None:
        sampler = StrategySampler("oversample", image_shape=SHAPE)
        assert clone(sampler).strategy == "oversample"
        pipeline = make_pipeline(sampler, StandardScaler(), LogisticRegression(max_iter=300))
        (name,) = (key for key in pipeline.get_params() if key.endswith("__sampler"))
        search = GridSearchCV(pipeline, {name: ["RandomOverSampler", "RandomUnderSampler"]}, cv=2)
        search.fit(FLAT, NAMES)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
