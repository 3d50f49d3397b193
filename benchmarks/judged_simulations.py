"""Simulated comparisons through `fa.judge` whose true difference is known: verdicts after Holm's correction.

On a fixed test split predictions are those of `simulated_runs`, in folds those of the learners of `simulated_folds`.

Legend: S runs or repeats, n images, K classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fer_augment as fa
from benchmarks.simulated_folds import FoldPopulation, predictions_of_folds
from benchmarks.simulated_runs import Population, simulated

BALANCED, ACCURACY = "balanced accuracy", "accuracy"
Counts = Counter[tuple[str, str]]
"""How often each endpoint had each verdict."""


@dataclass(frozen=True)
class SeedDesign:
    """Comparisons with several seeds on a fixed test split."""

    population: Population
    seeds: int

    def draw(self, rng: np.random.Generator, comparisons: int, planted: float) -> Iterator[list[dict[str, Any]]]:
        """Yield the tables of comparisons in which the recalls of the arm are higher by `planted`."""
        labels = self.population.labels
        others = (labels + 1) % len(self.population.counts)
        for block in simulated(rng, self.population, comparisons, (self.seeds, self.seeds), planted):
            for arms in zip(*block, strict=True):
                yield tables(np.where(np.stack(arms), labels, others), labels)


@dataclass(frozen=True)
class FoldsDesign:
    """Comparisons by repeated cross-validation."""

    population: FoldPopulation
    folds: int
    repeats: int

    def draw(self, rng: np.random.Generator, comparisons: int, better: float) -> Iterator[list[dict[str, Any]]]:
        """Yield the tables of comparisons in which the arm uses `better` further features."""
        population = replace(self.population, better=int(better))
        for _ in range(comparisons):
            predicted, labels, folds = predictions_of_folds(rng, population, self.folds, self.repeats)
            yield tables(predicted, labels, folds)


def tables(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], folds: NDArray[np.int64] | None = None
) -> list[dict[str, Any]]:
    """Return `(2, S, n)` predictions of arms `a` and `b` as tables for `fa.judge`."""
    rows = len(labels)
    given = []
    for arm, runs in zip("ab", predicted, strict=True):
        for seed, run in enumerate(runs):
            table = {"id": range(rows), "true": labels, "predicted": run, "arm": [arm] * rows, "seed": [seed] * rows}
            given.append(table if folds is None else table | {"fold": folds[seed]})
    return given


def verdicts(design: SeedDesign | FoldsDesign, comparisons: int, difference: float, seed: int) -> Counts:
    """Count the verdicts of simulated comparisons.

    Args:
        design: what is simulated.
        comparisons: how many.
        difference: the true difference, see `draw` of the design; 0 for none.
        seed: of the simulation.
    """
    counts: Counts = Counter()
    for given in design.draw(np.random.default_rng(seed), comparisons, difference):
        (versus,) = fa.judge(given, baseline="a", progress=False).versus
        endpoints = {BALANCED: versus.balanced_accuracy, ACCURACY: versus.accuracy, **versus.recall}
        counts.update((name, str(judgment.verdict)) for name, judgment in endpoints.items())
    return counts


def share(counts: Counts, comparisons: int, *words: str, worst_class: bool = False, endpoint: str = BALANCED) -> float:
    """Return the share of comparisons with one of some verdicts, on an endpoint or on the worst class."""
    names = {name for name, _ in counts} - {BALANCED, ACCURACY} if worst_class else {endpoint}
    return max(sum(counts[name, word] for word in words) for name in names) / comparisons
