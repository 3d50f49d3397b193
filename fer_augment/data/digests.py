"""SHA-256 of the files of a finished directory, so that later changes and damage are noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

DIGESTS_FILE = "SHA256SUMS"
"""Digests in the format of the program `sha256sum`: `sha256sum -c SHA256SUMS` in the directory checks them, too."""


def write_digests(folder: Path) -> None:
    """Write the digests of all files below a folder."""
    lines = [f"{_digest(folder / name)}  {name}\n" for name in _files(folder)]
    (folder / DIGESTS_FILE).write_text("".join(lines), encoding="utf-8")


def changed_files(folder: Path, names: Collection[str] | None = None) -> Iterator[str]:
    """Yield the files that are no longer as they were when the folder was written, or are missing.

    Args:
        folder: a folder; nothing is known of one that an earlier version wrote, without digests.
        names: the files to look at, by their paths in the folder; None for all that have a digest.

    Raises:
        OSError: if a file cannot be read.
    """
    try:
        lines = (folder / DIGESTS_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        yield DIGESTS_FILE
        return
    digest_of = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if not {*(names or ())} <= digest_of.keys() or (not digest_of and _files(folder)):
        yield DIGESTS_FILE  # cut off
        return
    for name in digest_of if names is None else names:
        file = folder / name
        if not file.is_file() or _digest(file) != digest_of[name]:
            yield name


def _files(folder: Path) -> list[str]:
    """Return the paths of all files below a folder, relative to it and sorted, without that of the digests."""
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in files if name != DIGESTS_FILE)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
