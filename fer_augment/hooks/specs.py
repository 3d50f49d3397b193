"""Specifications of the registration hooks of plugin modules and of the stage hooks of strategies.

A stage is a fold in recipe order: the first argument of a hook is the return value of the previous strategy. A hook
declares only the arguments it needs, by name. Arguments must not be modified in place, except networks. The pages in
`docs/hooks` have an example for each hook.

Legend of shapes: N rows of the training set, B rows of a batch, V validation rows, H, W, C height, width and channels,
K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pluggy
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.hooks.declarations import DatasetReader, Gradients, Loss, RecipeFile, Tracker
from fer_augment.hooks.networks import ConfigurableModel, Model
from fer_augment.hooks.strategy import Context, Strategy

if TYPE_CHECKING:
    import torch

    from fer_augment.hooks.declarations import Adjustment, BatchLoss, FeatureLoss

PROJECT = "fer_augment"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class RegistrationSpecs(Protocol):
    """Hooks of plugin modules, which are found through the entry-point group `fer_augment`.

    Each is called once per process, when plugins are collected, and returns declarations.
    """

    @hookspec
    def register_strategies(self) -> Sequence[type[Strategy]]:
        """Called once per process, when plugins are collected. Return strategy classes."""

    @hookspec
    def register_models(self) -> Sequence[Model | type[ConfigurableModel]]:
        """Called once per process, when plugins are collected. Return networks, those with parameters as classes."""

    @hookspec
    def register_dataset_readers(self) -> Sequence[DatasetReader]:
        """Called once per process, when plugins are collected. Return declarations of readers of data sources."""

    @hookspec
    def register_losses(self) -> Sequence[Loss]:
        """Called once per process, when plugins are collected. Return declarations of losses."""

    @hookspec
    def register_trackers(self) -> Sequence[Tracker]:
        """Called once per process, when plugins are collected. Return declarations of trackers."""

    @hookspec
    def register_recipes(self) -> Sequence[RecipeFile]:
        """Called once per process, when plugins are collected. Return the recipes that a distribution ships."""


class StageSpecs(Protocol):
    """Stage hooks of strategies, in the order of a run."""

    @hookspec
    def rewrite_training_set(self, training_set: ImageDataset, context: Context) -> ImageDataset:
        """Called once per run, before training.

        Args:
            training_set: the training split or the result of the previous step, N rows; no held-out rows.
            context: with `require_scout` for predictions on the training set.

        Returns:
            A new set, made by `take`, `append` or `without`, with at least one row.
        """

    @hookspec
    def prepare_model(self, model: torch.nn.Module, context: Context) -> torch.nn.Module:
        """Called once per run, on the untrained network.

        Args:
            model: maps images `(B, C, H, W) float32` in [0, 1] to logits `(B, K) float32`; may be modified in place.
            context: the context of the step.

        Returns:
            The network to train, with the attributes `features` and `head` if the given one has them.
        """

    @hookspec
    def sampling_weights(
        self, weights: NDArray[np.float64], training_set: ImageDataset, epoch: int, context: Context
    ) -> NDArray[np.float64]:
        """Called at the start of each epoch.

        Args:
            weights: `(N,) float64`, 1 for all rows or the result of the previous step.
            training_set: the rewritten training set.
            epoch: the epoch, from 0.
            context: the context of the step.

        Returns:
            `(N,) float64`, finite, non-negative and not all zero. With equal weights, each row is drawn once before any
            is drawn again; otherwise rows are drawn with replacement, in proportion to their weights.
        """

    @hookspec
    def build_loss(
        self,
        loss: BatchLoss,
        class_prior: NDArray[np.float64],
        training_set: ImageDataset,
        epoch: int,
        context: Context,
    ) -> BatchLoss | FeatureLoss:
        """Called at the start of each epoch, after `sampling_weights`.

        Args:
            loss: the loss of the recipe or of the previous step.
            class_prior: `(K,) float64` summing to 1, class frequencies as drawn in this epoch (with soft labels, the
                mean target of the rows as drawn); 0 for a class without rows.
            training_set: the rewritten training set.
            epoch: the epoch, from 0.
            context: the context of the step.

        Returns:
            A function from logits `(B, K) float32` and targets `(B, K) float32` to the loss of each row, `(B,)`; the
            trainer averages it. If it has a third argument `features`, it is given the `(B, D) float32` outputs of the
            network's `features` for the same rows, with gradient; declare `Effect.NEEDS_FEATURES`.
        """

    @hookspec
    def optimizer_step(
        self,
        gradients: Gradients,
        parameters: Sequence[torch.nn.Parameter],
        class_prior: NDArray[np.float64],
        training_set: ImageDataset,
        epoch: int,
        context: Context,
    ) -> Gradients:
        """Called at the start of each epoch, after `build_loss`.

        Args:
            gradients: sets the gradients of the batch of a step, or the function of the previous step. It can be called
                several times in an optimizer step: all calls see the same augmented batch and the same dropout masks,
                and statistics of batch norm are those of the first.
            parameters: the parameters that are trained; the gradient of those that are frozen is None.
            class_prior: as in `build_loss`.
            training_set: the rewritten training set.
            epoch: the epoch, from 0.
            context: the context of the step.

        Returns:
            A function of the same kind. When it returns, the parameters have their former values and the gradients
            that the optimizer takes a step with, before gradient clipping.
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
        """Called for each batch, on the CPU, before images are converted to tensors.

        The result for a row must depend neither on its batch nor on the order of rows: derive random numbers from
        `context.row_seeds(training_set.row_keys(rows), draws)`.

        Args:
            images: `(B, H, W, C) uint8`.
            labels: `(B,) int64`, class numbers.
            rows: `(B,) int64`, positions of the rows in `training_set`.
            draws: `(B,) int64`, number of earlier draws of each row in this epoch.
            training_set: the rewritten training set.
            epoch: the epoch, from 0.
            context: the context of the step.

        Returns:
            `(B, H, W, C) uint8` images of the same shape.
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
        """Called for each batch, on the device of the run, after `augment_rows`.

        Args:
            images: `(B, C, H, W) float32` in [0, 1].
            targets: `(B, K) float32`, class weights that sum to 1 in each row.
            rows: as in `augment_rows`.
            draws: as in `augment_rows`.
            training_set: the rewritten training set.
            epoch: the epoch, from 0.
            context: the context of the step.

        Returns:
            Images and targets with the same shapes, dtypes and ranges.
        """

    @hookspec
    def refine_model(self, model: torch.nn.Module, training_set: ImageDataset, context: Context) -> torch.nn.Module:
        """Called once per run, on the trained network.

        Args:
            model: the trained network, in evaluation mode; may be modified in place.
            training_set: the rewritten training set.
            context: with `train`, which trains all or some parameters again.

        Returns:
            The network, with the same names of parameters.
        """

    @hookspec
    def predict_views(self, views: list[torch.Tensor], context: Context) -> list[torch.Tensor]:
        """Called for each batch of held-out images; labels are not available.

        Args:
            views: one or more views of the images, each `(B, C, H, W) float32` in [0, 1].
            context: the context of the step.

        Returns:
            Views of the same shape and dtype, at least one; the logits of all views are averaged. The views of a row
            must depend on this row only.
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
        """Called once per run, after training; the only stage that receives labels of the validation split.

        Args:
            adjust: the adjustment of the previous steps; the identity at first.
            validation_logits: `(V, K) float32`, before any adjustment.
            validation_labels: `(V,) int64`, class numbers.
            class_prior: `(K,) float64` summing to 1, class frequencies as drawn in the last epoch (with soft labels,
                the mean target of the rows as drawn); 0 for a class without rows.
            context: with `note`, which records a value that the strategy selected.

        Returns:
            A function from logits `(B, K)` to logits `(B, K)` that processes each row independently.
        """
