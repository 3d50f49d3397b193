"""Reader for the demo data: synthetic faces, generated on demand."""

from __future__ import annotations

from fer_augment import DatasetReader, ImageDataset, Splits, hookimpl
from fer_augment.hooks.declarations import ReportProgress
from fer_augment.readers._conventions import DEMO


@hookimpl
def register_dataset_readers() -> list[DatasetReader]:
    """Register the reader of the demo data."""
    return [DatasetReader("demo", f"the word {DEMO}: synthetic faces", recognizes, read)]


def recognizes(source: str) -> bool:
    """Return whether the source is the word `demo`."""
    return source == DEMO


def read(source: str, progress: ReportProgress) -> Splits:
    """Generate the synthetic faces; they are always the same."""
    from fer_augment.readers._demo_faces import CLASS_NAMES, demo_arrays

    parts = {name: ImageDataset.from_arrays(*pair, CLASS_NAMES) for name, pair in demo_arrays().items()}
    progress(1, 1)
    return Splits(parts["train"], parts["validation"], parts["test"], "demo (synthetic faces)")
