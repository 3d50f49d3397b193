"""Files and directories that are written atomically: a reader finds all of the content, or none."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fer_augment.errors import RunError


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Provide a temporary directory that is renamed to `path` on success and removed on failure.

    If another process has created `path` in the meantime, that directory is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    scratch.chmod(0o755)
    try:
        yield scratch
        try:
            scratch.rename(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def replaceable(path: Path) -> Path:
    """Return the file that is written for a path: the target of a link.

    Raises:
        RunError: if it is a device, a pipe or a socket, which would become a file.
    """
    target = path.resolve() if path.is_symlink() else path
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise RunError(f"{path}: is a device, a pipe or a socket; name a file")
    return target


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically: readers see either the old or the new content.

    Raises:
        OSError: if it cannot be written; it names the file, also where the disk is full.
        RunError: if it is a device, a pipe or a socket.
    """
    path = replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with naming(path):
            scratch.write_bytes(content.encode() if isinstance(content, str) else content)
            scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add a path to an error that names none: on a full disk, a file can be opened, and writing to it fails."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
