"""`comparison_frame`: a comparison as a tidy pandas DataFrame."""

from __future__ import annotations

import csv
import io
import subprocess
import sys

import numpy as np
import pandas
import pytest
from numpy.testing import assert_array_equal

from fer_augment.errors import FerAugmentError
from fer_augment.reports.tables import csv_table
from fer_augment.results.comparison import ComparisonRecord
from fer_augment.results.frame import COLUMNS, comparison_frame
from tests.comparison_directory import write_comparison

TESTED = ["delta", "delta_ci95_low", "delta_ci95_high", "p", "p_adjusted", "verdict", "detectable"]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory) -> ComparisonRecord:
    return write_comparison(tmp_path_factory.mktemp("comparison"))


@pytest.fixture(scope="module")
def frame(comparison) -> pandas.DataFrame:
    return comparison_frame(comparison)


def row_of(frame, arm, split, endpoint, class_name=None):
    """Return the only row with these values."""
    is_class = frame["class"].isna() if class_name is None else frame["class"] == class_name
    (row,) = frame[
        (frame["arm"] == arm) & (frame["split"] == split) & (frame["endpoint"] == endpoint) & is_class
    ].to_dict("records")
    return row


def test_one_row_per_arm_split_endpoint_and_class(frame):
    assert list(frame) == list(COLUMNS)
    assert len(frame) == 3 * 2 * (2 + 3)
    assert not frame.duplicated(["arm", "split", "endpoint", "class"]).any()
    assert list(frame["arm"].unique()) == ["base", "good", "same"]
    assert list(frame["split"].unique()) == ["test", "test_deduplicated"]
    assert (frame["class"].notna() == (frame["endpoint"] == "recall")).all()


def test_dtypes(frame):
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == COLUMNS
    assert isinstance(frame["class"].dtype, pandas.StringDtype)


@pytest.mark.parametrize("split", ["test", "test_deduplicated"])
def test_values_are_those_of_the_comparison(frame, comparison, split):
    for versus in comparison.versus:
        judgments = versus if split == "test" else versus.test_deduplicated
        scores, of_baseline = (
            arm.test if split == "test" else arm.test_deduplicated
            for arm in (comparison.arm(versus.recipe), comparison.arm("base"))
        )
        places = [
            (("accuracy",), judgments.accuracy, scores.accuracy, of_baseline.accuracy),
            (
                ("balanced_accuracy",),
                judgments.balanced_accuracy,
                scores.balanced_accuracy,
                of_baseline.balanced_accuracy,
            ),
            *(
                (("recall", name), judgments.recall[name], scores.recall[name], of_baseline.recall[name])
                for name in comparison.class_names
            ),
        ]
        for key, judgment, score, baseline_score in places:
            row = row_of(frame, versus.recipe, split, *key)
            assert (row["baseline"], row["n"]) == ("base", 3)
            assert (row["arm_mean"], row["arm_sd"], row["baseline_mean"]) == (
                score.mean,
                score.sd,
                baseline_score.mean,
            )
            assert tuple(row[name] for name in TESTED) == (
                judgment.delta,
                *judgment.ci95,
                judgment.p,
                judgment.p_adjusted,
                str(judgment.verdict),
                judgment.detectable,
            )
            counts = comparison.data.counts[split]
            assert row["rows"] == (counts[key[1]] if len(key) == 2 else sum(counts.values()))


def test_differences_have_the_names_and_values_of_the_csv_table(frame, comparison):
    table = {
        (row["arm"], row["split"], row["score"], row["class"]): row
        for row in csv.DictReader(io.StringIO(csv_table(comparison)))
    }
    tested = frame.dropna(subset=["delta"]).to_dict("records")
    assert len(tested) == 2 * 2 * (2 + 3)
    for row in tested:
        class_name = row["class"] if row["endpoint"] == "recall" else ""
        of_table = table[row["arm"], row["split"], row["endpoint"], class_name]
        assert [str(row[name]) for name in TESTED] == [of_table[name] for name in TESTED]


def test_rows_of_the_baseline_have_scores_but_no_test(frame, comparison):
    rows = frame[frame["arm"] == "base"]
    assert len(rows) == 2 * (2 + 3)
    assert rows[TESTED].isna().all(axis=None)
    assert_array_equal(rows["arm_mean"], rows["baseline_mean"])
    row = row_of(frame, "base", "test", "recall", "bee")
    assert (row["arm_mean"], row["arm_sd"]) == (
        comparison.arms[0].test.recall["bee"].mean,
        comparison.arms[0].test.recall["bee"].sd,
    )


def test_without_a_finished_baseline_nothing_is_tested(comparison):
    frame = comparison_frame(comparison.model_copy(update={"arms": comparison.arms[1:], "versus": ()}))
    assert list(frame["arm"].unique()) == ["good", "same"]
    assert (frame["baseline"] == "base").all()
    assert frame[["baseline_mean", *TESTED]].isna().all(axis=None)
    assert frame["arm_mean"].notna().all()


def test_one_run_has_a_difference_without_p(tmp_path):
    frame = comparison_frame(write_comparison(tmp_path, seeds=(0,)))
    row = row_of(frame, "good", "test", "balanced_accuracy")
    assert row["delta"] == pytest.approx(row["arm_mean"] - row["baseline_mean"])
    assert np.isnan([row["p"], row["p_adjusted"], row["delta_ci95_low"], row["detectable"], row["arm_sd"]]).all()
    assert (row["verdict"], row["n"]) == ("not tested (one run)", 1)


def test_a_class_without_rows_has_missing_scores(tmp_path):
    frame = comparison_frame(write_comparison(tmp_path, counts=(60, 40, 0), duplicates=()))
    row = row_of(frame, "good", "test", "recall", "cat")
    assert np.isnan([row["arm_mean"], row["baseline_mean"], row["delta"]]).all()
    assert (row["verdict"], row["rows"]) == ("not testable", 0)


def test_an_empty_deduplicated_split_has_no_rows(tmp_path):
    comparison = write_comparison(tmp_path, duplicates=range(120))
    assert set(comparison_frame(comparison)["split"]) == {"test"}


def test_missing_pandas_is_an_error_with_the_extra(comparison, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(FerAugmentError) as caught:
        comparison_frame(comparison)
    assert str(caught.value) == "pandas is not installed; pip install 'fer_augment[pandas]'"


def test_the_module_imports_neither_pandas_nor_torch():
    code = "import sys, fer_augment.results.frame; sys.exit(sorted({'pandas', 'torch'} & {*sys.modules}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0 or ran.stderr.strip() == "[]", ran.stderr
