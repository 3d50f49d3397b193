"""Reader for FER2013 as a csv file: `fer2013.csv` and its later edition `icml_face_data.csv`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from fer_augment import DatasetError, DatasetReader, ImageDataset, PixelBlock, Splits, did_you_mean, hookimpl
from fer_augment.data.splitting import make_splits
from fer_augment.phases import ReportProgress, two_phases
from fer_augment.readers._conventions import DEMO, FER2013_CLASSES, PROVENANCE, display_name, excerpt
from fer_augment.readers._pixel_text import keep_freed_memory, parse_row, parse_rows

COLUMNS = ("emotion", "pixels", "Usage")
USAGES = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
SPLITS = tuple(USAGES.values())

_BYTES_AT_ONCE = 1 << 19
"""Bytes of text parsed at once; larger blocks do not fit into the CPU cache and are slower."""
_BUFFER = 1 << 18
"""File buffer size in bytes; a buffer of less than a few lines is slower."""
_HEADER_LIMIT = 1 << 12
_READING_ENDS = 0.5
"""Share of the progress until the file is read; a search for near duplicates follows if it has no validation split."""
_LABELS = {str(label).encode(): label for label in range(len(FER2013_CLASSES))}
_SPLIT_NUMBERS = {usage.encode(): SPLITS.index(split) for usage, split in USAGES.items()}
WHERE = {
    "train": "it consists of the rows with Usage 'Training'",
    "test": "it consists of the rows with Usage 'PrivateTest'",
}
"""By split, where the file has it, for messages."""


@hookimpl
def register_dataset_readers() -> list[DatasetReader]:
    """Register the csv reader."""
    summary = "FILE.csv with the columns emotion, pixels and Usage (fer2013.csv, icml_face_data.csv)"
    return [DatasetReader("csv_file", summary, recognizes, read)]


def recognizes(source: str) -> bool:
    """Return whether the source is a file whose header has `pixels` and another of the columns; never raises."""
    if source == DEMO or not os.path.isfile(source):
        return False
    try:
        missing = _missing(_header(source))
    except (OSError, ValueError):
        return False
    return "pixels" not in missing and len(missing) < len(COLUMNS) - 1


def read(source: str, progress: ReportProgress) -> Splits:
    """Read the file; Training, PublicTest and PrivateTest become train, validation and test.

    Images are square, `(n, side, side, 1)`; the first row determines their size.

    Raises:
        DatasetError: if the file cannot be read or a line is invalid; the message names the line and the reason.
    """
    size = os.path.getsize(source) if os.path.isfile(source) else 0
    report_reading, report_search = two_phases(progress, size, _READING_ENDS)
    splits = make_splits(display_name(source), read_parts(source, report_reading), WHERE, progress=report_search)
    report_search(1, 1)  # no search if the file has all splits
    return replace(splits, is_rewritten={name.decode(errors="replace") for name in _header(source)} >= PROVENANCE)


def read_parts(source: str, progress: ReportProgress) -> dict[str, ImageDataset]:
    """Return the rows of each split, in the order of the file.

    Raises:
        DatasetError: as `read`.
    """
    try:
        with open(source, "rb", buffering=_BUFFER) as file:
            return _read_parts(file, source, progress)
    except FileNotFoundError as error:
        raise DatasetError(f"{display_name(source)}: no such file; check the path") from error
    except OSError as error:
        raise DatasetError(f"{display_name(source)}: cannot be read ({error.strerror}); check the path") from error


@dataclass(frozen=True, eq=False)
class _Rows:
    """A block of parsed rows: `(n,)` split numbers, `(n,)` labels and `(n, count) uint8` pixels."""

    split: NDArray[np.int64]
    label: NDArray[np.int64]
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class _Layout:
    """Number of fields per line, and the positions of label, pixels and usage."""

    source: str
    fields: int
    label: int
    pixels: int
    usage: int

    def error(self, line: int, reason: str) -> DatasetError:
        return DatasetError(f"{display_name(self.source)}: line {line}: {reason}")


def _read_parts(file: BinaryIO, source: str, progress: ReportProgress) -> dict[str, ImageDataset]:
    total = os.fstat(file.fileno()).st_size
    layout = _read_header(file, source)
    keep_freed_memory()
    blocks = []
    for rows in _blocks_of_rows(file, layout):
        blocks.append(rows)
        progress(file.tell(), total)
    if not blocks:
        raise DatasetError(f"{display_name(source)}: has a header but no rows; re-download the file")
    split, label = (np.concatenate([getattr(rows, name) for rows in blocks]) for name in ("split", "label"))
    side = isqrt(blocks[0].pixels.shape[1])
    parts = {}
    for number, name in enumerate(SPLITS):
        pixels = np.concatenate([rows.pixels[rows.split == number] for rows in blocks])
        pixels.flags.writeable = False
        block = PixelBlock(pixels.reshape(-1, side, side, 1))
        parts[name] = ImageDataset.from_arrays(block, label[split == number], FER2013_CLASSES)
    return parts


def _read_header(file: BinaryIO, source: str) -> _Layout:
    first = file.readline(_HEADER_LIMIT)
    if not first.strip():
        raise DatasetError(f"{display_name(source)}: is empty or starts with an empty line; re-download the file")
    header = _fields(first)
    missing = _missing(header)
    if missing:
        shown = excerpt(first.decode("utf-8", "replace"), 60)
        raise DatasetError(
            f"{display_name(source)}: line 1: the header is missing {', '.join(missing)} (it is {shown}); "
            f"expected columns: {', '.join(COLUMNS)}, in any order"
        )
    if doubled := [name for name in COLUMNS if header.count(name.lower().encode()) > 1]:
        raise DatasetError(
            f"{display_name(source)}: line 1: {doubled[0]} is the name of two columns; rename one of them"
        )
    position = {name: header.index(name.lower().encode()) for name in COLUMNS}
    return _Layout(source, len(header), position["emotion"], position["pixels"], position["Usage"])


def _header(source: str) -> list[bytes]:
    with open(source, "rb") as file:
        return _fields(file.readline(_HEADER_LIMIT))


def _missing(header: Sequence[bytes]) -> list[str]:
    return [name for name in COLUMNS if name.lower().encode() not in header]


def _fields(line: bytes) -> list[bytes]:
    """Return the column names of a header line, in lower case."""
    return [_stripped(field).lower() for field in line.removeprefix(b"\xef\xbb\xbf").split(b",")]


def _stripped(field: bytes) -> bytes:
    """Strip white space and quotes from a field."""
    field = field.strip()
    return field[1:-1].strip() if len(field) > 1 and field[:1] == field[-1:] == b'"' else field


def _blocks_of_rows(file: BinaryIO, layout: _Layout) -> Iterator[_Rows]:
    line_number = 2
    count: int | None = None
    while lines := file.readlines(_BYTES_AT_ONCE):
        numbered = [(line_number + offset, line) for offset, line in enumerate(lines) if not line.isspace()]
        line_number += len(lines)
        if numbered:
            rows = _parse(numbered, layout, count)
            count = rows.pixels.shape[1]
            yield rows


def _parse(numbered: Sequence[tuple[int, bytes]], layout: _Layout, count: int | None) -> _Rows:
    """Parse lines; the first line of the file determines the number of pixels of all rows."""
    triples = [_split_and_label(number, line, layout) for number, line in numbered]
    texts = [text for _, _, text in triples]
    if count is None:
        count = _pixel_count(numbered[0][0], texts[0], layout)
    pixels = parse_rows(texts, count)
    if pixels is None:
        lines = [number for number, _ in numbered]
        pixels = np.stack(
            [_parse_slowly(number, text, count, layout) for number, text in zip(lines, texts, strict=True)]
        )
    split, label = (np.array([row[i] for row in triples], dtype=np.int64) for i in (0, 1))
    return _Rows(split, label, pixels)


def _split_and_label(number: int, line: bytes, layout: _Layout) -> tuple[int, int, bytes]:
    """Return split number, label and pixel text of a line."""
    fields = line.split(b",")
    if len(fields) != layout.fields:
        raise layout.error(number, f"{len(fields)} fields, but the header has {layout.fields}; correct the line")
    label, usage = _stripped(fields[layout.label]), _stripped(fields[layout.usage])
    if label not in _LABELS:
        names = ", ".join(f"{value} {name}" for value, name in enumerate(FER2013_CLASSES))
        raise layout.error(number, f"unknown label {_quoted(label)}; known: {names}")
    if usage not in _SPLIT_NUMBERS:
        hint = did_you_mean(usage.decode("utf-8", "replace"), USAGES)
        raise layout.error(number, f"unknown Usage {_quoted(usage)}{hint}")
    return _SPLIT_NUMBERS[usage], _LABELS[label], _stripped(fields[layout.pixels])


def _pixel_count(number: int, text: bytes, layout: _Layout) -> int:
    count = len(text.split())
    if count == 0 or isqrt(count) ** 2 != count:
        raise layout.error(number, f"{count} pixels are not a square image; correct the line")
    return count


def _parse_slowly(number: int, text: bytes, count: int, layout: _Layout) -> NDArray[np.uint8]:
    """Parse the pixels of a row with the slow path."""
    try:
        pixels = parse_row(text)
    except ValueError as error:
        raise layout.error(number, f"{error}; correct the line") from error
    if len(pixels) != count:
        raise layout.error(number, f"{len(pixels)} pixels, but previous rows have {count}; correct the line")
    return pixels


def _quoted(field: bytes) -> str:
    return ascii(field[:20].decode("utf-8", "replace"))
