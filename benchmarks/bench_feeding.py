"""Rows augmented ahead of the training step, against PyTorch's DataLoader with as many worker processes."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.bench_rewriting import TRANSFORMS
from benchmarks.samples import sample
from benchmarks.side_by_side import SideBySide
from fer_augment import Context, ImageDataset, Splits
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.processes import cores
from fer_augment.recipe.binding import configured_model
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.training.row_workers import AugmentedRows
from fer_augment.training.specification import Training

BATCH, BATCHES = 128, 32

pytestmark = pytest.mark.benchmark(timer=time.perf_counter)


class Transformed(Dataset[tuple[torch.Tensor, int]]):
    """A data set as in the documentation of albumentations: one image at a time, transformed on access."""

    def __init__(self, data: ImageDataset) -> None:
        import albumentations

        transforms = [getattr(albumentations, name)(**options) for one in TRANSFORMS for name, options in one.items()]
        self.images, self.labels = data.images[:], data.labels
        self.compose = albumentations.Compose(transforms, seed=0)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.compose(image=self.images[row])["image"]), int(self.labels[row])


def training_of(data: ImageDataset, workers: int) -> Training:
    plugins = installed_plugins()
    albumentations = plugins.strategy("albumentations").value
    steps = steps_of([albumentations.model_validate({"transforms": TRANSFORMS, "when": "batch"})])
    return Training(
        model=configured_model(plugins.model("convnet0").value, {}),
        loss=plugins.loss("cross_entropy").value,
        settings=TrainingSettings(batch_size=BATCH, workers=workers, device="cpu"),
        pipeline=Pipeline(steps, Context(0, data.class_names)),
        training_set=data,
        source_rows=len(data),
        validation=data.take([0]),
        selection_rows=1,
    )


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_augmented_rows(side_by_side: SideBySide, faces: Splits, data_name: str, workers: int) -> None:
    """The processes are running already: what counts are images per second, not the start of a training."""
    if workers > cores():
        pytest.skip(f"requires {workers} cores; a DataLoader warns of more workers than cores")
    rows = np.arange(BATCH * BATCHES).reshape(BATCHES, BATCH)
    data = sample(faces.train, rows.size).take(rows.reshape(-1) % min(rows.size, len(faces.train) // 2))
    augmented, epochs = AugmentedRows(training_of(data, workers)), itertools.count()
    loader: DataLoader[Any] = DataLoader(Transformed(data), BATCH, num_workers=workers, persistent_workers=True)
    try:
        side_by_side(
            f"{rows.size:,} images of {data_name} with four transforms of albumentations, in {workers} processes",
            ours=lambda: sum(len(images) for images in augmented.epoch(rows, next(epochs))),
            theirs=lambda: sum(len(images) for images, _ in loader),
            alternative=f"a DataLoader with {workers} workers",
            n=7,
        )
    finally:
        augmented.close()
