"""What a training is given and what it returns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.data.records import Evaluation
from fer_augment.hooks.declarations import Loss
from fer_augment.hooks.networks import AnyModel
from fer_augment.hooks.pipeline import Pipeline
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.training.frozen_features import FrozenFeatures, HeadOnFeatures
from fer_augment.training.machine import device_of
from fer_augment.training.networks import build_network


@dataclass(frozen=True, eq=False)
class Training:
    """The inputs of a training: everything that determines the weights.

    Attributes:
        model: the network with its parameters.
        loss: the loss of the recipe.
        settings: epochs, optimizer and other training settings.
        pipeline: the strategies and the seed.
        training_set: the rewritten training set, N rows.
        source_rows: rows of the training split before rewriting; with `budget: steps` they set the number of steps.
        validation: the validation split, for the curve only.
        frozen: the features of a backbone that is not trained, for a training of the head alone; else None.
        selection_rows: number of random training rows that `selection_loss` of the curve is computed on.
    """

    model: AnyModel
    loss: Loss
    settings: TrainingSettings
    pipeline: Pipeline
    training_set: ImageDataset
    source_rows: int
    validation: ImageDataset
    selection_rows: int
    frozen: FrozenFeatures | None = None

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.pipeline.context.seed

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch, according to the budget of the recipe."""
        rows = self.source_rows if self.settings.budget == "steps" else len(self.training_set)
        return math.ceil(rows / self.settings.batch_size)

    def causes(self, stage: str, *own: str) -> str:
        """Return what a fault at a stage may come from: its steps, and the given parts of the recipe."""
        return " or ".join([*(str(step) for step in self.pipeline.steps if step.acts_at([stage])), *own])

    @property
    def causes_of_loss(self) -> str:
        """What a fault of the loss may come from."""
        return self.causes("build_loss", f"the loss {self.loss.name!r}")


@dataclass(frozen=True, eq=False)
class Trained:
    """The result of a training.

    Attributes:
        model: the network, in evaluation mode, on the device of the training.
        curve: evaluations in order.
        optimizer_steps: number of optimizer steps taken, including a second stage of training.
        class_prior: `(K,) float64` summing to 1, class frequencies as drawn in the last epoch, or in the one kept.
        kept_epoch: number of epochs after which the network had the weights that are kept; the last, or the best.
        seconds_before: training time before the checkpoint that was resumed, in seconds; 0 if none was.
    """

    model: torch.nn.Module
    curve: tuple[Evaluation, ...]
    optimizer_steps: int
    class_prior: NDArray[np.float64]
    kept_epoch: int
    seconds_before: float = 0.0


def untrained_network(training: Training) -> torch.nn.Module:
    """Build the untrained network on its device, in channels-last memory format like the batches.

    For a training of the head alone, this is a head with random weights that takes features.
    """
    trains_head = training.frozen is not None
    model = build_model(training.model, training.training_set, training.pipeline, initial_weights=not trains_head)
    if trains_head:
        model = HeadOnFeatures(model.get_submodule("head"))
    model = model.to(device_of(training.settings))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return] # missing in the stub


def build_model(
    model: AnyModel, dataset: ImageDataset, pipeline: Pipeline, *, initial_weights: bool = True
) -> torch.nn.Module:
    """Build the untrained network for the images and classes of a data set, with `prepare_model` applied.

    Args:
        model: the network with its parameters.
        dataset: gives the image shape and the class names.
        pipeline: the strategies.
        initial_weights: whether to load the initial weights that the model names; False if others will be loaded.

    Returns:
        A network that takes `(B, C, H, W) float32` in [0, 1] with the size and channels of the data.
    """
    chosen = model if initial_weights else model.untrained
    return pipeline.fold("prepare_model", build_network(chosen, dataset.image_shape, dataset.class_names)[0])


def backbone_of(network: torch.nn.Module) -> torch.nn.Module | None:
    """Return the backbone of a network, its module `features`; None if it has no such module."""
    features = getattr(network, "features", None)
    return features if isinstance(features, torch.nn.Module) else None
