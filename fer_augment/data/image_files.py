"""A reference to an image file in a folder or an archive, read when it is needed; files that can be opened safely."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fer_augment.errors import DatasetError, FerAugmentError, display_name, excerpt

LARGEST_FILE = 1 << 29
"""Bytes of the largest image file; a larger one, such as a sparse file or a member of zeros, would exhaust memory."""


def refuse_large(title: str, size: int) -> None:
    """Refuse an image file of more bytes than `LARGEST_FILE`.

    Raises:
        DatasetError: if it is larger.
    """
    if size > LARGEST_FILE:
        raise DatasetError(f"{title}: larger than {LARGEST_FILE >> 20} MiB; reduce its size")


def regular_file(path: Path) -> Path:
    """Return a path, unless it is a pipe, socket or device: reading one could wait or go on forever.

    Raises:
        OSError: if it is one. A file that is missing is left to what opens it.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file that is not read yet.

    Attributes:
        name: its path relative to the source, with `/` between folders; unique in the source.
        content: returns the file's bytes; may be called from several threads at once; raises DatasetError.
        version: changes with the content: size and modification time, or the checksum of an archive.
    """

    name: str
    content: Callable[[], bytes]
    version: str

    def read(self) -> bytes:
        """Return the content.

        Raises:
            DatasetError: if it cannot be read, for whatever reason: readers of other distributions may raise anything;
                or if it is too large.
        """
        try:
            content = self.content()
        except (FerAugmentError, KeyboardInterrupt):
            raise
        except BaseException as error:
            reason = f"{type(error).__name__}: {excerpt(str(error))}".removesuffix(": ")
            raise DatasetError(f"{display_name(self.name)}: its reader failed: {reason}") from error
        if not isinstance(content, bytes):
            raise DatasetError(f"{display_name(self.name)}: its reader must give bytes, gave {type(content).__name__}")
        refuse_large(display_name(self.name), len(content))
        return content
