"""Simulated comparisons by cross-validation whose true difference is known, with real learners on real folds.

Data sets are drawn from normal classes. A recipe is a linear discriminant of some of the features; a training also
picks a part of these by its seed and sees a bootstrap sample of the rows, so that trainings differ as networks do. Two
recipes with as many features of equal value have the same expected scores: their true difference is 0.

Legend: n images, K classes, F features, S repeats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.duplicates import stratified_folds
from fer_augment.significance import balanced_accuracy_weights
from fer_augment.significance.cross_validation import FoldLayout, estimated
from fer_augment.significance.fixed_split import ArmStatistics
from fer_augment.significance.fixed_split import estimated as estimated_of_seeds
from fer_augment.significance.intervals import half_width

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SHARED, OWN, EXTRA = 6, 6, 6
"""Features that both recipes use, that only one of them uses, and that a better recipe uses besides."""
SPREAD = 0.45
"""Standard deviation of the class means in each feature; the noise has 1."""
TAIL = 0.025
DROPPED = 0.3
"""Probability that a training does not use a feature."""


@dataclass(frozen=True)
class FoldPopulation:
    """Classes from which data sets are drawn.

    Attributes:
        name: for display.
        shares: share of each class; a data set has these shares exactly.
        images: n, images of a data set.
        are_alike: whether the recipes use the same features, and so make similar errors.
        better: number of further features of the arm; 0 if there is no true difference.
    """

    name: str
    shares: tuple[float, ...]
    images: int
    are_alike: bool = False
    better: int = 0

    @property
    def labels(self) -> IntArray:
        """`(n,)`, class of each image."""
        counts = np.maximum(np.round(np.array(self.shares) * self.images), 3).astype(np.int64)
        return np.repeat(np.arange(len(counts)), counts)


def features_of(population: FoldPopulation) -> tuple[IntArray, IntArray]:
    """Return the features of the baseline and of the arm."""
    shared = np.arange(SHARED)
    first, second = (np.arange(start, start + OWN) for start in (SHARED, SHARED + OWN))
    further = np.arange(SHARED + 2 * OWN, SHARED + 2 * OWN + population.better)
    baseline = np.concatenate([shared, first])
    return baseline, np.concatenate([shared, first if population.are_alike else second, further])


def predicted(
    rng: np.random.Generator, images: FloatArray, labels: IntArray, train: IntArray, test: IntArray, features: IntArray
) -> IntArray:
    """Train once and predict: a linear discriminant with a pooled diagonal covariance and equal class priors."""
    used = features[rng.random(len(features)) >= DROPPED]
    used = used if len(used) else features[:1]
    sample = rng.choice(train, len(train))
    x, y = images[np.ix_(sample, used)], labels[sample]
    classes = int(labels.max()) + 1
    counts = np.bincount(y, minlength=classes)
    sums = np.zeros((classes, len(used)))
    np.add.at(sums, y, x)
    means = (sums + x.mean(axis=0)) / (counts + 1)[:, None]
    variance = ((x - means[y]) ** 2).mean(axis=0) + 1e-3
    z = images[np.ix_(test, used)]
    scores = z @ (means / variance).T - 0.5 * (means**2 / variance).sum(axis=1)
    return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def data_set(rng: np.random.Generator, population: FoldPopulation) -> tuple[FloatArray, IntArray]:
    """Draw `(n, F)` images and their `(n,)` labels; the class means are the same for all data sets."""
    labels = population.labels
    centers = SPREAD * np.random.default_rng(2013).standard_normal((int(labels.max()) + 1, SHARED + 2 * OWN + EXTRA))
    centers[:, SHARED + OWN : SHARED + 2 * OWN] = centers[:, SHARED : SHARED + OWN]  # of equal value, with other noise
    return centers[labels] + rng.standard_normal((len(labels), centers.shape[1])), labels


def weights_of(labels: IntArray) -> FloatArray:
    """Return `(K + 1, K)`: the recall of each class, and balanced accuracy."""
    classes = int(labels.max()) + 1
    return np.vstack([np.eye(classes), balanced_accuracy_weights(labels, classes)])


def predictions_of_folds(
    rng: np.random.Generator, population: FoldPopulation, folds: int, repeats: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Simulate a cross-validation; return `(2, S, n)` predicted classes of the arms, `(n,)` labels, `(S, n)` folds."""
    images, labels = data_set(rng, population)
    of_repeat = np.stack([stratified_folds(labels, np.arange(len(labels)), folds, rng) for _ in range(repeats)])
    of_arms = np.zeros((2, repeats, len(labels)), dtype=np.int64)
    for repeat, fold in enumerate(of_repeat):
        for number in range(folds):
            test, train = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
            for arm, features in enumerate(features_of(population)):
                of_arms[arm, repeat, test] = predicted(rng, images, labels, train, test, features)
    return of_arms, labels, of_repeat


def comparison_of_folds(
    rng: np.random.Generator, population: FoldPopulation, folds: int, repeats: int
) -> tuple[FloatArray, FloatArray]:
    """Simulate a cross-validation; return delta and half-width of each recall and balanced accuracy, `(K + 1,)`."""
    of_arms, labels, of_repeat = predictions_of_folds(rng, population, folds, repeats)
    correct = (of_arms == labels).astype(np.float64)
    layout = FoldLayout.of(labels, of_repeat, int(labels.max()) + 1, None, None)
    difference = layout.images.merge(correct[1]) - layout.images.merge(correct[0])
    estimate = estimated(difference, layout, weights_of(labels))
    return estimate.delta, half_width(estimate, TAIL)


def comparison_of_seeds(
    rng: np.random.Generator, population: FoldPopulation, parts: int, seeds: int
) -> tuple[FloatArray, FloatArray]:
    """Simulate a comparison with several seeds on one held-out part of several, as `comparison_of_folds`."""
    images, labels = data_set(rng, population)
    is_test = stratified_folds(labels, np.arange(len(labels)), parts, rng) == 0
    test, train = np.flatnonzero(is_test), np.flatnonzero(~is_test)
    of_class = np.bincount(labels[test], minlength=int(labels.max()) + 1)
    a, b = (
        ArmStatistics.of(
            np.stack(
                [predicted(rng, images, labels, train, test, features) == labels[test] for _ in range(seeds)]
            ).astype(np.float64),
            of_class,
        )
        for features in features_of(population)
    )
    estimate = estimated_of_seeds(a, b, weights_of(labels))
    return estimate.delta, half_width(estimate, TAIL)


Simulation: TypeAlias = Callable[[np.random.Generator, FoldPopulation], tuple[FloatArray, FloatArray]]


def many(
    simulate: Simulation, population: FoldPopulation, replications: int, seed: int = 1
) -> tuple[FloatArray, FloatArray]:
    """Return deltas and half-widths of many comparisons, `(replications, K + 1)` each."""
    rng = np.random.default_rng(seed)
    deltas, halves = (
        np.stack(part) for part in zip(*(simulate(rng, population) for _ in range(replications)), strict=True)
    )
    return deltas, halves
