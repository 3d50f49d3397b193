"""Records of an audit, see `audit`: what it found, and what reports of a comparison say of it."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from fer_augment.data.dataset import HELD_OUT, ImageDataset

RowCounts = dict[str, dict[str, int]]
"""Number of rows by split and class name."""


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(_Plain):
    """A row of a data source.

    Attributes:
        split: train, validation or test.
        row: position in the split.
        label: class name.
        file: name of its file; None if the source has no files.
    """

    split: str
    row: int
    label: str
    file: str | None = None


class GroupCounts(_Plain):
    """Number of groups and rows.

    Attributes:
        groups: number of groups.
        rows: total number of rows in these groups.
        conflicting: number of groups with more than one label.
    """

    groups: int
    rows: int
    conflicting: int


class Duplicates(_Plain):
    """Groups of duplicate rows.

    Attributes:
        total: groups over all splits.
        across: groups with rows in more than one split.
        within: for each split, groups among the rows of this split only.
        rows: number of rows that belong to a group.
        conflicting_rows: number of rows in groups with more than one label.
        groups: the groups over all splits, worst first: conflicting labels, then across splits, then by size.
    """

    total: GroupCounts
    across: GroupCounts
    within: dict[str, GroupCounts]
    rows: RowCounts
    conflicting_rows: RowCounts
    groups: tuple[tuple[Row, ...], ...]


class SourceGroups(_Plain):
    """Groups that the source declares, such as the images of one patient.

    Attributes:
        total: number of groups.
        across: number of groups with rows in more than one split.
        held_out_in_train: validation and test rows of a group that has training rows.
        examples: for each group across splits, its first row in each split; the largest groups first.
    """

    total: int
    across: int
    held_out_in_train: RowCounts
    examples: tuple[tuple[Row, ...], ...]


class Audit(_Plain):
    """Result of an audit.

    Attributes:
        source: description of the data source.
        fingerprint: digest of the data.
        class_names: the K class names.
        counts: number of rows.
        identical: exact duplicates (identical bytes).
        near: near duplicates: distinct images of the same picture, see `near_duplicates`. Each image of a group is a
            near duplicate of the representative of the group; an image is in at most one group.
        mirrored: mirrored duplicates: groups of near duplicates and single images, with the ones that are horizontal
            mirror images of them, exactly or nearly.
        held_out_in_train: validation and test rows with an exact duplicate in the training split.
        held_out_near_train: further validation and test rows with a near or mirrored duplicate in the training split.
        held_out_near_train_rows: positions of these rows, in ascending order, by split.
        blank: rows with a blank image, see `audit.BLANK`.
        constant: blank rows in which all pixels are equal.
        blank_rows: the blank rows.
        source_groups: groups that the source declares; None if it declares none.
        soft_labels: number of rows whose target is not one-hot, by split; None if the source has no soft labels.
    """

    source: str
    fingerprint: str
    class_names: tuple[str, ...]
    counts: RowCounts
    identical: Duplicates
    mirrored: Duplicates
    near: Duplicates
    held_out_in_train: RowCounts
    held_out_near_train: RowCounts
    held_out_near_train_rows: dict[str, tuple[int, ...]]
    blank: RowCounts
    constant: RowCounts
    blank_rows: tuple[Row, ...]
    source_groups: SourceGroups | None = None
    soft_labels: dict[str, int] | None = None

    @property
    def summary(self) -> dict[str, int]:
        """Key figures for the report of a comparison, by description."""
        identical = self.identical.total
        counts = {
            "groups of identical images": identical.groups,
            "rows in these groups": identical.rows,
            "groups of identical images with conflicting labels": identical.conflicting,
            "groups of nearly identical images": self.near.total.groups,
            "groups of mirrored images": self.mirrored.total.groups,
            **{
                f"{split} rows identical to a training row": self.rows_in(self.held_out_in_train, split)
                for split in HELD_OUT
            },
            **{
                f"further {split} rows nearly identical to a training row, or mirrored": self.rows_in(
                    self.held_out_near_train, split
                )
                for split in HELD_OUT
            },
            "blank images": sum(self.rows_in(self.blank, split) for split in self.blank),
        }
        if self.soft_labels:
            counts |= {f"{split} rows with soft labels": rows for split, rows in self.soft_labels.items() if rows}
        if self.source_groups:
            counts["groups of the source with rows in more than one split"] = self.source_groups.across
        return counts

    @staticmethod
    def rows_in(counts: RowCounts, split: str) -> int:
        """Return the number of rows of a split, over all classes."""
        return sum(counts[split].values())


def audit_warnings(audit: Audit) -> tuple[str, ...]:
    """Return warnings about scores that measure memorization, for the report of a comparison; empty without leakage.

    Exact duplicates are not among them: they are described with the deduplicated test split.
    """
    warnings = []
    near = [text for split in HELD_OUT if (text := _share(audit, audit.held_out_near_train, split))]
    if near:
        without = "the deduplicated test split is without them. " if audit.held_out_near_train_rows["test"] else ""
        warnings.append(
            f"{' and '.join(near)} have a near or mirrored duplicate in the training split, so their scores measure "
            f"memorization; {without}`fer-augment data audit` lists them. Splits of a source are used as they are; the "
            "folds of `compare --folds 5` keep near duplicates together."
        )
    groups = audit.source_groups
    if groups and groups.across:
        rows = [text for split in HELD_OUT if (text := _share(audit, groups.held_out_in_train, split))]
        shared = f", so that {' and '.join(rows)} share a group with training rows" if rows else ""
        warnings.append(
            f"{groups.across:,} of {groups.total:,} groups of the source have rows in more than one split{shared}; "
            "assign each group to one split, or remove the given splits to have them made."
        )
    return tuple(warnings)


def warning_on_test_groups(test: ImageDataset) -> str | None:
    """Return a warning on images of one group in a test split, which differences take for independent; None without."""
    groups = test.sources.groups if test.sources else None
    number = len(test) if groups is None else len(np.unique(groups[test.origin]))
    if number == len(test):
        return None
    return (
        f"The {len(test):,} test images are of {number:,} {'group' if number == 1 else 'groups'} of the source, but "
        "count as independent ones: if images of a group are alike, confidence intervals are too narrow; `compare "
        "--folds 5` counts each group as a whole."
    )


def _share(audit: Audit, counts: RowCounts, split: str) -> str:
    """Return `157 of 3,589 test rows (4.4 %)`; empty if there are none."""
    rows, total = audit.rows_in(counts, split), audit.rows_in(audit.counts, split)
    return f"{rows:,} of {total:,} {split} rows ({100 * rows / total:.1f} %)" if rows else ""
