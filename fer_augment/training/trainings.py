"""Trainings of recipes and of recipes cut short: runs, scouts and the folds of scouts, each trained once.

Legend of shapes: N rows, K classes, D features, P source rows of a row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file
from safetensors.torch import load_model, save_model

from fer_augment.data.dataset import ImageDataset, Splits
from fer_augment.data.duplicates import group_ids, stratified_folds
from fer_augment.data.records import Evaluation, provenance_arrays
from fer_augment.errors import RunError, StrategyError
from fer_augment.heads import linear_head
from fer_augment.hooks.pipeline import Pipeline, Step
from fer_augment.hooks.strategy import Context, Effect, PredictionKind
from fer_augment.metrics import softmax
from fer_augment.randomness import stream_rng
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.training.keys import training_key
from fer_augment.training.store import FOUND, StoredTraining, TrainingFacts, TrainingStore
from fer_augment.training.torch_runtime import device_of, reproducible
from fer_augment.training.trainer import Trained, Training, build_model, predict, refine, train

EXAMPLES_OF_A_STEP = 12
"""How many of the rows that a step made are kept to be looked at."""

SECOND_STAGE = ", second stage"
"""Added to the name of a training where what is trained already passes through `refine_model`."""

ReportTraining = Callable[[str, int, int], None]
"""Called with what is trained, optimizer steps taken, and how many there are."""


@dataclass(frozen=True)
class Fold:
    """A part of the source rows that a scout is not trained on.

    Attributes:
        number: which one, from 0.
        folds: of how many.
    """

    number: int
    folds: int

    def __str__(self) -> str:
        """Name the fold for people."""
        return f"fold {self.number + 1} of {self.folds}"


@dataclass(frozen=True)
class NeededTraining:
    """A training that a recipe needs.

    Attributes:
        what: it is, for people.
        key: of the training.
        bound: the recipe that is trained.
        is_second_stage: whether it begins with a trained network and refines it.
    """

    what: str
    key: str
    bound: BoundRecipe
    is_second_stage: bool = False


@dataclass(frozen=True, eq=False)
class Trainings:
    """Everything that is trained with one seed on one data set.

    Attributes:
        splits: the data.
        seed: the seed.
        store: where finished trainings lie.
        report: told what is trained and how far it is.
        evaluated: told each new point of the curve of the run itself, of no scout.
        cores: how many a strategy may use; None for as many as the recipe's `training.threads`.
    """

    splits: Splits
    seed: int
    store: TrainingStore
    report: ReportTraining = lambda what, done, total: None
    evaluated: Callable[[Evaluation], None] = lambda evaluation: None
    cores: int | None = None
    _rewritten: dict[str, ImageDataset] = field(default_factory=dict, init=False)
    _of_others: list[float] = field(default_factory=lambda: [0.0], init=False)

    def of(self, bound: BoundRecipe, *, fold: Fold | None = None, name: str = "training") -> StoredTraining:
        """Return the training of a recipe, on all rows or on those outside a fold.

        Raises:
            RunError: if the training fails.
            StrategyError: if a strategy does.
        """
        if not _refining(bound):
            return self._unrefined(bound, fold, name)
        self.check_refinable(bound)

        def make(scratch: Path, _: Path) -> None:
            first = self._unrefined(before_refinement(bound), fold, name)
            seconds = self._stopwatch()
            rewritten = self._training_rows(bound, fold)
            network = self.network(bound, first)
            facts = first.facts
            refined = refine(
                self.training(bound, rewritten),
                Trained(network, facts.curve, facts.optimizer_steps, np.array(facts.class_prior)),
                progress=lambda done, total: self.report(f"{name}{SECOND_STAGE}", done, total),
            )
            self._write(scratch, bound, refined, rewritten, seconds())

        return self._obtained(self._key(bound, fold), make, f"{name}{SECOND_STAGE}")

    def _unrefined(self, bound: BoundRecipe, fold: Fold | None, name: str) -> StoredTraining:
        """Return the training of a recipe as it is before `refine_model`."""

        def make(scratch: Path, checkpoint: Path) -> None:
            seconds = self._stopwatch()
            rewritten = self._training_rows(bound, fold)
            trained = train(
                self.training(bound, rewritten),
                checkpoint=checkpoint,
                progress=lambda done, total: self.report(_at_epoch(name, done, total, bound), done, total),
                evaluated=self.evaluated if name == "training" else lambda evaluation: None,
            )
            self._write(scratch, bound, trained, rewritten, trained.seconds_before + seconds())

        return self._obtained(self._key(bound, fold, is_refined=False), make, name)

    def _obtained(self, key: str, make: Callable[[Path, Path], None], name: str) -> StoredTraining:
        self.report(name, 0, 1)  # another run may be training the same just now, and then this one waits
        of_others, started = self._of_others[0], time.monotonic()
        trained = self.store.obtain(key, make)
        self._of_others[0] = of_others + time.monotonic() - started
        if trained.was_reused:
            self.report(f"{FOUND}{name}", 1, 1)
        return trained

    def _stopwatch(self) -> Callable[[], float]:
        """Return what tells the seconds from now on, less those that other trainings take meanwhile: scouts do."""
        started = time.monotonic() - self._of_others[0]
        return lambda: time.monotonic() - self._of_others[0] - started

    def _training_rows(self, bound: BoundRecipe, fold: Fold | None) -> ImageDataset:
        """Return the rewritten training set, without the rows of a fold."""
        rewritten = self.rewritten(bound)
        if not fold:
            return rewritten
        return rewritten.without((self.folds_of(rewritten, fold.folds) == fold.number).any(axis=1))

    def check_refinable(self, bound: BoundRecipe) -> None:
        """Refuse, before anything is trained, steps that refine a linear head where the network has none.

        Raises:
            StrategyError: if a step does, or refuses the network by itself.
        """
        model = self.untrained(bound)
        for step in _refining(bound):
            if Effect.NEEDS_LINEAR_HEAD in step.strategy.effects:
                try:
                    linear_head(model)
                except StrategyError as error:
                    raise StrategyError(f"{step}: {error}") from error

    def needed(self, bound: BoundRecipe) -> Iterator[NeededTraining]:
        """Tell which trainings a recipe needs, its own last; of scouts those that the strategies' effects declare."""
        for step in bound.steps:
            cut, effects = TrainedScout(self, bound, step).cut, step.strategy.effects
            if effects & (Effect.IN_SAMPLE_MINING | Effect.ASKS_FOR_EMBEDDINGS):
                yield from self._needed_for(cut, None, f"scout of {step.name}")
            if Effect.OUT_OF_FOLD_MINING in effects:
                for fold in _folds(bound):
                    yield from self._needed_for(cut, fold, f"scout of {step.name}, {fold}")
        yield from self._needed_for(bound, None, bound.recipe.name)

    def _needed_for(self, bound: BoundRecipe, fold: Fold | None, name: str) -> Iterator[NeededTraining]:
        first = before_refinement(bound)
        yield NeededTraining(name, self._key(first, fold, is_refined=False), first)
        if _refining(bound):
            yield NeededTraining(f"{name}{SECOND_STAGE}", self._key(bound, fold), bound, is_second_stage=True)

    def training(self, bound: BoundRecipe, training_set: ImageDataset) -> Training:
        """Put together what the trainer needs to train a recipe on a rewritten training set."""
        return Training(
            model=bound.model,
            loss=bound.loss,
            settings=bound.recipe.training,
            pipeline=self.pipeline(bound),
            training_set=training_set,
            source_rows=len(self.splits.train),
            validation=self.splits.validation,
            selection_rows=len(self.splits.test),
        )

    def _key(self, bound: BoundRecipe, fold: Fold | None = None, *, is_refined: bool = True) -> str:
        part = f"without {fold}" if fold else ""
        if _refining(bound) and not is_refined:
            part = f"{part} before refine_model"
        return training_key(bound, self.seed, self.splits, part=part)

    def rewritten(self, bound: BoundRecipe) -> ImageDataset:
        """Return the training set as a recipe's strategies rewrite it; worked out once."""
        key = self._key(before_refinement(bound))
        if key not in self._rewritten:
            with reproducible(bound.recipe.training, 0):
                self._rewritten[key] = self.pipeline(bound).fold("rewrite_training_set", self.splits.train)
        return self._rewritten[key]

    def pipeline(self, bound: BoundRecipe) -> Pipeline:
        """Return the strategies of a recipe, ready to act with this seed."""
        settings = bound.recipe.training
        cores = self.cores or settings.threads
        context = Context(self.seed, self.splits.class_names, device=device_of(settings), cores=cores)
        return Pipeline(bound.steps, context, scout_for=lambda step: TrainedScout(self, bound, step))

    def network(self, bound: BoundRecipe, trained: StoredTraining) -> torch.nn.Module:
        """Build the network of a recipe with the weights of its training, in evaluation mode.

        Raises:
            RunError: if the weights are damaged.
        """
        return with_weights(self.untrained(bound), trained.weights, bound.recipe.training)

    def untrained(self, bound: BoundRecipe) -> torch.nn.Module:
        """Build the network of a recipe as its strategies prepare it, with weights that mean nothing."""
        with reproducible(bound.recipe.training, 0):
            return build_model(bound.model, self.splits.train, self.pipeline(bound))

    def folds_of(self, dataset: ImageDataset, folds: int) -> NDArray[np.int64]:
        """Return the fold of each source row that a row descends from, `(N, P)`; -1 where there is none."""
        source = self.splits.train
        rng = stream_rng(self.seed, "folds", folds)
        fold_of_source = stratified_folds(source.labels, group_ids(source.digests), folds, rng)
        return np.append(fold_of_source, -1)[self._places_of(dataset.origins)]

    def _places_of(self, origins: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where source rows stand in the training split, -1 for none."""
        source = self.splits.train.origin
        place_of = np.full(int(source.max()) + 2, -1, dtype=np.int64)
        place_of[source] = np.arange(len(source))
        return place_of[origins]

    def _write(
        self, folder: Path, bound: BoundRecipe, trained: Trained, rewritten: ImageDataset, seconds: float
    ) -> None:
        if trained.model.state_dict().keys() != self.untrained(bound).state_dict().keys():
            raise StrategyError(
                "refine_model must keep the names of the network's parameters: add layers at prepare_model"
            )
        save_model(trained.model.cpu(), str(folder / "weights.safetensors"))
        save_file(provenance_arrays(rewritten), folder / "provenance.safetensors")
        save_file(self.examples(rewritten), folder / "examples.safetensors")
        facts = TrainingFacts(
            curve=trained.curve,
            optimizer_steps=trained.optimizer_steps,
            class_prior=tuple(trained.class_prior.tolist()),
            parameter_count=sum(parameter.numel() for parameter in trained.model.parameters()),
            rewritten_counts=tuple(rewritten.counts.tolist()),
            seconds=seconds,
        )
        (folder / "facts.json").write_text(facts.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def examples(self, rewritten: ImageDataset) -> dict[str, NDArray[np.generic]]:
        """Choose a few rows that each step made: the images, their first source rows, labels and step numbers."""
        rows = np.concatenate(
            [np.empty(0, np.int64), *map(_spread, (np.flatnonzero(rewritten.step == n) for n in _steps_in(rewritten)))]
        )
        return {
            "images": rewritten.images[rows],
            "sources": self.splits.train.images[self._places_of(rewritten.origin[rows])],
            "labels": rewritten.labels[rows],
            "step": rewritten.step[rows],
        }


def with_weights(model: torch.nn.Module, weights: Path, settings: TrainingSettings) -> torch.nn.Module:
    """Put the weights in a file into a network; return it on its device, in evaluation mode.

    Raises:
        RunError: if the file is missing, damaged, or of another network.
    """
    try:
        load_model(model, weights)  # a network may know a parameter by two names, which the file holds once
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{weights}: not usable ({reason}); delete {weights.parent} to train again") from error
    model = model.to(device_of(settings)).eval()
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return] # its stub lacks it


def before_refinement(bound: BoundRecipe) -> BoundRecipe:
    """Return a recipe without the steps that only act on the trained network: what is trained first."""
    return replace(bound, steps=tuple(step for step in bound.steps if not step.only_refines))


def _refining(bound: BoundRecipe) -> list[Step]:
    return [step for step in bound.steps if step.acts_at(["refine_model"])]


def _at_epoch(name: str, done: int, total: int, bound: BoundRecipe) -> str:
    """Say which epoch a training is in."""
    epochs = bound.recipe.training.epochs
    return f"{name}, epoch {min(done * epochs // total + 1, epochs)} of {epochs}"


def _folds(bound: BoundRecipe) -> list[Fold]:
    count = bound.recipe.training.scout.folds
    return [Fold(number, count) for number in range(count)]


def _steps_in(rewritten: ImageDataset) -> list[int]:
    return [number for number in np.unique(rewritten.step).tolist() if number > 0]


def _spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Choose rows that lie evenly apart."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, EXAMPLES_OF_A_STEP).astype(np.int64))]


@dataclass(frozen=True, eq=False)
class TrainedScout:
    """The scout of a step: the recipe cut before the step, see `strategy.Scout`.

    Attributes:
        trainings: where it is trained.
        bound: the recipe that the asking step stands in.
        step: the asking step.
    """

    trainings: Trainings
    bound: BoundRecipe
    step: Step

    def probabilities(self, training_set: ImageDataset, how: PredictionKind = "out_of_fold") -> NDArray[np.float32]:
        """Return `(N, K) float32` class probabilities; NaN out of fold for rows whose source rows span folds."""
        if how == "in_sample":
            return self._probabilities(self._in_sample, training_set)
        fold_NP = self.trainings.folds_of(training_set, self.bound.recipe.training.scout.folds)
        result = np.full((len(training_set), len(training_set.class_names)), np.nan, dtype=np.float32)
        for fold in _folds(self.bound):
            trained = self.trainings.of(self.cut, fold=fold, name=f"scout of {self.step.name}, {fold}")
            asked = np.flatnonzero(((fold_NP == fold.number) | (fold_NP == -1)).all(axis=1))
            if len(asked):
                result[asked] = self._probabilities(trained, training_set.take(asked))
        return result

    def embeddings(self, training_set: ImageDataset) -> NDArray[np.float32]:
        """Return the `(N, D) float32` outputs of the in-sample model's `features`.

        Raises:
            StrategyError: if the network has no such part; nothing is trained then.
        """
        if not isinstance(getattr(self.trainings.untrained(self.cut), "features", None), torch.nn.Module):
            raise StrategyError(
                f"embeddings are what `features` of a network gives, and {self.cut.model.name} has no such part; "
                "choose another model"
            )
        features = self.trainings.network(self.cut, self._in_sample).get_submodule("features")
        return predict(features, training_set, self.cut.recipe.training)

    @cached_property
    def cut(self) -> BoundRecipe:
        """The recipe as it stands before the step, with the scout's epochs."""
        settings = self.bound.recipe.training
        epochs = settings.scout.epochs or settings.epochs
        recipe = self.bound.recipe.model_copy(update={"training": settings.model_copy(update={"epochs": epochs})})
        steps = tuple(step for step in self.bound.steps if step.number < self.step.number)
        return replace(self.bound, recipe=recipe, steps=steps, trackers=())

    @cached_property
    def _in_sample(self) -> StoredTraining:
        return self.trainings.of(self.cut, name=f"scout of {self.step.name}")

    def _probabilities(self, trained: StoredTraining, dataset: ImageDataset) -> NDArray[np.float32]:
        network = self.trainings.network(self.cut, trained)
        return softmax(predict(network, dataset, self.cut.recipe.training)).astype(np.float32)
