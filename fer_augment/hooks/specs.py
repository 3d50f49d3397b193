"""All hooks. `RegistrationSpecs`: what do you offer? `StageSpecs`: what do you do at this stage of this run?

A stage is a fold in recipe order over its first argument: what one strategy returns, the next one receives. A
strategy implements the stages it needs and takes the arguments it needs, by name.

Legend of shapes: N rows of the training set, B rows of a batch, H, W, C height, width and channels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pluggy
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.data.records import Evaluation, RunIdentity
from fer_augment.hooks.declarations import DatasetReader, Loss, Model, Tracker
from fer_augment.hooks.strategy import Context, Strategy

if TYPE_CHECKING:
    import torch

    from fer_augment.hooks.declarations import Adjustment, BatchLoss

PROJECT = "fer_augment"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class RegistrationSpecs(Protocol):
    """Hooks of a plugin module, found through the entry-point group `fer_augment`; each returns declarations."""

    @hookspec
    def register_strategies(self) -> Sequence[type[Strategy]]:
        """Called once a process, when plugins are collected. Return strategy classes."""

    @hookspec
    def register_models(self) -> Sequence[Model]:
        """Called once a process, when plugins are collected. Return networks."""

    @hookspec
    def register_dataset_readers(self) -> Sequence[DatasetReader]:
        """Called once a process, when plugins are collected. Return readers of data sources."""

    @hookspec
    def register_losses(self) -> Sequence[Loss]:
        """Called once a process, when plugins are collected. Return losses."""

    @hookspec
    def register_trackers(self) -> Sequence[Tracker]:
        """Called once a process, when plugins are collected. Return observers of runs."""


class StageSpecs(Protocol):
    """Hooks of a strategy, in the order in which a run reaches them, and of trackers."""

    @hookspec
    def rewrite_training_set(self, training_set: ImageDataset, context: Context) -> ImageDataset:
        """Called once a run, before training. Return a new training set made by `take`, `append` or `without`."""

    @hookspec
    def prepare_model(self, model: torch.nn.Module, context: Context) -> torch.nn.Module:
        """Called once a run, on the untrained network. Return the network to train."""

    @hookspec
    def sampling_weights(
        self, weights: NDArray[np.float64], training_set: ImageDataset, epoch: int, context: Context
    ) -> NDArray[np.float64]:
        """Called at the start of each epoch (0, 1, …). Return `(N,) float64` weights, finite, ≥ 0, not all zero.

        Equal weights mean that every row is seen once before any is seen again; otherwise rows are drawn with
        replacement.
        """

    @hookspec
    def build_loss(
        self,
        loss: BatchLoss,
        class_prior: NDArray[np.float64],
        training_set: ImageDataset,
        epoch: int,
        context: Context,
    ) -> BatchLoss:
        """Called at the start of each epoch. Return a callable: logits `(B, K)`, targets `(B, K)` → `(B,)`.

        `class_prior`, `(K,) float64` summing to 1, is the class frequencies as drawn in this epoch; 0 for a class
        without rows.
        """

    @hookspec
    def augment_rows(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        rows: NDArray[np.int64],
        draws: NDArray[np.int64],
        training_set: ImageDataset,
        epoch: int,
        context: Context,
    ) -> NDArray[np.uint8]:
        """Called for each batch, on the CPU. Return `(B, H, W, C) uint8` images, the same shape.

        `rows`, `(B,)`, are the rows' positions in `training_set`; `draws`, `(B,)`, says how often each was drawn
        before in this epoch. For randomness that depends neither on order nor on batch use
        `context.row_seeds(training_set.row_keys(rows), draws)`.
        """

    @hookspec
    def augment_batch(
        self,
        images: torch.Tensor,
        targets: torch.Tensor,
        rows: NDArray[np.int64],
        draws: NDArray[np.int64],
        training_set: ImageDataset,
        epoch: int,
        context: Context,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called for each batch, on the device. Return images `(B, C, H, W) float32` and targets `(B, K) float32`.

        Images are in [0, 1]; targets are class weights that sum to 1 in each row; `rows` and `draws` are as in
        `augment_rows`.
        """

    @hookspec
    def refine_model(self, model: torch.nn.Module, training_set: ImageDataset, context: Context) -> torch.nn.Module:
        """Called once a run, on the trained network. Return the network; `context.train` trains (part of) it again."""

    @hookspec
    def predict_views(self, views: list[torch.Tensor], context: Context) -> list[torch.Tensor]:
        """Called for each batch of held-out images. Return views, each `(B, C, H, W)`, whose logits are averaged.

        A row's views must depend on that row alone.
        """

    @hookspec
    def build_adjustment(
        self,
        adjust: Adjustment,
        validation_logits: torch.Tensor,
        validation_labels: torch.Tensor,
        class_prior: NDArray[np.float64],
        context: Context,
    ) -> Adjustment:
        """Called once a run, after training. Return a callable from logits `(B, K)` to logits `(B, K)`, row by row.

        `class_prior`, `(K,) float64` summing to 1, is the class frequencies as drawn in the last epoch: a network
        expects what it learnt last.
        """

    @hookspec
    def run_started(self, run: RunIdentity) -> None:
        """Called when a run begins; every observer is told."""

    @hookspec
    def epoch_finished(self, run: RunIdentity, evaluation: Evaluation) -> None:
        """Called after each evaluation, with the curve's newest point; every observer is told."""

    @hookspec
    def run_finished(self, run: RunIdentity, curve: Sequence[Evaluation]) -> None:
        """Called when a run has been trained, with its whole curve; every observer is told."""


OBSERVERS = ("run_started", "epoch_finished", "run_finished")
"""The hooks of `StageSpecs` that only observe a run: trackers and strategies may implement them."""
