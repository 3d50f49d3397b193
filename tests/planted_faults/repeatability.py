"""Strategies whose results are not reproducible, or that have side effects."""

from __future__ import annotations

import random
import warnings
from typing import Any, ClassVar

import numpy as np
import torch

from fer_augment import Effect, Strategy, hookimpl
from tests.planted_faults.fault import PlantedFault


class UsesUnseededNumbers(Strategy):
    """Draw from a generator without a seed."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights + np.random.default_rng().random(len(weights)) / 100


class UsesGlobalNumbers(Strategy):
    """Draw from a global generator."""

    draw: ClassVar[Any]

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights + type(self).draw()


class UsesPythonRandom(UsesGlobalNumbers):
    """Draw from Python's generator."""

    draw = random.random


class UsesNumpyRandom(UsesGlobalNumbers):
    """Draw from numpy's generator."""

    draw = np.random.rand


class UsesTorchRandom(UsesGlobalNumbers):
    """Draw from torch's generator."""

    @staticmethod
    def draw() -> float:
        return torch.rand(()).item()


class ChangesAnArrayInPlace(Strategy):
    """Halve the given weights in place."""

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        weights *= 0.5
        return weights


class ChangesATensorInPlace(Strategy):
    """Clear the given images in place."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return images.zero_(), targets


class ChangesAListInPlace(Strategy):
    """Append to the given list of views."""

    @hookimpl
    def predict_views(self, views: Any) -> Any:
        views.append(views[0].flip(3))
        return views


class CountsItsRuns(Strategy):
    """Return other weights in each run."""

    runs: ClassVar[list[int]] = []

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        self.runs.append(1)
        return weights * len(self.runs)


class Warns(Strategy):
    """Emit a warning."""

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        warnings.warn("look out", stacklevel=1)
        return weights


FAULTS: list[PlantedFault] = [
    (UsesUnseededNumbers, "same_seed_gives_the_same_bytes", "context.rng"),
    (UsesPythonRandom, "leaves_global_random_numbers_alone", "Python's global random"),
    (UsesNumpyRandom, "leaves_global_random_numbers_alone", "numpy's global random"),
    (UsesTorchRandom, "leaves_global_random_numbers_alone", "torch's global generator"),
    (ChangesAnArrayInPlace, "leaves_its_inputs_alone", "sampling_weights"),
    (ChangesATensorInPlace, "leaves_its_inputs_alone", "augment_batch"),
    (ChangesAListInPlace, "leaves_its_inputs_alone", "predict_views"),
    (CountsItsRuns, "keeps_no_state_between_runs", "second run"),
    (Warns, "emits_no_warnings", "look out"),
]
