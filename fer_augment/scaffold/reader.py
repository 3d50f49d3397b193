"""The files of a distribution with a dataset reader."""

from __future__ import annotations

from fer_augment.scaffold.common import PYPROJECT

_READER = '''\
"""The dataset reader `$name`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from fer_augment import DatasetError, DatasetReader, ImageDataset, Splits, hookimpl

SUFFIX = ".$name"
SPLITS = ("train", "validation", "test")


def recognizes(source: str) -> bool:
    """Return whether a source has this format: quickly, and without raising."""
    return source.endswith(SUFFIX) and Path(source).is_file()


def read(source: str, progress: Callable[[int, int], None]) -> Splits:
    """Read a text file with one gray image per line: split, class and pixels in 0..255, separated by spaces.

    Images are square. Color images, or files that are decoded in the size that a recipe asks for, are possible, too:
    see the hook register_dataset_readers.
    """
    try:
        lines = Path(source).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{source}: cannot be read as text ({error})") from error
    rows = []
    for number, line in enumerate(lines, 1):
        rows.append(_row(f"{source}, line {number}", line.split()))
        progress(number, len(lines))
    if len({len(pixels) for _, _, pixels in rows}) != 1:
        raise DatasetError(f"{source}: has no images, or images of several sizes")
    classes = sorted({name for _, name, _ in rows})
    train, validation, test = (_part(rows, split, classes) for split in SPLITS)
    return Splits(train, validation, test, source)


def _row(place: str, words: list[str]) -> tuple[str, str, list[int]]:
    try:
        split, name, *pixels = words
        numbers = [int(pixel) for pixel in pixels]
    except ValueError as error:
        raise DatasetError(f"{place}: must have a split, a class, and whole numbers") from error
    side = round(len(numbers) ** 0.5)
    if split not in SPLITS or not numbers or side**2 != len(numbers) or not 0 <= min(numbers) <= max(numbers) <= 255:
        raise DatasetError(f"{place}: must have one of {', '.join(SPLITS)}, a class, and pixels of a square in 0..255")
    return split, name, numbers


def _part(rows: Sequence[tuple[str, str, list[int]]], split: str, classes: list[str]) -> ImageDataset:
    own = [(name, pixels) for of_split, name, pixels in rows if of_split == split]
    side = round(len(rows[0][2]) ** 0.5)
    images = np.array([pixels for _, pixels in own], dtype=np.uint8).reshape(-1, side, side)
    return ImageDataset.from_arrays(images, [classes.index(name) for name, _ in own], classes)


def write_example(folder: Path) -> str:
    """Write a small file and return its path; the conformity kit reads it."""
    rng = np.random.default_rng(0)
    lines = [
        " ".join([split, name, *map(str, rng.integers(low, low + 128, 64))])
        for split in SPLITS
        for name, low in (("dark", 0), ("bright", 128))
        for _ in range(4)
    ]
    file = folder / f"example{SUFFIX}"
    file.write_text("\\n".join(lines) + "\\n", encoding="utf-8")
    return str(file)


READER = DatasetReader("$name", f"text files FILE{SUFFIX} with one image per line", recognizes, read, write_example)


@hookimpl
def register_dataset_readers() -> Sequence[DatasetReader]:
    """Register the reader of this module."""
    return [READER]
'''

_TESTS = '''\
"""The reader passes the conformity kit and reads what its docstring says."""

from pathlib import Path

import pytest
from fer_augment import DatasetError, DatasetReader
from fer_augment.testing import PluginCheck, parametrize_with_reader_checks

from $module import READER


@parametrize_with_reader_checks([READER])
def test_conforms(reader: DatasetReader, check: PluginCheck) -> None:
    check(reader)


# These tests are about the reader of the template: replace them by some about yours.
def test_splits_and_classes_are_those_of_the_lines(tmp_path: Path) -> None:
    file = tmp_path / "four.$name"
    file.write_text("train a 0 1 2 3\\ntrain b 4 5 6 7\\nvalidation a 8 9 10 11\\ntest b 255 254 253 252\\n")
    splits = READER.read(str(file), lambda done, total: None)
    assert splits.train.images[[1]][0, :, :, 0].tolist() == [[4, 5], [6, 7]]
    assert (splits.class_names, splits.test.labels.tolist()) == (("a", "b"), [1])


def test_an_invalid_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "wrong.$name"
    file.write_text("train a 0 1 2 3\\ntrain b 4 5 6\\n")
    with pytest.raises(DatasetError, match="line 2: must have"):
        READER.read(str(file), lambda done, total: None)
'''

_README = """\
# $name

A dataset reader for fer_augment, which reads what `--data` names. The template in `$module.py` reads text files
with one image per line; replace it by yours. Keep `write_example`: the conformity kit reads what it writes. Then
adapt the other tests in `tests/test_$name.py`.

Install the reader and check it:

```
pip install -e '.[test]'
fer-augment plugins show $name
fer-augment plugins check $name
pytest
```

Without installing it, `fer-augment plugins check $module.py` checks the file.

It recognizes its files by itself: `fer-augment data show FILE.$name`. To check it on data of your own:
`fer-augment plugins check $name --source FILE.$name`.
"""

FILES = {
    "$module.py": ("the reader: edit this file", _READER),
    "tests/test_$name.py": ("tests: the conformity kit, and some for the reader", _TESTS),
    "pyproject.toml": ("the distribution and its entry point", PYPROJECT),
    "README.md": ("how to install, check and use it", _README),
}
"""The purpose and the template of each file."""
