"""Comparisons: scores and tests, checked against direct calculations on the predictions of the runs."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fer_augment.data.records import FoldIdentity, StepRecord
from fer_augment.errors import NothingFinishedError, RunError
from fer_augment.metrics import expected_calibration_error, negative_log_likelihood
from fer_augment.reports.wording import precision_sentence
from fer_augment.results.arm_runs import ArmRuns
from fer_augment.results.comparison import ComparisonRecord, Failure, Statistic, read_comparison, save_comparison
from fer_augment.results.comparison_warnings import warnings_of_records
from fer_augment.results.scored_rows import ScoredRows
from fer_augment.results.verdicts import compare_runs
from fer_augment.significance import (
    Verdict,
    accuracy_weights,
    arm_statistics,
    balanced_accuracy_weights,
    endpoint_difference,
    recall_weights,
    runs_for_half_width,
)
from tests.synthetic_runs import (
    CLASSES,
    counts_by_split,
    evaluation,
    labels_of,
    predictions,
    record,
    write_arm,
    write_run,
)

COUNTS = (40, 30, 20)
SPLITS = ("validation", "test")


def compared(runs, counts=COUNTS, baseline="base", **more) -> ComparisonRecord:
    facts = {"source": "demo", "fingerprint": "f" * 64, "counts": counts_by_split(counts)}
    return compare_runs(runs, baseline=baseline, **facts | more)


def correct_of(runs, kept=slice(None)):
    of_runs = [run.predictions("test") for run in runs]
    return np.array([(one.logits.argmax(axis=1) == one.labels)[kept] for one in of_runs])


@pytest.fixture(scope="module")
def three_arms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        "base": write_arm(folder, "base", (0.6, 0.5, 0.4)),
        "good": write_arm(folder, "good", (0.95, 0.9, 0.9)),
        "same": write_arm(folder, "same", (0.6, 0.5, 0.4)),
    }


# --- scores of an arm


def test_scores_are_mean_and_sd_over_seeds(three_arms):
    arm = compared(three_arms).arm("base")
    correct, labels = correct_of(three_arms["base"]), labels_of(COUNTS)
    accuracies = correct.mean(axis=1)
    assert arm.seeds == (0, 1, 2)
    assert arm.test.accuracy.n == 3
    assert_allclose(arm.test.accuracy.mean, accuracies.mean())
    assert_allclose(arm.test.accuracy.sd, accuracies.std(ddof=1))
    recalls = np.array([correct[:, labels == number].mean(axis=1) for number in range(3)])
    assert list(arm.test.recall) == list(CLASSES)
    assert_allclose([arm.test.recall[name].mean for name in CLASSES], recalls.mean(axis=1))
    assert_allclose(arm.test.balanced_accuracy.mean, recalls.mean())
    assert_allclose(arm.test.balanced_accuracy.sd, recalls.mean(axis=0).std(ddof=1))


def test_intervals_of_scores_are_within_their_range(tmp_path):
    runs = {
        "base": [
            run
            for seed, of_bee in enumerate((0.1, 0.9))
            for run in write_arm(tmp_path, "base", (0.6, of_bee, 0.4), seeds=[seed], spread=0.0)
        ]
    }
    assert compared(runs).arms[0].test.recall["bee"].ci95 == (0.0, 1.0)


def test_confusion_is_summed_over_runs_and_calibration_is_averaged(three_arms):
    scores = compared(three_arms).arm("good").test
    of_runs = [run.predictions("test") for run in three_arms["good"]]
    confusion = np.zeros((3, 3), dtype=int)
    for one in of_runs:
        np.add.at(confusion, (one.labels, one.logits.argmax(axis=1)), 1)
    assert np.array_equal(scores.confusion, confusion)
    assert_allclose(scores.ece.mean, np.mean([expected_calibration_error(one.labels, one.logits) for one in of_runs]))
    assert_allclose(scores.nll.mean, np.mean([negative_log_likelihood(one.labels, one.logits) for one in of_runs]))


def test_an_arm_has_the_values_of_its_records(tmp_path):
    step = StepRecord(name="grow", parameters={}, provider="x 1", source="0" * 64)
    runs = [
        write_run(
            tmp_path / str(seed),
            record(
                seed=seed,
                steps=[step.model_copy(update={"rows": 7 + seed, "chosen": {"tau": 0.1} if seed else {}})],
                test_loss=0.5 + seed,
                training_seconds=None if seed else 8.0,
            ),
            {split: predictions(labels_of(COUNTS), labels_of(COUNTS)) for split in ("test", "validation")},
        )
        for seed in (1, 0)
    ]
    arm = compared({"base": runs}).arms[0]
    assert (arm.description, arm.model, arm.loss, arm.parameter_count) == ("Tries base.", "tiny", "mse", 1234)
    assert (arm.seeds, arm.run_keys) == ((0, 1), ("key-base-0", "key-base-1"))
    assert arm.steps[0].name == "grow" and arm.steps[0].rows == (7, 8)
    assert arm.steps[0].chosen == {"tau": (None, 0.1)}
    assert arm.rewritten_counts[1] == {"ant": 21, "bee": 22, "cat": 23}
    assert arm.train_counts == {"ant": 10, "bee": 11, "cat": 12}
    assert arm.test_loss.mean == 1.0
    assert arm.training_seconds == Statistic(mean=8.0, sd=None, n=1, ci95=None)
    assert [point.epoch for point in arm.curve] == [1, 2]
    assert arm.curve[1].selection_loss.mean == arm.selection_loss.mean == 0.25


def test_a_curve_has_the_evaluations_that_all_runs_have(tmp_path):
    labels = labels_of(COUNTS)
    of_splits = {split: predictions(labels, labels) for split in ("test", "validation")}
    curves = [
        (evaluation(1, 3, validation_recall=(0.2, None, 0.4)), evaluation(2, 3)),
        (evaluation(1, 3, validation_recall=(0.4, None, 0.4)), evaluation(3, 3)),
    ]
    runs = [write_run(tmp_path / str(s), record(seed=s, curve=curve), of_splits) for s, curve in enumerate(curves)]
    (point,) = compared({"base": runs}).arms[0].curve
    assert point.epoch == 1
    assert_allclose(point.validation_recall["ant"].mean, 0.3)
    assert point.validation_recall["bee"] == Statistic(mean=None, sd=None, n=0, ci95=None)


# --- verdicts


def test_judgments_equal_those_of_endpoint_difference(three_arms):
    comparison = compared(three_arms)
    labels = labels_of(COUNTS)
    good = comparison.versus[0]
    arrays = correct_of(three_arms["base"]), correct_of(three_arms["good"]), labels
    for number, name in enumerate(CLASSES):
        expected = endpoint_difference(*arrays, recall_weights(number, 3))
        judgment = good.recall[name]
        assert (judgment.delta, judgment.ci95, judgment.p, judgment.detectable) == (
            expected.delta,
            expected.ci95,
            expected.p,
            expected.detectable,
        )
        recall_of = [np.mean([run[labels == number].mean() for run in arm]) for arm in arrays[:2]]
        assert_allclose(judgment.delta, recall_of[1] - recall_of[0])
    assert good.accuracy.p == endpoint_difference(*arrays, accuracy_weights(labels, 3)).p
    assert good.balanced_accuracy.p == endpoint_difference(*arrays, balanced_accuracy_weights(labels, 3)).p
    assert good.balanced_accuracy.verdict == Verdict.BETTER
    assert comparison.versus[1].balanced_accuracy.verdict == Verdict.NO_EVIDENCE


def test_the_bootstrap_needs_five_runs(tmp_path, three_arms):
    seeds = range(5)
    runs = {
        "base": write_arm(tmp_path, "base", (0.6, 0.5, 0.4), seeds=seeds),
        "good": write_arm(tmp_path, "good", (0.95, 0.9, 0.9), seeds=seeds),
        "same": write_arm(tmp_path, "same", (0.6, 0.5, 0.4), seeds=seeds),
        "few": three_arms["good"],
    }
    versus = compared(runs).versus
    assert [one.share_above for one in versus if one.recipe != "same"] == [1.0, None]
    assert 0.02 < versus[1].share_above < 0.98
    assert versus[1].share_above == compared(runs).versus[1].share_above


def holm_by_hand(p_values):
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(np.minimum(1, factors * np.asarray(p_values)[order]))
    return adjusted


def test_holm_is_over_arms_for_overall_endpoints_and_over_classes_for_recall(three_arms):
    versus = compared(three_arms).versus
    for endpoint in ("accuracy", "balanced_accuracy"):
        family = [getattr(one, endpoint) for one in versus]
        assert_allclose([one.p_adjusted for one in family], holm_by_hand([one.p for one in family]))
    for one in versus:
        family = list(one.recall.values())
        assert_allclose([one.p_adjusted for one in family], holm_by_hand([one.p for one in family]))
    assert versus[0].balanced_accuracy.p_adjusted == 2 * versus[0].balanced_accuracy.p


def test_verdicts_use_the_adjusted_p(three_arms):
    judgments = [one for versus in compared(three_arms).versus for one in versus.recall.values()]
    assert all((one.p_adjusted < 0.05) == (one.verdict != Verdict.NO_EVIDENCE) for one in judgments)


def test_a_significant_drop_is_worse(three_arms):
    comparison = compared(three_arms, baseline="good")
    assert [versus.balanced_accuracy.verdict for versus in comparison.versus] == [Verdict.WORSE, Verdict.WORSE]
    assert comparison.versus[0].balanced_accuracy.delta < -0.2


def test_the_baseline_is_the_first_arm_and_not_tested(three_arms):
    comparison = compared(three_arms, baseline="same")
    assert [arm.recipe for arm in comparison.arms] == ["same", "base", "good"]
    assert [(one.recipe, one.baseline) for one in comparison.versus] == [("base", "same"), ("good", "same")]
    assert comparison.baseline_arm is comparison.arms[0]


# --- exact duplicates


def test_deduplicated_split_omits_duplicates_of_the_training_split_of_any_arm(tmp_path):
    in_base, in_other = np.zeros(90, dtype=bool), np.zeros(90, dtype=bool)
    in_base[[0, 1, 50]], in_other[[1, 89]] = True, True
    runs = {
        "base": write_arm(tmp_path, "base", (0.6, 0.5, 0.4), in_train=in_base),
        "other": write_arm(tmp_path, "other", (0.8, 0.5, 0.4), in_train=in_other),
    }
    comparison = compared(runs)
    kept = np.setdiff1d(np.arange(90), [0, 1, 50, 89])
    assert comparison.data.counts["test"] == {"ant": 40, "bee": 30, "cat": 20}
    assert comparison.data.counts["test_deduplicated"] == {"ant": 38, "bee": 29, "cat": 19}
    for arm in comparison.arms:
        correct = correct_of(runs[arm.recipe], kept)
        assert arm.test_deduplicated.rows == 86
        assert_allclose(arm.test_deduplicated.accuracy.mean, correct.mean())
    labels = labels_of(COUNTS)[kept]
    expected = endpoint_difference(
        correct_of(runs["base"], kept), correct_of(runs["other"], kept), labels, balanced_accuracy_weights(labels, 3)
    )
    judgment = comparison.versus[0].test_deduplicated.balanced_accuracy
    assert (judgment.delta, judgment.p) == (expected.delta, expected.p)


def test_deduplicated_split_omits_near_duplicates_as_well(tmp_path):
    in_train = np.isin(np.arange(90), [0, 1])
    runs = {name: write_arm(tmp_path, name, (0.6, 0.5, 0.4), in_train=in_train) for name in ("base", "other")}
    comparison = compared(runs, near_train=[1, 2, 88, 89])
    kept = np.arange(3, 88)
    assert comparison.data.counts["test_near_duplicates"] == {"ant": 1, "bee": 0, "cat": 2}, "row 1 is an exact one"
    assert comparison.data.counts["test_deduplicated"] == {"ant": 37, "bee": 30, "cat": 18}
    for arm in comparison.arms:
        assert arm.test_deduplicated.rows == 85
        assert_allclose(arm.test_deduplicated.accuracy.mean, correct_of(runs[arm.recipe], kept).mean())
    unsearched = compared(runs)
    assert "test_near_duplicates" not in unsearched.data.counts
    assert unsearched.arms[0].test_deduplicated.rows == 88


def test_warnings_name_classes_with_few_images_in_the_deduplicated_split(tmp_path):
    in_train = np.zeros(90, dtype=bool)
    in_train[40:69] = in_train[70:] = True  # all of bee but one, and all of cat
    runs = {name: write_arm(tmp_path, name, (0.6, 0.5, 0.4), in_train=in_train) for name in ("base", "other")}
    comparison = compared(runs)
    scores = comparison.arms[0].test_deduplicated
    assert_allclose(scores.balanced_accuracy.mean, (scores.recall["ant"].mean + scores.recall["bee"].mean) / 2)
    assert [warning for warning in comparison.warnings if "duplicate" in warning] == [
        "All test images of cat have a duplicate in the training split: on the deduplicated test split, balanced "
        "accuracy is the mean recall of the other classes.",
        "The deduplicated test split has one image of bee: the variance of the recall is estimated from the other "
        "classes, and only a huge difference is found.",
    ]


def test_an_empty_deduplicated_split_has_no_scores(tmp_path):
    everything = np.ones(90, dtype=bool)
    runs = {name: write_arm(tmp_path, name, (0.6, 0.5, 0.4), in_train=everything) for name in ("base", "other")}
    comparison = compared(runs)
    assert comparison.arms[0].test_deduplicated is None
    assert comparison.versus[0].test_deduplicated is None
    assert comparison.data.counts["test_deduplicated"] == {"ant": 0, "bee": 0, "cat": 0}
    assert comparison.warnings == ()


def test_duplicates_within_the_test_split_count_once_in_a_difference(tmp_path):
    groups = np.arange(90)
    groups[1:30] = 0
    runs = {name: write_arm(tmp_path, name, (0.6, 0.5, 0.4), groups=groups) for name in ("base", "other")}
    arrays = correct_of(runs["base"]), correct_of(runs["other"]), labels_of(COUNTS)
    expected = endpoint_difference(*arrays, recall_weights(0, 3), groups)
    assert expected.delta != endpoint_difference(*arrays, recall_weights(0, 3)).delta
    assert compared(runs).versus[0].recall["ant"].delta == expected.delta


# --- few runs, failed runs, empty classes


def test_one_seed_gives_differences_without_p_and_a_warning(tmp_path):
    runs = {name: write_arm(tmp_path, name, (0.6, 0.5, 0.4), seeds=[4]) for name in ("base", "other")}
    comparison = compared(runs)
    judgment = comparison.versus[0].balanced_accuracy
    recall = [arm.test.balanced_accuracy for arm in comparison.arms]
    assert_allclose(judgment.delta, recall[1].mean - recall[0].mean)
    assert (judgment.p, judgment.p_adjusted, judgment.ci95, judgment.detectable) == (None, None, None, None)
    assert judgment.verdict == Verdict.ONE_RUN
    assert comparison.versus[0].share_above is None
    assert recall[0].sd is None and recall[0].n == 1
    assert [warning for warning in comparison.warnings if warning.startswith("Only one run of base and other: ")]


@pytest.mark.parametrize(("count", "is_warned"), [(2, True), (3, False)])
def test_two_runs_give_a_warning(tmp_path, count, is_warned):
    runs = {name: write_arm(tmp_path, name, (0.6, 0.5, 0.4), seeds=range(count)) for name in ("base", "other")}
    warnings = [warning for warning in compared(runs).warnings if "Only two runs of base and other: " in warning]
    assert len(warnings) == is_warned


def test_a_class_that_one_of_two_runs_did_not_learn_needs_three_seeds(tmp_path):
    def arm(name, recalls):
        return [
            run
            for seed, of_bee in enumerate(recalls)
            for run in write_arm(tmp_path, name, (0.6, of_bee, 0.4), seeds=[seed], spread=0.0)
        ]

    def warned(number, first, second):
        runs = {"base": arm(f"base {number}", first), "other": arm(f"other {number}", second)}
        return [warning for warning in compared(runs).warnings if "learned" in warning]

    assert warned(1, (0.0, 0.6), (0.5, 0.6)) == [
        "Only one of the two runs of base learned bee: two seeds are not enough to estimate how often that happens "
        "(up to 10 % false positives instead of 5 %); use at least three."
    ]
    assert not warned(2, (0.0, 0.6, 0.6), (0.5, 0.6, 0.5))


def test_classes_without_validation_images_are_named():
    complete = record()
    without_bee = (evaluation(1, 3, validation_recall=(0.5, None, 0.5)),)
    assert not warnings_of_records({"base": [complete]})
    for fold, where in ((None, ""), (FoldIdentity(repeat=0, number=1, folds=2), " of a fold")):
        identity = complete.identity.model_copy(update={"fold": fold})
        lacking = complete.model_copy(update={"curve": without_bee, "identity": identity})
        assert warnings_of_records({"base": [complete, lacking]}) == [
            f"The validation split{where} has no image of bee: scores on it, by which parameters, epochs and arms are "
            "chosen, are means over the other classes."
        ]


def test_arms_whose_runs_predict_one_class_are_named(tmp_path):
    def arm(name, *of_runs, counts=COUNTS):
        labels = labels_of(counts)
        splits = [{split: predictions(labels, labels * 0 + of_run) for split in SPLITS} for of_run in of_runs]
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        return [write_run(folder / str(seed), record(name, seed), own) for seed, own in enumerate(splits)]

    def warned(*arms, counts=COUNTS):
        warnings = compared(dict(zip(("base", "other"), arms, strict=True)), counts).warnings
        return [warning.partition(":")[0] for warning in warnings if "too briefly" in warning]

    ant = "Every run of base and other predicts ant for all its test images"
    assert warned(arm("base", 0, 0), arm("other", 0, 0)) == [ant]
    assert warned(arm("base", 0, 0), arm("other", 2, 2)) == [
        "Every run of base predicts ant for all its test images",
        "Every run of other predicts cat for all its test images",
    ]
    assert warned(arm("base", 0, labels_of(COUNTS)), arm("other", 0, 2)) == [
        "Every run of other predicts a single class for all its test images"
    ]
    of_ants = (40, 0, 0)
    assert not warned(arm("base", 0, 0, counts=of_ants), arm("other", 0, 0, counts=of_ants), counts=of_ants)


def test_networks_of_folds_may_predict_one_class_each():
    labels, folds = labels_of((4, 4)), np.tile([0, 1], (2, 4))
    unknown, rows = np.full(folds.shape, np.nan), np.arange(len(labels))
    collapsed = ScoredRows(labels, rows, None, folds, unknown, unknown, folds, rows)
    arm = ArmRuns("a", ("ant", "bee"), seeds=(0, 1), keys=("a", "b"), test=collapsed)
    assert arm.single_class == "a single class"
    learned = replace(collapsed, predicted=np.stack([folds[0], labels]))
    assert replace(arm, test=learned).single_class is None


def test_classes_with_few_test_images_are_named(tmp_path):
    counts = (30, 4, 2)
    runs = {name: write_arm(tmp_path, name, (0.6, 0.5, 0.4), counts=counts) for name in ("base", "other")}
    assert (
        "The test split has only a few images of bee (4) and cat (2): their recall says little; cross-validation, as "
        "by `compare --folds 5`, tests on all images." in compared(runs, counts).warnings
    )


def test_seeds_for_a_precision_are_estimated_or_unknown(tmp_path):
    counts = (400, 300, 200)
    runs = {name: write_arm(tmp_path, name, (0.6, 0.5, 0.4), counts=counts) for name in ("base", "other")}
    comparison = compared(runs, counts, precisions=(7,))
    assert list(comparison.seeds_for_precision) == ["7", "5", "3", "2", "1"]
    assert str(precision_sentence(comparison)).startswith("Precision of the difference in balanced accuracy (95 % CI)")
    some = comparison.model_copy(update={"seeds_for_precision": {"5": 2, "3": 3}})
    assert precision_sentence(some).endswith(
        " points now; the seeds for ± 2 and ± 1 are unknown; if the test split is small, use --folds."
    )


def test_of_several_arms_the_least_precise_difference_is_named(tmp_path):
    counts = (400, 300, 200)
    runs = {
        name: write_arm(tmp_path, name, (0.6, 0.5, 0.4), seeds=seeds, counts=counts)
        for name, seeds in (("base", range(3)), ("three", range(3)), ("two", range(2)))
    }
    assert str(precision_sentence(compared(runs, counts))).startswith(
        "Precision of the least precise difference in balanced accuracy, two vs. base (95 % CI): ± "
    )


def test_precision_is_that_of_the_tests_with_two_runs_of_either_arm(tmp_path):
    counts = (400, 300, 200)
    runs = {name: write_arm(tmp_path, name, (0.6, 0.5, 0.4), counts=counts) for name in ("base", "other")}
    alone = compared(runs, counts)
    of_all = compared(
        runs | {"single": write_arm(tmp_path, "single", (0.6, 0.5, 0.4), seeds=[0], counts=counts)}, counts
    )
    assert of_all.seeds_for_precision == alone.seeds_for_precision != {}
    assert str(precision_sentence(of_all)).startswith(
        "Precision of the least precise difference in balanced accuracy, other vs. base (95 % CI): ± "
    )
    one_run = compared({"base": runs["base"][:1], "other": runs["other"]}, counts)
    assert one_run.seeds_for_precision == {} and precision_sentence(one_run) is None


def test_a_precision_is_out_of_reach_only_if_it_is_with_less_variance_between_images_too(tmp_path):
    labels, rng = labels_of(COUNTS), np.random.default_rng(0)
    rows = np.arange(len(labels))

    def arm(name, wrong):
        runs = []
        for seed in range(3):
            predicted = np.where(wrong ^ (rng.random(len(labels)) < 0.1), (labels + 1) % 3, labels)
            of_splits = dict.fromkeys(("test", "validation"), predictions(labels, predicted))
            runs.append(write_run(tmp_path / name / str(seed), record(name, seed), of_splits))
        return runs

    runs = {"base": arm("base", rows % 3 == 0), "other": arm("other", rows % 4 == 0)}
    wanted = np.arange(1, 31)
    known = compared(runs, precisions=wanted).seeds_for_precision
    base, other = arm_statistics([correct_of(of_arm) for of_arm in runs.values()], labels, 3)
    weights = balanced_accuracy_weights(labels, 3)
    less, expected, more = (
        runs_for_half_width(base, other, weights, (wanted / 100).tolist(), errors) for errors in (-1, 0, 1)
    )
    seen = set()
    for points, low, seeds, high in zip(wanted, less, expected, more, strict=True):
        seen.add((low is None, seeds is None, high is None))
        assert known.get(f"{points}", "unknown") == (seeds if low is None or high is not None else "unknown")
    assert {(False, True, True), (True, True, True), (False, False, False)} <= seen


def test_unequal_numbers_of_seeds_are_compared_with_a_warning(tmp_path):
    runs = {
        "base": write_arm(tmp_path, "base", (0.6, 0.5, 0.4), seeds=[0, 1, 2, 3]),
        "other": write_arm(tmp_path, "other", (0.6, 0.5, 0.4), seeds=[0, 2]),
    }
    comparison = compared(runs)
    assert comparison.arm("other").seeds == (0, 2)
    assert comparison.versus[0].balanced_accuracy.p is not None
    assert "Unequal numbers of runs (base 4, other 2)" in " ".join(comparison.warnings)


def test_an_arm_without_finished_runs_is_only_in_failures_and_warnings(three_arms):
    failures = [Failure(recipe="lost", seed=seed, message="the loss is not finite") for seed in range(3)]
    comparison = compared({**three_arms, "lost": []}, failures=failures)
    assert [arm.recipe for arm in comparison.arms] == ["base", "good", "same"]
    assert comparison.failures == tuple(failures)
    assert "No run of lost finished." in comparison.warnings
    assert len(comparison.versus) == 2


def test_without_a_finished_baseline_nothing_is_compared(three_arms):
    comparison = compared({"base": [], "good": three_arms["good"]})
    assert comparison.baseline_arm is None
    assert (len(comparison.arms), comparison.versus) == (1, ())
    assert comparison.warnings[0] == "No run of the baseline base finished: no arm is tested against it."


def test_no_finished_run_at_all_is_an_error_with_the_first_reason():
    with pytest.raises(NothingFinishedError, match="nothing to compare: no run finished; base, seed 3: out of memory"):
        compared({"base": []}, failures=[Failure(recipe="base", seed=3, message="out of memory")])


def test_a_class_without_test_rows_has_no_recall_and_no_test(tmp_path):
    counts = (40, 0, 20)
    runs = {name: write_arm(tmp_path, name, (0.6, 0.5, 0.4), counts=counts) for name in ("base", "other")}
    comparison = compared(runs, counts)
    assert comparison.arms[0].test.recall["bee"] == Statistic(mean=None, sd=None, n=0, ci95=None)
    judgment = comparison.versus[0].recall["bee"]
    assert (judgment.delta, judgment.p_adjusted, judgment.verdict) == (None, None, Verdict.UNTESTABLE)
    assert comparison.versus[0].balanced_accuracy.p is not None
    assert "The test split has no image of bee." in comparison.warnings


def test_infinite_logits_give_undefined_scores_and_no_nan(tmp_path):
    labels = labels_of(COUNTS)
    runs = {}
    for name in ("base", "other"):
        finite = predictions(labels, labels)
        logits = finite.logits.copy()
        logits[:, 2] = -np.inf
        of_splits = dict.fromkeys(("test", "validation"), replace(finite, logits=logits))
        runs[name] = [write_run(tmp_path / name / str(seed), record(name, seed), of_splits) for seed in range(2)]
    comparison = compared(runs)
    assert comparison.arms[0].test.nll == Statistic(mean=None, sd=None, n=0, ci95=None)
    assert comparison.arms[0].test.recall["cat"].mean == 0.0
    assert "NaN" not in comparison.model_dump_json()


def test_runs_on_different_rows_are_refused(tmp_path, three_arms):
    other = write_arm(tmp_path, "other", (0.6, 0.5, 0.4), counts=(30, 40, 20))
    with pytest.raises(RunError, match="other and base: scored on different test splits"):
        compared({**three_arms, "other": other})
    with pytest.raises(RunError, match="scored on different rows than"):
        compared({"base": [*three_arms["base"], other[0]]})


# --- warnings


def test_warning_of_unequal_optimizer_steps(tmp_path):
    runs = {
        "base": write_arm(tmp_path, "base", (0.6, 0.5, 0.4)),
        "longer": write_arm(tmp_path, "longer", (0.6, 0.5, 0.4), optimizer_steps=4000),
    }
    (warning,) = compared(runs).warnings
    assert warning == "Unequal numbers of optimizer steps (base 20, longer 4,000)."


@pytest.mark.parametrize(
    ("of_longer", "cause"),
    [
        (
            {"settings": {"training": {"epochs": 2, "batch_size": 32, "budget": "steps"}}},
            "`training.batch_size` differs (base 64, longer 32), use one value for all arms",
        ),
        (
            {"settings": {"training": {"epochs": 9, "batch_size": 32, "budget": "steps"}}},
            "`training.epochs` differs (base 2, longer 9), use one value for all arms; "
            "`training.batch_size` differs (base 64, longer 32), use one value for all arms",
        ),
        (
            {"settings": {"training": {"epochs": 2, "batch_size": 64, "budget": "epochs"}}},
            "with `training.budget: epochs`, rewriting changes the number; set `steps` for longer",
        ),
        (
            {"settings": {"training": {"epochs": 2, "batch_size": 64}}, "train_counts": (500, 600, 700)},
            "the numbers of training rows before rewriting differ (base 33, longer 1,800)",
        ),
    ],
)
def test_warning_of_unequal_optimizer_steps_names_the_settings_that_differ(tmp_path, of_longer, cause):
    settings = {"training": {"epochs": 2, "batch_size": 64, "budget": "steps"}}
    runs = {
        "base": write_arm(tmp_path, "base", (0.6, 0.5, 0.4), settings=settings),
        "longer": write_arm(tmp_path, "longer", (0.6, 0.5, 0.4), optimizer_steps=4000, **of_longer),
    }
    (warning,) = compared(runs).warnings
    assert warning == f"Unequal numbers of optimizer steps (base 20, longer 4,000): {cause}."


def test_different_environments_are_joined_with_a_warning(tmp_path):
    runs = {
        "base": write_arm(tmp_path, "base", (0.6, 0.5, 0.4)),
        "other": write_arm(tmp_path, "other", (0.6, 0.5, 0.4), environment={"torch": "2.13.0", "device": "cuda"}),
    }
    comparison = compared(runs)
    assert comparison.environment == {"torch": "2.13.0", "device": "cpu | cuda"}
    assert any("they differ in device" in warning for warning in comparison.warnings)


def test_a_distribution_that_only_one_arm_requires_is_no_difference(tmp_path):
    arms = {
        "base": write_arm(tmp_path, "base", (0.6, 0.5, 0.4), environment={"torch": "2.13.0"}),
        "other": write_arm(tmp_path, "other", (0.6, 0.5, 0.4), environment={"torch": "2.13.0", "vendor-noise": "1.0"}),
    }
    comparison = compared(arms)
    assert comparison.environment == {"torch": "2.13.0", "vendor-noise": "1.0"}
    assert not [warning for warning in comparison.warnings if "environments" in warning]


def test_warnings_of_runs_are_not_repeated(tmp_path):
    runs = {name: write_arm(tmp_path, name, (0.6, 0.5, 0.4), warnings=("it is late",)) for name in ("base", "other")}
    comparison = compared(runs, warnings=["first of all", "base and other: it is late"])
    assert comparison.warnings == ("first of all", "base and other: it is late")


# --- watched pairs


def test_pairs_watched_by_a_step_are_counted_in_all_arms(tmp_path):
    pairs = (("bee", "cat"), ("bee", "cat"), ("bee", "dog"))
    step = StepRecord(name="mirror", parameters={}, provider="x 1", source="0" * 64, watched_pairs=pairs)
    runs = {
        "base": write_arm(tmp_path, "base", (0.6, 0.5, 0.4)),
        "other": write_arm(tmp_path, "other", (0.6, 0.5, 0.4), steps=[step]),
    }
    for arm in compared(runs).arms:
        (watched,) = arm.watched
        of_runs = [run.predictions("test") for run in runs[arm.recipe]]
        counts = [((one.labels == 1) & (one.logits.argmax(axis=1) == 2)).sum() for one in of_runs]
        assert (watched.true, watched.predicted) == ("bee", "cat")
        assert_allclose([watched.count.mean, watched.count.sd], [np.mean(counts), np.std(counts, ddof=1)])


def test_default_watched_pair_is_the_most_frequent_confusion_on_the_validation_split(tmp_path):
    labels = labels_of(COUNTS)
    on_validation, on_test = labels.copy(), labels.copy()
    on_validation[:10] = 2
    on_test[40:70] = 0
    of_splits = {"test": predictions(labels, on_test), "validation": predictions(labels, on_validation)}
    runs = {"base": [write_run(tmp_path / "0", record(), of_splits)]}
    (watched,) = compared(runs).arms[0].watched
    assert (watched.true, watched.predicted, watched.count.mean) == ("ant", "cat", 0.0)


def test_no_watched_pair_without_confusions(tmp_path):
    labels = labels_of(COUNTS)
    of_splits = {split: predictions(labels, labels) for split in ("test", "validation")}
    assert compared({"base": [write_run(tmp_path / "0", record(), of_splits)]}).arms[0].watched == ()


# --- the file


def test_a_comparison_survives_writing_and_reading(tmp_path, three_arms):
    names = {"[ 1 ]": three_arms["good"], "[1]": three_arms["same"]}
    comparison = compared(three_arms | names, audit={"blank": 3})
    file = save_comparison(comparison, tmp_path)
    assert read_comparison(tmp_path) == read_comparison(file) == comparison
    written = json.loads(file.read_text())
    assert written["schema_version"] == 2
    assert written["data"]["audit"] == {"blank": 3}
    assert written["versus"][0]["recall"]["ant"]["verdict"] == "better"
    assert set(written["arms"][0]["test"]["macro_f1"]) == {"mean", "sd", "n", "ci95"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"schema_version": 2, "basel', "is not a readable comparison"),
        (b"\xff\xfe", "is not a readable comparison"),
        (b"[]", "is not a readable comparison"),
        (b'{"schema_version": 1}', "baseline: Field required"),
        (b'{"schema_version": 2}', "baseline: Field required"),
    ],
)
def test_a_damaged_comparison_is_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "comparison.json").write_bytes(content)
    with pytest.raises(RunError) as caught:
        read_comparison(tmp_path)
    assert message in str(caught.value)
    assert "comparison.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_comparison_is_refused_with_the_command_that_writes_it(tmp_path):
    with pytest.raises(RunError, match=r"nothing: no such directory; `fer-augment compare … --out .*nothing` creates"):
        read_comparison(tmp_path / "nothing")
    with pytest.raises(RunError, match=r"comparison.json: No such file or directory; `fer-augment compare"):
        read_comparison(tmp_path)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("versus", 0, "recipe"), "nobody", r"versus.0: recipe or baseline is not an arm of the comparison"),
        (("arms", 1, "recipe"), "base", "arms: two arms have the same name"),
        (("class_names",), ["ant", "bee"], "recall: the classes differ from class_names"),
    ],
)
def test_an_inconsistent_comparison_is_refused(tmp_path, three_arms, place, value, message):
    content = json.loads(compared(three_arms).model_dump_json())
    *above, last = place
    functools.reduce(lambda node, key: node[key], above, content)[last] = value
    (tmp_path / "comparison.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=message):
        read_comparison(tmp_path)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="finite"):
        Statistic(mean=float("nan"), sd=None, n=1, ci95=None)
