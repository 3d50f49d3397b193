"""Handling of images that occur more than once in the training set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fer_augment import Effect, ImageDataset, Strategy, StrategyError, hookimpl

_CHUNK_ROWS = 4096


class Dedup(Strategy):
    """Remove exact duplicates: drop repeated rows, and rows whose image occurs under several labels.

    Rows are only dropped: no label and no image is changed. Duplicates are byte-identical images. Place this step
    before steps that add rows; otherwise it drops the copies that they add.

    When: images occur twice, or under two labels; `fer-augment data audit` reports both.

    Cost: less than a second. Of FER2013's 28,709 rows, 1,260 are dropped, including 16 % of Surprise and 2 % of Happy;
    classes that lose many rows are drawn less often. Training rows that are also in the test split are kept; drop those
    with `data.held_out_duplicates: drop`.

    Try: the defaults; `mirrored: true` if the audit reports mirrored duplicates.

    Sources: Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better", ACL, for repeated rows (of
    text); a majority vote is the usual treatment of contradictory labels.
    """

    conflicts: Literal["keep", "drop", "majority"] = Field(
        default="majority",
        description="rows of one image with several labels: keep them, drop them all, or keep those with the majority "
        "label (none if there is a tie).",
    )
    repeats: Literal["keep", "keep_one"] = Field(
        default="keep_one", description="rows with the same image and label: keep them all, or only the first."
    )
    mirrored: bool = Field(
        default=False, description="also treat an image and its left-right mirror image as duplicates."
    )

    @property
    def effects(self) -> Effect:
        """Class frequencies shift: FER2013 loses 16 % of Surprise and 2 % of Happy."""
        keeps_all_rows = self.conflicts == "keep" and self.repeats == "keep"
        return Effect(0) if keeps_all_rows else Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset) -> ImageDataset:
        """Return the kept rows in their order."""
        image = _image_numbers(training_set, mirrored=self.mirrored)
        image_and_label = image * len(training_set.class_names) + training_set.labels
        rows = np.arange(len(training_set))
        if self.conflicts != "keep":
            rows = rows[_without_conflict(image, image_and_label, by_majority=self.conflicts == "majority")]
        if self.repeats == "keep_one":
            _, first = np.unique(image_and_label[rows], return_index=True)
            rows = rows[np.sort(first)]
        kept = training_set.take(rows)
        emptied = np.flatnonzero((kept.counts == 0) & (training_set.counts > 0))
        if len(emptied):
            names = ", ".join(training_set.class_names[label] for label in emptied)
            raise StrategyError(f"`conflicts: {self.conflicts}` drops all rows of {names}; use `conflicts: keep`")
        return kept


def _image_numbers(dataset: ImageDataset, *, mirrored: bool) -> NDArray[np.int64]:
    """Return `(N,) int64` numbers that are equal for rows with duplicate images."""
    digests = dataset.digests
    if mirrored:
        digests = np.concatenate([digests, _mirrored_digests(dataset)])
    _, number = np.unique(digests, return_inverse=True)
    return np.minimum(number[: len(dataset)], number[-len(dataset) :]).astype(np.int64)


def _mirrored_digests(dataset: ImageDataset) -> NDArray[np.void]:
    """Return `(N,)` digests of the mirror images, computed in chunks to save memory."""
    chunks = []
    for start in range(0, len(dataset), _CHUNK_ROWS):
        images = dataset.images[start : start + _CHUNK_ROWS][:, :, ::-1]
        labels = dataset.labels[start : start + _CHUNK_ROWS]
        chunks.append(ImageDataset.from_arrays(images, labels, dataset.class_names).digests)
    return np.concatenate(chunks)


def _without_conflict(
    image: NDArray[np.int64], image_and_label: NDArray[np.int64], *, by_majority: bool
) -> NDArray[np.bool_]:
    """Return an `(N,) bool` mask of rows with the only label of their image, or with its majority label."""
    _, first, pair, votes = np.unique(image_and_label, return_index=True, return_inverse=True, return_counts=True)
    image_of_pair = image[first]
    most_votes = np.zeros(image.max() + 1, dtype=np.int64)
    np.maximum.at(most_votes, image_of_pair, votes)
    is_candidate = votes == most_votes[image_of_pair] if by_majority else np.full(len(votes), True)
    candidates = np.bincount(image_of_pair[is_candidate], minlength=len(most_votes))
    is_kept: NDArray[np.bool_] = is_candidate & (candidates[image_of_pair] == 1)
    return is_kept[pair]


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [Dedup]
