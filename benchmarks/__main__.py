"""`python -m benchmarks`: show, compare and store results of the benchmarks, and compare the shipped recipes."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.baseline import RULE, Runs, baseline_of, changes, load_baselines, save_baselines
from benchmarks.calibration import calibration
from benchmarks.demo_verdicts import demo_verdicts
from benchmarks.designs import designs
from benchmarks.gains import gains
from benchmarks.judging import judging
from benchmarks.networks import networks
from benchmarks.page import amount, performance_page, ratio_text
from benchmarks.pairs import Results, load_results
from benchmarks.transfer import fine_tuning, heads

HERE = Path(__file__).parent
BASELINE = HERE / "baseline.json"
PAGE = HERE.parent / "docs" / "performance.md"

results_option = click.option(
    "--results",
    "folder",
    type=click.Path(path_type=Path),
    default=HERE / "results",
    help="Folder of JSON files of pytest-benchmark, one for each run: `run_1.json` and so on.",
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
def table(folder: Path) -> None:
    """Print all measurements of the last benchmark run."""
    results, console = _loaded(folder)[-1], Console(highlight=False)
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
    console.print(f"{results.machine}, {results.instructions}; {results.versions}; {results.date}")


@main.command()
@results_option
@baseline_option
def compare(folder: Path, baseline: Path) -> None:
    """Compare ratios with those stored for the instruction set; exit with 1 if one is worse."""
    loaded = _loaded(folder)
    now = baseline_of(results.measured for results in loaded)
    before = load_baselines(baseline).get(loaded[-1].instructions, {})
    found = changes(now, before)
    table = Table("task vs. alternative", "stored ratio", "new ratio", "", box=None, pad_edge=False)
    for title, change in found.items():
        table.add_row(title, _ratio_text(before.get(title)), _ratio_text(now.get(title)), change)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"Instruction set: {loaded[-1].instructions}. {RULE}")
    sys.exit("worse" in found.values())


@main.command()
@results_option
@baseline_option
@click.option("--page", type=click.Path(path_type=Path), default=PAGE, help="The page to write.")
def keep(folder: Path, baseline: Path, page: Path) -> None:
    """Add the ratios of the benchmark runs to the stored ones of the instruction set, and write the page of results.

    Stored measurements that were not measured again are dropped: their titles have changed.
    """
    loaded = _loaded(folder)
    stored = load_baselines(baseline) if baseline.exists() else {}
    instructions = loaded[-1].instructions
    before, now = stored.get(instructions, {}), baseline_of(results.measured for results in loaded)
    stored[instructions] = {
        title: before[title].followed_by(runs) if title in before else runs for title, runs in now.items()
    }
    save_baselines(baseline, stored)
    page.write_text(performance_page(loaded[-1]), encoding="utf-8")


def _loaded(folder: Path) -> list[Results]:
    """Return the results of each benchmark run, the newest last."""
    files = sorted(folder.glob("run_*.json"), key=lambda file: (len(file.name), file.name))
    if not files:
        raise click.ClickException(f"{folder}: no file run_*.json; run `make bench` to create it")
    loaded = [load_results(file) for file in files]
    if len({results.instructions for results in loaded}) > 1:
        raise click.ClickException(f"{folder}: results of several instruction sets; run `make bench` again")
    return loaded


def _ratio_text(runs: Runs | None) -> str:
    if runs is None:
        return ""
    low, high, n = min(runs.ratios), max(runs.ratios), len(runs.ratios)
    return f"{runs.ratio:.2f}" + (f" ({low:.2f}-{high:.2f}, n = {n})" if n > 1 else "")


if __name__ == "__main__":
    main()
