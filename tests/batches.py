"""Helpers that run a strategy on a batch, for tests of batch augmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fer_augment import Context, ImageDataset, Strategy
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.testing.fixtures import as_tensor


def faces(count: int, size: tuple[int, int, int] = (20, 16, 1), classes: int = 1) -> ImageDataset:
    """Return a data set of noise images whose labels cycle through the classes `a`, `b`, …"""
    images = np.random.default_rng(0).integers(0, 256, (count, *size), dtype=np.uint8)
    return ImageDataset.from_arrays(images, np.arange(count) % classes, "abcdefghij"[:classes])


def pipeline_of(strategy: Strategy, data: ImageDataset, seed: int = 0, scout: Any = None) -> Pipeline:
    scout_for = (lambda step: scout) if scout else None
    return Pipeline(steps_of([strategy]), Context(seed, data.class_names), scout_for=scout_for)


def one_hot(data: ImageDataset, rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.eye(len(data.class_names), dtype=np.float32)[data.labels[rows]])


def augmented(
    strategy: Strategy,
    data: ImageDataset,
    rows: np.ndarray | None = None,
    *,
    epoch: int = 0,
    seed: int = 0,
    scout: Any = None,
    images: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run `augment_batch` on rows of a set (all by default); `images` replaces their images."""
    batch = np.arange(len(data)) if rows is None else rows
    inputs = as_tensor(data.images[batch]) if images is None else images
    return pipeline_of(strategy, data, seed, scout).fold(
        "augment_batch", (inputs, one_hot(data, batch)), rows=batch, training_set=data, epoch=epoch
    )
