"""Holm's correction, verdicts, and summaries of scores over seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fer_augment.significance import Difference, Verdict, holm, mean_interval, verdict


def test_holm_calculated_by_hand():
    assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_ignores_missing_p_values():
    assert holm([None, 0.02, None, 0.03]) == [None, 0.04, None, 0.04]


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_holm_refuses_invalid_p_values(p):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm([0.5, p])


def test_verdicts():
    difference = Difference(0.05, (0.02, 0.08), 0.002, 0.04, runs_a=5, runs_b=5, images=100)

    assert verdict(difference, 0.01) == "better"
    assert verdict(replace(difference, delta=-0.05), 0.01) == "worse"
    assert verdict(difference, 0.05) == "no evidence of a difference"
    assert verdict(difference, 0.01, level=0.001) == "no evidence of a difference"
    assert verdict(replace(difference, delta=None, ci95=None, p=None, detectable=None), None) == "not testable"
    assert verdict(replace(difference, runs_a=1), None) == "not tested (one run)"
    assert not any("equal" in word for word in Verdict)


def test_inconsistent_differences_are_refused():
    with pytest.raises(ValueError, match="must be None where delta is None"):
        Difference(None, None, 0.5, None, runs_a=2, runs_b=2, images=0)
    with pytest.raises(ValueError, match="p must be in"):
        Difference(0.1, None, 1.5, None, runs_a=2, runs_b=2, images=9)


def test_mean_interval_has_mean_sd_n_and_interval():
    summary = mean_interval([0.5, 0.6, 0.7])

    assert summary.n == 3
    assert summary.mean == pytest.approx(0.6)
    assert summary.sd == pytest.approx(0.1)
    assert summary.ci95 == pytest.approx((0.6 - 4.302653 * 0.1 / 3**0.5, 0.6 + 4.302653 * 0.1 / 3**0.5))


def test_mean_interval_of_one_score_and_of_none():
    single, empty = mean_interval([0.5]), mean_interval([np.nan, np.nan])

    assert (single.mean, single.sd, single.n, single.ci95) == (0.5, None, 1, None)
    assert (empty.mean, empty.sd, empty.n, empty.ci95) == (None, None, 0, None)
    assert mean_interval([0.5, np.nan]) == single
    with pytest.raises(ValueError, match="infinite"):
        mean_interval([0.5, np.inf])
