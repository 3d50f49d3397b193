"""Compare networks at equal time: accuracy and seconds of a training, for several numbers of epochs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

import fer_augment as fa
from fer_augment import ImageDataset, Splits
from fer_augment.finished import Comparison
from fer_augment.reports.wording import percent, spread
from fer_augment.results.comparison import Arm

NETWORKS = ("vgg_mini", "resnet_small")


def stratified_share(dataset: ImageDataset, share: float) -> ImageDataset:
    """Return a share of the rows of each class, evenly spaced."""
    rows = [np.flatnonzero(dataset.labels == label) for label in range(len(dataset.class_names))]
    chosen = [own[np.linspace(0, len(own) - 1, max(1, round(share * len(own)))).astype(int)] for own in rows]
    return dataset.take(np.sort(np.concatenate(chosen)))


def _folder_name(network: str) -> str:
    """Return a name for the arm of a network, which a recipe writes as a name, or as a name with parameters."""
    return "_".join(re.findall(r"\w+", network))


@click.command()
@click.option("--data", required=True, help="The data source.")
@click.option("--share", default=1.0, help="Share of the training images of each class that is used.")
@click.option(
    "--network", "networks", multiple=True, default=NETWORKS, help="A network as in a recipe; may be repeated."
)
@click.option("--epochs", multiple=True, type=int, default=(10, 30), help="Epochs; may be repeated.")
@click.option("--seeds", default=3, help="Seeds.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/networks"), help="For results.")
def networks(
    data: str, share: float, networks: tuple[str, ...], epochs: tuple[int, ...], seeds: int, out: Path
) -> None:
    """Train networks with the recipe `modern` for several numbers of epochs, one run at a time."""
    splits = fa.read_data(data)
    training = stratified_share(splits.train, share)
    few = Splits(training, splits.validation, splits.test, f"{splits.source}, {len(training):,} training images")
    modern = fa.load_recipe("modern").model_dump(mode="json")
    recipes = [
        fa.Recipe(
            **{
                **modern,
                "name": f"{_folder_name(network)}_{number}",
                "model": yaml.safe_load(network),
                "training": {**modern["training"], "epochs": number, "evaluate_every": number},
            }
        )
        for network in networks
        for number in epochs
    ]
    comparison = fa.compare(recipes, few, seeds=seeds, out=out, jobs=1)
    console = Console(highlight=False)
    console.print(arms_table(comparison, {"parameters": lambda arm: f"{arm.parameter_count:,}"}))
    console.print(f"{few.source}; {', '.join(f'{name} {value}' for name, value in comparison.environment.items())}")


def arms_table(comparison: Comparison, further: Mapping[str, Callable[[Arm], str]]) -> Table:
    """Return scores and times of the arms of a comparison, with further columns."""
    table = Table("arm", "balanced accuracy", "accuracy", "seconds of a training", "n", *further, box=None)
    for arm in comparison.arms:
        table.add_row(
            arm.recipe,
            percent(arm.test.balanced_accuracy),
            percent(arm.test.accuracy),
            spread(arm.training_seconds),
            str(len(arm.seeds)),
            *(value_of(arm) for value_of in further.values()),
        )
    return table
