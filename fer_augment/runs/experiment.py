"""Recipe × seed → run: train or find the training, predict the held-out splits once, and write the record."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fer_augment.data.audit import drop_held_out_duplicates
from fer_augment.data.dataset import ImageDataset, Splits
from fer_augment.data.duplicates import group_ids
from fer_augment.data.records import Evaluation, Predictions, RunDirectory, RunIdentity, RunRecord, StepRecord, save_run
from fer_augment.hooks.observers import Observers
from fer_augment.hooks.pipeline import Pipeline
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.hooks.strategy import ASKS_SCOUTS
from fer_augment.recipe.binding import BoundRecipe, bind
from fer_augment.recipe.recipe import Recipe, TrainingSettings, recipe_yaml
from fer_augment.recipe.warnings import recipe_warnings
from fer_augment.runs.executors import ReportTask
from fer_augment.runs.ledger import Ledger
from fer_augment.training.keys import environment, run_key, source_digest
from fer_augment.training.store import FOUND, StoredTraining, TrainingStore
from fer_augment.training.torch_runtime import reproducible
from fer_augment.training.trainer import decided, mean_loss, predict, seconds_per_step
from fer_augment.training.trainings import NeededTraining, Trainings

_KEY_LETTERS = 12


@dataclass(frozen=True)
class PlannedRun:
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
class PlannedTraining:
    """A training that runs need.

    Attributes:
        needed: the training, as the first of the runs needs it.
        runs: which runs need it.
        is_stored: whether it is done already.
    """

    needed: NeededTraining
    runs: tuple[str, ...]
    is_stored: bool


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

    def __call__(self, task: PlannedRun, report: ReportTask) -> Path:
        """Do a run, or find it done; return its directory."""
        bound = bind(task.recipe, installed_plugins())
        splits = splits_for(task.recipe, self.splits)
        key = run_key(bound, task.seed, splits)
        path = self.path_of(task, key)
        if path.is_dir():
            report(f"{FOUND}run", 1, 1)
            return path
        identity = RunIdentity(recipe=task.recipe.name, seed=task.seed, key=key)
        self.ledger.note(task.recipe, self.splits)
        perform(bound, identity, splits, self.splits.train, self.store, path, report)
        return path

    def path_of(self, run: PlannedRun, key: str) -> Path:
        """Return where a run's directory is, or will be."""
        return self.folder / run.recipe.name / f"seed-{run.seed}-{key[:_KEY_LETTERS]}"

    @property
    def ledger(self) -> Ledger:
        """Where it is kept which recipes were scored on which test split: beside the trainings."""
        return Ledger(self.store.root.parent / "scored")

    def plan(self, runs: Iterable[PlannedRun]) -> list[PlannedTraining]:
        """Return the distinct trainings that runs need, in the order in which they come up."""
        planned: dict[str, PlannedTraining] = {}
        for run in runs:
            bound = bind(run.recipe, installed_plugins())
            trainings = Trainings(splits_for(run.recipe, self.splits), run.seed, self.store)
            for needed in trainings.needed(bound):
                known = planned.get(needed.key)
                of_runs = (*(known.runs if known else ()), str(run))
                is_stored = self.store.find(needed.key) is not None
                planned[needed.key] = PlannedTraining(known.needed if known else needed, of_runs, is_stored)
        return list(planned.values())


def minutes_for(bound: BoundRecipe, splits: Splits) -> float:
    """Estimate how long a training takes on one core, from a few optimizer steps taken now.

    Steps that ask a scout are left out: what they do in a batch takes little, and the scout would have to be trained.
    """
    trainings = Trainings(splits, 0, TrainingStore(Path()))
    settings = bound.recipe.training
    timed = replace(bound, steps=tuple(step for step in bound.steps if not step.strategy.effects & ASKS_SCOUTS))
    steps = settings.epochs * math.ceil(len(splits.train) / settings.batch_size)
    return steps * seconds_per_step(trainings.training(timed, splits.train)) / 60


def splits_for(recipe: Recipe, splits: Splits) -> Splits:
    """Return the data as a recipe's `data` settings have it."""
    return drop_held_out_duplicates(splits) if recipe.data.held_out_duplicates == "drop" else splits


def perform(
    bound: BoundRecipe,
    identity: RunIdentity,
    splits: Splits,
    source: ImageDataset,
    store: TrainingStore,
    path: Path,
    report: ReportTask,
) -> RunDirectory:
    """Do a run and write its directory.

    Args:
        bound: the recipe.
        identity: which run this is.
        splits: the data, after the recipe's `data` settings.
        source: the training split before these, by which copies in the held-out splits are told.
        store: where the training is found or kept.
        path: the run's directory; appears whole.
        report: told how far it is.

    Raises:
        RunError: if the training fails.
        StrategyError: if a strategy does.
    """
    observers = Observers([*(tracker.make() for tracker in bound.trackers), *(step.strategy for step in bound.steps)])
    observers.tell("run_started", run=identity)
    trainings = Trainings(splits, identity.seed, store, report, _teller(observers, identity))
    trained = trainings.of(bound)
    observers.tell("run_finished", run=identity, curve=trained.facts.curve)
    report("predicting", 0, 2)
    pipeline = trainings.pipeline(bound)
    predictions = _predictions(trainings, bound, pipeline, trained, source)
    report("predicting", 2, 2)
    record = _record(bound, identity, splits, trained, predictions["test"], pipeline.chosen)
    record = record.model_copy(update={"warnings": (*record.warnings, *observers.failures)})
    return save_run(path, record, recipe_yaml(bound.recipe), predictions, trained.files)


def _teller(observers: Observers, identity: RunIdentity) -> Callable[[Evaluation], None]:
    return lambda evaluation: observers.tell("epoch_finished", run=identity, evaluation=evaluation)


def _predictions(
    trainings: Trainings, bound: BoundRecipe, pipeline: Pipeline, trained: StoredTraining, source: ImageDataset
) -> dict[str, Predictions]:
    """Predict both held-out splits, with the recipe's views and adjustment; this is the only look at the test split."""
    settings, splits = bound.recipe.training, trainings.splits
    network = trainings.network(bound, trained)
    held_out = {"validation": splits.validation, "test": splits.test}
    raw = {name: predict(network, part, settings, pipeline) for name, part in held_out.items()}
    adjust = fitted_adjustment(
        pipeline, raw["validation"], splits.validation.labels, trained.facts.class_prior, settings
    )
    is_adjusted = pipeline.acts_at("build_adjustment")
    return {
        name: Predictions(
            labels=part.labels,
            logits=decided(adjust(raw[name]), part, trainings.seed),
            groups=group_ids(part.digests),
            in_train=np.isin(part.digests, source.digests),
            raw_logits=raw[name] if is_adjusted else None,
        )
        for name, part in held_out.items()
    }


def fitted_adjustment(
    pipeline: Pipeline,
    validation_logits: NDArray[np.float32],
    validation_labels: NDArray[np.int64],
    class_prior: Sequence[float],
    settings: TrainingSettings,
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Work out what strategies do to logits after training.

    Args:
        pipeline: the strategies.
        validation_logits: `(V, K) float32`, before any adjustment.
        validation_labels: `(V,)`.
        class_prior: K class frequencies as drawn in the last epoch, summing to 1.
        settings: device and threads.

    Returns:
        A function from `(N, K) float32` logits to adjusted ones.
    """

    def on_device(array: NDArray[np.generic]) -> torch.Tensor:
        return torch.tensor(array, device=pipeline.context.device)

    with reproducible(settings, 0):
        adjust = pipeline.fold(
            "build_adjustment",
            _unchanged,
            validation_logits=on_device(validation_logits),
            validation_labels=on_device(validation_labels),
            class_prior=np.array(class_prior),
        )

    def adjusted(logits: NDArray[np.float32]) -> NDArray[np.float32]:
        with reproducible(settings, 0), torch.inference_mode():
            return adjust(on_device(logits)).float().cpu().numpy()

    return adjusted


def _unchanged(logits: torch.Tensor) -> torch.Tensor:
    return logits


def _record(
    bound: BoundRecipe,
    identity: RunIdentity,
    splits: Splits,
    trained: StoredTraining,
    test: Predictions,
    chosen: Mapping[int, Mapping[str, float]],
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
            chosen=dict(chosen.get(step.number, {})),
        )
        for step in bound.steps
    ]
    return RunRecord(
        identity=identity,
        training_key=trained.path.name,
        recipe=bound.recipe.model_dump(mode="json"),
        steps=tuple(steps),
        class_names=splits.class_names,
        image_shape=splits.train.image_shape,
        data_fingerprint=splits.fingerprint,
        train_counts=tuple(splits.train.counts.tolist()),
        rewritten_counts=facts.rewritten_counts,
        class_prior=facts.class_prior,
        optimizer_steps=facts.optimizer_steps,
        parameter_count=facts.parameter_count,
        curve=facts.curve,
        test_loss=mean_loss(bound.loss, test.logits, test.labels),
        environment=environment(bound.recipe.training),
        warnings=recipe_warnings(bound),
        training_seconds=None if trained.was_reused else facts.seconds,
    )


def runs_in_order(recipes: Sequence[Recipe], seeds: Sequence[int]) -> list[PlannedRun]:
    """Return all runs, the baseline's first: its trainings are the scouts of others."""
    return [PlannedRun(recipe, seed) for recipe in recipes for seed in seeds]
