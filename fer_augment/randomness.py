"""Reproducible random numbers from independent named streams.

Global generators are never used. A stream is derived from the seed of the run and a few words, so that adding a
consumer does not change the numbers of the others. The numbers of a row are derived from the row itself, so that they
do not depend on the order of rows or the number of workers.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def stream_key(seed: int, *words: str | int) -> int:
    """Return the 64-bit key of the stream named by `seed` and `words`."""
    text = "\x1f".join([str(seed), *map(str, words)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def stream_rng(seed: int, *words: str | int) -> np.random.Generator:
    """Return a new numpy generator for the stream named by `seed` and `words`."""
    return np.random.default_rng(stream_key(seed, *words))


_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def mix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash 64-bit integers elementwise with the finalizer of SplitMix64 (Steele, Lea and Flood 2014, OOPSLA)."""
    mixed = values + _GAMMA
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def nth_seeds(keys: NDArray[np.uint64], numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return for each key the output with the given number (0, 1, …) of the SplitMix64 generator seeded with it."""
    return mix64(keys + numbers.astype(np.uint64) * _GAMMA)


def uniforms(seeds: NDArray[np.uint64], count: int) -> NDArray[np.float64]:
    """Return `(n, count) float64` independent uniform numbers in [0, 1), `count` for each seed, `(n,) uint64`."""
    outputs = nth_seeds(seeds[:, None], np.arange(count))
    return (outputs >> np.uint64(11)).astype(np.float64) * 2.0**-53
