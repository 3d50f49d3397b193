"""The cache on disk: finished trainings, pixels, features, audits, work of strategies, and ledgers of test splits."""

from __future__ import annotations

import math
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from fer_augment.errors import RunError

CACHE_VARIABLE = "FER_AUGMENT_CACHE"
"""Environment variable with the path of the cache."""
LIMIT_VARIABLE = "FER_AUGMENT_CACHE_LIMIT"
"""Environment variable with the limit of decoded pixels and features together, in GB."""
DEFAULT_LIMIT = 50.0
"""That limit where none is set; beyond it, what was not used for the longest time is deleted."""

TRAININGS, PIXELS, FEATURES, AUDITS, LEDGERS = "trainings", "pixels", "features", "audits", "scored"
STRATEGIES = "strategies"
"""Folder of what strategies keep, see `Context.cached`."""
HELD = (PIXELS, FEATURES)
"""Kinds of entries that processes hold while they use them, see `hold`."""
GRACE = 3600.0
"""Seconds since the last use for which entries of other kinds stay: a process may be copying them."""
PROCESSORS = "processors"
"""Folder of what torch says of processors, a line for each, so that it need not be imported for a key."""


def cache_folder() -> Path:
    """Return `$FER_AUGMENT_CACHE`, or `fer_augment` in the user's cache directory; it may not exist yet.

    Raises:
        RunError: if the user has no home directory.
    """
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(own)
    try:
        shared = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise RunError(f"there is no home directory for the cache; name a folder with {CACHE_VARIABLE}") from error
    return shared / "fer_augment"


@dataclass(frozen=True)
class Entry:
    """Something in the cache that can be deleted by itself: a training, a checkpoint, pixels, features or an audit.

    Attributes:
        kind: `trainings`, `pixels`, `features`, `audits` or `strategies`.
        path: its file or directory.
        size: bytes on disk.
        used: time of its last use, as `time.time`.
    """

    kind: str
    path: Path
    size: int
    used: float


def entries(folder: Path) -> list[Entry]:
    """Return everything in a cache that can be deleted, the least recently used first."""
    held = []
    for kind in (TRAININGS, PIXELS, FEATURES, AUDITS, STRATEGIES):
        for path in (folder / kind).glob("*") if (folder / kind).is_dir() else ():
            if not path.name.endswith(".lock"):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    held.append(Entry(kind, path, _size(path), path.stat().st_mtime))
    return sorted(held, key=lambda entry: (entry.used, entry.path.name))


def prune(
    held: Iterable[Entry], *, max_bytes: int | None = None, unused_days: float | None = None, now: float | None = None
) -> list[Entry]:
    """Choose what to delete, the least recently used first.

    Args:
        held: entries, the least recently used first.
        max_bytes: what may stay, in bytes; None for no limit.
        unused_days: entries that were used within so many days stay; None for no such rule.
        now: the present time, as `time.time`.

    Returns:
        The entries to delete. What a process works on now is never among them, nor trainings, audits and work of
        strategies that were used within the last hour.
    """
    now = time.time() if now is None else now
    candidates = [entry for entry in held if (entry.kind in HELD or entry.used < now - GRACE) and not _is_in_use(entry)]
    chosen: dict[Path, Entry] = {}
    if unused_days is not None:
        oldest = now - unused_days * 86_400
        chosen = {entry.path: entry for entry in candidates if entry.used < oldest}
    if max_bytes is not None:
        total = sum(entry.size for entry in held) - sum(entry.size for entry in chosen.values())
        for entry in candidates:
            if total <= max_bytes:
                break
            if entry.path not in chosen:
                chosen[entry.path] = entry
                total -= entry.size
    return list(chosen.values())


def delete(entry: Entry) -> None:
    """Delete an entry, a folder all at once for other processes; one that is gone already is no error.

    Raises:
        OSError: if it cannot be deleted.
    """
    with suppress(FileNotFoundError):
        if entry.path.is_dir():
            moved = entry.path.with_name(f".{_key(entry.path.name)}-{uuid.uuid4().hex}")
            shutil.rmtree(entry.path.rename(moved))
        else:
            entry.path.unlink()


def size_limit() -> int:
    """Return the limit of decoded pixels and features together, in bytes.

    Raises:
        ValueError: if `$FER_AUGMENT_CACHE_LIMIT` is not a number.
    """
    limit = float(os.environ.get(LIMIT_VARIABLE) or DEFAULT_LIMIT)
    if not math.isfinite(limit):
        raise ValueError(limit)
    return int(limit * 1e9)


def keep_limit(folder: Path) -> None:
    """Delete the pixels and features that were not used for the longest time, if all exceed the limit of the cache.

    Args:
        folder: the pixels or features that have just been written; they stay.

    Raises:
        ValueError: if `$FER_AUGMENT_CACHE_LIMIT` is not a number.
        OSError: if something cannot be deleted.
    """
    held = [entry for entry in entries(folder.parent.parent) if entry.kind in (PIXELS, FEATURES)]
    for entry in prune(held, max_bytes=size_limit()):
        if entry.path != folder and not _is_in_use(entry):  # another process may have opened it meanwhile
            with suppress(PermissionError):  # Windows keeps what another process has open; the next call deletes it
                delete(entry)


def hold(folder: Path) -> Callable[[], None]:
    """Keep every process from deleting an entry until the returned function is called, or this process ends.

    Each holder has a lock file of its own in the folder. In a cache that cannot be written nothing is held, and neither
    is an entry that is gone.
    """
    lock, owner = FileLock(folder / f"{uuid.uuid4().hex}.lock", thread_local=False), os.getpid()
    with suppress(OSError):
        if folder.is_dir():  # which acquiring the lock would make
            lock.acquire()

    def release() -> None:
        if os.getpid() == owner:  # a process that was forked shares the lock
            lock.release()
            with suppress(OSError):
                os.unlink(lock.lock_file)

    return release


def _is_locked(lock: Path) -> bool:
    """Whether a process holds a lock; an interrupted one leaves the file of its lock behind."""
    try:
        with FileLock(lock).acquire(blocking=False):
            return False
    except OSError:  # it is held (filelock.Timeout), or the cache cannot be written, so nothing in it can be deleted
        return True


def _is_in_use(entry: Entry) -> bool:
    """Whether a process holds an entry, or the lock of what it works on."""
    locks = [lock] if (lock := entry.path.parent / f"{_key(entry.path.name)}.lock").exists() else []
    if entry.kind in HELD and entry.path.is_dir():
        locks += entry.path.glob("*lock")
    return any(map(_is_locked, locks))


def _key(name: str) -> str:
    """Return the key of `KEY`, `KEY.checkpoint`, `KEY.partial` and of what is being written as `.KEY-…`."""
    if name.startswith("."):
        name = name[1:].rpartition("-")[0]  # the key of the work of a strategy contains a hyphen
    return name.partition(".checkpoint")[0].removesuffix(".partial")


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
