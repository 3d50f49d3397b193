"""`fer-augment explain`: show predictions and feature maps of a run."""

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

from fer_augment.cli._finished_run import probability_by_class, run_argument
from fer_augment.cli._options import with_reader
from fer_augment.errors import DatasetError, FerAugmentError, RunError, display_name
from fer_augment.finished import load_run
from fer_augment.reports.console import messages, progress_of, results
from fer_augment.reports.wording import printable

if TYPE_CHECKING:
    from fer_augment.data.dataset import Splits
    from fer_augment.data.records import RunRecord
    from fer_augment.reading import Source
    from fer_augment.runs.run_models import RunModel

_BAR = 40
"""Width of the bar of probability 1, in characters."""
_EIGHTHS = " ▏▎▍▌▋▊▉"
_SHOWN = 10
"""Number of classes printed per image, most probable first."""
_IN_A_SHEET = 3
"""Number of classes per image in a sheet."""


@dataclass(frozen=True, eq=False)
class _Input:
    """An image to explain.

    Attributes:
        title: title for display and file names.
        image: `(H, W, C) uint8`.
    """

    title: str
    image: NDArray[np.uint8]


@click.command(no_args_is_help=True)
@run_argument
@click.option("--data", "source", metavar="SRC", help="Explain the first image of each class in the validation split.")
@with_reader
@click.option(
    "--image",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Explain this image file; may be repeated.",
)
@click.option(
    "--resize", is_flag=True,
    help="Resize files of a different size; the aspect ratio is not kept. If the recipe or the data "
    "source sets a size, files are fitted as in training without this option.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE.png|DIR",
    help="Draw Grad-CAM and feature maps: one sheet for all images, or a folder with one sheet per image.",
)  # fmt: skip
def explain(run: Path, source: str | Source | None, files: tuple[Path, ...], resize: bool, out: Path | None) -> None:
    r"""Show predictions and feature maps of a run.

    RUN is the directory of a finished run, with or without the key at its end; specify images with either --data or
    --image. The bars are class probabilities, as printed by `fer-augment predict`. A sheet shows the regions of the
    image that speak for the predicted class (Grad-CAM, for convolutional networks) and the output of every convolution;
    each feature map is scaled from its minimum (black) to its maximum (white).

    \b
    fer-augment explain results/runs/paper/seed-0 --data fer2013.csv
    fer-augment explain results/runs/paper/seed-0 --image a.png --out maps.png
    """
    from fer_augment.metrics import softmax
    from fer_augment.runs.run_models import load_run_model

    if bool(source) == bool(files):
        raise FerAugmentError("specify either --data SRC or --image FILE")
    if source and resize:
        raise click.UsageError("--resize is for files of --image; images of --data are fitted as in training")
    model = load_run_model(load_run(run))
    inputs = _first_of_classes(model, source) if source else _of_files(model, files, resize=resize)
    probabilities = softmax(model.logits(np.stack([one.image for one in inputs])))
    console = results()
    for number, (one, row) in enumerate(zip(inputs, probabilities, strict=True)):
        if number:
            console.print()
        _print_prediction(console, one.title, probability_by_class(model.record.class_names, row))
    if out:
        _draw(model, inputs, probabilities, out)


def _first_of_classes(model: RunModel, source: str | Source) -> list[_Input]:
    """Return the first validation image of each class that has any."""
    from fer_augment.reading import open_data, splits_of

    splits = splits_of(open_data(source), model.pixels)
    _refuse_other_data(model.record, splits)
    part = splits.validation
    labels, rows = np.unique(part.labels, return_index=True)
    return [
        _Input(f"{printable(part.class_names[label])}, validation row {row}", image)
        for label, row, image in zip(labels, rows, part.images[rows], strict=True)
    ]


def _refuse_other_data(record: RunRecord, splits: Splits) -> None:
    if splits.class_names != record.class_names or splits.train.image_shape != record.image_shape:
        raise DatasetError(
            f"{splits.source}: has different classes or image sizes than the training data of the run "
            f"({', '.join(record.class_names)}; {'x'.join(map(str, record.image_shape))})"
        )


def _of_files(model: RunModel, files: Sequence[Path], *, resize: bool) -> list[_Input]:
    from fer_augment.data.new_images import read_images

    images = read_images(files, model.record.image_shape, model.pixels, resize=resize)
    return [_Input(printable(str(file)), image) for file, image in zip(files, images, strict=True)]


def _print_prediction(console: Console, title: str, probabilities: dict[str, float]) -> None:
    """Print the sorted class probabilities of an image as bars."""
    shown = list(probabilities.items())[:_SHOWN]
    console.print(Text.assemble((title, "bold"), f": {shown[0][0]}"))
    table = Table.grid(padding=(0, 1))
    table.add_column(max_width=26, overflow="ellipsis", no_wrap=True)
    table.add_column(width=_BAR)
    table.add_column(justify="right")
    for name, probability in shown:
        table.add_row(Text(f"  {name}"), Text(_bar(probability)), Text(f"{probability:.1%}"))
    console.print(table)
    if len(probabilities) > len(shown):
        console.print(f"  and {len(probabilities) - len(shown)} more classes")


def _bar(probability: float) -> str:
    full, eighths = divmod(round(8 * _BAR * probability), 8)
    return "█" * full + _EIGHTHS[eighths].strip()


def _draw(model: RunModel, inputs: Sequence[_Input], probabilities: NDArray[np.float64], out: Path) -> None:
    """Write one sheet, or a folder with one sheet per image."""
    from fer_augment.data.whole_files import write_whole
    from fer_augment.runs.feature_maps import Explained, feature_map_sheet, feature_maps
    from fer_augment.runs.grad_cam import grad_cam

    explained = []
    with progress_of("computing feature maps") as progress:
        for number, (one, row) in enumerate(zip(inputs, probabilities, strict=True), 1):
            highest = list(probability_by_class(model.record.class_names, row).items())[:_IN_A_SHEET]
            caption = "Prediction: " + ", ".join(f"{name} {probability:.1%}" for name, probability in highest)
            maps = feature_maps(model.network, one.image, model.settings)
            cam = grad_cam(model.network, one.image, int(row.argmax()), model.settings)
            explained.append(Explained(one.title, caption, one.image, maps, cam))
            progress(number, len(inputs))
    if out.suffix.lower() == ".png":
        sheets = {out: explained}
    else:
        sheets = {out / f"{number:02}_{_file_name(one.title)}.png": [one] for number, one in enumerate(explained, 1)}
    try:
        for file, shown in sheets.items():
            write_whole(file, feature_map_sheet(shown))
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror or error})") from error
    messages().print(display_name(f"Wrote {out}"), markup=False, soft_wrap=True)


def _file_name(title: str) -> str:
    """Convert a title to a safe file name."""
    return re.sub(r"\W+", "_", title).strip("_")[-60:]
