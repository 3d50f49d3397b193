"""`fer-augment explain`: what a trained network says of images, and what its convolutions make of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fer_augment.cli._console import messages, progress_of, results
from fer_augment.cli._finished_run import finished_run, run_argument, score_by_class
from fer_augment.cli._runs import read_data
from fer_augment.errors import DatasetError, FerAugmentError, RunError
from fer_augment.reports.wording import printable

if TYPE_CHECKING:
    from fer_augment.data.dataset import Splits
    from fer_augment.data.records import RunRecord
    from fer_augment.runs.run_models import RunModel

_BAR = 40
"""How many columns the bar of a score of 1 is wide."""
_EIGHTHS = " ▏▎▍▌▋▊▉"
_SHOWN = 10
"""How many classes of an image are printed, the highest scores first."""
_IN_A_SHEET = 3
"""How many classes of an image a sheet names."""


@dataclass(frozen=True, eq=False)
class _Asked:
    """An image that the network is asked about.

    Attributes:
        title: what to call it.
        image: `(H, W, C) uint8`.
    """

    title: str
    image: NDArray[np.uint8]


@click.command(no_args_is_help=True)
@run_argument
@click.option(
    "--data", "source", metavar="SRC", help="Explain one image of each class: its first row in the validation split."
)
@click.option(
    "--image", "files", multiple=True, type=click.Path(path_type=Path), help="Explain this file; may be repeated."
)
@click.option("--resize", is_flag=True, help="Scale files of another size; width and height each by itself.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE.png|DIR",
    help="Draw the feature maps: all on one sheet, or one sheet for each image.",
)  # fmt: skip
def explain(run: Path, source: str | None, files: tuple[Path, ...], resize: bool, out: Path | None) -> None:
    r"""Show what a network says of images, and its feature maps.

    RUN is the directory of a finished run. The bars are class scores, as `fer-augment predict` gives them. A sheet has
    the output of every convolution, each map scaled by itself from black (lowest) to white (highest).

    \b
    fer-augment explain results/runs/paper/seed-0-1a2b3c4d5e6f --data fer2013.csv --out maps.png
    fer-augment explain results/runs/paper/seed-0-1a2b3c4d5e6f --image face.png
    """
    from fer_augment.metrics import softmax
    from fer_augment.runs.run_models import load_run_model

    if bool(source) == bool(files):
        raise FerAugmentError("say what to explain: --data SRC or --image FILE, one of both")
    model = load_run_model(finished_run(run))
    asked = _first_of_classes(model.record, source) if source else _of_files(model.record, files, resize=resize)
    scores = softmax(model.logits(np.stack([one.image for one in asked])))
    console = results()
    for number, (one, said) in enumerate(zip(asked, scores, strict=True)):
        if number:
            console.print()
        _print_scores(console, one.title, score_by_class(model.record.class_names, said))
    if out:
        _draw(model, asked, scores, out)


def _first_of_classes(record: RunRecord, source: str) -> list[_Asked]:
    """Return the first validation row of each class that has one."""
    from fer_augment.hooks.plugin_manager import installed_plugins

    splits = read_data(installed_plugins(), source)
    _refuse_other_data(record, splits)
    part = splits.validation
    labels, rows = np.unique(part.labels, return_index=True)
    return [
        _Asked(f"{printable(part.class_names[label])}, validation row {row}", image)
        for label, row, image in zip(labels, rows, part.images[rows], strict=True)
    ]


def _refuse_other_data(record: RunRecord, splits: Splits) -> None:
    if splits.class_names != record.class_names or splits.train.image_shape != record.image_shape:
        raise DatasetError(
            f"{splits.source}: has other classes or image sizes than the data that the run was trained on "
            f"({', '.join(record.class_names)}; {'x'.join(map(str, record.image_shape))})"
        )


def _of_files(record: RunRecord, files: Sequence[Path], *, resize: bool) -> list[_Asked]:
    from fer_augment.data.new_images import read_images

    images = read_images(files, record.image_shape, resize=resize)
    return [_Asked(printable(str(file)), image) for file, image in zip(files, images, strict=True)]


def _print_scores(console: Console, title: str, scores: dict[str, float]) -> None:
    """Print the scores of an image, the highest first, as bars."""
    shown = list(scores.items())[:_SHOWN]
    console.print(Text.assemble((title, "bold"), f": {shown[0][0]}"))
    table = Table.grid(padding=(0, 1))
    table.add_column(max_width=26, overflow="ellipsis", no_wrap=True)
    table.add_column(width=_BAR)
    table.add_column(justify="right")
    for name, score in shown:
        table.add_row(Text(f"  {name}"), Text(_bar(score)), Text(f"{score:.1%}"))
    console.print(table)
    if len(scores) > len(shown):
        console.print(f"  and {len(scores) - len(shown)} more classes")


def _bar(score: float) -> str:
    full, eighths = divmod(round(8 * _BAR * score), 8)
    return "█" * full + _EIGHTHS[eighths].strip()


def _draw(model: RunModel, asked: Sequence[_Asked], scores: NDArray[np.float64], out: Path) -> None:
    """Write one sheet, or a folder with a sheet for each image."""
    from fer_augment.data.records import write_whole
    from fer_augment.runs.feature_maps import Explained, feature_map_sheet, feature_maps

    explained = []
    with progress_of("working out feature maps") as progress:
        for number, (one, said) in enumerate(zip(asked, scores, strict=True), 1):
            highest = list(score_by_class(model.record.class_names, said).items())[:_IN_A_SHEET]
            told = "Scores: " + ", ".join(f"{name} {score:.1%}" for name, score in highest)
            explained.append(
                Explained(one.title, told, one.image, feature_maps(model.network, one.image, model.settings))
            )
            progress(number, len(asked))
    if out.suffix.lower() == ".png":
        sheets = {out: explained}
    else:
        sheets = {out / f"{number:02}_{_file_name(one.title)}.png": [one] for number, one in enumerate(explained, 1)}
    try:
        for file, shown in sheets.items():
            write_whole(file, feature_map_sheet(shown))
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror or error})") from error
    messages().print(f"Wrote {out}", markup=False, soft_wrap=True)


def _file_name(title: str) -> str:
    """Return a title as a file's name without anything that could lead elsewhere."""
    return re.sub(r"\W+", "_", title).strip("_")[-60:]
