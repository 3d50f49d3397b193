"""`fer-augment predict`: what a trained network says of new images."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from fer_augment.cli._console import messages, progress_of, results
from fer_augment.cli._finished_run import finished_run, run_argument, score_by_class
from fer_augment.reports.wording import printable

if TYPE_CHECKING:
    from fer_augment.data.records import RunRecord
    from fer_augment.runs.run_models import RunModel

_IMAGES_AT_ONCE = 512
_SHOWN = 3
"""How many classes of an image are printed, the highest scores first; JSON and CSV have all."""


@click.command(no_args_is_help=True)
@run_argument
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option("--resize", is_flag=True, help="Scale images of another size; width and height each by itself.")
@click.option("--json", "form", flag_value="json", help="Write JSON.")
@click.option("--csv", "form", flag_value="csv", help="Write CSV.")
def predict(run: Path, images: tuple[Path, ...], resize: bool, form: str | None) -> None:
    r"""Tell the class scores of new png or jpg images.

    RUN is the directory of a finished run. Scores are the softmax of the network's logits, averaged over the recipe's
    test-time views and adjusted as the recipe says; they sum to 1. Color and gray are converted as the network needs
    it.

    \b
    fer-augment predict results/runs/paper/seed-0-1a2b3c4d5e6f face.png other.jpg
    fer-augment predict results/runs/paper/seed-0-1a2b3c4d5e6f faces/*.png --csv > scores.csv
    """
    from fer_augment.runs.run_models import changed_steps, load_run_model

    directory = finished_run(run)
    model = load_run_model(directory)
    for step in changed_steps(model.record, model.pipeline.steps):
        messages().print(f"warning: {step} has changed since the run was made", markup=False, soft_wrap=True)
    scores = _scores(model, images, resize)
    if form == "json":
        click.echo(json.dumps(_as_json(directory.path, model.record, images, scores), indent=1, ensure_ascii=False))
    elif form == "csv":
        _write_csv(model.record, images, scores)
    else:
        _print(model.record, images, scores)


def _scores(model: RunModel, files: Sequence[Path], resize: bool) -> NDArray[np.float64]:
    """Return the `(N, K)` class probabilities of N files."""
    from fer_augment.data.new_images import read_images
    from fer_augment.metrics import softmax

    parts = []
    with progress_of("predicting") as progress:
        for start in range(0, len(files), _IMAGES_AT_ONCE):
            chunk = files[start : start + _IMAGES_AT_ONCE]
            parts.append(softmax(model.logits(read_images(chunk, model.record.image_shape, resize=resize))))
            progress(start + len(chunk), len(files))
    return np.concatenate(parts)


def _as_json(run: Path, record: RunRecord, files: Sequence[Path], scores: NDArray[np.float64]) -> dict[str, object]:
    return {
        "run": str(run),
        "recipe": record.identity.recipe,
        "seed": record.identity.seed,
        "images": [
            {
                "file": str(file),
                "predicted": record.class_names[int(said.argmax())],
                "scores": dict(zip(record.class_names, said.tolist(), strict=True)),
            }
            for file, said in zip(files, scores, strict=True)
        ],
    }


def _write_csv(record: RunRecord, files: Sequence[Path], scores: NDArray[np.float64]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", "predicted", *(f"score_{name}" for name in record.class_names)])
    for file, said in zip(files, scores, strict=True):
        writer.writerow([file, record.class_names[int(said.argmax())], *(f"{score:.6f}" for score in said)])


def _print(record: RunRecord, files: Sequence[Path], scores: NDArray[np.float64]) -> None:
    shown = min(_SHOWN, len(record.class_names))
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("image", overflow="fold")
    for place in ("most likely", "second", "third")[:shown]:
        table.add_column(place, no_wrap=True)
    for file, said in zip(files, scores, strict=True):
        highest = list(score_by_class(record.class_names, said).items())[:shown]
        table.add_row(Text(printable(str(file))), *(Text(f"{name} {score:.1%}") for name, score in highest))
    results().print(table)
