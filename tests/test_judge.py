"""`fa.judge` and `fer-augment judge`: verdicts for predictions of any trainer."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fer_augment as fa
from fer_augment.errors import PredictionError
from fer_augment.metrics import expected_calibration_error, negative_log_likelihood
from fer_augment.reports.html import report_html
from fer_augment.reports.wording import precision_sentence
from fer_augment.results.comparison import read_comparison
from fer_augment.significance import (
    accuracy_weights,
    balanced_accuracy_weights,
    endpoint_difference,
    fold_differences,
    recall_weights,
)
from tests.command_line import assert_readable, assert_refused, fer_augment
from tests.html_page import parse
from tests.prediction_files import (
    NAMES,
    RECALLS,
    ROWS,
    TRUE,
    columns,
    probabilities_of,
    with_run,
    write_csv,
    write_json_lines,
    write_npz,
    write_parquet,
    write_runs,
)

PATTERN = "{arm}_seed{seed}.csv"
FORMATS = {
    "csv": (write_csv, ".csv"),
    "jsonl": (write_json_lines, ".jsonl"),
    "npz": (write_npz, ".npz"),
    "parquet": (write_parquet, ".parquet"),
}


def judged(files, **more):
    return fa.judge(files, baseline="plain", progress=False, **{"pattern": PATTERN} | more)


def one_table(**more):
    tables = [with_run(columns(arm, seed, **more), arm, seed) for arm in RECALLS for seed in range(3)]
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def correct_of(arm):
    return np.array([probabilities_of(arm, seed, RECALLS[arm]).argmax(axis=1) == TRUE for seed in range(3)])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def comparison(files):
    return judged(files)


# --- the same numbers as the test


def test_differences_are_those_of_the_test(comparison):
    (versus,) = comparison.versus
    plain, good = correct_of("plain"), correct_of("good")
    expected = {"accuracy": accuracy_weights(TRUE, 3), "balanced_accuracy": balanced_accuracy_weights(TRUE, 3)}
    for name, weights in expected.items():
        difference = endpoint_difference(plain, good, TRUE, weights)
        judgment = getattr(versus, name)
        assert (judgment.delta, *judgment.ci95) == pytest.approx((difference.delta, *difference.ci95))
        assert judgment.p == pytest.approx(difference.p)
    for number, name in enumerate(NAMES):
        difference = endpoint_difference(plain, good, TRUE, recall_weights(number, 3))
        assert versus.recall[name].delta == pytest.approx(difference.delta)
    assert versus.balanced_accuracy.verdict == "better"


def test_arms_have_scores_and_no_invented_facts(comparison):
    plain, good = comparison.arms
    assert (plain.recipe, plain.seeds, good.recipe) == ("plain", (0, 1, 2), "good")
    assert plain.test.accuracy.mean == pytest.approx(correct_of("plain").mean())
    assert plain.test.ece.n == plain.test.nll.n == 0, "there are no scores"
    assert (plain.validation, plain.test_deduplicated, plain.parameter_count) == (None, None, None)
    assert (plain.curve, plain.steps, plain.train_counts, plain.training_seconds.n) == ((), (), {}, 0)
    assert comparison.data.counts == {"test": dict(zip(NAMES, np.bincount(TRUE).tolist(), strict=True))}
    assert comparison.environment == {}


@pytest.mark.parametrize("kind", ["prob", "logit"])
def test_scores_give_nll_and_calibration(tmp_path, kind, comparison):
    with_scores = judged(write_runs(tmp_path, scores=kind))
    (arm, _), (plain, _) = with_scores.arms, comparison.arms
    logits = [np.log(probabilities_of("plain", seed, RECALLS["plain"]) + 1e-12) for seed in range(3)]
    assert arm.test.nll.mean == pytest.approx(np.mean([negative_log_likelihood(TRUE, one) for one in logits]), abs=1e-4)
    ece = np.mean([expected_calibration_error(TRUE, one) for one in logits])
    assert arm.test.ece.mean == pytest.approx(ece, abs=1e-3)
    assert arm.test.accuracy == plain.test.accuracy, "the predicted class is the one with the largest score"
    assert with_scores.versus == comparison.versus


# --- one meaning whatever the format, the order of rows, and the number of files


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("scores", ["", "prob"])
def test_every_format_gives_the_same_comparison(tmp_path, name, scores):
    if name == "parquet":
        pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    write, suffix = FORMATS[name]
    expected = fa.judge(one_table(scores=scores), baseline="plain", progress=False)
    result = judged(write_runs(tmp_path, write, suffix, scores=scores), pattern=f"{{arm}}_seed{{seed}}{suffix}")
    assert result.arms == expected.arms and result.versus == expected.versus
    assert result.data.fingerprint == expected.data.fingerprint


def test_scores_name_the_classes_of_an_arm_that_is_never_right():
    tables: list[Any] = [
        {"id": range(4), "true": ["b", "c"] * 2, "arm": [arm] * 4, "seed": [seed] * 4}
        | {f"prob_{name}": [float(name == always)] * 4 for name in "abc"}
        for arm, always in (("x", "b"), ("y", "a")) for seed in range(2)
    ]  # fmt: skip
    assert fa.judge(tables, baseline="x", progress=False).arms[1].test.accuracy.mean == 0


def test_npz_may_have_a_matrix_of_scores(tmp_path):
    for kind in ("probabilities", "logits"):
        for arm in RECALLS:
            for seed in range(3):
                scores = probabilities_of(arm, seed, RECALLS[arm])
                values: dict[str, Any] = {
                    "id": np.arange(ROWS),
                    "true": np.array(NAMES)[TRUE],
                    "classes": np.array(NAMES),
                }
                np.savez(tmp_path / f"{arm}_seed{seed}.npz", **(values | {kind: scores}))
        result = judged(f"{tmp_path}/*.npz", pattern="{arm}_seed{seed}.npz")
        assert result.class_names == NAMES
        assert result.versus[0].accuracy.delta == pytest.approx(correct_of("good").mean() - correct_of("plain").mean())


def test_a_matrix_without_class_names_has_numbered_classes(tmp_path):
    runs: list[Any] = []
    for arm in RECALLS:
        for seed in range(2):
            scores = probabilities_of(arm, seed, RECALLS[arm])
            runs.append({"id": np.arange(ROWS), "true": TRUE, "arm": [arm] * ROWS, "seed": [seed] * ROWS,
                         "probabilities": scores})  # fmt: skip
    assert fa.judge(runs, baseline="plain", progress=False).class_names == ("0", "1", "2")


def test_one_file_may_hold_all_runs(tmp_path, comparison):
    path = write_csv(tmp_path / "all.csv", one_table())
    assert judged(path, pattern=None).versus == comparison.versus


def test_a_data_frame_is_a_table(comparison):
    pandas = pytest.importorskip("pandas", reason="a DataFrame needs pandas")
    frame = pandas.DataFrame(one_table()).rename(columns={"id": "filename", "true": "label"})
    result = fa.judge(frame, baseline="plain", columns={"id": "filename", "true": "label"}, progress=False)
    assert result.versus == comparison.versus


def test_paths_are_ids(comparison):
    table = one_table()
    result = fa.judge(table | {"id": [*map(Path, table["id"])]}, baseline="plain", progress=False)
    assert (result.versus, result.data.fingerprint) == (comparison.versus, comparison.data.fingerprint)


def test_the_order_of_files_and_rows_changes_nothing(files, comparison):
    assert judged(files[::-1]).versus == comparison.versus
    assert judged(files[::-1]).data.fingerprint == comparison.data.fingerprint


def test_classes_are_in_natural_order_and_those_of_scores_in_that_of_the_columns():
    def classes(names, **scores):
        rows = len(names)
        return fa.judge(
            {"id": range(rows), "true": names, "predicted": names, "arm": ["a"] * rows, "seed": [0] * rows, **scores},
            baseline="a", progress=False,
        ).class_names  # fmt: skip

    assert classes(["10", "9", "2"]) == ("2", "9", "10")
    assert classes(["Sad", "Angry"], prob_Sad=[0.5, 0.5], prob_Angry=[0.5, 0.5]) == ("Sad", "Angry")


def test_groups_are_one_image_and_tested_like_those_of_a_comparison():
    groups = np.arange(ROWS) // 2
    table = one_table() | {"group": np.tile(groups, 6)}
    (versus,) = fa.judge(table, baseline="plain", progress=False).versus
    weights = balanced_accuracy_weights(TRUE, 3)
    expected = endpoint_difference(correct_of("plain"), correct_of("good"), TRUE, weights, groups)
    assert versus.balanced_accuracy.delta == pytest.approx(expected.delta)
    assert versus.balanced_accuracy.p == pytest.approx(expected.p)


def test_ties_between_scores_are_drawn_by_image_and_not_by_the_order_of_classes():
    rows = 400
    true = np.array(["a", "b"])[np.arange(rows) % 2]

    def accuracy(seed, ids):
        table = {"id": ids, "true": true, "prob_a": np.full(rows, 0.5), "prob_b": np.full(rows, 0.5),
                 "arm": ["x"] * rows, "seed": [seed] * rows}  # fmt: skip
        return fa.judge(table, baseline="x", progress=False).arms[0].test

    ids = np.arange(rows)
    first = accuracy(0, ids)
    assert 0.4 < first.recall["a"].mean < 0.6 and 0.4 < first.recall["b"].mean < 0.6
    assert accuracy(0, ids) == first and accuracy(1, ids) != first


@pytest.mark.parametrize(
    "names", [("b", "a", "10", "2"), ("Sad", "angry", "fear", "happy", "surprise", "neutral", "disgust")]
)
def test_the_order_of_columns_does_not_change_what_ties_are_drawn(names):
    rows = 400
    true = np.array(names)[np.arange(rows) % len(names)]

    def run(arm, seed, order):
        rng = np.random.default_rng([len(arm), seed])
        scores = {name: rng.integers(0, 3, rows).astype(float) for name in names}
        columns = {f"logit_{name}": scores[name] for name in order}
        return with_run({"id": np.arange(rows), "true": true, **columns}, arm, seed)

    tables = [run(arm, seed, names if seed else names[::-1]) for arm in ("plain", "good") for seed in range(2)]
    result, of_reversed = (fa.judge(one, baseline="plain", progress=False) for one in (tables, tables[::-1]))
    assert result.class_names == names[::-1] and of_reversed.class_names == names
    assert result.versus[0].balanced_accuracy.delta == pytest.approx(of_reversed.versus[0].balanced_accuracy.delta)
    for arm in ("plain", "good"):
        one, other = result.arm(arm), of_reversed.arm(arm)
        assert one.test.recall == other.test.recall
        assert one.ensemble.recall == other.ensemble.recall


def test_one_run_gives_no_verdict():
    table = one_table()
    kept = table["seed"] == 0
    result = fa.judge({name: column[kept] for name, column in table.items()}, baseline="plain", progress=False)
    assert result.versus[0].balanced_accuracy.verdict == "not tested (one run)"
    assert any("Only one run" in warning for warning in result.warnings)


def test_identical_predictions_of_two_seeds_are_named():
    table = one_table()
    copied = {name: np.concatenate([column, column[:ROWS]]) for name, column in table.items()}
    copied["seed"] = np.concatenate([table["seed"], np.full(ROWS, 9)])
    result = fa.judge(copied, baseline="plain", progress=False)
    assert any("plain: the predictions of seeds 0 and 9 are identical" in warning for warning in result.warnings)


def test_a_true_class_with_probability_zero_is_named():
    table = one_table(scores="prob")
    table["prob_ant"][0], table["prob_bee"][0], table["prob_cat"][0] = [float(TRUE[0] != n) / 2 for n in range(3)]
    result = fa.judge(table, baseline="plain", progress=False)
    assert any("plain: a true class has probability 0" in warning for warning in result.warnings)
    assert result.arms[0].test.nll.n == 2


def test_precision_that_is_unknown_has_no_hint_at_options_that_judge_lacks(comparison):
    unknown = comparison.model_copy(update={"seeds_for_precision": {"5": 9}})
    assert precision_sentence(unknown).endswith("the seeds for ± 3, ± 2 and ± 1 are unknown.")


# --- what is written


def test_results_are_written_and_read_back(tmp_path, files):
    out = tmp_path / "out"
    result = judged(files, out=out)
    assert fa.load_comparison(out).versus == result.versus
    assert result.directory == out and {path.name for path in out.iterdir()} == {"comparison.json", "report.html"}
    with pytest.raises(fa.RunError, match="predictions has no runs"):
        result.runs  # noqa: B018 # the property raises


def test_the_report_has_the_sections_that_predictions_allow(tmp_path, files):
    judged(files, out=tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    sections = [one.attributes["id"] for one in parse(html).find("section")]
    assert sections == ["verdict", "recall", "scores", "confusion"]
    assert "run directories" not in html and "No description" not in html
    assert fer_augment("report", str(tmp_path), "--format", "html").code == 0
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html


def test_a_comparison_of_other_predictions_is_kept(tmp_path, files):
    judged(files, out=tmp_path)
    before = (tmp_path / "comparison.json").read_bytes()
    judged(files, out=tmp_path)
    assert not (tmp_path / "earlier").exists(), "the same predictions again"
    judged(files[:2] + files[3:5], out=tmp_path)
    (kept,) = (tmp_path / "earlier").glob("*/comparison.json")
    assert kept.read_bytes() == before


# --- one line for everything that is wrong


def refused(message, predictions, **more):
    settings: dict[str, Any] = {"baseline": "plain", "progress": False} | more
    with pytest.raises(PredictionError) as caught:
        fa.judge(predictions, **settings)
    text = str(caught.value)
    assert message in text and text.isprintable() and len(text) < 600, text


def changed(tmp_path, change, *, suffix=".csv", **more):
    """Write two runs, the second one changed, and return the files."""
    first, second = with_run(columns(**more), "plain", 0), with_run(columns(**more), "plain", 1)
    change(second)
    write = FORMATS[suffix[1:]][0]
    return [write(tmp_path / f"a{suffix}", first), write(tmp_path / f"b{suffix}", second)]


def cut(values, row):
    for column in values.values():
        del column[row]


def test_a_missing_image_is_named(tmp_path):
    refused("b.csv: image '3.png' of ", changed(tmp_path, lambda values: cut(values, 3)))


def test_an_additional_image_is_named(tmp_path):
    def add(values):
        for column in values.values():
            column.append(column[-1])
        values["id"][-1] = "new.png"

    refused("b.csv: line 122: image 'new.png' is not in ", changed(tmp_path, add))


def test_another_label_is_named(tmp_path):
    def relabel(values):
        values["true"][5] = "dog"

    refused("b.csv: line 7: image '5.png' is labeled 'dog', but ", changed(tmp_path, relabel))


def test_a_repeated_image_is_named(tmp_path):
    def repeat(values):
        values["id"][5] = "4.png"

    refused("b.csv: line 6 already; keep one row per image", changed(tmp_path, repeat))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".npz", ".parquet"])
def test_a_score_that_is_not_finite_is_named(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="parquet needs pyarrow")

    def damage(values):
        values["prob_bee"][2] = float("nan")

    place = {".csv": "line 4", ".jsonl": "line 3"}.get(suffix, "row 2")
    files = changed(tmp_path, damage, suffix=suffix, scores="prob")
    refused(f"b{suffix}: {place}: prob_bee is nan, not a finite number", files)


def test_probabilities_must_be_probabilities(tmp_path):
    def scale(values):
        values["prob_bee"][2] = 0.9
        values["prob_ant"][2] = 0.9

    def negative(values):
        values["prob_bee"][2] = -1.0

    refused("b.csv: line 4: the probabilities sum to ", changed(tmp_path, scale, scores="prob"))
    refused("name the columns logit_CLASS", changed(tmp_path, scale, scores="prob"))
    refused("b.csv: line 4: prob_bee is -1, not a probability", changed(tmp_path, negative, scores="prob"))


def test_a_score_that_is_no_number_is_named(tmp_path):
    def damage(values):
        values["prob_bee"][2] = "high"

    refused("b.csv: line 4: prob_bee is not a number ('high')", changed(tmp_path, damage, scores="prob"))


def test_a_missing_value_is_named(tmp_path):
    def empty(values):
        values["predicted"][2] = ""

    refused("b.csv: line 4: no value for 'predicted'", changed(tmp_path, empty))


class NotAvailable:
    """A missing value as that of pandas: its comparison with itself has no truth value."""

    def __ne__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


def test_a_missing_value_in_a_table_is_named():
    table = one_table()
    predicted = table["predicted"].astype(object)
    for missing in (None, float("nan"), np.datetime64("NaT"), NotAvailable()):
        predicted[2] = missing
        refused("table 1: row 2: no value for 'predicted'", table | {"predicted": predicted})


def test_a_missing_value_of_pandas_is_named(comparison):
    pandas = pytest.importorskip("pandas", reason="a DataFrame needs pandas")
    frame = pandas.DataFrame(one_table()).convert_dtypes()
    assert fa.judge(frame, baseline="plain", progress=False).versus == comparison.versus
    for column in ("id", "predicted", "seed"):
        changed_frame = frame.copy()
        changed_frame.loc[2, column] = pandas.NA
        refused(f"table 1: row 2: no value for {column!r}", changed_frame)


def test_one_file_or_one_run_given_twice_is_refused(tmp_path, files):
    refused("plain_seed0.csv: is given twice", [files[0], files[0]], pattern=PATTERN)
    copy = tmp_path / "copy" / files[0].name
    copy.parent.mkdir()
    copy.write_bytes(files[0].read_bytes())
    refused("seed 0 of plain is in ", [files[0], copy], pattern=PATTERN)


def test_a_class_without_a_score_is_named(tmp_path):
    def relabel(values):
        values["true"][0] = "dog"

    refused(
        "b.csv: line 2: the scores have no class 'dog', only ant, bee, cat", changed(tmp_path, relabel, scores="prob")
    )


def test_a_class_that_scores_of_another_file_lack_is_named():
    scored, plain = with_run(columns(scores="prob"), "plain", 0), with_run(columns(), "plain", 1)
    plain["predicted"][3] = "dog"
    refused("table 2: row 3: 'dog' is not a class of the scores in table 1", [scored, plain])


def test_other_groups_are_named():
    first, second = (with_run(columns(), "plain", seed) | {"group": list(range(ROWS))} for seed in (0, 1))
    second["group"][4] = 3
    refused("table 2: row 4: image '4.png' is in another group than in table 1: row 4", [first, second])


def test_missing_columns_are_named_with_what_to_type(files):
    values = with_run(columns(), "plain", 0)
    values["label"] = values.pop("true")
    refused("no column 'true' among ", values)
    refused("choose one: --column true=label", values)
    refused("--pattern '{arm}_seed{seed}.csv'", files)
    refused("no column 'arm' or 'seed' among", files)
    refused("no column 'id', 'arm', 'seed' or 'predicted' among true, x", {"true": ["a"], "x": ["a"]})
    refused("choose them: --column id=name --column true=NAME --column arm=NAME --column seed=NAME", {"name": [1]})
    refused("no column 'predicted'", {"id": [1], "true": ["a"], "arm": ["plain"], "seed": [0]})


def test_settings_that_fit_nothing_are_refused(files, tmp_path):
    refused("there is no role 'tru'; did you mean 'true'?", files, columns={"tru": "x"}, pattern=PATTERN)
    refused("no column 'lable'", files, columns={"true": "lable"}, pattern=PATTERN)
    refused("the name does not match the pattern '{arm}.npz'", files, pattern="{arm}.npz")
    refused(f"correct one of them, or give only files such as {files[0].parent}/*.npz", files, pattern="{arm}.npz")
    refused("may contain each of {arm}, {seed}, {fold} once", files, pattern="{arm}_{sed}.csv")
    for pattern in ("{arm}{seed}.csv", "{arm}_{seed}{fold}.csv", "{arm}0{seed}.csv"):
        refused("write a separator between, such as {arm}_{seed}, or give arm and seed", files, pattern=pattern)
    refused("baseline: there is no arm 'plian'; did you mean 'plain'?", files, baseline="plian", pattern=PATTERN)
    both = write_csv(tmp_path / "plain_seed7.csv", with_run(columns(), "plain", 7))
    refused("arm is in the name of the file and in the column 'arm'", both, pattern=PATTERN)


def test_spaces_around_a_value_in_the_name_of_a_file_are_removed_as_in_a_column(tmp_path):
    files = write_runs(tmp_path)
    expected = [arm.recipe for arm in judged(files).arms]
    spaced = files[0].rename(files[0].with_name(f" {files[0].name}"))
    assert [arm.recipe for arm in judged([spaced, *files[1:]]).arms] == expected
    empty = spaced.rename(spaced.with_name("  _seed0.csv"))
    refused("_seed0.csv: the arm in its name is empty", [empty, *files[1:]], pattern=PATTERN)


def test_a_comparison_of_predictions_has_no_runs(comparison):
    assert not hasattr(comparison, "runs")
    with pytest.raises(fa.RunError, match="a comparison of predictions has no runs"):
        _ = comparison.runs


def test_names_of_files_may_be_patterns(files):
    folder = files[0].parent
    refused("is a folder; name its files, such as ", folder)
    refused("no file matches this pattern", f"{folder}/*.jsonl")
    refused("no such file or folder", folder / "plain_seed00.csv")
    refused("not a file of predictions; expected .csv", write_csv(folder / "x.txt", columns()))
    refused("no predictions given", [])


def in_folds(arm, seed, *, folds=5, groups=None):
    """Return the columns of a repeat."""
    of_group = np.random.default_rng(seed).integers(0, folds, ROWS)
    return with_run(columns(arm, seed), arm, seed) | {"fold": of_group[np.arange(ROWS) if groups is None else groups]}


def test_folds_are_tested_as_a_cross_validation(tmp_path):
    repeats = [in_folds(arm, seed) for arm in RECALLS for seed in range(2)]
    result = fa.judge(repeats, baseline="plain", progress=False)
    (versus,) = result.versus
    correct = [correct_of(arm)[:2] for arm in ("plain", "good")]
    folds = np.stack([in_folds("plain", seed)["fold"] for seed in range(2)])
    weights = np.array([balanced_accuracy_weights(TRUE, 3)])
    ((expected,),) = fold_differences(correct[0], correct[1:], TRUE, folds, weights)
    assert versus.balanced_accuracy.delta == pytest.approx(expected.delta)
    assert versus.balanced_accuracy.ci95 == pytest.approx(expected.ci95)
    assert versus.balanced_accuracy.p == pytest.approx(expected.p)
    assert (result.cross_validation.folds, result.cross_validation.repeats) == (5, 2)
    assert "5-fold cross-validation" in str(result) and "n = 2 repeats each" in str(result)
    html = report_html(result, tmp_path)
    assert "images per repeat, " in html and "images per run" not in html


def test_one_repeat_has_a_verdict_and_its_folds_may_be_in_several_files(tmp_path):
    for arm in RECALLS:
        values = in_folds(arm, 0)
        for fold in range(5):
            kept = np.flatnonzero(values["fold"] == fold)
            part = {name: np.asarray(values[name])[kept] for name in ("id", "true", "predicted")}
            write_npz(tmp_path / f"{arm}_0_{fold}.npz", part)
    result = judged(f"{tmp_path}/*.npz", pattern="{arm}_{seed}_{fold}.npz", out=tmp_path / "out")
    whole = fa.judge([in_folds(arm, 0) for arm in RECALLS], baseline="plain", progress=False)
    assert result.versus == whole.versus
    assert result.versus[0].balanced_accuracy.verdict == "better"
    assert fa.load_comparison(tmp_path / "out").versus == result.versus
    (tmp_path / "good_0_4.npz").unlink()  # the first arm
    refused("is not in ", f"{tmp_path}/*.npz", pattern="{arm}_{seed}_{fold}.npz")


def test_different_repeats_are_named_and_only_shared_ones_counted():
    repeats = [in_folds("plain", 0), in_folds("plain", 1), in_folds("good", 1), in_folds("good", 2)]
    result = fa.judge(repeats, baseline="plain", progress=False)
    assert result.versus == fa.judge(repeats[1:3], baseline="plain", progress=False).versus
    different = "Different repeats: two arms are tested on the repeats that both have (with plain: good 1)."
    assert different in result.warnings
    assert "n = 2 repeats each, tested on the 1 that both have" in str(result)
    unequal = fa.judge(repeats[:3], baseline="plain", progress=False)
    assert any(one.startswith("Unequal numbers of repeats (plain 2, good 1): two arms") for one in unequal.warnings)
    assert "n = 1 repeat (baseline 2), tested on the 1 that both have" in str(unequal)


def test_a_class_in_one_group_of_a_cross_validation_is_named():
    values = [in_folds(arm, 0) for arm in RECALLS]
    for one in values:
        one["true"][3] = "dog"
    result = fa.judge(values, baseline="plain", progress=False)
    assert result.versus[0].balanced_accuracy.verdict == "not testable"
    (warning,) = [one for one in result.warnings if "dog" in one]
    assert warning.startswith("Only one image, or one group of images, of dog: ") and "not testable" in warning


def test_wrong_folds_are_named():
    plain, good = in_folds("plain", 0), in_folds("good", 0)
    other = good | {"fold": (good["fold"] + 1) % 5}
    refused("table 2: row 0: image '0.png' is in another fold than in table 1: row 0; all arms need", [plain, other])
    refused("table 2: no fold, but table 1 has", [plain, with_run(columns("good"), "good", 0)])
    refused("at least two; seed 0 has 1", plain | {"fold": [0] * ROWS})
    refused("at least two; seed 0 has 5, seed 1 has 4", [plain, in_folds("plain", 1, folds=4)])
    refused("of the same group; keep groups in one fold", plain | {"group": np.arange(ROWS) // 2})
    groups = np.arange(ROWS) // 2
    kept = in_folds("plain", 0, groups=groups) | {"group": groups}
    assert fa.judge(kept, baseline="plain", progress=False).cross_validation.repeats == 1
    refused("table 2: row 0: the same fold of seed 0 of plain is in table 1 already", [plain, plain])
    without = with_run(columns("plain"), "plain", 0)
    refused("table 2: no fold of seed 0 of plain, but table 1 has one; give all one", [plain, without])
    refused("table 1: no fold of seed 0 of plain, but table 2 has one; give all one", [without, plain])


def test_a_group_in_some_folds_only_is_refused(tmp_path):
    values = in_folds("plain", 0, groups=np.arange(ROWS))
    for fold in range(5):
        kept = np.flatnonzero(values["fold"] == fold)
        part = {name: np.asarray(values[name])[kept] for name in ("id", "true", "predicted")}
        write_npz(tmp_path / f"plain_0_{fold}.npz", part | ({"group": kept} if fold else {}))
    refused("plain_0_0.npz: no group, but", f"{tmp_path}/*.npz", pattern="{arm}_{seed}_{fold}.npz")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_classes_that_are_written_in_two_ways_are_refused(tmp_path, suffix):
    number_of = {name: number for number, name in enumerate(sorted({*columns()["true"]}))}

    def by_number(values):
        values["predicted"] = [f"{number_of[name]}.0" for name in values["predicted"]]

    files = changed(tmp_path, by_number, suffix=suffix)
    refused("; write both alike, as names or as numbers", files)


def test_scores_in_another_order_than_the_predicted_classes_are_refused():
    names = [f"prob_{name}" for name in NAMES]
    values = columns(scores="prob") | {"predicted": columns()["predicted"]}
    shifted = values | {name: values[names[place - 1]] for place, name in enumerate(names)}
    refused(f"of {ROWS} rows the predicted class does not have the largest score", with_run(shifted, "plain", 0))


@pytest.mark.parametrize("predictions", [None, 5, [5], [[1, 2]]])
def test_what_is_neither_a_file_nor_columns_is_refused(predictions):
    refused("predictions must be files, or columns by name such as a DataFrame, not ", predictions)


def test_columns_that_are_no_arrays_are_refused():
    refused("table 1: true cannot be an array (", columns() | {"true": [[1], [1, 2]]})
    with_gradient = torch.zeros(ROWS, len(NAMES), requires_grad=True)
    refused("probabilities cannot be an array (", {"id": range(ROWS), "true": TRUE, "probabilities": with_gradient})


def test_scores_of_some_runs_only_are_said():
    runs = [with_run(columns(scores="prob"), "plain", 0), with_run(columns("good", scores="prob"), "good", 0)]
    runs += [with_run(columns(), "plain", 1), with_run(columns("good", 1, scores="prob"), "good", 1)]
    said = [line for line in fa.judge(runs, baseline="plain", progress=False).warnings if "have scores" in line]
    assert said == ["plain: 1 of 2 runs have scores; NLL and ECE are those of these alone."]


def test_seeds_are_numbers():
    refused("row 0: seed is 'first'; expected a number from 0", with_run(columns(), "plain", "first"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"id,true,predicted,arm,seed\n", "has no rows"),
        (b"id,true,predicted,arm,seed\n1,a\n", "line 2: 2 fields, but there are 5 columns"),
        (b"id,id,true\n1,2,3\n", "several columns 'id'"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (b'id,true,predicted,arm,seed\n"1,a,b,c,0\n', "line 2: unexpected end of data"),
    ],
)
def test_damaged_csv_files_are_refused(tmp_path, content, message):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    refused(message, path)


def npy_file() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(100))
    return file.getvalue()


def deflated(content: bytes, flipped: int | None = None) -> bytes:
    """Return an archive with one compressed array, one byte of which may be flipped."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("id.npy", content)
    damaged = bytearray(file.getvalue())
    if flipped is not None:
        damaged[flipped] ^= 255
    return bytes(damaged)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b"[1]\n", "line 1: expected an object"),
        ("x.jsonl", b'{"id": 1, "true": 1, "predicted": 1, "arm": "a", "seed": 0}\n{"id" 2}\n', "line 2: not JSON"),
        ("x.jsonl", b'{"id": 1, "true": 1, "predicted": 1, "arm": "a", "seed": 0}\n{"id": 2}\n', "line 2: other keys"),
        ("x.npz", b"PK\3\4 not a zip", "not readable"),
        ("x.npz", npy_file(), "not readable (not an npz file); save columns by name"),
        ("x.npz", b"id,true,predicted,arm,seed\n1,a,a,x,0\n", "not readable (not an npz file); save columns by name"),
        ("x.npz", deflated(b"\x93NUMPY\x01\x00\x10\x00{'descr': '<i8'(  \n"), "not readable ("),
        ("x.npz", deflated(npy_file(), flipped=90), "not readable ("),
        (
            "x.jsonl",
            b'{"id": 1, "true": "a", "prob_a": [0.9], "prob_b": [0.1], "arm": "a", "seed": 0}\n',
            "line 1: prob_a is not a number ('[0.9]')",
        ),
        (
            "x.jsonl",
            b'{"id": 1, "true": "a", "prob_a": 0.9, "prob_b": [0.1, 2], "arm": "a", "seed": 0}\n',
            "line 1: prob_b is not a number",
        ),
        (
            "x.jsonl",
            b'{"id": 1, "true": "\\ud83d", "predicted": "a", "arm": "a", "seed": 0}\n',
            "line 1: true has half of a character, \\ud83d",
        ),
        (
            "x.jsonl",
            b'{"id": 1, "true": "a", "predicted": "a", "arm": "\\ud83d", "seed": 0}\n',
            "line 1: arm has half of a character, \\ud83d",
        ),
        (
            "x.jsonl",
            b'{"id": 1, "true": "a", "prob_a": 1, "prob_\\ud83d": 0, "arm": "a", "seed": 0}\n',
            "has half of a character, \\ud83d",
        ),
        (
            "x.jsonl",
            b'{"id": ["1"], "true": "a", "predicted": "a", "arm": "a", "seed": 0}\n',
            "line 1: no value for 'id'; write text or a number",
        ),
        ("x.parquet", b"PAR1 nothing", "not a readable parquet file"),
    ],
)
def test_other_damaged_files_are_refused(tmp_path, name, content, message):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    path = tmp_path / name
    path.write_bytes(content)
    refused(message, path)


def test_scores_that_are_no_numbers_are_refused_by_column(tmp_path):
    scores = {"prob_a": np.full(4, 0.5), "prob_b": np.full(4, 0.5)}
    columns: dict[str, Any] = {"id": np.arange(4), "true": ["a", "b"] * 2, "arm": ["x"] * 4, "seed": [0] * 4} | scores
    for dtype in ("complex128", "datetime64[s]", "timedelta64[s]", [("x", float)]):
        wrong = np.zeros(4, dtype)
        np.savez(tmp_path / "x.npz", **columns | {"prob_b": wrong})
        refused(f"x.npz: prob_b is not a number (dtype {wrong.dtype})", tmp_path / "x.npz")
    huge = np.array([10**400] * 4, dtype=object)
    refused("table 1: prob_b is not a number (int too large to convert to float)", columns | {"prob_b": huge})
    parquet = pytest.importorskip("pyarrow.parquet", reason="parquet needs pyarrow")
    import pyarrow

    parquet.write_table(pyarrow.table(columns | {"prob_b": [[0.5]] * 4}), tmp_path / "x.parquet")
    refused("x.parquet: prob_b is not a number", tmp_path / "x.parquet")


@pytest.mark.parametrize("empty", ["", " ", None, float("nan")])
def test_a_class_of_a_matrix_without_a_name_is_refused(empty):
    table = {"id": range(4), "true": ["a", "b"] * 2, "arm": ["x"] * 4, "seed": [0] * 4, "logits": np.eye(4)[:, :3]}
    names = np.array(["a", "b", empty], dtype=object)
    refused("table 1: classes: name 2 is empty; write a name for each class", table | {"classes": names})


def test_a_class_name_may_have_a_line_break():
    names = np.array(["a", "b\nc", "d"])
    columns = {"id": range(6), "true": names[np.arange(6) % 3], "arm": ["x"] * 6, "seed": [0] * 6, "classes": names}
    table: dict[str, Any] = dict(columns)
    result = fa.judge(table | {"logits": np.eye(3)[np.arange(6) % 3]}, baseline="x", progress=False)
    assert result.class_names == tuple(names) and result.arms[0].test.recall["b\nc"].mean == 1


def test_pickles_are_not_loaded(tmp_path):
    np.savez(tmp_path / "x.npz", id=np.array(["a", None], dtype=object))
    refused("an array of Python objects; save it with dtype str", tmp_path / "x.npz")


# --- the command line


def test_the_terminal_output_is_readable(files, tmp_path):
    ran = fer_augment("judge", *map(str, files), "--baseline", "plain", "--pattern", PATTERN, "--out", str(tmp_path))
    assert ran.code == 0, ran
    assert_readable(ran)
    assert "good is better than plain" in ran.out
    assert f"Results are in {tmp_path}; open {tmp_path}/report.html" in ran.err
    assert read_comparison(tmp_path).baseline == "plain"


def test_formats_and_columns(files, tmp_path, comparison):
    values = with_run(columns("plain", 0), "plain", 0)
    values["label"] = values.pop("true")
    path = write_csv(tmp_path / "a.csv", values | {"note": ["x"] * ROWS})
    ran = fer_augment("judge", str(path), "--baseline", "plain", "--column", "true=label", "--json")
    assert ran.code == 0 and json.loads(ran.out)["baseline"] == "plain"
    assert ran.err == "warning: columns without a role, not used: note\n"
    assert fer_augment("judge", str(path), "--baseline", "plain", "--column", "true=label", "-q").err == ""
    named = ["judge", *map(str, files), "--baseline", "plain", "--pattern", PATTERN, "--format"]
    assert fer_augment(*named, "csv").out.startswith("split,arm,score")
    github = fer_augment(*named, "github").out
    assert github.startswith("### predictions in 6 files: 3 classes, 120 test images\n\n**") is False
    assert "| class | images | baseline | arm |" in github and "<details>" in github


def test_worse_is_an_exit_status(files):
    named = ["judge", *map(str, files), "--pattern", PATTERN, "--fail-on", "worse", "--baseline"]
    assert fer_augment(*named, "plain").code == 0
    ran = fer_augment(*named, "good")
    assert ran.code == 3
    assert "worse: plain in balanced accuracy (-" in ran.err and "plain in recall of " in ran.err


def test_an_arm_without_a_verdict_is_an_exit_status_if_worse_arms_are(files, tmp_path):
    def ran(*paths, baseline="plain"):
        named = "--pattern", PATTERN, "--fail-on", "worse", "--baseline", baseline
        return fer_augment("judge", *map(str, paths), *named, "-q")

    alone, one_run = ran(*files[:3]), ran(*files[:4])
    assert (alone.code, alone.err) == (2, "no verdict for --fail-on: there is no arm to test against plain\n")
    assert (one_run.code, one_run.err) == (2, "no verdict for --fail-on: good is not tested (one run)\n")
    assert "good vs. plain: not tested (one run)" in one_run.out, "the results are printed all the same"
    other = write_csv(tmp_path / "other_seed0.csv", columns())
    worse = ran(*files, other, baseline="good")
    assert worse.code == 3 and worse.err.startswith("worse: plain in balanced accuracy")
    repeats = [in_folds(arm, 0) for arm in RECALLS]
    for number, values in enumerate(repeats):
        values["true"][3] = "dog"
        write_csv(tmp_path / f"{number}.csv", values)
    untestable = fer_augment(
        "judge", *(str(tmp_path / f"{n}.csv") for n in (0, 1)), "--baseline", "plain", "--fail-on", "worse", "-q"
    )
    assert (untestable.code, untestable.err) == (2, "no verdict for --fail-on: good is not testable\n")


def test_bad_input_is_one_line_with_exit_code_2(files):
    ran = fer_augment("judge", str(files[0]), "--baseline", "plian", "--pattern", PATTERN)
    assert_refused(ran, "baseline: ", "did you mean 'plain'?")
    ran = fer_augment("judge", str(files[0]), "--baseline", "plain", "--column", "true")
    assert ran.code == 2 and "expected ROLE=NAME" in ran.err


def test_no_torch_is_imported(files):
    program = (
        f"from fer_augment.cli import main; main(['judge', *{[str(file) for file in files]!r}, '--baseline', 'plain', "
        f"'--pattern', {PATTERN!r}, '--json']); "
        "import sys; sys.exit(sorted({'torch', 'albumentations', 'scipy.stats', 'pandas', 'cv2'} & {*sys.modules}))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.stderr.strip() == "[]"
