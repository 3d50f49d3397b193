"""Checks of provenance, labels and targets."""

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
    """Every row of a rewritten training set has its correct source rows as provenance.

    Original rows are unchanged. A new row that equals an original row, or its mirror image, has that row as a parent.
    A row without a source row was appended without parents.
    """
    for data, rewritten in subject.results("rewrite_training_set"):
        place = np.empty(int(data.origin.max()) + 1, dtype=np.int64)
        place[data.origin] = np.arange(len(data))
        old = rewritten.step == AS_READ
        if (rewritten.images[old] != data.images[place[rewritten.origin[old]]]).any():
            yield "the image of an original row was changed; add changed images with `append`"
        if (rewritten.origin == -1).any():
            yield "a row has no source row; make sets only with `take`, `append` and `without`"
        if len(np.unique(rewritten.row_keys())) != len(rewritten):
            yield "two rows share source row and copy number; make sets only with `take`, `append` and `without`"
        if _has_a_wrong_parent(data, rewritten):
            yield (
                "a new image equals an original row, or its mirror image, but has another row as its parent; "
                "pass the rows that the images were made from as `parents` to `append`, in the order of the images"
            )


def _has_a_wrong_parent(data: ImageDataset, rewritten: ImageDataset) -> bool:
    """Whether a row equals source rows, mirrored or not, and descends from none of them."""
    origins_of: dict[bytes, set[int]] = {}
    images = data.images[:]
    for flipped in (images, images[:, :, ::-1], images[:, ::-1], images[:, ::-1, ::-1]):
        for digest, origin in zip(image_digests(flipped), data.origin.tolist(), strict=True):
            origins_of.setdefault(digest.tobytes(), set()).add(origin)
    equal_rows = [origins_of.get(digest.tobytes()) for digest in rewritten.digests]
    return any(rows and not rows & set(own) for rows, own in zip(equal_rows, rewritten.origins.tolist(), strict=True))


def keeps_labels_and_targets_valid(subject: Subject) -> Iterator[str]:
    """Labels are valid int64 class numbers, each that of a parent of the row; targets are weights that sum to 1.

    A strategy that uses predictions or embeddings of a scout may relabel rows. Rows without parents have their own.
    """
    if "rewrite_training_set" in subject.stages:
        for data in subject.datasets:
            for arguments in arguments_of("rewrite_training_set", data):
                scout = NearestMeanScout()
                rewritten: ImageDataset = arguments.fold(subject.build(), scout=scout)
                classes = range(len(data.class_names))
                if rewritten.labels.dtype != np.int64 or not np.isin(rewritten.labels, classes).all():
                    yield f"labels must be int64 in 0..{len(data.class_names) - 1}"
                if not (scout.asked or _inherits_labels(data, rewritten)):
                    yield (
                        "a row has a label that none of its parents has; omit `labels` in `append` to keep the labels "
                        "of the parents"
                    )
    for _, (_, targets) in subject.results("augment_batch"):
        if not (bool((targets >= 0).all()) and np.allclose(targets.sum(1).detach().numpy(), 1, atol=1e-5)):
            yield "targets must be non-negative and sum to 1 in each row"


def _inherits_labels(data: ImageDataset, rewritten: ImageDataset) -> bool:
    """Whether every row has the label of one of its source rows."""
    label_of = np.full(int(data.origin.max()) + 2, -1, dtype=np.int64)  # index -1 (no parent) is the last entry
    label_of[data.origin] = data.labels
    labels_of_sources = label_of[np.maximum(rewritten.origins, -1)]
    inherited: NDArray[np.bool_] = (labels_of_sources == rewritten.labels[:, None]).any(axis=1)
    return bool((inherited | rewritten.is_from_outside).all())
