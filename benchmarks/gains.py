"""`python -m benchmarks gains`: differences of recipes from their baselines, and their training time."""

from __future__ import annotations

import datetime
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.gains_page import Gains, check_place, gains_in_markdown, insert_tables
from fer_augment.cli._options import Seeds, set_option
from fer_augment.data.whole_files import write_whole
from fer_augment.errors import FerAugmentError
from fer_augment.processes import cores

RESULTS_FILE = "gains.md"


class Refused(click.ClickException):
    """Invalid input, in one line."""

    exit_code = 2


@dataclass(frozen=True)
class Request:
    """The arguments that determine the tables; all are shown with them."""

    source: str
    seeds: tuple[int, ...]
    recipes: tuple[str, ...]
    baseline: str | None
    quick: bool
    overrides: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command that reproduces the tables; absolute paths are shortened to their last part."""
        is_count = self.seeds == tuple(range(len(self.seeds)))
        seeds = str(len(self.seeds)) if is_count else f"{','.join(map(str, self.seeds))},"
        words = ["--data", Path(self.source).name, "--seeds", seeds]
        words += [word for recipe in self.recipes for word in ("--recipe", _short_path(recipe))]
        words += ["--baseline", _short_path(self.baseline)] if self.baseline else []
        words += ["--quick"] if self.quick else []
        words += [word for override in self.overrides for word in ("--set", override)]
        return shlex.join(["python", "-m", "benchmarks", "gains", *words])


def _short_path(recipe: str) -> str:
    return Path(recipe).name if Path(recipe).is_absolute() else recipe


@click.command()
@click.option("--data", "source", default="demo", show_default=True, help="Data source, as for `fer-augment compare`.")
@click.option("--seeds", type=Seeds(), default="3", show_default=True, help="Number of seeds, or a list such as 0,3,7.")
@click.option(
    "--recipe", "recipes", multiple=True, help="A recipe to compare; may be repeated.  [default: all shipped recipes]"
)
@click.option("--baseline", help="Baseline of all recipes.  [default: the recipe that each one extends, at the root]")
@click.option("--quick", is_flag=True, help="Use a small network and few epochs; takes minutes on the demo data.")
@set_option
@click.option("--out", type=click.Path(path_type=Path), help="Output directory.  [default: results/gains/DATA]")
@click.option("--jobs", type=click.IntRange(min=1), help="Runs at a time.  [default: as many as cores]")
@click.option("--page", type=click.Path(path_type=Path), help="Markdown page to insert the tables into.")
@click.option("--place", help="Position on the page: after <!-- gains: PLACE -->.  [default: DATA]")
def gains(out: Path | None, jobs: int | None, page: Path | None, place: str | None, **options: object) -> None:
    """Compare recipes with their baselines: differences in scores, and training time.

    Makes one comparison per baseline, in OUT/BASELINE. Prints tables and writes them to OUT/gains.md. Run the same
    command again to resume. Exits with 1 if a run failed.

    \b
    python -m benchmarks gains --quick
    python -m benchmarks gains --data fer2013.csv --seeds 5 --recipe flip --recipe oversample
    """
    request = Request(**options)  # type: ignore[arg-type] # types are set by the options above
    name = Path(request.source).stem
    folder = out or Path("results") / "gains" / name
    try:
        if page:
            check_place(page, place or name)
        measured = _measured(request, folder, jobs)
        date = datetime.date.today().isoformat()
        text = gains_in_markdown(measured, command=request.command, cores=cores(), date=date)
        write_whole(folder / RESULTS_FILE, f"{text}\n")
        if page:
            insert_tables(page, place or name, text)
    except FerAugmentError as error:
        raise Refused(str(error)) from error
    click.echo(text)
    if any(gains.comparison.failures if gains.comparison else gains.error for gains in measured):
        sys.exit(1)


def _measured(request: Request, folder: Path, jobs: int | None) -> list[Gains]:
    """Compare family by family; everything that can be refused is refused before the first comparison."""
    from benchmarks.gains_families import families_of, measure, select_arms
    from fer_augment.reading import loaded_plugins, read_data

    families = families_of(request.recipes, request.overrides, baseline=request.baseline, quick=request.quick)
    catalog = loaded_plugins()
    splits = read_data(request.source)
    for family in families:
        select_arms(family, splits, catalog)
    return [measure(family, splits, seeds=request.seeds, out=folder / family.name, jobs=jobs) for family in families]
