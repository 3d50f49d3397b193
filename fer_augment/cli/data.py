"""`fer-augment data`: show, audit and convert data sources."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fer_augment.cli._options import with_reader
from fer_augment.errors import FerAugmentError, display_name
from fer_augment.reports.console import messages, print_plain, progress_of, results

if TYPE_CHECKING:
    from fer_augment.data.dataset import Splits
    from fer_augment.reading import Source

source_argument = click.argument("source", metavar="SRC")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="Size and color of all images, as in recipes: data.size=96, data.fit=pad or data.channels=gray; may be "
    "repeated.",
)  # fmt: skip


@click.group()
def data() -> None:
    """Show, audit or convert a data source.

    SRC is a folder, zip or tar archive of images (split/class/image or class/image), a table of image names and labels,
    a source description in YAML, an npz file, a folder of npy or idx files, fer2013.csv, or the word demo.
    """


@data.command()
@source_argument
@with_reader
@set_option
@json_option
def show(source: str | Source, overrides: tuple[str, ...], as_json: bool) -> None:
    r"""Show class counts, image size, fingerprint, groups, and what was converted or left out.

    The last line is the imbalance ratio of each split: number of rows of the largest class divided by that of the
    smallest.

    \b
    fer-augment data show fer2013.csv
    fer-augment data show photos.zip --set data.size=96 --json
    """
    from fer_augment.reports.data_terminal import imbalance, print_histograms, soft_labels, source_groups

    splits = _read(source, overrides)
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
    summary = {
        "source": splits.source,
        "fingerprint": splits.fingerprint,
        "image": image,
        "splits": parts,
        "soft_labels": (soft := soft_labels(splits)) and asdict(soft),
        "groups": (groups := source_groups(splits)) and asdict(groups),
        "notes": splits.notes,
    }
    print_plain(json.dumps(summary, indent=1))


@data.command()
@source_argument
@with_reader
@set_option
@json_option
@click.option(
    "--sheet",
    metavar="FILE.png",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a contact sheet of the worst groups and the blank images; overwrites FILE.png.",
)
def audit(source: str | Source, overrides: tuple[str, ...], as_json: bool, sheet: Path | None) -> None:
    r"""Find duplicates, conflicting labels, blank images, and groups across splits.

    Finds exact, near and mirrored duplicates within and across splits, and counts the validation and test rows with a
    duplicate in the training split: scores on these rows measure memorization. The same is counted for groups that the
    source declares, such as patients. JSON output lists all groups with their rows and files.

    \b
    fer-augment data audit fer2013.csv --sheet worst.png
    fer-augment data audit photos.zip --set data.size=96 --json > audit.json
    """
    from fer_augment.data.audit_store import audited
    from fer_augment.reports.contact_sheet import contact_sheet
    from fer_augment.reports.data_terminal import print_audit

    if sheet and sheet.suffix.lower() != ".png":
        raise FerAugmentError(f"--sheet {sheet}: the contact sheet is a PNG file; use the suffix .png")
    splits = _read(source, overrides)
    with progress_of("auditing images") as progress:
        result = audited(splits, progress)
    if sheet:
        drawn = contact_sheet(splits, result)
        if drawn:
            _write(sheet, drawn)
        message = f"Wrote {sheet}" if drawn else f"No duplicates and no blank images to show; {sheet} is not written"
        messages().print(display_name(message), markup=False, soft_wrap=True)
    if as_json:
        print_plain(result.model_dump_json(indent=1))
    else:
        print_audit(result, results())


@data.command()
@source_argument
@with_reader
@click.argument("out", type=click.Path(path_type=Path))
@set_option
def convert(source: str | Source, out: Path, overrides: tuple[str, ...]) -> None:
    r"""Convert a data source to a folder of .npy files.

    OUT is a new folder. Its files are memory-mapped: opening them is instant and needs no memory. Pixels, labels and
    fingerprint are unchanged, except for the size and color that --set asks for, and every command accepts the folder
    as SRC.

    \b
    fer-augment data convert fer2013.csv fer2013
    fer-augment data convert photos.zip photos_96 --set data.size=96
    """
    from fer_augment.data.npy_format import refuse_existing, write_npy_folder

    refuse_existing(out)
    splits = _read(source, overrides)
    with progress_of(f"writing {out}") as progress:
        write_npy_folder(splits, out, progress)
    rows = sum(map(len, splits.parts.values()))
    print_plain(f"{out}: {rows:,} images, fingerprint {splits.fingerprint[:16]}")


def _read(source: str | Source, overrides: tuple[str, ...]) -> Splits:
    from fer_augment.reading import read_data
    from fer_augment.recipe.recipe import pixel_settings

    pixels = pixel_settings(overrides)
    return read_data(source, size=pixels.size, fit=pixels.fit, channels=pixels.channels)


def _write(file: Path, content: bytes) -> None:
    from fer_augment.data.whole_files import write_whole

    try:
        write_whole(file, content)
    except OSError as error:
        raise FerAugmentError(f"{file}: cannot be written ({os.strerror(error.errno or 0)})") from error
