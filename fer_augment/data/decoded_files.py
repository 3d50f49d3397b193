"""Decoding of many image files into arrays, with all cores."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.decoding import Decoder, UndecodableImageError, image_size
from fer_augment.data.image_files import ImageFile
from fer_augment.data.pixels import PixelSettings
from fer_augment.errors import DatasetError

FILES_AT_ONCE = 64
"""Number of files in a chunk, the unit of work of a thread."""
_THREADS = min(8, os.cpu_count() or 1)
_WORTH_THREADS = 12_000
"""Minimum number of values per image for multithreading; two threads made 48x48 gray images 1.5 times slower."""
_WRITTEN_AT_ONCE = 1 << 28
"""Bytes of pixels that are written to the disk at once while decoding; a killed process loses at most so many."""
_NAMED = 3
"""Number of files that a message names."""
_MEASURED = 2_000
"""Number of files whose sizes are counted for a message."""
_USUAL_SIZES = (16, 32, 48, 64, 96, 128)
"""Sizes to recommend."""


@dataclass(frozen=True, eq=False)
class Destination:
    """Arrays that files are decoded into, in memory or in memory-mapped files.

    Attributes:
        pixels: `(N, H, W, C) uint8`.
        conversions: `(N,) uint16`, see `decoding.Conversion`.
        is_done: `(ceil(N / FILES_AT_ONCE),) bool`, chunks of files that are decoded already.
    """

    pixels: NDArray[np.uint8]
    conversions: NDArray[np.uint16]
    is_done: NDArray[np.bool_]

    def mark_done(self, chunks: Sequence[int]) -> None:
        """Mark chunks of files as decoded, after their pixels are on the disk: power may fail at any time."""
        for array in (self.pixels, self.conversions):
            if isinstance(array, np.memmap):
                array.flush()
        self.is_done[[*chunks]] = True

    @classmethod
    def in_memory(cls, shape: tuple[int, ...]) -> Destination:
        """Return empty arrays for `(N, H, W, C)`."""
        chunks = -(-shape[0] // FILES_AT_ONCE)
        return cls(np.empty(shape, np.uint8), np.zeros(shape[0], np.uint16), np.zeros(chunks, np.bool_))


class ColorFoundError(Exception):
    """A color image follows gray ones."""


class _SizesDifferError(Exception):
    """An image differs in size from the first, and no size is given.

    Attributes:
        file: the image.
        sizes: `(H, W)` of the first image and of this one, by name.
    """

    def __init__(self, file: ImageFile, sizes: dict[str, tuple[int, int]]) -> None:
        super().__init__(file.name)
        self.file, self.sizes = file, sizes


def shape_of_first(source: str, files: Sequence[ImageFile]) -> tuple[int, int, int]:
    """Return the shape `(H, W, C)` of the first image that can be decoded: one channel if it is gray, else three.

    Raises:
        DatasetError: if none can be decoded.
    """
    unreadable = []
    with Decoder() as decode:
        for file in files:
            try:
                height, width, channels = decode(file.read(), file.name).pixels.shape
                return height, width, channels
            except UndecodableImageError as error:
                unreadable.append(error)
    raise DatasetError(_unreadable_message(source, unreadable))


def decode_files(
    source: str,
    files: Sequence[ImageFile],
    settings: PixelSettings,
    progress: Callable[[int, int], None],
    first_shape: tuple[int, int, int],
    into: Destination,
) -> None:
    """Decode image files into arrays; chunks that are done already are not decoded again.

    Args:
        source: the data source, for messages.
        files: N image files.
        settings: size and color.
        progress: called with the number of images decoded and their total.
        first_shape: from `shape_of_first`; several threads decode large images.
        into: the arrays. With three channels, all images are decoded as color.

    Raises:
        ColorFoundError: if there is a color image and the arrays, with `channels: auto`, have one channel.
        DatasetError: if images cannot be read, or sizes differ and no size is given; the message has the number of
            files, and names the first three.
    """
    if into.pixels.shape[3] == 3:
        settings = replace(settings, channels="color")
    starts = [number * FILES_AT_ONCE for number in np.flatnonzero(~into.is_done).tolist()]
    done = len(files) - sum(min(FILES_AT_ONCE, len(files) - start) for start in starts)
    unreadable: list[UndecodableImageError] = []
    unmarked: list[int] = []
    chunks_at_once = max(1, _WRITTEN_AT_ONCE // (FILES_AT_ONCE * math.prod(into.pixels.shape[1:])))
    pool = ThreadPoolExecutor(_THREADS if math.prod(first_shape) >= _WORTH_THREADS else 1)
    with Decoder(settings) as decode:
        try:
            chunks = pool.map(lambda start: _fill(decode, files, into.pixels, into.conversions, start), starts)
            for start, errors in zip(starts, chunks, strict=True):
                unreadable += errors
                unmarked += [] if errors else [start // FILES_AT_ONCE]
                if len(unmarked) >= chunks_at_once:
                    into.mark_done(unmarked)
                    unmarked.clear()
                done += min(FILES_AT_ONCE, len(files) - start)
                progress(done, len(files))
        except _SizesDifferError as error:
            raise DatasetError(_sizes_message(source, files, error)) from None
        finally:
            pool.shutdown(cancel_futures=True)
            into.mark_done(unmarked)
    if unreadable:
        raise DatasetError(_unreadable_message(source, unreadable))


def _fill(
    decode: Decoder,
    files: Sequence[ImageFile],
    pixels: NDArray[np.uint8],
    conversions: NDArray[np.uint16],
    start: int,
) -> list[UndecodableImageError]:
    """Decode a chunk of files; return the errors of those that cannot be decoded."""
    unreadable = []
    for row, file in enumerate(files[start : start + FILES_AT_ONCE], start=start):
        try:
            image = decode(file.read(), file.name)
        except UndecodableImageError as error:
            unreadable.append(error)
            continue
        if image.pixels.shape[:2] != pixels.shape[1:3]:
            height, width = pixels.shape[1:3]
            sizes = {files[0].name: (height, width), file.name: image.pixels.shape[:2]}
            raise _SizesDifferError(file, sizes)
        if image.pixels.shape != pixels.shape[1:]:
            raise ColorFoundError
        pixels[row], conversions[row] = image.pixels, int(image.conversions)
    return unreadable


def _unreadable_message(source: str, errors: Sequence[UndecodableImageError]) -> str:
    named = "; ".join(str(error) for error in errors[:_NAMED])
    if len(errors) == 1:
        return f"{source}: {named}"
    more = f"; and {len(errors) - _NAMED:,} more" if len(errors) > _NAMED else ""
    return f"{source}: {len(errors):,} files cannot be decoded: {named}{more}"


def _sizes_message(source: str, files: Sequence[ImageFile], error: _SizesDifferError) -> str:
    """Return the distribution of sizes, from the headers of the files, and what to type.

    Args:
        source: the data source.
        files: N image files.
        error: one that differs in size from the first.
    """
    step = -(-len(files) // _MEASURED)
    with Decoder():
        size_of = {file.name: image_size(file.read()) for file in (*islice(files, 0, None, step), error.file)}
    size_of |= error.sizes
    sizes = Counter(size for size in size_of.values() if size)
    smallest, largest = (choose(sizes, key=lambda size: size[0] * size[1]) for choose in (min, max))
    (usual, count), total = sizes.most_common(1)[0], sizes.total()
    rare = next(f"{name} is {_in_words(size)}" for name, size in size_of.items() if size and size != usual)
    sides = np.repeat([min(size) for size in sizes], list(sizes.values()))
    recommended = max((size for size in _USUAL_SIZES if size <= np.median(sides)), default=_USUAL_SIZES[0])
    of_all = "" if step == 1 else f" images measured, {len(files):,} in all"
    return (
        f"{source}: images have {len(sizes):,} sizes (width x height), {_in_words(smallest)} to {_in_words(largest)}, "
        f"most often {_in_words(usual)} ({count:,} of {total:,}{of_all}); {rare}; to resize all, add --set "
        f"data.size={recommended}, or `size: {recommended}` to a source description (fit: crop, pad or stretch)"
    )


def _in_words(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
