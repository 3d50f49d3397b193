"""A data source on a terminal: how its classes are distributed, and what an audit found in it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fer_augment.data.audit import Audit, Duplicates, RowCounts
from fer_augment.data.dataset import ImageDataset, Splits
from fer_augment.reports.grids import Grid, Row
from fer_augment.reports.terminal import print_grid
from fer_augment.reports.wording import printable
from fer_augment.results.comparison_warnings import listed

_LEGEND = (
    "identical: byte for byte the same as another row, of any split; several labels: those of them whose image stands "
    "under more than one label.",
    "near: different images of one picture, lit, compressed or cropped in another way, as told by perceptual hash and "
    "correlation; more strongly changed ones are missed.",
    "mirrored: one is another's mirror image, left to right, exactly or nearly; blank: all but even.",
    "in train: identical to a training row; near train: not that, but near or mirrored.",
)
_BLANK_SHOWN = 20
_NUMBERS_WIDTH = 13
"""Of the row count and the share of a class, where a split has less than a million rows."""


def imbalance(dataset: ImageDataset) -> float | None:
    """Return rows of the largest class over rows of the smallest one, or None if a class has no rows."""
    return float(dataset.counts.max() / dataset.counts.min()) if dataset.counts.min() else None


def print_histograms(splits: Splits, console: Console) -> None:
    """Print the class counts of all splits side by side, readable from 80 columns on."""
    _print_headline(splits.source, splits.fingerprint, _described(splits), console)
    class_width = min(20, max(len(name) for name in (*splits.class_names, "imbalance")))
    bar_width = max(4, (min(console.width, 110) - class_width - 1) // 3 - _NUMBERS_WIDTH)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("class", max_width=20, no_wrap=True, overflow="ellipsis")
    for name in splits.parts:
        table.add_column("rows", justify="right", no_wrap=True, min_width=6)
        table.add_column("%", justify="right", no_wrap=True, min_width=4)
        table.add_column(name, width=bar_width, no_wrap=True, overflow="ellipsis")
    for label, class_name in enumerate(splits.class_names):
        cells = [cell for part in splits.parts.values() for cell in _class_cells(part, label)]
        table.add_row(Text(printable(class_name)), *cells)
    table.add_row("all", *(cell for part in splits.parts.values() for cell in (f"{len(part):,}", "", "")))
    table.add_row("imbalance", *(cell for part in splits.parts.values() for cell in (_ratio(part), "", "")))
    console.print()
    console.print(table)


def _print_headline(source: str, fingerprint: str, described: str, console: Console) -> None:
    console.print(Text(printable(source), style="bold"))
    console.print(Text(described))
    console.print(Text(f"fingerprint {fingerprint[:16]}"))


def _described(splits: Splits) -> str:
    height, width, channels = splits.train.image_shape
    color = {1: "gray", 3: "color"}.get(channels, f"{channels} channels")
    rows = sum(map(len, splits.parts.values()))
    return f"{rows:,} images, {height} x {width} pixels (height x width), {color}; {len(splits.class_names)} classes"


def _class_cells(part: ImageDataset, label: int) -> tuple[str, str, Bar]:
    count, most = int(part.counts[label]), int(part.counts.max())
    return f"{count:,}", f"{100 * count / len(part):.1f}", Bar(size=most, begin=0, end=count)


def _ratio(part: ImageDataset) -> str:
    ratio = imbalance(part)
    return "none" if ratio is None else f"{ratio:.1f}"


def print_audit(found: Audit, console: Console) -> None:
    """Print what an audit found, readable from 80 columns on."""
    rows = sum(_total(found.counts, split) for split in found.counts)
    _print_headline(found.source, found.fingerprint, f"{rows:,} images in {len(found.counts)} splits", console)
    if _nothing(found):
        console.print("\nNo image occurs twice, none is a mirror image of another, and none is blank.")
        return
    print_grid(_groups_grid(found), console)
    for split in found.counts:
        print_grid(_split_grid(found, split), console)
    notes = Table.grid(padding=(0, 1))
    for line in (*_LEGEND, *_notes(found)):
        notes.add_row("-", Text(line))
    console.print()
    console.print(notes)


def _nothing(found: Audit) -> bool:
    kinds = (found.identical, found.near, found.mirrored)
    return not (any(kind.groups for kind in kinds) or found.blank_rows)


def _groups_grid(found: Audit) -> Grid:
    kinds = {"identical": found.identical, "near": found.near, "mirrored": found.mirrored}
    columns = (
        "images",
        "groups",
        "rows",
        "several labels",
        "across splits",
        *(f"within {name}" for name in found.counts),
    )
    return Grid("Groups of images", columns, (tuple(_groups_row(name, kind) for name, kind in kinds.items()),))


def _groups_row(name: str, kind: Duplicates) -> Row:
    total = kind.total
    within = [counts.groups for counts in kind.within.values()]
    return (name, *(f"{n:,}" for n in (total.groups, total.rows, total.conflicting, kind.across.groups, *within)))


def _split_grid(found: Audit, split: str) -> Grid:
    columns = {
        "rows": found.counts,
        "identical": found.identical.rows,
        "several labels": found.identical.conflicting_rows,
        "near": found.near.rows,
        "mirrored": found.mirrored.rows,
        "blank": found.blank,
    }
    if split in found.held_out_in_train:
        columns |= {"in train": found.held_out_in_train, "near train": found.held_out_near_train}
    rows = tuple(
        (printable(name), *(f"{counts[split][name]:,}" for counts in columns.values())) for name in found.class_names
    )
    total = ("all", *(f"{_total(counts, split):,}" for counts in columns.values()))
    return Grid(f"Rows of {split}", ("class", *columns), (rows, (total,)))


def _notes(found: Audit) -> Iterator[str]:
    """Say what the numbers mean for training and for scores."""
    for split, of_class in found.held_out_in_train.items():
        copies, rows = sum(of_class.values()), _total(found.counts, split)
        if copies:
            share = {name: count / found.counts[split][name] for name, count in of_class.items() if count}
            most = sorted(share, key=lambda name: -share[name])[:3]
            told = listed([f"{printable(name)} {of_class[name]:,} of {found.counts[split][name]:,}" for name in most])
            yield f"{copies:,} of {rows:,} {split} rows ({100 * copies / rows:.1f} %) stand in train too; most: {told}."
    if any(sum(of_class.values()) for of_class in found.held_out_in_train.values()):
        yield "A recipe with `data: {held_out_duplicates: drop}` trains without them."
    if found.identical.within["train"].groups:
        yield "The strategy `dedup` drops repeats from the training set and settles contradictory labels."
    for split in found.counts:
        blank = [f"{row.row}" for row in found.blank_rows if row.split == split]
        if blank:
            more = f" and {len(blank) - _BLANK_SHOWN:,} more" if len(blank) > _BLANK_SHOWN else ""
            yield f"Blank in {split}: row {', '.join(blank[:_BLANK_SHOWN])}{more}."


def _total(counts: RowCounts, split: str) -> int:
    return sum(counts[split].values())
