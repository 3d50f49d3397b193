"""Ensembles: the mean of the class probabilities of an arm's runs, scored without a verdict."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import fer_augment as fa
from fer_augment.finished import Comparison
from fer_augment.metrics import expected_calibration_error, score, softmax
from fer_augment.reports.grids import ensembles
from fer_augment.reports.html import report_html
from fer_augment.reports.tables import markdown
from fer_augment.results import ensembles as module
from fer_augment.results.comparison import ComparisonRecord, read_comparison, save_comparison
from fer_augment.results.ensembles import SummedProbabilities, scored_ensemble
from fer_augment.results.verdicts import compare_runs
from tests.html_page import parse
from tests.prediction_files import NAMES, RECALLS, TRUE, columns, probabilities_of, with_run
from tests.synthetic_runs import CLASSES, counts_by_split, labels_of, write_arm

COUNTS = (40, 30, 20)


def compared(runs) -> ComparisonRecord:
    return compare_runs(
        runs, baseline="base", source="demo", fingerprint="f" * 64, counts=counts_by_split(COUNTS)
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        arm: write_arm(folder, arm, recall) for arm, recall in {"base": (0.6, 0.5, 0.4), "good": (0.9,) * 3}.items()
    }


@pytest.fixture(scope="module")
def comparison(runs):
    return compared(runs)


def tables(**more):
    return [with_run(columns(arm, seed, scores="prob"), arm, seed) | more for arm in RECALLS for seed in range(3)]


def judged(given, **more):
    return fa.judge(given, baseline="plain", progress=False, **more)


# --- the scores


def test_it_is_scored_by_the_mean_softmax_of_the_runs(runs, comparison):
    for arm, of_arm in runs.items():
        mean = np.mean([softmax(run.predictions("test").logits) for run in of_arm], axis=0)
        expected = score(labels_of(COUNTS), mean.argmax(axis=1), 3)
        ensemble = comparison.arm(arm).ensemble
        assert ensemble.runs == 3
        assert (ensemble.accuracy, ensemble.balanced_accuracy) == (expected.accuracy, expected.balanced_accuracy)
        assert_allclose([ensemble.recall[name] for name in CLASSES], expected.recall)
        assert ensemble.ece == pytest.approx(expected_calibration_error(labels_of(COUNTS), np.log(mean)))
    assert comparison.arm("base").ensemble.accuracy > comparison.arm("base").test.accuracy.mean


def test_judge_scores_the_same_mean():
    given = judged(tables())
    mean = np.mean([probabilities_of("good", seed, RECALLS["good"]) for seed in range(3)], axis=0)
    expected, ensemble = score(TRUE, mean.argmax(axis=1), 3), given.arm("good").ensemble
    assert (ensemble.runs, ensemble.accuracy) == (3, expected.accuracy)
    assert_allclose([ensemble.recall[name] for name in NAMES], expected.recall)
    assert ensemble.ece == pytest.approx(expected_calibration_error(TRUE, np.log(mean)), abs=1e-5)


def test_logits_count_as_their_softmax_and_the_order_changes_nothing():
    of_logits = [with_run(columns(arm, seed, scores="logit"), arm, seed) for arm in RECALLS for seed in range(3)]
    orders = {seed: np.random.default_rng(seed).permutation(len(TRUE)).tolist() for seed in (2, 0, 1)}
    reordered = [
        with_run(columns(arm, seed, scores="prob", order=order), arm, seed)
        for arm in RECALLS
        for seed, order in orders.items()
    ]
    expected = judged(tables()).arm("plain").ensemble
    assert judged(reordered).arm("plain").ensemble == expected
    logits = judged(of_logits).arm("plain").ensemble
    assert logits.accuracy == expected.accuracy and logits.ece == pytest.approx(expected.ece, abs=1e-5)


def test_equal_mean_probabilities_are_drawn_and_not_decided_by_the_order_of_classes():
    labels, even = np.zeros(400, dtype=np.int64), np.full((400, 2), 0.5)
    ensemble = scored_ensemble(labels, even, ("a", "b"), 2)
    assert 0.4 < ensemble.accuracy < 0.6
    assert ensemble == scored_ensemble(labels, even, ("a", "b"), 2)
    assert ensemble.recall["b"] is None and ensemble.balanced_accuracy == ensemble.accuracy
    assert scored_ensemble(labels + 1, even, ("b", "a"), 2).accuracy == ensemble.accuracy


# --- where there is none


def test_one_run_or_a_run_without_scores_has_no_ensemble(runs):
    assert compared({arm: of_arm[:1] for arm, of_arm in runs.items()}).arms[0].ensemble is None
    mixed = [with_run(columns("plain", 2), "plain", 2), *(one for one in tables() if one["seed"][0] != 2)]
    given = judged(mixed)
    assert given.arm("plain").ensemble is None
    assert given.arm("good").ensemble.runs == 2
    assert (
        judged([with_run(columns(arm, seed), arm, seed) for arm in RECALLS for seed in (0, 1)]).arms[0].ensemble is None
    )


def test_folds_have_no_ensemble():
    folded = [one | {"fold": np.arange(len(TRUE)) % 4} for one in tables()]
    given = judged(folded)
    assert given.cross_validation and all(arm.ensemble is None for arm in given.arms)
    assert ensembles(given) is None and "nsemble" not in str(given)


def test_too_much_memory_is_a_warning_and_no_ensemble(monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", len(TRUE) * 3 * 4)  # room for one arm
    given = judged(tables())
    assert all(arm.ensemble is None for arm in given.arms)
    assert [one for one in given.warnings if one.startswith("Ensembles are not scored")]
    assert not [one for one in judged(tables()[:3]).warnings if "nsemble" in one]


def test_runs_on_other_images_are_never_summed():
    sums = SummedProbabilities()
    even = np.full((3, 2), 0.5)
    sums.add("a", np.arange(3), even)
    sums.add("a", np.array([0, 1, 3]), even)
    assert sums.ensemble("a", np.arange(3), np.zeros(3, dtype=np.int64), ("x", "y")) is None


# --- outputs


def test_it_is_shown_without_a_verdict_in_every_format(comparison, tmp_path):
    grid = ensembles(comparison)
    assert grid.columns[:5] == ("arm", "runs", "accuracy", "balanced accuracy", "ECE")
    good = comparison.arm("good").ensemble
    assert grid.groups[0][1][:3] == ("good", "3", f"{100 * good.accuracy:.1f}")
    page = parse(report_html(comparison, tmp_path))
    (scores,) = page.find("section", id="scores")
    for text in (str(Comparison(**dict(comparison))), markdown(comparison), scores.text):
        assert "Ensembles of all runs of an arm" in text and "no verdict" in " ".join(text.split())
        assert f"{100 * good.balanced_accuracy:.1f}" in text and f"{100 * good.recall['cat']:.1f}" in text


def test_many_classes_are_left_to_the_file():
    rng = np.random.default_rng(0)
    true = np.arange(200) % 50
    given = judged([
        {"id": np.arange(200), "true": true, "arm": [arm] * 200, "seed": [seed] * 200}
        | {f"prob_{name}": column for name, column in enumerate(rng.dirichlet(np.ones(50), 200).T)}
        for arm in ("plain", "other") for seed in (0, 1)
    ])  # fmt: skip
    assert len(ensembles(given).columns) == 5 and ensembles(given).note.endswith("All classes: comparison.json.")
    assert len(given.arms[0].ensemble.recall) == 50


def test_it_survives_writing_and_reading(comparison, tmp_path):
    save_comparison(comparison, tmp_path)
    assert read_comparison(tmp_path) == comparison


def test_an_ensemble_of_other_classes_is_refused(comparison):
    arm = comparison.arms[0]
    strange = arm.model_copy(update={"ensemble": arm.ensemble.model_copy(update={"recall": {"dog": 1.0}})})
    with pytest.raises(ValueError, match=r"arms\.0\.ensemble\.recall: the classes differ from class_names"):
        ComparisonRecord(**{**dict(comparison), "arms": (strange, *comparison.arms[1:])})
