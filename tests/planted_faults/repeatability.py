"""Strategies whose results are not reproducible, or that have side effects."""

from __future__ import annotations

import random
import warnings
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import PrivateAttr

from fer_augment import Effect, Strategy, StrategyWarning, hookimpl
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


class ChangesTargetsInTheLoss(Strategy):
    """Smooth targets in place whenever the loss is called."""

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        return lambda logits, targets: loss(logits, targets.mul_(0.9).add_(0.1 / targets.shape[1]))


class ChangesLogitsInTheAdjustment(Strategy):
    """Subtract a bias from logits in place."""

    @property
    def effects(self) -> Effect:
        return Effect.CORRECTS_CLASS_PRIOR

    @hookimpl
    def build_adjustment(self, adjust: Any, class_prior: Any) -> Any:
        bias = torch.tensor(np.log(np.where(class_prior > 0, class_prior, 1)), dtype=torch.float32)
        return lambda logits: adjust(logits).sub_(bias)


class KeepsTheFirstCounts(Strategy):
    """Keep the class counts of the first run on the instance."""

    _counts: Any = PrivateAttr(default=None)

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any) -> Any:
        if self._counts is None:
            self._counts = training_set.counts
        return weights / self._counts[training_set.labels]


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
        return 2 * weights


class TellsUsers(Strategy):
    """Tell users about their data."""

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        warnings.warn("few rows", StrategyWarning, stacklevel=1)
        return weights


FAULTS: list[PlantedFault] = [
    (UsesUnseededNumbers, "same_seed_gives_the_same_bytes", "context.rng"),
    (UsesPythonRandom, "leaves_global_random_numbers_alone", "Python's global random"),
    (UsesNumpyRandom, "leaves_global_random_numbers_alone", "numpy's global random"),
    (UsesTorchRandom, "leaves_global_random_numbers_alone", "torch's global generator"),
    (ChangesAnArrayInPlace, "leaves_its_inputs_alone", "sampling_weights"),
    (ChangesATensorInPlace, "leaves_its_inputs_alone", "augment_batch"),
    (ChangesAListInPlace, "leaves_its_inputs_alone", "predict_views"),
    (ChangesTargetsInTheLoss, "leaves_its_inputs_alone", "build_loss: what it returns changes its arguments"),
    (ChangesLogitsInTheAdjustment, "leaves_its_inputs_alone", "build_adjustment: what it returns changes"),
    (KeepsTheFirstCounts, "keeps_no_state_between_runs", "second run"),
    (CountsItsRuns, "keeps_no_state_between_runs", "second run"),
    (Warns, "emits_no_warnings", "look out"),
]
VALID: list[tuple[type[Strategy], str]] = [(TellsUsers, "emits_no_warnings")]
