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
from fer_augment.training.device_images import as_batch, rows_at_once
from fer_augment.training.frozen_features import FeatureRows, FrozenFeatures
from fer_augment.training.machine import device_of
from fer_augment.training.torch_runtime import autocast, reproducible

FEATURES_AT_ONCE = 4096
"""Maximum number of rows of features predicted at once."""


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


def predict_from(
    frozen: FrozenFeatures | None,
    network: torch.nn.Module,
    dataset: ImageDataset,
    settings: TrainingSettings,
    views_of: Pipeline | None = None,
) -> NDArray[np.float32]:
    """Compute logits as `predict` does, by a head on frozen features if there are any.

    Args:
        frozen: the features, computed as far as they are missing; None for a network that takes images.
        network: the network, or the head, in evaluation mode.
        dataset: N rows.
        settings: device, precision and threads.
        views_of: as for `predict`.

    Returns:
        `(N, K) float32` logits.
    """
    if frozen is None:
        return predict(network, dataset, settings, views_of)
    if views_of is None or not views_of.acts_at("predict_views"):
        return _of_features(network, frozen.rows_of(dataset), settings)
    parts = []
    for views in frozen.views_of(dataset, views_of):
        with reproducible(settings, 0), torch.inference_mode(), autocast(settings):
            logits = torch.stack([network(view).float() for view in views]).mean(dim=0)
        parts.append(logits.cpu().numpy())
    return np.concatenate(parts)


def _of_features(network: torch.nn.Module, rows: FeatureRows, settings: TrainingSettings) -> NDArray[np.float32]:
    parts = []
    with reproducible(settings, 0), torch.inference_mode(), autocast(settings):
        for start in range(0, max(len(rows), 1), FEATURES_AT_ONCE):  # once for no rows, as in `predict`
            logits = network(rows.batch(slice(start, start + FEATURES_AT_ONCE)))
            parts.append(logits.float().cpu().numpy())
    return np.concatenate(parts)


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
