"""Reader for npz files, such as those of MedMNIST and Keras; uncompressed arrays are memory-mapped."""

from __future__ import annotations

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import numpy as np

from fer_augment import DatasetError, DatasetReader, Omission, Splits, hookimpl
from fer_augment.phases import ReportProgress
from fer_augment.readers._array_names import array_name, pairs
from fer_augment.readers._arrays import (
    HEADER_FAULTS,
    LabeledArray,
    as_text,
    ignoring_old_headers,
    splits_of_arrays,
)
from fer_augment.readers._conventions import display_name, excerpt, no_such_file, refuse_rewritten
from fer_augment.readers._stored_arrays import Array, StoredArray, chunks_of, file_version

CLASS_NAMES = ("class_names", "classes", "label_names")
"""Names of an array of text with the class names in the order of the labels."""

_FAULTS = (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, RuntimeError, struct.error, *HEADER_FAULTS)
_LOCAL_HEADER = 30
"""Bytes of the fixed part of a zip member's header; its last two 16-bit numbers are the length of the rest."""


@hookimpl
def register_dataset_readers() -> list[DatasetReader]:
    """Register the reader of npz files."""
    summary = (
        "FILE.npz with train_images, train_labels, … (MedMNIST), x_train, y_train, … (Keras), or images and labels"
    )
    return [DatasetReader("npz_file", summary, recognizes, read)]


def recognizes(source: str) -> bool:
    """Return whether the source has the suffix `.npz`."""
    return source.lower().endswith(".npz") and not os.path.isdir(source)


def read(source: str, progress: ReportProgress) -> Splits:
    """Read the arrays; splits, layouts and labels are those of `splits_of_arrays`. Never unpickles.

    Raises:
        DatasetError: if the file cannot be read, or arrays are missing or invalid; the message names the array.
    """
    title = display_name(source)
    try:
        with ignoring_old_headers(), zipfile.ZipFile(source) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            return _read(source, archive, members, progress)
    except FileNotFoundError as error:
        raise DatasetError(no_such_file(source)) from error
    except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
        reason = excerpt(str(error))
        raise DatasetError(f"{title}: not a complete npz file ({reason}); re-download it") from error


def _read(
    source: str, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], progress: ReportProgress
) -> Splits:
    refuse_rewritten(display_name(source), members, ("images", "labels"))
    contents = {name: content for name in members if (content := array_name(name))}
    if not contents:
        shown = display_name(", ".join(members)) or "none"
        needed = "x_train, y_train, x_test and y_test; train_images, train_labels, …; or images and labels"
        raise DatasetError(f"{display_name(source)}: no known arrays (it has {shown}); name them {needed}")
    names = pairs(source, contents)

    def stored(name: str) -> StoredArray:
        return _stored(source, archive, members[name])

    def array(name: str) -> Array:
        return stored(name).read()

    class_names, others = _class_names(source, array, [name for name in members if name not in contents])
    notes = [Omission(f"not read: {display_name(', '.join(others))}")] if others else []
    parts = {
        split: LabeledArray(stored(images), array(labels), _title(source, images), _title(source, labels))
        for split, (images, labels) in names.items()
    }
    return splits_of_arrays(source, parts, names, class_names, progress, notes)


def _class_names(
    source: str, array: Callable[[str], Array], names: Sequence[str]
) -> tuple[list[str] | None, list[str]]:
    """Return the class names if an array has them, and the names of all other arrays."""
    for name in names:
        if name.casefold() in CLASS_NAMES:
            values = array(name)
            if values.ndim == 1 and values.dtype.kind in "US":
                text = as_text(values, _title(source, name))
                if len(set(text.tolist())) < len(text) or not all(map(str.isprintable, text.tolist())):
                    raise DatasetError(f"{_title(source, name)}: class names must be unique and printable")
                return text.tolist(), [other for other in names if other != name]
    return None, list(names)


def _stored(source: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> StoredArray:
    """Return an array: memory-mapped if the archive stores it uncompressed, else read from start to end.

    A compressed array in Fortran order has no rows to read one by one, and is read into memory.
    """
    title = _title(source, member.filename.removesuffix(".npy"))
    version = f"{file_version(source)}\0{member.filename} {member.CRC}"
    with _named(title), archive.open(member) as stream:
        header = _header(stream)
        if header.dtype.hasobject:
            raise DatasetError(
                f"{title}: is an array of Python objects, which would be unpickled; save a numeric array (np.stack)"
            )
        is_stored = member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1
        if is_stored and 0 not in header.shape:
            return StoredArray.of(_mapped(source, member, header), version)
        if header.is_fortran:
            return StoredArray.of(_in_fortran_order(stream, header, title), version)
    return StoredArray(header.shape, header.dtype, version, lambda: _chunks(archive, member, title))


def _chunks(archive: zipfile.ZipFile, member: zipfile.ZipInfo, title: str) -> Iterator[Array]:
    with _named(title), archive.open(member) as stream:
        header = _header(stream)
        yield from chunks_of(stream, header.shape, header.dtype)
        stream.read()  # the archive verifies the checksum at the end


@contextmanager
def _named(title: str) -> Iterator[None]:
    """Name the array if it cannot be read."""
    try:
        yield
    except _FAULTS as error:
        raise DatasetError(f"{title}: damaged ({excerpt(str(error))}); re-download the file") from error


class _Header(NamedTuple):
    """Header of an array in the npy format, and the number of its bytes."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]
    size: int


def _header(stream: IO[bytes]) -> _Header:
    """Read the header of an array.

    Raises:
        ValueError: if it is invalid.
    """
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version[0]}.{version[1]} of the npy format is not supported")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return _Header(*read_header(stream), stream.tell())


def _mapped(source: str, member: zipfile.ZipInfo, header: _Header) -> Array:
    """Memory-map an uncompressed array.

    Raises:
        ValueError: if the archive is truncated.
    """
    with open(source, "rb") as file:
        file.seek(member.header_offset)
        local_header = file.read(_LOCAL_HEADER)
        start = member.header_offset + _LOCAL_HEADER + sum(struct.unpack("<HH", local_header[-4:]))
        end = os.fstat(file.fileno()).st_size
    size = math.prod(header.shape) * header.dtype.itemsize
    offset = start + header.size
    if header.size + size != member.file_size or offset + size > end:
        raise ValueError(f"{member.file_size} bytes for shape {header.shape}")
    return np.memmap(source, header.dtype, "r", offset, header.shape, "F" if header.is_fortran else "C")


def _in_fortran_order(stream: IO[bytes], header: _Header, title: str) -> Array:
    try:
        array: Array = np.concatenate([*chunks_of(stream, header.shape[::-1], header.dtype)]).T
    except MemoryError as error:
        reason = "does not fit into memory; save it in C order (np.ascontiguousarray)"
        raise DatasetError(f"{title}: {reason}") from error
    stream.read()  # the archive verifies the checksum at the end
    return array


def _title(source: str, name: str) -> str:
    return f"{display_name(source)}: {display_name(name)}"
