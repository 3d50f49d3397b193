"""Reports of a comparison in the terminal, as Markdown and as CSV, and the tables of the originating report."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import numpy as np
import pytest

from fer_augment.data.records import StepRecord
from fer_augment.reports.console import ResultsConsole
from fer_augment.reports.grids import Grid, against_baseline, recall_by_arm
from fer_augment.reports.html import report_html
from fer_augment.reports.published import PUBLISHED, TEST_COUNTS, published_grids
from fer_augment.reports.tables import csv_table, escaped, markdown
from fer_augment.reports.terminal import print_comparison, print_grid
from fer_augment.reports.wording import (
    cost_sentence,
    interval,
    notes,
    p_value,
    percent,
    points,
    spread,
    verdict_sentence,
)
from fer_augment.results.comparison import ComparisonRecord, Failure, Interval, Judgment, Statistic
from fer_augment.results.verdicts import compare_runs
from fer_augment.significance import Verdict
from tests.html_page import Element, parse
from tests.synthetic_runs import counts_by_split, write_arm

COUNTS = (40, 30, 20)


def compared(runs, counts=COUNTS, **more) -> ComparisonRecord:
    facts = {"baseline": "base", "source": "faces", "fingerprint": "f" * 64, "counts": counts_by_split(counts)}
    return compare_runs(runs, **facts | more)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory) -> ComparisonRecord:
    folder = tmp_path_factory.mktemp("runs")
    in_train = np.arange(90) % 10 == 0
    step = StepRecord(name="grow", parameters={}, provider="x 1", source="0" * 64, rows=1234, chosen={"tau": 0.7})
    runs = {
        "base": write_arm(folder, "base", (0.6, 0.5, 0.4), in_train=in_train),
        "good": write_arm(folder, "good", (0.95, 0.9, 0.9), steps=[step]),
        "same": write_arm(folder, "same", (0.6, 0.5, 0.4), optimizer_steps=40),
        "worse": write_arm(folder, "worse", (0.1, 0.1, 0.1)),
    }
    failures = [Failure(recipe="same", seed=9, message="epoch 3: the loss is not finite;\nlower the learning rate")]
    return compared(runs, failures=failures)


def printed(comparison: ComparisonRecord, width: int = 80, grids: tuple[Grid, ...] = ()) -> str:
    text = io.StringIO()
    console = ResultsConsole(file=text, width=width, highlight=False)
    print_comparison(comparison, console)
    for grid in grids:
        print_grid(grid, console)
    return text.getvalue()


def unwrapped(text: str) -> str:
    return " ".join(text.split())


# --- numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (percent(Statistic(mean=0.5512, sd=0.006, n=3, ci95=(0.5, 0.6))), "55.1 ± 0.6"),
        (percent(Statistic(mean=0.5512, sd=None, n=1, ci95=None)), "55.1"),
        (percent(Statistic(mean=None, sd=None, n=0, ci95=None)), "-"),
        (spread(Statistic(mean=0.5, sd=0.25, n=3, ci95=(0, 1)), scale=4000), "2,000.0 ± 1,000.0"),
        (points(0.0094), "+0.9"),
        (points(-0.121), "-12.1"),
        (points(-0.0004), "0.0"),
        (points(None), "-"),
        (interval((-0.01, 0.0349)), "-1.0 to +3.5"),
        (interval((-2.1, 1.3)), "-100.0 to +100.0"),
        (interval(None), "-"),
        (p_value(0.0004), "<.001"),
        (p_value(0.0421), "0.042"),
        (p_value(0.0494), "0.049"),
        (p_value(0.0496), "0.0496"),
        (p_value(0.04997), "0.04997"),
        (p_value(0.049999), "<0.05"),
        (p_value(0.05), "0.050"),
        (p_value(0.0504), "0.050"),
        (p_value(None), "-"),
    ],
)
def test_number_formats(text, expected):
    assert text == expected


# --- sentences


def versus_of(comparison: ComparisonRecord, recipe: str):
    return next(versus for versus in comparison.versus if versus.recipe == recipe)


def test_verdict_sentence_has_the_evidence(comparison):
    good = versus_of(comparison, "good")
    tested = good.balanced_accuracy
    p = p_value(tested.p_adjusted)
    assert p == "<.001"
    assert verdict_sentence(good) == (
        f"good is better than base: balanced accuracy {points(tested.delta)} points (95 % CI "
        f"{interval(tested.ci95)}, adjusted p < .001)."
    )
    with_larger_p = good.model_copy(update={"balanced_accuracy": tested.model_copy(update={"p_adjusted": 0.0421})})
    assert verdict_sentence(with_larger_p).endswith(", adjusted p = 0.042).")
    resampled = verdict_sentence(good.model_copy(update={"share_above": 0.984}))
    assert resampled.endswith("adjusted p < .001, higher in 98 % of bootstrap resamples).")
    for share, text in ((0.9997, ">99"), (1.0, ">99"), (0.003, "<1"), (0.006, "1")):
        sentence = verdict_sentence(good.model_copy(update={"share_above": share}))
        assert sentence.endswith(f", higher in {text} % of bootstrap resamples).")
    assert verdict_sentence(versus_of(comparison, "worse")).startswith("worse is worse than base: balanced accuracy -")


def test_sentence_without_evidence_has_the_minimum_detectable_effect(comparison):
    same = versus_of(comparison, "same")
    sentence = verdict_sentence(same)
    assert sentence.startswith("same: no evidence of a difference from base: ")
    assert sentence.endswith(
        f"). Minimum detectable effect (80 % power, unadjusted): {same.balanced_accuracy.detectable * 100:.1f} points."
    )
    assert "equal" not in sentence
    assert "With several arms, the minimum detectable effect after this correction is larger." in notes(comparison)[-1]


def overturned(comparison: ComparisonRecord) -> ComparisonRecord:
    """Return a comparison whose first verdict differs on the deduplicated test split."""
    first, *others = comparison.versus
    balanced = judgment(-0.024, Verdict.NO_EVIDENCE, (-0.06, 0.012))
    deduplicated = first.test_deduplicated.model_copy(update={"balanced_accuracy": balanced})
    changed = first.model_copy(update={"test_deduplicated": deduplicated})
    return comparison.model_copy(update={"versus": (changed, *others)})


def test_different_verdict_on_the_deduplicated_test_split_is_in_every_format(comparison, tmp_path):
    good = versus_of(comparison, "good")
    assert good.test_deduplicated.balanced_accuracy.verdict == good.balanced_accuracy.verdict == Verdict.BETTER
    assert "deduplicated" not in verdict_sentence(good)
    addition = " On the deduplicated test split: no evidence of a difference (-2.4 points)."
    other = overturned(comparison)
    assert verdict_sentence(versus_of(other, "good")) == f"{verdict_sentence(good)}{addition}"
    assert addition in unwrapped(printed(other))
    assert addition in markdown(other)
    assert addition in report_html(other, tmp_path)


def judgment(delta: float | None, verdict: Verdict, ci95: Interval | None = None) -> Judgment:
    return Judgment(delta=delta, ci95=ci95, p=None, p_adjusted=None, verdict=verdict, detectable=None)


@pytest.mark.parametrize(
    ("ant", "bee", "cat", "expected"),
    [
        (
            judgment(0.1, Verdict.BETTER),
            judgment(-0.2, Verdict.WORSE),
            judgment(-0.3, Verdict.NO_EVIDENCE),
            "recall better for ant (+10.0); recall worse for bee (-20.0).",
        ),
        (
            judgment(0.1, Verdict.BETTER),
            judgment(0.2, Verdict.BETTER),
            judgment(-0.3, Verdict.NO_EVIDENCE),
            "recall better for ant (+10.0) and bee (+20.0); no class is significantly worse; "
            "largest drop: cat (-30.0).",
        ),
        (
            judgment(0.1, Verdict.NO_EVIDENCE),
            judgment(None, Verdict.UNTESTABLE),
            judgment(0.0, Verdict.NO_EVIDENCE),
            "no class is significantly worse; no recall dropped.",
        ),
        (
            judgment(0.1, Verdict.NO_EVIDENCE),
            judgment(-0.0004, Verdict.NO_EVIDENCE),
            judgment(0.0, Verdict.NO_EVIDENCE),
            "no class is significantly worse; no recall dropped by 0.1 points or more.",
        ),
    ],
)
def test_cost_sentence_always_names_the_worst_class(comparison, ant, bee, cat, expected):
    accuracy = judgment(-0.115, Verdict.WORSE)
    recall = {"ant": ant, "bee": bee, "cat": cat}
    versus = versus_of(comparison, "good").model_copy(update={"accuracy": accuracy, "recall": recall})
    assert cost_sentence(versus) == f"Accuracy -11.5 points (worse); {expected}"


def test_class_names_that_are_numbers_are_called_classes(comparison):
    recall = {"3": judgment(-0.065, Verdict.WORSE), "8": judgment(0.01, Verdict.NO_EVIDENCE)}
    versus = versus_of(comparison, "good").model_copy(update={"recall": recall})
    assert "recall worse for class 3 (-6.5)" in cost_sentence(versus)


def test_rows_against_the_baseline_are_in_class_order_whatever_the_differences(comparison):
    deltas = dict(zip(comparison.class_names, (0.05, -0.3, 0.4), strict=True))
    recall = {name: judgment(delta, Verdict.NO_EVIDENCE) for name, delta in deltas.items()}
    versus = versus_of(comparison, "good").model_copy(update={"recall": recall})
    recalls, _ = against_baseline(comparison, versus).groups
    assert [row[0] for row in recalls] == list(comparison.class_names)
    assert [row[4] for row in recalls] == ["+5.0", "-30.0", "+40.0"]


@pytest.mark.parametrize("width", [80, 120])
def test_validation_scores_follow_the_test_scores_in_every_format(comparison, tmp_path, width):
    sentence = "Select recipes by these scores, not by those on the test split."
    for text in (printed(comparison, width), markdown(comparison)):
        table = text[text.index("All arms, validation split") :]
        assert text.index("All arms, test split") < text.index(table) < text.index("good vs. base")
        assert sentence in table
        for arm in comparison.arms:
            row = next(line for line in table.splitlines() if re.match(rf"(\| )?{arm.recipe} ", line))
            assert percent(arm.validation.accuracy) in row and percent(arm.validation.balanced_accuracy) in row
    page = unwrapped(report_html(comparison, tmp_path))
    scores = page[page.index('<section id="scores"') : page.index('<section id="confusion"')]
    assert "All arms, validation split" in scores and sentence in scores
    for arm in comparison.arms:
        assert f"<td>{percent(arm.validation.balanced_accuracy)}</td>" in scores


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_ends_with_spaces(comparison, width):
    assert [line for line in printed(comparison, width).splitlines() if line != line.rstrip()] == []


def test_a_wide_interval_without_a_verdict_is_explained(comparison):
    expected = "Because of this correction, a CI may exclude 0 although the verdict is no evidence of a difference."
    assert expected in unwrapped(printed(comparison))


def test_recall_by_arm_has_a_row_per_class_and_a_column_per_arm(comparison):
    grid = recall_by_arm(comparison)
    assert grid.columns == ("class", "images", *(f"{name} (n = 3)" for name in ("base", "good", "same", "worse")))
    ((ant, _, _),) = grid.groups
    assert ant == ("ant", "40", *(percent(arm.test.recall["ant"]) for arm in comparison.arms))


# --- the terminal


def test_verdicts_come_before_tables_and_warnings_last_without_repetition(comparison):
    text = printed(comparison)
    places = [text.index(part) for part in ("good is better", "same: no evidence", "All arms", " vs. ", "Warnings")]
    assert places == sorted(places)
    for warning in comparison.warnings:
        assert unwrapped(text[places[-1] :]).count(warning) == 1
    assert "- same, seed 9: epoch 3: the loss is not finite; lower the learning rate" in unwrapped(text)


def test_tables_have_every_verdict_and_explain_abbreviations(comparison):
    text = printed(comparison)
    for versus in comparison.versus:
        table = text[text.index(f"{versus.recipe} vs. base") :]
        for name, tested in versus.recall.items():
            row = next(line for line in table.splitlines() if line.startswith(f"{name} "))
            short = "no ev." if tested.verdict == Verdict.NO_EVIDENCE else str(tested.verdict)
            assert row.rstrip().endswith(f"{p_value(tested.p_adjusted)} {short}"), row
            assert f" {points(tested.delta)} " in row and f" {interval(tested.ci95)} " in row
    assert "no ev.: no evidence of a difference." in text


@pytest.mark.parametrize("place", ["balanced", "dedup."])
def test_abbreviated_verdict_of_balanced_accuracy_alone_is_explained(comparison, place):
    def everywhere(verdict: Verdict) -> dict[str, object]:
        recall = {name: judgment(0.1, verdict) for name in comparison.class_names}
        return {"accuracy": judgment(0.1, verdict), "balanced_accuracy": judgment(0.1, verdict), "recall": recall}

    untestable = {"balanced_accuracy": judgment(0.1, Verdict.UNTESTABLE)}
    good = versus_of(comparison, "good").model_copy(update=everywhere(Verdict.BETTER))
    deduplicated = good.test_deduplicated.model_copy(update=everywhere(Verdict.BETTER))
    if place == "dedup.":
        deduplicated, untestable = deduplicated.model_copy(update=untestable), {}
    good = good.model_copy(update={"test_deduplicated": deduplicated} | untestable)
    text = printed(comparison.model_copy(update={"versus": (good,)}))
    assert re.search(rf"^{re.escape(place)} .* n/a *$", text, flags=re.MULTILINE)
    assert "n/a: not testable." in text


def test_wide_terminal_has_all_columns_and_no_abbreviations(comparison):
    text = printed(comparison, width=120)
    assert re.search(r"^\w+ .* no evidence of a difference *$", text, flags=re.MULTILINE)
    assert "NLL (nats)" in text and "no ev." not in text
    assert "difference" in text and "diff." not in text
    assert re.search("^balanced accuracy ", text, flags=re.MULTILINE)
    assert re.search("^deduplicated ", text, flags=re.MULTILINE) and "dedup." not in text


def test_deduplicated_test_split_is_shown_and_explained(comparison):
    text = printed(comparison)
    row = next(line for line in text.splitlines() if line.startswith("good   "))
    good = comparison.arm("good")
    for score in (good.test.accuracy, good.test.balanced_accuracy, good.test_deduplicated.balanced_accuracy):
        assert percent(score) in row
    assert "the 81 of 90 test images without an exact duplicate in the training split" in unwrapped(text)
    assert text.count("\ndedup. ") == 3


def test_near_duplicates_are_counted_apart(tmp_path):
    in_train = np.arange(90) < 4
    runs = {name: write_arm(tmp_path, name, (0.6, 0.5, 0.4), in_train=in_train) for name in ("base", "other")}
    text = unwrapped(printed(compared(runs, near_train=[4, 5, 89])))
    assert (
        "Deduplicated test split: the 83 of 90 test images without a duplicate in the training split (4 exact, 3 near "
        "or mirrored; most duplicates: ant 6 of 40, cat 1 of 20)."
    ) in text


def test_no_deduplicated_test_split_without_duplicates(tmp_path):
    runs = {name: write_arm(tmp_path, name, (0.6, 0.5, 0.4)) for name in ("base", "other")}
    text = printed(compared(runs))
    assert "dedup" not in text
    assert "duplicate" not in text.replace("Exact duplicates", "")


def test_notes_have_added_rows_selected_values_and_watched_pairs(comparison):
    text = unwrapped(printed(comparison))
    assert "Training rows added per run: good 1,234 by grow." in text
    assert "Values selected by steps, one per run: good grow tau = 0.7, 0.7, 0.7." in text
    watched = comparison.arms[0].watched[0]
    counts = f"test images per run: base {spread(watched.count)},"
    assert f"{watched.true} predicted as {watched.predicted}, {counts}" in text


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("seeds", [1, 3])
def test_no_line_is_longer_than_the_terminal(tmp_path, width, seeds):
    names = ("a-class-with-a-rather-long-name", "bee", "cat")
    runs = {"base": write_arm(tmp_path, "base", (0.6, 0.5, 0.4), seeds=range(seeds), class_names=names, spread=0.2)}
    for recipe in ("a_recipe_whose_name_goes_on_and_on_and_on", "b" * 90):
        runs[recipe] = write_arm(tmp_path, recipe, (0.6, 0.1, 0.9), seeds=range(seeds), class_names=names, spread=0.2)
    counts = (4000, 3000, 20)
    text = printed(compared(runs, counts=counts).model_copy(update={"warnings": ("x" * 200,)}), width)
    assert max(map(len, text.splitlines())) <= width
    assert "bee" in text and "balanced accuracy" in unwrapped(text)


def test_one_run_is_not_tested(tmp_path):
    runs = {name: write_arm(tmp_path, name, (0.6, 0.5, 0.4), seeds=[0]) for name in ("base", "other")}
    text = printed(compared(runs))
    assert "other vs. base: not tested (one run); balanced accuracy " in text
    assert "1 run: not tested (one run)." in text
    assert "better" not in text and "significantly" not in text
    assert "adjusted p" not in text.lower() and "intervals" not in text
    explanation = "Differences are in percentage points; exact duplicates within the test split count once."
    assert explanation in unwrapped(text)


def test_unequal_numbers_of_runs_are_in_the_title(tmp_path):
    runs = {
        "base": write_arm(tmp_path, "base", (0.6, 0.5, 0.4), seeds=range(4)),
        "other": write_arm(tmp_path, "other", (0.6, 0.5, 0.4), seeds=range(2)),
    }
    assert "other vs. base: recall in %, mean ± sd, n = 2 runs (baseline 4)" in unwrapped(printed(compared(runs)))


def test_baseline_alone_and_missing_baseline(tmp_path):
    runs = {"base": write_arm(tmp_path, "base", (0.6, 0.5, 0.4))}
    assert "base (baseline) 3" in printed(compared(runs))
    lost = printed(compared({"other": write_arm(tmp_path, "other", (0.6, 0.5, 0.4))}))
    assert "No run of the baseline base finished" in unwrapped(lost)


def test_names_are_neither_markup_nor_control_characters(tmp_path):
    names = ("[bold]a[/bold]", "b[/]", "c\x1b[2J")
    runs = {name: write_arm(tmp_path, name, (0.6, 0.5, 0.4), class_names=names) for name in ("base", "other")}
    warnings = ["[red]mind[/red] \x1b]0;title\x07"]
    text = printed(compared(runs, source="[link=x]faces[/link]\r\x1b[1m", warnings=warnings), width=120)
    for shown in ("[bold]a[/bold]", "b[/]", "c?[2J", "[link=x]faces[/link] ?[1m", "[red]mind[/red] ?]0;title?"):
        assert shown in text
    assert "\x1b" not in text and "\x07" not in text


def test_color_does_not_change_the_text(comparison):
    colored = io.StringIO()
    print_comparison(comparison, ResultsConsole(file=colored, width=80, force_terminal=True, color_system="standard"))
    assert "\x1b[1;32mbetter" in colored.getvalue()
    assert re.sub(r"\x1b\[[\d;]*m", "", colored.getvalue()) == printed(comparison)


# --- Markdown


def markdown_rows(text: str, title: str) -> list[list[str]]:
    section = text.split(f"## {title}")[1].split("##")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in lines]


def test_markdown_has_verdicts_tables_and_warnings(comparison):
    text = markdown(comparison)
    heading, rule, *rows = markdown_rows(text, "All arms")
    assert len(heading) == len(rule) == 9
    assert [row[0] for row in rows] == ["base (baseline)", "good", "same", "worse"]
    assert rows[1][2] == percent(comparison.arm("good").test.accuracy)
    verdicts = {row[0]: row[-1] for row in markdown_rows(text, "same vs. base")}
    assert verdicts["balanced accuracy"] == "no evidence of a difference"
    assert text.count("## Warnings\n") == 1 and "- good is better than base: " in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("call `data audit` *now*", r"call `data audit` \*now\*"),
        ("`a_b` and `c", r"`a_b` and \`c"),
        ("``x`` and `<b>`", r"\`\`x\`\` and \`&lt;b&gt;\`"),
        ("`a|b`", r"\`a\|b\`"),
    ],
)
def test_markdown_keeps_code_that_needs_no_escape(text, expected):
    assert escaped(text) == expected


def test_markdown_escapes_names(tmp_path):
    names = ("<script>x</script>", "a|b", "_b_ & *c*")
    runs = {name: write_arm(tmp_path, name, (0.6, 0.5, 0.4), class_names=names) for name in ("base", "oth_er")}
    text = markdown(compared(runs))
    assert "<script>" not in text and "&lt;script&gt;x&lt;/script&gt;" in text
    rows = markdown_rows(text, "oth_er vs. base")
    assert {len(row) for row in rows} == {8}
    assert {r"a\|b", r"\_b\_ &amp; \*c\*"} <= {row[0] for row in rows}


# --- CSV


def test_csv_has_every_score_with_full_precision_and_verdict(comparison):
    rows = list(csv.DictReader(io.StringIO(csv_table(comparison))))
    assert len(rows) == 4 * 3 * (5 + 3 * 3)
    assert len({(row["split"], row["arm"], row["score"], row["class"]) for row in rows}) == len(rows)
    row_of = {(row["split"], row["arm"], row["score"], row["class"]): row for row in rows}
    tested, row = versus_of(comparison, "good").recall["bee"], row_of["test", "good", "recall", "bee"]
    assert float(row["mean"]) == comparison.arm("good").test.recall["bee"].mean
    assert (float(row["delta"]), float(row["p_adjusted"])) == (tested.delta, tested.p_adjusted)
    assert (row["verdict"], row["baseline"], row["n"]) == (str(tested.verdict), "base", "3")
    deduplicated = row_of["test_deduplicated", "same", "balanced_accuracy", ""]
    assert float(deduplicated["p"]) == versus_of(comparison, "same").test_deduplicated.balanced_accuracy.p
    for key in (("test", "base", "accuracy", ""), ("validation", "good", "accuracy", "")):
        assert row_of[key]["delta"] == row_of[key]["verdict"] == row_of[key]["baseline"] == ""


def test_csv_leaves_undefined_values_empty_and_escapes_formulas(tmp_path):
    names = ("=1+1", "bee", "cat")
    runs = {"base": write_arm(tmp_path, "base", (0.6, 0.5, 0.4), seeds=[0], class_names=names, counts=(40, 0, 20))}
    rows = list(csv.DictReader(io.StringIO(csv_table(compared(runs, counts=(40, 0, 20))))))
    recall = {row["class"]: row for row in rows if row["split"] == "test" and row["score"] == "recall"}
    assert list(recall) == ["'=1+1", "bee", "cat"]
    assert recall["bee"]["mean"] == recall["bee"]["sd"] == recall["cat"]["sd"] == ""


# --- the originating report


@pytest.fixture(scope="module")
def repeated(tmp_path_factory) -> ComparisonRecord:
    folder = tmp_path_factory.mktemp("fer2013")
    counts, names = tuple(TEST_COUNTS.values()), tuple(TEST_COUNTS)
    of_data: dict[str, Any] = {"counts": counts, "class_names": names, "seeds": range(2)}
    pairs = StepRecord(name="mirror", parameters={}, provider="x", source="0" * 64, watched_pairs=(("sad", "neutral"),))
    recall = PUBLISHED[5].classes.recall
    runs = {
        "paper": write_arm(folder, "paper", recall, **of_data),
        "confusion_mirror": write_arm(folder, "confusion_mirror", recall, steps=[pairs], test_loss=0.5, **of_data),
        "smote": write_arm(folder, "smote", recall, **of_data),
        "convnet2": write_arm(folder, "convnet2", recall, settings={"training": {"loss": "focal"}}, **of_data),
    }
    return compared(runs, counts=counts, baseline="paper")


def test_published_results_are_consistent():
    rows = np.array(list(TEST_COUNTS.values()))
    for model in PUBLISHED[5:]:
        recall, precision, f1 = (np.array(getattr(model.classes, name)) for name in ("recall", "precision", "f1"))
        assert abs((recall * rows).sum() / rows.sum() * 100 - model.accuracy) < 0.1
        assert np.abs(2 * recall * precision / (recall + precision) - f1).max() < 0.0011
    assert rows.sum() == 3589
    assert [model.number for model in PUBLISHED] == list(range(7))


def test_published_tables_have_both_results(repeated):
    table, model_5, model_6 = published_grids(repeated)
    rows = {(row[0], row[3]): row for group in table.groups for row in group}
    paper, mirror = repeated.arm("paper"), repeated.arm("confusion_mirror")
    assert rows["5", "test accuracy, %"] == (
        *("5", "paper", "2", "test accuracy, %", "61.2"),
        percent(paper.test.accuracy),
    )
    assert rows["6", "test loss, sum"][4:] == ("1,962.5", f"{0.5 * 3589:,.1f} ± 0.0")
    assert rows["6", "training loss, sum"][4:] == ("1,133.7", f"{0.25 * 3589:,.1f} ± 0.0")
    assert rows["6", "sad predicted as neutral, rows"][4:] == ("116", spread(mirror.watched[0].count))
    assert ("2", "test accuracy, %") in rows and ("2", "test loss, sum") not in rows  # its loss is not comparable
    assert "smote" not in {row[1] for row in rows.values()}
    happy = model_5.groups[0][3]
    assert happy[:3] == ("happy", "86.0", percent(paper.test.recall["happy"]))
    assert model_6.groups[0][1][3] == "84.6"


def test_unwatched_pair_is_counted_from_the_confusion_matrix(repeated):
    paper = repeated.arm("paper")
    arm = paper.model_copy(update={"watched": ()})
    table = published_grids(repeated.model_copy(update={"arms": (arm,), "versus": ()}))[0]
    assert table.groups[0][-1][-1] == f"{paper.watched[0].count.mean:.1f}"


def test_published_tables_fit_the_terminal(repeated):
    text = printed(repeated, grids=tuple(published_grids(repeated)))
    assert max(map(len, text.splitlines())) <= 80
    assert "Originating report (one training) and our results" in text


def test_other_data_and_other_recipes_have_no_published_results(comparison, repeated):
    assert published_grids(comparison) == []
    others = repeated.model_copy(update={"arms": (repeated.arm("smote"),), "versus": ()})
    assert published_grids(others) == []


def test_the_title_of_a_narrow_table_is_one_line(comparison):
    grid = Grid("Scores of every arm", ("arm", "n"), ((("a", "1"),),))
    assert "Scores of every arm\narm n\n" in printed(comparison, grids=(grid,))


def test_row_of_wrong_length_is_refused():
    with pytest.raises(ValueError, match="does not match the columns"):
        Grid("title", ("a", "b"), ((("1",),),))


def test_text_is_left_aligned_and_numbers_right_aligned_in_every_format(comparison):
    grid = Grid("Words", ("name", "n", "recipe", "metric", "verdict"), ((("a", "1", "b", "c", "better"),),))
    assert [grid.is_left(place) for place in range(5)] == [True, False, True, True, True]
    assert "| :-- | --: | :-- | :-- | :-- |" in markdown(comparison, (grid,))
    wide = Grid("Words", grid.columns, ((("a", "1", "b", "c", "better"), ("aa", "22", "bb", "cc", "worse")),))
    one, two = [line for line in printed(comparison, 120, (wide,)).splitlines() if re.match("aa? ", line)]
    assert one.split() == ["a", "1", "b", "c", "better"]
    assert (one.index("1"), one.index("b"), one.index("c")) == (two.index("22") + 1, two.index("b"), two.index("c"))


def test_html_tables_align_the_same_columns(repeated, tmp_path):
    page = parse(report_html(repeated, tmp_path))
    table_2 = published_grids(repeated)[0]
    (shown,) = [table for table in page.find("table") if next(table.find("caption")).text == table_2.title]
    for row in shown.find("tr"):
        cells = [cell for cell in row.children if isinstance(cell, Element)]
        lefts = [place == 0 or cell.attributes.get("class") == "left" for place, cell in enumerate(cells)]
        assert lefts == [table_2.is_left(place) for place in range(len(table_2.columns))]
