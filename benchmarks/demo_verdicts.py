"""`python -m benchmarks demo-verdicts`: how often the demo ends in the verdicts that the docs show."""

from __future__ import annotations

import datetime
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean

import click

from benchmarks.gains_page import check_place, insert_tables
from fer_augment.cli.compare import DEMO_RECIPES, DEMO_SEEDS
from fer_augment.data.records import RunDirectory
from fer_augment.processes import cores
from fer_augment.reports.wording import points
from fer_augment.results.comparison import ComparisonRecord, Judgment
from fer_augment.results.verdicts import compare_runs
from fer_augment.significance import Verdict

KIND, PLACE = "repeated", "demo"
WATCHED = ("disgust", "surprise")
"""Classes at which the two arms of the demo aim."""


@click.command("demo-verdicts")
@click.option("--repetitions", type=click.IntRange(min=1), default=20, show_default=True, help="Disjoint seed lists.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/demo_verdicts"), show_default=True)
@click.option("--jobs", type=click.IntRange(min=1), help="Runs at a time.  [default: as many as cores]")
@click.option("--page", type=click.Path(path_type=Path, exists=True), help="Markdown page to insert the table into.")
def demo_verdicts(repetitions: int, out: Path, jobs: int | None, page: Path | None) -> None:
    """Repeat the demo with disjoint seed lists, and count its verdicts.

    Every seed is trained once; each list is judged alone, as `fer-augment demo` judges its seeds. Run the same command
    again to resume.

    \b
    python -m benchmarks demo-verdicts --page docs/results.md
    """
    from fer_augment.comparing import compare

    if page:
        check_place(page, PLACE, kind=KIND)
    whole = compare(DEMO_RECIPES, "demo", seeds=repetitions * DEMO_SEEDS, out=out, jobs=jobs)
    text = verdict_table(whole, list(judged_lists(whole, whole.runs, DEMO_SEEDS)))
    click.echo(text)
    if page:
        insert_tables(page, PLACE, text, kind=KIND)


def judged_lists(
    whole: ComparisonRecord, runs: Mapping[str, Sequence[RunDirectory]], seeds: int
) -> Iterator[ComparisonRecord]:
    """Compare the runs of disjoint lists of `seeds` seeds each, in order; seeds that fill no list are left out."""
    count = min(len(of_arm) for of_arm in runs.values())
    for first in range(0, count - seeds + 1, seeds):
        yield compare_runs(
            {name: of_arm[first : first + seeds] for name, of_arm in runs.items()},
            baseline=whole.baseline,
            source=whole.data.source,
            fingerprint=whole.data.fingerprint,
            counts={split: list(of_class.values()) for split, of_class in whole.data.counts.items()},
        )


def verdict_table(whole: ComparisonRecord, lists: Sequence[ComparisonRecord]) -> str:
    """Return the counts of verdicts over the lists and the mean differences over all seeds, as Markdown."""
    rows = [
        ["arm", "endpoint", "better", "no evidence", "worse", "difference, mean and range of the lists", "all seeds"]
    ]
    for versus in whole.versus:
        for endpoint in ("balanced accuracy", *WATCHED):
            judgments = [_judgment(one, versus.recipe, endpoint) for one in lists]
            deltas = [judgment.delta or 0.0 for judgment in judgments]
            counts = [
                str(sum(judgment.verdict is verdict for judgment in judgments))
                for verdict in (Verdict.BETTER, Verdict.NO_EVIDENCE, Verdict.WORSE)
            ]
            spread = f"{points(mean(deltas))} ({points(min(deltas))} to {points(max(deltas))})"
            everything = points(_judgment(whole, versus.recipe, endpoint).delta)
            rows.append([f"`{versus.recipe}`", endpoint, *counts, spread, everything])
    header, *body = (f"| {' | '.join(row)} |" for row in rows)
    environment = whole.environment
    runs = len(lists) * DEMO_SEEDS
    measured = (
        f"`python -m benchmarks demo-verdicts --repetitions {len(lists)}`, {datetime.date.today().isoformat()}, "
        f"{environment['processor']}, {environment['architecture']}, {cores()} cores, torch {environment['torch']}: "
        f"{len(lists)} lists of {DEMO_SEEDS} seeds, {runs} trainings per arm. Verdicts are numbers of lists; "
        "differences are in points."
    )
    lines = [header, f"|{' :-- |' * 2}{' --: |' * 5}", *body]
    return "\n".join([textwrap.fill(measured, 120, break_on_hyphens=False), "", *lines])


def _judgment(comparison: ComparisonRecord, arm: str, endpoint: str) -> Judgment:
    versus = next(one for one in comparison.versus if one.recipe == arm)
    return versus.balanced_accuracy if endpoint == "balanced accuracy" else versus.recall[endpoint]
