"""The data of a comparison as each of its recipes sees it: read once for each size and color of the images."""

from __future__ import annotations

from collections.abc import Mapping

from fer_augment.data.audit import drop_held_out_duplicates
from fer_augment.data.dataset import Splits
from fer_augment.data.image_source import ArraySource, DataSource, ReportProgress
from fer_augment.data.pixels import PixelSettings
from fer_augment.recipe.recipe import Recipe


class RecipeData:
    """A data source, with the splits that were read from it so far.

    Other processes receive the splits without the source: read all that is needed before they start.
    """

    def __init__(self, source: DataSource | None, as_read: Mapping[PixelSettings, Splits] | None = None) -> None:
        """Hold a source; nothing is read yet."""
        self._source = source
        self._as_read = dict(as_read or {})
        self._dropped: dict[PixelSettings, Splits] = {}

    @classmethod
    def of(cls, splits: Splits) -> RecipeData:
        """Return data that are in memory."""
        return cls(ArraySource(splits), {PixelSettings(): splits})

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the splits only: a source may hold open files."""
        return RecipeData, (None, self._as_read)

    def as_read(self, recipe: Recipe, progress: ReportProgress = lambda done, total: None) -> Splits:
        """Return the data in the size and color that a recipe asks for, before its other `data` settings.

        Raises:
            DatasetError: if an image cannot be decoded, or the settings do not fit the images.
        """
        settings = recipe.data.pixels
        if settings not in self._as_read:
            assert self._source is not None, "all data are read before other processes start"
            self._as_read[settings] = self._source.splits(settings, progress)
        return self._as_read[settings]

    def splits_for(self, recipe: Recipe) -> Splits:
        """Return the data under all `data` settings of a recipe.

        Raises:
            DatasetError: as `as_read`, or if dropping duplicates leaves a class without training rows.
        """
        splits = self.as_read(recipe)
        if recipe.data.held_out_duplicates != "drop":
            return splits
        settings = recipe.data.pixels
        if settings not in self._dropped:  # the same object each time, which has computed its fingerprint once
            self._dropped[settings] = drop_held_out_duplicates(splits)
        return self._dropped[settings]
