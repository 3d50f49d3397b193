"""Train, validation and test split of a source: as given, or made where they are missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset, Splits
from fer_augment.data.duplicates import group_ids, stratified_folds
from fer_augment.errors import DatasetError
from fer_augment.randomness import stream_rng

SPLIT_ORDER = ("train", "validation", "test")
"""The splits; a row's split is a position in this tuple, -1 if it is to be assigned."""
SPLIT_SEED = 2013
SPLIT_PARTS = 10
"""A split that is split off contains 1 in this many rows."""


@dataclass(frozen=True)
class SplitSettings:
    """How missing splits are made.

    Attributes:
        validation: fraction of the rows for validation, in (0, 1).
        test: fraction of the rows for test, in (0, 1).
        seed: of the random assignment.
    """

    validation: float = 1 / SPLIT_PARTS
    test: float = 1 / SPLIT_PARTS
    seed: int = SPLIT_SEED


_DEFAULT = SplitSettings()


def splits_from_rows(
    description: str,
    rows: ImageDataset,
    split: NDArray[np.int8],
    settings: SplitSettings = _DEFAULT,
    *,
    notes: tuple[str, ...] = (),
    advice: Mapping[str, str] = MappingProxyType({}),
) -> Splits:
    """Divide rows into splits; a missing validation or test split is split off.

    Args:
        description: the source, for display and messages.
        rows: N source rows, in one block of pixels.
        split: `(N,)`, see `SPLIT_ORDER`.
        settings: how missing splits are made.
        notes: what was passed over or changed, one sentence each.
        advice: by split, where the source must provide it; for messages.

    Raises:
        DatasetError: if a split is empty and cannot be made.
    """
    if (split == -1).all():
        train, validation, test = split_off(rows, 2, description)
        note = f"validation and test: 1 in {SPLIT_PARTS} rows each, split off"
        return Splits(train, validation, test, f"{description} ({note})", notes)
    parts = {name: _subset(rows, split == number) for number, name in enumerate(SPLIT_ORDER)}
    return replace(make_splits(description, parts, advice), notes=notes)


def make_splits(source: str, parts: Mapping[str, ImageDataset], where: Mapping[str, str]) -> Splits:
    """Create `Splits`; if there is no validation split, split it off from the training split.

    Args:
        source: name of the data source, for display.
        parts: source rows by split name; missing splits are absent or empty.
        where: for train and for test, where the source must provide them; used in messages.

    Raises:
        DatasetError: if train or test is missing or empty, or the splits are inconsistent.
    """
    for name in ("train", "test"):
        if name not in parts or not len(parts[name]):
            raise DatasetError(f"{source}: the {name} split is empty; {where.get(name, 'add rows')}")
    if len(parts.get("validation", ())):
        return Splits(parts["train"], parts["validation"], parts["test"], source)
    train, validation = split_off(parts["train"], 1, source)
    note = f"validation: 1 in {SPLIT_PARTS} rows of train, split off"
    return Splits(train, validation, parts["test"], f"{source} ({note})")


def split_off(dataset: ImageDataset, count: int, source: str) -> list[ImageDataset]:
    """Split off parts of one tenth each; stratified, deterministic, and without copying pixels.

    Exact duplicates stay together. A class that would be missing from the remaining rows stays there entirely.

    Args:
        dataset: source rows in one block.
        count: number of parts to split off.
        source: name of the data source, for messages.

    Returns:
        The remaining rows, followed by the parts; each a data set of source rows in their original order.

    Raises:
        DatasetError: if there are too few images.
    """
    groups = groups_of(dataset)
    part_of_row = stratified_folds(dataset.labels, groups, SPLIT_PARTS, stream_rng(SPLIT_SEED, "split off"))
    missing = np.setdiff1d(dataset.labels, dataset.labels[part_of_row >= count])
    stays = np.isin(groups, groups[np.isin(dataset.labels, missing)])
    part_of_row[stays] = SPLIT_PARTS
    masks = [part_of_row >= count, *(part_of_row == part for part in range(count))]
    if not all(mask.any() for mask in masks):
        raise DatasetError(
            f"{source}: too few images ({len(dataset)}) to split off a validation or test split; "
            "add images or provide all three splits"
        )
    return [_subset(dataset, mask) for mask in masks]


def groups_of(dataset: ImageDataset) -> NDArray[np.int64]:
    """Return `(N,) int64` numbers, equal for source rows that belong together: exact duplicates, rows of one group."""
    exact = group_ids(dataset.digests)
    if dataset.sources is None or dataset.sources.groups is None:
        return exact
    return joined(exact, group_ids_of(dataset.sources.groups[dataset.origin]))


def group_ids_of(values: NDArray[np.generic]) -> NDArray[np.int64]:
    """Number distinct values from 0."""
    numbers: NDArray[np.int64] = np.unique(values, return_inverse=True)[1].astype(np.int64)
    return numbers


def joined(*groupings: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join groupings of the same N rows: rows that share a group in any of them, directly or by others, share one.

    Args:
        groupings: each `(N,) int64`, numbers from 0.

    Returns:
        `(N,) int64`, numbers from 0.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = len(groupings[0])
    starts = np.cumsum([rows, *(int(grouping.max(initial=-1)) + 1 for grouping in groupings)])
    ends = np.concatenate([start + grouping for start, grouping in zip(starts, groupings, strict=False)])
    edges = (np.ones(len(ends), dtype=bool), (np.tile(np.arange(rows), len(groupings)), ends))
    graph = coo_array(edges, shape=(int(starts[-1]), int(starts[-1])))
    components: NDArray[np.int64] = connected_components(graph, directed=False)[1][:rows].astype(np.int64)
    return group_ids_of(components)


def _subset(rows: ImageDataset, mask: NDArray[np.bool_]) -> ImageDataset:
    """Return masked source rows as source rows of a data set of their own; no pixels are copied."""
    sources = None if rows.sources is None else rows.sources.taken(np.flatnonzero(mask))
    return ImageDataset.from_arrays(
        rows.blocks[0], rows.labels[mask], rows.class_names, rows=rows.index[mask], sources=sources
    )
