"""Pixels of image files, decoded once: small sets in memory, large ones in memory-mapped files of the cache.

A folder `pixels/KEY` of the cache holds `pixels.npy`, `pixels.npy.digests.npy` (the digest of every image, so that
opening a set does not read its pixels) and `notes.json`. The key depends on the names and versions of all files, on
size and color, and on the decoder. Files are decoded into `KEY.partial`, which outlives an interruption.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from fer_augment.cache import LIMIT_VARIABLE, PIXELS, cache_folder, delete, entries, pixel_limit, prune
from fer_augment.data.dataset import PixelBlock, digests_file
from fer_augment.data.decoded_files import FILES_AT_ONCE, Destination, decode_files
from fer_augment.data.decoding import notes_on
from fer_augment.data.image_files import ImageFile
from fer_augment.data.pixels import PixelSettings
from fer_augment.errors import DatasetError

CACHED_FROM = 1 << 26
"""Bytes of pixels from which on a set is cached on disk."""
DECODER_VERSION = 1
"""Changes with the pixels that the decoder gives, so that pixels of an earlier one are not used."""
_PIXELS, _CONVERSIONS, _DONE, _NOTES = "pixels.npy", "conversions.npy", "done.npy", "notes.json"


@dataclass(frozen=True, eq=False)
class DecodedFiles:
    """Decoded image files.

    Attributes:
        block: their pixels, in the order of the files; memory-mapped if they are many.
        notes: what was converted, one sentence each.
    """

    block: PixelBlock
    notes: tuple[str, ...] = ()


def decoded_block(
    source: str, files: Sequence[ImageFile], settings: PixelSettings, progress: Callable[[int, int], None]
) -> DecodedFiles:
    """Decode image files, or open the pixels that were decoded before.

    Args:
        source: the data source, for messages.
        files: N image files.
        settings: size and color.
        progress: called with the number of images decoded and their total.

    Raises:
        DatasetError: if images cannot be read, sizes differ and no size is given, or the cache cannot be written.
    """
    folder = cache_folder() / PIXELS / _key(files, settings)
    try:
        if folder.is_dir():
            return _opened(folder)
        return _decoded(source, files, settings, progress, folder)
    except OSError as error:
        raise DatasetError(
            f"{folder}: cannot be used ({error.strerror or error}); delete it, or name another cache with "
            "FER_AUGMENT_CACHE"
        ) from error


def _decoded(
    source: str,
    files: Sequence[ImageFile],
    settings: PixelSettings,
    progress: Callable[[int, int], None],
    folder: Path,
) -> DecodedFiles:
    partial = folder.with_name(f"{folder.name}.partial")
    lock: FileLock | None = None

    def allocate(shape: tuple[int, int, int, int]) -> Destination:
        nonlocal lock
        if int(np.prod(shape)) < CACHED_FROM:
            return Destination.in_memory(shape)
        if lock is None:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder.with_name(f"{folder.name}.lock"))
            lock.acquire()  # another process that decodes the same files is waited for
        return _on_disk(partial, shape)

    try:
        into = decode_files(source, files, settings, progress, allocate)
        if lock is None:
            into.pixels.flags.writeable = False
            return DecodedFiles(PixelBlock(into.pixels), notes_on(into.conversions))
        if not folder.is_dir():
            _finish(partial, folder, into)
    finally:
        if lock is not None:
            lock.release()
    folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)
    _keep_limit(folder)
    return _opened(folder)


def _on_disk(partial: Path, shape: tuple[int, int, int, int]) -> Destination:
    """Open what an interrupted process has decoded, or create empty files.

    Raises:
        DatasetError: if the disk is too small.
    """
    chunks = -(-shape[0] // FILES_AT_ONCE)
    wanted: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
        _PIXELS: (np.dtype(np.uint8), shape),
        _CONVERSIONS: (np.dtype(np.uint16), shape[:1]),
        _DONE: (np.dtype(np.bool_), (chunks,)),
    }
    try:
        arrays = [np.lib.format.open_memmap(partial / name, mode="r+") for name in wanted]
        if [(array.dtype, array.shape) for array in arrays] == list(wanted.values()):
            return Destination(*arrays)
    except (OSError, ValueError):
        pass
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    needed, free = int(np.prod(shape)), shutil.disk_usage(partial).free
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


def _finish(partial: Path, folder: Path, into: Destination) -> None:
    """Complete the folder of a decoded set and move it into place."""
    notes = notes_on(into.conversions)
    for array in (into.pixels, into.conversions, into.is_done):
        assert isinstance(array, np.memmap)
        array.flush()
    np.save(digests_file(partial / _PIXELS), PixelBlock.open(partial / _PIXELS).row_digests)
    (partial / _NOTES).write_text(json.dumps(notes), encoding="utf-8")
    for name in (_CONVERSIONS, _DONE):
        (partial / name).unlink()
    partial.rename(folder)


def _opened(folder: Path) -> DecodedFiles:
    os.utime(folder)  # the time of the last use, for pruning
    notes = json.loads((folder / _NOTES).read_text(encoding="utf-8"))
    return DecodedFiles(PixelBlock.open(folder / _PIXELS), tuple(notes))


def _keep_limit(folder: Path) -> None:
    """Delete the pixels that were not used for the longest time, if all exceed the limit of the cache."""
    try:
        limit = pixel_limit()
    except ValueError as error:
        raise DatasetError(f"{LIMIT_VARIABLE}: must be a number of GB, such as 50") from error
    held = [entry for entry in entries(cache_folder()) if entry.kind == PIXELS]
    for entry in prune(held, max_bytes=limit):
        if entry.path != folder:
            delete(entry)


def _key(files: Sequence[ImageFile], settings: PixelSettings) -> str:
    digest = hashlib.sha256(repr((DECODER_VERSION, settings)).encode())
    for file in files:
        digest.update(f"{file.name}\0{file.version}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]
