"""Training a network, refining it in a second stage, and timing its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fer_augment.data.records import Evaluation
from fer_augment.errors import StrategyError
from fer_augment.hooks.stages import weights_fault
from fer_augment.phases import ReportProgress
from fer_augment.randomness import stream_key
from fer_augment.training.device_images import rows_at_once
from fer_augment.training.fit import Fit
from fer_augment.training.specification import Trained, Training, untrained_network
from fer_augment.training.torch_runtime import reproducible

SECONDS_BETWEEN_CHECKPOINTS = 20.0
"""Minimum age of the last checkpoint for a new one to be written at the end of an epoch."""


def train(
    training: Training,
    *,
    checkpoint: Path | None = None,
    progress: ReportProgress = lambda done, total: None,
    evaluated: Callable[[Evaluation], None] = lambda evaluation: None,
    seconds_between_checkpoints: float = SECONDS_BETWEEN_CHECKPOINTS,
    warnings: list[str] | None = None,
) -> Trained:
    """Train a network from scratch, or resume from a checkpoint of the same training.

    On the same machine with the same library versions, the result is bit-identical, whether or not the training was
    interrupted and resumed.

    Args:
        training: the inputs.
        checkpoint: the file to resume from, if it exists, and to write checkpoints to; None for no checkpoints.
        progress: receives the number of optimizer steps taken and their total.
        evaluated: receives each point of the curve, also those before the checkpoint.
        seconds_between_checkpoints: minimum age of the last checkpoint for a new one at the end of an epoch.
        warnings: a list to which strategies' warnings are being added; those before the checkpoint are put in front.

    Raises:
        RunError: if the loss is not finite, the device is not available, or the checkpoint is damaged.
        StrategyError: if a strategy fails.
    """
    with reproducible(training.settings, stream_key(training.seed, "torch") >> 1):
        model = untrained_network(training)
        fit = Fit(training, model, list(model.parameters()), training.settings.epochs, progress, evaluated)
        if warnings is not None:
            fit.warnings = warnings
        fit.run(checkpoint, seconds_between_checkpoints)
        return Trained(
            model.eval(), tuple(fit.curve), fit.steps_taken, fit.class_prior, fit.kept_epoch, fit.seconds_before
        )


def refine(training: Training, first: Trained, *, progress: ReportProgress = lambda done, total: None) -> Trained:
    """Apply the `refine_model` hooks of the strategies to a trained network.

    Args:
        training: the inputs of the training.
        first: its result; the network is modified in place.
        progress: receives the number of optimizer steps taken and their total, for each further optimization.

    Raises:
        RunError: if the loss is not finite or the device is not available.
        StrategyError: if a strategy fails.
    """
    with reproducible(training.settings, stream_key(training.seed, "torch again") >> 1):
        train_again = _TrainAgain(training, first, progress)
        model = training.pipeline.fold(
            "refine_model", first.model, train=train_again, training_set=training.training_set
        )
        return Trained(model.eval(), first.curve, train_again.steps, train_again.class_prior, first.kept_epoch)


def seconds_per_step(training: Training, steps: int = 3, *, is_frozen: bool = False) -> float:
    """Time a few optimizer steps after one warm-up step; return the mean, in seconds.

    Steps of the first epochs, in which the backbone is frozen, take less time than the others.

    Steps on large images are timed with part of a batch, and the time is scaled to the whole batch.
    """
    with reproducible(training.settings, 0):
        model = untrained_network(training)
        fit = Fit(training, model, list(model.parameters()), 1, lambda done, total: None, None)
        batch = training.settings.batch_size
        largest = batch if training.frozen else max(2, rows_at_once(training.training_set.image_shape) // 2)
        size = min(batch, largest)
        rows = fit.rows.epoch(0, np.ones(len(training.training_set)), size * (steps + 1)).reshape(steps + 1, size)
        fit.freeze(is_frozen)
        fit.time_step(rows[0])
        return sum(map(fit.time_step, rows[1:])) / steps * batch / size


class _TrainAgain:
    """Implementation of `context.train`, see `strategy.TrainAgain`."""

    def __init__(self, training: Training, first: Trained, progress: ReportProgress) -> None:
        self.training = training
        self.epochs = training.settings.epochs
        self.steps = first.optimizer_steps
        self.class_prior = first.class_prior
        self.progress = progress
        self.calls = 0

    def __call__(
        self,
        model: torch.nn.Module,
        *,
        parameters: Iterable[torch.nn.Parameter] | None = None,
        weights: NDArray[np.float64] | None = None,
        epochs: int = 1,
    ) -> torch.nn.Module:
        fault = None if weights is None else weights_fault(np.ones(len(self.training.training_set)), weights)
        if fault:
            raise StrategyError(f"context.train requires {fault}")
        self.calls += 1
        all_parameters = list(model.parameters())
        trained = all_parameters if parameters is None else list(parameters)
        trained_ids = {id(parameter) for parameter in trained}
        required_grad = [parameter.requires_grad for parameter in all_parameters]
        for parameter in all_parameters:
            parameter.requires_grad_(id(parameter) in trained_ids)
        fit = Fit(
            self.training,
            model,
            trained,
            epochs,
            self.progress,
            None,
            weights=None if weights is None else weights.astype(np.float64),
            name=f"rows again {self.calls}",
            first_epoch=self.epochs,
        )
        fit.run()
        for parameter, requires_grad in zip(all_parameters, required_grad, strict=True):
            parameter.requires_grad_(requires_grad)
        self.epochs += epochs
        self.steps += fit.steps_taken
        self.class_prior = fit.class_prior
        return model.eval()
