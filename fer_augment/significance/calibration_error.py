"""Interval of the expected calibration error (ECE), over new seeds *and* new test images.

The ECE of a run is the sum over bins of confidence of |gap|, where the gap of a bin is the sum of confidence -
correctness over its images, divided by the number of all images. Noise does not cancel in an absolute value, so the
ECE of a finite test set is too large: a network that is perfectly calibrated has an ECE above 0. The interval is that
of the calibration error itself, as it would be with infinitely many images in the same bins. See docs/statistics.md.

Legend: S runs, N rows, G images (rows of one duplicate group are one image), B bins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from fer_augment.significance.differences import LEVEL
from fer_augment.significance.endpoints import FloatArray, IntArray, require_groups
from fer_augment.significance.intervals import Estimate, half_width

_BISECTIONS = 50


def calibration_error_interval(
    confidence: FloatArray, correct: NDArray[np.bool_], bins: IntArray, groups: IntArray | None = None
) -> tuple[float, float] | None:
    """Return the 95 % interval of the calibration error of a recipe, over new runs and new images.

    With g_sb the gap of bin b in run s, E_s the sum of |g_sb| over bins, E its mean over runs, and
    h_si = sign(g_sb) (confidence - correct) of image i in bin b, whose mean over images is E_s:

        V      = var(E_s) / S                                                           (runs)
        V_res  = residual sum of squares of h_si / ((N - 1)(S - 1)) / (N S)             (run noise, already in V)
        V_i    = max(0, var(mean over s of h_si) / N - V_res)                           (images)
        half   = sqrt(max(t(S - 1)^2 V, z^2 V_res) + t(N - 1)^2 V_i)
        u_sb^2 = sum over images of bin b of (confidence - correct)^2 / N^2             (noise of g_sb)
        B(c)   = mean over s of sum over b of the mean of |c g_sb + u_sb z|, z standard normal
        interval = c E with B(c) = E - half, or 0 if there is no such c  …  E + half

    B(c) is the ECE that is expected on N images if the gaps are c times those observed. At the upper end the excess of
    E only makes the interval wider, so that it contains E.

    Args:
        confidence: `(S, N)` in `[0, 1]`, probability of the predicted class.
        correct: `(S, N)` bool.
        bins: `(S, N)` from 0, the bin of each confidence.
        groups: `(N,)` duplicate groups, whose rows are one image; None if there are none.

    Returns:
        The ends in `[0, 1]`; None with fewer than two runs or images.

    Raises:
        ValueError: if shapes do not match.
    """
    if confidence.ndim != 2 or not confidence.shape == correct.shape == bins.shape:
        raise ValueError(f"expected three (S, N) arrays, not {confidence.shape}, {correct.shape} and {bins.shape}")
    runs, rows = confidence.shape
    image = np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    require_groups(image, confidence[0])
    images, count = int(image.max(initial=-1)) + 1, int(bins.max(initial=-1)) + 1
    if runs < 2 or images < 2:
        return None
    gap, noise, of_images = (
        np.stack(parts)
        for parts in zip(
            *(
                _parts(difference / rows, image * count + of_run, (images, count))
                for difference, of_run in zip(confidence - correct, bins, strict=True)
            ),
            strict=True,
        )
    )
    errors = np.abs(gap).sum(axis=1)
    mean, half = float(errors.mean()), _half_width(errors, of_images)
    return _least(mean, half, np.abs(gap), noise) * mean, min(mean + half, 1.0)


def _parts(
    difference: FloatArray, cells: IntArray, shape: tuple[int, int]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return gap and noise of each bin, `(B,)` each, and the part of each image in the error of a run, `(G,)`."""
    sums = np.bincount(cells, difference, shape[0] * shape[1]).reshape(shape)
    gap = sums.sum(axis=0)
    return gap, np.sqrt((sums**2).sum(axis=0)), sums @ np.sign(gap)


def _half_width(errors: FloatArray, of_images: FloatArray) -> float:
    """Return the half-width for `(S,)` errors, the sums of `(S, G)` parts of images."""
    runs, images = of_images.shape
    mean = of_images.mean(axis=0)
    residual = of_images - mean - (errors[:, None] - errors.mean()) / images
    noise = images * (residual**2).sum() / ((images - 1) * (runs - 1)) / runs
    between = images * mean.var(ddof=1) - noise
    estimate = Estimate(
        delta=errors.mean(),
        run_variance=np.asarray(errors.var(ddof=1) / runs),
        run_df=np.asarray(runs - 1.0),
        least_run_variance=np.asarray(noise),
        image_variance=np.asarray(max(between, 0.0)),
        image_df=np.asarray(images - 1.0),
    )
    return float(half_width(estimate, LEVEL / 2))


def _least(mean: float, half: float, gap: FloatArray, noise: FloatArray) -> float:
    """Return c in [0, 1] with B(c) = mean - half, by bisection; B grows with c."""
    low, high = 0.0, 1.0
    if _expected(low * gap, noise) >= mean - half:
        return 0.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _expected(middle * gap, noise) < mean - half else (low, middle)
    return low


def _expected(gap: FloatArray, noise: FloatArray) -> float:
    """Return the mean over runs of the sum over bins of E|gap + noise z|, of `(S, B)` gaps that are not negative."""
    ratio = np.divide(gap, noise, out=np.full_like(gap, np.inf), where=noise > 0)
    density = np.exp(-(np.minimum(ratio, 40.0) ** 2) / 2) * np.sqrt(2 / np.pi)
    return float((noise * density + gap * (1 - 2 * ndtr(-ratio))).sum(axis=1).mean())
