"""Rewriting the training set: oversampling, imbalanced-learn, and augmented copies."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import albumentations
import imblearn.over_sampling
import numpy as np
import pytest

from benchmarks.samples import sample
from benchmarks.side_by_side import SideBySide
from fer_augment import Context, ImageDataset, PixelBlock, Splits
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.processes import cores

SOURCE_ROWS, SIDE, CHANNELS = 3_000, 96, 3
NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SHARES = (0.139, 0.015, 0.143, 0.251, 0.168, 0.110, 0.174)
"""Class frequencies of FER2013."""
MILLION = 1_000_000
ROWS_AT_ONCE = 20_000
"""Rows whose pixels are copied at a time; they take half a gigabyte."""

TRANSFORMS: list[dict[str, dict[str, Any]]] = [
    {"HorizontalFlip": {"p": 0.5}},
    {"Affine": {"rotate": [-10, 10], "translate_percent": [-0.08, 0.08], "scale": [0.9, 1.1], "p": 0.9}},
    {"RandomBrightnessContrast": {"brightness_limit": 0.2, "contrast_limit": 0.2, "p": 0.5}},
    {"GaussianBlur": {"blur_limit": [3, 3], "p": 0.3}},
]


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    """Return memory-mapped images of 96x96x3."""
    file = tmp_path_factory.mktemp("mapped") / "images.npy"
    rng = np.random.default_rng(0)
    np.save(file, rng.integers(0, 256, (SOURCE_ROWS, SIDE, SIDE, CHANNELS), dtype=np.uint8))
    return ImageDataset.from_arrays(PixelBlock.open(Path(file)), rng.choice(7, SOURCE_ROWS, p=SHARES), NAMES)


def balanced_rows(dataset: ImageDataset, rows: int) -> np.ndarray:
    """Draw rows so that all classes are equally frequent."""
    weights = 1 / dataset.counts[dataset.labels]
    return np.random.default_rng(1).choice(len(dataset), rows, p=weights / weights.sum())


def oversampled(dataset: ImageDataset, rows: np.ndarray) -> ImageDataset:
    """Repeat rows as in a run: take them, record the step in their provenance, count them."""
    grown = dataset.take(rows).stamped(1)
    assert grown.counts.sum() == len(rows)
    return grown


def copy_pixels(dataset: ImageDataset, rows: np.ndarray) -> None:
    """Copy pixels and labels, `ROWS_AT_ONCE` rows at a time."""
    for part in np.split(rows, len(rows) // ROWS_AT_ONCE):
        assert len(dataset.blocks[0].pixels[part]) == len(dataset.labels[part])


def test_oversampling_to_a_million_rows(side_by_side: SideBySide, mapped: ImageDataset) -> None:
    rows = balanced_rows(mapped, MILLION)
    side_by_side(
        "oversampling memory-mapped 96x96x3 images to 1,000,000 rows",
        ours=lambda: oversampled(mapped, rows),
        theirs=lambda: copy_pixels(mapped, rows),
        alternative=f"copying pixels, {ROWS_AT_ONCE:,} rows at a time, as 27 GB exceed memory",
    )
    few = rows[:ROWS_AT_ONCE]
    side_by_side.memory(
        f"oversampling memory-mapped 96x96x3 images to {ROWS_AT_ONCE:,} rows: memory",
        ours=lambda: oversampled(mapped, few),
        theirs=lambda: copy_pixels(mapped, few),
        alternative="copying pixels",
    )


@pytest.mark.parametrize("rows", [10**5, 10**6, 10**7], ids="{:,}".format)
def test_oversampling_grows_linearly(side_by_side: SideBySide, mapped: ImageDataset, rows: int) -> None:
    many, few = balanced_rows(mapped, rows), balanced_rows(mapped, rows // 10)
    side_by_side(
        f"oversampling to {rows:,} rows",
        ours=lambda: oversampled(mapped, many),
        theirs=lambda: [oversampled(mapped, few) for _ in range(10)],
        alternative=f"ten times {rows // 10:,} rows (1: linear growth)",
        n=5 if rows == 10**7 else 9,
    )
    side_by_side.memory(
        f"oversampling to {rows:,} rows: memory",
        ours=lambda: oversampled(mapped, many),
        theirs=lambda: oversampled(mapped, few),
        alternative=f"{rows // 10:,} rows (0.1: linear growth)",
    )


@pytest.fixture(scope="module", params=["demo", "FER2013"])
def some_faces(request: pytest.FixtureRequest, faces: Splits, data_name: str) -> tuple[str, ImageDataset]:
    """Return a description and images: the demo data, and a quarter of FER2013 if it is available."""
    if request.param == "demo":
        return "2,872 images of the demo data", installed_plugins().read("demo").train
    if data_name != "FER2013":
        pytest.skip("FER2013 is not set")
    quarter = sample(faces.train, len(faces.train) // 4)
    return f"{len(quarter):,} images of FER2013", quarter


@pytest.mark.parametrize("name", ["RandomOverSampler", "SMOTE", "BorderlineSMOTE"])
def test_imbalanced_learn(side_by_side: SideBySide, some_faces: tuple[str, ImageDataset], name: str) -> None:
    description, dataset = some_faces
    strategy: Any = installed_plugins().strategy("imblearn").value
    pipeline = Pipeline(steps_of([strategy(sampler=name)]), Context(0, dataset.class_names))
    pixels = dataset.images[:].reshape(len(dataset), -1).astype(np.float32)
    sampler = getattr(imblearn.over_sampling, name)(random_state=0)
    side_by_side(
        f"{name} on {description}",
        ours=lambda: pipeline.fold("rewrite_training_set", dataset),
        theirs=lambda: sampler.fit_resample(pixels, dataset.labels),
        alternative="the sampler alone, on float32 pixels",
        n=3 if name == "BorderlineSMOTE" and len(dataset) > 5_000 else 7,
        at_least=0.95,
    )


def test_augmented_copies(side_by_side: SideBySide, faces: Splits, data_name: str) -> None:
    dataset = sample(faces.train, 2_000)
    strategy: Any = installed_plugins().strategy("albumentations").value
    steps = steps_of([strategy(transforms=TRANSFORMS, when="rewrite", copies=1)])
    pipeline = Pipeline(steps, Context(0, dataset.class_names))
    transforms = [getattr(albumentations, name)(**options) for one in TRANSFORMS for name, options in one.items()]
    composed, images = albumentations.Compose(transforms, seed=0), dataset.images[:]
    side_by_side(
        f"albumentations copies of {data_name}, each with its own seed, with provenance",
        ours=lambda: pipeline.fold("rewrite_training_set", dataset),
        theirs=lambda: np.concatenate([images, np.stack([composed(image=image)["image"] for image in images])]),
        alternative="a loop with albumentations and one seed",
    )


@pytest.mark.benchmark(timer=time.perf_counter)
def test_augmented_copies_on_all_cores(side_by_side: SideBySide, mapped: ImageDataset) -> None:
    """Further cores help after the 0.6 s in which a process imports albumentations."""
    if cores() < 2:
        pytest.skip("requires two cores")
    strategy: Any = installed_plugins().strategy("albumentations").value
    transforms = [*TRANSFORMS, {"ElasticTransform": {"alpha": 20, "sigma": 5, "p": 1}}]
    steps = steps_of([strategy(transforms=transforms, when="rewrite", copies=5)])
    few = mapped.take(np.arange(2_000))
    one, all_of_them = (Pipeline(steps, Context(0, few.class_names, cores=count)) for count in (1, cores()))
    side_by_side(
        f"10,000 albumentations copies of 96x96x3 images on {cores()} cores",
        ours=lambda: all_of_them.fold("rewrite_training_set", few),
        theirs=lambda: one.fold("rewrite_training_set", few),
        alternative="the same copies on one core",
        n=3,
    )
