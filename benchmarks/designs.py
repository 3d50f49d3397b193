"""`python -m benchmarks designs`: intervals of cross-validation and of a fixed split after equally many trainings."""

from __future__ import annotations

import math
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

import fer_augment as fa
from benchmarks.networks import stratified_share
from fer_augment import Splits
from fer_augment.finished import Comparison
from fer_augment.reports.wording import points

SETTINGS = ("model=vgg_tiny", "training.epochs=10", "training.batch_size=64", "training.evaluate_every=10")
FOLDS, REPEATS = 5, 2


@click.command()
@click.option("--data", required=True, help="The data source, with splits.")
@click.option("--share", default=0.1, help="Share of each class of each split that is used.")
@click.option("--recipe", "recipes", multiple=True, default=("modern", "modern_power_sampler"), help="Two recipes.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/designs"), help="For results.")
def designs(data: str, share: float, recipes: tuple[str, ...], out: Path) -> None:
    """Compare two recipes with ten seeds of the given split, and with 5 folds x 2 repeats of all images.

    Each design trains each recipe ten times, on about equally many images. Prints half the width of the intervals of
    the difference, in percentage points, for each class.
    """
    whole = fa.read_data(data)
    parts = {name: stratified_share(part, share) for name, part in whole.parts.items()}
    total = sum(map(len, parts.values()))
    splits = Splits(parts["train"], parts["validation"], parts["test"], f"{whole.source}, {total:,} images")
    seeds = fa.compare(recipes, splits, seeds=FOLDS * REPEATS, out=out / "seeds", overrides=SETTINGS)
    folds = fa.compare(recipes, splits, folds=FOLDS, repeats=REPEATS, out=out / "folds", overrides=SETTINGS)
    table = Table("endpoint", "test images", "ten seeds", "images scored", "5 folds x 2", box=None)
    for (name, rows, of_seeds), (_, scored, of_folds) in zip(_differences(seeds), _differences(folds), strict=True):
        table.add_row(name, f"{rows:,}", of_seeds, f"{scored:,}", of_folds)
    console = Console(highlight=False, width=110)
    console.print(f"{recipes[1]} against {recipes[0]}, {splits.source}")
    console.print(table)
    console.print(", ".join(f"{name} {value}" for name, value in seeds.environment.items()))


def _differences(comparison: Comparison) -> list[tuple[str, int, str]]:
    """Return name, number of images, and `difference ± half-width` of each endpoint of the second recipe."""
    frame = comparison.to_frame()
    chosen = frame[(frame["split"] == "test") & frame["delta"].notna()]
    return [
        (
            row["endpoint"] if row["endpoint"] != "recall" else f"recall of {row['class']}",
            int(row["rows"]),
            _with_half_width(row["delta"], row["delta_ci95_high"] - row["delta_ci95_low"]),
        )
        for _, row in chosen.iterrows()
    ]


def _with_half_width(delta: float, width: float) -> str:
    """Return a difference with its half-width; without one if no run of either recipe ever varies."""
    return points(delta) if math.isnan(width) else f"{points(delta)} ± {100 * width / 2:.1f}"
