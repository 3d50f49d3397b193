"""Arrays of images as they are stored in files: memory-mapped, or read from start to end, a few megabytes at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fer_augment.readers._conventions import version_of

BYTES_AT_ONCE = 1 << 24

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, eq=False)
class StoredArray:
    """An array in a file.

    Attributes:
        shape: its shape.
        dtype: its type.
        version: changes with the content; other arrays have other versions.
        chunks: returns the rows in order, a few megabytes at a time; raises DatasetError. Each call reads the file.
        mapped: the array itself, if it is memory-mapped.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    version: str
    chunks: Callable[[], Iterator[Array]]
    mapped: np.memmap[Any, Any] | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return self.shape[0] if self.shape else 0

    def read(self) -> Array:
        """Return the whole array."""
        if self.mapped is not None:
            return self.mapped
        return np.concatenate([np.empty((0, *self.shape[1:]), self.dtype), *self.chunks()])

    @classmethod
    def of(cls, array: Array, version: str) -> StoredArray:
        """Return an array that is memory-mapped or in memory."""

        def chunks() -> Iterator[Array]:
            at_once = _rows_at_once(array.shape, array.dtype)
            for start in range(0, len(array), at_once):
                yield array[start : start + at_once]

        return cls(array.shape, array.dtype, version, chunks, array if isinstance(array, np.memmap) else None)


class Stream(Protocol):
    """A file that is read from start to end."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, fewer than `size` only at the end."""
        ...


def chunks_of(stream: Stream, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[Array]:
    """Yield the rows of an array in C order, a few megabytes at a time.

    Raises:
        EOFError: if the stream ends early.
    """
    at_once = _rows_at_once(shape, dtype)
    for start in range(0, shape[0], at_once):
        rows = (min(at_once, shape[0] - start), *shape[1:])
        size = math.prod(rows) * dtype.itemsize
        content = stream.read(size)
        if len(content) < size:
            raise EOFError(f"fewer bytes than the {math.prod(shape) * dtype.itemsize:,} of its header")
        yield np.frombuffer(content, dtype).reshape(rows)


def file_version(path: str | os.PathLike[str]) -> str:
    """Return a text that changes with the content of a file: its path, size and time of modification."""
    status = os.stat(path)
    return f"{os.path.realpath(path)}\0{version_of(status)}"


def _rows_at_once(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return max(1, BYTES_AT_ONCE // max(1, math.prod(shape[1:]) * dtype.itemsize))
