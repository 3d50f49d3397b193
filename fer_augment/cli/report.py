"""`fer-augment report`: show a finished comparison in several formats; nothing is trained."""

from __future__ import annotations

from pathlib import Path

import click

from fer_augment.cli._comparison_output import FORMATS, show
from fer_augment.errors import RunError
from fer_augment.reports.console import messages, print_plain, results
from fer_augment.reports.grids import Grid
from fer_augment.reports.published import PUBLISHED, published_grids
from fer_augment.reports.tables import markdown
from fer_augment.reports.terminal import print_grid
from fer_augment.results.comparison import ComparisonRecord, read_comparison


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
@click.option(
    "--format",
    "chosen",
    type=click.Choice([*FORMATS, "html"]),
    help="Write only this format; html writes DIR/report.html and prints its path.",
)
@click.option("--published", is_flag=True, help="Add the results of the originating report (terminal, markdown).")
def report(directory: Path, chosen: str | None, published: bool) -> None:
    r"""Show the comparison in DIR and rewrite DIR/report.html.

    DIR is the output directory of `fer-augment compare … --out DIR`.

    \b
    fer-augment report results/paper_smote
    fer-augment report results/paper_smote --format markdown > table.md
    """
    comparison = read_comparison(directory)
    if published and chosen not in (None, "terminal", "markdown"):
        raise click.UsageError(f"--published requires --format terminal or markdown, not {chosen}")
    further = _published(comparison) if published else ()
    if chosen == "html":
        print_plain(str(_write_html(directory)))
    elif chosen == "markdown" and further:
        print_plain(markdown(comparison, further), end="")
    else:
        show(comparison, chosen or "terminal")
        for grid in further:
            print_grid(grid, results())
    if chosen is None:
        messages().print(f"Report with figures: {_write_html(directory)}", markup=False, soft_wrap=True)


def _write_html(directory: Path) -> Path:
    from fer_augment.reports.html import write_report

    return write_report(directory)


def _published(comparison: ComparisonRecord) -> tuple[Grid, ...]:
    grids = published_grids(comparison)
    if not grids:
        recipes = ", ".join(recipe for model in PUBLISHED for recipe in model.recipes)
        raise RunError(
            f"--published: this comparison has none of the recipes {recipes} on FER2013's PrivateTest split, "
            "for which there are published results"
        )
    return tuple(grids)
