"""The strategy `imblearn` equals imbalanced-learn on float pixels, rounded, and records the parents of each row."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import imblearn.combine
import imblearn.over_sampling
import imblearn.under_sampling
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_info, threadpool_limits

from fer_augment import Context, Effect, ImageDataset, StrategyError
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.testing import NearestMeanScout, tiny_dataset

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
    ("ClusterCentroids", {"voting": "hard"}),
]


def test_every_sampler_of_imbalanced_learn_is_tested() -> None:
    modules = (imblearn.over_sampling, imblearn.under_sampling, imblearn.combine)
    shipped = {name for module in modules for name in module.__all__}
    assert shipped - {name for name, _ in INTERPOLATING + SELECTING} == {"SMOTEN", "SMOTENC"}


def blobs(channels: int = 3) -> ImageDataset:
    """Return overlapping clusters of images, clipped to 0 … 255; two images of a class are identical."""
    rng = np.random.default_rng(5)
    labels = rng.permutation(np.repeat([0, 1, 2], COUNTS))
    centers = rng.normal(120, 20, (3, 4, 3, channels))
    images = np.clip(centers[labels] + rng.normal(0, 70, (len(labels), 4, 3, channels)), 0, 255).astype(np.uint8)
    ants = np.flatnonzero(labels == 0)
    images[ants[3]] = images[ants[8]]
    return ImageDataset.from_arrays(images, labels, NAMES)


def reference(
    data: ImageDataset, name: str, parameters: dict[str, Any], points: np.ndarray | None = None, **common: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return the points and labels that imbalanced-learn itself gives for float pixels or other points."""
    modules = (imblearn.over_sampling, imblearn.under_sampling, imblearn.combine)
    sampler_class = next(getattr(module, name) for module in modules if name in module.__all__)
    if "random_state" in sampler_class().get_params():
        common["random_state"] = RANDOM_STATE
    inputs = data.images[:].reshape(len(data), -1).astype(np.float32) if points is None else points
    resampled, labels = sampler_class(**common, **parameters).fit_resample(inputs, data.labels)
    return resampled, labels


def rewritten(data: ImageDataset, embeddings: np.ndarray | None = None, **parameters: Any) -> ImageDataset:
    """Run the strategy with the random state used by `reference`."""
    scout = SimpleNamespace(embeddings=lambda training_set: embeddings)
    context = SimpleNamespace(rng=SimpleNamespace(integers=lambda high: RANDOM_STATE), require_scout=lambda: scout)
    strategy: Any = Imblearn(**parameters)
    result: ImageDataset = strategy.rewrite_training_set(data, context)
    return result


@pytest.mark.parametrize(("name", "parameters"), INTERPOLATING + SELECTING)
def test_the_result_equals_that_of_imbalanced_learn_on_float_pixels_rounded(
    name: str, parameters: dict[str, Any]
) -> None:
    data = blobs()
    pixels, labels = reference(data, name, parameters)
    result = rewritten(data, sampler=name, parameters=parameters)
    assert result.labels.tolist() == labels.tolist()
    expected = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    assert (result.images[:].reshape(len(result), -1) == expected).all()
    assert len(result) != len(data)


@pytest.fixture(scope="module")
def faces() -> ImageDataset:
    demo = installed_plugins().read("demo").train
    return demo.take(np.arange(0, len(demo), 4))


@pytest.mark.parametrize("name", ["SMOTE", "BorderlineSMOTE", "ADASYN"])
def test_the_result_equals_that_of_imbalanced_learn_on_faces(faces: ImageDataset, name: str) -> None:
    pixels, labels = reference(faces, name, {}, sampling_strategy={2: 300, 6: 300})
    target_counts = dict.fromkeys([faces.class_names[2], faces.class_names[6]], 300)
    result = rewritten(faces, sampler=name, sampling_strategy=target_counts)
    assert result.labels.tolist() == labels.tolist()
    assert (result.images[:].reshape(len(result), -1) == np.rint(pixels).astype(np.uint8)).all()


class TestPixelNeighbors:
    """The neighbor search for pixels, compared with scikit-learn's brute-force search in float64."""

    search = inspect.getmodule(Imblearn)._PixelNeighbors

    @pytest.mark.parametrize(("rows", "width"), [(1, 5), (7, 1), (40, 2304), (700, 2304)])
    @pytest.mark.parametrize("neighbors", [1, 2, 6, 11])
    def test_neighbors_equal_those_of_scikit_learn_without_ties(self, rows: int, width: int, neighbors: int) -> None:
        points = np.random.default_rng(3).integers(0, 256, (rows, width)).astype(np.float32)
        queries = points[: min(rows, 300)]
        if neighbors > rows:
            with pytest.raises(ValueError, match="n_neighbors"):
                self.search(neighbors).fit(points).kneighbors(queries)
            return
        actual = self.search(neighbors).fit(points).kneighbors(queries)
        brute = NearestNeighbors(n_neighbors=neighbors, algorithm="brute").fit(points.astype(np.float64))
        distances, expected = brute.kneighbors(queries.astype(np.float64))
        tied = (np.diff(distances, axis=1) == 0).any(axis=1)
        if width == 2304:
            assert not tied.any()
            assert (actual == expected).all()
        assert (self.squared_distances(queries, points[actual]) == np.rint(distances**2)).all()

    def test_distances_are_exact_for_black_and_white_images(self) -> None:
        points = np.zeros((3, 48 * 48 * 3), np.float32)
        points[0] = 255
        points[1, 1:] = 255
        assert self.search(3).fit(points).kneighbors(points).tolist() == [[0, 1, 2], [1, 0, 2], [2, 1, 0]]

    def test_ties_are_ordered_by_row_number(self) -> None:
        points = np.random.default_rng(4).integers(0, 2, (300, 4)).astype(np.float32)
        neighbors = self.search(40).fit(points).kneighbors(points)
        distances = self.squared_distances(points, points[None, :, :].repeat(300, axis=0))
        assert neighbors.tolist() == np.argsort(distances, axis=1, kind="stable")[:, :40].tolist()

    def test_zero_queries_give_an_empty_result(self) -> None:
        points = np.zeros((4, 9), np.float32)
        assert self.search(2).fit(points).kneighbors(points[:0]).shape == (0, 2)

    @staticmethod
    def squared_distances(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the `(n, k)` integer squared distances between `(n, D)` queries and `(n, k, D)` rows."""
        distances: np.ndarray = ((queries.astype(np.int64)[:, None] - rows.astype(np.int64)) ** 2).sum(axis=2)
        return distances


def test_samplers_that_need_only_labels_receive_no_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    fit_resample = imblearn.over_sampling.RandomOverSampler.fit_resample

    def recording_fit_resample(self: Any, X: np.ndarray, y: np.ndarray) -> Any:
        shapes.append(X.shape)
        return fit_resample(self, X, y)

    monkeypatch.setattr(imblearn.over_sampling.RandomOverSampler, "fit_resample", recording_fit_resample)
    rewritten(blobs(), sampler="RandomOverSampler")
    rewritten(blobs(), sampler="RandomOverSampler", parameters={"shrinkage": 0.5})
    assert shapes == [(sum(COUNTS), 1), (sum(COUNTS), 36)]


@pytest.mark.parametrize(("name", "parameters"), INTERPOLATING)
def test_synthetic_images_lie_between_their_recorded_parents(name: str, parameters: dict[str, Any]) -> None:
    data = blobs()
    exact, _ = reference(data, name, parameters)
    result = rewritten(data, sampler=name, parameters=parameters)
    synthetic = (result.step == -1) & (result.copies > 0)
    assert synthetic.sum() > 10
    source = data.images[:].reshape(len(data), -1).astype(np.float64)
    base, neighbor = (source[result.origins[synthetic, parent]] for parent in (0, 1))
    difference = neighbor - base
    length = np.maximum((difference**2).sum(axis=1), 1)  # two of the images are identical
    step = ((exact[synthetic] - base) * difference).sum(axis=1) / length
    assert np.abs(base + step[:, None] * difference - exact[synthetic]).max() < 1e-3, "the image is on the line"
    lowest = -0.5 if name == "SVMSMOTE" else 0.0
    assert lowest - 1e-6 <= step.min() < step.max() <= 1 + 1e-6
    assert (data.labels[result.origins[synthetic, 0]] == result.labels[synthetic]).all(), "the base is of the class"


@pytest.mark.parametrize(("name", "parameters"), SELECTING)
def test_selected_rows_are_unchanged(name: str, parameters: dict[str, Any]) -> None:
    data = blobs(channels=1)
    result = rewritten(data, sampler=name, parameters=parameters)
    assert result.origins.shape[1] == 1
    assert (result.images[:] == data.images[result.origin]).all()
    assert (result.labels == data.labels[result.origin]).all()
    repeated = len(result) - len(np.unique(result.origin))
    assert (result.copies > 0).sum() == repeated


def test_cluster_centroids_keeps_the_row_nearest_to_the_center() -> None:
    data = blobs(channels=1)
    result = rewritten(data, sampler="ClusterCentroids", sampling_strategy={"cat": 1})
    assert result.counts.tolist() == [30, 45, 1]
    cats = data.rows_of(["cat"])
    pixels = data.images[cats].reshape(len(cats), -1).astype(np.float64)
    nearest = cats[((pixels - pixels.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    assert result.origin[result.rows_of(["cat"])].tolist() == [nearest]


def test_kept_rows_have_no_step_in_their_provenance() -> None:
    result = rewritten(blobs(), sampler="SMOTE")
    assert (result.step[: sum(COUNTS)] == 0).all()
    assert result.origin[: sum(COUNTS)].tolist() == list(range(sum(COUNTS)))


def test_a_smoothed_bootstrap_gives_new_images_with_one_parent() -> None:
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
def test_sampling_strategy_uses_class_names(sampling_strategy: Any, counts: list[int]) -> None:
    result = rewritten(blobs(), sampler="SMOTE", sampling_strategy=sampling_strategy)
    assert result.counts.tolist() == counts


def test_cleaners_accept_a_list_of_classes() -> None:
    result = rewritten(blobs(), sampler="EditedNearestNeighbours", sampling_strategy=["cat"])
    assert result.counts.tolist()[:2] == [30, 45]
    assert result.counts[2] < 90


def test_combinations_pass_the_sampling_strategy_to_their_oversampler() -> None:
    data = blobs()
    expected, _ = reference(data, "SMOTETomek", {}, sampling_strategy={0: 60})
    result = rewritten(data, sampler="SMOTETomek", sampling_strategy={"ant": 60})
    assert (result.images[:].reshape(len(result), -1) == np.rint(expected).astype(np.uint8)).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sampler": "Smote"}, "no sampler 'Smote'; did you mean 'SMOTE'"),
        ({"sampler": "SMOTENC"}, "numerical and categorical columns"),
        ({"sampler": "SMOTEN"}, "unordered categories"),
        ({"sampler": "ClusterCentroids", "parameters": {"voting": "soft"}}, "no source row.*remove `voting`"),
        ({"sampler": "SMOTE", "parameters": {"k_neighbours": 3}}, "did you mean 'k_neighbors'"),
        ({"sampler": "SMOTE", "parameters": {"random_state": 3}}, "the seed of the run"),
        ({"sampler": "SMOTE", "parameters": {"sampling_strategy": "all"}}, "set it next to `parameters`"),
        ({"sampler": "SMOTEENN", "parameters": {"smote": {"k_neighbors": 3}}}, "remove smote from `parameters`"),
    ],
)
def test_invalid_parameters_are_rejected(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Imblearn(**parameters)


@pytest.mark.parametrize("name", ["BorderlineSMOTE", "SVMSMOTE", "KMeansSMOTE", "SMOTE", "ADASYN"])
@pytest.mark.parametrize("space", ["pixels", "embeddings"])
def test_with_nothing_to_add_the_training_set_stays_as_it_is(name: str, space: str) -> None:
    data = blobs()
    balanced = data.take(np.sort(np.concatenate([np.flatnonzero(data.labels == label)[:20] for label in range(3)])))
    result = rewritten(balanced, embeddings_of(balanced), sampler=name, space=space)
    assert (result.images[:] == balanced.images[:]).all()
    assert (result.labels == balanced.labels).all()


def test_errors_of_the_sampler_are_shown_with_the_class_counts() -> None:
    data = blobs().without(np.flatnonzero(blobs().labels == 0)[2:])
    with pytest.raises(StrategyError, match=r"SMOTE cannot resample \{'ant': 2, .*n_neighbors"):
        rewritten(data, sampler="SMOTE")


def test_unknown_parents_of_synthetic_images_raise_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def make_samples(self: Any, X: Any, y_dtype: Any, y_type: Any, *others: Any, **options: Any) -> Any:
        return np.zeros((3, X.shape[1]), np.float32), np.full(3, y_type)

    monkeypatch.setattr(imblearn.over_sampling.SMOTE, "_make_samples", make_samples)
    with pytest.raises(StrategyError, match="parents of the synthetic images of SMOTE cannot be determined"):
        rewritten(blobs(), sampler="SMOTE")


def test_the_sampler_uses_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def fit_resample(self: Any, X: Any, y: Any) -> Any:
        threads.extend(pool["num_threads"] for pool in threadpool_info())
        self.sample_indices_ = np.arange(len(X))
        return X, y

    monkeypatch.setattr(imblearn.under_sampling.TomekLinks, "_fit_resample", fit_resample)
    with threadpool_limits(2):
        rewritten(tiny_dataset(), sampler="TomekLinks")
        assert {pool["num_threads"] for pool in threadpool_info()} == {2}
    assert set(threads) == {1}


def test_the_result_depends_on_the_seed() -> None:
    def fingerprint(seed: int) -> str:
        pipeline = Pipeline(steps_of([Imblearn(sampler="SMOTE")]), Context(seed, NAMES))
        return pipeline.fold("rewrite_training_set", blobs()).fingerprint

    assert fingerprint(0) == fingerprint(0) != fingerprint(1)


def test_deterministic_samplers_are_not_declared_random() -> None:
    assert Effect.RANDOM in Imblearn(sampler="SMOTE").effects
    assert Effect.RANDOM not in Imblearn(sampler="TomekLinks").effects


def test_the_use_of_embeddings_is_declared() -> None:
    assert Effect.ASKS_FOR_EMBEDDINGS in Imblearn(sampler="SMOTE", space="embeddings").effects
    assert Effect.ASKS_FOR_EMBEDDINGS not in Imblearn(sampler="SMOTE").effects


def embeddings_of(data: ImageDataset) -> np.ndarray:
    """Return embeddings that are unrelated to the pixels: overlapping clusters."""
    rng = np.random.default_rng(8)
    points: np.ndarray = (rng.normal(0, 1, (3, 6))[data.labels] + rng.normal(0, 1.2, (len(data), 6))).astype(np.float32)
    return points


@pytest.mark.parametrize(("name", "parameters"), INTERPOLATING)
def test_parents_and_positions_of_embeddings_are_applied_to_pixels(name: str, parameters: dict[str, Any]) -> None:
    data = blobs()
    points = embeddings_of(data)
    exact, labels = reference(data, name, parameters, points)
    result = rewritten(data, points, sampler=name, parameters=parameters, space="embeddings")
    assert result.labels.tolist() == labels.tolist()
    synthetic = (result.step == -1) & (result.copies > 0)
    assert synthetic.sum() > 10
    base, neighbor = (result.origins[synthetic, parent] for parent in (0, 1))
    direction = points[neighbor] - points[base]
    position = ((exact[synthetic] - points[base]) * direction).sum(axis=1) / (direction**2).sum(axis=1)
    on_line = points[base] + position[:, None] * direction
    assert np.abs(on_line - exact[synthetic]).max() < 1e-4, "these are the parents"
    source = data.images[:].reshape(len(data), -1).astype(np.float64)
    expected = np.clip(source[base] + position[:, None] * (source[neighbor] - source[base]), 0, 255)
    assert np.abs(result.images[synthetic].reshape(synthetic.sum(), -1) - expected).max() <= 0.51, "rounded"


def test_neighbors_are_those_of_the_embeddings_in_a_small_example() -> None:
    levels = np.array([0, 200, 100, 40, 80, 120, 160], np.uint8)
    data = ImageDataset.from_arrays(levels[:, None, None] * np.ones((1, 2, 2), np.uint8), [0] * 3 + [1] * 4, "ab")
    points = np.array([[0.0], [1.0], [50.0], [90.0], [91.0], [92.0], [93.0]], np.float32)
    parameters = {"k_neighbors": 1}
    exact, _ = reference(data, "SMOTE", parameters, points)
    result = rewritten(data, points, sampler="SMOTE", parameters=parameters, space="embeddings")
    position = float(exact[-1, 0])
    level = 200 * position if position <= 1 else 200 - 100 * (position - 1) / 49  # 0 is next to 200 here, not to 100
    assert sorted(result.origins[-1].tolist()) == ([0, 1] if position <= 1 else [1, 2])
    assert result.images[[-1]].ravel().tolist() == [round(level)] * 4


@pytest.mark.parametrize(("name", "parameters"), SELECTING)
def test_rows_are_selected_by_their_embeddings(name: str, parameters: dict[str, Any]) -> None:
    data = blobs(channels=1)
    points = embeddings_of(data)
    exact, _ = reference(data, name, parameters, points)
    result = rewritten(data, points, sampler=name, parameters=parameters, space="embeddings")
    assert (points[result.origin] == exact).all()
    assert (result.images[:] == data.images[result.origin]).all()


def test_pixels_as_embeddings_give_the_same_result_as_pixels() -> None:
    data = tiny_dataset(3)
    results = [
        Pipeline(
            steps_of([Imblearn(sampler="SMOTE", space=space)]),
            Context(0, data.class_names),
            scout_for=lambda step: NearestMeanScout(),
        ).fold("rewrite_training_set", data)
        for space in ("pixels", "embeddings")
    ]
    assert results[0].origins.tolist() == results[1].origins.tolist()
    assert np.abs(results[0].images[:].astype(int) - results[1].images[:]).max() <= 1


def test_shrinkage_of_embeddings_is_rejected() -> None:
    with pytest.raises(ValueError, match="`shrinkage` adds noise"):
        Imblearn(sampler="RandomOverSampler", space="embeddings", parameters={"shrinkage": 0.5})


def test_a_missing_scout_raises_an_error() -> None:
    pipeline = Pipeline(steps_of([Imblearn(sampler="SMOTE", space="embeddings")]), Context(0, NAMES))
    with pytest.raises(StrategyError, match="no scout"):
        pipeline.fold("rewrite_training_set", blobs())
