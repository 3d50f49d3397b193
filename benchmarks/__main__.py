"""`python -m benchmarks`: show, compare and store results of the benchmarks, and compare the shipped recipes."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.calibration import calibration
from benchmarks.demo_verdicts import demo_verdicts
from benchmarks.designs import designs
from benchmarks.gains import gains
from benchmarks.judging import judging
from benchmarks.networks import networks
from benchmarks.page import amount, performance_page, ratio_text
from benchmarks.pairs import RULE, Ratio, Results, is_worse, load_baseline, load_results, save_baseline
from benchmarks.transfer import fine_tuning, heads

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "latest.json"
BASELINE = HERE / "baseline.json"
PAGE = HERE.parent / "docs" / "performance.md"

results_option = click.option(
    "--results", "file", type=click.Path(path_type=Path), default=RESULTS, help="JSON file of pytest-benchmark."
)
baseline_option = click.option(
    "--baseline", type=click.Path(path_type=Path), default=BASELINE, help="File of stored ratios."
)


@click.group()
def main() -> None:
    """Compare time and memory of fer_augment with alternatives, and the shipped recipes with their baselines."""


main.add_command(gains)
main.add_command(calibration)
main.add_command(demo_verdicts)
main.add_command(judging)
main.add_command(designs)
main.add_command(networks)
main.add_command(fine_tuning)
main.add_command(heads)


@main.command()
@results_option
def table(file: Path) -> None:
    """Print all measurements of the last benchmark run."""
    results, console = _loaded(file), Console(highlight=False)
    columns = ("task vs. alternative", "fer_augment", "alternative", "ratio (IQR)", "n", "target")
    measurements = Table(*columns, box=None, pad_edge=False)
    for column in measurements.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    for name, section in results.sections.items():
        measurements.add_row(f"[bold]{name}[/bold]")
        for pairs in section:
            ours, theirs = (amount(numbers, pairs.measure) for numbers in (pairs.ours, pairs.theirs))
            target = {None: "", True: "met", False: "[red]missed[/red]"}[pairs.is_met]
            title = f"{pairs.task} [dim]vs. {pairs.alternative}[/dim]"
            measurements.add_row(title, ours, theirs, ratio_text(pairs), str(len(pairs.ratios)), target)
    console.print(measurements)
    console.print(f"{results.machine}; {results.versions}; {results.date}")


@main.command()
@results_option
@baseline_option
def compare(file: Path, baseline: Path) -> None:
    """Compare ratios with the stored ones; exit with 1 if one is worse."""
    now, before = _ratios(_loaded(file)), load_baseline(baseline)
    changes = Table("task vs. alternative", "stored ratio (IQR)", "new ratio (IQR)", "", box=None, pad_edge=False)
    verdicts = {title: _verdict(now.get(title), before.get(title)) for title in {**before, **now}}
    for title, verdict in verdicts.items():
        changes.add_row(title, _ratio_text(before.get(title)), _ratio_text(now.get(title)), verdict)
    console = Console(highlight=False)
    console.print(changes)
    console.print(RULE)
    sys.exit("worse" in verdicts.values())


@main.command()
@results_option
@baseline_option
@click.option("--page", type=click.Path(path_type=Path), default=PAGE, help="The page to write.")
def keep(file: Path, baseline: Path, page: Path) -> None:
    """Store the ratios of the last benchmark run as the baseline, and write the page of results."""
    results = _loaded(file)
    save_baseline(baseline, results.measured)
    page.write_text(performance_page(results), encoding="utf-8")


def _loaded(file: Path) -> Results:
    if not file.exists():
        raise click.ClickException(f"{file}: no such file; run `make bench` to create it")
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


def _ratio_text(ratio: Ratio | None) -> str:
    return "" if ratio is None else f"{ratio.ratio:.2f} ({ratio.low:.2f}-{ratio.high:.2f}, n = {ratio.n})"


if __name__ == "__main__":
    main()
