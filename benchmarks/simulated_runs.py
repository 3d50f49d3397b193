"""Simulated comparisons on a fixed test split whose true difference is known, for calibrating the significance test.

A run is correct on an image if `DIFFICULTY * ease + noise` exceeds a threshold of run and class; ease and noise are
normal. So images are easy or hard, runs of one recipe disagree on some of them, and the recall varies over runs.

Legend: B replications, S runs, n images sorted by class, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

DIFFICULTY = 2.0
"""Two runs of one recipe disagree on 18 % of FER2013's test images."""
OWN_EASE = 0.27
"""The eases of two recipes have the correlation `1 - OWN_EASE**2`; their runs disagree on 20 % of the images."""
LEAST_RECALL = 0.001
_BLOCK_VALUES = 3_000_000


@dataclass(frozen=True, eq=False)
class Population:
    """Classes from which test sets and runs are drawn.

    Attributes:
        name: for display.
        counts: `(K,)`, test images of each class.
        recall: `(K,)`, true recall of the baseline.
        run_sd: `(K,)`, standard deviation of the true recall over runs.
        forgotten: a class that each run learns with probability 1/2 only; None for none.
    """

    name: str
    counts: NDArray[np.int64]
    recall: NDArray[np.float64]
    run_sd: NDArray[np.float64]
    forgotten: int | None = None

    @property
    def labels(self) -> NDArray[np.int64]:
        """`(n,)`, class of each image."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


def variance_within_images(recall: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `(K,)`: mean over images of p (1 - p), where p is the probability of a correct prediction."""
    ease = ndtri((np.arange(4000) + 0.5) / 4000)[:, None]
    p = ndtr(DIFFICULTY * ease + np.sqrt(1 + DIFFICULTY**2) * ndtri(recall))
    return np.asarray((p * (1 - p)).mean(axis=0), dtype=np.float64)


FER2013_COUNTS = np.array([491, 55, 528, 879, 594, 416, 626])
FER2013_RECALL = np.array([0.484, 0.363, 0.365, 0.860, 0.503, 0.721, 0.629])
FER2013_SD_OVER_SEEDS = np.array([0.04, 0.11, 0.04, 0.01, 0.01, 0.02, 0.05])
"""Measured; it includes the sampling variance of a finite test set."""


def fer2013() -> Population:
    """Return the population of FER2013's PrivateTest split."""
    sampling = variance_within_images(FER2013_RECALL) / FER2013_COUNTS
    run_sd = np.sqrt(np.maximum(FER2013_SD_OVER_SEEDS**2 - sampling, 0))
    return Population("FER2013: 7 classes, 55 to 879 images", FER2013_COUNTS, FER2013_RECALL, run_sd)


def with_counts(name: str, counts: NDArray[np.int64], recall: float = 0.6, run_sd: float = 0.04) -> Population:
    """Return a population whose classes differ in their number of test images only."""
    same = np.ones(len(counts))
    return Population(name, counts, recall * same, run_sd * same)


def mean_recall(population: Population, planted: float = 0.0) -> NDArray[np.float64]:
    """Return `(K,)`: the mean over runs of the true recall, which is cut off at 0 and 1."""
    normal = ndtri((np.arange(4000) + 0.5) / 4000)[:, None]
    of_run = np.clip(population.recall + planted + population.run_sd * normal, LEAST_RECALL, 1 - LEAST_RECALL)
    return np.asarray(of_run.mean(axis=0), dtype=np.float64)


def simulate_arm(
    rng: np.random.Generator,
    population: Population,
    ease: NDArray[np.float32],
    runs: int,
    planted: float | NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return `(B, runs, n) bool`: new runs of one recipe on B test sets whose images have `(B, n)` ease."""
    own = rng.standard_normal(ease.shape, dtype=np.float32)
    latent = rng.standard_normal((len(ease), runs, ease.shape[1]), dtype=np.float32)
    latent += (
        np.float32(DIFFICULTY) * (np.float32(np.sqrt(1 - OWN_EASE**2)) * ease + np.float32(OWN_EASE) * own)[:, None]
    )
    varied = population.run_sd * rng.standard_normal((len(ease), runs, len(population.counts)))
    of_run = np.clip(population.recall + planted + varied, LEAST_RECALL, 1 - LEAST_RECALL)
    if population.forgotten is not None:
        of_run[..., population.forgotten][rng.random((len(ease), runs)) < 0.5] = LEAST_RECALL
    threshold = -np.sqrt(1 + DIFFICULTY**2) * ndtri(of_run)
    return latent > np.repeat(threshold.astype(np.float32), population.counts, axis=-1)


def simulated(
    rng: np.random.Generator,
    population: Population,
    replications: int,
    runs: tuple[int, int],
    planted: float | NDArray[np.float64] = 0.0,
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield blocks of comparisons with new runs and new images; the true recalls of the arm are higher by `planted`."""
    images = int(population.counts.sum())
    block = max(1, _BLOCK_VALUES // (images * max(runs)))
    for start in range(0, replications, block):
        ease = rng.standard_normal((min(block, replications - start), images), dtype=np.float32)
        yield (
            simulate_arm(rng, population, ease, runs[0], 0.0),
            simulate_arm(rng, population, ease, runs[1], planted),
        )
