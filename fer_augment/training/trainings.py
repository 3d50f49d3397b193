"""Trainings of recipes and of their scouts, each done once for a training key.

Legend of shapes: N rows, K classes, D features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fer_augment.cache import STRATEGIES
from fer_augment.data.dataset import ImageDataset, Splits
from fer_augment.data.feature_cache import FeatureCache
from fer_augment.data.records import Evaluation
from fer_augment.errors import StrategyError
from fer_augment.hooks.pipeline import Pipeline, Step
from fer_augment.hooks.strategy import Context, Effect, PredictionKind
from fer_augment.hooks.strategy_warnings import collected_warnings
from fer_augment.metrics import softmax
from fer_augment.progress import Advance, Cached, Report, ignore, throttled
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.training.folds import Fold, all_folds, fold_key, folds_of
from fer_augment.training.frozen_features import FrozenFeatures, HeadOnFeatures
from fer_augment.training.head_training import check_head_training
from fer_augment.training.keys import backbone_key, training_key
from fer_augment.training.machine import device_of
from fer_augment.training.nested_clock import NestedClock
from fer_augment.training.networks import build_network, with_weights
from fer_augment.training.prediction import predict, predict_from
from fer_augment.training.requirements import check_requirements, require_features
from fer_augment.training.rewriting_checks import lost_rows, near_held_out_warning, refuse_held_out_images
from fer_augment.training.specification import Trained, Training, build_model
from fer_augment.training.store import StoredTraining, TrainingStore
from fer_augment.training.strategy_cache import StrategyCache
from fer_augment.training.torch_runtime import ONE_THREAD, reproducible
from fer_augment.training.trainer import refine, train
from fer_augment.training.training_files import write_training

SECONDS_BETWEEN_REPORTS = 0.1
"""Minimum time between two reports of progress."""


@dataclass(frozen=True, eq=False)
class Trainings:
    """Everything that is trained with one seed on one data set.

    Attributes:
        splits: the data, after the recipe's `data` settings.
        seed: the seed.
        store: where finished trainings are kept.
        report: receives progress events.
        cores: processor cores that a strategy may use; None for the recipe's `training.threads`.
    """

    splits: Splits
    seed: int
    store: TrainingStore
    report: Report = ignore
    cores: int | None = None
    clock: NestedClock = field(default_factory=NestedClock, init=False)
    _frozen: dict[str, FrozenFeatures] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def throttled_report(self) -> Report:
        """Receives progress events as often as they occur, and reports them not too often."""
        return throttled(self.report, SECONDS_BETWEEN_REPORTS)

    def of(self, bound: BoundRecipe) -> RecipeTrainings:
        """Return a recipe in these trainings; nothing is trained yet."""
        return RecipeTrainings(self, bound)


@dataclass(frozen=True, eq=False)
class RecipeTrainings:
    """One recipe in the trainings of one seed: its pipeline, networks, rewritten training set and trained weights.

    Attributes:
        trainings: data, seed and store.
        bound: the recipe with its plugins.
        rewriting_warnings: what was said when the training set was rewritten.
    """

    trainings: Trainings
    bound: BoundRecipe
    rewriting_warnings: list[str] = field(default_factory=list, init=False)

    @property
    def settings(self) -> TrainingSettings:
        """How the recipe is trained."""
        return self.bound.recipe.training

    @cached_property
    def pipeline(self) -> Pipeline:
        """The recipe's steps; use a fresh copy of it for each training and each set of predictions."""
        cores = self.trainings.cores or self.settings.threads
        context = Context(
            self.trainings.seed, self.trainings.splits.class_names, device=device_of(self.settings), cores=cores
        )
        root = self.trainings.store.root.parent / STRATEGIES
        return Pipeline(
            self.bound.steps,
            context,
            # in both stages of training, a step that acts in the first one asks the same scout
            scout_for=lambda step: TrainedScout(self if step.acts_at(["refine_model"]) else self.first_stage, step),
            cache_for=lambda step: StrategyCache(root, step, self.bound),
            report=lambda step, done, total: self._report(Advance(step.name, done, total)),
        )

    @cached_property
    def untrained(self) -> torch.nn.Module:
        """The network as the recipe's steps prepare it; its initial weights are not those of a run.

        Raises:
            FerAugmentError: if the network does not take images of this size, or a step does not take the network.
        """
        with reproducible(self.settings, 0):
            return build_model(
                self.bound.model, self.trainings.splits.train, self.pipeline.fresh(), initial_weights=False
            )

    @cached_property
    def frozen(self) -> FrozenFeatures | None:
        """The features of images under the backbone, if the head alone is trained; None if the whole network is."""
        if self.settings.train == "all":
            return None
        splits, model = self.trainings.splits, self.bound.model
        key = backbone_key(self.bound, splits)
        if key not in self.trainings._frozen:
            cache = FeatureCache.below(self.trainings.store.root.parent, key)
            self.trainings._frozen[key] = FrozenFeatures(
                cache,
                lambda: build_network(model, splits.train.image_shape, splits.class_names)[0],
                self.settings,
                lambda done, total: self._report(Advance("features of the images", done, total)),
            )
        return self.trainings._frozen[key]

    @cached_property
    def _trained_part(self) -> torch.nn.Module:
        """The untrained network, or the head on features if that alone is trained."""
        return HeadOnFeatures(self.untrained.get_submodule("head")) if self.frozen else self.untrained

    def _compute_features(self, *datasets: ImageDataset) -> None:
        """Compute the features that a training needs and that are missing; their time is not that of the training."""
        frozen = self.frozen
        if frozen:
            self.trainings.clock.wait_for(lambda: [frozen.rows_of(dataset) for dataset in datasets])

    @cached_property
    def rewritten(self) -> ImageDataset:
        """The training set as the recipe's steps rewrite it."""
        if self.first_stage is not self:
            return self.first_stage.rewritten
        dataset = self.trainings.splits.train
        for _, after_step in self.rewritings():
            dataset = after_step
        return dataset

    def rewritings(self) -> Iterator[tuple[Step, ImageDataset]]:
        """Rewrite the training set; yield each step that does with the set after it.

        Raises:
            StrategyError: if a strategy fails, adds held-out images, or drops all rows of a class.
        """
        before = self.trainings.splits.train
        acting = [step for step in self.bound.steps if step.acts_at(["rewrite_training_set"])]
        with reproducible(self.settings, 0), collected_warnings() as messages:
            for step, after in self._announced(acting, self.pipeline.fresh().each("rewrite_training_set", before)):
                refuse_held_out_images(step, before, after, self.trainings.splits)
                messages += lost_rows(step, before, after)
                yield step, after
                before = after
        self.rewriting_warnings[:] = dict.fromkeys([*self.rewriting_warnings, *messages])

    def _announced(
        self, acting: Iterable[Step], rewritings: Iterator[tuple[Step, ImageDataset]]
    ) -> Iterator[tuple[Step, ImageDataset]]:
        """Report each step before it rewrites; how long it takes is not known."""
        for step in acting:
            self._report(Advance(f"rewriting the training set, {step}", 0, 0))
            yield next(rewritings)

    @property
    def refines(self) -> bool:
        """Whether a step acts at `refine_model`, in a second stage of training."""
        return any(step.acts_at(["refine_model"]) for step in self.bound.steps)

    @cached_property
    def first_stage(self) -> RecipeTrainings:
        """The recipe without the steps that only refine the trained network; the recipe itself if it has none."""
        steps = tuple(step for step in self.bound.steps if not step.only_refines)
        return self if steps == self.bound.steps else self.trainings.of(replace(self.bound, steps=steps))

    def check(self) -> None:
        """Refuse what would otherwise fail only in or after a training.

        Raises:
            FerAugmentError: if the data, the network and the settings are not such that all steps can work with them.
        """
        if self.frozen:
            check_head_training(self.bound, self.trainings.splits, self.pipeline.fresh())
        check_requirements(self.bound, self.trainings.splits, self.untrained)

    def trained(
        self,
        *,
        fold: Fold | None = None,
        scout_of: Step | None = None,
        evaluated: Callable[[Evaluation], None] = lambda evaluation: None,
    ) -> StoredTraining:
        """Train the recipe, or return the finished training with the same key.

        Args:
            fold: source rows to leave out; None trains on all rows.
            scout_of: the step whose scout this is; None for the training of a run.
            evaluated: receives each point of the curve, also of a reused training.

        Raises:
            RunError: if the training fails.
            StrategyError: if a strategy fails.
        """
        if not self.refines:
            return self.trained_from_scratch(fold=fold, scout_of=scout_of, evaluated=evaluated)
        self.check()
        name = f"{name_of(scout_of, fold)}, second stage"

        def make(scratch: Path, _: Path) -> None:
            first = self.first_stage.trained_from_scratch(fold=fold, scout_of=scout_of, evaluated=evaluated)
            seconds = self.trainings.clock.start()
            rewritten = self._training_rows(fold)
            self._compute_features(rewritten)
            facts = first.facts
            with collected_warnings() as messages:
                refined = refine(
                    self.training(rewritten),
                    Trained(
                        self.network(first),
                        facts.curve,
                        facts.optimizer_steps,
                        np.array(facts.class_prior),
                        facts.kept_epoch,
                    ),
                    progress=lambda done, total: self._report(
                        Advance(name, done, total, measures_run=scout_of is None)
                    ),
                )
            self._write(scratch, refined, rewritten, seconds(), [*facts.warnings, *messages])

        return self._obtained(self.key(fold), make, name, evaluated)

    def trained_from_scratch(
        self,
        *,
        fold: Fold | None = None,
        scout_of: Step | None = None,
        evaluated: Callable[[Evaluation], None] = lambda evaluation: None,
    ) -> StoredTraining:
        """Return the training as it is before `refine_model`; see `trained`."""
        name, epochs = name_of(scout_of, fold), self.settings.epochs

        def progress(done: int, total: int) -> None:
            epoch = min(done * epochs // total + 1, epochs)
            self._report(Advance(f"{name}, epoch {epoch} of {epochs}", done, total, measures_run=scout_of is None))

        def make(scratch: Path, checkpoint: Path) -> None:
            seconds = self.trainings.clock.start()
            rewritten = self._training_rows(fold)
            self._compute_features(rewritten, self.trainings.splits.validation)
            with collected_warnings() as messages:
                trained = train(
                    self.training(rewritten),
                    checkpoint=checkpoint,
                    progress=progress,
                    evaluated=evaluated,
                    warnings=messages,
                )
            if fold is None and (leak := near_held_out_warning(rewritten, self.trainings.splits)):
                messages.append(leak)
            said = [*self.first_stage.rewriting_warnings, *messages]
            self._write(scratch, trained, rewritten, trained.seconds_before + seconds(), said)

        return self._obtained(self.key_before_refinement(fold), make, name, evaluated)

    def _obtained(
        self, key: str, make: Callable[[Path, Path], None], name: str, evaluated: Callable[[Evaluation], None]
    ) -> StoredTraining:
        self._report(Advance(name, 0, 1))

        def waits() -> None:
            self._report(Advance(f"{name}, which another process is doing", 0, 1))

        with ONE_THREAD:  # always before the lock of the store, or two threads could wait for each other
            stored = self.trainings.clock.wait_for(lambda: self.trainings.store.obtain(key, make, waits))
        if stored.was_reused:
            self._report(Cached(name))
            for evaluation in stored.facts.curve:
                evaluated(evaluation)
        return stored

    def _report(self, event: Advance | Cached) -> None:
        self.trainings.throttled_report(event)

    def _training_rows(self, fold: Fold | None) -> ImageDataset:
        """Return the rewritten training set without the rows that descend from a fold."""
        rewritten = self.rewritten
        return rewritten.without((self.folds_of(rewritten) == fold.number).any(axis=1)) if fold else rewritten

    def folds_of(self, dataset: ImageDataset) -> NDArray[np.int64]:
        """Return the fold of each source row that a row descends from; see `folds.folds_of`."""
        return folds_of(dataset, self.trainings.splits.train, self.settings.scout.folds, self.trainings.seed)

    def source_folds(self) -> list[Fold]:
        """Return the folds that source rows are in, which are fewer than the setting if there are few groups of rows.

        Raises:
            StrategyError: if all rows are in one, so that leaving it out would leave none.
        """
        numbers = np.unique(self.folds_of(self.trainings.splits.train))
        if len(numbers) < 2:
            raise StrategyError(
                "out-of-fold predictions require at least two groups of training rows, but all rows are "
                "duplicates of each other or in one group; use in-sample predictions"
            )
        return [fold for fold in all_folds(self.settings.scout.folds) if fold.number in numbers]

    def training(self, training_set: ImageDataset) -> Training:
        """Return what the trainer needs to train the recipe on a rewritten training set."""
        splits = self.trainings.splits
        return Training(
            model=self.bound.model,
            loss=self.bound.loss,
            settings=self.settings,
            pipeline=self.pipeline.fresh(),
            training_set=training_set,
            source_rows=len(splits.train),
            validation=splits.validation,
            selection_rows=len(splits.test),
            frozen=self.frozen,
        )

    def key(self, fold: Fold | None = None) -> str:
        """Return the training key, on all rows or without those of a fold."""
        return self._key(self._part(fold))

    def key_before_refinement(self, fold: Fold | None) -> str:
        """Return the training key of the training as it is before `refine_model`; see `key`."""
        part = self._part(fold)
        return self._key(f"{part} before refine_model" if self.refines else part)

    def _part(self, fold: Fold | None) -> str:
        return f"without {fold_key(self.trainings.splits.train, fold, self.trainings.seed)}" if fold else ""

    def _key(self, part: str) -> str:
        return training_key(self.bound, self.trainings.seed, self.trainings.splits, part=part)

    def network(self, stored: StoredTraining) -> torch.nn.Module:
        """Return what was trained with the weights of a training, on the recipe's device, in evaluation mode.

        This is the network, or a `HeadOnFeatures` if the head alone is trained.

        Raises:
            RunError: if the weights are damaged.
        """
        return with_weights(copy.deepcopy(self._trained_part), [stored.weights], self.settings)

    def predict(
        self, network: torch.nn.Module, dataset: ImageDataset, views_of: Pipeline | None = None
    ) -> NDArray[np.float32]:
        """Compute the `(N, K) float32` logits of what `network` returns for each row of a data set.

        Args:
            network: the network, or the head if that alone is trained.
            dataset: N rows.
            views_of: strategies over whose test-time views the logits are averaged; None for the images themselves.
        """
        return predict_from(self.frozen, network, dataset, self.settings, views_of)

    def _write(
        self, folder: Path, trained: Trained, rewritten: ImageDataset, seconds: float, warnings: Sequence[str]
    ) -> None:
        if trained.model.state_dict().keys() != self._trained_part.state_dict().keys():
            raise StrategyError(
                "refine_model must keep the names of the network's parameters: add layers at prepare_model"
            )
        count = sum(parameter.numel() for parameter in self.untrained.parameters())
        source = self.trainings.splits.train
        write_training(folder, trained, rewritten, source, parameter_count=count, seconds=seconds, warnings=warnings)


@dataclass(frozen=True, eq=False)
class TrainedScout:
    """The scout of a step: the recipe cut before the step, see `strategy.Scout`.

    Attributes:
        asking: the recipe that holds the step.
        step: the step that queries it.
    """

    asking: RecipeTrainings
    step: Step

    @cached_property
    def recipe(self) -> RecipeTrainings:
        """The recipe as it is before the step, with the scout's epochs."""
        bound = self.asking.bound
        settings = self.asking.settings
        epochs = settings.scout.epochs or settings.epochs
        recipe = bound.recipe.model_copy(update={"training": settings.model_copy(update={"epochs": epochs})})
        steps = tuple(step for step in bound.steps if step.number < self.step.number)
        return self.asking.trainings.of(replace(bound, recipe=recipe, steps=steps))

    def probabilities(self, training_set: ImageDataset, how: PredictionKind = "out_of_fold") -> NDArray[np.float32]:
        """Return `(N, K) float32` class probabilities; NaN out of fold for rows whose source rows span folds.

        Raises:
            StrategyError: if the strategy does not declare that it uses such predictions.
        """
        self._require_declared(Effect.IN_SAMPLE_MINING if how == "in_sample" else Effect.OUT_OF_FOLD_MINING)
        if how == "in_sample":
            return self._probabilities(self._in_sample, training_set)
        fold_NP = self.recipe.folds_of(training_set)
        result = np.full((len(training_set), len(training_set.class_names)), np.nan, dtype=np.float32)
        for fold in self.asking.source_folds():
            stored = self.recipe.trained(fold=fold, scout_of=self.step)
            rows = np.flatnonzero(((fold_NP == fold.number) | (fold_NP == -1)).all(axis=1))
            if len(rows):
                result[rows] = self._probabilities(stored, training_set.take(rows))
        return result

    def embeddings(self, training_set: ImageDataset) -> NDArray[np.float32]:
        """Return the `(N, D) float32` outputs of the in-sample model's `features`.

        Raises:
            StrategyError: if the network has no such module, or the strategy does not declare that it uses embeddings;
                nothing is trained then.
        """
        self._require_declared(Effect.ASKS_FOR_EMBEDDINGS)
        if self.recipe.frozen:
            embeddings: NDArray[np.float32] = self.recipe.frozen.rows_of(training_set).batch(slice(None)).cpu().numpy()
            return embeddings
        require_features(self.recipe.bound, self.recipe.untrained)
        features = self.recipe.network(self._in_sample).get_submodule("features")
        return predict(features, training_set, self.recipe.settings)

    def _require_declared(self, effect: Effect) -> None:
        """Refuse what the plan, its costs and the warnings do not know of."""
        if effect not in self.step.strategy.effects:
            asked = {Effect.IN_SAMPLE_MINING: "in-sample predictions", Effect.ASKS_FOR_EMBEDDINGS: "embeddings"}
            raise StrategyError(
                f"asks a scout for {asked.get(effect, 'out-of-fold predictions')} and does not declare it; add "
                f"Effect.{effect.name} to `effects` of the strategy"
            )

    @cached_property
    def _in_sample(self) -> StoredTraining:
        return self.recipe.trained(scout_of=self.step)

    def _probabilities(self, stored: StoredTraining, dataset: ImageDataset) -> NDArray[np.float32]:
        return softmax(self.recipe.predict(self.recipe.network(stored), dataset)).astype(np.float32)


def name_of(scout_of: Step | None, fold: Fold | None) -> str:
    """Return what is trained, for display."""
    if scout_of is None:
        return "training"
    name = f"{scout_of.name} (step {scout_of.number})" if scout_of.occurrence else scout_of.name
    return f"scout of {name}, {fold}" if fold else f"scout of {name}"
