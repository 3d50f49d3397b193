"""The data of a comparison as each of its recipes sees it: read once for each size and color of the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fer_augment.cache import cache_folder
from fer_augment.data.audit import drop_held_out_duplicates
from fer_augment.data.cross_validation import CrossValidation, Folds, pooled
from fer_augment.data.dataset import ImageDataset, Splits
from fer_augment.data.image_source import ArraySource, DataSource
from fer_augment.data.pixel_blocks import PixelBlock
from fer_augment.data.pixels import PixelSettings
from fer_augment.data.records import FoldIdentity
from fer_augment.phases import ReportProgress
from fer_augment.recipe.recipe import Recipe


def no_progress(done: int, total: int) -> None:
    """Ignore progress."""


class RecipeData:
    """A data source, with the splits that were read from it so far, and the folds of a cross-validation.

    Other processes receive the splits without the source: read all that is needed before they start.

    Attributes:
        folds: how the rows are divided into folds; None for the splits of the source.
    """

    def __init__(
        self,
        source: DataSource | None,
        as_read: Mapping[PixelSettings, Splits] | None = None,
        folds: Folds | None = None,
    ) -> None:
        """Hold a source; nothing is read yet."""
        self.folds = folds
        self._source = source
        self._as_read = dict(as_read or {})
        self._of_fold: dict[tuple[PixelSettings, FoldIdentity], Splits] = {}
        self._changed: dict[tuple[PixelSettings, bool, bool, FoldIdentity | None], Splits] = {}

    @classmethod
    def of(cls, splits: Splits) -> RecipeData:
        """Return data that are in memory."""
        return cls(ArraySource(splits), {PixelSettings(): splits})

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the splits only: a source may hold open files."""
        return RecipeData, (None, self._as_read, self.folds)

    def without_cache(self) -> RecipeData:
        """Return the data for machines that do not have the cache of this one, with the pixels from it in memory."""
        cached = cache_folder().resolve()
        copies: dict[int, PixelBlock] = {}

        def in_memory(block: PixelBlock) -> PixelBlock:
            if block.path is None or not block.path.is_relative_to(cached):
                return block
            if id(block) not in copies:  # splits share blocks
                copies[id(block)] = PixelBlock.of(block.pixels)
            return copies[id(block)]

        def sent(part: ImageDataset) -> ImageDataset:
            return replace(part, blocks=tuple(map(in_memory, part.blocks)))

        as_read = {
            settings: replace(
                splits, train=sent(splits.train), validation=sent(splits.validation), test=sent(splits.test)
            )
            for settings, splits in self._as_read.items()
        }
        return RecipeData(None, as_read, self.folds)

    def divide(self, pixels: PixelSettings, settings: CrossValidation, progress: ReportProgress = no_progress) -> None:
        """Divide the data into folds; duplicates are those of the images in this size and color.

        Raises:
            DatasetError: as `as_read`, or if the data cannot be divided.
        """
        self.folds = replace(Folds.of(self._read(pixels), settings, progress), pixels=pixels)
        self._of_fold.clear()

    def as_read(self, recipe: Recipe, progress: ReportProgress = no_progress) -> Splits:
        """Return the data in the size and color that a recipe asks for, before its other `data` settings.

        Raises:
            DatasetError: if an image cannot be decoded, or the settings do not fit the images.
        """
        return self._read(recipe.data.pixels, progress)

    def _read(self, settings: PixelSettings, progress: ReportProgress = no_progress) -> Splits:
        if settings not in self._as_read:
            assert self._source is not None, "all data are read before other processes start"
            self._as_read[settings] = self._source.splits(settings, progress)
        return self._as_read[settings]

    def splits_of(self, recipe: Recipe, fold: FoldIdentity | None = None) -> Splits:
        """Return the splits of a fold, or else those of the source, before the other `data` settings of a recipe.

        Raises:
            DatasetError: as `as_read`.
        """
        splits = self.as_read(recipe)
        if fold is None:
            return splits
        assert self.folds is not None, "the data are divided before anything is asked of a fold"
        place = recipe.data.pixels, fold
        if place not in self._of_fold:
            self._of_fold[place] = self.folds.splits(splits, fold)
        return self._of_fold[place]

    def splits_for(self, recipe: Recipe, fold: FoldIdentity | None = None) -> Splits:
        """Return the data under all `data` settings of a recipe.

        Raises:
            DatasetError: as `as_read`, or if dropping duplicates leaves a class without training rows.
        """
        splits = self.splits_of(recipe, fold)
        drops, is_hard = recipe.data.held_out_duplicates == "drop", recipe.data.labels == "majority"
        if not drops and not is_hard:
            return splits
        place = recipe.data.pixels, drops, is_hard, fold
        if place not in self._changed:  # the same object each time, which has computed its fingerprint once
            changed = drop_held_out_duplicates(splits) if drops else splits
            train = changed.train.with_hard_labels() if is_hard else changed.train
            self._changed[place] = replace(changed, train=train)
        return self._changed[place]

    @property
    def first_fold(self) -> FoldIdentity | None:
        """The first fold, as an example of all; None without folds."""
        return self.folds.settings.identities[0] if self.folds else None

    def fingerprint(self, recipe: Recipe) -> str:
        """Return a digest of the data, and of how they are divided into folds."""
        splits = self.as_read(recipe)
        return self.folds.fingerprint(splits) if self.folds else splits.fingerprint

    def scored(self, recipe: Recipe) -> str:
        """Return a digest of the rows that are scored: the test split, or all rows of the folds."""
        return self.fingerprint(recipe) if self.folds else self.as_read(recipe).test.fingerprint

    def scored_counts(self, recipe: Recipe) -> NDArray[np.int64]:
        """Return `(K,) int64`, the rows per class that are scored: of the test split, or of all folds."""
        splits = self.as_read(recipe)
        if not self.folds:
            return splits.test.counts
        return pooled(splits, keeps_test=self.folds.settings.keeps_test).counts
