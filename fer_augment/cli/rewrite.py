"""`fer-augment rewrite`: rewrite the training set alone, to look at it and to use it elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fer_augment.cli._options import data_option, json_option, set_option, with_reader
from fer_augment.data.export import FORMATS
from fer_augment.errors import FerAugmentError, display_name
from fer_augment.reports.console import messages, print_plain, results

if TYPE_CHECKING:
    from fer_augment.reading import Source


@click.command(no_args_is_help=True)
@click.argument("recipe")
@data_option
@with_reader
@click.option("--out", type=click.Path(path_type=Path), help="The directory to write; it must not exist.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The seed.")
@set_option
@click.option(
    "--format", "formats", type=click.Choice(FORMATS), multiple=True, default=("npz",), show_default=True,
    help="Format of the rows; may be repeated.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the counts only; write nothing.")
@json_option
def rewrite(
    recipe: str,
    source: str | Source,
    out: Path | None,
    seed: int,
    overrides: tuple[str, ...],
    formats: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    r"""Rewrite the training set as a recipe does, and write it to files.

    Nothing is trained but the scouts that mining strategies query; they are cached for later runs. OUT receives the
    rows with their provenance, gallery.png with examples of what each step added, and README.md.

    \b
    fer-augment rewrite confusion_mirror --data fer2013.csv --dry-run
    fer-augment rewrite smote --data faces.zip --out faces_smote --format folder
    """
    from fer_augment.preparing import bound_recipes, data_for
    from fer_augment.reports.rewriting import print_rewriting
    from fer_augment.rewriting_export import check_export, export_rewriting, summary_of
    from fer_augment.single_runs import rewrite as rewritten

    if out is None and not dry_run:
        raise FerAugmentError("name the directory to write with --out DIR, or use --dry-run to see the counts only")
    # read as the recipe asks for, before anything is trained, to refuse formats that the data do not fit
    (arm,) = bound_recipes([recipe], overrides, quiet=False)
    splits = data_for([arm], source, progress=True).splits_for(arm.recipe)
    target = None if dry_run else out
    if target:
        check_export(target, formats, splits)
    rewriting = rewritten(recipe, splits, seed=seed, overrides=overrides)
    files = export_rewriting(rewriting, target, formats) if target else []
    summary = summary_of(rewriting)
    if as_json:
        print_plain(json.dumps({**summary.model_dump(mode="json"), "files": files}, indent=1, ensure_ascii=False))
    else:
        print_rewriting(summary, results())
    if files:
        messages().print(display_name(f"Wrote {target}: {', '.join(files)}"), markup=False, soft_wrap=True)
