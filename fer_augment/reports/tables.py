"""A comparison as Markdown for a paper or an issue, and as one long CSV table for spreadsheets and pandas."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator

from fer_augment.reports.grids import Grid, against_baseline, overview
from fer_augment.reports.wording import cost_sentence, failures, headline, notes, verdict_sentence
from fer_augment.results.comparison import Arm, ComparisonRecord, Judgment, Judgments, SplitScores, Statistic, Versus

# --- Markdown


def markdown(comparison: ComparisonRecord, further: tuple[Grid, ...] = ()) -> str:
    """Return a comparison as Markdown: the verdicts, the tables, what to be careful of.

    Args:
        comparison: what to show.
        further: tables to show after those of the comparison.
    """
    verdicts = [f"{verdict_sentence(versus)} {cost_sentence(versus)}" for versus in comparison.versus]
    grids = [overview(comparison), *(against_baseline(comparison, versus) for versus in comparison.versus), *further]
    blocks = [
        f"# {escaped(headline(comparison))}",
        *_bullets("", verdicts),
        *(block for grid in grids for block in grid_blocks(grid)),
        *_bullets("Notes", notes(comparison)),
        *_bullets("Runs that failed", failures(comparison)),
        *_bullets("Warnings", comparison.warnings),
    ]
    return "\n\n".join(blocks) + "\n"


def _bullets(title: str, lines: list[str] | tuple[str, ...]) -> Iterator[str]:
    if lines and title:
        yield f"## {title}"
    if lines:
        yield "\n".join(f"- {escaped(line)}" for line in lines)


def grid_blocks(grid: Grid) -> Iterator[str]:
    """Give the heading of a table and the table itself."""
    yield f"## {escaped(grid.title)}"
    alignment = [":--" if grid.is_left(place) else "--:" for place in range(len(grid.columns))]
    rows = [grid.columns, *(row for group in grid.groups for row in group)]
    heading, *lines = [f"| {' | '.join(map(escaped, row))} |" for row in rows]
    yield "\n".join([heading, f"| {' | '.join(alignment)} |", *lines])


def escaped(text: str) -> str:
    """Return text that Markdown, and the HTML made of it, shows as it stands; `a_b` needs no escape."""
    one_line = " ".join(text.split())
    return html.escape(re.sub(r"[\\`*\[\]|~#]|(?<!\w)_|_(?!\w)", r"\\\g<0>", one_line), quote=False)


# --- CSV

COLUMNS = (
    *("split", "arm", "score", "class", "mean", "sd", "n", "ci95_low", "ci95_high"),
    *("baseline", "delta", "delta_ci95_low", "delta_ci95_high", "p", "p_adjusted", "verdict", "detectable"),
)
"""Columns of the CSV table; scores and differences are shares of 1, and what does not exist is empty."""

_OF_SPLIT = ("accuracy", "balanced_accuracy", "macro_f1", "ece", "nll")
_OF_CLASS = ("recall", "precision", "f1")


def csv_table(comparison: ComparisonRecord) -> str:
    """Return every score of every arm as CSV, one row each, with the verdict on it where there is one."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    versus = {one.recipe: one for one in comparison.versus}
    for arm in comparison.arms:
        writer.writerows([*map(_cell, row)] for row in _arm_rows(arm, versus.get(arm.recipe)))
    return text.getvalue()


def _arm_rows(arm: Arm, versus: Versus | None) -> Iterator[list[object]]:
    splits: tuple[tuple[str, SplitScores | None, Judgments | None], ...] = (
        ("test", arm.test, versus),
        ("test_deduplicated", arm.test_deduplicated, versus.test_deduplicated if versus else None),
        ("validation", arm.validation, None),
    )
    for split, scores, judged in splits:
        baseline = versus.baseline if versus and judged else ""
        for score, class_name, number, judgment in _scores(scores, judged) if scores else ():
            yield [split, arm.recipe, score, class_name, *_numbers(number), *_verdict(baseline, judgment)]


def _scores(scores: SplitScores, judged: Judgments | None) -> Iterator[tuple[str, str, Statistic, Judgment | None]]:
    verdicts = {"accuracy": judged.accuracy, "balanced_accuracy": judged.balanced_accuracy} if judged else {}
    for score in _OF_SPLIT:
        yield score, "", getattr(scores, score), verdicts.get(score)
    for score in _OF_CLASS:
        for class_name, number in getattr(scores, score).items():
            yield score, class_name, number, judged.recall[class_name] if judged and score == "recall" else None


def _numbers(number: Statistic) -> list[object]:
    return [number.mean, number.sd, number.n, *(number.ci95 or (None, None))]


def _verdict(baseline: str, said: Judgment | None) -> list[object]:
    if said is None:
        return [None] * 8
    return [baseline, said.delta, *(said.ci95 or (None, None)), said.p, said.p_adjusted, said.verdict, said.detectable]


def _cell(value: object) -> object:
    """Return a cell that a spreadsheet does not take for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in set("=+-@") else value
