"""Pixels of images in memory or in memory-mapped files, and rows gathered from them.

Shape legend: n images of a block, N rows, H height, W width, C channels.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fer_augment.data.duplicates import image_digests
from fer_augment.errors import DatasetError

DIGEST = np.dtype("V16")
"""Type of the digest of an image."""
_DIGEST_CHUNK = 1 << 23
"""Bytes of pixels that a thread computes digests of at once."""
_DIGEST_THREADS = min(8, os.cpu_count() or 1)
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class PixelBlock:
    """A contiguous block of images, in memory or in a memory-mapped file.

    A memory-mapped block is pickled as its place in the file, so that worker processes open the file instead of
    receiving the pixels.

    Attributes:
        pixels: `(n, H, W, C) uint8`, read-only; a channel axis is added to `(n, H, W)`. Pixels are not copied and must
            not be modified afterwards; use `of` to copy them.
        path: the file of the pixels, or None if they are in memory.
        offset: position of the first pixel in the file, in bytes.

    Raises:
        DatasetError: if the images are not uint8, not 3- or 4-dimensional, or have no pixels.
    """

    pixels: NDArray[np.uint8]
    path: Path | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        """Validate the pixels and make them read-only."""
        pixels = self.pixels
        if pixels.dtype != np.uint8:
            raise DatasetError(f"images must be uint8 in 0..255, got {pixels.dtype}; convert them first")
        if pixels.ndim not in (3, 4):
            raise DatasetError(f"images must be (N, H, W) or (N, H, W, C), got shape {pixels.shape}")
        if 0 in pixels.shape[1:]:
            raise DatasetError(f"images of shape {pixels.shape} have no pixels; give them a height, width and channels")
        object.__setattr__(self, "pixels", read_only(pixels[..., None] if pixels.ndim == 3 else pixels))

    @classmethod
    def of(cls, images: ArrayLike) -> PixelBlock:
        """Copy `(n, H, W)` or `(n, H, W, C)` uint8 images into a block.

        Raises:
            DatasetError: if the images are not uint8, not 3- or 4-dimensional, or have no pixels.
        """
        return cls(np.array(images, order="C"))

    @classmethod
    def open(cls, path: Path) -> PixelBlock:
        """Memory-map a `.npy` file with `(n, H, W)` or `(n, H, W, C)` uint8 images.

        Raises:
            DatasetError: if the file does not contain such an array.
        """
        try:
            array = np.lib.format.open_memmap(path, mode="r")
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path}: not a readable .npy file ({error})") from error
        try:
            return cls.mapped(array)
        except DatasetError as error:
            raise DatasetError(f"{path}: {error}") from error

    @classmethod
    def mapped(cls, array: np.memmap[Any, Any]) -> PixelBlock:
        """Use `(n, H, W)` or `(n, H, W, C)` uint8 images that are memory-mapped in C order.

        Raises:
            DatasetError: if they have another type or shape.
        """
        assert array.filename is not None and array.flags.c_contiguous
        return cls(array, Path(array.filename).resolve(), array.offset)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle a memory-mapped block as its place in the file."""
        if self.path is None:
            return PixelBlock.of, (self.pixels,)
        return _opened_at, (self.path, self.offset, self.pixels.shape)

    @cached_property
    def row_digests(self) -> NDArray[np.void]:
        """`(n,)`, one digest per image, see `image_digests`; read from a file beside the pixels if there is one."""
        if self.path and digests_file(self.path).is_file():
            digests: NDArray[np.void] = np.load(digests_file(self.path), allow_pickle=False)
            return digests
        at_once = max(1, _DIGEST_CHUNK // max(1, math.prod(self.pixels.shape[1:])))
        parts = [self.pixels[start : start + at_once] for start in range(0, len(self.pixels), at_once)]
        with ThreadPoolExecutor(min(_DIGEST_THREADS, max(1, len(parts)))) as pool:
            return np.concatenate([np.empty(0, DIGEST), *pool.map(image_digests, parts)])


def _opened_at(path: Path, offset: int, shape: tuple[int, ...]) -> PixelBlock:
    """Memory-map images at a place in a file.

    Raises:
        DatasetError: if the file is missing or too short.
    """
    try:
        return PixelBlock.mapped(np.memmap(path, np.uint8, "r", offset, shape))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be opened ({error})") from error


def digests_file(pixels: Path) -> Path:
    """Return the file that may hold the digests of the images in a `.npy` file."""
    return pixels.with_name(f"{pixels.name}.digests.npy")


@dataclass(frozen=True, eq=False)
class Images:
    """The pixels of a data set, gathered on demand: `images[rows]` is a new `(n, H, W, C) uint8` array."""

    blocks: tuple[PixelBlock, ...]
    index: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """`(N, H, W, C)`."""
        height, width, channels = self.blocks[0].pixels.shape[1:]
        return len(self.index), height, width, channels

    def __len__(self) -> int:
        """Number of rows, N."""
        return len(self.index)

    def __getitem__(self, rows: slice | ArrayLike) -> NDArray[np.uint8]:
        """Gather rows (a slice, positions or a boolean mask) into a new, writable array."""
        positions = self.index[as_index(rows)]
        if len(self.blocks) == 1:
            return np.take(np.asarray(self.blocks[0].pixels), positions, axis=0)
        gathered = np.empty((len(positions), *self.shape[1:]), dtype=np.uint8)
        start = 0
        for block in self.blocks:
            inside = np.flatnonzero((positions >= start) & (positions < start + len(block.pixels)))
            gathered[inside] = np.take(block.pixels, positions[inside] - start, axis=0)
            start += len(block.pixels)
        return gathered


def read_only(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """Return a view that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


def as_index(rows: slice | ArrayLike) -> slice | NDArray[np.generic]:
    """Convert rows to an array index; an empty list would otherwise be a float array, which cannot index."""
    if isinstance(rows, slice):
        return rows
    array = np.atleast_1d(rows)
    return array if array.size else array.astype(np.int64)
