"""The interval of the expected calibration error, over new seeds and new test images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm, t

from benchmarks.simulated_calibration import CalibrationPopulation, coverage, drawn, true_error
from fer_augment.finished import Comparison
from fer_augment.metrics import binned_by_confidence, confidence_bins
from fer_augment.reports.grids import overview
from fer_augment.reports.html import report_html
from fer_augment.results.comparison import read_comparison
from fer_augment.significance import calibration_error_interval
from tests.comparison_directory import write_comparison
from tests.html_page import parse


def interval(confidence, correct, groups=None):
    return calibration_error_interval(confidence, correct, confidence_bins(confidence), groups)


def loop_interval(confidence, correct):
    """Return the interval by loops over runs, images and bins, and a search on a fine scale."""
    (runs, rows), bins = confidence.shape, confidence_bins(confidence)
    gaps = np.zeros((runs, 15))
    for run in range(runs):
        for row in range(rows):
            gaps[run, bins[run, row]] += (confidence[run, row] - correct[run, row]) / rows
    parts = np.array(
        [
            [np.sign(gaps[run, bins[run, row]]) * (confidence[run, row] - correct[run, row]) for row in range(rows)]
            for run in range(runs)
        ]
    )
    errors = parts.mean(axis=1)
    residual = parts - parts.mean(axis=0) - errors[:, None] + errors.mean()
    noise = (residual**2).sum() / ((rows - 1) * (runs - 1)) / (rows * runs)
    between = max(parts.mean(axis=0).var(ddof=1) / rows - noise, 0)
    of_runs = max(t.ppf(0.975, runs - 1) ** 2 * errors.var(ddof=1) / runs, norm.ppf(0.975) ** 2 * noise)
    half = np.sqrt(of_runs + t.ppf(0.975, rows - 1) ** 2 * between)

    def expected(factor):
        total = 0.0
        for run in range(runs):
            for number in range(15):
                here = bins[run] == number
                sd = math.sqrt(sum((confidence[run, here] - correct[run, here]) ** 2)) / rows
                mean = factor * abs(gaps[run, number])
                folded = sd * math.sqrt(2 / math.pi) * math.exp(-((mean / sd) ** 2) / 2) if sd else 0.0
                total += folded + mean * (1 - 2 * norm.cdf(-mean / sd)) if sd else mean
        return total / runs

    factors = np.linspace(0, 1, 101)
    reached = [factor for factor in factors if expected(factor) <= errors.mean() - half]
    return (max(reached, default=0.0) * errors.mean(), errors.mean() + half)


@pytest.mark.parametrize("sharpness", [1.0, 2.5])
def test_agrees_with_a_direct_implementation(sharpness):
    confidence, correct = drawn(np.random.default_rng(3), CalibrationPopulation(sharpness, 0.1, 40, 3))
    low, high = interval(confidence, correct)
    expected_low, expected_high = loop_interval(confidence, correct)
    assert high == pytest.approx(min(expected_high, 1.0))
    assert expected_low <= low + 1e-12 and low <= expected_low + high / 100


def test_it_contains_the_mean_of_the_runs():
    for seed in range(20):
        confidence, correct = drawn(np.random.default_rng(seed), CalibrationPopulation(1.3, 0.2, 80, 4))
        mean = np.mean([binned_by_confidence(*run).error for run in zip(confidence, correct, strict=True)])
        low, high = interval(confidence, correct)
        assert 0 <= low <= mean <= high <= 1


def test_a_calibrated_network_is_not_told_from_one_and_a_planted_error_is():
    calibrated = drawn(np.random.default_rng(0), CalibrationPopulation(1.0, 0.0, 2000, 5))
    overconfident = drawn(np.random.default_rng(0), CalibrationPopulation(2.5, 0.0, 2000, 5))
    assert interval(*calibrated)[0] == 0.0
    assert binned_by_confidence(calibrated[0][0], calibrated[1][0]).error > 0.01, "its ECE is above 0 all the same"
    truth = true_error(CalibrationPopulation(2.5, 0.0, 2000, 5))
    low, high = interval(*overconfident)
    assert 0.05 < low <= truth <= high


def test_more_images_and_less_spread_between_runs_give_narrower_intervals():
    def width(run_sd, images):
        low, high = interval(*drawn(np.random.default_rng(5), CalibrationPopulation(2.0, run_sd, images, 5)))
        return high - low

    assert width(0.0, 4000) < width(0.0, 400)
    assert width(0.0, 4000) < width(0.6, 4000)


def test_exact_duplicates_are_one_image():
    confidence, correct = drawn(np.random.default_rng(1), CalibrationPopulation(2.0, 0.1, 200, 3))
    doubled = np.repeat(confidence, 2, axis=1), np.repeat(correct, 2, axis=1)
    once, grouped = interval(confidence, correct), interval(*doubled, np.repeat(np.arange(200), 2))
    assert grouped == pytest.approx(once)
    assert np.diff(interval(*doubled)) < np.diff(once), "as separate images they would seem to be more"


def test_one_run_or_one_image_has_no_interval():
    confidence, correct = drawn(np.random.default_rng(1), CalibrationPopulation(1.0, 0.1, 50, 3))
    assert interval(confidence[:1], correct[:1]) is None
    assert interval(confidence[:, :1], correct[:, :1]) is None
    assert interval(confidence, correct, np.zeros(50, dtype=np.int64)) is None


def test_certain_and_right_predictions_have_an_error_of_zero():
    assert interval(np.ones((3, 9)), np.ones((3, 9), dtype=bool)) == (0.0, 0.0)


def test_shapes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="expected three"):
        calibration_error_interval(np.ones((2, 3)), np.ones((2, 4), dtype=bool), np.zeros((2, 3), dtype=np.int64))


# --- simulation


def test_simulated_confidences_have_the_true_error():
    population = CalibrationPopulation(1.8, 0.01, 100_000, 2)
    confidence, correct = drawn(np.random.default_rng(0), population)
    errors = [binned_by_confidence(*run).error for run in zip(confidence, correct, strict=True)]
    assert np.mean(errors) == pytest.approx(true_error(population), abs=0.004)
    assert true_error(CalibrationPopulation(1.0, 0.0, 10, 2)) == pytest.approx(0, abs=1e-9)
    assert np.asarray(np.corrcoef(correct))[0, 1] > 0.1, "runs share images that are hard"


def test_most_intervals_cover_the_truth():
    found = coverage(CalibrationPopulation(1.8, 0.1, 300, 3), 60)
    assert found.above + found.below < 0.2
    assert found.low < found.truth < found.ece < found.high


@pytest.mark.calibration
@pytest.mark.parametrize("sharpness", [1.0, 1.1, 1.8, 0.6])
@pytest.mark.parametrize("run_sd", [0.0, 0.15])
@pytest.mark.parametrize("runs", [2, 5, 10])
def test_at_most_5_percent_of_the_intervals_miss_the_truth(sharpness, run_sd, runs):
    replications = 400
    found = coverage(CalibrationPopulation(sharpness, run_sd, 1000, runs), replications, seed=7)
    assert found.above + found.below <= 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / replications)


# --- in a comparison


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    write_comparison(folder)
    return folder


def test_it_is_in_the_file_the_table_and_the_report(folder):
    comparison = read_comparison(folder)
    scores = comparison.arm("good").test
    low, high = scores.ece_ci95
    assert low < scores.ece.mean < high
    assert comparison.arm("good").test_deduplicated.ece_ci95 and comparison.arm("good").validation.ece_ci95
    text = f"{100 * low:.1f} to {100 * high:.1f}"
    grid = overview(comparison)
    assert grid.groups[0][1][grid.columns.index("ECE 95 % CI")] == text
    page = parse(report_html(comparison, folder))
    (section,) = page.find("section", id="calibration")
    assert f"[{text}]" in section.text and "over new seeds and new test images" in section.text
    assert "ECE 95 % CI" in str(Comparison(**dict(comparison)))


def test_one_seed_shows_no_interval(tmp_path):
    comparison = write_comparison(tmp_path, seeds=(0,))
    assert comparison.arms[0].test.ece_ci95 is None
    assert "ECE 95 % CI" not in overview(comparison).columns and "ECE" in overview(comparison).columns
    (section,) = parse(report_html(comparison, tmp_path)).find("section", id="calibration")
    assert "[" not in section.text and "new test images" not in section.text
