"""`python -m benchmarks calibration`: the simulation tables of docs/statistics.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import calibration
from benchmarks.__main__ import main
from benchmarks.calibration import earlier_half_width, endpoint_weights, shares
from benchmarks.judged_simulations import SeedDesign
from benchmarks.judging import judge_folder, write_predictions
from benchmarks.simulated_folds import (
    SHARED,
    FoldPopulation,
    comparison_of_folds,
    comparison_of_seeds,
    features_of,
    many,
)
from benchmarks.simulated_runs import Population, mean_recall, simulated, with_counts
from fer_augment.results.comparison import read_comparison
from fer_augment.significance.fixed_split import ArmStatistics

PAGE = Path(__file__).parents[1] / "docs" / "statistics.md"
SMALL = with_counts("small", np.array([1, 5, 20]))


def test_simulated_arms_have_the_planted_difference():
    blocks = list(simulated(np.random.default_rng(0), with_counts("two", np.array([40, 40])), 500, (2, 2), 0.2))
    baseline, arm = (np.concatenate(parts) for parts in zip(*blocks, strict=True))

    assert baseline.shape == arm.shape == (500, 2, 80)
    assert arm.mean() - baseline.mean() == pytest.approx(0.2, abs=0.02)


def test_a_planted_recall_above_one_is_cut_off():
    high = Population("high", np.array([9]), np.array([0.95]), np.array([0.0]))
    assert mean_recall(high, 0.2) - mean_recall(high) == pytest.approx(0.049)


def test_a_forgotten_class_is_not_learned_by_half_of_the_runs():
    forgetful = Population("two", np.array([30, 30]), np.array([0.9, 0.9]), np.zeros(2), forgotten=0)
    ((baseline, _),) = simulated(np.random.default_rng(0), forgetful, 100, (4, 4))
    recall = baseline[:, :, :30].mean(axis=-1)

    assert (recall < 0.2).mean() == pytest.approx(0.5, abs=0.1)
    assert ((recall < 0.2) | (recall > 0.5)).all()


def test_the_earlier_test_had_no_interval_for_a_class_with_one_image():
    ((baseline, arm),) = simulated(np.random.default_rng(0), SMALL, 3, (3, 3))
    a, b = (ArmStatistics.of(correct.astype(float), SMALL.counts) for correct in (baseline, arm))
    half_width = earlier_half_width(a, b, endpoint_weights(SMALL))

    assert np.isnan(half_width[:, [0, 3, 4]]).all()
    assert not np.isnan(half_width[:, [1, 2]]).any()


def test_shares_are_those_of_all_replications():
    null = shares(SMALL, 60, (3, 3))

    assert np.isnan(null.before[[0, 3, 4]]).all()
    assert ((null.rejected * 60) % 1 == pytest.approx(0)) and null.rejected.max() < 0.2
    assert (null.rejected == null.missed).all()


def test_the_page_has_a_place_for_the_tables():
    assert "<!-- calibration: fixed split -->" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("design", ["ece", "judge"])
def test_other_tables_are_inserted_into_the_page(design, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "ERRORS", ((1.8,), (0.1,), (40,), (2,)))
    row = calibration.JudgedRow("fixed split", 26, "similar errors", SeedDesign(SMALL, 2), 0.3)
    monkeypatch.setattr(calibration, "judged_rows", lambda sizes: [row])
    page = tmp_path / "page.md"
    page.write_text(f"before\n<!-- calibration: {design} -->\n<!-- end -->\nafter\n")
    arguments = ["calibration", "--design", design, "--replications", "100", "--page", str(page)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    header, _, cells = [line for line in page.read_text().splitlines() if line.startswith("|")]
    assert header.count("|") == cells.count("|")
    assert f"--design {design} --replications 100" in page.read_text()
    assert f"<!-- calibration: {design} -->" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("scores", [False, True])
def test_predictions_for_timing_can_be_judged(tmp_path, scores):
    write_predictions(tmp_path, 2, 2, 30, 3, scores=scores)
    judge_folder(tmp_path, "all", tmp_path / "judged")
    comparison = read_comparison(tmp_path / "judged")
    assert [len(arm.seeds) for arm in comparison.arms] == [2, 2] and len(comparison.class_names) == 3
    assert (comparison.arms[0].ensemble is not None) == scores


def test_too_few_replications_are_refused():
    result = CliRunner().invoke(main, ["calibration", "--replications", "5"])
    assert result.exit_code == 2 and "100" in result.output


def test_simulated_recipes_of_equal_value_have_the_same_features_but_for_those_of_their_own():
    alike, different = (features_of(FoldPopulation("", (1,), 10, are_alike)) for are_alike in (True, False))
    better = features_of(FoldPopulation("", (1,), 10, better=2))

    assert np.array_equal(*alike)
    assert len(different[0]) == len(different[1]) and len(set(different[0]) & set(different[1])) == SHARED
    assert len(better[1]) == len(better[0]) + 2


@pytest.mark.parametrize("simulate", [comparison_of_folds, comparison_of_seeds])
def test_simulated_trainings_differ_and_give_intervals(simulate):
    deltas, halves = many(lambda rng, of: simulate(rng, of, 3, 2), FoldPopulation("", (0.5, 0.3, 0.2), 90), 4)

    assert deltas.shape == halves.shape == (4, 4)
    assert (halves > 0).all() and (halves[:, -1] < 1).all()
    assert len(np.unique(deltas[:, -1])) > 1


@pytest.mark.calibration
@pytest.mark.parametrize("repeats", [1, 2, 5])
@pytest.mark.parametrize("are_alike", [True, False])
def test_false_positives_and_misses_of_cross_validation(repeats, are_alike):
    replications = 150
    null = FoldPopulation("", (0.14, 0.02, 0.14, 0.25, 0.17, 0.11, 0.17), 300, are_alike)
    deltas, halves = many(lambda rng, of: comparison_of_folds(rng, of, 5, repeats), null, replications, seed=3)
    error = 3.5 * np.sqrt(0.05 * 0.95 / replications)

    assert (np.abs(deltas) > halves).mean(axis=0).max() <= 0.06 + error
    better = replace(null, better=2)
    gains, widths = many(lambda rng, of: comparison_of_folds(rng, of, 5, repeats), better, replications, seed=4)
    assert (np.abs(gains - gains.mean(axis=0)) > widths).mean(axis=0).max() <= 0.07 + error
