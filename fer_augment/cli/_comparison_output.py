"""Output of the commands that end in a comparison: formats, the place of the results, and the exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from fer_augment.errors import display_name
from fer_augment.reports.console import messages, print_plain, results

if TYPE_CHECKING:
    from fer_augment.finished import Comparison
    from fer_augment.results.comparison import ComparisonRecord, Judgment

FORMATS: Final = ("terminal", "markdown", "github", "csv", "json")
WORSE_STATUS: Final = 3
"""Exit status of `--fail-on worse` if an arm is worse."""
UNTESTED_STATUS: Final = 2
"""Exit status of `--fail-on worse` if no arm is worse, but one has no verdict."""

format_option = click.option(
    "--format", "chosen", type=click.Choice(FORMATS), help="Format of the results on stdout; github is Markdown for a "
    "job summary.  [default: terminal]",
)  # fmt: skip
fail_option = click.option(
    "--fail-on", type=click.Choice(["worse"]),
    help=f"Exit with status {WORSE_STATUS} if an arm is worse than the baseline in balanced accuracy, accuracy or the "
    f"recall of a class, and with {UNTESTED_STATUS} if an arm cannot be tested.",
)  # fmt: skip
against_option = click.option(
    "--against", type=click.Choice(["baseline", "all"]), default="baseline", show_default=True,
    help="Test each arm against the baseline, or every two arms.",
)  # fmt: skip


def chosen_format(chosen: str | None, *, as_json: bool) -> str:
    """Return the format that `--format` and `--json` choose."""
    if as_json and chosen not in (None, "json"):
        raise click.UsageError(f"--json and --format {chosen} contradict each other; use one of them")
    return "json" if as_json else chosen or "terminal"


def show(comparison: ComparisonRecord, chosen: str) -> None:
    """Print a comparison on stdout in one of the `FORMATS`."""
    if chosen == "terminal":
        from fer_augment.reports.terminal import print_comparison

        print_comparison(comparison, results())
    elif chosen == "json":
        print_plain(comparison.model_dump_json(indent=1))
    else:
        from fer_augment.reports.tables import csv_table, github_summary, markdown

        text = {"markdown": markdown, "github": github_summary, "csv": csv_table}[chosen](comparison)
        print_plain(text, end="")


def finish(
    comparison: Comparison,
    chosen: str,
    fail_on: str | None = None,
    *,
    quiet: bool = False,
) -> None:
    """Print a comparison and where the rest is; exit with 1 if a run failed.

    With `fail_on`, exit with 3 if an arm is worse, and with 2 if an arm has no verdict.

    Args:
        comparison: the comparison.
        chosen: one of the `FORMATS`.
        fail_on: `worse`, or None.
        quiet: whether to print nothing on stderr but failures.
    """
    show(comparison, chosen)
    if comparison.is_written:
        report = comparison.directory / "report.html"
        messages(quiet=quiet).print(
            display_name(f"Results are in {comparison.directory}; open {report}"), markup=False, soft_wrap=True
        )
    if comparison.failures:
        _name_failures(comparison)
        sys.exit(1)
    if not fail_on:
        return
    if worse := list(_worse(comparison)):
        messages().print(f"worse: {', '.join(worse)}", markup=False, soft_wrap=True)
        sys.exit(WORSE_STATUS)
    if untested := list(_untested(comparison)):
        messages().print(f"no verdict for --fail-on: {', '.join(untested)}", markup=False, soft_wrap=True)
        sys.exit(UNTESTED_STATUS)


def _name_failures(comparison: Comparison) -> None:
    from fer_augment.cli import TRACEBACK_KEY
    from fer_augment.runs.failures import traceback_file

    is_asked = click.get_current_context().meta.get(TRACEBACK_KEY)
    for failure in comparison.failures:
        line = f"failed: {failure}"
        file = traceback_file(comparison.directory, failure.recipe, failure.seed) if comparison.is_written else None
        is_kept = file is not None and file.is_file()
        messages().print(line + (f" (traceback: {file})" if is_kept else ""), markup=False, soft_wrap=True)
        if is_asked and is_kept and file is not None:
            messages().print(file.read_text(encoding="utf-8"), markup=False, soft_wrap=True)


def _worse(comparison: ComparisonRecord) -> Iterator[str]:
    """Name the endpoints on the test split for which an arm is worse."""
    from fer_augment.reports.wording import class_phrase, points, printable
    from fer_augment.significance import Verdict

    for versus in comparison.versus:
        endpoints: dict[str, Judgment] = {
            "balanced accuracy": versus.balanced_accuracy,
            "accuracy": versus.accuracy,
            **{f"recall of {class_phrase(name)}": judgment for name, judgment in versus.recall.items()},
        }
        for name, judgment in endpoints.items():
            if judgment.verdict == Verdict.WORSE:
                yield f"{printable(versus.recipe)} in {name} ({points(judgment.delta)} points)"


def _untested(comparison: ComparisonRecord) -> Iterator[str]:
    """Name the arms without a verdict on balanced accuracy on the test split."""
    from fer_augment.reports.wording import printable
    from fer_augment.significance import Verdict

    if not comparison.versus:
        yield f"there is no arm to test against {printable(comparison.baseline)}"
    for versus in comparison.versus:
        verdict = versus.balanced_accuracy.verdict
        if verdict in (Verdict.ONE_RUN, Verdict.UNTESTABLE):
            yield f"{printable(versus.recipe)} is {verdict}"
