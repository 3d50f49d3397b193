"""`python -m benchmarks gains`: what each recipe gains against its baseline, class by class, and what it costs."""

from __future__ import annotations

import datetime
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.gains_page import Gains, gains_in_markdown, put_in, refuse_without_place
from fer_augment.cli._options import Seeds, set_option
from fer_augment.data.records import write_whole
from fer_augment.errors import FerAugmentError
from fer_augment.runs.executors import cores

RESULTS_FILE = "gains.md"


class Refused(click.ClickException):
    """Invalid input, in one line."""

    exit_code = 2


@dataclass(frozen=True)
class Request:
    """What is to be measured; the tables name all of it."""

    source: str
    seeds: tuple[int, ...]
    recipes: tuple[str, ...]
    baseline: str | None
    quick: bool
    overrides: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command for the same tables; of paths, only the last part, as the rest holds on this machine only."""
        counted = self.seeds == tuple(range(len(self.seeds)))
        seeds = str(len(self.seeds)) if counted else f"{','.join(map(str, self.seeds))},"
        words = ["--data", Path(self.source).name, "--seeds", seeds]
        words += [word for recipe in self.recipes for word in ("--recipe", _shown(recipe))]
        words += ["--baseline", _shown(self.baseline)] if self.baseline else []
        words += ["--quick"] if self.quick else []
        words += [word for override in self.overrides for word in ("--set", override)]
        return shlex.join(["python", "-m", "benchmarks", "gains", *words])


def _shown(recipe: str) -> str:
    return Path(recipe).name if Path(recipe).is_absolute() else recipe


@click.command()
@click.option("--data", "source", default="demo", show_default=True, help="What `fer-augment compare --data` takes.")
@click.option("--seeds", type=Seeds(), default="3", show_default=True, help="Number of seeds, or a list such as 0,3,7.")
@click.option(
    "--recipe", "recipes", multiple=True, help="A recipe to measure; may be repeated.  [default: all shipped]"
)
@click.option("--baseline", help="The baseline of all.  [default: the root of what each recipe extends]")
@click.option("--quick", is_flag=True, help="A small network and few epochs: minutes on the demo data.")
@set_option
@click.option("--out", type=click.Path(path_type=Path), help="Output directory.  [default: results/gains/DATA]")
@click.option("--jobs", type=click.IntRange(min=1), help="Runs at a time.  [default: as many as there are cores]")
@click.option("--page", type=click.Path(path_type=Path), help="A page to insert the tables into.")
@click.option("--place", help="Where on the page: below <!-- gains: PLACE -->.  [default: DATA]")
def gains(out: Path | None, jobs: int | None, page: Path | None, place: str | None, **options: object) -> None:
    """Compare recipes with their baselines: differences in recall, and training time.

    One comparison per baseline, in OUT/BASELINE; the tables are written to OUT/gains.md, too. Run the same command
    again to resume. Exits with 1 if a run failed.

    \b
    python -m benchmarks gains --quick
    python -m benchmarks gains --data fer2013.csv --seeds 5 --recipe flip --recipe oversample
    """
    request = Request(**options)  # type: ignore[arg-type] # click gives what the options above say
    name = Path(request.source).stem
    folder = out or Path("results") / "gains" / name
    try:
        if page:
            refuse_without_place(page, place or name)
        measured = _measured(request, folder, jobs)
        date = datetime.date.today().isoformat()
        text = gains_in_markdown(measured, command=request.command, cores=cores(), date=date)
        write_whole(folder / RESULTS_FILE, f"{text}\n")
        if page:
            put_in(page, place or name, text)
    except FerAugmentError as error:
        raise Refused(str(error)) from error
    click.echo(text)
    if any(one.comparison.failures if one.comparison else one.trouble for one in measured):
        sys.exit(1)


def _measured(request: Request, folder: Path, jobs: int | None) -> list[Gains]:
    """Measure family by family; everything that can be refused is refused before the first one."""
    from benchmarks.gains_families import families_of, find_arms, measure
    from fer_augment.reading import loaded_plugins, read_data

    families = families_of(request.recipes, request.overrides, baseline=request.baseline, quick=request.quick)
    catalog = loaded_plugins()
    splits = read_data(request.source)
    for family in families:
        find_arms(family, splits, catalog)
    return [measure(family, splits, seeds=request.seeds, out=folder / family.name, jobs=jobs) for family in families]
