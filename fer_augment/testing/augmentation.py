"""Checks of augmentation: rows are augmented independently, each with its own seed, and targets follow the images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fer_augment.hooks.stages import STAGES
from fer_augment.testing.fixtures import as_tensor
from fer_augment.testing.stages import Arguments, Arrays, arguments_of, same, some_rows
from fer_augment.testing.subject import Subject

_STAGES = [name for name, stage in STAGES.items() if stage.counts_draws]
_SEEDS = range(6)


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
                        yield (
                            f"{stage}: augmentation of a row depends on its position in the set; seed it with "
                            "context.row_seeds(training_set.row_keys(rows), draws), not by `rows`"
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
    """If targets are returned unchanged, the image of a row contains nothing of rows of other classes.

    A strategy that mixes images also has to change the targets; in which proportions is not checked.
    """
    if "augment_batch" in subject.stages:
        for data in subject.datasets:
            for arguments in arguments_of("augment_batch", data):
                images, targets = arguments.fold(subject.build())
                unchanged = bool((targets == arguments.first[1]).all())
                before = images.numpy().copy()
                if not same([before], [arguments.fold(subject.build())[0].numpy()]):
                    return  # an unseeded draw or a change in place, which other checks report
                if unchanged and _depends_on_other_classes(arguments, before, subject):
                    yield (
                        "augment_batch: the image of a row contains images of other classes, and its target does not; "
                        "mix or move targets in the same way as images"
                    )


def _depends_on_other_classes(arguments: Arguments, images: NDArray[np.float32], subject: Subject) -> bool:
    """Whether changing only the images of all other classes changes the augmented images of some class."""
    labels, before = arguments.data.labels[arguments.rows], arguments.data.images[arguments.rows]
    for label in np.unique(labels):
        own = labels == label
        changed = np.where(own[:, None, None, None], before, 255 - before[:, ::-1])
        again, _ = replace(arguments, first=(as_tensor(changed), arguments.first[1])).fold(subject.build())
        if not np.allclose(images[own], again.numpy()[own], atol=1e-5):
            return True
    return False
