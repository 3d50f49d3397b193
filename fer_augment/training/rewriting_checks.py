"""Checks of each rewriting of a training set: held-out images among the rows, and classes that vanish.

Shape legend: n new rows, H, W, C height, width and channels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fer_augment.data.dataset import ImageDataset, Splits
from fer_augment.data.duplicates import image_digests
from fer_augment.data.near_duplicates import near_between, pieces
from fer_augment.data.pixel_blocks import Images
from fer_augment.errors import StrategyError
from fer_augment.hooks.pipeline import Step
from fer_augment.training.folds import places_of

LEAST_SHARE = 0.1
"""Share of new images with a near duplicate in a held-out split above which there is a warning. Images that are made
from training rows reach a few percent where training and held-out rows show similar scenes."""

_SAMPLED = 300
"""New images that are searched for near duplicates in the held-out splits."""


def refuse_held_out_images(step: Step, before: ImageDataset, after: ImageDataset, splits: Splits) -> None:
    """Refuse new images that are held-out images, exactly or mirrored.

    Images of training rows, mirrored or not, may also be in a held-out split; copies of them are no new leak. Images
    without detail are ignored.

    Args:
        step: the step that rewrites.
        before: the training set before the step.
        after: the training set after it.
        splits: the data.

    Raises:
        StrategyError: with the number of such images and the first one.
    """
    new = np.flatnonzero(~np.isin(after.digests, before.digests))
    counts, example = dict.fromkeys(("test", "validation"), 0), ""
    for start, stop in pieces(after.images, new):
        images = after.images[new[start:stop]]
        has_detail = (images != images[:, :1, :1]).any(axis=(1, 2, 3))
        both = np.stack([after.digests[new[start:stop]], image_digests(images[:, :, ::-1])])
        is_new = has_detail & ~np.isin(both, splits.train.digests).any(axis=0)
        for split in counts:
            part = splits.parts[split]
            is_held_out = np.isin(both, part.digests)
            leaked = np.flatnonzero(is_new & is_held_out.any(axis=0))
            counts[split] += len(leaked)
            if len(leaked) and not example:
                digest = both[int(np.argmax(is_held_out[:, leaked[0]])), leaked[0]]
                example = _row_name(split, part, int(np.flatnonzero(part.digests == digest)[0]))
    if example:
        found = " and ".join(f"{count:,} of the {split} split" for split, count in counts.items() if count)
        raise StrategyError(
            f"{step}, rewrite_training_set: of {len(new):,} new images, {found} are held-out images, exactly or "
            f"mirrored, such as {example}; a strategy must make images from training rows only"
        )


def _row_name(split: str, part: ImageDataset, row: int) -> str:
    name = part.name_of(row)
    return f"{split} row {row}" + (f" ({name})" if name else "")


def lost_rows(step: Step, before: ImageDataset, after: ImageDataset) -> Iterator[str]:
    """Yield a warning for each class that loses more than half of its rows in a step.

    Raises:
        StrategyError: if a class loses all of its rows.
    """
    for name, rows, left in zip(after.class_names, before.counts.tolist(), after.counts.tolist(), strict=True):
        if rows and not left:
            raise StrategyError(
                f"{step}, rewrite_training_set: drops all {rows:,} rows of {name}; change its parameters, or leave the "
                f"class out of the data: classes: {{drop: [{name}]}}"
            )
        if 2 * left < rows:
            yield f"{step} leaves {left:,} of {rows:,} training rows of {name}."


def near_held_out_warning(rewritten: ImageDataset, splits: Splits) -> str | None:
    """Return a warning if many new images are near duplicates of held-out images that no source image is near to.

    A sample of the new images is searched.

    Args:
        rewritten: the rewritten training set.
        splits: the data.
    """
    new = np.flatnonzero(~np.isin(rewritten.digests, splits.train.digests))
    if not len(new):
        return None
    sample = new[np.unique(np.linspace(0, len(new) - 1, _SAMPLED).astype(np.int64))]
    sources = rewritten.origins[sample]
    parents = splits.train.take(np.unique(places_of(sources[sources >= 0], splits.train)))
    sets = [rewritten.take(sample), parents, splits.validation, splits.test]
    starts = np.cumsum([0, *(sum(len(block.pixels) for block in one.blocks) for one in sets)])
    index = np.concatenate([start + one.index for start, one in zip(starts, sets, strict=False)])
    images = Images(tuple(block for one in sets for block in one.blocks), index)
    few, rows = len(sample) + len(parents), np.arange(len(index))
    pairs = near_between(images, rows[:few], rows[few:])
    of_new, of_parents = pairs[pairs[:, 0] < len(sample)], pairs[pairs[:, 0] >= len(sample)]
    leaking = of_new[~np.isin(of_new[:, 1], of_parents[:, 1])]
    leaked = len(np.unique(leaking[:, 0]))
    if leaked < LEAST_SHARE * len(sample):
        return None
    row, before_test = int(leaking[:, 1].min()), len(splits.validation)
    split, row = ("validation", row) if row < before_test else ("test", row - before_test)
    example = _row_name(split, splits.parts[split], row)
    return (
        f"Of {len(sample):,} new training images sampled, {leaked:,} are near or mirrored duplicates of validation or "
        f"test images to which their source images are not, such as {example}: scores may measure memorization."
    )
