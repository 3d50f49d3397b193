"""One optimization of a network: epochs, steps, evaluations and checkpoints.

Legend of shapes: N rows, B rows of a batch, K classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.data.records import Evaluation
from fer_augment.errors import RunError
from fer_augment.hooks.declarations import BatchLoss, Gradients
from fer_augment.hooks.history import History
from fer_augment.hooks.loss_features import LossFeatures
from fer_augment.metrics import score
from fer_augment.phases import ReportProgress
from fer_augment.randomness import stream_rng
from fer_augment.training.batches import Batches
from fer_augment.training.checkpoints import Checkpoint
from fer_augment.training.machine import device_of
from fer_augment.training.non_finite import StepSums
from fer_augment.training.optimization import learning_rate, make_optimizer, set_learning_rate
from fer_augment.training.prediction import break_ties, mean_loss, predict_from
from fer_augment.training.row_stream import RowStream
from fer_augment.training.selection import Selection
from fer_augment.training.specification import Training, backbone_of
from fer_augment.training.step_passes import StepPasses
from fer_augment.training.weight_average import WeightAverage

_AVERAGE, _BEST, _HISTORY = "average", "best", "history"
"""Names of further tensors in checkpoints."""

T = TypeVar("T")


@dataclass(eq=False)
class Fit:
    """One optimization of all or some parameters of a network.

    Attributes:
        training: the inputs.
        model: the network.
        parameters: the parameters to train; modules without any of them stay in evaluation mode.
        epochs: number of epochs.
        progress: receives the number of steps taken and their total.
        evaluated: receives each new point of the curve; None to compute no curve and to keep the last weights.
        weights: `(N,)` sampling weights; None for those of the strategies.
        name: name of the random stream of the rows, different for each optimization of a run.
        first_epoch: the epoch number passed to strategies in the first epoch.
        curve: evaluations so far, in order.
        epoch: number of finished epochs.
        class_prior: `(K,)` summing to 1, class frequencies as drawn in the last epoch, or in the one that is kept; of
            soft labels, their mean.
        seconds_before: training time before the checkpoint that was resumed, in seconds.
        warnings: what strategies have warned of, kept in checkpoints.
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
    warnings: list[str] = field(default_factory=list)
    _loss_sum: float = 0.0
    _loss_count: int = 0

    def __post_init__(self) -> None:
        """Set up optimizer, row stream and batches."""
        data, settings = self.training.training_set, self.training.settings
        self.history = self._shared_history()
        self._started = time.monotonic()
        self.device = device_of(settings)
        self.steps = self.epochs * self.training.steps_per_epoch
        self.warm_up = min(round(settings.warm_up * self.training.steps_per_epoch), self.steps)
        self.rows = RowStream(data.row_keys(), self.training.seed, self.name)
        self.backbone = backbone_of(self.model)
        in_backbone = list(self.backbone.parameters()) if self.backbone else []
        self.optimizer = make_optimizer(settings, self.parameters, in_backbone)
        trained = {id(parameter) for parameter in self.parameters if parameter.requires_grad}
        self.frozen_at_first = [parameter for parameter in in_backbone if id(parameter) in trained]
        self.batches = Batches(self.training, self.device)
        self.passes = StepPasses(self.training, self.model, self.parameters)
        self.average = WeightAverage(self.model, settings.weight_average) if settings.weight_average else None
        selects = settings.keep == "best" and self.evaluated is not None
        self.selection = Selection(settings.metric, settings.patience) if selects else None

    def run(self, checkpoint: Path | None = None, seconds_between: float = math.inf) -> None:
        """Train the remaining epochs, after restoring the checkpoint if it exists; then the network is the one kept."""
        self.epoch = self._restored(checkpoint)
        if self.evaluated:
            for evaluation in self.curve:
                self.evaluated(evaluation)
        saved = time.monotonic()
        try:
            while not self._has_ended:
                self._train_epoch()
                self.epoch += 1
                if self.evaluated and self._is_evaluated:
                    self._evaluate(self.evaluated)
                if checkpoint and (time.monotonic() - saved >= seconds_between or self._has_ended):
                    Checkpoint.of(self.model, self.optimizer, self._facts(), self._further_weights()).save(checkpoint)
                    saved = time.monotonic()
        finally:
            self.batches.close()
        self.freeze(False)
        self._take_kept_weights()

    @property
    def kept_epoch(self) -> int:
        """The number of epochs after which the network had the weights that are kept."""
        return self.selection.epoch if self.selection else self.epoch

    @property
    def steps_taken(self) -> int:
        """Number of optimizer steps so far."""
        return self.epoch * self.training.steps_per_epoch

    def time_step(self, rows: NDArray[np.int64]) -> float:
        """Take an optimizer step, with the passes that strategies add to it; return its duration in seconds."""
        started = time.perf_counter()
        self.class_prior = _class_prior(self.training.training_set, np.ones(len(self.training.training_set)))
        gradients = self._folded("optimizer_step", self.passes.gradients, parameters=self.parameters)
        self._train_step(rows, self.batches.on_device(rows), 0, self.training.loss.of_batch, gradients)
        return time.perf_counter() - started

    def freeze(self, is_frozen: bool) -> None:
        """Freeze the backbone, or let it be trained, except for what steps have frozen."""
        if self.training.settings.freeze_epochs:
            for parameter in self.frozen_at_first:
                parameter.requires_grad_(not is_frozen)

    @property
    def _is_frozen(self) -> bool:
        return self._strategy_epoch < self.training.settings.freeze_epochs

    @property
    def _has_ended(self) -> bool:
        return self.epoch == self.epochs or (self.selection is not None and self.selection.stops)

    @property
    def _is_evaluated(self) -> bool:
        return self.epoch % self.training.settings.evaluate_every == 0 or self.epoch == self.epochs

    def _train_epoch(self) -> None:
        training, count = self.training, self.training.steps_per_epoch
        weights = self._epoch_weights()
        self.class_prior = _class_prior(training.training_set, weights)
        features = LossFeatures()
        loss = self._folded("build_loss", training.loss.of_batch, adapt=features.offered_to)
        gradients = self._folded("optimizer_step", self.passes.gradients, parameters=self.parameters)
        rows = self.rows.epoch(self.epoch, weights, count * training.settings.batch_size).reshape(count, -1)
        self.batches.begin(rows, self._strategy_epoch)
        on_device, sums = self.batches.on_device(rows), StepSums(training, count, self.device)
        outputs: list[torch.Tensor] = []
        self._enter_training_mode()
        with features.captured(self.model):
            for number, batch_rows in enumerate(rows):
                step = self.epoch * count + number
                batch_and_loss = self._train_step(batch_rows, on_device[number], step, loss, gradients)
                sums.add(number, self.passes.logits, *batch_and_loss)
                if self.history:
                    outputs.append(self.passes.logits)
                self.progress(step + 1, self.steps)
        self._add_losses(sums)
        if self.history:
            self.history.record(rows.reshape(-1), torch.cat(outputs).cpu().numpy(), self._strategy_epoch)

    def _folded(self, stage: str, first: T, **others: Any) -> T:
        """Pass a function of the epoch through the steps of a stage."""
        training_set = self.training.training_set
        return self.training.pipeline.fold(
            stage,
            first,
            epoch=self._strategy_epoch,
            class_prior=self.class_prior,
            training_set=training_set,
            **others,
        )

    def _train_step(
        self,
        rows: NDArray[np.int64],
        on_device: torch.Tensor,
        step: int,
        loss: BatchLoss,
        gradients: Gradients,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Take an optimizer step on `(B,)` rows, passed as an array and as a tensor on the device.

        Returns:
            Images, targets and the mean loss.
        """
        settings = self.training.settings
        set_learning_rate(self.optimizer, learning_rate(settings, step, self.steps, self.warm_up))
        images, targets = self.batches.batch(rows, on_device, self._strategy_epoch)
        self.passes.begin(images, loss, repeats=self.training.pipeline.acts_at("optimizer_step"))
        mean_loss = gradients(targets, None)
        if settings.gradient_clipping:
            torch.nn.utils.clip_grad_norm_(self.parameters, settings.gradient_clipping)
        self.optimizer.step()
        if self.average:
            self.average.update()
        return images, targets, mean_loss

    def _shared_history(self) -> History | None:
        """Return the history of this optimization, after giving it to the steps that use it; None if none does."""
        training, context = self.training, self.training.pipeline.context
        if not any(step.uses_history for step in training.pipeline.steps):
            return None
        history = History(len(training.training_set), len(training.training_set.class_names))
        pipeline = replace(training.pipeline, context=replace(context, recorded=history))
        self.training = replace(training, pipeline=pipeline)
        return history

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
        self.freeze(self._is_frozen)
        trained = {id(parameter) for parameter in self.parameters}
        if all(id(parameter) in trained for parameter in self.model.parameters()):
            self.model.train()
            if self._is_frozen and self.backbone:
                self.backbone.eval()
            return
        self.model.eval()
        for module in self.model.modules():
            if any(id(parameter) in trained for parameter in module.parameters(recurse=False)):
                module.train()

    def _add_losses(self, sums: StepSums) -> None:
        of_steps = sums.fetched()
        if fault := sums.fault(of_steps, self._strategy_epoch):
            raise RunError(fault)
        losses = of_steps[:, 2]
        self._loss_sum += float(losses.sum(dtype=np.float64))
        self._loss_count += len(losses)

    @property
    def _evaluated_network(self) -> torch.nn.Module:
        return self.average.network if self.average else self.model

    def _evaluate(self, evaluated: Callable[[Evaluation], None]) -> None:
        network = self._evaluated_network.eval()
        self.curve.append(self._evaluation(network))
        if self.selection:
            self.selection.consider(self.curve[-1], network, self.class_prior)
        evaluated(self.curve[-1])

    def _evaluation(self, network: torch.nn.Module) -> Evaluation:
        training = self.training
        logits = break_ties(self._predict(network, training.validation), training.validation, training.seed)
        selection = training.training_set.take(self._selection_rows)
        scores = score(training.validation.labels, logits.argmax(axis=1), len(training.validation.class_names))
        evaluation = Evaluation(
            epoch=self.epoch,
            step=self.steps_taken,
            training_loss=self._loss_sum / self._loss_count,
            selection_loss=mean_loss(training.loss, self._predict(network, selection), selection.labels),
            validation_loss=mean_loss(training.loss, logits, training.validation.labels),
            validation_accuracy=scores.accuracy,
            validation_recall=tuple(None if np.isnan(recall) else float(recall) for recall in scores.recall),
        )
        self._loss_sum, self._loss_count = 0.0, 0
        return evaluation

    def _predict(self, network: torch.nn.Module, dataset: ImageDataset) -> NDArray[np.float32]:
        return predict_from(self.training.frozen, network, dataset, self.training.settings)

    @property
    def _selection_rows(self) -> NDArray[np.int64]:
        """The random training rows of `selection_loss`, the same at every evaluation."""
        count = min(self.training.selection_rows, len(self.training.training_set))
        in_order = self.training.training_set.rows_by_key
        return in_order[stream_rng(self.training.seed, "selection").permutation(len(in_order))[:count]]

    def _take_kept_weights(self) -> None:
        """Load the weights that are kept into the network."""
        if self.selection:
            self.model.load_state_dict(self.selection.weights)
            self.class_prior = self.selection.class_prior
        elif self.average:
            self.model.load_state_dict(self.average.network.state_dict())

    def _facts(self) -> dict[str, Any]:
        return {
            "epochs": self.epoch,
            "passed": self.rows.passed,
            "seconds": self.seconds_before + time.monotonic() - self._started,
            "class_prior": self.class_prior.tolist(),
            "warnings": self.warnings,
            "loss_sum": self._loss_sum,
            "loss_count": self._loss_count,
            "curve": [evaluation.model_dump() for evaluation in self.curve],
            "averaged": self.average.updates if self.average else 0,
            "selection": self.selection.facts() if self.selection else None,
        }

    def _further_weights(self) -> dict[str, dict[str, torch.Tensor]]:
        average = {_AVERAGE: self.average.network.state_dict()} if self.average else {}
        history = {_HISTORY: self.history.tensors()} if self.history else {}
        return average | history | ({_BEST: self.selection.weights} if self.selection else {})

    def _restored(self, path: Path | None) -> int:
        """Restore a checkpoint if it exists; return the number of finished epochs."""
        checkpoint = Checkpoint.load(path) if path else None
        if checkpoint is None:
            return 0
        checkpoint.restore(self.model, self.optimizer)
        facts = checkpoint.facts
        self.rows.passed, self.seconds_before = facts["passed"], facts["seconds"]
        self.class_prior = np.array(facts["class_prior"])
        self.warnings[:] = dict.fromkeys([*facts["warnings"], *self.warnings])
        self._loss_sum, self._loss_count = facts["loss_sum"], facts["loss_count"]
        self.curve = [Evaluation.model_validate(evaluation) for evaluation in facts["curve"]]
        if self.average:
            self.average.network.load_state_dict(checkpoint.weights(_AVERAGE))
            self.average.updates = facts["averaged"]
        if self.history:
            self.history.restore(checkpoint.weights(_HISTORY))
        if self.selection:
            self.selection.restore(facts["selection"], checkpoint.weights(_BEST))
        finished_epochs: int = facts["epochs"]
        self.progress(finished_epochs * self.training.steps_per_epoch, self.steps)
        return finished_epochs


def _class_prior(training_set: ImageDataset, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the `(K,)` mean target of rows drawn with `(N,)` weights."""
    if training_set.targets is None:
        drawn = np.bincount(training_set.labels, weights, minlength=len(training_set.class_names))
    else:
        drawn = np.einsum("n,nk->k", weights, training_set.targets)  # no BLAS, whose sums depend on threads
    return np.asarray(drawn / drawn.sum())
