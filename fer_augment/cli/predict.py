"""`fer-augment predict`: predict class probabilities for new images."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from fer_augment.cli._finished_run import probability_by_class, run_argument
from fer_augment.finished import load_run
from fer_augment.reports.console import print_plain, results
from fer_augment.reports.wording import printable
from fer_augment.streams import results_stream

if TYPE_CHECKING:
    from fer_augment.data.records import RunRecord

_SHOWN = 3
"""Number of classes printed per image, most probable first; JSON and CSV contain all."""


@click.command(no_args_is_help=True)
@run_argument
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option(
    "--resize", is_flag=True,
    help="Resize images of a different size; the aspect ratio is not kept. If the recipe or the data "
    "source sets a size, images are fitted as in training without this option.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
def predict(run: Path, images: tuple[Path, ...], resize: bool, as_json: bool, as_csv: bool) -> None:
    r"""Predict class probabilities for new images.

    RUN is the directory of a finished run, with or without the key at its end; IMAGE is a file in any format that data
    sources may have. Probabilities are the softmax of the logits, averaged over test-time views and adjusted as
    specified in the recipe. Color images are converted to gray, and gray images to color, as the network requires. The
    CSV table has a column prob_CLASS for each class, as `fer-augment judge` reads them.

    \b
    fer-augment predict results/runs/paper/seed-0 face.png other.jpg
    fer-augment predict results/runs/paper/seed-0 faces/*.png --csv > scores.csv
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv contradict each other; use one of them")
    finished = load_run(run)
    probabilities = finished.predict_files(images, resize=resize)
    record = finished.record
    if as_json:
        print_plain(json.dumps(_as_json(finished.path, record, images, probabilities), indent=1, ensure_ascii=False))
    elif as_csv:
        _write_csv(record, images, probabilities)
    else:
        _print(record, images, probabilities)


def _as_json(
    run: Path, record: RunRecord, files: Sequence[Path], probabilities: NDArray[np.float64]
) -> dict[str, object]:
    return {
        "run": str(run),
        "recipe": record.identity.recipe,
        "seed": record.identity.seed,
        "images": [
            {
                "file": str(file),
                "predicted": record.class_names[int(row.argmax())],
                "scores": dict(zip(record.class_names, row.tolist(), strict=True)),
            }
            for file, row in zip(files, probabilities, strict=True)
        ],
    }


def _write_csv(record: RunRecord, files: Sequence[Path], probabilities: NDArray[np.float64]) -> None:
    writer = csv.writer(results_stream(), lineterminator="\n")
    writer.writerow(["file", "predicted", *(f"prob_{name}" for name in record.class_names)])
    for file, row in zip(files, probabilities, strict=True):
        writer.writerow([file, record.class_names[int(row.argmax())], *(f"{probability:.9g}" for probability in row)])


def _print(record: RunRecord, files: Sequence[Path], probabilities: NDArray[np.float64]) -> None:
    shown = min(_SHOWN, len(record.class_names))
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("image", overflow="fold")
    for rank in ("most likely", "second", "third")[:shown]:
        table.add_column(rank, no_wrap=True)
    for file, row in zip(files, probabilities, strict=True):
        highest = list(probability_by_class(record.class_names, row).items())[:shown]
        table.add_row(Text(printable(str(file))), *(Text(f"{name} {value:.1%}") for name, value in highest))
    results().print(table)
