"""The reader of the demo faces, which are drawn on demand and lie in no file."""

from __future__ import annotations

from fer_augment import DatasetReader, ImageDataset, Splits, hookimpl
from fer_augment.hooks.declarations import ReportProgress
from fer_augment.readers._conventions import DEMO


@hookimpl
def register_dataset_readers() -> list[DatasetReader]:
    """Offer the demo faces."""
    return [DatasetReader("demo", f"the word {DEMO}: drawn faces", recognizes, read)]


def recognizes(source: str) -> bool:
    """Return whether the source is the word for the demo faces."""
    return source == DEMO


def read(source: str, progress: ReportProgress) -> Splits:
    """Draw the faces, the same ones every time."""
    from fer_augment.readers._demo_faces import CLASS_NAMES, demo_arrays

    parts = {name: ImageDataset.from_arrays(*pair, CLASS_NAMES) for name, pair in demo_arrays().items()}
    progress(1, 1)
    return Splits(parts["train"], parts["validation"], parts["test"], "demo faces (drawn)")
