"""Train, validation and test split of a source: as given, or made where they are missing.

Made splits are stratified by class and keep rows together that would leak from the training split into the held-out
splits: exact duplicates, near and mirrored duplicates, and rows of one group of the source, such as images of one
patient.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset, SourceRows, Splits, groups_of
from fer_augment.data.duplicates import connected, group_ids, joined
from fer_augment.data.near_duplicates import near_pairs
from fer_augment.errors import DatasetError, display_name
from fer_augment.phases import ReportProgress
from fer_augment.randomness import stream_rng

SPLIT_ORDER = ("train", "validation", "test")
"""The splits; a row's split is a position in this tuple, -1 if it is to be assigned."""
SPLIT_SEED = 2013

_TRAIN, _VALIDATION, _TEST = range(3)
_FOR_VALIDATION = 5
"""A class with at least this many groups is in the validation split; of fewer, too many would be lost for training."""
_FEW = 5
"""Notes name the classes with at most this many images."""
_NAMED = 3
"""Maximum number of classes or rows that a note or a message names."""


@dataclass(frozen=True)
class SplitSettings:
    """How missing splits are made.

    Attributes:
        validation: fraction of the rows for validation, in (0, 1); if the source has a test split, of its other rows.
        test: fraction of the rows for test, in (0, 1).
        seed: of the random assignment.
        keep_near_duplicates: whether near and mirrored duplicates stay in one split.

    Raises:
        DatasetError: if a fraction is outside (0, 1), or no rows are left for training.
    """

    validation: float = 0.1
    test: float = 0.1
    seed: int = SPLIT_SEED
    keep_near_duplicates: bool = True

    def __post_init__(self) -> None:
        """Validate the fractions."""
        for name, fraction in (("validation", self.validation), ("test", self.test)):
            if not 0 < fraction < 1:
                raise DatasetError(f"the {name} fraction of a split must be between 0 and 1, got {fraction}")
        if self.validation + self.test >= 1:
            raise DatasetError(
                f"the validation and test fractions of a split must add up to less than 1, got {self.validation} and "
                f"{self.test}"
            )


_DEFAULT = SplitSettings()


@dataclass(frozen=True, eq=False)
class Assignment:
    """The split of every row of a source.

    Attributes:
        split: `(N,) int8`, position in `SPLIT_ORDER`.
        made: which splits were made and how, for the description of the source; empty if all were given.
        notes: what was kept together and what cannot be tested, one sentence each.
        near: `(N,) int64`, equal for rows that are near or mirrored duplicates, see `SourceRows.near`; None if they
            were not searched for.
    """

    split: NDArray[np.int8]
    made: str = ""
    notes: tuple[str, ...] = ()
    near: NDArray[np.int64] | None = None


def splits_from_rows(
    description: str,
    rows: ImageDataset,
    split: NDArray[np.int8],
    settings: SplitSettings = _DEFAULT,
    *,
    notes: tuple[str, ...] = (),
    advice: Mapping[str, str] = MappingProxyType({}),
    progress: ReportProgress = lambda done, total: None,
) -> Splits:
    """Divide rows into splits; missing splits are made as by `assign_splits`.

    Args:
        description: the source, for display and messages.
        rows: N source rows, in one block of pixels.
        split: `(N,)`, see `SPLIT_ORDER`.
        settings: how missing splits are made.
        notes: what was passed over or changed, one sentence each.
        advice: by split, where the source must provide it; for messages.
        progress: called with the number of images searched for near duplicates and their total.

    Raises:
        DatasetError: if a split is empty and cannot be made.
    """
    assignment = assign_splits(description, rows, split, settings, advice=advice, progress=progress)
    return replace(divided(description, rows, assignment, notes), keeps_near_duplicates=settings.keep_near_duplicates)


def divided(description: str, rows: ImageDataset, assignment: Assignment, notes: Sequence[str] = ()) -> Splits:
    """Divide N source rows, in one block of pixels, into the splits of an assignment; no pixels are copied."""
    rows = with_near(rows, assignment.near)
    train, validation, test = (rows.as_source_rows(assignment.split == number) for number in range(len(SPLIT_ORDER)))
    title = f"{description} ({assignment.made})" if assignment.made else description
    return Splits(train, validation, test, title, (*notes, *assignment.notes))


def make_splits(
    source: str,
    parts: Mapping[str, ImageDataset],
    where: Mapping[str, str],
    settings: SplitSettings = _DEFAULT,
    progress: ReportProgress = lambda done, total: None,
) -> Splits:
    """Create `Splits`; if there is no validation split, split it off from the training split.

    Args:
        source: name of the data source, for display.
        parts: source rows by split name; missing splits are absent or empty.
        where: for train and for test, where the source must provide them; used in messages.
        settings: how a missing validation split is made.
        progress: called with the number of images searched for near duplicates and their total.

    Raises:
        DatasetError: if train or test is missing or empty, or the splits are inconsistent.
    """
    for name in ("train", "test"):
        if name not in parts or not len(parts[name]):
            raise DatasetError(f"{source}: the {name} split is empty; {where.get(name, 'add rows')}")
    keeps = settings.keep_near_duplicates
    if len(parts.get("validation", ())):
        return Splits(parts["train"], parts["validation"], parts["test"], source, keeps_near_duplicates=keeps)
    assignment = _validation_of(source, parts["train"], settings, progress)
    rows = with_near(parts["train"], assignment.near)
    train, validation = (rows.as_source_rows(assignment.split == number) for number in (_TRAIN, _VALIDATION))
    title = f"{source} ({assignment.made})"
    return Splits(train, validation, parts["test"], title, assignment.notes, keeps_near_duplicates=keeps)


def makes_splits(split: NDArray[np.int8]) -> bool:
    """Return whether `assign_splits` makes splits, from the duplicates among the images: validation is missing."""
    return not (split == _VALIDATION).any()


def assign_splits(
    source: str,
    rows: ImageDataset,
    split: NDArray[np.int8],
    settings: SplitSettings = _DEFAULT,
    *,
    advice: Mapping[str, str] = MappingProxyType({}),
    progress: ReportProgress = lambda done, total: None,
) -> Assignment:
    """Assign every row to a split.

    Given splits are kept. If no row has a split, validation and test are split off; if only the validation split is
    missing, it is split off from the training split. A missing test split must be provided by the source: a part of the
    training split may have been used to choose among models before.

    Args:
        source: the data source, for messages.
        rows: N source rows.
        split: `(N,)`, see `SPLIT_ORDER`.
        settings: how missing splits are made.
        advice: by split, where the source must provide it; for messages.
        progress: called with the number of images searched for near duplicates and their total.

    Raises:
        DatasetError: if only some rows have a split, or a split is empty and cannot be made.
    """
    without_split = np.flatnonzero(split == -1)
    if len(without_split) == len(rows):
        fractions = {_VALIDATION: settings.validation, _TEST: settings.test}
        return _made(source, rows, fractions, settings, progress)
    if len(without_split):
        raise DatasetError(
            f"{source}: {len(without_split):,} of {len(rows):,} rows have no split "
            f"({_first(_row_names(rows, without_split))}); assign all rows to a split, or none"
        )
    for number in (_TRAIN, _TEST):
        if not (split == number).any():
            name = SPLIT_ORDER[number]
            raise DatasetError(f"{source}: the {name} split is empty; {advice.get(name, 'add rows')}")
    if (split == _VALIDATION).any():
        return Assignment(split)
    train = np.flatnonzero(split == _TRAIN)
    assignment = _validation_of(source, rows.as_source_rows(split == _TRAIN), settings, progress)
    all_rows = split.copy()
    all_rows[train] = assignment.split
    near = None
    if assignment.near is not None:
        near = len(rows) + np.arange(len(rows))  # rows that were not searched are by themselves
        near[train] = assignment.near
    return replace(assignment, split=all_rows, near=near)


def _validation_of(source: str, train: ImageDataset, settings: SplitSettings, progress: ReportProgress) -> Assignment:
    return _made(source, train, {_VALIDATION: settings.validation}, settings, progress)


# --- assignment of groups of rows


def _made(
    source: str,
    rows: ImageDataset,
    fractions: Mapping[int, float],
    settings: SplitSettings,
    progress: ReportProgress,
) -> Assignment:
    """Split off parts of the rows.

    The result depends on the order of the rows, and on their pixels only through the duplicates among them, so that
    other sizes of the same images are split alike.
    """
    groups, notes, near = joined(groups_of(rows)), list[str](), None
    if settings.keep_near_duplicates:
        near = _near_duplicates(rows, progress)
        groups = joined(groups, near)
        notes += _note_on_near_duplicates(near)
    split = _assigned(rows.labels, groups, fractions, stream_rng(settings.seed, "split off"))
    if not all((split == number).any() for number in (_TRAIN, *fractions)):
        is_separate = groups.max(initial=-1) + 1 == len(rows)
        together = "" if is_separate else ", because duplicates and groups of images are kept together"
        raise DatasetError(
            f"{source}: too few images ({len(rows):,}) to split off a validation or test split{together}; "
            "add images or provide all three splits"
        )
    if _TEST in fractions:
        notes += _notes_on_small_classes(rows, groups, split)
    return Assignment(split, _description(fractions, settings.seed), tuple(notes), near)


def kept_together(
    rows: ImageDataset, progress: ReportProgress, *, near_duplicates: bool = True
) -> tuple[NDArray[np.int64], list[str]]:
    """Find rows that must not be parted by splits or folds: duplicates, exact, near or mirrored, and groups.

    Args:
        rows: N source rows.
        near_duplicates: whether to search for near and mirrored duplicates.
        progress: called with the number of images searched for near duplicates and their total.

    Returns:
        `(N,) int64` numbers from 0, equal for rows that belong together; and sentences on near duplicates.
    """
    groups = joined(groups_of(rows))
    if not near_duplicates:
        return groups, []
    near = _near_duplicates(rows, progress)
    return joined(groups, near), _note_on_near_duplicates(near)


def split_off(
    labels: NDArray[np.int64], groups: NDArray[np.int64], fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Choose a fraction of N rows, stratified by class, in which no class has all of its rows.

    Args:
        labels: `(N,) int64`.
        groups: `(N,) int64`, numbers from 0; rows of one group are chosen together.
        fraction: in (0, 1).
        rng: random generator.

    Returns:
        `(N,) bool`.
    """
    return np.equal(_assigned(labels, groups, {_VALIDATION: fraction}, rng), _VALIDATION, dtype=np.bool_)


def _near_duplicates(rows: ImageDataset, progress: ReportProgress) -> NDArray[np.int64]:
    """Return `(N,) int64` numbers from 0, equal for rows that are connected by near or mirrored duplicates."""
    first = np.sort(np.unique(group_ids(rows.digests), return_index=True)[1])
    return connected(len(rows), first[np.concatenate(near_pairs(rows.images, first, progress))])


def _assigned(
    labels: NDArray[np.int64], groups: NDArray[np.int64], fractions: Mapping[int, float], rng: np.random.Generator
) -> NDArray[np.int8]:
    """Assign groups to the training split and to parts of it that are split off.

    The groups of one class after another are shuffled. A part takes the next group when it lacks at least half of the
    rows of this group. Then single groups are moved, so that every class is in the training split, with two groups also
    in the test split, and with five in the validation split.

    Args:
        labels: `(N,) int64`.
        groups: `(N,) int64`, numbers from 0; a group with several labels counts as its rarest one.
        fractions: fraction of the rows of each part.
        rng: random generator.

    Returns:
        `(N,) int8`, part of each row.
    """
    sizes = np.bincount(groups)
    members = np.unique(np.stack([groups, labels], axis=1), axis=0)
    groups_with = np.bincount(members[:, 1])
    rarest_first = members[np.lexsort([groups_with[members[:, 1]], members[:, 0]])]
    stratum = rarest_first[np.unique(rarest_first[:, 0], return_index=True)[1], 1]
    shuffled = rng.permutation(len(sizes))
    part_of_group = np.zeros(len(sizes), dtype=np.int8)
    lacking = dict.fromkeys(fractions, 0.0)
    for group in shuffled[np.argsort(stratum[shuffled], kind="stable")].tolist():
        size = int(sizes[group])
        for part, fraction in fractions.items():
            lacking[part] += fraction * size
        part = max(fractions, key=lacking.__getitem__)
        if lacking[part] >= size / 2:
            part_of_group[group] = part
            lacking[part] -= size
    _represent_classes(part_of_group, sizes, members, tuple(fractions))
    return part_of_group[groups]


def _represent_classes(
    part_of_group: NDArray[np.int8], sizes: NDArray[np.int64], members: NDArray[np.int64], parts: tuple[int, ...]
) -> None:
    """Move groups, in place: every class to the training split and, if possible, to the others; no part is empty.

    Args:
        part_of_group: `(G,)`, part of each group.
        sizes: `(G,)`, number of rows of each group.
        members: pairs of a group and a class in it, ascending.
        parts: the parts other than the training split.
    """
    order = np.argsort(members[:, 1], kind="stable")
    groups_of_class = np.split(members[order, 0], np.cumsum(np.bincount(members[:, 1]))[:-1])
    starts = np.searchsorted(members[:, 0], np.arange(len(sizes) + 1))
    rarest_first = sorted(range(len(groups_of_class)), key=lambda label: len(groups_of_class[label]))

    def count(label: int, part: int) -> int:
        return int((part_of_group[groups_of_class[label]] == part).sum())

    def can_leave(group: int, part: int) -> bool:
        return all(count(label, part) > 1 for label in members[starts[group] : starts[group + 1], 1].tolist())

    def move(label: int, part: int, others: Sequence[int], freely: Sequence[int] = ()) -> bool:
        """Move the smallest group with a class to a part, from the first of the other parts that can give one.

        A part gives a group only if it keeps others with its classes, except for the parts that give `freely`.
        """
        for other in others:
            inside = groups_of_class[label][part_of_group[groups_of_class[label]] == other]
            for group in inside[np.argsort(sizes[inside], kind="stable")].tolist():
                if other in freely or can_leave(group, other):
                    part_of_group[group] = part
                    return True
        return False

    for label in rarest_first:
        if len(groups_of_class[label]) and not count(label, _TRAIN):
            move(label, _TRAIN, parts, freely=parts)
    for part, groups_needed in ((_TEST, 2), (_VALIDATION, _FOR_VALIDATION)):
        for label in rarest_first if part in parts else ():
            if len(groups_of_class[label]) >= groups_needed and not count(label, part):
                others = [other for other in (_TRAIN, *parts) if other != part]
                move(label, part, others, freely=[_VALIDATION])
    for part in parts:
        if not (part_of_group == part).any():
            any(move(label, part, (_TRAIN,)) for label in reversed(rarest_first))


def with_near(rows: ImageDataset, near: NDArray[np.int64] | None) -> ImageDataset:
    """Return source rows that know their near duplicates, see `SourceRows.near`; unchanged if `near` is None."""
    if near is None:
        return rows
    return replace(rows, sources=replace(rows.sources or SourceRows(), near=near))


# --- description and notes


def _description(fractions: Mapping[int, float], seed: int) -> str:
    """Describe the splits that were made: `validation: 1 in 10 rows of train, split off`."""
    amounts = {SPLIT_ORDER[part]: _amount(fraction) for part, fraction in fractions.items()}
    if len(amounts) == 1:
        text = f"validation: {amounts['validation']} of train"
    elif len(set(amounts.values())) == 1:
        text = f"validation and test: {amounts['test']} each"
    else:
        text = ", ".join(f"{name}: {amount}" for name, amount in amounts.items())
    return f"{text}, split off" + ("" if seed == SPLIT_SEED else f" with seed {seed}")


def without_made_splits(source: str) -> str:
    """Return the description of a source without the splits that were made, which a cross-validation does not use."""
    return re.sub(r" \([^()]*, split off( with seed \d+)?\)$", "", source)


def _amount(fraction: float) -> str:
    one_in = round(1 / fraction)
    return f"1 in {one_in} rows" if abs(1 / fraction - one_in) < 1e-6 else f"{100 * fraction:.3g} % of rows"


def _note_on_near_duplicates(near: NDArray[np.int64]) -> list[str]:
    sizes = np.bincount(near)
    together = sizes[sizes > 1]
    if not len(together):
        return []
    return [
        f"{together.sum():,} near or mirrored duplicates were kept together in {_counted(len(together), 'group')} when "
        "the rows were split"
    ]


def _notes_on_small_classes(rows: ImageDataset, groups: NDArray[np.int64], split: NDArray[np.int8]) -> list[str]:
    """Return sentences on classes that are missing from a made test split or have very few images."""

    def classes(labels: NDArray[np.int64]) -> str:
        return _first([_class_and_images(rows, groups, label) for label in labels[: _NAMED + 1].tolist()])

    held_out = np.bincount(rows.labels[split == _TEST], minlength=len(rows.class_names))
    notes = []
    missing = np.flatnonzero((held_out == 0) & (rows.counts > 0))
    if len(missing):
        have = "has no test images, so its" if len(missing) == 1 else "have no test images, so their"
        notes.append(f"{_counted(len(missing), 'class')} {have} recall cannot be measured: {classes(missing)}")
    few = np.flatnonzero((held_out > 0) & (rows.counts <= _FEW))
    if len(few):
        have = "has" if len(few) == 1 else "have"
        notes.append(
            f"{_counted(len(few), 'class')} {have} at most {_FEW} images, too few for a significant difference in "
            f"recall: {classes(few)}"
        )
    return notes


def _class_and_images(rows: ImageDataset, groups: NDArray[np.int64], label: int) -> str:
    count, group_count = int(rows.counts[label]), len(np.unique(groups[rows.labels == label]))
    together = "" if group_count == count else f" in {_counted(group_count, 'group')}"
    return f"{display_name(rows.class_names[label])} ({_counted(count, 'image')}{together})"


def _row_names(rows: ImageDataset, numbers: NDArray[np.int64]) -> list[str]:
    return [display_name(rows.name_of(row) or f"row {row}") for row in numbers[: _NAMED + 1].tolist()]


def _first(names: Sequence[str]) -> str:
    """Join the first names: `a, b, c, …`."""
    return ", ".join([*names[:_NAMED], *(["…"] if len(names) > _NAMED else [])])


def _counted(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"
