"""One run: train or reuse a training, predict the held-out splits once, and write the record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset, Splits
from fer_augment.data.duplicates import group_ids
from fer_augment.data.pixels import PixelSettings
from fer_augment.data.records import Predictions, RunDirectory, RunIdentity, RunRecord, StepRecord, save_run
from fer_augment.hooks.networks import Model
from fer_augment.hooks.pipeline import Pipeline
from fer_augment.hooks.strategy_files import sources_as_executed
from fer_augment.progress import Advance, Evaluated, Report
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.recipe.recipe import TrainingSettings, recipe_yaml
from fer_augment.recipe.warnings import recipe_warnings
from fer_augment.training.keys import environment, source_digest
from fer_augment.training.prediction import break_ties, mean_loss
from fer_augment.training.store import StoredTraining, TrainingStore
from fer_augment.training.torch_runtime import reproducible
from fer_augment.training.trainings import RecipeTrainings, Trainings

HeldOut: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]


def perform(
    bound: BoundRecipe,
    identity: RunIdentity,
    splits: Splits,
    source: ImageDataset,
    store: TrainingStore,
    path: Path,
    report: Report,
    held_out: HeldOut | None = None,
    fold_pixels: PixelSettings | None = None,
) -> RunDirectory:
    """Do a run and write its directory.

    Args:
        bound: the recipe.
        identity: of the run.
        splits: the data, after the recipe's `data` settings.
        source: the training split before these settings; held-out rows with an exact duplicate in it are marked.
        store: where the training is kept.
        path: the run's directory; written atomically.
        report: receives progress events.
        held_out: of the test split, if it is a fold: positions in the whole data set, and which rows stay together.
        fold_pixels: size and color of the images by which the data were divided, if the test split is a fold.

    Raises:
        RunError: if the training fails.
        StrategyError: if a strategy fails.
    """
    recipe = Trainings(splits, identity.seed, store, report).of(bound)
    trained = recipe.trained(evaluated=lambda evaluation: report(Evaluated(evaluation)))
    report(Advance("predicting", 0, 2))
    pipeline = recipe.pipeline.fresh()
    predictions = _predictions(recipe, pipeline, trained, source)
    if held_out:
        predictions["test"] = replace(predictions["test"], rows=held_out[0], together=held_out[1])
    report(Advance("predicting", 2, 2))
    record = _record(recipe, identity, trained, predictions["test"], pipeline.chosen, fold_pixels)
    shared = [recipe.frozen.backbone_file()] if recipe.frozen else []
    return save_run(path, record, recipe_yaml(bound.recipe), predictions, trained.files, shared, _local_sources(bound))


def _local_sources(bound: BoundRecipe) -> dict[str, bytes]:
    """Return the files of local strategies, networks and losses with the modules beside them that they import.

    The key of each is its place in `sources`, see `run_models.recipe_of`.
    """
    code: dict[str, type | Callable[..., object]] = {f"step-{step.number}": type(step.strategy) for step in bound.steps}
    code["model"] = bound.model.build if isinstance(bound.model, Model) else type(bound.model)
    code["loss"] = bound.loss.of_batch
    files = {place: sources_as_executed(thing) for place, thing in code.items()}
    return {f"{place}/{path}": content for place, own in files.items() for path, content in own.items()}


def _predictions(
    recipe: RecipeTrainings, pipeline: Pipeline, trained: StoredTraining, source: ImageDataset
) -> dict[str, Predictions]:
    """Predict both held-out splits, with views and adjustment: the only time that the test split is used."""
    splits = recipe.trainings.splits
    network = recipe.network(trained)
    held_out = {"validation": splits.validation, "test": splits.test}
    raw = {name: recipe.predict(network, part, pipeline) for name, part in held_out.items()}
    adjust = fitted_adjustment(
        pipeline, raw["validation"], splits.validation.labels, trained.facts.class_prior, recipe.settings
    )
    is_adjusted = pipeline.acts_at("build_adjustment")
    return {
        name: Predictions(
            labels=part.labels,
            logits=break_ties(adjust(raw[name]), part, recipe.trainings.seed),
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
    """Fit the strategies' adjustment of logits on the validation split.

    Args:
        pipeline: the strategies.
        validation_logits: `(V, K) float32`, before any adjustment.
        validation_labels: `(V,)`.
        class_prior: K class frequencies as drawn in the last epoch, summing to 1.
        settings: device and threads.

    Returns:
        A function from `(N, K) float32` logits to adjusted logits of the same shape.
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
    recipe: RecipeTrainings,
    identity: RunIdentity,
    trained: StoredTraining,
    test: Predictions,
    chosen: Mapping[int, Mapping[str, float]],
    fold_pixels: PixelSettings | None,
) -> RunRecord:
    bound, splits, facts = recipe.bound, recipe.trainings.splits, trained.facts
    made = Counter(trained.provenance["step"].tolist())
    steps = [
        StepRecord(
            name=step.name,
            parameters=step.strategy.model_dump(mode="json", by_alias=True),
            provider=step.provider,
            source=source_digest(type(step.strategy)),
            watched_pairs=tuple((str(true), str(predicted)) for true, predicted in step.strategy.watched_pairs),
            rows=made[step.number],
            chosen=dict(chosen.get(step.number, {})),
        )
        for step in bound.steps
    ]
    return RunRecord(
        identity=identity,
        training_key=trained.path.name,
        recipe=bound.recipe.model_dump(mode="json"),
        model_parameters={} if isinstance(bound.model, Model) else bound.model.model_dump(mode="json", by_alias=True),
        steps=tuple(steps),
        class_names=splits.class_names,
        image_shape=splits.train.image_shape,
        data_fingerprint=splits.fingerprint,
        train_counts=tuple(splits.train.counts.tolist()),
        rewritten_counts=facts.rewritten_counts,
        class_prior=facts.class_prior,
        kept_epoch=facts.kept_epoch,
        optimizer_steps=facts.optimizer_steps,
        parameter_count=facts.parameter_count,
        curve=facts.curve,
        test_loss=mean_loss(bound.loss, test.logits, test.labels),
        environment=environment(bound),
        warnings=(*recipe_warnings(bound), *facts.warnings),
        training_seconds=None if trained.was_reused else facts.seconds,
        pixels=splits.pixels,
        fold_pixels=fold_pixels,
    )
