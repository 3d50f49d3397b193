"""Terminal output for data sources: class distribution and audit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fer_augment.data.audit_records import Audit, Duplicates, Row, RowCounts
from fer_augment.data.dataset import HELD_OUT, ImageDataset, Splits, joined_groups
from fer_augment.reports.grids import Grid
from fer_augment.reports.grids import Row as Cells
from fer_augment.reports.terminal import print_grid
from fer_augment.reports.wording import printable
from fer_augment.results.comparison_warnings import few_images_sentence, listed

_LEGEND = (
    "exact: identical images, within a split or across splits; conflicting: different labels in a group (in the tables "
    "per class, exact duplicates only).",
    "near: near duplicates, the same picture with different brightness, compression or cropping, found by correlation "
    "of pixels and gradients; strongly changed images are not found.",
    "mirrored: horizontal mirror images, exact or nearly; blank: images without detail.",
    "in train: rows with an exact duplicate in the training split; near train: further rows with a near or mirrored "
    "duplicate in the training split.",
)
_BLANK_SHOWN = 20
_GROUPS_SHOWN = 5
_LABELS_SHOWN = 6
_NUMBERS_WIDTH = 13
"""Width of row count and percentage of a class, for splits of less than a million rows."""


def imbalance(dataset: ImageDataset) -> float | None:
    """Return the imbalance ratio: rows of the largest class / rows of the smallest; None if a class has no rows."""
    return float(dataset.counts.max() / dataset.counts.min()) if dataset.counts.min() else None


def print_histograms(splits: Splits, console: Console) -> None:
    """Print the class counts of all splits side by side, and the notes; needs at least 80 columns."""
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
    test_counts = dict(zip(splits.class_names, splits.test.counts.tolist(), strict=True))
    lines = [
        *filter(None, [soft_labels_note(splits), _groups_note(splits), few_images_sentence(test_counts)]),
        *splits.notes,
    ]
    if lines:
        notes = Table.grid(padding=(0, 1))
        for note in lines:
            notes.add_row("-", Text(printable(note)))
        console.print()
        console.print(notes)


@dataclass(frozen=True)
class SoftLabels:
    """Summary of the soft labels of a source.

    Attributes:
        rows: number of rows that have them.
        unanimous: number of rows with all votes for one class.
        mean_entropy: mean entropy of the shares of votes, in nats.
    """

    rows: int
    unanimous: int
    mean_entropy: float


@dataclass(frozen=True)
class Groups:
    """Groups that a source declares, such as patients.

    Attributes:
        total: number of groups; a row without one is a group of its own.
        across: number of groups with rows in more than one split.
    """

    total: int
    across: int


def source_groups(splits: Splits) -> Groups | None:
    """Count the groups of a source; None if it declares none."""
    parts = [part for part in splits.parts.values() if part.sources and part.sources.groups is not None]
    groups = joined_groups(parts)
    if groups is None:
        return None
    split = np.repeat(np.arange(len(parts)), [*map(len, parts)])
    in_splits = np.unique(np.unique(np.stack([groups, split]), axis=1)[0], return_counts=True)[1]
    return Groups(len(in_splits), int((in_splits > 1).sum()))


def _groups_note(splits: Splits) -> str | None:
    groups = source_groups(splits)
    if groups is None:
        return None
    have = "has" if groups.across == 1 else "have"
    across = f"{groups.across:,} {have} rows in more than one split, which `data audit` lists"
    return f"groups: {groups.total:,}; {across if groups.across else 'none has rows in more than one split'}"


def soft_labels(splits: Splits) -> SoftLabels | None:
    """Summarize the soft labels of all splits; None if all targets are one-hot."""
    targets = [part.targets for part in splits.parts.values() if part.targets is not None]
    if not targets:
        return None
    shares = np.concatenate(targets).astype(np.float64)
    entropies = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)
    return SoftLabels(len(shares), int((shares.max(axis=1) == 1).sum()), float(entropies.mean()))


def soft_labels_note(splits: Splits) -> str | None:
    """Describe the soft labels of all splits; None if all targets are one-hot."""
    soft = soft_labels(splits)
    if soft is None:
        return None
    most, share = np.log(len(splits.class_names)), 100 * soft.unanimous / soft.rows
    return (
        f"soft labels: {soft.rows:,} rows, mean entropy {soft.mean_entropy:.2f} of at most {most:.2f} nats; "
        f"{soft.unanimous:,} unanimous ({share:.1f} %)"
    )


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


def print_audit(audit: Audit, console: Console) -> None:
    """Print an audit; needs at least 80 columns."""
    rows = sum(_total(audit.counts, split) for split in audit.counts)
    _print_headline(audit.source, audit.fingerprint, f"{rows:,} images in {len(audit.counts)} splits", console)
    lines = list(_notes(audit))
    if _is_clean(audit):
        console.print("\nNo exact, near or mirrored duplicates and no blank images found.")
        if not lines:
            return
    else:
        print_grid(_groups_grid(audit), console)
        for split in audit.counts:
            print_grid(_split_grid(audit, split), console)
        lines = [*_LEGEND, *lines]
    notes = Table.grid(padding=(0, 1))
    for line in lines:
        notes.add_row("-", Text(line))
    console.print()
    console.print(notes)


def _is_clean(audit: Audit) -> bool:
    kinds = (audit.identical, audit.near, audit.mirrored)
    return not (any(kind.groups for kind in kinds) or audit.blank_rows)


def _groups_grid(audit: Audit) -> Grid:
    kinds = {"exact": audit.identical, "near": audit.near, "mirrored": audit.mirrored}
    columns = (
        "duplicates",
        "groups",
        "rows",
        "conflicting",
        "across splits",
        *(f"within {name}" for name in audit.counts),
    )
    return Grid("Groups of duplicates", columns, (tuple(_groups_row(name, kind) for name, kind in kinds.items()),))


def _groups_row(name: str, kind: Duplicates) -> Cells:
    total = kind.total
    within = [counts.groups for counts in kind.within.values()]
    return (name, *(f"{n:,}" for n in (total.groups, total.rows, total.conflicting, kind.across.groups, *within)))


def _split_grid(audit: Audit, split: str) -> Grid:
    columns = {
        "rows": audit.counts,
        "exact": audit.identical.rows,
        "conflicting": audit.identical.conflicting_rows,
        "near": audit.near.rows,
        "mirrored": audit.mirrored.rows,
        "blank": audit.blank,
    }
    if split in audit.held_out_in_train:
        columns |= {"in train": audit.held_out_in_train, "near train": audit.held_out_near_train}
    rows = tuple(
        (printable(name), *(f"{counts[split][name]:,}" for counts in columns.values())) for name in audit.class_names
    )
    total = ("all", *(f"{_total(counts, split):,}" for counts in columns.values()))
    return Grid(f"Rows of {split}", ("class", *columns), (rows, (total,)))


def _notes(audit: Audit) -> Iterator[str]:
    """Yield notes on duplicates and blank images, and on what to do about them."""
    for split, per_class in audit.held_out_in_train.items():
        duplicates, rows = sum(per_class.values()), _total(audit.counts, split)
        if duplicates:
            share = {name: count / audit.counts[split][name] for name, count in per_class.items() if count}
            highest = sorted(share, key=lambda name: -share[name])[:3]
            classes = [f"{printable(name)} {per_class[name]:,} of {audit.counts[split][name]:,}" for name in highest]
            yield (
                f"{duplicates:,} of {rows:,} {split} rows ({100 * duplicates / rows:.1f} %) have an exact duplicate in "
                f"the training split; most affected: {listed(classes)}."
            )
    if any(sum(per_class.values()) for per_class in audit.held_out_in_train.values()):
        yield "To train without them, set `data: {held_out_duplicates: drop}` in the recipe."
    if audit.identical.within["train"].groups:
        yield "To remove duplicates within the training split and resolve conflicting labels, use the strategy `dedup`."
    if audit.source_groups and audit.source_groups.across:
        yield from _notes_on_source_groups(audit)
    elif audit.source_groups:
        yield f"Groups of the source: {audit.source_groups.total:,}; none has rows in more than one split."
    for title, groups in (("exact", audit.identical), ("near", audit.near), ("mirrored", audit.mirrored)):
        yield from _notes_on_labels(title, groups)
    for split in audit.counts:
        blank = [row for row in audit.blank_rows if row.split == split]
        if blank:
            more = f" and {len(blank) - _BLANK_SHOWN:,} more" if len(blank) > _BLANK_SHOWN else ""
            shown = [printable(row.file) if row.file else f"{row.row}" for row in blank[:_BLANK_SHOWN]]
            yield f"Blank images in {split}: {'' if blank[0].file else 'row '}{', '.join(shown)}{more}."


def _notes_on_source_groups(audit: Audit) -> Iterator[str]:
    groups = audit.source_groups
    assert groups is not None
    rows = [
        f"{_total(groups.held_out_in_train, split):,} of {_total(audit.counts, split):,} {split} rows"
        for split in HELD_OUT
        if _total(groups.held_out_in_train, split)
    ]
    shared = f"; {listed(rows)} share a group with training rows" if rows else ""
    yield f"{groups.across:,} of {groups.total:,} groups of the source have rows in more than one split{shared}."
    for rows_of_group in groups.examples[:_GROUPS_SHOWN]:
        yield f"One group: {', '.join(map(_place, rows_of_group))}."
    if len(groups.examples) > _GROUPS_SHOWN:
        yield f"{len(groups.examples) - _GROUPS_SHOWN:,} more groups across splits: listed with --json."


def _notes_on_labels(title: str, duplicates: Duplicates) -> Iterator[str]:
    """Yield a line with one row of each label for the groups with conflicting labels."""
    conflicting = [group for group in duplicates.groups if len({row.label for row in group}) > 1]
    for group in conflicting[:_GROUPS_SHOWN]:
        yield f"Conflicting labels ({title}): {_one_of_each_label(group)}."
    if len(conflicting) > _GROUPS_SHOWN:
        more = len(conflicting) - _GROUPS_SHOWN
        yield f"{more:,} more groups with conflicting labels ({title}): listed with --json, drawn with --sheet."


def _one_of_each_label(group: Sequence[Row]) -> str:
    first = {row.label: row for row in reversed(group)}
    rows = sorted(first.values(), key=group.index)
    more = [f"{len(rows) - _LABELS_SHOWN} more labels"] if len(rows) > _LABELS_SHOWN else []
    return ", ".join([*(f"{printable(row.label)} {_place(row)}" for row in rows[:_LABELS_SHOWN]), *more])


def _place(row: Row) -> str:
    """Return where a row is: its file, if it has one, and its split."""
    return f"{printable(row.file)} ({row.split})" if row.file else f"{row.split} row {row.row}"


def _total(counts: RowCounts, split: str) -> int:
    return sum(counts[split].values())
