"""`fer-augment rewrite`: the rewriting of the training set alone, to look at and to take elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from fer_augment.cli._console import messages, progress_of, progress_of_tasks, results
from fer_augment.cli._runs import data_option, json_option, read_data, set_option
from fer_augment.data.export import FORMATS, refuse_unfit, rows_to_write, write_export
from fer_augment.errors import DatasetError, FerAugmentError

if TYPE_CHECKING:
    from fer_augment.recipe.binding import BoundRecipe
    from fer_augment.reports.rewriting import RewritingSummary
    from fer_augment.runs.rewriting import Rewriting
    from fer_augment.training.trainings import Trainings

_CONTENT = {
    "npz": "for numpy.load: images, labels, origins, copies, step, class_names",
    "folder": "a folder of png images for each class, and provenance.csv",
    "csv": "in the form of fer2013.csv, the held-out rows as they were, with columns of provenance",
}


@click.command(no_args_is_help=True)
@click.argument("recipe")
@data_option
@click.option("--out", type=click.Path(path_type=Path), help="The folder to write; it must not exist.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The seed.")
@set_option
@click.option(
    "--format", "formats", type=click.Choice(FORMATS), multiple=True, default=("npz",), show_default=True,
    help="How to write the rows; may be repeated.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only tell the counts; write nothing.")
@json_option
def rewrite(
    recipe: str,
    source: str,
    out: Path | None,
    seed: int,
    overrides: tuple[str, ...],
    formats: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    r"""Rewrite the training set as a recipe does; write it to files.

    Nothing is trained but the scouts that mining strategies ask; they are kept for later runs. OUT gets the rows with
    their provenance, gallery.png with examples of what each step made, and README.md.

    \b
    fer-augment rewrite confusion_mirror --data fer2013.csv --dry-run
    fer-augment rewrite smote --data faces.zip --out smote_faces --format folder --format npz
    """
    from fer_augment.data.npy_format import refuse_existing
    from fer_augment.hooks.plugin_manager import installed_plugins
    from fer_augment.recipe.binding import bind, check_classes
    from fer_augment.recipe.recipe import load_recipes
    from fer_augment.reports.rewriting import print_rewriting
    from fer_augment.runs.executors import cores
    from fer_augment.runs.experiment import splits_for
    from fer_augment.runs.rewriting import rewrite as rewritten_by
    from fer_augment.training.store import default_store
    from fer_augment.training.trainings import Trainings

    if out is None and not dry_run:
        raise FerAugmentError("say where to write with --out DIR, or see the counts only with --dry-run")
    (loaded,) = load_recipes([recipe], overrides)
    catalog = installed_plugins()
    bound = bind(loaded, catalog)
    if out and not dry_run:
        refuse_existing(out)
    splits = splits_for(loaded, read_data(catalog, source))
    check_classes(bound, splits.class_names)
    if not dry_run:
        refuse_unfit(formats, splits)
    with progress_of_tasks() as report:
        trainings = Trainings(splits, seed, default_store(), report, cores=cores())
        rewriting = rewritten_by(bound, trainings)
    summary = _summary(bound, rewriting, trainings)
    files = _write(out, formats, bound, rewriting, trainings, summary) if out and not dry_run else []
    if as_json:
        click.echo(json.dumps({**summary.model_dump(mode="json"), "files": files}, indent=1, ensure_ascii=False))
    else:
        print_rewriting(summary, results())
    if files:
        messages().print(f"Wrote {out}: {', '.join(files)}", markup=False, soft_wrap=True)


def _summary(bound: BoundRecipe, rewriting: Rewriting, trainings: Trainings) -> RewritingSummary:
    from fer_augment.recipe.warnings import recipe_warnings
    from fer_augment.reports.rewriting import RewritingSummary, StepSummary
    from fer_augment.training.keys import environment

    before, after = rewriting.before, rewriting.after
    acted = [one.step for one in rewriting.steps]
    return RewritingSummary(
        recipe=bound.recipe.name,
        description=bound.recipe.description,
        seed=trainings.seed,
        source=trainings.splits.source,
        image_shape=before.image_shape,
        before=dict(zip(before.class_names, before.counts.tolist(), strict=True)),
        after=dict(zip(after.class_names, after.counts.tolist(), strict=True)),
        steps=tuple(
            StepSummary(number=one.step.number, name=one.step.name, made=one.made, removed=one.removed)
            for one in rewriting.steps
        ),
        later_steps=tuple(step.name for step in bound.steps if step not in acted),
        fingerprint_before=before.fingerprint,
        fingerprint_after=after.fingerprint,
        warnings=recipe_warnings(bound),
        environment=environment(bound.recipe.training),
    )


def _write(
    out: Path,
    formats: Sequence[str],
    bound: BoundRecipe,
    rewriting: Rewriting,
    trainings: Trainings,
    summary: RewritingSummary,
) -> list[str]:
    """Write the folder, whole or not at all; return what it holds."""
    from fer_augment.data.records import whole_directory
    from fer_augment.recipe.recipe import recipe_yaml
    from fer_augment.reports.rewriting import rewriting_card, rewriting_gallery

    chosen = tuple(dict.fromkeys(formats))
    splits, rewritten = trainings.splits, rewriting.after
    total, done = sum(rows_to_write(form, rewritten, splits) for form in chosen), 0
    try:
        with whole_directory(out) as scratch, progress_of(f"writing {escape(str(out))}") as progress:

            def written(rows: int) -> None:
                nonlocal done
                done += rows
                progress(done, total)

            files = {write_export(form, rewritten, splits, scratch, written): _CONTENT[form] for form in chosen}
            (scratch / "gallery.png").write_bytes(rewriting_gallery(trainings.examples(rewritten), summary))
            files["gallery.png"] = "rows that each step made, beside their sources"
            card = rewriting_card(summary, files, recipe_yaml(bound.recipe))
            (scratch / "README.md").write_text(card, encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"{out}: cannot be written ({error.strerror or error})") from error
    return [*files, "README.md"]
