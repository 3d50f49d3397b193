"""Repeated K-fold cross-validation: a data set divided into folds several times; each fold gives one `Splits`.

Rows that would leak from the training folds into the held-out one stay together, as in splits that are made: exact,
near and mirrored duplicates, and rows of one group of the source. A source description may leave out near and mirrored
duplicates.

Legend of shapes: S repeats, N rows of all folds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset, SourceRows, Splits, joined_groups
from fer_augment.data.duplicates import joined, stratified_folds
from fer_augment.data.pixels import PixelSettings
from fer_augment.data.records import FoldIdentity
from fer_augment.data.splitting import (
    SPLIT_SEED,
    kept_together,
    split_off,
    with_near,
    without_made_splits,
)
from fer_augment.errors import DatasetError, display_name
from fer_augment.phases import ReportProgress
from fer_augment.randomness import stream_rng

VALIDATION = 0.1
"""Fraction of the rows of the training folds that is split off for validation."""


@dataclass(frozen=True)
class CrossValidation:
    """How a data set is divided into folds.

    Attributes:
        folds: number of folds of each repeat.
        repeats: how often all rows are divided anew.
        keeps_test: whether the given test split is left out of the folds; it is then not scored.

    Raises:
        DatasetError: if there are fewer than two folds or one repeat.
    """

    folds: int
    repeats: int = 2
    keeps_test: bool = False

    def __post_init__(self) -> None:
        """Validate the numbers."""
        if self.folds < 2:
            raise DatasetError(f"folds: must be 2 or more, such as 5, got {self.folds}")
        if self.repeats < 1:
            raise DatasetError(f"repeats: must be 1 or more, such as 2, got {self.repeats}")

    @property
    def identities(self) -> list[FoldIdentity]:
        """The folds of all repeats, in order."""
        return [
            FoldIdentity(repeat=repeat, number=number, folds=self.folds, keeps_test=self.keeps_test)
            for repeat in range(self.repeats)
            for number in range(self.folds)
        ]


@dataclass(frozen=True, eq=False)
class Folds:
    """The folds of N rows in each of S repeats; the same rows in another size are divided alike.

    Attributes:
        settings: how the rows are divided.
        of_repeat: `(S, N) int64`, the fold of each row in each repeat, from 0.
        together: `(N,) int64`, equal for rows that stay in one fold.
        pixels: size and color of the images whose duplicates were kept together; in others, there may be more or fewer.
    """

    settings: CrossValidation
    of_repeat: NDArray[np.int64]
    together: NDArray[np.int64]
    pixels: PixelSettings = PixelSettings()

    @classmethod
    def of(
        cls, splits: Splits, settings: CrossValidation, progress: ReportProgress = lambda done, total: None
    ) -> Folds:
        """Divide the rows of a data set.

        A repeat depends on its number and the number of folds, not on the number of repeats.

        Args:
            splits: the data as read.
            settings: how they are divided.
            progress: called with the number of images searched for near duplicates and their total.

        Raises:
            DatasetError: if there are too few images for the folds, a class cannot be both trained and held out, or
                the training split has augmented copies.
        """
        if splits.is_rewritten:
            raise DatasetError(
                f"{splits.source}: has a rewritten training set, whose augmented copies would leak into held-out "
                "folds; pass the original data to --data, and the recipe to compare"
            )
        rows = pooled(splits, keeps_test=settings.keeps_test)
        together, _ = kept_together(rows, progress, near_duplicates=splits.keeps_near_duplicates)
        if together.max() + 1 < settings.folds:
            raise DatasetError(
                f"{splits.source}: {together.max() + 1:,} images, or groups of images that are kept together, are too "
                f"few for {settings.folds} folds"
            )
        of_repeat = [
            stratified_folds(
                rows.labels,
                together,
                settings.folds,
                stream_rng(SPLIT_SEED, "cross-validation", settings.folds, repeat),
            )
            for repeat in range(settings.repeats)
        ]
        _refuse_classes_in_one_fold(splits.source, rows, of_repeat)
        return cls(settings, np.stack(of_repeat), together)

    def splits(self, data: Splits, fold: FoldIdentity) -> Splits:
        """Return training, validation and test split of a fold; the test split is the held-out fold.

        Args:
            data: the data as read, in any size.
            fold: one of `settings.identities`.
        """
        rows = with_near(pooled(data, keeps_test=self.settings.keeps_test), self.together)
        is_test = self.of_repeat[fold.repeat] == fold.number
        others = np.flatnonzero(~is_test)
        groups = joined(np.unique(self.together[others], return_inverse=True)[1].astype(np.int64))
        rng = stream_rng(SPLIT_SEED, "validation of a fold", fold.folds, fold.repeat, fold.number)
        is_validation = split_off(rows.labels[others], groups, VALIDATION, rng)
        train, validation = (rows.as_source_rows(others[kept]) for kept in (~is_validation, is_validation))
        test = rows.as_source_rows(is_test)
        return replace(
            data, train=train, validation=validation, test=test, source=f"{without_made_splits(data.source)}, {fold}"
        )

    def held_out(self, fold: FoldIdentity) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of a held-out fold, and the numbers of the groups that they stay together with."""
        rows = np.flatnonzero(self.of_repeat[fold.repeat] == fold.number)
        return rows, self.together[rows]

    def fingerprint(self, data: Splits) -> str:
        """Return a digest of the data and of how they are divided into folds; repeats may be added later."""
        settings = f"{data.fingerprint}\0cross-validation\0{self.settings.folds}\0{self.settings.keeps_test}"
        if not data.keeps_near_duplicates:
            settings += "\0near duplicates apart"
        return hashlib.sha256(settings.encode()).hexdigest()


def pooled(splits: Splits, *, keeps_test: bool = False) -> ImageDataset:
    """Join train, validation and, unless it is kept out, test split into one data set of source rows, in this order.

    No pixels are copied.
    """
    given = [splits.train, splits.validation, *([] if keeps_test else [splits.test])]
    parts = [part.as_source_rows() for part in given]
    blocks = tuple(dict.fromkeys(block for part in parts for block in part.blocks))
    start_of = dict(zip(blocks, np.cumsum([0, *(len(block.pixels) for block in blocks)]).tolist(), strict=False))
    index = []
    for part in parts:
        ends = np.cumsum([len(block.pixels) for block in part.blocks])
        block = np.searchsorted(ends, part.index, side="right")
        shift = np.array([start_of[one] - (end - len(one.pixels)) for one, end in zip(part.blocks, ends, strict=True)])
        index.append(part.index + shift[block])
    count = sum(map(len, parts))
    return ImageDataset(
        blocks=blocks,
        index=np.concatenate(index),
        labels=np.concatenate([part.labels for part in parts]),
        class_names=splits.class_names,
        origins=np.arange(count, dtype=np.int64)[:, None],
        copies=np.zeros(count, dtype=np.int64),
        step=np.zeros(count, dtype=np.int64),
        sources=_joined_sources(parts),
    )


def _joined_sources(parts: Sequence[ImageDataset]) -> SourceRows:
    sources = [part.sources or SourceRows() for part in parts]
    names = [one.names for one in sources]
    targets = [one.targets for one in sources]
    joined_names = joined_targets = None
    if all(one is not None for one in names):
        joined_names = tuple(name for one in names if one is not None for name in one)
    if any(one is not None for one in targets):
        one_hot = np.eye(len(parts[0].class_names), dtype=np.float32)
        joined_targets = np.concatenate(
            [one_hot[part.labels] if one is None else one for one, part in zip(targets, parts, strict=True)]
        )
    return SourceRows(joined_names, joined_groups(parts), joined_targets)


def _refuse_classes_in_one_fold(source: str, rows: ImageDataset, of_repeat: Sequence[NDArray[np.int64]]) -> None:
    for label, name in enumerate(rows.class_names):
        inside = rows.labels == label
        if inside.any() and any(len(np.unique(fold[inside])) < 2 for fold in of_repeat):
            raise DatasetError(
                f"{source}: all {inside.sum():,} images of {display_name(name)} are in one fold, because there is one, "
                "or because duplicates and groups of images are kept together; add images, or drop or merge the class "
                "in a description of the data"
            )
