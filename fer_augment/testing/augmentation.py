"""Augmentation changes each row by itself, by numbers of its own, and keeps images and targets together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fer_augment.testing.fixtures import as_tensor
from fer_augment.testing.stages import Arguments, Arrays, arguments_of, same, some_rows
from fer_augment.testing.subject import Subject

_STAGES = ("augment_rows", "augment_batch")
_SEEDS = range(6)


def keeps_pixels_in_range(subject: Subject) -> Iterator[str]:
    """Images of a batch, and views of held-out images, are finite; those of a batch stay in [0, 1]."""
    for _, (images, _) in subject.results("augment_batch"):
        if not bool(((images >= 0) & (images <= 1)).all()):
            yield "augment_batch: pixels must stay in [0, 1]; clamp them"
    for _, views in subject.results("predict_views"):
        if not all(bool(view.isfinite().all()) for view in views):
            yield "predict_views: pixels must be finite"


def augments_each_row_alone(subject: Subject) -> Iterator[str]:
    """What `augment_rows` makes of a row depends neither on the order nor on the rest of its batch."""
    for together, alone in subject.together_and_alone("augment_rows"):
        if not same([together], [alone]):
            yield "seed each row by context.row_seeds(training_set.row_keys(rows), draws)"


def seeds_by_row_and_draw(subject: Subject) -> Iterator[str]:
    """A row is augmented in the same way wherever it stands in the set, and in another way when it is drawn again."""
    for stage in _STAGES:
        if stage in subject.stages:
            for data in subject.datasets:
                order = np.random.default_rng(0).permutation(len(data))
                moved = np.argsort(order)[some_rows(data)]
                here, elsewhere = arguments_of(stage, data), arguments_of(stage, data.take(order), moved)
                for given, shuffled in zip(here, elsewhere, strict=True):
                    if not _alike(given.outcome(subject.build()), shuffled.outcome(subject.build())):
                        yield (
                            f"{stage}: a row is augmented in another way where it stands elsewhere in the set; seed it "
                            "by context.row_seeds(training_set.row_keys(rows), draws), not by `rows`"
                        )
                    if _repeats_itself(given, subject):
                        yield (
                            f"{stage}: a row is augmented in the same way whenever it is drawn in an epoch; give "
                            "`draws` to context.row_seeds"
                        )


def _alike(some: Arrays, others: Arrays) -> bool:
    return all(np.allclose(one, other, atol=1e-5) for one, other in zip(some, others, strict=True))


def _repeats_itself(given: Arguments, subject: Subject) -> bool:
    """Whether rows that are drawn a second time come out as the first time, though other seeds change them."""
    runs = [[given.arrays_of(batch) for batch in given.folds(subject.build(), times=2, seed=seed)] for seed in _SEEDS]
    is_random = not all(same(first, runs[0][0]) for first, _ in runs)
    return is_random and all(same(first, second) for first, second in runs)


def mixes_no_image_without_its_target(subject: Subject) -> Iterator[str]:
    """Where targets come back as they were, a row's image owes nothing to rows of other classes in the batch.

    A strategy that mixes images says so in the targets; how it shares them is its own affair.
    """
    if "augment_batch" in subject.stages:
        for data in subject.datasets:
            for given in arguments_of("augment_batch", data):
                images, targets = given.fold(subject.build())
                if bool((targets == given.first[1]).all()) and _owes_to_other_classes(given, images.numpy(), subject):
                    yield (
                        "augment_batch: a row's image shows images of other classes, and its target does not; "
                        "mix or move targets as you do images"
                    )


def _owes_to_other_classes(given: Arguments, images: NDArray[np.float32], subject: Subject) -> bool:
    """Whether the images of the rows of some class change when those of all other classes do, and nothing else."""
    labels, before = given.data.labels[given.rows], given.data.images[given.rows]
    for label in np.unique(labels):
        own = labels == label
        changed = np.where(own[:, None, None, None], before, 255 - before[:, ::-1])
        again, _ = replace(given, first=(as_tensor(changed), given.first[1])).fold(subject.build())
        if not np.allclose(images[own], again.numpy()[own], atol=1e-5):
            return True
    return False
