"""Classes that a source description renames, merges or drops."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_augment import DatasetError, ImageDataset, ImageSource, Omission, Splits, did_you_mean
from fer_augment.data.dataset import ROUNDING, have_largest_share
from fer_augment.readers._conventions import class_order, counted, display_name


@dataclass(frozen=True)
class ClassChanges:
    """Changes of class names.

    Attributes:
        renamed: new names by old name; classes with the same new name are merged.
        dropped: classes whose rows are left out.
        places: by old name, where the change is written, for messages.
        place: where the changes are written.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: Set[str] = frozenset()
    places: Mapping[str, str] = field(default_factory=dict)
    place: str = ""

    def __bool__(self) -> bool:
        """Return whether there is any change."""
        return bool(self.renamed or self.dropped)

    def check(self, names: Collection[str]) -> None:
        """Refuse changes of classes that do not exist, or that leave fewer than two classes.

        Raises:
            DatasetError: if a class is not among the names, or fewer than two are left.
        """
        for name in [*self.renamed, *sorted(self.dropped)]:
            if name not in names:
                hint = did_you_mean(name, map(display_name, names))
                raise DatasetError(f"{self.places[name]}: there is no class {display_name(name)!r}{hint}")
        if self and len({self.name_of(name) for name in names} - {None}) < 2:
            raise DatasetError(f"{self.place}: fewer than two classes are left; keep more")

    def name_of(self, name: str) -> str | None:
        """Return the new name of a class, None if it is dropped."""
        return None if name in self.dropped else self.renamed.get(name, name)

    def notes(self, labels: Sequence[str]) -> list[str]:
        """Return one note for each dropped class, with its number of rows."""
        return [
            Omission(f"{labels.count(name):,} rows of {display_name(name)}: dropped") for name in sorted(self.dropped)
        ]

    def applied(self, source: ImageSource) -> ImageSource:
        """Return a source with changed classes.

        Soft labels of merged classes are added, and the label is then the class with the largest sum, as for votes in a
        table: a row with the largest share for a dropped class is left out, other rows lose their shares for it. If
        several classes have the largest sum, the label of the source stays if it is one of them.

        Raises:
            DatasetError: if a class does not exist, or fewer than two are left.
        """
        if not self:
            return source
        class_names, (kept,), notes = self._changed(source.class_names, [(source.labels, source.targets)])
        return replace(
            source,
            files=[source.files[row] for row in kept.rows.tolist()],
            labels=kept.labels,
            class_names=class_names,
            split=source.split[kept.rows],
            groups=None if source.groups is None else source.groups[kept.rows],
            targets=kept.targets,
            notes=(*source.notes, *notes),
        )

    def applied_to_splits(self, splits: Splits) -> Splits:
        """Return splits with changed classes, see `applied`; their rows become source rows, and no pixels are copied.

        Raises:
            DatasetError: if a class does not exist, or fewer than two are left.
        """
        if not self:
            return splits
        parts = splits.parts.values()
        class_names, kept, notes = self._changed(splits.class_names, [(part.labels, part.targets) for part in parts])
        train, validation, test = (
            _with_classes(part.as_source_rows(one.rows), one, class_names)
            for part, one in zip(parts, kept, strict=True)
        )
        return replace(splits, train=train, validation=validation, test=test, notes=(*splits.notes, *notes))

    def _changed(
        self, names: Sequence[str], parts: Sequence[tuple[NDArray[np.int64], NDArray[np.float32] | None]]
    ) -> tuple[tuple[str, ...], list[_Kept], list[str]]:
        """Change the classes of labels and soft labels.

        Args:
            names: the class names.
            parts: labels and, if there are any, soft labels of each split.

        Returns:
            The new class names, what is kept of each split, and notes on what is left out.
        """
        class_names, new_labels = self._numbers(names)
        kept = [_with_new_labels(labels, targets, new_labels, len(class_names)) for labels, targets in parts]
        notes = self.notes([names[label] for one in kept for label in one.dropped.tolist()])
        present = np.unique(np.concatenate([one.labels for one in kept]))
        if any(one.targets is not None for one in kept) and len(present) < len(class_names):
            absent = [display_name(name) for label, name in enumerate(class_names) if label not in present]
            if len(present) < 2:
                raise DatasetError(f"{self.place}: fewer than two classes have the largest share of a row; keep more")
            notes.append(Omission(f"{counted(absent, 'classes')}: never the largest share; left out"))
            class_names, kept = tuple(class_names[label] for label in present), [one.of(present) for one in kept]
        return class_names, kept, notes

    def _numbers(self, names: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Return the new class names, and the new label of each old one; -1 for a dropped class."""
        self.check(names)
        new_names = [self.name_of(name) for name in names]
        class_names, label_of = class_order(name for name in new_names if name is not None)
        return class_names, np.array([-1 if name is None else label_of[name] for name in new_names], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Kept:
    """What is kept of N rows, and what is left out.

    Attributes:
        rows: `(n,) int64`, positions of the rows that are kept, in ascending order.
        labels: `(n,) int64`, their new labels.
        targets: `(n, K) float32`, their new soft labels; None without.
        dropped: `(N - n,) int64`, the dropped class, in the old numbers, of each row that is left out.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    targets: NDArray[np.float32] | None
    dropped: NDArray[np.int64]

    def of(self, present: NDArray[np.int64]) -> _Kept:
        """Leave out the classes that are not among some, in ascending order, which include all labels."""
        targets = None if self.targets is None else _normalized(self.targets[:, present])
        return replace(self, labels=np.searchsorted(present, self.labels).astype(np.int64), targets=targets)


def _with_classes(rows: ImageDataset, kept: _Kept, class_names: tuple[str, ...]) -> ImageDataset:
    """Return source rows with their new labels and soft labels."""
    sources = rows.sources and replace(rows.sources, targets=kept.targets)
    return replace(rows, labels=kept.labels, class_names=class_names, sources=sources)


def _with_new_labels(
    labels: NDArray[np.int64], targets: NDArray[np.float32] | None, new_labels: NDArray[np.int64], classes: int
) -> _Kept:
    """Give rows their new labels and soft labels, see `ClassChanges.applied`.

    Args:
        labels: `(N,)`, old labels.
        targets: `(N, V)`, old soft labels; None without.
        new_labels: `(V,)`, the new label of each old one; -1 for a dropped class.
        classes: K, the number of new classes.
    """
    changed = new_labels[labels]
    if targets is None:
        is_kept = changed >= 0
        return _Kept(np.flatnonzero(is_kept), changed[is_kept], None, labels[~is_kept])
    sums = np.stack([targets[:, new_labels == label].sum(axis=1, dtype=np.float64) for label in range(classes)], axis=1)
    of_dropped = np.where(new_labels < 0, targets, 0)
    is_kept = sums.max(axis=1) >= of_dropped.max(axis=1) - ROUNDING
    shares, changed = _normalized(sums[is_kept]), changed[is_kept]
    stays = (changed >= 0) & have_largest_share(changed, shares)  # -1 is an index, too
    new = np.where(stays, changed, shares.argmax(axis=1))
    return _Kept(np.flatnonzero(is_kept), new, shares, of_dropped[~is_kept].argmax(axis=1))


def _normalized(targets: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Divide each row by its sum."""
    shares = targets.astype(np.float64)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float32)
