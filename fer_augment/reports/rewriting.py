"""Reports of a rewritten training set: terminal output, gallery of examples, and the card of an export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fer_augment.reports.grids import Grid
from fer_augment.reports.tables import escaped, grid_blocks
from fer_augment.reports.wording import printable
from fer_augment.sheets import Sheet, picture_of, side_by_side

_TILE = 96


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StepSummary(_Plain):
    """Numbers of rows that one step added and removed.

    Attributes:
        number: place of the step in the recipe, from 1.
        name: name of the strategy.
        made: number of rows added.
        removed: number of rows removed.
    """

    number: int
    name: str
    made: int
    removed: int


class RewritingSummary(_Plain):
    """Summary of a rewritten training set.

    Attributes:
        recipe: name of the recipe.
        description: the recipe's description.
        seed: the seed.
        source: description of the data source.
        image_shape: height, width and channels.
        before: rows per class before rewriting, by name.
        after: rows per class after rewriting.
        steps: numbers of rows of each step that rewrites.
        later_steps: names of the steps that act only during or after training.
        fingerprint_before: digest of the training set before rewriting.
        fingerprint_after: digest of the training set after rewriting.
        warnings: warnings about the recipe.
        environment: versions, processor, threads, device.
    """

    recipe: str
    description: str
    seed: int
    source: str
    image_shape: tuple[int, int, int]
    before: dict[str, int]
    after: dict[str, int]
    steps: tuple[StepSummary, ...]
    later_steps: tuple[str, ...]
    fingerprint_before: str
    fingerprint_after: str
    warnings: tuple[str, ...]
    environment: dict[str, str]

    @property
    def notes(self) -> list[str]:
        """Notes on the result, and the warnings."""
        notes = []
        if not self.steps:
            notes.append("No step of this recipe rewrites the training set: it is unchanged.")
        if self.later_steps:
            names = ", ".join(self.later_steps)
            notes.append(f"Steps that act only during or after training have no effect on these rows: {names}.")
        return [*notes, *self.warnings]


def print_rewriting(summary: RewritingSummary, console: Console) -> None:
    """Print the counts per class before and after rewriting, and the rows of each step."""
    console.print(Text(f"{printable(summary.recipe)}, seed {summary.seed}: {printable(summary.source)}", style="bold"))
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("class", overflow="fold")
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in _count_rows(summary):
        table.add_row(*map(Text, row))
    console.print(table)
    console.print()
    for step in summary.steps:
        console.print(Text(f"step {step.number}, {step.name}: {_changes(step)}"))
    for note in summary.notes:
        console.print(Text.assemble(("note: ", "yellow"), printable(note)))


def _count_rows(summary: RewritingSummary) -> list[tuple[str, str, str, str]]:
    counts = [(printable(name), rows, summary.after[name]) for name, rows in summary.before.items()]
    counts.append(("all classes", sum(summary.before.values()), sum(summary.after.values())))
    return [(name, f"{old:,}", f"{new:,}", f"{new - old:+,}" if new != old else "") for name, old, new in counts]


def _changes(step: StepSummary) -> str:
    return f"{step.made:,} rows added, {step.removed:,} removed"


def rewriting_gallery(examples: Mapping[str, NDArray[np.generic]], summary: RewritingSummary) -> bytes:
    """Draw examples of the rows that each step added, each beside its source row.

    Args:
        examples: images and sources `(n, H, W, C) uint8`, labels and step `(n,)`.
        summary: summary of the rewritten training set.

    Returns:
        The bytes of a PNG file.
    """
    sheet = Sheet(width=1060)
    sheet.write(f"{printable(summary.recipe)}, seed {summary.seed}", size=18, bold=True)
    sheet.write("Each pair: source image (left) and image added by the step (right); blank: no source.", size=12)
    class_names = [printable(name) for name in summary.before]
    for step in summary.steps:
        rows = np.flatnonzero(examples["step"] == step.number)
        sheet.write(f"step {step.number}, {step.name}: {_changes(step)}", size=14, bold=True, space_above=10)
        sheet.show(
            [
                side_by_side([picture_of(np.asarray(examples[name][row], np.uint8), _TILE) for name in _PAIR])
                for row in rows
            ],
            [class_names[int(examples["labels"][row])] for row in rows],
            gap=10,
        )
    return sheet.png()


_PAIR = ("sources", "images")


def rewriting_card(summary: RewritingSummary, files: Mapping[str, str], recipe_yaml: str) -> str:
    """Return the card of an export, in Markdown.

    Args:
        summary: summary of the rewritten training set.
        files: descriptions of the exported files, by name.
        recipe_yaml: the resolved recipe.
    """
    counts = Grid("Rows per class", ("class", "before", "after", "change"), (tuple(_count_rows(summary)),))
    blocks = [
        f"# Training set rewritten by {escaped(summary.recipe)}",
        *([escaped(summary.description)] if summary.description else []),
        f"Data: {escaped(summary.source)}. Seed: {summary.seed}.",
        *grid_blocks(counts),
        *grid_blocks(Grid("Rows per step", ("step", "added", "removed"), (_step_rows(summary.steps),))),
        *(["\n".join(f"- {escaped(note)}" for note in summary.notes)] if summary.notes else []),
        "## Files",
        "\n".join(f"- `{name}`: {escaped(content)}" for name, content in files.items()),
        "## Provenance",
        _PROVENANCE,
        "## Recipe",
        _code(recipe_yaml),
        "## Environment",
        _facts(summary),
    ]
    return "\n\n".join(blocks) + "\n"


_PROVENANCE = (
    "`origins`: source rows of a row, as 0-based positions in the training split of the data above; blended images "
    "have several; a negative number, or a word, is an image that was not made from a training row. `copies`: copy "
    "number of the row among the rows of its source row; 0 is the row as read. `step`: "
    "number of the step that added the row; 0 for rows as read."
)


def _step_rows(steps: Sequence[StepSummary]) -> tuple[tuple[str, ...], ...]:
    return tuple((f"{step.number} {step.name}", f"{step.made:,}", f"{step.removed:,}") for step in steps)


def _code(text: str) -> str:
    """Return text as an indented code block, which no content can end."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _facts(summary: RewritingSummary) -> str:
    facts = {
        "fingerprint before": summary.fingerprint_before,
        "fingerprint after": summary.fingerprint_after,
        **summary.environment,
    }
    return "\n".join(f"- {escaped(name)}: {escaped(value)}" for name, value in facts.items())
