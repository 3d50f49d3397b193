"""Classes that a source description renames, merges or drops."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fer_augment import DatasetError, ImageDataset, ImageSource, Splits, did_you_mean
from fer_augment.readers._conventions import class_order, display_name


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
        return [f"{labels.count(name):,} rows of {display_name(name)}: dropped" for name in sorted(self.dropped)]

    def applied(self, source: ImageSource) -> ImageSource:
        """Return a source with changed classes.

        Raises:
            DatasetError: if a class does not exist, or no class is left.
        """
        if not self:
            return source
        class_names, new_labels = self._numbers(source.class_names)
        labels = new_labels[source.labels]
        rows = np.flatnonzero(labels >= 0)
        return replace(
            source,
            files=[source.files[row] for row in rows.tolist()],
            labels=labels[rows],
            class_names=class_names,
            split=source.split[rows],
            groups=None if source.groups is None else source.groups[rows],
            targets=None if source.targets is None else _merged(source.targets[rows], new_labels, len(class_names)),
            notes=(*source.notes, *self.notes([source.class_names[label] for label in source.labels.tolist()])),
        )

    def applied_to_splits(self, splits: Splits) -> Splits:
        """Return splits of source rows with changed classes; no pixels are copied.

        Raises:
            DatasetError: if a class does not exist, or no class is left.
        """
        if not self:
            return splits
        class_names, new_labels = self._numbers(splits.class_names)
        parts = []
        for part in splits.parts.values():
            labels = new_labels[part.labels]
            rows = np.flatnonzero(labels >= 0)
            sources = None if part.sources is None else part.sources.taken(rows)
            if sources and sources.targets is not None:
                sources = replace(sources, targets=_merged(sources.targets, new_labels, len(class_names)))
            parts.append(
                ImageDataset.from_arrays(
                    part.blocks[0], labels[rows], class_names, rows=part.index[rows], sources=sources
                )
            )
        labels_before = [splits.class_names[label] for part in splits.parts.values() for label in part.labels.tolist()]
        train, validation, test = parts
        notes = (*splits.notes, *self.notes(labels_before))
        return replace(splits, train=train, validation=validation, test=test, notes=notes)

    def _numbers(self, names: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Return the new class names, and the new label of each old one; -1 for a dropped class."""
        self.check(names)
        new_names = [self.name_of(name) for name in names]
        class_names, label_of = class_order(name for name in new_names if name is not None)
        return class_names, np.array([-1 if name is None else label_of[name] for name in new_names], dtype=np.int64)


def _merged(targets: NDArray[np.float32], new_labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """Add up the soft labels of merged classes, without those of dropped classes; rows sum to 1 again."""
    sums = targets @ (new_labels[:, None] == np.arange(classes)).astype(np.float32)
    return np.asarray(sums / sums.sum(axis=1, keepdims=True), dtype=np.float32)
