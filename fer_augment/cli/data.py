"""`fer-augment data`: what is in a data source, what is wrong with it, and a form of it that opens at once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from fer_augment.cli._console import progress_of, results
from fer_augment.errors import FerAugmentError

if TYPE_CHECKING:
    from fer_augment.data.dataset import Splits

source_argument = click.argument("source", metavar="SRC")
json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


@click.group()
def data() -> None:
    """Look at a data source, audit it, convert it.

    SRC is fer2013.csv, icml_face_data.csv, a zip or folder of images (split/class/image or class/image), a converted
    folder, or the word demo.
    """


@data.command()
@source_argument
@json_option
def show(source: str, as_json: bool) -> None:
    r"""Show class counts, image size and fingerprint.

    The last line is the imbalance ratio of each split: rows of its largest class over rows of its smallest.

    \b
    fer-augment data show fer2013.csv
    fer-augment data show demo --json
    """
    from fer_augment.reports.data_terminal import imbalance, print_histograms

    splits = _read(source)
    if not as_json:
        print_histograms(splits, results())
        return
    parts = {
        name: {
            "rows": len(part),
            "counts": dict(zip(part.class_names, part.counts.tolist(), strict=True)),
            "imbalance": imbalance(part),
        }
        for name, part in splits.parts.items()
    }
    image = dict(zip(("height", "width", "channels"), splits.train.image_shape, strict=True))
    described = {"source": splits.source, "fingerprint": splits.fingerprint, "image": image, "splits": parts}
    click.echo(json.dumps(described, indent=1))


@data.command()
@source_argument
@json_option
@click.option(
    "--sheet",
    metavar="FILE.png",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also draw the worst groups, contradictory ones first, and the blank images; replaces FILE.png.",
)
def audit(source: str, as_json: bool, sheet: Path | None) -> None:
    r"""Find repeated, mirrored, contradictory and blank images.

    Looks within and across splits, and says how many validation and test rows also stand in the training split: scores
    on them tell what was learnt by heart. JSON has every group with its rows.

    \b
    fer-augment data audit fer2013.csv --sheet worst.png
    fer-augment data audit fer2013.csv --json > audit.json
    """
    from fer_augment.data.audit import audit as audited
    from fer_augment.reports.contact_sheet import contact_sheet
    from fer_augment.reports.data_terminal import print_audit

    if sheet and sheet.suffix.lower() != ".png":
        raise FerAugmentError(f"--sheet {sheet}: the sheet is a PNG file; give it a name that ends in .png")
    splits = _read(source)
    with progress_of("looking at images") as progress:
        found = audited(splits, progress)
    if sheet:
        _write(sheet, contact_sheet(splits, found))
    if as_json:
        click.echo(found.model_dump_json(indent=1))
    else:
        print_audit(found, results())


@data.command()
@source_argument
@click.argument("out", type=click.Path(path_type=Path))
def convert(source: str, out: Path) -> None:
    r"""Write a data source as a folder of .npy files.

    OUT is a new folder; its files open at once and need no memory. The data stay the same to the last bit, and so does
    the fingerprint; every command takes the folder as a source.

    \b
    fer-augment data convert fer2013.csv fer2013
    fer-augment compare paper oversample --data fer2013 --seeds 5
    """
    from fer_augment.data.npy_format import refuse_existing, write_npy_folder

    refuse_existing(out)
    splits = _read(source)
    with progress_of(f"writing {escape(str(out))}") as progress:
        write_npy_folder(splits, out, progress)
    rows = sum(map(len, splits.parts.values()))
    click.echo(f"{out}: {rows:,} images, fingerprint {splits.fingerprint[:16]}")


def _read(source: str) -> Splits:
    from fer_augment.hooks.plugin_manager import installed_plugins

    with progress_of(f"reading {escape(source)}") as progress:
        return installed_plugins().read(source, progress)


def _write(file: Path, content: bytes) -> None:
    from fer_augment.data.records import write_whole

    try:
        write_whole(file, content)
    except OSError as error:
        raise FerAugmentError(f"{file}: cannot be written ({os.strerror(error.errno or 0)})") from error
