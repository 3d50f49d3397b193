"""A reference to an image file in a folder or an archive; its content is read when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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
