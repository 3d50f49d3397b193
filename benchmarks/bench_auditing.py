"""Auditing many images: different ones, and frames of one scene. `AUDIT_IMAGES=1000000` measures a million."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from benchmarks.side_by_side import SideBySide
from fer_augment import ImageDataset, PixelBlock, Splits
from fer_augment.data.audit import audit
from tests.near_images import as_images, scene, textures

COUNT = int(os.environ.get("AUDIT_IMAGES", "20000"))
PARTS = 4
TARGET = 600e-6
"""Seconds per image: 1,000,000 images in ten minutes on two cores."""
_AT_ONCE = 10_000


Images: TypeAlias = Callable[[int, np.random.Generator], np.ndarray]


def different(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `(count, 48, 48, 1)` textures of different coarseness."""
    return as_images(textures(count, rng, coarseness=rng.uniform(1, 4)))


def write(path: Path, count: int, images_of: Images) -> PixelBlock:
    """Write images to a memory-mapped file, some thousands at a time."""
    rng = np.random.default_rng(0)
    pixels = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 48, 48, 1))
    frame = images_of(1, rng)[0].astype(np.int16)
    for start in range(0, count, _AT_ONCE):
        rows = min(_AT_ONCE, count - start)
        if images_of is scene:  # one scene in all parts of the file
            pixels[start : start + rows] = np.clip(frame + rng.integers(-4, 5, (rows, 48, 48, 1)), 0, 255)
        else:
            pixels[start : start + rows] = images_of(rows, rng)
    pixels.flush()
    return PixelBlock.open(path)


def splits_of(block: PixelBlock, count: int) -> Splits:
    """Return the first images of a file in three splits."""
    ends = (0, count * 8 // 10, count * 9 // 10, count)
    train, validation, test = (
        ImageDataset.from_arrays(block, np.arange(start, end) % 2, ("cat", "dog"), rows=np.arange(start, end))
        for start, end in zip(ends, ends[1:], strict=False)
    )
    return Splits(train, validation, test, "generated")


@pytest.mark.benchmark(timer=time.perf_counter)
@pytest.mark.parametrize(
    ("images_of", "title"),
    [(different, "different images"), (scene, "frames of one scene")],
    ids=["different", "scene"],
)
def test_audit_grows_linearly(side_by_side: SideBySide, tmp_path: Path, images_of: Images, title: str) -> None:
    block = write(tmp_path / "images.npy", COUNT, images_of)
    many, few = splits_of(block, COUNT), splits_of(block, COUNT // PARTS)
    side_by_side(
        f"auditing {COUNT:,} {title} of 48x48",
        ours=lambda: audit(many),
        theirs=lambda: [audit(few) for _ in range(PARTS)],
        alternative=f"{PARTS} times {COUNT // PARTS:,} (1: linear growth)",
        n=1 if COUNT > 100_000 else 3,
        at_most=TARGET * COUNT,
    )
