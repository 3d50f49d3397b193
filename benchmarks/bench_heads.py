"""Heads on frozen features: runs compared with runs of whole networks, and optimizer steps with a minimal loop."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.bench_comparing import Comparing
from benchmarks.side_by_side import SideBySide
from fer_augment import Context, ImageDataset, Splits
from fer_augment.data.feature_cache import FeatureCache
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.binding import configured_model
from fer_augment.recipe.recipe import Recipe, TrainingSettings
from fer_augment.runs.experiment import runs_in_order
from fer_augment.training.frozen_features import FrozenFeatures
from fer_augment.training.specification import Training
from fer_augment.training.trainer import train

EPOCHS, BATCH, FEATURES = 5, 256, 256
SEEDS, EPOCHS_OF_RUNS = 3, 2


@pytest.fixture
def weights(tmp_path: Path, faces: Splits) -> Path:
    """Weights of a `resnet_small`; random ones take as long as trained ones."""
    model = configured_model(installed_plugins().model("resnet_small").value, {})
    network = model.build(faces.train.image_shape, len(faces.class_names))
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def arms(train_what: str, weights: Path) -> list[Recipe]:
    training = {
        "train": train_what,
        "epochs": EPOCHS_OF_RUNS,
        "batch_size": BATCH,
        "optimizer": "sgd",
        "learning_rate": 0.05,
    }
    model = {"resnet_small": {"weights": str(weights)}}
    balanced = [{"power_sampler": {"exponent": 0.5}}]
    return [
        Recipe(name="plain", model=model, training=training),
        Recipe(name="balanced", model=model, training=training, strategies=balanced),
    ]


@pytest.mark.benchmark(timer=time.perf_counter)
def test_runs(side_by_side: SideBySide, faces: Splits, tmp_path: Path, weights: Path) -> None:
    comparing = Comparing(faces, tmp_path)
    heads, networks = (runs_in_order(arms(what, weights), list(range(SEEDS))) for what in ("head", "all"))
    side_by_side(
        f"two arms, {SEEDS} seeds of heads of resnet_small, {EPOCHS_OF_RUNS} epochs of 2,048 rows, with features",
        ours=lambda: comparing(heads),
        theirs=lambda: comparing(networks),
        alternative="the same with whole networks",
        n=3,
    )


def minimal_loop(features: torch.Tensor, labels: torch.Tensor, classes: int) -> None:
    """Train a linear layer with the same settings in a minimal loop."""
    torch.manual_seed(0)
    head = nn.Linear(FEATURES, classes)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.05, momentum=0.9, nesterov=True, fused=True)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(features)).split(BATCH):
            loss = nn.functional.cross_entropy(head(features[rows]), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()


def our_training(data: ImageDataset, features: np.ndarray, folder: Path) -> Training:
    """Return the training of a head on features that are cached."""
    cache, plugins, few = FeatureCache.below(folder, "key"), installed_plugins(), data.take([0, 1])
    digests, first = np.unique(data.digests, return_index=True)
    cache.add(digests, features[first], since=0)
    settings = TrainingSettings(
        train="head", epochs=EPOCHS, batch_size=BATCH, optimizer="sgd", learning_rate=0.05, precision="float32",
        device="cpu", evaluate_every=EPOCHS,
    )  # fmt: skip
    return Training(
        model=configured_model(plugins.model("vgg_mini").value, {}),
        loss=plugins.loss("cross_entropy").value,
        settings=settings,
        pipeline=Pipeline(steps_of([]), Context(0, data.class_names)),
        training_set=data,
        source_rows=len(data),
        validation=few,
        selection_rows=len(few),
        frozen=FrozenFeatures(cache, nn.Identity, settings),
    )


def test_steps(side_by_side: SideBySide, faces: Splits, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    data = faces.train
    features = np.random.default_rng(0).standard_normal((len(data), FEATURES), np.float32)
    training = our_training(data, features, tmp_path)
    on_features, labels = torch.from_numpy(features), torch.from_numpy(data.labels.copy())
    side_by_side(
        f"{EPOCHS} epochs of a linear head on {len(data):,} rows of {FEATURES} frozen features",
        ours=lambda: train(training),
        theirs=lambda: minimal_loop(on_features, labels, len(data.class_names)),
        alternative="a minimal loop of torch on a tensor in memory",
        n=7,
        at_least=0.6,
    )
    torch.set_num_threads(threads)
