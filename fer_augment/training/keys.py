"""Digests of everything that decides a training and a run: equal keys mean equal bytes on one machine."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import inspect
import json
import platform
import sys
import uuid
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from fer_augment.data.dataset import ImageDataset, Splits
from fer_augment.errors import StrategyError
from fer_augment.hooks.networks import AnyModel, ConfigurableModel, Model
from fer_augment.hooks.pipeline import Step
from fer_augment.hooks.strategy import Effect, Strategy
from fer_augment.hooks.strategy_files import DIGEST_OF_MODULE
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.training.code_digests import content_digest, helper_digests, path_digests, source_as_loaded
from fer_augment.training.distributions import OWN, distribution_versions, installed_version
from fer_augment.training.initial_weights import weights_digest
from fer_augment.training.machine import device_of, precision_of, processor

_BACKBONE = (
    "data/feature_cache", "hooks/networks", "training/device_images", "training/frozen_features",
    "training/initial_weights", "training/machine", "training/networks", "training/preprocessing",
    "training/torch_runtime",
)  # fmt: skip
"""The modules of this package that decide the features of an image under given weights."""
_CORE = (
    *_BACKBONE, "heads", "metrics", "randomness", "row_transforms", "data/dataset", "data/duplicates",
    "data/pixel_blocks", "hooks/history", "hooks/loss_features", "hooks/pipeline", "hooks/scouts",
    "hooks/stage_manager", "hooks/stages", "hooks/strategy",
    "training/batches", "training/checkpoints", "training/fit", "training/folds", "training/optimization",
    "training/prediction", "training/row_stream", "training/row_workers", "training/selection",
    "training/specification", "training/step_passes", "training/trainer", "training/training_files",
    "training/trainings", "training/weight_average",
)  # fmt: skip
"""The modules of this package that decide the weights; the version alone would not tell edits apart."""
_OF_A_RUN = ("runs/performing",)
"""The modules of this package that decide a run besides its training and the code of its steps."""


def training_key(bound: BoundRecipe, seed: int, splits: Splits, *, part: str = "") -> str:
    """Return the digest of everything that decides a training.

    Names, descriptions and paths of recipes and data do not affect it, nor do steps that act on predictions only.

    Args:
        bound: the recipe.
        seed: of the run.
        splits: the data.
        part: names the part of the training rows that is trained on; empty for all.
    """
    return _digest(_training_identity(bound, seed, splits, part))


def run_key(bound: BoundRecipe, seed: int, splits: Splits) -> str:
    """Return the digest of everything that decides a run: its training, and the steps that act on predictions."""
    later = [step_identity(step) for step in bound.steps if not step.acts_in_training]
    training = _training_identity(bound, seed, splits, "")
    return _digest({"training": training, "prediction steps": later, "core": _source_digest_of(_OF_A_RUN)})


def backbone_key(bound: BoundRecipe, splits: Splits) -> str:
    """Return the digest of everything that decides the features of an image under the backbone of a recipe.

    These are the network with its initial weights and its preprocessing, the size of the images, the number of
    classes, and the environment; not the data, nor the recipe's steps, which are refused where they change a backbone.
    """
    without_steps = replace(bound, steps=())
    return _digest(
        {
            "model": model_identity(bound.model),
            "image shape": splits.train.image_shape,
            "classes": len(splits.class_names),
            "environment": environment(without_steps),
            "core": _source_digest_of(_BACKBONE),
        }
    )


def step_identity(step: Step) -> dict[str, Any]:
    """Return what decides the effect of a step, as JSON: name, place, parameters, its code, and the files it reads.

    Raises:
        StrategyError: if a file that it reads cannot be read.
    """
    return {
        "name": step.name,
        "number": step.number,
        "parameters": _parameters(step.strategy),
        "provider": step.provider,
        "source": source_digest(type(step.strategy)),
        "bases": _base_digests(type(step.strategy), Strategy),
        "helpers": helper_digests(type(step.strategy).__module__),
        "files": _files_read(step),
    }


def model_identity(model: AnyModel) -> dict[str, Any]:
    """Return what decides the untrained network, as JSON: name, parameters, code, input, content of initial weights.

    Raises:
        RecipeError: if the initial weights do not exist or cannot be read.
    """
    if isinstance(model, Model):
        identity: dict[str, Any] = {"source": source_digest(model.build), "helpers": _helpers_of(model.build)}
    else:
        identity = {
            "source": source_digest(type(model)),
            "bases": _base_digests(type(model), ConfigurableModel),
            "helpers": helper_digests(type(model).__module__),
            "parameters": _parameters(model.model_copy(update={"weights": None})),
        }
    weights = weights_digest(model.weights) if model.weights else None
    return {"name": model.name, "input": repr(model.input), "weights": weights, **identity}


def _helpers_of(function: Callable[..., object]) -> dict[str, str]:
    defined = function.func if isinstance(function, functools.partial) else function
    return helper_digests(getattr(defined, "__module__", ""))


def _base_digests(plugin: type[BaseModel], contract: type[BaseModel]) -> list[str]:
    """Return the digests of the base classes below the contract, which may be of another distribution or of ours."""
    bases = plugin.__mro__[1 : plugin.__mro__.index(contract)]
    return [source_digest(base) for base in bases if issubclass(base, contract)]


def _parameters(plugin: BaseModel) -> str:
    """Return all fields as JSON: mappings keep their order, which may matter; sets have none and are sorted."""
    dumped = plugin.model_dump(mode="json")
    for name, field in type(plugin).model_fields.items():
        value = getattr(plugin, name)
        if field.exclude:
            dumped[name] = to_jsonable_python(value, fallback=repr)
        if isinstance(value, set | frozenset):
            dumped[name] = sorted(dumped[name], key=json.dumps)
    return json.dumps(dumped)


def _files_read(step: Step) -> dict[str, str]:
    """Return the digests of the files that a strategy declares and of those that its parameters name, by path."""
    try:
        return path_digests(step.strategy) | {str(file): content_digest(file) for file in step.strategy.files}
    except OSError as error:
        raise StrategyError(f"{step}: {error.filename}: cannot be read ({error.strerror})") from error


@functools.cache
def source_digest(thing: Hashable) -> str:
    """Return the SHA-256 of the file that defines a class or function, as this process runs it.

    Without a file, as for code typed into an interpreter, it is unique to the object and the process: code that cannot
    be compared is never taken for equal.
    """
    if isinstance(thing, functools.partial):
        given = (source_digest(thing.func), thing.args, thing.keywords)
        return hashlib.sha256(repr(given).encode()).hexdigest()
    loaded = getattr(sys.modules.get(getattr(thing, "__module__", "")), DIGEST_OF_MODULE, None)
    if loaded is not None:
        return str(loaded)
    try:
        defined = inspect.unwrap(thing)  # type: ignore[arg-type] # takes any object
        source = source_as_loaded(getattr(defined, "__module__", ""), Path(inspect.getsourcefile(defined) or ""))
        return hashlib.sha256(source).hexdigest()
    except (OSError, TypeError):
        return hashlib.sha256(f"{_PROCESS}{id(thing)}".encode()).hexdigest()


_PROCESS = uuid.uuid4()


def environment(bound: BoundRecipe) -> dict[str, str]:
    """Return what a result depends on besides the recipe and the data: versions, processor, threads, precision."""
    settings = bound.recipe.training
    device = device_of(settings)
    found = processor()
    return {
        "fer_augment": f"{installed_version(OWN)}",
        "python": platform.python_version(),
        **distribution_versions(bound),
        "device": device,
        "processor": _name_of_gpu() if device == "cuda" else found.name,
        "architecture": f"{platform.machine()} {found.instructions}",
        "precision": precision_of(settings),
        "threads": str(settings.threads),
    }


def _name_of_gpu() -> str:
    import torch

    return torch.cuda.get_device_name()


def _training_identity(bound: BoundRecipe, seed: int, splits: Splits, part: str) -> dict[str, Any]:
    settings = bound.recipe.training
    steps = [step_identity(step) for step in bound.steps if step.acts_in_training]
    # Without a step there is no scout, and a plain baseline serves arms with any scout settings.
    # The loss is below, without the path of its file.
    left_out = {"device", "precision", "threads", "workers", "loss", *(() if steps else ("scout",))}
    return {
        "data": splits.fingerprint,
        **_near_duplicates(bound, splits.train),
        "part": part,
        "model": model_identity(bound.model),
        "loss": {
            "name": bound.loss.name,
            "source": source_digest(bound.loss.of_batch),
            "helpers": _helpers_of(bound.loss.of_batch),
        },
        "training": settings.model_dump(mode="json", exclude=left_out),
        "steps": steps,
        "seed": seed,
        "environment": environment(bound),
        "core": _source_digest_of(_CORE),
    }


def _near_duplicates(bound: BoundRecipe, train: ImageDataset) -> dict[str, str]:
    """Return a digest of the near duplicates that folds keep together, if predictions out of fold are asked for."""
    near = train.sources.near if train.sources else None
    if near is None or not any(Effect.OUT_OF_FOLD_MINING in step.strategy.effects for step in bound.steps):
        return {}
    return {"near duplicates": hashlib.sha256(near[train.origin].tobytes()).hexdigest()}


@functools.cache
def _source_digest_of(modules: tuple[str, ...]) -> str:
    package = importlib.resources.files("fer_augment")
    return _digest([(package / f"{name}.py").read_text(encoding="utf-8") for name in modules])


def _digest(content: dict[str, Any] | Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
