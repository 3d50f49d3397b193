"""Tiny data, networks and trainings that take milliseconds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fer_augment import ImageDataset, Loss, Model, Splits, Strategy
from fer_augment.hooks.networks import AnyModel
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.strategy import Context
from fer_augment.losses import cross_entropy
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.testing import tiny_dataset
from fer_augment.training.specification import Training

LOSS = Loss("cross_entropy", "", cross_entropy)


def tiny_convnet(image_shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
    """Build a network with convolutions, batch normalization, dropout and a linear head."""
    height, width, channels = image_shape
    features = torch.nn.Sequential(
        torch.nn.Conv2d(channels, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.MaxPool2d(2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 4, 3, padding=1),
        torch.nn.Flatten(),
        torch.nn.Dropout(0.2),
    )
    network = torch.nn.Sequential()
    network.add_module("features", features)
    network.add_module("head", torch.nn.Linear(4 * (height // 2) * (width // 2), classes))
    return network


MODEL = Model("tiny_convnet", "", tiny_convnet)


def tiny_splits() -> Splits:
    """Return the data of the conformity kit as training split, and inverted parts of it as validation and test."""
    train = tiny_dataset()
    images, labels = train.images[:], train.labels
    validation, test = (
        ImageDataset.from_arrays(255 - images[start::3], labels[start::3], train.class_names) for start in (0, 1)
    )
    return Splits(train, validation, test, "tiny")


def training_of(
    *strategies: Strategy, seed: int = 0, data: ImageDataset | None = None, model: AnyModel = MODEL, **settings: Any
) -> Training:
    """Create a training of four epochs in float32; `settings` override its training settings."""
    splits = tiny_splits()
    defaults = {"epochs": 4, "batch_size": 16, "precision": "float32", "learning_rate": 0.01, "evaluate_every": 2}
    pipeline = Pipeline(steps_of(strategies), Context(seed, splits.class_names))
    training_set = pipeline.fold("rewrite_training_set", splits.train) if data is None else data
    return Training(
        model=model,
        loss=LOSS,
        settings=TrainingSettings(**{**defaults, **settings}),
        pipeline=pipeline,
        training_set=training_set,
        source_rows=len(splits.train),
        validation=splits.validation,
        selection_rows=len(splits.test),
    )


def weights_of(model: torch.nn.Module) -> list[np.ndarray]:
    """Return all parameters and buffers of a network."""
    return [tensor.detach().numpy().copy() for tensor in model.state_dict().values()]


def same_bits(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    """Whether two lists of arrays are bit-identical."""
    return len(some) == len(others) and all(
        one.tobytes() == other.tobytes() for one, other in zip(some, others, strict=True)
    )
