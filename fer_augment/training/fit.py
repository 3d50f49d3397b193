"""One optimization of a network: epochs, steps, evaluations and checkpoints.

Legend of shapes: N rows, B rows of a batch, K classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fer_augment.data.records import Evaluation
from fer_augment.errors import RunError
from fer_augment.hooks.declarations import BatchLoss, ReportProgress
from fer_augment.metrics import score
from fer_augment.randomness import stream_rng
from fer_augment.training.batches import Batches
from fer_augment.training.checkpoints import Checkpoint
from fer_augment.training.optimization import learning_rate, make_optimizer
from fer_augment.training.prediction import break_ties, mean_loss, predict
from fer_augment.training.row_stream import RowStream
from fer_augment.training.specification import Training
from fer_augment.training.torch_runtime import autocast, device_of


@dataclass(eq=False)
class Fit:
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
        """Set up optimizer, row stream and batches."""
        data = self.training.training_set
        self._started = time.monotonic()
        self.device = device_of(self.training.settings)
        self.steps = self.epochs * self.training.steps_per_epoch
        self.rows = RowStream(data.row_keys(), self.training.seed, self.name)
        self.optimizer = make_optimizer(self.training.settings, self.parameters)
        self.batches = Batches(self.training, self.device)

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
        self._train_step(rows, self.batches.on_device(rows), 0, self.training.loss.of_batch)
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
        drawn = np.bincount(training.training_set.labels, weights, minlength=len(training.training_set.class_names))
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
        on_device, losses = self.batches.on_device(rows), torch.empty(count, device=self.device)
        self._enter_training_mode()
        for number, batch_rows in enumerate(rows):
            step = self.epoch * count + number
            losses[number] = self._train_step(batch_rows, on_device[number], step, loss)
            self.progress(step + 1, self.steps)
        self._add_losses(losses.cpu().numpy())

    def _train_step(
        self,
        rows: NDArray[np.int64],
        on_device: torch.Tensor,
        step: int,
        loss: BatchLoss,
    ) -> torch.Tensor:
        """Take an optimizer step on `(B,)` rows, passed as an array and as a tensor on the device; return the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.training.settings, step, self.steps)
        images, targets = self.batches.batch(rows, on_device, self._strategy_epoch)
        with autocast(self.training.settings):
            logits = self.model(images)
        mean_loss = loss(logits.float(), targets).mean()
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(mean_loss)
        self.optimizer.step()
        return mean_loss.detach()

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
