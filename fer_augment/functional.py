"""Strategies as objects for training loops of your own, in plain PyTorch, Lightning or any other.

```python
from fer_augment.functional import BatchAugmentation, StrategyLoss, make_strategy

augment = BatchAugmentation(make_strategy("mixup", alpha=0.4), labels=labels)
loss_of = StrategyLoss(make_strategy("balanced_softmax"), labels=labels)
for images, targets in loader:                    # (B, C, H, W) in [0, 1], (B,) class numbers
    images, targets = augment(images, targets)    # targets become (B, K) class weights
    loss_of(network(images), targets).backward()
```

They call the hooks of the strategies as a recipe does. With the positions of the rows (`rows=`) the result is the same
as in a run with the same seed, whose steps these are, on a training set in this order.

Legend of shapes: N rows of the training set, B rows of a batch, H, W, C height, width and channels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.errors import DatasetError, StrategyError
from fer_augment.hooks.loss_features import LossFeatures
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.hooks.strategy import Context, Scout, Strategy
from fer_augment.resampling import StrategySampler, make_strategy

__all__ = [
    "BatchAugmentation",
    "StrategyLoss",
    "StrategySampler",
    "make_strategy",
    "prepare_model",
    "sampling_weights",
]


class BatchAugmentation:
    """Augment batches with strategies that act at `augment_rows` or `augment_batch`.

    Attributes:
        epoch: the epoch, from 0; strategies draw other random numbers in each. Set it at the start of an epoch, or
            leave it: repeated draws of a row differ anyway.
    """

    def __init__(
        self,
        *strategies: Strategy,
        labels: ArrayLike,
        images: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        seed: int = 0,
        scout: Scout | None = None,
    ) -> None:
        """Prepare to augment.

        Args:
            strategies: in the order in which they act.
            labels: `(N,)` class numbers from 0 of all training rows.
            images: `(N, H, W)` or `(N, H, W, C) uint8`, all training images, for `cmo`, which adds some to batches.
            class_names: K names, for strategies with classes as parameters; by default "0", "1", ….
            seed: seed of all random numbers.
            scout: predictions for `confusion_mix`.

        Raises:
            DatasetError: if the labels are invalid.
            StrategyError: if no strategy acts on batches.
        """
        self.epoch = 0
        self._data = _training_rows(labels, class_names, images)
        self._steps = _acting(strategies, ("augment_rows", "augment_batch"))
        self._seed, self._scout = seed, scout
        self._pipelines: dict[str, Pipeline] = {}
        self._first_rows = _first_row_of_each_class(self._data)

    def __call__(
        self, images: torch.Tensor, targets: torch.Tensor, *, rows: ArrayLike | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment a batch.

        Args:
            images: `(B, C, H, W)` floats in [0, 1].
            targets: `(B,)` class numbers, or `(B, K)` class weights that sum to 1 in each row.
            rows: `(B,)` positions of the rows in the training set, whole numbers from 0 to N - 1; with them, the
                result for a row depends neither on its batch nor on the order of rows, unless a strategy mixes images.

        Returns:
            Images and `(B, K) float32` class weights, on the device of the images.

        Raises:
            DatasetError: if images, targets or rows are not of this form.
            StrategyError: if a strategy fails.
        """
        if images.ndim != 4 or not images.is_floating_point() or not ((images >= 0) & (images <= 1)).all():
            raise DatasetError(
                "images must be (B, C, H, W) floats in [0, 1]; divide uint8 by 255, and normalize after augmenting"
            )
        one_hot = _as_weights(targets, len(self._data.class_names)).to(images.device)
        if not (one_hot.sum(dim=1) - 1).abs().le(1e-3).all() or (one_hot < 0).any():
            raise DatasetError("targets must be class weights of 0 or more that sum to 1 in each row")
        labels = one_hot.argmax(dim=1).cpu().numpy()
        positions = self._first_rows[labels] if rows is None else _positions(rows, len(images), len(self._data))
        pipeline = self._pipeline(images.device.type)
        arguments: dict[str, Any] = {"epoch": self.epoch, "rows": positions, "training_set": self._data}
        if pipeline.acts_at("augment_rows"):
            pixels = (images * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
            changed = pipeline.fold("augment_rows", pixels, labels=labels, **arguments)
            images = (torch.from_numpy(changed).permute(0, 3, 1, 2).float() / 255).to(images.device)
        augmented: tuple[torch.Tensor, torch.Tensor] = pipeline.fold("augment_batch", (images, one_hot), **arguments)
        return augmented

    def _pipeline(self, device: str) -> Pipeline:
        if device not in self._pipelines:
            scout = self._scout
            self._pipelines[device] = Pipeline(
                self._steps,
                Context(self._seed, self._data.class_names, device=device),
                scout_for=(lambda step: scout) if scout else None,
            )
        return self._pipelines[device]


class StrategyLoss:
    """A loss as strategies build it: weighted, with margins, adjusted to the class frequencies, smoothed.

    Attributes:
        epoch: the epoch, from 0; set it at the start of each epoch for strategies that act from a later one on.
    """

    def __init__(
        self,
        *strategies: Strategy,
        labels: ArrayLike,
        class_names: Sequence[str] | None = None,
        base: str = "cross_entropy",
        class_prior: ArrayLike | None = None,
        seed: int = 0,
    ) -> None:
        """Prepare the loss.

        Args:
            strategies: in the order in which they wrap the loss.
            labels: `(N,)` class numbers from 0 of all training rows.
            class_names: K names, for strategies with classes as parameters.
            base: the installed loss that they wrap.
            class_prior: `(K,)` class frequencies of the batches, summing to 1; by default those of `labels`. Pass them
                if rows are drawn with weights.
            seed: seed of all random numbers.

        Raises:
            DatasetError: if the labels are invalid.
            PluginError: if there is no such loss.
            StrategyError: if no strategy builds a loss.
        """
        self.epoch = 0
        self._data = _training_rows(labels, class_names)
        counts = self._data.counts
        self._class_prior = np.asarray(counts / counts.sum() if class_prior is None else class_prior, dtype=np.float64)
        prior = self._class_prior
        if prior.shape != counts.shape or not np.isclose(prior.sum(), 1) or not (prior >= 0).all():
            raise DatasetError(f"class_prior must be {len(counts)} frequencies that sum to 1, none below 0")
        self._base = installed_plugins().loss(base).value.of_batch
        self._steps, self._seed = _acting(strategies, ("build_loss",)), seed
        self._features = LossFeatures()
        self._built: dict[tuple[int, str], Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {}

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, features: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the mean loss of a batch.

        Args:
            logits: `(B, K)`.
            targets: `(B,)` class numbers, or `(B, K)` class weights that sum to 1 in each row.
            features: `(B, D)`, what the head was given, for losses that ask for it.
        """
        return self.of_rows(logits, targets, features).mean()

    def of_rows(
        self, logits: torch.Tensor, targets: torch.Tensor, features: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the loss of each row, `(B,)`.

        Raises:
            StrategyError: if a loss asks for features and there are none, or not for each row.
        """
        device, logits = str(logits.device), logits.float()  # as in training with mixed precision
        key = (self.epoch, device)
        if key not in self._built:
            pipeline = Pipeline(self._steps, Context(self._seed, self._data.class_names, device=device))
            self._built = {
                key: pipeline.fold(
                    "build_loss",
                    self._base,
                    epoch=self.epoch,
                    class_prior=self._class_prior,
                    training_set=self._data,
                    adapt=self._features.offered_to,
                )
            }
        with self._features.given(None if features is None else features.float()):
            return self._built[key](logits, _as_weights(targets, len(self._data.class_names)).to(logits))


def sampling_weights(*strategies: Strategy, labels: ArrayLike, epoch: int = 0) -> NDArray[np.float64]:
    """Return the weight of each training row in an epoch, for `torch.utils.data.WeightedRandomSampler`.

    Args:
        strategies: strategies that act at `sampling_weights`, such as `power_sampler`.
        labels: `(N,)` class numbers from 0.
        epoch: the epoch, from 0.

    Returns:
        `(N,) float64`.

    Raises:
        StrategyError: if no strategy sets weights, or one fails.
    """
    data = _training_rows(labels, None)
    pipeline = Pipeline(_acting(strategies, ("sampling_weights",)), Context(0, data.class_names))
    return pipeline.fold("sampling_weights", np.ones(len(data)), epoch=epoch, training_set=data)


def prepare_model(
    model: torch.nn.Module, *strategies: Strategy, class_names: Sequence[str] = (), seed: int = 0
) -> torch.nn.Module:
    """Return an untrained network as strategies prepare it, such as `ldam_loss`, which replaces `model.head`.

    Raises:
        StrategyError: if no strategy acts on networks, or one does not take the network.
    """
    pipeline = Pipeline(_acting(strategies, ("prepare_model",)), Context(seed, tuple(class_names)))
    return pipeline.fold("prepare_model", model)


def _acting(strategies: Sequence[Strategy], stages: Sequence[str]) -> Any:
    """Return strategies as steps; refuse those that do nothing here."""
    steps = steps_of(strategies)
    for step in steps:
        if not step.acts_at(stages):
            raise StrategyError(f"{step.name} does not act at {' or '.join(stages)}")
    if not steps:
        raise StrategyError("give at least one strategy, such as make_strategy('mixup')")
    return steps


def _training_rows(
    labels: ArrayLike, class_names: Sequence[str] | None, images: ArrayLike | None = None
) -> ImageDataset:
    """Return a data set of rows with these labels; without images they share one black pixel."""
    numbers = np.asarray(labels)
    if numbers.ndim != 1 or not len(numbers) or not np.issubdtype(numbers.dtype, np.integer) or numbers.min() < 0:
        raise DatasetError("labels must be (N,) class numbers from 0, of at least one row")
    names = [str(number) for number in range(int(numbers.max()) + 1)] if class_names is None else class_names
    if images is not None:
        return ImageDataset.from_arrays(images, numbers, names)
    pixel = np.zeros((1, 1, 1, 1), dtype=np.uint8)
    return ImageDataset.from_arrays(pixel, numbers, names, rows=np.zeros(len(numbers), dtype=np.int64))


def _first_row_of_each_class(data: ImageDataset) -> NDArray[np.int64]:
    rows = np.zeros(len(data.class_names), dtype=np.int64)
    classes, first = np.unique(data.labels, return_index=True)
    rows[classes] = first
    return rows


def _positions(rows: ArrayLike, images: int, training_rows: int) -> NDArray[np.int64]:
    """Return the positions of images in the training set.

    Raises:
        DatasetError: if they are not one whole number for each image, or not in the training set.
    """
    positions = np.asarray(rows)
    last = training_rows - 1
    expected = f"rows must be the position of each image in the training set: {images} whole numbers from 0 to {last}"
    if positions.shape != (images,) or (images and not np.issubdtype(positions.dtype, np.integer)):
        raise DatasetError(f"{expected}, got {positions.dtype} {positions.shape}")
    outside = positions[(positions < 0) | (positions >= training_rows)]
    if len(outside):
        raise DatasetError(f"{expected}, got {outside[0]}")
    return positions.astype(np.int64)


def _as_weights(targets: torch.Tensor, classes: int) -> torch.Tensor:
    """Return class numbers as `(B, K) float32` class weights.

    Raises:
        DatasetError: if they are neither class numbers nor as many weights as there are classes.
    """
    if targets.ndim == 1 and not targets.is_floating_point():
        if targets.device.type == "cpu" and not ((targets >= 0) & (targets < classes)).all():  # elsewhere torch checks
            raise DatasetError(f"targets must be class numbers from 0 to {classes - 1}")
        return torch.nn.functional.one_hot(targets.long(), classes).float()
    if targets.ndim != 2 or targets.shape[1] != classes or not targets.is_floating_point():
        got = f"{targets.dtype} {tuple(targets.shape)}"
        raise DatasetError(f"targets must be (B,) whole numbers or (B, {classes}) floats, got {got}")
    return targets
