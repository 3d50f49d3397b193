"""What decides the outcome of a training and of a run, as digests: equal keys mean equal bits on one machine."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.resources
import inspect
import json
import platform
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from fer_augment.data.dataset import Splits
from fer_augment.hooks.pipeline import Step
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.training.torch_runtime import device_of, precision_of

_LIBRARIES = (
    "numpy", "torch", "albumentations", "albucore", "opencv-python-headless", "imbalanced-learn", "scikit-learn",
    "scipy",
)  # fmt: skip
_CORE = (
    "metrics", "randomness", "data/dataset", "data/duplicates", "hooks/scouts", "hooks/pipeline", "hooks/strategy",
    "training/checkpoints", "training/device_images", "training/optimization", "training/row_stream",
    "training/torch_runtime", "training/trainer", "training/trainings",
)  # fmt: skip
"""The modules of this package that decide the bits of a training; its version alone would not tell edits apart."""


def training_key(bound: BoundRecipe, seed: int, splits: Splits, *, part: str = "") -> str:
    """Return the digest of everything that decides a training: what is equal is trained once.

    Names, descriptions and paths are not in it, nor are steps that only act on predictions.

    Args:
        bound: the recipe; of its steps those count that act in training.
        seed: of the run.
        splits: the data.
        part: names the part of the training rows that is trained on; empty for all.
    """
    return _digest(_training_identity(bound, seed, splits, part))


def run_key(bound: BoundRecipe, seed: int, splits: Splits) -> str:
    """Return the digest of everything that decides a run: its training, and the steps that act on predictions."""
    later = [step_identity(step) for step in bound.steps if not step.acts_in_training]
    return _digest({"training": _training_identity(bound, seed, splits, ""), "prediction steps": later})


def step_identity(step: Step) -> dict[str, Any]:
    """Return what a strategy does in a run, as JSON: name, place, parameters, and the code behind it."""
    return {
        "name": step.name,
        "number": step.number,
        "parameters": step.strategy.model_dump(mode="json"),
        "provider": step.provider,
        "source": source_digest(type(step.strategy)),
    }


def source_digest(thing: object) -> str:
    """Return the SHA-256 of the file that defines a class or function.

    Where there is no file, for something typed into an interpreter, it is a digest that nothing else has and that
    nobody finds again: what cannot be told apart from other code must not be taken for it.
    """
    try:
        module_file = inspect.getsourcefile(inspect.unwrap(getattr(thing, "func", thing)))  # type: ignore[arg-type] # asks anything
        return hashlib.sha256(Path(module_file or "").read_bytes()).hexdigest()
    except (OSError, TypeError):
        return hashlib.sha256(f"{_PROCESS}{id(thing)}".encode()).hexdigest()


_PROCESS = uuid.uuid4()


def environment(settings: TrainingSettings) -> dict[str, str]:
    """Return what a result depends on besides the recipe and the data: versions, processor, threads, precision."""
    device = device_of(settings)
    able = torch.cpu.get_capabilities()
    return {
        "fer_augment": importlib.metadata.version("fer_augment"),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        "device": device,
        "processor": torch.cuda.get_device_name() if device == "cuda" else f"{able.get('cpu_name', 'unknown')}",
        "architecture": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "precision": precision_of(settings),
        "threads": str(settings.threads),
    }


def _training_identity(bound: BoundRecipe, seed: int, splits: Splits, part: str) -> dict[str, Any]:
    settings = bound.recipe.training
    steps = [step_identity(step) for step in bound.steps if step.acts_in_training]
    # Without a step nobody asks a scout, so that a plain baseline serves arms with any scout settings.
    left_out = {"device", "precision", "threads", *(() if steps else ("scout",))}
    return {
        "data": splits.fingerprint,
        "part": part,
        "model": {"name": bound.model.name, "source": source_digest(bound.model.build)},
        "loss": {"name": bound.loss.name, "source": source_digest(bound.loss.of_batch)},
        "training": settings.model_dump(mode="json", exclude=left_out),
        "steps": steps,
        "seed": seed,
        "environment": environment(settings),
        "core": _core_digest(),
    }


@functools.cache
def _core_digest() -> str:
    package = importlib.resources.files("fer_augment")
    return _digest([(package / f"{name}.py").read_text(encoding="utf-8") for name in _CORE])


def _digest(content: dict[str, Any] | Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
