"""Reproducible random numbers: every consumer has its own stream, named by what it is for.

No global generator is ever used. A stream is derived from the seed of the run and a few words, so that adding a
consumer changes nobody else's numbers; a row's numbers are derived from the row, so that neither the order of rows
nor the number of workers changes them.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def stream_key(seed: int, *words: str | int) -> int:
    """Return a 64-bit key for the stream that belongs to `seed` and `words`."""
    text = "\x1f".join([str(seed), *map(str, words)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def stream_rng(seed: int, *words: str | int) -> np.random.Generator:
    """Return a fresh numpy generator for the stream that belongs to `seed` and `words`."""
    return np.random.default_rng(stream_key(seed, *words))


_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def mix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit integers one by one: the finaliser of SplitMix64 (Steele, Lea and Flood 2014, OOPSLA)."""
    mixed = values + _GAMMA
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def nth_seeds(keys: NDArray[np.uint64], numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return for each key the number-th (0, 1, …) output of the SplitMix64 generator that starts at it."""
    return mix64(keys + numbers.astype(np.uint64) * _GAMMA)


def uniforms(seeds: NDArray[np.uint64], count: int) -> NDArray[np.float64]:
    """Return `(n, count) float64` independent numbers in [0, 1), `count` of them from each seed, `(n,) uint64`."""
    outputs = nth_seeds(seeds[:, None], np.arange(count))
    return (outputs >> np.uint64(11)).astype(np.float64) * 2.0**-53
