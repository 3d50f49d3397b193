"""What the rewriting of a training set did: on the terminal, as a gallery of examples, and as a card beside files."""

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
    """What one step did.

    Attributes:
        number: its place in the recipe, from 1.
        name: the strategy's name.
        made: rows that it added.
        removed: rows that it took away.
    """

    number: int
    name: str
    made: int
    removed: int


class RewritingSummary(_Plain):
    """What the rewriting of a training set did.

    Attributes:
        recipe: the recipe's name.
        description: what it tries.
        seed: the seed.
        source: what was read.
        image_shape: height, width and channels.
        before: rows of each class before, by name.
        after: rows of each class after.
        steps: what each step did that rewrites.
        later_steps: names of the steps that act only while a network is trained, or after.
        fingerprint_before: digest of the training set before.
        fingerprint_after: digest of it after.
        warnings: what to be careful of.
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
        """What the reader of the result should know, in sentences."""
        told = []
        if not self.steps:
            told.append("No step of this recipe rewrites the training set: it is as it was read.")
        if self.later_steps:
            told.append(
                f"Not in these rows is what acts while a network is trained, or after: {', '.join(self.later_steps)}."
            )
        return [*told, *self.warnings]


def print_rewriting(summary: RewritingSummary, console: Console) -> None:
    """Print the counts of each class before and after, and what each step did."""
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
        console.print(Text(f"step {step.number}, {step.name}: {_told(step)}"))
    for note in summary.notes:
        console.print(Text.assemble(("note: ", "yellow"), printable(note)))


def _count_rows(summary: RewritingSummary) -> list[tuple[str, str, str, str]]:
    counts = [(printable(name), rows, summary.after[name]) for name, rows in summary.before.items()]
    counts.append(("all classes", sum(summary.before.values()), sum(summary.after.values())))
    return [(name, f"{old:,}", f"{new:,}", f"{new - old:+,}" if new != old else "") for name, old, new in counts]


def _told(step: StepSummary) -> str:
    return f"{step.made:,} rows made, {step.removed:,} removed"


def rewriting_gallery(examples: Mapping[str, NDArray[np.generic]], summary: RewritingSummary) -> bytes:
    """Draw a few rows that each step made, each beside the source row that it descends from.

    Args:
        examples: images and sources `(n, H, W, C) uint8`, labels and step `(n,)`.
        summary: what the rewriting did.

    Returns:
        A PNG file.
    """
    sheet = Sheet(width=1060)
    sheet.write(f"{printable(summary.recipe)}, seed {summary.seed}", size=18, bold=True)
    sheet.write("Each pair: the source image, and what the step made of it.", size=12)
    class_names = [printable(name) for name in summary.before]
    for step in summary.steps:
        rows = np.flatnonzero(examples["step"] == step.number)
        sheet.write(f"step {step.number}, {step.name}: {_told(step)}", size=14, bold=True, space_above=10)
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
        summary: what the rewriting did.
        files: what each file beside the card holds, by name.
        recipe_yaml: the recipe with nothing left to inherit.
    """
    blocks = [
        f"# The training set as {escaped(summary.recipe)} rewrites it",
        *([escaped(summary.description)] if summary.description else []),
        f"Made from {escaped(summary.source)} with seed {summary.seed}.",
        *grid_blocks(
            Grid("Rows of each class", ("class", "before", "after", "change"), (tuple(_count_rows(summary)),))
        ),
        *grid_blocks(Grid("What each step did", ("step", "rows made", "removed"), (_step_rows(summary.steps),))),
        *(["\n".join(f"- {escaped(note)}" for note in summary.notes)] if summary.notes else []),
        "## Files",
        "\n".join(f"- `{name}`: {escaped(what)}" for name, what in files.items()),
        "## Where a row comes from",
        _PROVENANCE,
        "## Recipe",
        _code(recipe_yaml),
        "## Made with",
        _facts(summary),
    ]
    return "\n\n".join(blocks) + "\n"


_PROVENANCE = (
    "`origins`: the source rows that a row descends from, as positions in the training split of the data above, from "
    "0; several where images were blended. `copies`: tells the rows of one source row apart, 0 is the row as "
    "it was read. `step`: the number of the recipe's step that made the row, 0 where none did."
)


def _step_rows(steps: Sequence[StepSummary]) -> tuple[tuple[str, ...], ...]:
    return tuple((f"{step.number} {step.name}", f"{step.made:,}", f"{step.removed:,}") for step in steps)


def _code(text: str) -> str:
    """Return text as an indented block, out of which nothing in it can break."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _facts(summary: RewritingSummary) -> str:
    facts = {
        "fingerprint before": summary.fingerprint_before,
        "fingerprint after": summary.fingerprint_after,
        **summary.environment,
    }
    return "\n".join(f"- {escaped(name)}: {escaped(value)}" for name, value in facts.items())
