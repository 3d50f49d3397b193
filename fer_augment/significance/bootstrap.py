"""Two-way bootstrap of runs and images, for information only: verdicts do not use it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fer_augment.significance.endpoints import (
    ROUNDING,
    CorrectArray,
    FloatArray,
    Images,
    IntArray,
    require_correct,
    require_groups,
    require_labels,
    require_weights,
    without_rounding,
)

_BLOCK_BYTES = 64e6  # of the image counts of a block of resamples


def shares_above(
    baseline: CorrectArray,
    arms: Sequence[CorrectArray],
    labels: IntArray,
    class_weights: FloatArray,
    groups: IntArray | None = None,
    *,
    rng: np.random.Generator,
    draws: int = 10_000,
) -> list[float | None]:
    """Return for each arm the share of two-way bootstrap resamples in which its endpoint is above the baseline's.

    Images are resampled within each class, the same ones for all arms, and runs within each arm (Owen 2007, Ann. Appl.
    Statist. 1, p. 386). The bootstrap makes no distributional assumption but needs many runs: resampling S runs shrinks
    their variance by (S - 1) / S and ignores the uncertainty of a variance estimated from few runs. In simulations its
    95 % interval misses the true value in about 14–21 % of cases with 2 runs per arm, 9–13 % with 3, 6–9 % with 5 and
    4–6 % with 10. Verdicts therefore use `endpoint_differences`, which keeps its level with 2 runs.

    Args:
        baseline: `(S_A, N)` bool, or floats in `[0, 1]`, of the baseline.
        arms: `(S_B, N)` likewise for each of the other arms.
        labels: `(N,) int64` in `0 … K - 1`.
        class_weights: `(K,)` finite, not all 0, and 0 for classes without images.
        groups: `(N,) int64` duplicate groups; see `endpoint_differences`.
        rng: random generator of the resamples.
        draws: number of resamples, at least 1.

    Returns:
        The shares in `[0, 1]`, with ties counted half; loosely "P(arm > baseline)", but not a posterior probability.
        None with fewer than two runs of the baseline or the arm.

    Raises:
        ValueError: if shapes do not match, a value is out of range, or a class with nonzero weight has no images.
    """
    require_weights(class_weights)
    require_labels(labels, len(class_weights))
    require_groups(groups, labels)
    for name, correct in [("baseline", baseline), *(("arm", arm) for arm in arms)]:
        require_correct(name, correct, len(labels))
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}")
    images = Images.of(labels, len(class_weights), groups)
    absent = np.flatnonzero((class_weights != 0) & (images.of_class == 0))
    if len(absent):
        raise ValueError(f"class {absent[0]} has a nonzero weight but no images")
    tested = [number for number, arm in enumerate(arms) if min(len(baseline), len(arm)) > 1]
    if not tested:
        return [None] * len(arms)
    weight_of_image = np.repeat(class_weights / np.maximum(images.of_class, 1), images.of_class)
    of_runs = [images.merge(correct) * weight_of_image for correct in (baseline, *(arms[number] for number in tested))]
    above = _shares(of_runs, images.of_class, ROUNDING * float(np.abs(class_weights).sum()), rng, draws)
    shares = dict(zip(tested, above, strict=True))
    return [shares.get(number) for number in range(len(arms))]


def _shares(
    of_runs: Sequence[FloatArray], of_class: IntArray, rounding: float, rng: np.random.Generator, draws: int
) -> list[float]:
    """Compare the first of several `(S, n)` weighted arms with each of the others, over resamples."""
    weighted = np.concatenate(of_runs).T.copy()
    ends = np.cumsum([len(arm) for arm in of_runs])
    signs = np.zeros(len(of_runs) - 1)
    size = max(1, min(256, int(_BLOCK_BYTES / 8 / len(weighted))))
    for start in range(0, draws, size):
        block = min(size, draws - start)
        endpoints = np.split(_resampled_counts(of_class, block, rng) @ weighted, ends[:-1], axis=1)
        first, *others = (_over_resampled_runs(values, rng) for values in endpoints)
        signs += [np.sign(without_rounding(other - first, rounding)).sum() for other in others]
    return [float(share) for share in (signs / draws + 1) / 2]


def _resampled_counts(of_class: IntArray, draws: int, rng: np.random.Generator) -> FloatArray:
    """Return `(draws, n)`: how often each image is drawn when images are resampled within each class."""
    counts = np.empty((draws, int(of_class.sum())))
    for end, size in zip(np.cumsum(of_class), of_class, strict=True):
        cells: NDArray[np.int64] = rng.integers(0, max(size, 1), (draws, size))
        cells += size * np.arange(draws)[:, None]
        counts[:, end - size : end] = np.bincount(cells.ravel(), minlength=draws * size).reshape(draws, size)
    return counts


def _over_resampled_runs(endpoints: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Average `(draws, S)` endpoints over resampled runs: `(draws,)`."""
    runs = endpoints.shape[1]
    shares = rng.multinomial(runs, np.full(runs, 1 / runs), size=len(endpoints)) / runs
    means: FloatArray = np.einsum("ds,ds->d", endpoints, shares)
    return means
