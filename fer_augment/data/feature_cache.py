"""Features of images, computed once: files of the cache that grow, read through memory maps.

A folder `features/KEY` of the cache holds `digests.bin`, the digest of each image, and `features.bin`, its features,
in the same order. The key stands for whatever computes the features. Any number of processes read and add at the same
time: rows are only ever appended, under a lock, the features before the digests, so a process that dies leaves at
most features without a digest, which the next one overwrites.

Legend of shapes: n images, m stored images, D features.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from fer_augment.cache import FEATURES, LIMIT_VARIABLE, hold, keep_limit
from fer_augment.data.whole_files import write_whole
from fer_augment.errors import DatasetError

_DIGEST = np.dtype("V16")
_FEATURES, _DIGESTS, _ABOUT = "features.bin", "digests.bin", "about.json"


@dataclass(frozen=True, eq=False)
class StoredFeatures:
    """The features that were stored when this was opened.

    Attributes:
        features: `(m, D) float32`, memory-mapped.
        digests: `(m,)`, of the images.
    """

    features: NDArray[np.float32]
    digests: NDArray[np.void]

    def places_of(self, digests: NDArray[np.void]) -> NDArray[np.int64]:
        """Return the `(n,)` positions of images, -1 for those that are not stored."""
        order, ordered = self._in_order
        if not len(ordered):
            return np.full(len(digests), -1)
        found = np.minimum(np.searchsorted(ordered, digests), len(ordered) - 1)
        return np.where(ordered[found] == digests, order[found], -1)

    @cached_property
    def _in_order(self) -> tuple[NDArray[np.int64], NDArray[np.void]]:
        order = np.argsort(self.digests, kind="stable")
        return order, self.digests[order]


@dataclass(frozen=True)
class FeatureCache:
    """A folder of features.

    Attributes:
        folder: the folder `features/KEY`; created with the first features.
    """

    folder: Path

    @classmethod
    def below(cls, cache: Path, key: str) -> FeatureCache:
        """Return the folder of a key in a cache."""
        return cls(cache / FEATURES / key)

    def open(self) -> StoredFeatures:
        """Open what is stored.

        Raises:
            DatasetError: if the files are damaged.
        """
        with self._errors():
            dimension = self._dimension
            count = self._count(dimension) if dimension else 0
            if not dimension or not count:
                return StoredFeatures(np.empty((0, dimension or 0), np.float32), np.empty(0, _DIGEST))
            os.utime(self.folder)  # the time of the last use, for pruning
            # Copy-on-write, since torch takes no read-only arrays; nothing writes.
            features = np.memmap(self.folder / _FEATURES, np.float32, mode="c", shape=(count, dimension))
            return StoredFeatures(features, np.fromfile(self.folder / _DIGESTS, _DIGEST, count))

    def digests_since(self, count: int) -> NDArray[np.void]:
        """Return the digests of the images that were stored after the first `count`.

        Raises:
            DatasetError: if the files are damaged.
        """
        with self._errors():
            dimension = self._dimension
            added = (self._count(dimension) if dimension else 0) - count
            if added <= 0:
                return np.empty(0, _DIGEST)
            return np.fromfile(self.folder / _DIGESTS, _DIGEST, added, offset=count * _DIGEST.itemsize)

    def add(self, digests: NDArray[np.void], features: NDArray[np.float32], since: int) -> None:
        """Store the features of images, except those that another process has stored meanwhile.

        Args:
            digests: `(n,)`, distinct.
            features: `(n, D) float32`.
            since: how many images were stored when these were not among them.

        Raises:
            DatasetError: if the files are damaged, or cannot be written.
        """
        with self.locked():
            if self._dimension is None:
                write_whole(self.folder / _ABOUT, json.dumps({"features": features.shape[1]}))
            is_new = ~np.isin(digests, self.digests_since(since))
            if is_new.any():
                count = self._count(features.shape[1])
                _append(self.folder / _FEATURES, count, features[is_new].astype(np.float32, copy=False))
                _append(self.folder / _DIGESTS, count, digests[is_new])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other process write into this folder meanwhile, which is created.

        Raises:
            DatasetError: if the files are damaged, or cannot be written.
        """
        with self._errors():
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                yield

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every process from deleting this folder, which is created.

        Raises:
            DatasetError: if it cannot be created.
        """
        with self._errors():
            self.folder.mkdir(parents=True, exist_ok=True)
            release = hold(self.folder)
        try:
            yield
        finally:
            release()

    def keep_limit(self) -> None:
        """Delete what was not used for the longest time, if the cache exceeds its limit; never this folder."""
        try:
            keep_limit(self.folder)
        except ValueError as error:
            raise DatasetError(f"{LIMIT_VARIABLE}: must be a number of GB, such as 50") from error

    @property
    def _dimension(self) -> int | None:
        try:
            dimension: int = json.loads((self.folder / _ABOUT).read_text(encoding="utf-8"))["features"]
        except FileNotFoundError:
            return None
        return dimension

    def _count(self, dimension: int) -> int:
        """Return the number of complete rows."""
        sizes = {_FEATURES: 4 * dimension, _DIGESTS: _DIGEST.itemsize}
        files = {self.folder / name: size for name, size in sizes.items()}
        return min(file.stat().st_size // size if file.exists() else 0 for file, size in files.items())

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DatasetError(
                f"{self.folder}: cannot be used ({reason}); delete it, or name another cache with FER_AUGMENT_CACHE"
            ) from error


def _append(path: Path, count: int, rows: NDArray[np.generic]) -> None:
    """Write rows after the first `count` of a file, in place of what may follow them, and force them to the disk."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.seek(count * (rows.nbytes // len(rows)))
        file.write(rows.tobytes())
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
