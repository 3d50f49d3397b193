"""Reader for the demo data: synthetic faces, drawn once and kept in the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fer_augment import DatasetReader, ImageDataset, Splits, hookimpl
from fer_augment.phases import ReportProgress
from fer_augment.readers._conventions import DEMO

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fer_augment.data.pixel_blocks import PixelBlock
    from fer_augment.readers._demo_faces import DemoSplit


@hookimpl
def register_dataset_readers() -> list[DatasetReader]:
    """Register the reader of the demo data."""
    return [DatasetReader("demo", f"the word {DEMO}: synthetic faces", recognizes, read)]


def recognizes(source: str) -> bool:
    """Return whether the source is the word `demo`."""
    return source == DEMO


def read(source: str, progress: ReportProgress) -> Splits:
    """Draw the synthetic faces, or open those that were drawn before; they are always the same."""
    from fer_augment.readers._demo_faces import CLASS_NAMES, demo_splits

    drawn = demo_splits()
    total, done = sum(len(split.labels) for split in drawn.values()), 0
    parts = {}
    for name, split in drawn.items():
        parts[name] = ImageDataset.from_arrays(_images(name, split), split.labels, CLASS_NAMES)
        done += len(split.labels)
        progress(done, total)
    return Splits(parts["train"], parts["validation"], parts["test"], "demo (synthetic faces)")


def _images(name: str, split: DemoSplit) -> PixelBlock:
    from fer_augment.data.pixel_cache import computed_block
    from fer_augment.readers._demo_faces import FACE_SHAPE, version_of_faces

    def draw(pixels: NDArray[np.uint8]) -> tuple[str, ...]:
        pixels[:] = split.draw()
        return ()

    return computed_block(
        f"demo {name} {version_of_faces()}", (len(split.labels), *FACE_SHAPE), draw, cached_from=0
    ).block
