"""Simulated confidences whose calibration error is known, for the coverage of the interval of the ECE.

Each image has a margin in each run, part of which is common to the runs, and is predicted correctly with the
probability `1 / (1 + exp(-margin))`, again with a part common to the runs. A run reports
`1 / (1 + exp(-margin * sharpness))`: with a sharpness of 1 it is perfectly calibrated, above it is overconfident. The
sharpness varies over runs.

Legend: S runs, N images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr, ndtri

from fer_augment.metrics import binned_by_confidence, confidence_bins
from fer_augment.significance import calibration_error_interval

FloatArray = NDArray[np.float64]

MARGIN_SD = 1.2
COMMON = 0.64
"""Share of the variance of margins that is common to the runs."""
COMMON_LUCK = 0.7
"""Correlation of the normal scores that decide in each run whether a prediction is correct."""
_TRUTH_IMAGES = 400_000


@dataclass(frozen=True)
class CalibrationPopulation:
    """Runs and images that are drawn.

    Attributes:
        sharpness: median over runs of the factor of the margins; 1 is calibrated.
        run_sd: standard deviation over runs of its logarithm.
        images: N.
        runs: S.
    """

    sharpness: float
    run_sd: float
    images: int
    runs: int


def drawn(rng: np.random.Generator, population: CalibrationPopulation) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Draw `(S, N)` confidences and whether the predictions are correct."""
    shape = population.runs, population.images
    common, luck = rng.standard_normal(population.images), rng.standard_normal(population.images)
    normal = np.sqrt(COMMON) * common + np.sqrt(1 - COMMON) * rng.standard_normal(shape)
    margin = np.abs(MARGIN_SD * normal)
    chance = ndtr(np.sqrt(COMMON_LUCK) * luck + np.sqrt(1 - COMMON_LUCK) * rng.standard_normal(shape))
    sharpness = population.sharpness * np.exp(population.run_sd * rng.standard_normal((population.runs, 1)))
    return expit(margin * sharpness), chance < expit(margin)


def true_error(population: CalibrationPopulation) -> float:
    """Return the calibration error with infinitely many images, mean over runs."""
    margin = np.abs(MARGIN_SD * np.random.default_rng(1).standard_normal(_TRUTH_IMAGES))
    quantiles = ndtri((np.arange(9) + 0.5) / 9) * population.run_sd if population.run_sd else np.zeros(1)
    errors = []
    for factor in population.sharpness * np.exp(quantiles):
        confidence = expit(margin * factor)
        gap = np.bincount(confidence_bins(confidence), confidence - expit(margin))
        errors.append(np.abs(gap).sum() / len(margin))
    return float(np.mean(errors))


@dataclass(frozen=True)
class Coverage:
    """What the interval does over many simulated comparisons.

    Attributes:
        truth: the calibration error.
        ece: mean ECE of the runs.
        low: mean lower end of the interval.
        high: mean upper end.
        above: share of intervals that are above the truth.
        below: share that are below it.
    """

    truth: float
    ece: float
    low: float
    high: float
    above: float
    below: float


def coverage(population: CalibrationPopulation, replications: int, seed: int = 1) -> Coverage:
    """Simulate, and compare the intervals with the truth."""
    rng, truth = np.random.default_rng(seed), true_error(population)
    ends, errors = [], []
    for _ in range(replications):
        confidence, correct = drawn(rng, population)
        ends.append(calibration_error_interval(confidence, correct, confidence_bins(confidence)))
        errors.append(np.mean([binned_by_confidence(*run).error for run in zip(confidence, correct, strict=True)]))
    low, high = np.array(ends).T
    above, below = float((low > truth).mean()), float((high < truth).mean())
    return Coverage(truth, float(np.mean(errors)), float(low.mean()), float(high.mean()), above, below)
