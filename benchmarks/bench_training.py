"""Training: optimizer steps of the originating report's ConvNet5 with batches of 128 images of 48x48, on one thread."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, Dataset

from benchmarks.bench_rewriting import TRANSFORMS
from benchmarks.samples import sample
from benchmarks.side_by_side import InSubprocess, SideBySide
from fer_augment import Context, ImageDataset, Splits, Strategy, import_with_torchvision
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.binding import configured_model
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.training.machine import precision_of
from fer_augment.training.specification import Training
from fer_augment.training.trainer import train

BATCH, STEPS, CLASSES, RATE = 128, 4, 7, 1e-4


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(faces: Splits) -> ImageDataset:
    return sample(faces.train, BATCH * STEPS).take(np.arange(BATCH * STEPS))


def our_training(data: ImageDataset, precision: str, *strategies: Strategy) -> Callable[[], object]:
    """Return a function that trains ConvNet5 for a few steps, as a run does."""
    few, plugins = data.take([0, 1]), installed_plugins()
    training = Training(
        model=configured_model(plugins.model("convnet5").value, {}),
        loss=plugins.loss("mse").value,
        settings=TrainingSettings(
            epochs=1, batch_size=BATCH, learning_rate=RATE, loss="mse", precision=precision, device="cpu", threads=1
        ),
        pipeline=Pipeline(steps_of(strategies), Context(0, data.class_names)),
        training_set=data,
        source_rows=len(data),
        validation=few,
        selection_rows=len(few),
    )
    return lambda: train(training)


def tensors_of(data: ImageDataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all images, `(N, 1, H, W) float32` in [0, 1], and one-hot labels, `(N, K)`."""
    images = torch.from_numpy(data.images[:][..., 0]).unsqueeze(1).float() / 255
    assert images.stride(1) == 48 * 48, "torch may treat images with one channel as channels-last"
    return images, torch.eye(CLASSES)[torch.from_numpy(data.labels.copy())]


def report_network() -> nn.Module:
    """Build ConvNet5 with the layer order of the report and a final softmax."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 64), (64, 64), (64, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.Dropout2d(0.4)]
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    for inputs, outputs in ((64 * 6 * 6, 512), (512, CLASSES)):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.Dropout(0.4), nn.ReLU()]
    return nn.Sequential(*layers, nn.Softmax(dim=1))


def report_loop(images: torch.Tensor, targets: torch.Tensor) -> None:
    """Train as in the report: float32, contiguous images, slices of shuffled tensors, Adam without fused kernels."""
    network = report_network().train()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    for rows in torch.randperm(len(images)).split(BATCH):
        optimizer.zero_grad()
        mse_loss(network(images[rows]), targets[rows]).backward()
        optimizer.step()


def loader_loop(dataset: Dataset[Any]) -> None:
    """Train the report's network with a DataLoader, as in PyTorch's tutorials."""
    network = report_network().train()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    for images, labels in DataLoader(dataset, BATCH, shuffle=True):
        optimizer.zero_grad()
        mse_loss(network(images), torch.eye(CLASSES)[labels]).backward()
        optimizer.step()


def skorch_fit(images: torch.Tensor, targets: torch.Tensor) -> None:
    """Train the report's network with skorch."""
    from skorch import NeuralNet

    net = NeuralNet(
        report_network,
        criterion=nn.MSELoss,
        optimizer=torch.optim.Adam,
        lr=RATE,
        batch_size=BATCH,
        max_epochs=1,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    net.fit(images, targets)


def lightning_fit(dataset: Dataset[Any]) -> None:
    """Train the report's network with Lightning's Trainer, without loggers, checkpoints and progress bar."""
    lightning = import_with_torchvision("lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc,name-defined] # lightning is not checked
        def __init__(self) -> None:
            super().__init__()
            self.network = report_network()

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], number: int) -> torch.Tensor:
            images, labels = batch
            return mse_loss(self.network(images), torch.eye(CLASSES)[labels])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.network.parameters(), lr=RATE)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the number of workers
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Module(), DataLoader(dataset, BATCH, shuffle=True))


def minimal_loop(images: torch.Tensor, targets: torch.Tensor, precision: str) -> None:
    """Train the same network with the same settings in a minimal loop."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    model = configured_model(installed_plugins().model("convnet5").value, {}).build((48, 48, 1), CLASSES)
    model = model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload] # missing in the stub
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    for rows in torch.randperm(len(images)).split(BATCH):
        batch = images[rows].contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(batch)
        loss = mse_loss(logits.float().softmax(dim=1), targets[rows], reduction="sum") / len(rows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    torch.use_deterministic_algorithms(False)


class OneByOne(Dataset[tuple[torch.Tensor, int]]):
    """A typical PyTorch data set: one image at a time, scaled on access."""

    def __init__(self, data: ImageDataset) -> None:
        self.images, self.labels = data.images[:], data.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.images[row]).permute(2, 0, 1).float() / 255, int(self.labels[row])


FASTEST = precision_of(TrainingSettings(device="cpu"))
"""The default precision on this processor: bfloat16 if the hardware supports it."""
PRECISIONS = pytest.mark.parametrize("precision", sorted({"float32", FASTEST}, reverse=True))


@PRECISIONS
def test_loop_of_the_report(side_by_side: SideBySide, data: ImageDataset, precision: str) -> None:
    images, targets = tensors_of(data)
    side_by_side(
        f"{STEPS} optimizer steps of ConvNet5 in {precision}",
        ours=our_training(data, precision),
        theirs=InSubprocess(report_loop, images, targets),
        alternative="the report's loop and layer order, float32",
        n=5,
        at_least={"float32": 1.8, "bfloat16": 3.4}[precision],
    )


@PRECISIONS
def test_minimal_loop(side_by_side: SideBySide, data: ImageDataset, precision: str) -> None:
    images, targets = tensors_of(data)
    side_by_side(
        f"{STEPS} optimizer steps of ConvNet5 in {precision}",
        ours=our_training(data, precision),
        theirs=lambda: minimal_loop(images, targets, precision),
        alternative="a minimal loop with the same network and settings",
        n=7,
        at_least=0.95,
    )


@pytest.mark.parametrize("library", [None, "skorch", "lightning"])
def test_other_libraries(side_by_side: SideBySide, data: ImageDataset, library: str | None) -> None:
    if library and not importlib.util.find_spec(library):
        pytest.skip(f"{library} is not installed (extra: bench)")
    alternatives: dict[str | None, tuple[InSubprocess, str]] = {
        None: (InSubprocess(loader_loop, OneByOne(data)), "a standard PyTorch loop with a DataLoader, float32"),
        "skorch": (InSubprocess(skorch_fit, *tensors_of(data)), "skorch's NeuralNet, float32"),
        "lightning": (InSubprocess(lightning_fit, OneByOne(data)), "Lightning's Trainer and a DataLoader, float32"),
    }
    theirs, alternative = alternatives[library]
    side_by_side(
        f"{STEPS} optimizer steps of ConvNet5 in {FASTEST}",
        ours=our_training(data, FASTEST),
        theirs=theirs,
        alternative=alternative,
        n=5,
    )


@pytest.mark.parametrize(
    ("name", "parameters", "at_least"),
    [
        ("flip_crop_affine", {}, 0.95),
        ("mixup", {}, 0.95),
        ("random_erasing", {}, 0.95),
        ("albumentations", {"transforms": TRANSFORMS, "when": "batch"}, 0.87),
    ],
)
def test_augmentation(
    side_by_side: SideBySide, data: ImageDataset, name: str, parameters: dict[str, Any], at_least: float
) -> None:
    strategy: Any = installed_plugins().strategy(name).value
    side_by_side(
        f"{STEPS} optimizer steps of ConvNet5 in {FASTEST} with {name}",
        ours=our_training(data, FASTEST, strategy(**parameters)),
        theirs=our_training(data, FASTEST),
        alternative="the same without it (0.9: 11 % slower)",
        n=7,
        at_least=at_least,
    )
