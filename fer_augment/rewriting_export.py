"""Write a rewritten training set to a directory: rows in several formats, a gallery of examples, and a README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fer_augment.data.dataset import Splits
from fer_augment.data.export import refuse_unfit, rows_to_write, write_export
from fer_augment.data.npy_format import refuse_existing
from fer_augment.data.whole_files import whole_directory
from fer_augment.errors import DatasetError
from fer_augment.recipe.recipe import recipe_yaml
from fer_augment.recipe.warnings import recipe_warnings
from fer_augment.reports.console import progress_of
from fer_augment.reports.rewriting import RewritingSummary, StepSummary, rewriting_card, rewriting_gallery
from fer_augment.runs.preflight import check_writable
from fer_augment.runs.rewriting import Rewriting
from fer_augment.training.keys import environment
from fer_augment.training.training_files import examples_of

_CONTENT = {
    "npz": "for numpy.load: images, labels, origins, copies, step, class_names",
    "folder": "a folder of png images for each class, and provenance.csv",
    "csv": "the layout of fer2013.csv with unchanged held-out rows and columns of provenance",
}


def check_export(out: Path, formats: Sequence[str], splits: Splits) -> None:
    """Refuse a directory that exists or cannot be written, and formats that the data do not fit.

    Raises:
        DatasetError: if it exists, or a format does not fit.
        RecipeError: if it cannot be written.
    """
    refuse_existing(out)
    check_writable(out)
    refuse_unfit(formats, splits)


def summary_of(rewriting: Rewriting) -> RewritingSummary:
    """Return the counts and fingerprints of a rewriting, with what it depends on."""
    before, after, bound = rewriting.before, rewriting.after, rewriting.recipe.bound
    acted = [result.step for result in rewriting.steps]
    return RewritingSummary(
        recipe=bound.recipe.name,
        description=bound.recipe.description,
        seed=rewriting.recipe.trainings.seed,
        source=rewriting.recipe.trainings.splits.source,
        image_shape=before.image_shape,
        before=dict(zip(before.class_names, before.counts.tolist(), strict=True)),
        after=dict(zip(after.class_names, after.counts.tolist(), strict=True)),
        steps=tuple(
            StepSummary(number=result.step.number, name=result.step.name, made=result.made, removed=result.removed)
            for result in rewriting.steps
        ),
        later_steps=tuple(step.name for step in bound.steps if step not in acted),
        fingerprint_before=before.fingerprint,
        fingerprint_after=after.fingerprint,
        warnings=(*recipe_warnings(bound), *rewriting.warnings),
        environment=environment(bound),
    )


def export_rewriting(
    rewriting: Rewriting, out: Path, formats: Sequence[str] = ("npz",), *, progress: bool = True
) -> list[str]:
    """Write the directory, atomically.

    Args:
        rewriting: what `fer_augment.rewrite` returned.
        out: the directory; must not exist.
        formats: of `data.export.FORMATS`.
        progress: whether to show progress on stderr.

    Returns:
        The names of its files.

    Raises:
        DatasetError: if the directory exists or cannot be written.
    """
    splits, rewritten, summary = rewriting.recipe.trainings.splits, rewriting.after, summary_of(rewriting)
    check_export(out, formats, splits)
    chosen = tuple(dict.fromkeys(formats))
    total, done = sum(rows_to_write(form, rewritten, splits) for form in chosen), 0
    try:
        with whole_directory(out) as scratch, progress_of(f"writing {out}", quiet=not progress) as report:

            def written(rows: int) -> None:
                nonlocal done
                done += rows
                report(done, total)

            files = {write_export(form, rewritten, splits, scratch, written): _CONTENT[form] for form in chosen}
            (scratch / "gallery.png").write_bytes(rewriting_gallery(examples_of(rewritten, splits.train), summary))
            files["gallery.png"] = "rows that each step added, beside their sources"
            card = rewriting_card(summary, files, recipe_yaml(rewriting.recipe.bound.recipe))
            (scratch / "README.md").write_text(card, encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"{out}: cannot be written ({error.strerror or error})") from error
    return [*files, "README.md"]
