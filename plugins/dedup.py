"""What to do about images that stand in the training set more than once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fer_augment import Effect, ImageDataset, Strategy, StrategyError, hookimpl

_ROWS_AT_ONCE = 4096


class Dedup(Strategy):
    """Drop rows whose image stands in the training set under several labels, and rows that repeat another.

    Rows are only ever dropped: no label is changed and no image is made. Images are the same if they are so byte for
    byte. Put it before steps that add rows, or it drops the copies that they made.

    When: the same image stands there twice, or under two labels: `fer-augment data audit` tells.

    Cost: well under a second, and rows: of FER2013's 28,709 go 1,260, among them 16 in 100 of Surprise and 2 in 100 of
    Happy. Classes that lose many rows are drawn less often. Training rows that also stand in the test split stay;
    `data.held_out_duplicates: drop` is for those.

    Try: the defaults; `mirrored: true` where the audit finds mirror images.

    Sources: Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better", ACL, for repeats (of text);
    for contradictory labels the usual majority vote.
    """

    conflicts: Literal["keep", "drop", "majority"] = Field(
        default="majority",
        description="rows of one image under several labels: keep them, drop them all, or keep those with the label "
        "that most of them have (none, where two labels tie).",
    )
    repeats: Literal["keep", "keep_one"] = Field(
        default="keep_one", description="rows with one image and one label: keep them, or only the first of them."
    )
    mirrored: bool = Field(
        default=False, description="take an image and its mirror image, left to right, for the same."
    )

    @property
    def effects(self) -> Effect:
        """Rows are dropped from some classes more than from others: of FER2013's Surprise 16 in 100, of Happy 2."""
        nothing_is_dropped = self.conflicts == "keep" and self.repeats == "keep"
        return Effect(0) if nothing_is_dropped else Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset) -> ImageDataset:
        """Return the rows that stay, in their order."""
        image = _image_numbers(training_set, mirrored=self.mirrored)
        image_and_label = image * len(training_set.class_names) + training_set.labels
        rows = np.arange(len(training_set))
        if self.conflicts != "keep":
            rows = rows[_undisputed(image, image_and_label, by_vote=self.conflicts == "majority")]
        if self.repeats == "keep_one":
            _, first = np.unique(image_and_label[rows], return_index=True)
            rows = rows[np.sort(first)]
        kept = training_set.take(rows)
        emptied = np.flatnonzero((kept.counts == 0) & (training_set.counts > 0))
        if len(emptied):
            names = ", ".join(training_set.class_names[label] for label in emptied)
            raise StrategyError(f"conflicts: {self.conflicts} leaves no row of {names}; set conflicts to keep")
        return kept


def _image_numbers(dataset: ImageDataset, *, mirrored: bool) -> NDArray[np.int64]:
    """Return `(N,) int64`, equal for rows whose images are the same."""
    digests = dataset.digests
    if mirrored:
        digests = np.concatenate([digests, _mirrored_digests(dataset)])
    _, number = np.unique(digests, return_inverse=True)
    return np.minimum(number[: len(dataset)], number[-len(dataset) :]).astype(np.int64)


def _mirrored_digests(dataset: ImageDataset) -> NDArray[np.void]:
    """Return `(N,)` digests of the mirror images, made a few thousand at a time."""
    pieces = []
    for start in range(0, len(dataset), _ROWS_AT_ONCE):
        images = dataset.images[start : start + _ROWS_AT_ONCE][:, :, ::-1]
        labels = dataset.labels[start : start + _ROWS_AT_ONCE]
        pieces.append(ImageDataset.from_arrays(images, labels, dataset.class_names).digests)
    return np.concatenate(pieces)


def _undisputed(image: NDArray[np.int64], image_and_label: NDArray[np.int64], *, by_vote: bool) -> NDArray[np.bool_]:
    """Return an `(N,) bool` mask of rows with the only label of their image, or by vote with the most frequent one."""
    _, first, pair, votes = np.unique(image_and_label, return_index=True, return_inverse=True, return_counts=True)
    image_of_pair = image[first]
    most = np.zeros(image.max() + 1, dtype=np.int64)
    np.maximum.at(most, image_of_pair, votes)
    stands = votes == most[image_of_pair] if by_vote else np.full(len(votes), True)
    standing = np.bincount(image_of_pair[stands], minlength=len(most))
    is_undisputed: NDArray[np.bool_] = stands & (standing[image_of_pair] == 1)
    return is_undisputed[pair]


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Offer the strategy of this file."""
    return [Dedup]
