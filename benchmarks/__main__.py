"""Shows, compares and keeps the results of `make bench`, and measures what recipes gain."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.gains import gains
from benchmarks.page import amount, performance_page, ratio_in_words
from benchmarks.pairs import RULE, Ratio, Results, is_worse, load_baseline, load_results, save_baseline

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "latest.json"
BASELINE = HERE / "baseline.json"
PAGE = HERE.parent / "docs" / "performance.md"

results_option = click.option("--results", "file", type=click.Path(path_type=Path), default=RESULTS)
baseline_option = click.option("--baseline", type=click.Path(path_type=Path), default=BASELINE)


@click.group()
def main() -> None:
    """Results of the benchmarks: ours against what a user would pick instead, and what the shipped recipes gain."""


main.add_command(gains)


@main.command()
@results_option
def table(file: Path) -> None:
    """Print all measurements of the last run."""
    results, console = _loaded(file), Console(highlight=False)
    shown = Table("what, against what", "ours", "theirs", "ratio (middle half)", "n", "aim", box=None, pad_edge=False)
    for column in shown.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    for name, section in results.sections.items():
        shown.add_row(f"[bold]{name}[/bold]")
        for pairs in section:
            ours, peer = (amount(numbers, pairs.measure) for numbers in (pairs.ours, pairs.peer))
            met = {None: "", True: "reached", False: "[red]missed[/red]"}[pairs.is_met]
            title = f"{pairs.what}, [dim]against {pairs.peer_is}[/dim]"
            shown.add_row(title, ours, peer, ratio_in_words(pairs), str(len(pairs.ratios)), met)
    console.print(shown)
    console.print(f"{results.machine}; {results.versions}; {results.date}")


@main.command()
@results_option
@baseline_option
def compare(file: Path, baseline: Path) -> None:
    """Say which ratios became worse than those that are kept; exit with 1 if one did."""
    now, before = _ratios(_loaded(file)), load_baseline(baseline)
    shown = Table("what, against what", "before", "now", "", box=None, pad_edge=False)
    verdicts = {title: _verdict(now.get(title), before.get(title)) for title in {**before, **now}}
    for title, verdict in verdicts.items():
        shown.add_row(title, _told(before.get(title)), _told(now.get(title)), verdict)
    console = Console(highlight=False)
    console.print(shown)
    console.print(RULE)
    sys.exit("worse" in verdicts.values())


@main.command()
@results_option
@baseline_option
@click.option("--page", type=click.Path(path_type=Path), default=PAGE)
def keep(file: Path, baseline: Path, page: Path) -> None:
    """Keep the ratios of the last run to compare later ones with, and write the page about them."""
    results = _loaded(file)
    save_baseline(baseline, results.measured)
    page.write_text(performance_page(results), encoding="utf-8")


def _loaded(file: Path) -> Results:
    if not file.exists():
        raise click.ClickException(f"{file}: there is none yet; run `make bench`")
    return load_results(file)


def _ratios(results: Results) -> dict[str, Ratio]:
    return {pairs.title: Ratio.of(pairs) for pairs in results.measured}


def _verdict(now: Ratio | None, before: Ratio | None) -> str:
    if now is None:
        return "not measured"
    if before is None:
        return "new"
    if is_worse(now, before):
        return "worse"
    return "better" if is_worse(before, now) else "within the noise"


def _told(ratio: Ratio | None) -> str:
    return "" if ratio is None else f"{ratio.ratio:.2f} ({ratio.low:.2f}-{ratio.high:.2f}, n = {ratio.n})"


if __name__ == "__main__":
    main()
