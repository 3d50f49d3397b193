"""Strategies that keep their work in the cache under keys that say too little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fer_augment import Effect, Strategy, hookimpl
from tests.planted_faults.fault import PlantedFault


class ForgetsTheData(Strategy):
    """Keep the mean brightness of the images under a fixed key."""

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any, context: Any) -> Any:
        def make(folder: Path) -> None:
            np.save(folder / "mean.npy", training_set.images[:].mean())

        return weights * np.load(context.cached("mean", make) / "mean.npy")


class ForgetsTheSeed(Strategy):
    """Keep random factors under the fingerprint of the data."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any, context: Any) -> Any:
        def make(folder: Path) -> None:
            np.save(folder / "factor.npy", context.rng.random())

        return weights * np.load(context.cached(training_set.fingerprint, make) / "factor.npy")


class ForgetsTheRows(Strategy):
    """Keep the share of each class under a fixed key; the data of the kit have equal counts."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any, context: Any) -> Any:
        def make_counts(folder: Path) -> None:
            np.save(folder / "counts.npy", training_set.counts)

        def make_shares(folder: Path) -> None:
            counts = np.load(context.cached("counts", make_counts) / "counts.npy")
            np.save(folder / "shares.npy", counts / counts.sum())

        shares = np.load(context.cached("shares", make_shares) / "shares.npy")
        return weights / shares[training_set.labels]


FAULTS: list[PlantedFault] = [
    (ForgetsTheData, "caches_under_honest_keys", "training_set.fingerprint and context.seed"),
    (ForgetsTheRows, "caches_under_honest_keys", "sampling_weights: a folder of context.cached"),
    (ForgetsTheSeed, "caches_under_honest_keys", "found again for other work"),
]
