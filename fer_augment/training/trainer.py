"""The training loop of all runs and scouts, evaluation included.

Legend of shapes: N rows, B rows of a batch, H, W, C height, width and channels, K classes, D features.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.data.records import Evaluation
from fer_augment.errors import RunError, StrategyError
from fer_augment.hooks.declarations import Loss, Model, ReportProgress
from fer_augment.hooks.pipeline import Pipeline
from fer_augment.hooks.stages import weights_fault
from fer_augment.metrics import score, without_ties
from fer_augment.randomness import stream_key, stream_rng, uniforms
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.training.checkpoints import Checkpoint
from fer_augment.training.device_images import ResidentImages, as_batch, fit_on
from fer_augment.training.optimization import learning_rate, make_optimizer
from fer_augment.training.row_stream import RowStream
from fer_augment.training.torch_runtime import autocast, device_of, reproducible

ROWS_AT_ONCE = 512
"""Maximum number of rows predicted at once."""
PIXELS_AT_ONCE = ROWS_AT_ONCE * 48 * 48
"""Maximum number of pixels (per channel) predicted at once; fewer rows of larger images."""
SECONDS_BETWEEN_CHECKPOINTS = 20.0
"""Minimum age of the last checkpoint for a new one to be written at the end of an epoch."""


@dataclass(frozen=True, eq=False)
class Training:
    """The inputs of a training: everything that determines the weights.

    Attributes:
        model: the declaration of the network.
        loss: the loss of the recipe.
        settings: epochs, optimizer and other training settings.
        pipeline: the strategies and the seed.
        training_set: the rewritten training set, N rows.
        source_rows: rows of the training split before rewriting; with `budget: steps` they set the number of steps.
        validation: the validation split, for the curve only.
        selection_rows: number of random training rows that `selection_loss` of the curve is computed on.
    """

    model: Model
    loss: Loss
    settings: TrainingSettings
    pipeline: Pipeline
    training_set: ImageDataset
    source_rows: int
    validation: ImageDataset
    selection_rows: int

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.pipeline.context.seed

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch, according to the budget of the recipe."""
        rows = self.source_rows if self.settings.budget == "steps" else len(self.training_set)
        return math.ceil(rows / self.settings.batch_size)


@dataclass(frozen=True, eq=False)
class Trained:
    """The result of a training.

    Attributes:
        model: the network, in evaluation mode, on the device of the training.
        curve: evaluations in order.
        optimizer_steps: number of optimizer steps, including a second stage of training.
        class_prior: `(K,) float64` summing to 1, class frequencies as drawn in the last epoch.
        seconds_before: training time before the checkpoint that was resumed, in seconds; 0 if none was.
    """

    model: torch.nn.Module
    curve: tuple[Evaluation, ...]
    optimizer_steps: int
    class_prior: NDArray[np.float64]
    seconds_before: float = 0.0


def train(
    training: Training,
    *,
    checkpoint: Path | None = None,
    progress: ReportProgress = lambda done, total: None,
    evaluated: Callable[[Evaluation], None] = lambda evaluation: None,
    seconds_between_checkpoints: float = SECONDS_BETWEEN_CHECKPOINTS,
) -> Trained:
    """Train a network from scratch, or resume from a checkpoint of the same training.

    On the same machine with the same library versions, the result is bit-identical, whether or not the training was
    interrupted and resumed.

    Args:
        training: the inputs.
        checkpoint: the file to resume from, if it exists, and to write checkpoints to; None for no checkpoints.
        progress: receives the number of optimizer steps taken and their total.
        evaluated: receives each new point of the curve.
        seconds_between_checkpoints: minimum age of the last checkpoint for a new one at the end of an epoch.

    Raises:
        RunError: if the loss is not finite, the device is not available, or the checkpoint is damaged.
        StrategyError: if a strategy fails.
    """
    with reproducible(training.settings, stream_key(training.seed, "torch") >> 1):
        model = _untrained_network(training)
        fit = _Fit(training, model, list(model.parameters()), training.settings.epochs, progress, evaluated)
        fit.run(checkpoint, seconds_between_checkpoints)
        return Trained(model.eval(), tuple(fit.curve), fit.steps, fit.class_prior, fit.seconds_before)


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
        return Trained(model.eval(), first.curve, train_again.steps, train_again.class_prior)


def seconds_per_step(training: Training, steps: int = 3) -> float:
    """Time a few optimizer steps after one warm-up step; return the mean, in seconds.

    Steps on large images are timed with part of a batch, and the time is scaled to the whole batch.
    """
    with reproducible(training.settings, 0):
        model = _untrained_network(training)
        fit = _Fit(training, model, list(model.parameters()), 1, lambda done, total: None, None)
        batch = training.settings.batch_size
        size = min(batch, max(2, rows_at_once(training.training_set.image_shape) // 2))
        rows = fit.rows.epoch(0, np.ones(len(training.training_set)), size * (steps + 1)).reshape(steps + 1, size)
        fit.time_step(rows[0])
        return sum(map(fit.time_step, rows[1:])) / steps * batch / size


def rows_at_once(image_shape: tuple[int, int, int]) -> int:
    """Return how many images of a shape are predicted at once, so that the memory does not grow with their size."""
    height, width, _ = image_shape
    return max(1, min(ROWS_AT_ONCE, PIXELS_AT_ONCE // (height * width)))


def _untrained_network(training: Training) -> torch.nn.Module:
    """Build the untrained network on its device, in channels-last memory format like the batches."""
    model = build_model(training.model, training.training_set, training.pipeline).to(device_of(training.settings))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return] # missing in the stub


def build_model(model: Model, dataset: ImageDataset, pipeline: Pipeline) -> torch.nn.Module:
    """Build the untrained network for the images and classes of a data set, with `prepare_model` applied."""
    return pipeline.fold("prepare_model", model.build(dataset.image_shape, len(dataset.class_names)))


def predict(
    model: torch.nn.Module, dataset: ImageDataset, settings: TrainingSettings, views_of: Pipeline | None = None
) -> NDArray[np.float32]:
    """Compute the outputs of a network for each row.

    Args:
        model: a network, or a part of one such as `features`, in evaluation mode.
        dataset: N rows.
        settings: device, precision and threads.
        views_of: strategies over whose test-time views the logits are averaged; None for the images themselves.

    Returns:
        `(N, K) float32` logits, or `(N, D)` features.
    """
    parts = []
    with reproducible(settings, 0), torch.inference_mode(), autocast(settings):
        at_once = rows_at_once(dataset.image_shape)
        for start in range(0, max(len(dataset), 1), at_once):  # once for no rows, to get the number of columns
            images = as_batch(dataset.images[start : start + at_once], device_of(settings))
            views = views_of.fold("predict_views", [images]) if views_of else [images]
            logits = torch.stack([model(view).float() for view in views]).mean(dim=0)
            parts.append(logits.cpu().numpy())
    return np.concatenate(parts)


def break_ties(logits: NDArray[np.float32], dataset: ImageDataset, seed: int) -> NDArray[np.float32]:
    """Break ties between the largest logits at random, with random numbers derived from each row.

    Args:
        logits: `(N, K) float32`.
        dataset: the N rows.
        seed: the seed of the run.

    Returns:
        `(N, K) float32`; in a row with ties, one of the largest logits is increased to the next float.
    """
    seeds = dataset.row_keys() ^ np.uint64(stream_key(seed, "ties"))
    return without_ties(logits, uniforms(seeds, 1)[:, 0])


@dataclass(eq=False)
class _Fit:
    """One optimization of all or some parameters of a network.

    Attributes:
        training: the inputs.
        model: the network.
        parameters: the parameters to train; modules without any of them stay in evaluation mode.
        epochs: number of epochs.
        progress: receives the number of steps taken and their total.
        evaluated: receives each new point of the curve; None to compute no curve.
        weights: `(N,)` sampling weights; None for those of the strategies.
        name: name of the random stream of the rows, different for each optimization of a run.
        first_epoch: the epoch number passed to strategies in the first epoch.
        curve: evaluations so far, in order.
        epoch: number of finished epochs.
        class_prior: `(K,)` summing to 1, class frequencies as drawn in the last epoch.
        seconds_before: training time before the checkpoint that was resumed, in seconds.
    """

    training: Training
    model: torch.nn.Module
    parameters: list[torch.nn.Parameter]
    epochs: int
    progress: ReportProgress
    evaluated: Callable[[Evaluation], None] | None
    weights: NDArray[np.float64] | None = None
    name: str = "rows"
    first_epoch: int = 0
    curve: list[Evaluation] = field(default_factory=list)
    epoch: int = 0
    class_prior: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    seconds_before: float = 0.0
    _loss_sum: float = 0.0
    _loss_count: int = 0

    def __post_init__(self) -> None:
        data = self.training.training_set
        self._started = time.monotonic()
        self.device = device_of(self.training.settings)
        self.steps = self.epochs * self.training.steps_per_epoch
        self.rows = RowStream(data.row_keys(), self.training.seed, self.name)
        self.optimizer = make_optimizer(self.training.settings, self.parameters)
        self.one_hot = torch.eye(len(data.class_names), device=self.device)
        self.labels = torch.from_numpy(data.labels.copy()).to(self.device)
        self.soft = None if data.targets is None else torch.from_numpy(data.targets).to(self.device)
        is_resident = fit_on(self.device, data.images) and not self.training.pipeline.acts_at("augment_rows")
        self.resident = ResidentImages(data.images, self.device) if is_resident else None

    def run(self, checkpoint: Path | None = None, seconds_between: float = math.inf) -> None:
        """Train the remaining epochs, after restoring the checkpoint if it exists."""
        self.epoch = self._restored(checkpoint)
        saved = time.monotonic()
        while self.epoch < self.epochs:
            self._train_epoch()
            if self.evaluated and self._is_evaluated:
                self.curve.append(self._evaluation())
                self.evaluated(self.curve[-1])
            if checkpoint and (time.monotonic() - saved >= seconds_between or self._is_last):
                Checkpoint.of(self.model, self.optimizer, self._facts()).save(checkpoint)
                saved = time.monotonic()
            self.epoch += 1

    def time_step(self, rows: NDArray[np.int64]) -> float:
        """Take an optimizer step; return its duration in seconds."""
        started = time.perf_counter()
        self._train_step(rows, self._on_device(rows), 0, self.training.loss.of_batch)
        return time.perf_counter() - started

    @property
    def _is_last(self) -> bool:
        return self.epoch + 1 == self.epochs

    @property
    def _is_evaluated(self) -> bool:
        return (self.epoch + 1) % self.training.settings.evaluate_every == 0 or self._is_last

    def _train_epoch(self) -> None:
        training, count = self.training, self.training.steps_per_epoch
        weights = self._epoch_weights()
        drawn = np.bincount(training.training_set.labels, weights, minlength=len(self.one_hot))
        prior = drawn / drawn.sum()
        self.class_prior = prior
        loss = training.pipeline.fold(
            "build_loss",
            training.loss.of_batch,
            epoch=self._strategy_epoch,
            class_prior=prior,
            training_set=training.training_set,
        )
        rows = self.rows.epoch(self.epoch, weights, count * training.settings.batch_size).reshape(count, -1)
        on_device, losses = self._on_device(rows), torch.empty(count, device=self.device)
        self._enter_training_mode()
        for number, batch_rows in enumerate(rows):
            step = self.epoch * count + number
            losses[number] = self._train_step(batch_rows, on_device[number], step, loss)
            self.progress(step + 1, self.steps)
        self._add_losses(losses.cpu().numpy())

    def _on_device(self, rows: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(rows).to(self.device)

    def _train_step(
        self,
        rows: NDArray[np.int64],
        on_device: torch.Tensor,
        step: int,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """Take an optimizer step on `(B,)` rows, passed as an array and as a tensor on the device; return the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.training.settings, step, self.steps)
        images, targets = self._batch(rows, on_device)
        with autocast(self.training.settings):
            logits = self.model(images)
        mean_loss = loss(logits.float(), targets).mean()
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(mean_loss)
        self.optimizer.step()
        return mean_loss.detach()

    def _batch(self, rows: NDArray[np.int64], on_device: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gather the images and targets of a batch and augment them."""
        data, pipeline, epoch = self.training.training_set, self.training.pipeline, self._strategy_epoch
        images = self.resident.batch(on_device) if self.resident else as_batch(self._rows(rows), self.device)
        batch = images, self.one_hot[self.labels[on_device]] if self.soft is None else self.soft[on_device]
        if pipeline.acts_at("augment_batch"):
            batch = pipeline.fold("augment_batch", batch, epoch=epoch, rows=rows, training_set=data)
        return batch

    def _rows(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Gather the images of rows and augment them on the CPU."""
        data, pipeline = self.training.training_set, self.training.pipeline
        images, epoch = data.images[rows], self._strategy_epoch
        if pipeline.acts_at("augment_rows"):
            labels = data.labels[rows]
            images = pipeline.fold("augment_rows", images, epoch=epoch, labels=labels, rows=rows, training_set=data)
        return images

    @property
    def _strategy_epoch(self) -> int:
        """The epoch number passed to strategies."""
        return self.first_epoch + self.epoch

    def _epoch_weights(self) -> NDArray[np.float64]:
        if self.weights is not None:
            return self.weights
        data = self.training.training_set
        return self.training.pipeline.fold(
            "sampling_weights", np.ones(len(data)), epoch=self._strategy_epoch, training_set=data
        )

    def _enter_training_mode(self) -> None:
        """Set training mode only where a parameter is trained, so that other modules keep their statistics."""
        trained = {id(parameter) for parameter in self.parameters}
        if all(id(parameter) in trained for parameter in self.model.parameters()):
            self.model.train()
            return
        self.model.eval()
        for module in self.model.modules():
            if any(id(parameter) in trained for parameter in module.parameters(recurse=False)):
                module.train()

    def _add_losses(self, losses: NDArray[np.float32]) -> None:
        invalid = np.flatnonzero(~np.isfinite(losses))
        if len(invalid):
            raise RunError(
                f"the loss became {losses[invalid[0]]} in epoch {self._strategy_epoch + 1}, step {invalid[0] + 1} of "
                f"{len(losses)}; lower training.learning_rate"
            )
        self._loss_sum += float(losses.sum(dtype=np.float64))
        self._loss_count += len(losses)

    def _evaluation(self) -> Evaluation:
        training = self.training
        self.model.eval()
        logits = break_ties(
            predict(self.model, training.validation, training.settings), training.validation, training.seed
        )
        selection = training.training_set.take(self._selection)
        scores = score(training.validation.labels, logits.argmax(axis=1), len(training.validation.class_names))
        evaluation = Evaluation(
            epoch=self.epoch + 1,
            step=(self.epoch + 1) * training.steps_per_epoch,
            training_loss=self._loss_sum / self._loss_count,
            selection_loss=mean_loss(
                training.loss, predict(self.model, selection, training.settings), selection.labels
            ),
            validation_loss=mean_loss(training.loss, logits, training.validation.labels),
            validation_accuracy=scores.accuracy,
            validation_recall=tuple(None if np.isnan(recall) else float(recall) for recall in scores.recall),
        )
        self._loss_sum, self._loss_count = 0.0, 0
        return evaluation

    @property
    def _selection(self) -> NDArray[np.int64]:
        """The random training rows of `selection_loss`, the same at every evaluation."""
        count = min(self.training.selection_rows, len(self.training.training_set))
        in_order = np.argsort(self.training.training_set.row_keys())
        return in_order[stream_rng(self.training.seed, "selection").permutation(len(in_order))[:count]]

    def _facts(self) -> dict[str, Any]:
        return {
            "epochs": self.epoch + 1,
            "passed": self.rows.passed,
            "seconds": self.seconds_before + time.monotonic() - self._started,
            "class_prior": self.class_prior.tolist(),
            "loss_sum": self._loss_sum,
            "loss_count": self._loss_count,
            "curve": [evaluation.model_dump() for evaluation in self.curve],
        }

    def _restored(self, path: Path | None) -> int:
        """Restore a checkpoint if it exists; return the number of finished epochs."""
        checkpoint = Checkpoint.load(path) if path else None
        if checkpoint is None:
            return 0
        checkpoint.restore(self.model, self.optimizer)
        facts = checkpoint.facts
        self.rows.passed, self.seconds_before = facts["passed"], facts["seconds"]
        self.class_prior = np.array(facts["class_prior"])
        self._loss_sum, self._loss_count = facts["loss_sum"], facts["loss_count"]
        self.curve = [Evaluation.model_validate(evaluation) for evaluation in facts["curve"]]
        finished_epochs: int = facts["epochs"]
        self.progress(finished_epochs * self.training.steps_per_epoch, self.steps)
        return finished_epochs


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
        fit = _Fit(
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
        self.steps += fit.steps
        self.class_prior = fit.class_prior
        return model.eval()


def mean_loss(loss: Loss, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the mean loss over rows, with one-hot targets.

    Args:
        loss: the loss.
        logits: `(N, K) float32`.
        labels: `(N,) int64`.
    """
    one_hot = torch.eye(logits.shape[1])[torch.from_numpy(labels.copy())]
    return float(loss.of_batch(torch.from_numpy(logits), one_hot).mean())
