"""Checks of augmentation: rows are augmented independently, each with its own seed, and targets follow the images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.hooks.stages import STAGES
from fer_augment.hooks.strategy import Effect
from fer_augment.testing.fixtures import as_tensor
from fer_augment.testing.stages import Arguments, Arrays, arguments_of, same, some_rows
from fer_augment.testing.subject import Subject

_STAGES = [name for name, stage in STAGES.items() if stage.counts_draws]
_SEEDS = range(6)
_ADVICE_ON_OTHER_ROWS = (
    ", and take other rows of the set from training_set.rows_by_key, as in training_set.rows_by_key[rng.integers(...)]"
)


def augments_each_row_alone(subject: Subject) -> Iterator[str]:
    """`augment_rows` augments a row independently of the order and of the other rows of the batch."""
    for together, alone in subject.together_and_alone("augment_rows"):
        if not same([together], [alone]):
            yield "seed each row by context.row_seeds(training_set.row_keys(rows), draws)"


def seeds_by_row_and_draw(subject: Subject) -> Iterator[str]:
    """Augmentation of a row does not depend on its position in the set, and differs each time the row is drawn."""
    for stage in _STAGES:
        if stage in subject.stages:
            for data in subject.datasets:
                order = np.random.default_rng(0).permutation(len(data))
                moved = np.argsort(order)[some_rows(data)]
                here, elsewhere = arguments_of(stage, data), arguments_of(stage, data.take(order), moved)
                for arguments, shuffled in zip(here, elsewhere, strict=True):
                    if not _equal(arguments.outcome(subject.build()), shuffled.outcome(subject.build())):
                        advice = _ADVICE_ON_OTHER_ROWS if subject.takes(stage, "training_set") else ""
                        yield (
                            f"{stage}: augmentation of a row depends on its position in the set; seed it with "
                            f"context.row_seeds(training_set.row_keys(rows), draws), not by `rows`{advice}"
                        )
                    if _ignores_draws(arguments, subject):
                        yield (
                            f"{stage}: a row is augmented the same way each time it is drawn in an epoch; pass "
                            "`draws` to context.row_seeds"
                        )


def _equal(some: Arrays, others: Arrays) -> bool:
    return all(np.allclose(one, other, atol=1e-5) for one, other in zip(some, others, strict=True))


def _ignores_draws(arguments: Arguments, subject: Subject) -> bool:
    """Whether rows drawn twice are augmented the same way both times, although the seed makes a difference."""
    runs = [
        [arguments.arrays_of(batch) for batch in arguments.folds(subject.build(), times=2, seed=seed)]
        for seed in _SEEDS
    ]
    is_random = not all(same(first, runs[0][0]) for first, _ in runs)
    return is_random and all(same(first, second) for first, second in runs)


def mixes_no_image_without_its_target(subject: Subject) -> Iterator[str]:
    """If the target of a row is returned unchanged, its image contains nothing of rows of other classes.

    A strategy that mixes images also has to change the targets; in which proportions is not checked. Images of other
    classes may come from the batch or from the training set. One that declares `Effect.FAVORS_SMALL_CLASSES` may give
    some rows of a mixed batch their whole label, but not all.
    """
    favors = Effect.FAVORS_SMALL_CLASSES in subject.build().effects
    for stage in _STAGES:
        if stage in subject.stages:
            for data in subject.datasets:
                for arguments in arguments_of(stage, data):
                    images, *targets = arguments.outcome(subject.build())
                    if not same([images, *targets], arguments.outcome(subject.build())):
                        return  # an unseeded draw or a change in place, which other checks report
                    kept = np.ones(len(images), dtype=bool)
                    for before, after in zip(arguments.arrays_of(arguments.first)[1:], targets, strict=True):
                        kept &= (before == after).all(axis=1)
                    if favors and not kept.all():
                        continue
                    if _depends_on_other_classes(arguments, images, kept, subject):
                        yield (
                            f"{stage}: the image of a row contains images of other classes, and its target does not; "
                            "mix or move targets in augment_batch in the same way as images"
                        )


def _depends_on_other_classes(
    arguments: Arguments, images: NDArray[Any], kept: NDArray[np.bool_], subject: Subject
) -> bool:
    """Whether changing only the images of all other classes changes the augmented images of kept rows of some class.

    In the training set these change places within their classes, so that statistics of the set stay as they are.
    """
    data = arguments.data
    labels, before = data.labels[arguments.rows], data.images[arguments.rows]
    for label in np.unique(labels[kept]):
        own = labels == label
        changed = np.where(own[:, None, None, None], before, 255 - before[:, ::-1])
        first = (as_tensor(changed), arguments.first[1]) if arguments.stage == "augment_batch" else changed
        others = {**arguments.others, "training_set": _with_other_images(data, data.labels != label)}
        again = replace(arguments, first=first, others=others).outcome(subject.build())[0]
        if not np.allclose(images[own & kept], again[own & kept], atol=1e-5):
            return True
    return False


def _with_other_images(data: ImageDataset, changed: NDArray[np.bool_]) -> ImageDataset:
    """Give some rows the image of the next row of their class; everything else of the rows stays."""
    index = data.index.copy()
    for label in np.unique(data.labels[changed]):
        rows = np.flatnonzero(changed & (data.labels == label))
        index[rows] = data.index[np.roll(rows, -1)]
    return replace(data, index=index)
