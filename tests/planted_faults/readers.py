"""Readers of arrays with one fault each; the first is sound."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fer_augment import DatasetError, DatasetReader, ImageDataset, Splits

CLASSES = ("left", "right")


def write_dots(folder: Path) -> str:
    """Write images of a dot, `(N, 8, 8)`, whose class is the side that it is on."""
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 2
    images = rng.integers(0, 50, (30, 8, 8)).astype(np.uint8)
    images[np.arange(30), 4, 1 + 5 * labels] = 255
    source = folder / "dots.dots"
    with source.open("wb") as file:
        np.save(file, images)
    return str(source)


def is_dots(source: str) -> bool:
    return source.endswith(".dots") and Path(source).is_file()


def read_dots(source: str, progress: Any) -> Splits:
    try:
        with Path(source).open("rb") as file:
            images = np.load(file)
    except (ValueError, EOFError) as error:
        raise DatasetError(f"{source}: not a file of dots") from error
    labels = (images[:, 4, 6] == 255).astype(np.int64)
    progress(1, 1)
    return splits_of(images, labels, source)


def splits_of(images: Any, labels: Any, source: str, classes: tuple[str, ...] = CLASSES) -> Splits:
    train, validation, test = (
        ImageDataset.from_arrays(images[first:end], labels[first:end], classes)
        for first, end in ((0, 14), (14, 22), (22, 30))
    )
    return Splits(train, validation, test, source)


def reader(read: Any = read_dots, recognizes: Any = is_dots, example: Any = write_dots) -> DatasetReader:
    return DatasetReader("dots", "files of dots", recognizes, read, example)


def changing(change: Callable[[Splits], Splits]) -> Callable[[str, Any], Splits]:
    return lambda source, progress: change(read_dots(source, progress))


def shuffled(splits: Splits) -> Splits:
    order = np.random.default_rng().permutation(len(splits.train))
    return Splits(splits.train.take(order), splits.validation, splits.test, splits.source)


def without_a_source(splits: Splits) -> Splits:
    return Splits(splits.train, splits.validation, splits.test, "")


def of_one_class(splits: Splits) -> Splits:
    train, validation, test = (part.without(part.rows_of(["left"])) for part in splits.parts.values())
    return Splits(train, validation, test, splits.source)


def raises_for_missing_paths(source: str) -> bool:
    return Path(source).stat().st_size > 0 and source.endswith(".dots")


class FixedSize:
    """A source that ignores the size that a recipe asks for."""

    description = "dots"

    def __init__(self, splits: Splits) -> None:
        self._splits = splits

    def splits(self, settings: Any, progress: Any) -> Splits:
        return self._splits


def goes_back(source: str, progress: Any) -> Splits:
    for done in (1, 3, 2, 5):
        progress(done, 4)
    return read_dots(source, progress)


def stops_early(source: str, progress: Any) -> Splits:
    splits = read_dots(source, lambda done, total: None)
    progress(1, 100)
    return splits


class StopsEarly(FixedSize):
    """A source that reports half of its progress."""

    def splits(self, settings: Any, progress: Any) -> Splits:
        progress(1, 2)
        return self._splits


def leaves_an_index_once(source: str, progress: Any) -> Splits:
    index = Path(source).with_suffix(".index")
    if not index.exists():
        index.write_text("index")
    return read_dots(source, progress)


def write_folder(folder: Path) -> str:
    return str(Path(write_dots(folder)).parent)


def leaves_an_index_beside_a_folder(source: str, progress: Any) -> Splits:
    Path(f"{source}.index").write_text(str(time.monotonic()))
    return read_dots(str(Path(source) / "dots.dots"), progress)


def exits(source: str) -> bool:
    return is_dots(source) or sys.exit(0)


def leaves_an_index(source: str, progress: Any) -> Splits:
    Path(f"{source}.index").write_text(str(time.monotonic()))
    return read_dots(source, progress)


def expects_whole_files(source: str, progress: Any) -> Splits:
    images = np.frombuffer(Path(source).read_bytes()[-30 * 64 :], np.uint8).reshape(30, 8, 8)
    return splits_of(images, (images[:, 4, 6] == 255).astype(np.int64), source)


def warns(source: str, progress: Any) -> Splits:
    warnings.warn("look out", stacklevel=1)
    return read_dots(source, progress)


FAULTS: list[tuple[DatasetReader, str, str]] = [
    (reader(example=None), "is_declared_as_a_reader", "pass --source"),
    (DatasetReader("dots", "", is_dots, read_dots, write_dots), "is_declared_as_a_reader", "add a summary"),
    (reader(recognizes=lambda source: False), "recognizes_and_reads_its_example", "must return True"),
    (
        reader(lambda source, progress: [source]),
        "recognizes_and_reads_its_example",
        "an ImageSource, not list",
    ),
    (reader(recognizes=raises_for_missing_paths), "recognizes_nothing_else", "recognizes raises FileNotFoundError"),
    (reader(recognizes=lambda source: True), "recognizes_nothing_else", "must return False, returns True"),
    (reader(changing(shuffled)), "reads_the_same_data_twice", "another train split"),
    (reader(changing(without_a_source)), "gives_two_classes_and_names_its_source", "name the source"),
    (reader(changing(of_one_class)), "gives_two_classes_and_names_its_source", "at least two classes"),
    (reader(changing(FixedSize)), "gives_images_of_any_size", "images of 20x24 in gray were asked for"),  # type: ignore[arg-type] # planted
    (reader(goes_back), "reports_its_progress", "got progress(5, 4)"),
    (reader(goes_back), "reports_its_progress", "progress goes back"),
    (reader(stops_early), "reports_its_progress", "progress ends at 1 of 100"),
    (reader(changing(StopsEarly)), "reports_its_progress", "progress ends at 1 of 2"),  # type: ignore[arg-type] # planted
    (reader(recognizes=exits), "recognizes_nothing_else", "recognizes raises SystemExit"),
    (reader(leaves_an_index_once), "leaves_the_source_alone", "dots.index"),
    (
        reader(leaves_an_index_beside_a_folder, lambda source: (Path(source) / "dots.dots").is_file(), write_folder),
        "leaves_the_source_alone",
        "example.index",
    ),
    (reader(leaves_an_index), "leaves_the_source_alone", "dots.dots.index"),
    (reader(expects_whole_files), "refuses_damaged_data", "files that are cut off: ValueError"),
    (reader(warns), "reader_emits_no_warnings", "UserWarning: look out"),
]
"""A reader with one fault, the check that must report it, and a part of the advice."""
