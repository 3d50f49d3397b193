"""Imblearn gives what imbalanced-learn gives on float pixels, rounded, and knows every parent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import imblearn.combine
import imblearn.over_sampling
import imblearn.under_sampling
import numpy as np
import pytest

from fer_augment import Context, Effect, ImageDataset, StrategyError
from fer_augment.plugin_manager import installed_plugins
from fer_augment.stages import Stages, steps_of

Imblearn: Any = installed_plugins().strategy("imblearn").value
NAMES = ("ant", "bee", "cat")
COUNTS = (30, 45, 90)
RANDOM_STATE = 11

INTERPOLATING: list[tuple[str, dict[str, Any]]] = [
    ("SMOTE", {}),
    ("SMOTE", {"k_neighbors": 1}),
    ("BorderlineSMOTE", {}),
    ("BorderlineSMOTE", {"kind": "borderline-2"}),
    ("SVMSMOTE", {}),
    ("KMeansSMOTE", {"cluster_balance_threshold": 0.05, "kmeans_estimator": 3}),
    ("ADASYN", {}),
    ("SMOTEENN", {}),
    ("SMOTETomek", {}),
]
SELECTING: list[tuple[str, dict[str, Any]]] = [
    ("RandomOverSampler", {}),
    ("RandomUnderSampler", {}),
    ("RandomUnderSampler", {"replacement": True}),
    ("InstanceHardnessThreshold", {"cv": 2}),
    ("NearMiss", {}),
    ("NearMiss", {"version": 2}),
    ("TomekLinks", {}),
    ("EditedNearestNeighbours", {}),
    ("RepeatedEditedNearestNeighbours", {}),
    ("AllKNN", {}),
    ("OneSidedSelection", {}),
    ("CondensedNearestNeighbour", {}),
    ("NeighbourhoodCleaningRule", {}),
]


def blobs(channels: int = 3) -> ImageDataset:
    """Make overlapping clouds of images, cut off at black and white; two images of a class are the same."""
    rng = np.random.default_rng(5)
    labels = rng.permutation(np.repeat([0, 1, 2], COUNTS))
    centres = rng.normal(120, 20, (3, 4, 3, channels))
    images = np.clip(centres[labels] + rng.normal(0, 70, (len(labels), 4, 3, channels)), 0, 255).astype(np.uint8)
    ants = np.flatnonzero(labels == 0)
    images[ants[3]] = images[ants[8]]
    return ImageDataset.from_arrays(images, labels, NAMES)


def reference(
    data: ImageDataset, name: str, parameters: dict[str, Any], **common: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Call imbalanced-learn itself on float pixels; give pixels and labels."""
    modules = (imblearn.over_sampling, imblearn.under_sampling, imblearn.combine)
    sampler_class = next(getattr(module, name) for module in modules if name in module.__all__)
    if "random_state" in sampler_class().get_params():
        common["random_state"] = RANDOM_STATE
    pixels = data.images[:].reshape(len(data), -1).astype(np.float32)
    resampled, labels = sampler_class(**common, **parameters).fit_resample(pixels, data.labels)
    return resampled, labels


def rewritten(data: ImageDataset, **parameters: Any) -> ImageDataset:
    """Run the strategy with the random state of the reference."""
    context = SimpleNamespace(rng=SimpleNamespace(integers=lambda high: RANDOM_STATE))
    strategy: Any = Imblearn(**parameters)
    result: ImageDataset = strategy.rewrite_training_set(data, context)
    return result


@pytest.mark.parametrize(("name", "parameters"), INTERPOLATING + SELECTING)
def test_result_is_imbalanced_learns_own_on_float_pixels_rounded(name: str, parameters: dict[str, Any]) -> None:
    data = blobs()
    pixels, labels = reference(data, name, parameters)
    result = rewritten(data, sampler=name, parameters=parameters)
    assert result.labels.tolist() == labels.tolist()
    expected = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    assert (result.images[:].reshape(len(result), -1) == expected).all()
    assert len(result) != len(data)


@pytest.mark.parametrize(("name", "parameters"), INTERPOLATING)
def test_synthetic_image_lies_between_its_two_recorded_parents(name: str, parameters: dict[str, Any]) -> None:
    data = blobs()
    exact, _ = reference(data, name, parameters)
    result = rewritten(data, sampler=name, parameters=parameters)
    made = (result.step == -1) & (result.copies > 0)
    assert made.sum() > 10
    source = data.images[:].reshape(len(data), -1).astype(np.float64)
    base, neighbour = (source[result.origins[made, parent]] for parent in (0, 1))
    difference = neighbour - base
    length = np.maximum((difference**2).sum(axis=1), 1)  # two of the images are the same
    step = ((exact[made] - base) * difference).sum(axis=1) / length
    assert np.abs(base + step[:, None] * difference - exact[made]).max() < 1e-3, "it is on the line"
    furthest = -0.5 if name == "SVMSMOTE" else 0.0
    assert furthest - 1e-6 <= step.min() < step.max() <= 1 + 1e-6
    assert (data.labels[result.origins[made, 0]] == result.labels[made]).all(), "the base is of the class"


@pytest.mark.parametrize(("name", "parameters"), SELECTING)
def test_selected_rows_are_rows_of_the_set(name: str, parameters: dict[str, Any]) -> None:
    data = blobs(channels=1)
    result = rewritten(data, sampler=name, parameters=parameters)
    assert result.origins.shape[1] == 1
    assert (result.images[:] == data.images[result.origin]).all()
    assert (result.labels == data.labels[result.origin]).all()
    repeated = len(result) - len(np.unique(result.origin))
    assert (result.copies > 0).sum() == repeated


def test_rows_that_are_kept_count_as_read() -> None:
    result = rewritten(blobs(), sampler="SMOTE")
    assert (result.step[: sum(COUNTS)] == 0).all()
    assert result.origin[: sum(COUNTS)].tolist() == list(range(sum(COUNTS)))


def test_a_smoothed_bootstrap_makes_new_images_with_one_parent() -> None:
    data = blobs()
    parameters = {"shrinkage": 0.5}
    exact, _ = reference(data, "RandomOverSampler", parameters)
    result = rewritten(data, sampler="RandomOverSampler", parameters=parameters)
    assert (result.images[:].reshape(len(result), -1) == np.clip(np.rint(exact), 0, 255).astype(np.uint8)).all()
    assert result.origins.shape[1] == 1
    noise = exact[len(data) :] - data.images[result.origin[len(data) :]].reshape(len(result) - len(data), -1)
    assert 0 < np.abs(noise).mean() < 40


@pytest.mark.parametrize(
    ("sampling_strategy", "counts"),
    [
        ({"ant": 40, "bee": 50}, [40, 50, 90]),
        ({"bee": 90}, [30, 90, 90]),
        ("minority", [90, 45, 90]),
        (None, [90, 90, 90]),
    ],
)
def test_classes_are_named_not_numbered(sampling_strategy: Any, counts: list[int]) -> None:
    result = rewritten(blobs(), sampler="SMOTE", sampling_strategy=sampling_strategy)
    assert result.counts.tolist() == counts


def test_cleaners_take_a_list_of_classes() -> None:
    result = rewritten(blobs(), sampler="EditedNearestNeighbours", sampling_strategy=["cat"])
    assert result.counts.tolist()[:2] == [30, 45]
    assert result.counts[2] < 90


def test_combinations_pass_the_classes_on_to_their_over_sampler() -> None:
    data = blobs()
    expected, _ = reference(data, "SMOTETomek", {}, sampling_strategy={0: 60})
    result = rewritten(data, sampler="SMOTETomek", sampling_strategy={"ant": 60})
    assert (result.images[:].reshape(len(result), -1) == np.rint(expected).astype(np.uint8)).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sampler": "Smote"}, "no sampler 'Smote'; did you mean 'SMOTE'"),
        ({"sampler": "SMOTENC"}, "numbers and categories"),
        ({"sampler": "ClusterCentroids"}, "averages whole clusters"),
        ({"sampler": "SMOTE", "parameters": {"k_neighbours": 3}}, "did you mean 'k_neighbors'"),
        ({"sampler": "SMOTE", "parameters": {"random_state": 3}}, "the seed of the run"),
        ({"sampler": "SMOTE", "parameters": {"sampling_strategy": "all"}}, "beside `parameters`"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_training(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Imblearn(**parameters)


def test_a_sampler_that_cannot_work_says_why_with_the_counts() -> None:
    data = blobs().without(np.flatnonzero(blobs().labels == 0)[2:])
    with pytest.raises(StrategyError, match=r"SMOTE cannot resample \{'ant': 2, .*n_neighbors"):
        rewritten(data, sampler="SMOTE")


def test_a_sampler_that_does_not_tell_its_parents_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def silently(self: Any, X: Any, y_dtype: Any, y_type: Any, *others: Any, **options: Any) -> Any:
        return np.zeros((3, X.shape[1]), np.float32), np.full(3, y_type)

    monkeypatch.setattr(imblearn.over_sampling.SMOTE, "_make_samples", silently)
    with pytest.raises(StrategyError, match="does not tell which rows"):
        rewritten(blobs(), sampler="SMOTE")


def test_another_seed_draws_other_rows() -> None:
    def of(seed: int) -> str:
        stages = Stages(steps_of([Imblearn(sampler="SMOTE")]), Context(seed, NAMES))
        return stages.fold("rewrite_training_set", blobs()).fingerprint

    assert of(0) == of(0) != of(1)


def test_a_sampler_without_chance_does_not_claim_any() -> None:
    assert Effect.RANDOM in Imblearn(sampler="SMOTE").effects
    assert Effect.RANDOM not in Imblearn(sampler="TomekLinks").effects
