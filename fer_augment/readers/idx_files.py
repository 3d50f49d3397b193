"""Reader for idx files, the format of MNIST, Fashion-MNIST, KMNIST and EMNIST; uncompressed files are memory-mapped."""

from __future__ import annotations

import gzip
import io
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fer_augment import DatasetError, DatasetReader, Omission, Splits, hookimpl
from fer_augment.data.image_files import regular_file
from fer_augment.phases import ReportProgress
from fer_augment.readers._array_names import IdxName, has_idx_files, idx_name, pairs
from fer_augment.readers._arrays import LabeledArray, splits_of_arrays
from fer_augment.readers._conventions import DEMO, counted, display_name, excerpt, is_folder, no_such_file
from fer_augment.readers._stored_arrays import Array, StoredArray, chunks_of, file_version

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""Types by the third byte of a file; the fourth is the number of dimensions, 32-bit big-endian lengths follow."""

_FAULTS = (OSError, EOFError, zlib.error, ValueError)


@hookimpl
def register_dataset_readers() -> list[DatasetReader]:
    """Register the reader of idx files."""
    summary = "FOLDER with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-… (MNIST family), or with .gz"
    return [DatasetReader("idx_files", summary, recognizes, read)]


def recognizes(source: str) -> bool:
    """Return whether the source is an idx file by name, or a folder with such files."""
    if os.path.isdir(source):
        return is_folder(source) and has_idx_files(source)
    return source != DEMO and idx_name(os.path.basename(source)) is not None


def read(source: str, progress: ReportProgress) -> Splits:
    """Read the files of one data set: those of a folder, or of a file and the other files of the same name and folder.

    Raises:
        DatasetError: if a file is missing or invalid, or a folder has several data sets.
    """
    files, notes = _files(source)
    names = pairs(source, {name: file.content for name, file in files.items()})
    folder = Path(_folder(source))

    def array(name: str) -> tuple[StoredArray, str]:
        title = display_name(str(folder / name))
        return _array(folder / name, files[name].is_compressed, title), title

    def labeled(images: str, labels: str) -> LabeledArray:
        (pixels, images_title), (values, labels_title) = array(images), array(labels)
        return LabeledArray(pixels, values.read(), images_title, labels_title)

    parts = {split: labeled(*pair) for split, pair in names.items()}
    return splits_of_arrays(source, parts, names, None, progress, notes)


def _folder(source: str) -> str:
    return source if os.path.isdir(source) else os.path.dirname(source) or os.curdir


def _files(source: str) -> tuple[dict[str, IdxName], list[str]]:
    """Return the files of one data set by name, and notes on files passed over."""
    if not os.path.lexists(source):
        raise DatasetError(no_such_file(source))
    try:
        entries = sorted(os.listdir(_folder(source)))
    except OSError as error:
        raise DatasetError(f"{display_name(source)}: cannot be read ({error.strerror}); check the path") from error
    files = {name: file for name in entries if (file := idx_name(name))}
    if not os.path.isdir(source):
        prefix = files[os.path.basename(source)].prefix
        files = {name: file for name, file in files.items() if file.prefix == prefix}
    prefixes = sorted({file.prefix for file in files.values()})
    if len(prefixes) > 1:
        example = next(name for name, file in files.items() if file.prefix == prefixes[-1] and file.content.is_images)
        path = display_name(os.path.join(source, example))
        raise DatasetError(
            f"{display_name(source)}: has {len(prefixes)} data sets ({display_name(', '.join(prefixes))}); "
            f"pass a file of one of them, such as {path}"
        )
    whole = {file.content for file in files.values() if not file.is_compressed}
    doubles = [name for name, file in files.items() if file.is_compressed and file.content in whole]
    kept = {name: file for name, file in files.items() if name not in doubles}
    note = Omission(f"not read: {counted(doubles, 'files')}, as uncompressed files are present")
    return kept, [note] if doubles else []


def _array(path: Path, is_compressed: bool, title: str) -> StoredArray:
    """Memory-map an uncompressed file; a compressed one is read from start to end, a few megabytes at a time."""
    with _named(path, title), _opened(path, is_compressed) as file:
        dtype, shape = _header(file)
        version, size = file_version(path), math.prod(shape) * dtype.itemsize
        if is_compressed or not size:
            return StoredArray(shape, dtype, version, lambda: _chunks(path, is_compressed, title))
        _refuse_other_size(os.fstat(file.fileno()).st_size - file.tell(), size)
        return StoredArray.of(np.memmap(path, dtype, "r", file.tell(), shape), version)


def _chunks(path: Path, is_compressed: bool, title: str) -> Iterator[Array]:
    """Yield the rows; refuse a file that is longer than its header says."""
    with _named(path, title), _opened(path, is_compressed) as file:
        dtype, shape = _header(file)
        size = math.prod(shape) * dtype.itemsize
        yield from chunks_of(file, shape, dtype)
        _refuse_other_size(size + len(file.read(1)), size)


@contextmanager
def _named(path: Path, title: str) -> Iterator[None]:
    """Name the file if it cannot be read."""
    try:
        yield
    except FileNotFoundError as error:
        raise DatasetError(no_such_file(str(path))) from error
    except _FAULTS as error:
        reason = excerpt(str(error))
        raise DatasetError(f"{title}: not a complete idx file ({reason}); re-download it") from error


def _opened(path: Path, is_compressed: bool) -> io.BufferedReader | gzip.GzipFile:
    return gzip.GzipFile(regular_file(path)) if is_compressed else regular_file(path).open("rb")


def _header(file: io.BufferedReader | gzip.GzipFile) -> tuple[np.dtype[Any], tuple[int, ...]]:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in TYPES or not start[3]:
        raise ValueError(f"starts with {start.hex(' ') or 'nothing'}")
    lengths = file.read(4 * start[3])
    if len(lengths) < 4 * start[3]:
        raise ValueError("ends within the header")
    return np.dtype(TYPES[start[2]]), struct.unpack(f">{start[3]}I", lengths)


def _refuse_other_size(size: int, expected: int) -> None:
    if size != expected:
        raise ValueError(f"{'more' if size > expected else 'fewer'} bytes than the {expected:,} of its header")
