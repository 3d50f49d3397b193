"""Recipe × seed → run: train or find the training, predict the held-out splits once, and write the record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from fer_augment.audit import drop_held_out_copies
from fer_augment.dataset import ImageDataset, Splits
from fer_augment.duplicates import group_ids
from fer_augment.executors import ReportTask
from fer_augment.plugin_manager import installed_plugins
from fer_augment.recipe import Recipe, recipe_yaml
from fer_augment.recipe_binding import BoundRecipe, bind, bound_warnings
from fer_augment.records import Evaluation, Predictions, RunDirectory, RunIdentity, RunRecord, StepRecord, save_run
from fer_augment.stages import Stages
from fer_augment.torch_runtime import device_of
from fer_augment.trainer import mean_loss, predict
from fer_augment.training_keys import environment, run_key, source_digest
from fer_augment.training_store import StoredTraining, TrainingStore
from fer_augment.trainings import Trainings

T = TypeVar("T")
_KEY_LETTERS = 12


@dataclass(frozen=True)
class Run:
    """One arm with one seed, to be run.

    Attributes:
        recipe: the arm's recipe.
        seed: the seed.
    """

    recipe: Recipe
    seed: int

    def __str__(self) -> str:
        """Name the run for people."""
        return f"{self.recipe.name}, seed {self.seed}"


@dataclass(frozen=True, eq=False)
class Experiment:
    """Runs on one data source; it can be sent to another process, and called there with a run.

    Attributes:
        splits: the data as read, before the recipes' `data` settings.
        store: where trainings are kept and found.
        folder: where run directories go.
    """

    splits: Splits
    store: TrainingStore
    folder: Path

    def __call__(self, run: Run, report: ReportTask) -> Path:
        """Do a run, or find it done; return its directory."""
        bound = bind(run.recipe, installed_plugins())
        splits = splits_for(run.recipe, self.splits)
        key = run_key(bound, run.seed, splits)
        path = self.path_of(run, key)
        if not path.is_dir():
            perform(
                bound, RunIdentity(recipe=run.recipe.name, seed=run.seed, key=key), splits, self.store, path, report
            )
        return path

    def path_of(self, run: Run, key: str) -> Path:
        """Return where a run's directory is, or will be."""
        return self.folder / run.recipe.name / f"seed-{run.seed}-{key[:_KEY_LETTERS]}"

    def finished(self, run: Run, bound: BoundRecipe) -> RunDirectory | None:
        """Return a run that was done before."""
        path = self.path_of(run, run_key(bound, run.seed, splits_for(run.recipe, self.splits)))
        return RunDirectory(path) if path.is_dir() else None


def splits_for(recipe: Recipe, splits: Splits) -> Splits:
    """Return the data as a recipe's `data` settings have it."""
    return drop_held_out_copies(splits) if recipe.data.held_out_copies == "drop" else splits


def perform(
    bound: BoundRecipe, identity: RunIdentity, splits: Splits, store: TrainingStore, path: Path, report: ReportTask
) -> RunDirectory:
    """Do a run and write its directory.

    Args:
        bound: the recipe.
        identity: which run this is.
        splits: the data, after the recipe's `data` settings.
        store: where the training is found or kept.
        path: the run's directory; appears whole.
        report: told how far it is.

    Raises:
        RunError: if the training fails.
        StrategyError: if a strategy does.
    """
    observers = Stages((), Trainings(splits, identity.seed, store).stages(bound).context, observers=_observers(bound))
    observers.tell("run_started", run=identity)
    tell = _teller(observers, identity)
    trainings = Trainings(splits, identity.seed, store, report, tell)
    trained = trainings.of(bound)
    report("predicting", 0, 2)
    predictions = _predictions(trainings, bound, trained)
    report("predicting", 2, 2)
    record = _record(bound, identity, splits, trained, predictions["test"])
    directory = save_run(path, record, recipe_yaml(bound.recipe), predictions, trained.files)
    observers.tell("run_finished", run=identity, curve=record.curve)
    return directory


def _observers(bound: BoundRecipe) -> list[object]:
    """Return who is told of the run: its trackers, and strategies that want to know."""
    return [*(tracker.make() for tracker in bound.trackers), *(step.strategy for step in bound.steps)]


def _teller(observers: Stages, identity: RunIdentity) -> Callable[[Evaluation], None]:
    return lambda evaluation: observers.tell("epoch_finished", run=identity, evaluation=evaluation)


def _predictions(trainings: Trainings, bound: BoundRecipe, trained: StoredTraining) -> dict[str, Predictions]:
    """Predict both held-out splits, with the recipe's views and adjustment; this is the only look at the test split."""
    settings, splits, stages = bound.recipe.training, trainings.splits, trainings.stages(bound)
    network = trainings.network(bound, trained)
    held_out = {"validation": splits.validation, "test": splits.test}
    logits = {name: predict(network, part, settings, stages) for name, part in held_out.items()}
    device = device_of(settings)
    adjust = stages.fold(
        "build_adjustment",
        _unchanged,
        validation_logits=torch.from_numpy(logits["validation"]).to(device),
        validation_labels=torch.from_numpy(splits.validation.labels.copy()).to(device),
        class_prior=np.array(trained.facts.class_prior),
    )
    with torch.inference_mode():
        adjusted = {name: adjust(torch.from_numpy(given).to(device)).float().cpu() for name, given in logits.items()}
    return {name: _told(part, adjusted[name], splits) for name, part in held_out.items()}


def _told(part: ImageDataset, logits: torch.Tensor, splits: Splits) -> Predictions:
    return Predictions(part.labels, logits.numpy(), group_ids(part.digests), splits.in_train(part))


def _unchanged(logits: torch.Tensor) -> torch.Tensor:
    return logits


def _record(
    bound: BoundRecipe, identity: RunIdentity, splits: Splits, trained: StoredTraining, test: Predictions
) -> RunRecord:
    facts = trained.facts
    made = Counter(trained.provenance["step"].tolist())
    steps = [
        StepRecord(
            name=step.name,
            parameters=step.strategy.model_dump(mode="json"),
            provider=step.provider,
            source=source_digest(type(step.strategy)),
            rows=made[step.number],
        )
        for step in bound.steps
    ]
    return RunRecord(
        identity=identity,
        training_key=trained.path.name,
        recipe=bound.recipe.model_dump(mode="json"),
        steps=tuple(steps),
        class_names=splits.class_names,
        data_fingerprint=splits.fingerprint,
        train_counts=tuple(splits.train.counts.tolist()),
        rewritten_counts=facts.rewritten_counts,
        optimiser_steps=facts.optimiser_steps,
        parameter_count=facts.parameter_count,
        curve=facts.curve,
        test_loss=mean_loss(bound.loss, test.logits, test.labels),
        environment=environment(bound.recipe.training),
        warnings=bound_warnings(bound),
        training_seconds=None if trained.was_reused else facts.seconds,
    )


def runs_in_order(recipes: Sequence[Recipe], seeds: Sequence[int]) -> list[Run]:
    """Return all runs, the baseline's first: its trainings are the scouts of others."""
    return [Run(recipe, seed) for recipe in recipes for seed in seeds]
