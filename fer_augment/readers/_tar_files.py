"""Files in a tar archive, read without unpacking it to disk."""

from __future__ import annotations

import lzma
import os
import posixpath
import tarfile
import zlib
from dataclasses import dataclass, replace
from typing import Protocol

from fer_augment import DatasetError
from fer_augment.data.decoding import HEAD_BYTES
from fer_augment.readers._conventions import display_name, excerpt, no_such_file, version_of

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
COMPRESSED_LIMIT = 1 << 30
"""Bytes of all files in a compressed archive; such an archive has no random access and is read into memory."""

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
"""First bytes of files compressed by gzip, bzip2 and xz."""
_FAULTS = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError)


class _Header(tarfile.TarInfo):
    """Header of a file in an archive; a damaged one is an error, which `tarfile` takes for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Header:
        """Read the next header.

        Raises:
            tarfile.EOFHeaderError: at the end of the archive.
            tarfile.ReadError: if the header is damaged, cut or missing.
        """
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined] # missing in the stub
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {archive.offset:,}") from error


class Content(Protocol):
    """Function that returns the content of a file; may be called by several threads at once; raises DatasetError."""

    def __call__(self) -> bytes:
        """Return the content."""
        ...

    def head(self) -> bytes:
        """Return its first `HEAD_BYTES` bytes."""
        ...


@dataclass(frozen=True)
class TarFile:
    """A file in a tar archive.

    Attributes:
        path: its path in the archive.
        content: its content.
        version: changes with the content.
        size: number of bytes.
        is_regular: False for a pipe or device, or a link to one, which has no content.
    """

    path: str
    content: Content
    version: str
    size: int
    is_regular: bool = True


def tar_files(source: str) -> list[TarFile]:
    """Return the files of a tar archive; links have the content of their targets.

    Files of an archive that is not compressed are read in place when they are needed. A compressed archive is read into
    memory.

    Raises:
        DatasetError: if the archive cannot be read, or it is compressed and its files exceed `COMPRESSED_LIMIT`.
    """
    title = display_name(source)
    try:
        with open(source, "rb") as stream:
            start = stream.read(6)
        if not start:
            raise DatasetError(f"{title}: is empty; re-download it")
        if start.startswith(_COMPRESSED):
            return _linked(source, *_in_memory(source))
        return _linked(source, *_in_place(source))
    except FileNotFoundError as error:
        raise DatasetError(no_such_file(source)) from error
    except _FAULTS as error:
        raise DatasetError(f"{title}: not a complete tar archive ({excerpt(str(error))}); re-download it") from error


@dataclass(frozen=True)
class _Part:
    """The content of a file in an archive that is not compressed; opens the archive for each reading."""

    archive: str
    title: str
    offset: int
    size: int

    def __call__(self) -> bytes:
        return self._read(self.size)

    def head(self) -> bytes:
        return self._read(min(HEAD_BYTES, self.size))

    def _read(self, size: int) -> bytes:
        try:
            with open(self.archive, "rb") as file:
                file.seek(self.offset)
                content = file.read(size)
        except OSError as error:
            raise DatasetError(f"{self.title}: cannot be read ({error.strerror})") from error
        if len(content) < size:
            raise DatasetError(f"{self.title}: the archive ends within this file; re-download it")
        return content


@dataclass(frozen=True)
class _Bytes:
    content: bytes

    def __call__(self) -> bytes:
        return self.content

    def head(self) -> bytes:
        return self.content[:HEAD_BYTES]


@dataclass(frozen=True)
class _Unreadable:
    title: str
    reason: str

    def __call__(self) -> bytes:
        raise DatasetError(f"{self.title}: {self.reason}; unpack the archive and pass the folder")

    def head(self) -> bytes:
        return b""


_Files = dict[str, TarFile]
_Links = dict[str, str]


def _in_place(source: str) -> tuple[_Files, _Links]:
    """Return the files by path, and the target of each link."""
    status = os.stat(source)
    files, links = _Files(), _Links()
    with tarfile.open(source, "r:", tarinfo=_Header) as archive:
        for info in archive:
            path, title = _path(info.name), _title(source, info.name)
            if info.isreg():
                links.pop(path, None)
                version = f"{version_of(status)} {info.offset_data}"
                sparse = _Unreadable(title, "is a sparse file")
                content = sparse if info.issparse() else _Part(source, title, info.offset_data, info.size)
                files[path] = TarFile(path, content, version, info.size)
            _add_special(source, files, links, info)
    return files, links


def _in_memory(source: str) -> tuple[_Files, _Links]:
    files, links = _Files(), _Links()
    size = 0
    with tarfile.open(source, "r|*", tarinfo=_Header) as archive:
        for info in archive:
            stream = archive.extractfile(info) if info.isreg() else None
            if stream is not None:
                size += info.size
                if size > COMPRESSED_LIMIT:
                    raise _too_large(source)
                content = stream.read()
                path = _path(info.name)
                links.pop(path, None)
                files[path] = TarFile(path, _Bytes(content), f"{info.size} {zlib.crc32(content)}", info.size)
            _add_special(source, files, links, info)
    return files, links


def _too_large(source: str) -> DatasetError:
    title = display_name(source)
    return DatasetError(
        f"{title}: is compressed, and its files exceed the {COMPRESSED_LIMIT >> 20:,} MiB that are read into memory; "
        f"unpack it (tar -xf {title}) and pass the folder, or decompress it to .tar, which is read in place"
    )


def _add_special(source: str, files: _Files, links: _Links, info: tarfile.TarInfo) -> None:
    """Add a link, pipe or device; a later member replaces an earlier one of the same path, as when it is unpacked."""
    path = _path(info.name)
    if info.islnk():
        links[path] = _path(info.linkname)
    elif info.issym():
        links[path] = _path(posixpath.join(posixpath.dirname(info.name), info.linkname))
    elif not info.isreg() and not info.isdir():
        links.pop(path, None)
        content = _Unreadable(_title(source, path), "is a pipe or a device")
        files[path] = TarFile(path, content, "", 0, is_regular=False)


def _linked(source: str, files: _Files, links: _Links) -> list[TarFile]:
    """Return all files, with links replaced by the files that they lead to."""
    found = [file for path, file in files.items() if path not in links]
    for path, target in links.items():
        passed = {path}
        while target in links and target not in passed:
            passed.add(target)
            target = links[target]
        missing = _Unreadable(_title(source, path), f"links to {display_name(target)}, which is no file")
        found.append(replace(files.get(target) or TarFile(path, missing, "", 0), path=path))
    return found


def _path(name: str) -> str:
    return posixpath.normpath(name)


def _title(source: str, name: str) -> str:
    return f"{display_name(source)}: {display_name(_path(name))}"
