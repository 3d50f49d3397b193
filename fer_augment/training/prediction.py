"""Predictions of a network for all rows of a data set, and losses on them.

Legend of shapes: N rows, K classes, D features.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.hooks.declarations import Loss
from fer_augment.hooks.pipeline import Pipeline
from fer_augment.metrics import without_ties
from fer_augment.randomness import stream_key, uniforms
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.training.device_images import as_batch
from fer_augment.training.torch_runtime import autocast, device_of, reproducible

ROWS_AT_ONCE = 512
"""Maximum number of rows predicted at once."""
PIXELS_AT_ONCE = ROWS_AT_ONCE * 48 * 48
"""Maximum number of pixels (per channel) predicted at once; fewer rows of larger images."""


def predict(
    model: torch.nn.Module, dataset: ImageDataset, settings: TrainingSettings, views_of: Pipeline | None = None
) -> NDArray[np.float32]:
    """Compute the outputs of a network for each row.

    Args:
        model: a network, or a part of one such as `features`, in evaluation mode.
        dataset: N rows.
        settings: device, precision and threads.
        views_of: strategies over whose test-time views the logits are averaged; None for the images themselves.

    Returns:
        `(N, K) float32` logits, or `(N, D)` features.
    """
    parts = []
    with reproducible(settings, 0), torch.inference_mode(), autocast(settings):
        at_once = rows_at_once(dataset.image_shape)
        for start in range(0, max(len(dataset), 1), at_once):  # once for no rows, to get the number of columns
            images = as_batch(dataset.images[start : start + at_once], device_of(settings))
            views = views_of.fold("predict_views", [images]) if views_of else [images]
            logits = torch.stack([model(view).float() for view in views]).mean(dim=0)
            parts.append(logits.cpu().numpy())
    return np.concatenate(parts)


def rows_at_once(image_shape: tuple[int, int, int]) -> int:
    """Return how many images of a shape are predicted at once, so that the memory does not grow with their size."""
    height, width, _ = image_shape
    return max(1, min(ROWS_AT_ONCE, PIXELS_AT_ONCE // (height * width)))


def break_ties(logits: NDArray[np.float32], dataset: ImageDataset, seed: int) -> NDArray[np.float32]:
    """Break ties between the largest logits at random, with random numbers derived from each row.

    Args:
        logits: `(N, K) float32`.
        dataset: the N rows.
        seed: the seed of the run.

    Returns:
        `(N, K) float32`; in a row with ties, one of the largest logits is increased to the next float.
    """
    seeds = dataset.row_keys() ^ np.uint64(stream_key(seed, "ties"))
    return without_ties(logits, uniforms(seeds, 1)[:, 0])


def mean_loss(loss: Loss, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the mean loss over rows, with one-hot targets.

    Args:
        loss: the loss.
        logits: `(N, K) float32`.
        labels: `(N,) int64`.
    """
    one_hot = torch.eye(logits.shape[1])[torch.from_numpy(labels.copy())]
    return float(loss.of_batch(torch.from_numpy(logits), one_hot).mean())
