"""Pixels that are decoded or computed once: small sets in memory, others in memory-mapped files of the cache.

A folder `pixels/KEY` of the cache holds `pixels.npy`, `pixels.npy.digests.npy` (the digest of every image, so that
opening a set does not read its pixels) and `notes.json`. The key depends on the names and versions of all files, on
size and color, and on the versions of the decoders. Files are decoded into `KEY.partial`, which outlives an
interruption. Pixels that are computed, such as those of compressed arrays or of synthetic faces, are kept in the same
way. Sets that are small, but cost time to decode or compute, are read into memory: they can be deleted and sent to
other machines while in use.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import math
import os
import shutil
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from fer_augment.cache import LIMIT_VARIABLE, PIXELS, cache_folder, hold, keep_limit
from fer_augment.data.decoded_files import FILES_AT_ONCE, ColorFoundError, Destination, decode_files, shape_of_first
from fer_augment.data.decoding import notes_on
from fer_augment.data.image_files import ImageFile
from fer_augment.data.pixel_blocks import DIGEST, PixelBlock, digests_file
from fer_augment.data.pixels import PixelSettings
from fer_augment.errors import DatasetError

CACHED_FROM = 1 << 26
"""Bytes of pixels from which on a set is cached on disk."""
FILES_CACHED_FROM = 10_000
"""Number of decoded files from which on it is, however small the images: a file costs as much as its pixels."""
DECODER_VERSION = 1
"""Changes with the pixels that our decoder gives, so that pixels of an earlier one are not used."""
_DECODERS = ("pillow", "opencv-python-headless", "opencv-python", "pillow-heif")
"""Distributions that decode."""
COMPUTATION_VERSION = 1
"""Changes with the pixels that functions passed to `computed_block` give for the same version of their source."""
_ATTEMPTS = 10
"""How often pixels are opened or made that another process deletes at once."""
_PIXELS, _CONVERSIONS, _DONE, _NOTES = "pixels.npy", "conversions.npy", "done.npy", "notes.json"


Compute: TypeAlias = "Callable[[NDArray[np.uint8]], Sequence[str]]"
"""Writes pixels to an `(N, H, W, C)` array, and returns what was converted, one sentence each."""


@dataclass(frozen=True, eq=False)
class StoredPixels:
    """Pixels in memory or in the cache.

    Attributes:
        block: the pixels, in the order of the source; memory-mapped if they are many.
        notes: what was converted, one sentence each.
    """

    block: PixelBlock
    notes: tuple[str, ...] = ()


def decoded_block(
    source: str,
    files: Sequence[ImageFile],
    settings: PixelSettings,
    progress: Callable[[int, int], None],
    *,
    cached_from: int | None = None,
) -> StoredPixels:
    """Decode image files, or open the pixels that were decoded before.

    Args:
        source: the data source, for messages.
        files: N image files.
        settings: size and color.
        progress: called with the number of images decoded and their total.
        cached_from: bytes of pixels from which on they are cached, if not CACHED_FROM.

    Raises:
        DatasetError: if images cannot be read, sizes differ and no size is given, or the cache cannot be written.
    """
    folder = cache_folder() / PIXELS / _key(files, settings)
    on_disk_from = CACHED_FROM if cached_from is None else cached_from

    def opened_or_decoded() -> StoredPixels:
        if folder.is_dir():
            return _opened(folder)
        return _decoded(source, files, settings, progress, folder, on_disk_from)

    with _named(folder):
        return _again_if_deleted(opened_or_decoded)


def computed_block(
    identity: str, shape: tuple[int, ...], compute: Compute, *, cached_from: int | None = None
) -> StoredPixels:
    """Compute pixels, or open those that were computed before.

    Args:
        identity: identifies the pixels: the file that they are from and its version, or a fingerprint, and settings.
        shape: N, H, W and C.
        compute: writes all pixels; called if they are not in the cache.
        cached_from: bytes of pixels from which on they are cached, if not CACHED_FROM.

    Raises:
        DatasetError: if the cache cannot be written; whatever `compute` raises.
    """
    if math.prod(shape) < (CACHED_FROM if cached_from is None else cached_from):
        pixels = np.empty(shape, np.uint8)
        return StoredPixels(PixelBlock(pixels), tuple(compute(pixels)))
    key = hashlib.sha256(repr((COMPUTATION_VERSION, identity, shape)).encode("utf-8", "surrogateescape"))
    folder = cache_folder() / PIXELS / key.hexdigest()[:32]

    def opened_or_computed() -> StoredPixels:
        if folder.is_dir():
            return _opened(folder)
        with _locked(folder):
            if not folder.is_dir():
                _compute(folder, shape, compute)
            return _opened(folder)

    with _named(folder):
        return _again_if_deleted(opened_or_computed)


def _again_if_deleted(give: Callable[[], StoredPixels]) -> StoredPixels:
    """Call a function again if another process, whose cache is full, has deleted the pixels that it was opening."""
    for _ in range(_ATTEMPTS - 1):
        with suppress(FileNotFoundError):
            return give()
    return give()


def _compute(folder: Path, shape: tuple[int, ...], compute: Compute) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    into = _on_disk(partial, shape)
    try:
        _complete(partial, into, compute(into.pixels))
        del into  # files that are mapped cannot be moved on Windows
        _move(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _keep_limit(folder)


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Name the folder if the cache cannot be used."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{folder}: cannot be used ({error.strerror or error}); check its permissions, delete it, or name another "
            "cache with FER_AUGMENT_CACHE"
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait for another process that writes the same pixels."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f"{folder.name}.lock")
    with FileLock(lock):
        yield
    with suppress(OSError):  # Windows keeps a file that another process has open
        lock.unlink()


def _decoded(
    source: str,
    files: Sequence[ImageFile],
    settings: PixelSettings,
    progress: Callable[[int, int], None],
    folder: Path,
    cached_from: int,
) -> StoredPixels:
    first = shape_of_first(source, files)
    shape = (len(files), *(settings.size or first[:2]), settings.channel_count or first[2])
    decode = functools.partial(decode_files, source, files, settings, progress, first)
    with suppress(ColorFoundError):
        return _stored(folder, shape, decode, cached_from)
    # not in an `except` block, whose traceback would keep the arrays open: Windows deletes no file that is mapped
    return _stored(folder, (*shape[:3], 3), decode, cached_from)


def _stored(
    folder: Path, shape: tuple[int, ...], decode: Callable[[Destination], None], cached_from: int
) -> StoredPixels:
    """Decode into memory if files and pixels are few, else into the cache, unless another process has meanwhile."""
    if math.prod(shape) < cached_from and shape[0] < FILES_CACHED_FROM:
        return _in_memory(shape, decode)
    with ExitStack() as stack:
        try:
            stack.enter_context(_locked(folder))
        except OSError:
            if math.prod(shape) >= CACHED_FROM:
                raise
            return _in_memory(shape, decode)  # so few need no cache
        if not folder.is_dir():
            _decode_on_disk(folder, shape, decode)
        return _opened(folder)


def _in_memory(shape: tuple[int, ...], decode: Callable[[Destination], None]) -> StoredPixels:
    into = Destination.in_memory(shape)
    decode(into)
    return StoredPixels(PixelBlock(into.pixels), notes_on(into.conversions))


def _decode_on_disk(folder: Path, shape: tuple[int, ...], decode: Callable[[Destination], None]) -> None:
    """Decode files into the cache, where an interruption keeps what is done."""
    partial = folder.with_name(f"{folder.name}.partial")
    into = _on_disk(partial, shape)
    decode(into)
    _complete(partial, into, notes_on(into.conversions))
    del into  # files that are mapped cannot be moved on Windows
    _move(partial, folder)
    _keep_limit(folder)


def _on_disk(partial: Path, shape: tuple[int, ...]) -> Destination:
    """Open what an interrupted process has decoded, or create empty files.

    Args:
        partial: the folder.
        shape: N, H, W and C. What is opened may have three channels instead of one: that process may have found a color
            image after gray ones.

    Raises:
        DatasetError: if the disk is too small.
    """
    wanted = _wanted(shape)
    if begun := _begun(partial, wanted) or _begun(partial, _wanted((*shape[:3], 3))):
        return begun
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    needed, free = math.prod(shape), shutil.disk_usage(partial).free
    if needed > free:  # writing to a memory map on a full disk would kill the process
        raise DatasetError(
            f"{partial.parent}: decoded pixels need {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free; name a "
            "cache on a larger disk with FER_AUGMENT_CACHE, or set a smaller data.size"
        )
    made = [
        np.lib.format.open_memmap(partial / name, mode="w+", dtype=dtype, shape=array_shape)
        for name, (dtype, array_shape) in wanted.items()
    ]
    return Destination(*made)


def _wanted(shape: tuple[int, ...]) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return types and shapes of the files for images of a shape, by name."""
    return {
        _PIXELS: (np.dtype(np.uint8), shape),
        _CONVERSIONS: (np.dtype(np.uint16), shape[:1]),
        _DONE: (np.dtype(np.bool_), (-(-shape[0] // FILES_AT_ONCE),)),
    }


def _begun(partial: Path, wanted: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> Destination | None:
    """Open what an interrupted process has decoded; None if there is nothing, or nothing of these types and shapes."""
    try:
        arrays = [np.lib.format.open_memmap(partial / name, mode="r+") for name in wanted]
    except (OSError, ValueError):
        return None
    fits = [(array.dtype, array.shape) for array in arrays] == list(wanted.values())
    return Destination(*arrays) if fits else None


def _complete(partial: Path, into: Destination, notes: Sequence[str]) -> None:
    """Write all pixels to the disk, and their digests and notes beside them."""
    assert isinstance(into.pixels, np.memmap)
    digests_file(partial / _PIXELS).unlink(missing_ok=True)  # of an interrupted process, which may not be complete
    with ThreadPoolExecutor(1) as pool:  # writing to the disk and computing digests take about the same time
        written = pool.submit(into.pixels.flush)
        digests = PixelBlock.open(partial / _PIXELS).row_digests
        with _durable(digests_file(partial / _PIXELS)) as file:
            np.save(file, digests)
        written.result()
    with _durable(partial / _NOTES) as file:
        file.write(json.dumps([*notes]).encode())


@contextmanager
def _durable(path: Path) -> Iterator[BinaryIO]:
    """Open a new file whose content is on the disk at the end, before it is moved into place."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _move(partial: Path, folder: Path) -> None:
    """Move a set that is complete into place."""
    for name in (_CONVERSIONS, _DONE):
        (partial / name).unlink()
    partial.rename(folder)


def _opened(folder: Path) -> StoredPixels:
    """Open pixels of the cache, small sets in memory.

    Raises:
        DatasetError: if a file is damaged.
    """
    os.utime(folder)  # the time of the last use, for pruning
    release = hold(folder)
    try:
        block, notes = _read(folder)
    except BaseException:
        release()
        raise
    if block.path:  # other processes open the file as long as this one has the block
        weakref.finalize(block, release)
    else:
        release()
    return StoredPixels(block, notes)


def _read(folder: Path) -> tuple[PixelBlock, tuple[str, ...]]:
    """Read pixels and notes of a folder of the cache; small sets into memory."""
    try:
        notes = json.loads((folder / _NOTES).read_text(encoding="utf-8"))
        block = PixelBlock.open(folder / _PIXELS)
        digests = block.row_digests
    except (ValueError, EOFError, DatasetError) as error:
        if not folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder)) from error
        raise _damaged(folder) from error
    if not isinstance(notes, list) or (digests.dtype, digests.shape) != (DIGEST, block.pixels.shape[:1]):
        raise _damaged(folder)
    if block.pixels.nbytes < CACHED_FROM:
        block = PixelBlock.of(block.pixels)
        if not np.array_equal(block.row_digests, digests):
            raise _damaged(folder)
    return block, tuple(map(str, notes))


def _damaged(folder: Path) -> DatasetError:
    return DatasetError(f"{folder}: pixels in the cache are damaged; delete this folder, then they are made anew")


def _keep_limit(folder: Path) -> None:
    try:
        keep_limit(folder)
    except ValueError as error:
        raise DatasetError(f"{LIMIT_VARIABLE}: must be a number of GB, such as 50") from error


def _key(files: Sequence[ImageFile], settings: PixelSettings) -> str:
    decoders = [_version(name) for name in _DECODERS]
    digest = hashlib.sha256(repr((DECODER_VERSION, decoders, settings)).encode())
    digest.update("".join(f"{file.name}\0{file.version}\0" for file in files).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
