"""Features of images under a backbone that is not trained: computed once for each image, and the head on them.

Legend of shapes: N rows, B rows of a batch, m stored images, D features, H, W, C height, width and channels.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from fer_augment.data.dataset import ImageDataset
from fer_augment.data.duplicates import image_digests
from fer_augment.data.feature_cache import FeatureCache, StoredFeatures
from fer_augment.data.records import BACKBONE_FILE
from fer_augment.data.whole_files import write_whole
from fer_augment.hooks.pipeline import Pipeline
from fer_augment.phases import ReportProgress
from fer_augment.recipe.training_settings import TrainingSettings
from fer_augment.training.device_images import as_batch, rows_at_once
from fer_augment.training.machine import device_of
from fer_augment.training.torch_runtime import autocast, reproducible

BATCH = 128
"""Images in a batch of the backbone, less for large ones; always full, so that no result depends on the last batch."""


class HeadOnFeatures(torch.nn.Module):
    """The head of a network as a network of its own, which takes features in place of images."""

    def __init__(self, head: torch.nn.Module) -> None:
        """Take the head; `features` is the identity, for strategies that expect a backbone."""
        super().__init__()
        self.features = torch.nn.Identity()
        self.head = head

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map `(B, D)` features to `(B, K)` logits."""
        logits: torch.Tensor = self.head(self.features(features))
        return logits


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """The features of the rows of a data set.

    Attributes:
        features: `(m, D) float32`, of stored images; on the CPU a memory map that all processes share.
        index: `(N,) int64`, the stored image of each row.
    """

    features: torch.Tensor
    index: torch.Tensor

    def __len__(self) -> int:
        """Number of rows, N."""
        return len(self.index)

    def batch(self, rows: torch.Tensor | slice) -> torch.Tensor:
        """Gather the `(B, D)` features of rows."""
        return self.features[self.index[rows]]


@dataclass(frozen=True, eq=False)
class FrozenFeatures:
    """The features of images under a backbone, each computed once and cached.

    Processes that need the same features at the same time share the work: each computes what none has stored yet. The
    features of an image depend neither on the other images of its batch nor on the process that computes them.

    Attributes:
        cache: where the features are kept.
        build: builds the network with its initial weights; called only if features are missing.
        settings: device, precision and threads.
        progress: receives the number of images done and their total while features are computed.
    """

    cache: FeatureCache
    build: Callable[[], torch.nn.Module]
    settings: TrainingSettings
    progress: ReportProgress = lambda done, total: None

    def rows_of(self, dataset: ImageDataset) -> FeatureRows:
        """Return the features of all rows, after computing those that are missing."""
        stored = self._stored()
        places = stored.places_of(dataset.digests)
        while (places < 0).any():  # again if the cache was pruned meanwhile
            missing = np.flatnonzero(places < 0)
            _, first = np.unique(dataset.digests[missing], return_index=True)
            self._compute(dataset, missing[first], since=len(stored.digests))
            stored = self._opened[0] = self.cache.open()
            places = stored.places_of(dataset.digests)
        return self._on_device(places)

    def missing(self, dataset: ImageDataset) -> int:
        """Return how many distinct images have no features yet."""
        digests = np.unique(dataset.digests)
        return int((self._stored().places_of(digests) < 0).sum())

    def views_of(self, dataset: ImageDataset, pipeline: Pipeline) -> Iterator[list[torch.Tensor]]:
        """Yield the `(B, D)` features of the test-time views of a batch of rows, for all batches.

        Views are computed from the pixels; their features are cached by the digest of their pixels, so that a view
        that depends on nothing but its image is computed once for all seeds.
        """
        at_once = self.at_once(dataset.image_shape)
        for start in range(0, max(len(dataset), 1), at_once):
            images = as_batch(dataset.images[start : start + at_once], self._device)
            with torch.inference_mode():
                views = pipeline.fold("predict_views", [images])
            yield [self._of_view(view, at_once) for view in views]
            self.progress(min(start + at_once, len(dataset)), len(dataset))

    def on_trial(self) -> FrozenFeatures:
        """Return a stand-in that computes one batch only and gives its features to all rows, to time a training."""
        return _OnTrial(self.cache, self.build, self.settings)

    def seconds_per_image(self, dataset: ImageDataset) -> float:
        """Time a batch of the backbone after a first one; return the mean of an image, in seconds."""
        at_once = self.at_once(dataset.image_shape)
        images = as_batch(dataset.images[np.arange(at_once) % len(dataset)], self._device)
        self.of_images(images, at_once)
        started = time.perf_counter()
        self.of_images(images, at_once)
        return (time.perf_counter() - started) / at_once

    @staticmethod
    def at_once(image_shape: tuple[int, int, int]) -> int:
        """Return how many images of a shape a batch of the backbone has."""
        return min(BATCH, rows_at_once(image_shape))

    def of_images(self, images: torch.Tensor, at_once: int) -> NDArray[np.float32]:
        """Compute the `(B, D) float32` features of at most `at_once` images, `(B, C, H, W) float32` in [0, 1]."""
        with reproducible(self.settings, 0), torch.inference_mode(), autocast(self.settings):
            filled = torch.cat([images, images[:1].expand(at_once - len(images), -1, -1, -1)])
            features = self._backbone(filled.contiguous(memory_format=torch.channels_last))
            result: NDArray[np.float32] = features[: len(images)].float().cpu().numpy()
            return result

    @cached_property
    def _device(self) -> str:
        return device_of(self.settings)

    def backbone_file(self) -> Path:
        """Return a file with all weights of the network but those of the head; it is written once, by one process."""
        file = self.cache.folder / BACKBONE_FILE
        if file.exists():
            return file
        tensors = self._network.state_dict().items()
        of_backbone = {name: tensor for name, tensor in tensors if not name.startswith("head.")}
        content = save({name: tensor.cpu().contiguous().clone() for name, tensor in of_backbone.items()})
        with self.cache.locked():
            if not file.exists():
                write_whole(file, content)
        return file

    @cached_property
    def _network(self) -> torch.nn.Module:
        with reproducible(self.settings, 0):
            return self.build()

    @cached_property
    def _backbone(self) -> torch.nn.Module:
        """The backbone on its device, in evaluation mode."""
        backbone = self._network.get_submodule("features").to(self._device).eval().requires_grad_(False)
        return backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return] # its stub lacks it

    @cached_property
    def _opened(self) -> list[StoredFeatures]:
        return [self.cache.open()]

    def _stored(self) -> StoredFeatures:
        """Return what is stored, opened again only if something was added."""
        if len(self.cache.digests_since(len(self._opened[0].digests))):
            self._opened[0] = self.cache.open()
        return self._opened[0]

    def _compute(self, dataset: ImageDataset, rows: NDArray[np.int64], since: int) -> None:
        """Compute and store the features of rows with distinct images, in random order, unless others do.

        Args:
            dataset: the data set.
            rows: `(n,)` positions.
            since: how many images were stored when these were not among them.
        """
        at_once, done = self.at_once(dataset.image_shape), 0
        present = set[bytes]()
        with self.cache.held():
            for start in _shuffled(range(0, len(rows), at_once)):
                chunk = rows[start : start + at_once]
                added = self.cache.digests_since(since)
                since += len(added)
                present.update(added.tolist())
                digests = dataset.digests[chunk]
                is_wanted = [digest not in present for digest in digests.tolist()]
                wanted = chunk[is_wanted]
                if len(wanted):
                    features = self.of_images(as_batch(dataset.images[wanted], self._device), at_once)
                    self.cache.add(digests[is_wanted], features, since=since)
                done += len(chunk)
                self.progress(done, len(rows))
        self.cache.keep_limit()

    def _of_view(self, view: torch.Tensor, at_once: int) -> torch.Tensor:
        pixels = view.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        digests = image_digests(pixels.view(np.uint8))
        stored = self._stored()
        places = stored.places_of(digests)
        missing = np.flatnonzero(places < 0)
        if len(missing):
            distinct, first, inverse = np.unique(digests[missing], return_index=True, return_inverse=True)
            computed = self.of_images(view[torch.from_numpy(missing[first]).to(view.device)], at_once)
            self.cache.add(distinct, computed, since=len(stored.digests))
            features = np.empty((len(view), computed.shape[1]), np.float32)
            features[missing] = computed[inverse]
            features[places >= 0] = stored.features[places[places >= 0]]
        else:
            features = stored.features[places]
        return torch.from_numpy(features).to(self._device)

    def _on_device(self, places: NDArray[np.int64]) -> FeatureRows:
        features = self._stored().features
        if self._device == "cpu":
            return FeatureRows(torch.from_numpy(features), torch.from_numpy(places))
        used, index = np.unique(places, return_inverse=True)
        return FeatureRows(*(torch.from_numpy(part).to(self._device) for part in (features[used], index)))


class _OnTrial(FrozenFeatures):
    """Features of one batch of images in place of those of all rows."""

    def rows_of(self, dataset: ImageDataset) -> FeatureRows:
        at_once = self.at_once(dataset.image_shape)
        images = as_batch(dataset.images[np.arange(at_once) % len(dataset)], self._device)
        features = torch.from_numpy(self.of_images(images, at_once)).to(self._device)
        return FeatureRows(features, (torch.arange(len(dataset)) % at_once).to(self._device))


def _shuffled(starts: range) -> list[int]:
    """Return the chunks in an order of this process alone; it decides who computes what, not what is computed."""
    order = list(starts)
    secrets.SystemRandom().shuffle(order)
    return order
