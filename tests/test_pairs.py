"""Tests of every two arms: Holm's correction over all pairs, groups without evidence of a difference, the chart."""

from __future__ import annotations

import csv
import io
import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fer_augment as fa
from fer_augment.errors import FerAugmentError, PredictionError
from fer_augment.finished import Comparison
from fer_augment.reports.grids import comparison_grids
from fer_augment.reports.html import SECTIONS, report_html
from fer_augment.reports.pairs import _groups, pair_grids, ranking, ranking_chart
from fer_augment.reports.tables import csv_table, github_summary, markdown
from fer_augment.results.comparison import ComparisonRecord, read_comparison
from fer_augment.results.frame import comparison_frame
from fer_augment.results.verdicts import compare_runs
from fer_augment.significance import Verdict, balanced_accuracy_weights, endpoint_difference, holm
from tests.command_line import fer_augment
from tests.html_page import parse
from tests.synthetic_runs import counts_by_split, labels_of, write_arm

COUNTS = (60, 50, 40)
RECALLS = {"base": (0.5, 0.5, 0.5), "twin": (0.52, 0.5, 0.5), "good": (0.75, 0.7, 0.75), "best": (0.97, 0.95, 0.95)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {arm: write_arm(folder, arm, recall, counts=COUNTS) for arm, recall in RECALLS.items()}


def compared(runs, against="all", **more) -> ComparisonRecord:
    facts = {"source": "demo", "fingerprint": "f" * 64, "counts": counts_by_split(COUNTS)}
    return compare_runs(runs, baseline="base", against=against, **facts | more)


@pytest.fixture(scope="module")
def comparison(runs):
    return compared(runs)


def test_every_two_arms_are_tested_once_with_holm_over_all_pairs(runs, comparison):
    labels = labels_of(COUNTS)
    weights = balanced_accuracy_weights(labels, 3)
    correct = {
        arm: np.array([(one := run.predictions("test")).logits.argmax(axis=1) == one.labels for run in of_arm])
        for arm, of_arm in runs.items()
    }
    pairs = list(itertools.combinations(RECALLS, 2))
    assert [(one.baseline, one.recipe) for one in comparison.tests] == pairs
    expected = [endpoint_difference(correct[a], correct[b], labels, weights) for a, b in pairs]
    adjusted = holm([one.p for one in expected])
    for one, difference, p_adjusted in zip(comparison.tests, expected, adjusted, strict=True):
        judgment = one.balanced_accuracy
        assert (judgment.delta, *judgment.ci95) == pytest.approx((difference.delta, *difference.ci95))
        assert judgment.p_adjusted == pytest.approx(p_adjusted)
    recall = comparison.pairs[0].recall
    assert [one.p_adjusted for one in recall.values()] == pytest.approx(holm([one.p for one in recall.values()]))


def test_the_default_tests_each_arm_against_the_baseline_as_before(runs, comparison):
    default = compared(runs, against="baseline")
    assert (default.against, default.pairs, len(default.versus)) == ("baseline", (), 3)
    assert [one.recipe for one in default.versus] == [one.recipe for one in comparison.versus]
    for one, of_all in zip(default.versus, comparison.versus, strict=True):
        assert one.balanced_accuracy.p == of_all.balanced_accuracy.p
        assert one.balanced_accuracy.p_adjusted <= of_all.balanced_accuracy.p_adjusted
        assert one.share_above == of_all.share_above
    assert (ranking(default), ranking_chart(default), pair_grids(default)) == (None, None, ())


def test_without_a_finished_baseline_the_other_pairs_are_tested(runs):
    comparison = compared({**runs, "base": []})
    assert comparison.versus == () and len(comparison.pairs) == 3
    assert "good" in str(Comparison(**dict(comparison)))


def test_pairs_of_folds_are_tested_too():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, 80)
    tables: list[dict[str, Any]] = []
    for seed in range(2):
        fold = rng.permutation(80) % 4
        for arm, right in (("a", 0.6), ("b", 0.6), ("c", 0.97)):
            predicted = np.where(rng.random(80) < right, true, 1 - true)
            run = {"arm": [arm] * 80, "seed": [seed] * 80, "fold": fold}
            tables.append({"id": np.arange(80), "true": true, "predicted": predicted, **run})
    comparison = fa.judge(tables, against="all", progress=False)
    verdicts = {(one.baseline, one.recipe): one.balanced_accuracy.verdict for one in comparison.tests}
    assert verdicts == {("a", "b"): Verdict.NO_EVIDENCE, ("a", "c"): Verdict.BETTER, ("b", "c"): Verdict.BETTER}


def test_precision_is_that_of_the_least_precise_pair(runs):
    noisy = dict(runs)
    alone = compared({"base": runs["base"], "good": runs["good"]}).seeds_for_precision
    of_all = compared(noisy).seeds_for_precision
    shared = alone.keys() & of_all.keys()
    assert shared
    for points in shared:
        a, b = alone[points], of_all[points]
        assert b is None or (a is not None and a <= b)


# --- groups


def test_groups_join_what_is_not_told_apart(comparison):
    ranked = ranking(comparison)
    names = [arm.recipe for arm in ranked.arms]
    assert names[:2] == ["best", "good"] and set(names[2:]) == {"base", "twin"}
    assert ranked.groups == ((2, 3),)
    assert [ranked.groups_of(place) for place in range(4)] == [(), (), (1,), (1,)]
    assert "does not mean that they are equal" in ranked.meaning and "not tested" not in ranked.meaning


@st.composite
def relations(draw):
    size = draw(st.integers(2, 7))
    joined = [[False] * size for _ in range(size)]
    for a, b in itertools.combinations(range(size), 2):
        joined[a][b] = joined[b][a] = draw(st.booleans())
    return joined


@given(relations())
def test_groups_cover_exactly_the_pairs_without_evidence(joined):
    groups = _groups(joined)
    covered = {pair for group in groups for pair in itertools.combinations(group, 2)}
    assert covered == {(a, b) for a, b in itertools.combinations(range(len(joined)), 2) if joined[a][b]}
    assert not [1 for one, other in itertools.permutations(groups, 2) if set(one) <= set(other)]


def test_overlapping_groups_are_those_of_neighbors():
    near = [[a != b and abs(a - b) <= 2 for b in range(5)] for a in range(5)]
    assert _groups(near) == [(0, 1, 2), (1, 2, 3), (2, 3, 4)]


def test_a_pair_that_was_not_tested_is_not_said_to_differ(runs):
    single = compared({**runs, "good": runs["good"][:1]})
    ranked = ranking(single)
    assert ranked.untested == 3
    assert "3 pairs were not" in ranked.meaning
    assert ranking(compared({arm: of_arm[:1] for arm, of_arm in runs.items()})) is None


# --- outputs


def test_tables_have_all_pairs_with_the_higher_mean_first(comparison):
    groups, pairs = pair_grids(comparison)
    assert [row[-1] for row in groups.groups[0]] == ["-", "-", "1", "1"]
    (rows,) = pairs.groups
    assert [row[:2] for row in rows[:2]] == [("best", "good"), ("best", rows[1][1])]
    assert all(row[2].startswith("+") for row in rows[:5])
    assert [row[-1] for row in rows] == [*["better"] * 5, "no evidence of a difference"]
    for text in (str(Comparison(**dict(comparison))), markdown(comparison), github_summary(comparison)):
        assert "no evidence of a difference" in text and "groups" in text
        assert "over all pairs of arms" in text


def test_the_frame_and_the_csv_table_have_the_other_pairs(comparison):
    frame = comparison_frame(comparison)
    first, one = 4 * 5, comparison.pairs[1]
    assert len(frame) == 2 * (first + 3 * 5), "with the deduplicated test split"
    (row,) = frame[
        (frame.arm == one.recipe) & (frame.baseline == one.baseline) & (frame.split == "test")
        & (frame.endpoint == "balanced_accuracy")
    ].to_dict("records")  # fmt: skip
    assert (row["delta"], row["p_adjusted"]) == (one.balanced_accuracy.delta, one.balanced_accuracy.p_adjusted)
    assert row["baseline_mean"] == comparison.arm(one.baseline).test.balanced_accuracy.mean
    rows = list(csv.DictReader(io.StringIO(csv_table(comparison))))
    of_pair = [row for row in rows if (row["arm"], row["baseline"]) == (one.recipe, one.baseline)]
    assert {row["score"] for row in of_pair} == {"accuracy", "balanced_accuracy", "recall"}
    assert len(of_pair) == 2 * 5 and all(row["verdict"] for row in of_pair)


def test_the_chart_has_means_at_their_positions_and_a_bar_per_group(comparison, tmp_path):
    chart = ranking_chart(comparison)
    means = [row.at for row in chart.rows]
    assert means == sorted(means, reverse=True)
    assert [[(bar.top, bar.bottom, bar.is_member) for bar in row.bars] for row in chart.rows] == [
        [], [], [(50, 100, True)], [(0, 50, True)],
    ]  # fmt: skip
    page = parse(report_html(comparison, tmp_path))
    (figure,) = [one for one in page.find("figure") if list(one.find("table", class_="ranking"))]
    assert len(list(figure.find("circle", class_="dot"))) == 4
    assert len(list(figure.find("circle", class_="member"))) == len(list(figure.find("line", class_="join"))) == 2
    assert "does not mean that they are equal" in figure.text
    assert [one.attributes["id"] for one in page.find("section")] == list(SECTIONS)


def test_a_bar_that_passes_an_arm_has_no_point_on_it(comparison):
    worse = Verdict.WORSE
    changed = [
        one.model_copy(update={"balanced_accuracy": one.balanced_accuracy.model_copy(update={"verdict": verdict})})
        for one in comparison.tests
        for verdict in [Verdict.NO_EVIDENCE if {one.recipe, one.baseline} == {"best", "base"} else worse]
    ]
    edited = comparison.model_copy(update={"versus": tuple(changed[:3]), "pairs": tuple(changed[3:])})
    rows = {row.arm: row.bars for row in ranking_chart(edited).rows}
    assert [bar.is_member for bar in rows["good"]] == [False]
    assert rows["best"][0].is_member and rows["base"][0].is_member


def test_twenty_arms_are_written_in_a_small_report(tmp_path):
    rng = np.random.default_rng(3)
    true = rng.integers(0, 3, 200)
    tables: list[dict[str, Any]] = [
        {
            "id": np.arange(200), "true": true, "arm": [f"arm{arm:02}"] * 200, "seed": [seed] * 200,
            "predicted": np.where(rng.random(200) < 0.5 + 0.02 * arm, true, (true + 1) % 3),
        }
        for arm in range(20) for seed in range(2)
    ]  # fmt: skip
    comparison = fa.judge(tables, baseline="arm00", against="all", out=tmp_path, progress=False)
    assert len(comparison.versus) == 19 and len(comparison.tests) == 190
    chart = ranking_chart(comparison)
    assert len(chart.rows) == 20 and len(chart.table.groups[0]) == 190
    groups, pairs = pair_grids(comparison)
    assert len(groups.groups[0]) == 20 and len(pairs.groups[0]) == 45 and "145 other pairs" in pairs.note
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
    assert read_comparison(tmp_path) == ComparisonRecord(**dict(comparison))
    assert len(comparison_grids(comparison)) == 20, "those against the baseline stay"


# --- input


def test_the_baseline_is_needed_unless_all_are_compared(tmp_path):
    rows = ["id,true,predicted,arm,seed"]
    rows += [f"{n},{n % 2},{n % 2 if n % 7 else 0},{arm},{seed}" for arm in "ab" for seed in "01" for n in range(20)]
    file = tmp_path / "all.csv"
    file.write_text("\n".join(rows))
    ran = fer_augment("judge", str(file), "--against", "all", "--json")
    assert ran.code == 0 and json.loads(ran.out)["baseline"] == "a"
    refused = fer_augment("judge", str(file))
    assert refused.code == 2 and "--baseline" in refused.err
    with pytest.raises(PredictionError, match="baseline: name the arm"):
        fa.judge(file, progress=False)


@pytest.mark.parametrize("call", [fa.judge, lambda source, **more: fa.compare(["demo"], source, **more)])
def test_an_unknown_choice_of_tests_is_refused(call):
    with pytest.raises(FerAugmentError, match="against: must be 'baseline' or 'all', got 'best'"):
        call("demo", against="best")


def test_contradicting_pairs_are_refused(comparison):
    twice = {**dict(comparison), "pairs": (*comparison.pairs, comparison.pairs[0])}
    with pytest.raises(ValueError, match="two arms are tested twice"):
        ComparisonRecord(**twice)
    strange = comparison.pairs[0].model_copy(update={"recipe": "nobody"})
    with pytest.raises(ValueError, match=r"pairs\.0: recipe or baseline is not an arm"):
        ComparisonRecord(**{**dict(comparison), "pairs": (strange,)})
