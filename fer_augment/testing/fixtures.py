"""Fixtures of the conformity kit: tiny data, a scout, a network and a short training.

Everything is made from fixed seeds, without global random numbers. Legend of shapes: N rows, B rows of a batch, H, W, C
height, width and channels, K classes, P source rows of a row.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import FIRST_OUTSIDE, ImageDataset
from fer_augment.data.duplicates import group_ids, stratified_folds
from fer_augment.hooks.strategy import PredictionKind, TrainAgain

if TYPE_CHECKING:
    import torch

CLASS_NAMES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibex", "jay", "koi")
COUNTS = (10, 15, 24)
MANY_COUNTS = (*COUNTS, 19, 9, 22, 14, 27, 17, 11, 20)
"""Rows of 11 classes: no two are equal, and neither those of small nor those of large classes come first."""
HEIGHT, WIDTH = 16, 14
_FOLDS = 3


def tiny_dataset(
    channels: int = 1, *, classes: int = len(COUNTS), height: int = HEIGHT, width: int = WIDTH
) -> ImageDataset:
    """Make a training set with the imbalanced classes `ant`, `bee` and `cat`; no image is symmetric.

    In each class two rows (one with more classes) look like each of the other classes, so a scout confuses every pair
    of classes. `cat` (or the last class) contains one image twice, and one image that is also in `bee`. Rows are
    shuffled, so the position of a row is not its origin.

    Args:
        channels: 1 for gray images, 3 for color.
        classes: 3 to 7, or 11; with more than 3, `dog`, `elk`, `fox` and `gnu` follow, then those up to `koi`.
        height: H.
        width: W.
    """
    rng = np.random.default_rng(20210)
    counts = [*COUNTS, *range(4 * classes, 4 * classes + classes - len(COUNTS))]
    if classes == len(MANY_COUNTS):
        counts = list(MANY_COUNTS)
    labels = np.repeat(np.arange(classes), counts)
    looks = labels.copy()
    for label in range(classes):
        others = [other for other in range(classes) if other != label]
        alike = np.repeat(others, 2 if classes == len(COUNTS) else 1)[: counts[label] - 4]
        looks[np.flatnonzero(labels == label)[: len(alike)]] = alike
    images = np.stack([_drawing(int(look), channels, height, width, rng) for look in looks])
    images[-1] = images[-2]
    images[-3] = images[np.flatnonzero(labels == 1)[-1]]
    dataset = ImageDataset.from_arrays(images, labels, CLASS_NAMES[:classes])
    return dataset.take(rng.permutation(len(dataset)))


def with_reversed_counts(data: ImageDataset) -> ImageDataset:
    """Return a set of the same size and classes, with the class counts in reverse order."""
    of_class = [np.flatnonzero(data.labels == label) for label in range(len(data.class_names))]
    return data.take(np.concatenate([np.resize(r, n) for r, n in zip(of_class, data.counts[::-1], strict=True)]))


def with_unusual_images(usual: ImageDataset) -> tuple[ImageDataset, NDArray[np.int64]]:
    """Return the data with unusual images of each class, and the rows of a batch that has them all."""
    images, shape = usual.images[:], usual.image_shape
    checkered = (np.indices(shape[:2]).sum(axis=0) % 2 * 255)[:, :, None]
    bright = np.zeros(shape, np.uint8)
    bright[shape[0] // 2, shape[1] // 2] = 255
    unusual = [np.zeros(shape), np.full(shape, 255), np.full(shape, 128), np.broadcast_to(checkered, shape), bright]
    rows = np.concatenate([usual.rows_of([name])[: len(unusual)] for name in usual.class_names])
    images[rows] = np.stack(unusual * len(usual.class_names)).astype(np.uint8)
    return ImageDataset.from_arrays(images, usual.labels, usual.class_names), rows


def _drawing(look: int, channels: int, height: int, width: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a bar, a disc or a stripe, at a slightly random position, with noise; from the eighth look on inverted."""
    y, x = np.mgrid[:height, :width] - rng.integers(0, 3, size=(2, 1, 1))
    inside = (
        (x >= 1) & (x < 4),
        (y >= 2) & (y < 5),
        (y - 9) ** 2 + (x - 8) ** 2 < 12,
        (y - 4) ** 2 + (x - 4) ** 2 < 9,
        (x - y >= 1) & (x - y < 4),
        (x >= 7) & (x < 10),
        (x >= 6) & (y >= 10),
    )[look % 7]
    if look >= 7:
        inside = ~inside
    tint = 1 - 0.2 * np.arange(channels)
    noise = rng.integers(0, 30, size=(height, width, channels))
    return np.asarray(40 + 160 * inside[..., None] * tint + noise, dtype=np.uint8)


class NearestMeanScout:
    """A scout that predicts the class with the nearest mean image; out of fold it is fitted without the queried rows.

    Attributes:
        asked: the queries so far, in order: `in_sample` or `out_of_fold` (probabilities), or `embeddings`.
    """

    def __init__(self) -> None:
        """Start without queries."""
        self.asked: list[str] = []

    def probabilities(self, training_set: ImageDataset, how: PredictionKind = "out_of_fold") -> NDArray[np.float32]:
        """Return `(N, K) float32` probabilities; NaN out of fold for rows whose origins span folds."""
        self.asked.append(how)
        pixels, labels = _pixels(training_set), training_set.labels
        classes = len(training_set.class_names)
        if how == "in_sample":
            return _nearest_mean(pixels, labels, pixels, classes)
        folds_NP = _folds_of_origins(training_set)
        result = np.full((len(training_set), classes), np.nan, dtype=np.float32)
        for fold in range(_FOLDS):
            outside = ((folds_NP != fold) | (folds_NP == -1)).all(axis=1)
            inside = ((folds_NP == fold) | (folds_NP == -1)).all(axis=1)
            result[inside] = _nearest_mean(pixels[outside], labels[outside], pixels[inside], classes)
        return result

    def embeddings(self, training_set: ImageDataset) -> NDArray[np.float32]:
        """Return `(N, H * W * C) float32` pixels in [0, 1]."""
        self.asked.append("embeddings")
        return _pixels(training_set)


def _pixels(training_set: ImageDataset) -> NDArray[np.float32]:
    return np.asarray(training_set.images[:].reshape(len(training_set), -1) / 255, dtype=np.float32)


def _folds_of_origins(training_set: ImageDataset) -> NDArray[np.int64]:
    """Return the folds of the source rows of each row, `(N, P)`; -1 for padding, -2 for rows from outside."""
    sources, first_row = np.unique(training_set.origin, return_index=True)
    sources, first_row = sources[sources >= 0], first_row[sources >= 0]
    groups = group_ids(training_set.digests[first_row])
    folds = stratified_folds(training_set.labels[first_row], groups, _FOLDS, np.random.default_rng(0))
    of_source = np.full(int(training_set.origins.max()) + 2, -1, dtype=np.int64)
    of_source[sources] = folds
    folds_NP = of_source[np.maximum(training_set.origins, -1)]
    folds_NP[training_set.origins <= FIRST_OUTSIDE] = FIRST_OUTSIDE
    return folds_NP


def _nearest_mean(
    pixels: NDArray[np.float32], labels: NDArray[np.int64], queries: NDArray[np.float32], classes: int
) -> NDArray[np.float32]:
    """Return class probabilities: softmax of negative squared distances to the mean of each class that has rows."""
    scores = np.full((len(queries), classes), -np.inf)
    for label in np.unique(labels):
        scores[:, label] = -((queries - pixels[labels == label].mean(axis=0)) ** 2).sum(axis=1)
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float32)


def as_tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    """Convert `(B, H, W, C) uint8` images to the input of a network: `(B, C, H, W) float32` in [0, 1]."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 255


def tiny_network(
    image_shape: tuple[int, int, int], classes: int, *, seed: int = 0, linear_head: bool = True
) -> torch.nn.Module:
    """Build a network of two linear layers, `features` and `head`, with weights determined by the seed.

    Args:
        image_shape: H, W, C.
        classes: K.
        seed: seed of the weights.
        linear_head: if False, there is no `head`; the last linear layer, batch norm and ReLU form a module `output`, as
            in convnet1 to convnet5.
    """
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(image_shape)), 8), nn.ReLU())
        last = nn.Linear(8, classes)
    if linear_head:
        return nn.Sequential(OrderedDict([("features", features), ("head", last)]))
    output = nn.Sequential(last, nn.BatchNorm1d(classes), nn.ReLU())
    return nn.Sequential(OrderedDict([("features", features), ("output", output)]))


def tiny_training(training_set: ImageDataset) -> TrainAgain:
    """Return the `context.train` of the kit: a few gradient steps on rows drawn with the weights."""
    import torch

    images, labels = as_tensor(training_set.images[:]), torch.from_numpy(training_set.labels.copy())

    def train(
        model: torch.nn.Module,
        *,
        parameters: Iterable[torch.nn.Parameter] | None = None,
        weights: NDArray[np.float64] | None = None,
        epochs: int = 1,
    ) -> torch.nn.Module:
        rng = np.random.default_rng(0)
        optimizer = torch.optim.SGD(model.parameters() if parameters is None else parameters, lr=0.1)
        shares = None if weights is None else weights / weights.sum()
        for _ in range(3 * epochs):
            rows = torch.from_numpy(rng.choice(len(training_set), size=16, p=shares))
            model.zero_grad()
            torch.autograd.backward(torch.nn.functional.cross_entropy(model(images[rows]), labels[rows]))
            optimizer.step()
        return model

    return train
