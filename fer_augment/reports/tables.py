"""A comparison as Markdown, and as one long CSV table."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator

from fer_augment.reports.grids import Grid, against_baseline, comparison_grids, recall_by_arm
from fer_augment.reports.pairs import pair_grids
from fer_augment.reports.wording import (
    cost_sentence,
    failures,
    headline,
    notes,
    printable,
    verdict_sentence,
    warning_lines,
)
from fer_augment.results.comparison import Arm, ComparisonRecord, Judgment, Judgments, SplitScores, Statistic, Versus

# --- Markdown


def markdown(comparison: ComparisonRecord, further: tuple[Grid, ...] = ()) -> str:
    """Return a comparison as Markdown: verdicts, tables, notes, failures and warnings.

    Args:
        comparison: the comparison.
        further: tables to append to those of the comparison.
    """
    grids = (*comparison_grids(comparison), *pair_grids(comparison), *further)
    verdicts = [f"{verdict_sentence(versus)} {cost_sentence(versus)}" for versus in comparison.versus]
    blocks = [
        f"# {escaped(headline(comparison))}",
        *_bullets("", verdicts),
        *(block for grid in grids for block in grid_blocks(grid)),
        *_bullets("Notes", notes(comparison)),
        *_bullets("Failed runs", failures(comparison)),
        *_bullets("Warnings", warning_lines(comparison)),
    ]
    return "\n\n".join(blocks) + "\n"


def github_summary(comparison: ComparisonRecord) -> str:
    """Return the verdicts and the table of each arm as Markdown for a job summary; notes and warnings are folded."""
    blocks = [f"### {escaped(headline(comparison))}"]
    for versus in comparison.versus:
        grid = against_baseline(comparison, versus)
        blocks += [escaped(verdict_sentence(versus)), escaped(cost_sentence(versus)), *list(grid_blocks(grid))[1:]]
    if not comparison.versus:
        blocks += list(grid_blocks(recall_by_arm(comparison)))[1:]
    blocks += [block for grid in pair_grids(comparison) for block in list(grid_blocks(grid))[1:]]
    remarks = [
        *_bullets("", notes(comparison)),
        *_bullets("Failed runs", failures(comparison)),
        *_bullets("Warnings", warning_lines(comparison)),
    ]
    if remarks:
        blocks += ["<details><summary>Notes and warnings</summary>", *remarks, "</details>"]
    return "\n\n".join(blocks) + "\n"


def _bullets(title: str, lines: list[str] | tuple[str, ...]) -> Iterator[str]:
    if lines and title:
        yield f"## {title}"
    if lines:
        yield "\n".join(f"- {escaped(line)}" for line in lines)


def grid_blocks(grid: Grid) -> Iterator[str]:
    """Yield the heading of a table, the table, and its note if it has one."""
    yield f"## {escaped(grid.title)}"
    alignment = [":--" if grid.is_left(place) else "--:" for place in range(len(grid.columns))]
    rows = [grid.columns, *(row for group in grid.groups for row in group)]
    heading, *lines = [f"| {' | '.join(map(escaped, row))} |" for row in rows]
    yield "\n".join([heading, f"| {' | '.join(alignment)} |", *lines])
    if grid.note:
        yield escaped(grid.note)


def escaped(text: str) -> str:
    """Escape text for Markdown, and for the HTML rendered from it; `a_b` needs no escape, and `code` stays code."""
    parts = re.split(r"(?<!`)(`[^`\n|\\<>&]+`)(?!`)", printable(text))
    return "".join(part if place % 2 else _escaped_prose(part) for place, part in enumerate(parts))


def _escaped_prose(text: str) -> str:
    return html.escape(re.sub(r"[\\`*\[\]|~#]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text), quote=False)


# --- CSV

COLUMNS = (
    *("split", "arm", "score", "class", "mean", "sd", "n", "ci95_low", "ci95_high"),
    *("baseline", "delta", "delta_ci95_low", "delta_ci95_high", "p", "p_adjusted", "verdict", "detectable"),
)
"""Columns of the CSV table; scores and differences are fractions of 1, and undefined values are empty."""

_BASELINE_COLUMN, _VERDICT_COLUMN = COLUMNS.index("baseline"), COLUMNS.index("verdict")
_OF_SPLIT = ("accuracy", "balanced_accuracy", "macro_f1", "ece", "nll")
_OF_CLASS = ("recall", "precision", "f1")


def csv_table(comparison: ComparisonRecord) -> str:
    """Return a CSV table with one row per score of every arm, with the test against the baseline if there is one.

    If every two arms are tested, rows of the tested scores of the other pairs follow.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    versus = {one.recipe: one for one in comparison.versus}
    for arm in comparison.arms:
        writer.writerows([*map(_cell, row)] for row in _arm_rows(arm, versus.get(arm.recipe)))
    for pair in comparison.pairs:
        writer.writerows([*map(_cell, row)] for row in _pair_rows(comparison.arm(pair.recipe), pair))
    return text.getvalue()


def _arm_rows(arm: Arm, versus: Versus | None) -> Iterator[list[object]]:
    splits: tuple[tuple[str, SplitScores | None, Judgments | None], ...] = (
        ("test", arm.test, versus),
        ("test_deduplicated", arm.test_deduplicated, versus.test_deduplicated if versus else None),
        ("validation", arm.validation, None),
    )
    for split, scores, judgments in splits:
        baseline = versus.baseline if versus and judgments else ""
        for score, class_name, number, judgment in _scores(scores, judgments) if scores else ():
            yield [split, arm.recipe, score, class_name, *_numbers(number), *_verdict(baseline, judgment)]


def _pair_rows(arm: Arm, pair: Versus) -> Iterator[list[object]]:
    return (row for row in _arm_rows(arm, pair) if row[_BASELINE_COLUMN] and row[_VERDICT_COLUMN])


def _scores(scores: SplitScores, judgments: Judgments | None) -> Iterator[tuple[str, str, Statistic, Judgment | None]]:
    overall = {"accuracy": judgments.accuracy, "balanced_accuracy": judgments.balanced_accuracy} if judgments else {}
    for score in _OF_SPLIT:
        yield score, "", getattr(scores, score), overall.get(score)
    for score in _OF_CLASS:
        for class_name, number in getattr(scores, score).items():
            yield score, class_name, number, judgments.recall[class_name] if judgments and score == "recall" else None


def _numbers(number: Statistic) -> list[object]:
    return [number.mean, number.sd, number.n, *(number.ci95 or (None, None))]


def _verdict(baseline: str, judgment: Judgment | None) -> list[object]:
    if judgment is None:
        return [None] * 8
    low, high = judgment.ci95 or (None, None)
    p_values = judgment.p, judgment.p_adjusted
    return [baseline, judgment.delta, low, high, *p_values, judgment.verdict, judgment.detectable]


def _cell(value: object) -> object:
    """Return text without control characters, and prefix what a spreadsheet would interpret as a formula."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text[:1] in set("=+-@") else text
