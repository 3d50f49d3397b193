"""Files in a zip archive, read without unpacking it."""

from __future__ import annotations

import os
import struct
import threading
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from fer_augment import DatasetError
from fer_augment.data.decoding import HEAD_BYTES
from fer_augment.readers._conventions import display_name, excerpt, no_such_file

_FAULTS: tuple[type[Exception], ...] = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError,
)  # fmt: skip
with suppress(ImportError):  # some builds of Python lack it
    import lzma

    _FAULTS = (*_FAULTS, lzma.LZMAError)

_END = struct.Struct("<4s8xLLH")
"""End of an archive: signature, size and start of the directory, length of the comment."""
_ENTRY = struct.Struct("<4s2xHH6xLLLHHH8xL")
"""Entry of the directory: signature, version, flags, checksum, compressed size, size, three lengths, start of file."""
_EXTRA = struct.Struct("<HH")
"""Head of an extra field of an entry: kind and length."""
_IS_UTF8 = 0x800
_NEWEST_VERSION = 63
_LARGE = 0xFFFFFFFF
_OTHER_NAME = 0x7075


@dataclass(slots=True)  # not frozen, for the same reason as `Member`
class ZipFile:
    """A file or folder in a zip archive.

    Attributes:
        path: its path in the archive; of a folder, it ends with `/`.
        content: its content.
        version: changes with the content.
        size: number of bytes.
    """

    path: str
    content: ZipContent
    version: str
    size: int


def zip_files(source: str) -> Iterator[ZipFile]:
    """Yield the files and folders of a zip archive.

    Raises:
        DatasetError: if the archive cannot be read.
    """
    archive = _Archive(source)
    listed = _listed(source)
    if listed:
        archive.expected = [(size, checksum) for _, size, checksum in listed]
    else:
        listed = [(info.filename, info.file_size, info.CRC) for info in archive.opened.infolist()]
    for number, (path, size, checksum) in enumerate(listed):
        yield ZipFile(path, ZipContent(archive, number), f"{size} {checksum}", size)


def zip_names(source: str) -> list[str]:
    """Return the paths of the files and folders of a zip archive.

    Raises:
        DatasetError: if the archive cannot be read.
    """
    listed = _listed(source)
    return [path for path, _, _ in listed] if listed else [file.path for file in zip_files(source)]


def _listed(source: str) -> list[tuple[str, int, int]] | None:
    """Return path, size and checksum of each entry of a plain archive, as `zipfile` does in five times the time.

    None is returned for all others: those that `zipfile` refuses, and those with parts that are rare.
    """
    try:
        with open(source, "rb") as file:
            end = file.seek(-_END.size, os.SEEK_END)
            signature, size, start, comment_length = _END.unpack(file.read())
            if signature != b"PK\5\6" or comment_length or start + size != end:
                return None
            file.seek(start)
            directory = file.read(size)
        entries, position = [], 0
        while position < size:
            (signature, version, flags, checksum, compressed, content, name_length, extra_length, comment_length,
             first) = _ENTRY.unpack_from(directory, position)  # fmt: skip
            position += _ENTRY.size
            name = directory[position : position + name_length]
            extra = directory[position + name_length : position + name_length + extra_length]
            position += name_length + extra_length + comment_length
            is_large = compressed == _LARGE or content == _LARGE or first == _LARGE
            if signature != b"PK\1\2" or version > _NEWEST_VERSION or is_large or b"\0" in name:
                return None
            if extra and not _is_plain(extra):
                return None
            path = name.decode() if flags & _IS_UTF8 or name.isascii() else name.decode("cp437")
            entries.append((path, content, checksum))
    except (OSError, ValueError, struct.error):
        return None
    return entries if position == size else None


def _is_plain(extra: bytes) -> bool:
    """Return whether extra fields are complete and none holds another name."""
    position = 0
    while position + _EXTRA.size <= len(extra):
        kind, length = _EXTRA.unpack_from(extra, position)
        position += _EXTRA.size + length
        if kind == _OTHER_NAME or position > len(extra):
            return False
    return True


class _Archive:
    """A zip file that is opened when it is first read, and closed when nothing can read it any more.

    Attributes:
        source: its path as given, for messages.
        path: its absolute path.
        expected: size and checksum of each file as they were listed; None if they are listed when it is opened.
    """

    def __init__(self, source: str) -> None:
        self.source, self.path = source, os.path.abspath(source)  # the working directory may change
        self.expected: list[tuple[int, int]] | None = None
        self._zip: zipfile.ZipFile | None = None
        self._one_thread = threading.Lock()

    @property
    def opened(self) -> zipfile.ZipFile:
        """The open file.

        Raises:
            DatasetError: if it is not a complete zip file, or is not the one whose files were listed.
        """
        with self._one_thread:
            if self._zip is None:
                opened = _opened(self.path, self.source)
                weakref.finalize(self, opened.close)  # also as part of a reference cycle
                found = [(info.file_size, info.CRC) for info in opened.infolist()]
                if self.expected and found != self.expected:
                    opened.close()
                    raise DatasetError(f"{display_name(self.source)}: changed while it was read; run the same again")
                self._zip = opened
            return self._zip


def _opened(path: str, source: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise DatasetError(no_such_file(source)) from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{display_name(source)}: the name of a file in it is said to be UTF-8, but is not "
            f"({excerpt(repr(error.object))}); rename the file and zip it again, or unpack it and give the folder"
        ) from error
    except _FAULTS as error:
        raise DatasetError(
            f"{display_name(source)}: not a complete zip file ({excerpt(str(error))}); re-download it"
        ) from error


@dataclass(slots=True)
class ZipContent:
    """Function that returns the content of a file in an archive; may be called by several threads at once."""

    archive: _Archive
    number: int

    def __call__(self) -> bytes:
        """Return the content.

        Raises:
            DatasetError: if it is damaged or encrypted.
        """
        return self._read(-1)

    def head(self) -> bytes:
        """Return its first `HEAD_BYTES` bytes.

        Raises:
            DatasetError: if they are damaged or encrypted.
        """
        return self._read(HEAD_BYTES)

    def _read(self, size: int) -> bytes:
        opened = self.archive.opened
        info = opened.infolist()[self.number]
        try:
            with opened.open(info) as file:
                return file.read(size)
        except _FAULTS as error:
            title = f"{display_name(self.archive.source)}: {display_name(info.filename)}"
            raise DatasetError(
                f"{title}: damaged or encrypted ({excerpt(str(error))}); re-download the zip file"
            ) from error
