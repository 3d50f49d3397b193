"""The trained network of a finished run, with its recipe's views and adjustment, for predictions on new images.

Legend of shapes: N images, H, W, C height, width and channels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from fer_augment.data.dataset import ImageDataset
from fer_augment.data.pixels import PixelSettings
from fer_augment.data.records import PREDICTIONS_FILE, SOURCES, RunDirectory, RunRecord, weights_files
from fer_augment.errors import RunError
from fer_augment.hooks.pipeline import Pipeline, Step
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.hooks.stages import STAGES
from fer_augment.hooks.strategy import Context
from fer_augment.recipe.binding import BoundRecipe, bind
from fer_augment.recipe.files import local_plugin
from fer_augment.recipe.recipe import Recipe, TrainingSettings
from fer_augment.runs.performing import fitted_adjustment
from fer_augment.training.keys import source_digest
from fer_augment.training.machine import device_of
from fer_augment.training.networks import with_weights
from fer_augment.training.prediction import predict
from fer_augment.training.specification import build_model
from fer_augment.training.torch_runtime import reproducible


@dataclass(frozen=True, eq=False)
class RunModel:
    """The trained model of a run, ready for predictions.

    Attributes:
        record: the run's record.
        settings: how it computes: in the precision of the run, on the device that is available.
        network: the trained network, in evaluation mode, on that device.
        pipeline: the strategies of the recipe.
        pixels: size and color of the images, as the recipe or the data source set them.
        adjust: from `(N, K) float32` logits to logits adjusted by the recipe's strategies.
    """

    record: RunRecord
    settings: TrainingSettings
    network: torch.nn.Module
    pipeline: Pipeline
    pixels: PixelSettings
    adjust: Callable[[NDArray[np.float32]], NDArray[np.float32]]

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return `(N, K) float32` logits, averaged over views and adjusted, of `(N, H, W, C)` images."""
        return self.logits_of(unlabeled(images, self.record))

    def logits_of(self, dataset: ImageDataset) -> NDArray[np.float32]:
        """Return `(N, K) float32` logits of the rows of a data set as `logits` does, gathering a few rows at a time."""
        return self.adjust(predict(self.network, dataset, self.settings, self.pipeline))


def unlabeled(images: NDArray[np.uint8], record: RunRecord) -> ImageDataset:
    """Return images as a data set with the classes of a run and placeholder labels."""
    return ImageDataset.from_arrays(images, np.zeros(len(images), dtype=np.int64), record.class_names)


_NEEDED_AT = ("prepare_model", *(name for name, stage in STAGES.items() if not stage.decides_training))
"""Stages of predictions; the network is built before its weights are loaded."""


def bound_recipe_of(directory: RunDirectory, *, for_predictions: bool = False) -> BoundRecipe:
    """Return the recipe of a run with the plugins that are installed now.

    Args:
        directory: the run.
        for_predictions: whether steps that act in training only will not be called; what they read may then be gone.

    Raises:
        RunError: if the record is damaged, or holds a recipe that this version cannot read.
        RecipeError: if something that the recipe names is not installed.
    """
    return bind(recipe_of(directory), installed_plugins(), needed_at=_NEEDED_AT if for_predictions else None)


def recipe_of(directory: RunDirectory) -> Recipe:
    """Return the recipe of a run, with the values that parameters had by default then.

    Where the file of a local strategy, network or loss is gone, as after its folder was renamed, the recipe names the
    copy in the run directory.

    Raises:
        RunError: if the record is damaged, or holds a recipe that this version cannot read.
    """
    try:
        record = directory.record
        recipe = _with_defaults_of_then(Recipe.model_validate(record.recipe), record)
        return _with_copies(recipe, directory)
    except ValidationError as error:
        place, what = error.errors()[0]["loc"], error.errors()[0]["msg"]
        raise RunError(
            f"{directory.path / 'record.json'}: holds a recipe that this version cannot read "
            f"({'.'.join(map(str, place))}: {what}); install the version that made the run"
        ) from error


def _with_defaults_of_then(recipe: Recipe, record: RunRecord) -> Recipe:
    """Return a recipe with all parameters as recorded, so that a default changed later does not change its meaning.

    Raises:
        RunError: if the steps of the record are not those of its recipe.
    """
    if len(recipe.strategies) != len(record.steps):
        raise RunError(f"the record has {len(record.steps)} steps, its recipe {len(recipe.strategies)}; run again")
    steps = tuple(
        step.model_copy(update={"parameters": {**step.parameters, **then.parameters}})
        for step, then in zip(recipe.strategies, record.steps, strict=True)
    )
    model = {**recipe.model.parameters, **record.model_parameters}
    return recipe.model_copy(
        update={"strategies": steps, "model": recipe.model.model_copy(update={"parameters": model})}
    )


def _with_copies(recipe: Recipe, directory: RunDirectory) -> Recipe:
    def is_gone(name: str) -> bool:
        local = local_plugin(name)
        return local is not None and not local[0].exists()

    def existing(name: str, place: str) -> str:
        local = local_plugin(name)
        if local is None or not is_gone(name):
            return name
        copy = directory.path / SOURCES / place / local[0].name
        return f"{copy.absolute()}:{local[1]}" if copy.is_file() else name

    steps = tuple(
        step.model_copy(update={"name": existing(step.name, f"step-{number}")})
        for number, step in enumerate(recipe.strategies, 1)
    )
    model = recipe.model.model_copy(update={"name": existing(recipe.model.name, "model")})
    training = recipe.training.model_copy(update={"loss": existing(recipe.training.loss, "loss")})
    trackers = tuple(name for name in recipe.trackers if not is_gone(name))  # a finished run is not followed
    changes = {"strategies": steps, "model": model, "training": training, "trackers": trackers}
    return recipe.model_copy(update=changes)


def changed_steps(record: RunRecord, steps: Iterable[Step]) -> Iterator[str]:
    """Yield the name and provider of each step whose code has changed since the run."""
    for step, then in zip(steps, record.steps, strict=True):
        if source_digest(type(step.strategy)) != then.source:
            yield f"{step} ({step.provider})"


def load_run_model(directory: RunDirectory) -> RunModel:
    """Build the network of a run with its trained weights.

    Raises:
        RunError: if a file of the run is missing or damaged.
        RecipeError: if something that the recipe names is not installed.
    """
    record, bound = directory.record, bound_recipe_of(directory, for_predictions=True)
    directory.refuse_changed(*(file.name for file in weights_files(directory.path)), PREDICTIONS_FILE)
    settings = settings_here(bound.recipe.training, record)
    context = Context(record.identity.seed, record.class_names, device=device_of(settings))
    pipeline = Pipeline(bound.steps, context)
    no_images = unlabeled(np.empty((0, *record.image_shape), np.uint8), record)
    with reproducible(settings, 0):
        model = build_model(bound.model, no_images, pipeline, initial_weights=False)
    network = with_weights(model, weights_files(directory.path), settings)
    validation = directory.predictions("validation")
    adjust = fitted_adjustment(pipeline, validation.unadjusted, validation.labels, record.class_prior, settings)
    pixels = record.pixels.over(bound.recipe.data.pixels)  # earlier versions recorded the recipe's only
    return RunModel(record, settings, network, pipeline, pixels, adjust)


def settings_here(settings: TrainingSettings, record: RunRecord) -> TrainingSettings:
    """Return settings that compute in the run's precision, on an accelerator only if one is available.

    Raises:
        RunError: if the record does not name the precision.
    """
    if "precision" not in record.environment:
        raise RunError("the record of the run names no precision; run again")
    device = "auto" if settings.device == "cuda" else settings.device
    return settings.model_copy(update={"device": device, "precision": record.environment["precision"]})
