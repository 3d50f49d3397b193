"""Rows of the training set keep their provenance and their labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import AS_READ, ImageDataset
from fer_augment.data.duplicates import image_digests
from fer_augment.testing.fixtures import NearestMeanScout
from fer_augment.testing.stages import arguments_of
from fer_augment.testing.subject import Subject


def keeps_provenance(subject: Subject) -> Iterator[str]:
    """Every row of a rewritten set descends from training rows, and says truly from which.

    A row "as read" is the row that was read; a new one that shows a row that was read, or its mirror image, names that
    row as a parent.
    """
    for data, rewritten in subject.results("rewrite_training_set"):
        place = np.empty(int(data.origin.max()) + 1, dtype=np.int64)
        place[data.origin] = np.arange(len(data))
        old = rewritten.step == AS_READ
        if (rewritten.images[old] != data.images[place[rewritten.origin[old]]]).any():
            yield "a row that counts as read is another image than was read; make new rows with `append`"
        if not (rewritten.origin >= 0).all():
            yield "a row has no origin; make sets with `take`, `append` and `without` only"
        if len(np.unique(rewritten.row_keys())) != len(rewritten):
            yield "two rows have one origin and copy number; make sets with `take`, `append` and `without` only"
        if _names_a_stranger_as_parent(data, rewritten):
            yield (
                "a new image shows a row that was read, or its mirror image, and names another row as its parent; "
                "give `append` as `parents`, in the order of the images, the rows that they were made from"
            )


def _names_a_stranger_as_parent(data: ImageDataset, rewritten: ImageDataset) -> bool:
    """Whether a row looks like source rows, mirrored or not, and descends from none of them."""
    shown: dict[bytes, set[int]] = {}
    images = data.images[:]
    for turned in (images, images[:, :, ::-1], images[:, ::-1], images[:, ::-1, ::-1]):
        for digest, origin in zip(image_digests(turned), data.origin.tolist(), strict=True):
            shown.setdefault(digest.tobytes(), set()).add(origin)
    relatives = [shown.get(digest.tobytes()) for digest in rewritten.digests]
    return any(rows and not rows & set(own) for rows, own in zip(relatives, rewritten.origins.tolist(), strict=True))


def keeps_labels_and_targets_valid(subject: Subject) -> Iterator[str]:
    """Labels are int64 class numbers, each of one of the row's parents; targets are class weights that sum to 1.

    Who asks a scout for predictions may give a row another label than its parents have.
    """
    if "rewrite_training_set" in subject.stages:
        for data in subject.datasets:
            for given in arguments_of("rewrite_training_set", data):
                scout = NearestMeanScout()
                rewritten: ImageDataset = given.fold(subject.build(), scout=scout)
                classes = range(len(data.class_names))
                if rewritten.labels.dtype != np.int64 or not np.isin(rewritten.labels, classes).all():
                    yield f"labels must be int64 in 0..{len(data.class_names) - 1}"
                if not ({"in_sample", "out_of_fold"} & set(scout.asked) or _inherits_labels(data, rewritten)):
                    yield (
                        "a row has a label that none of its parents has; give `append` their labels, or none, which "
                        "means the same"
                    )
    for _, (_, targets) in subject.results("augment_batch"):
        if not (bool((targets >= 0).all()) and np.allclose(targets.sum(1).detach().numpy(), 1, atol=1e-5)):
            yield "targets must be 0 or more and sum to 1 in each row"


def _inherits_labels(data: ImageDataset, rewritten: ImageDataset) -> bool:
    """Whether every row has the label of one of the source rows that it descends from."""
    label_of = np.full(int(data.origin.max()) + 2, -1, dtype=np.int64)  # the last one is of no parent, -1
    label_of[data.origin] = data.labels
    inherited: NDArray[np.bool_] = (label_of[rewritten.origins] == rewritten.labels[:, None]).any(axis=1)
    return bool(inherited.all())
