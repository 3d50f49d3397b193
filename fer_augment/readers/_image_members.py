"""Image files in a folder, zip or tar archive, read without extracting the archive."""

from __future__ import annotations

import functools
import operator
import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fer_augment import DatasetError, ImageFile, Omission
from fer_augment.data.decoding import HEAD_BYTES, IMAGE_SUFFIXES, is_image
from fer_augment.data.image_files import LARGEST_FILE
from fer_augment.readers._conventions import counted, display_name, is_folder, refuse_rewritten, version_of
from fer_augment.readers._tar_files import TAR_SUFFIXES, Content, tar_files
from fer_augment.readers._zip_files import zip_files, zip_names

_UNSUPPORTED_SUFFIXES = (
    *(".arw", ".cr2", ".cr3", ".dcm", ".dng", ".exr", ".hdr", ".j2k", ".jp2", ".jpx", ".jxl", ".nef", ".orf"),
    *(".pcx", ".psd", ".raf", ".rw2", ".tga"),
)
PROVENANCE_FILE = "provenance.csv"
"""Table beside the images that `fer-augment rewrite` has written."""
_EXPECTED = "expected split/class/image or class/image"
_IGNORED = ("__MACOSX", "Thumbs.db", "desktop.ini")
"""Hidden files of macOS and Windows; those of Unix start with a dot."""


@dataclass(slots=True)  # one is made for every image, and a frozen one takes four times as long
class Member:
    """An image file.

    Attributes:
        parts: folder names and file name, relative to the source.
        content: function that returns the content; raises DatasetError.
        version: changes with the content.
        size: number of bytes.
        is_regular: False for a pipe, socket or device, or a link to one, which is never opened.
    """

    parts: tuple[str, ...]
    content: Content
    version: str
    size: int
    is_regular: bool = True

    @property
    def name(self) -> str:
        """Path relative to the source, for display."""
        return display_name("/".join(self.parts))

    @property
    def file(self) -> ImageFile:
        """The file, under its path relative to the source."""
        return ImageFile(self.name, self.content, self.version)


@dataclass(frozen=True)
class Scan:
    """The files of a folder or archive.

    Attributes:
        images: the images, sorted by name.
        others: the files that were left out, sorted by name; see `left_out`.
    """

    images: list[Member]
    others: list[Member]


def is_archive(source: str) -> bool:
    """Return whether a source is named like a zip or tar archive."""
    return source.lower().endswith((".zip", *TAR_SUFFIXES))


def archived_names(source: str) -> list[str]:
    """Return the paths of the files of a zip or tar archive, those of hidden files, too.

    Raises:
        DatasetError: if the archive cannot be read.
    """
    is_tar = source.lower().endswith(TAR_SUFFIXES)
    return [file.path for file in tar_files(source)] if is_tar else zip_names(source)


def archived_files(source: str) -> Iterator[Member]:
    """Yield the files of a zip or tar archive, in its order, without hidden ones.

    Raises:
        DatasetError: if the archive cannot be read.
    """
    return _tar_members(source) if source.lower().endswith(TAR_SUFFIXES) else _zip_members(source)


def refuse_rewritten_images(source: str, files: Iterable[Member]) -> None:
    """Refuse image files that `fer-augment rewrite` has written, which a table beside them says.

    Args:
        source: the folder or archive.
        files: its files that are no images.

    Raises:
        DatasetError: if such a table is among them.
    """
    for file in files:
        if file.parts[-1].lower() == PROVENANCE_FILE and file.is_regular:
            header = file.content.head().decode("utf-8-sig", "replace").partition("\n")[0]
            refuse_rewritten(f"{display_name(source)}: {file.name}", header.strip().split(","), ("file", "class"))


def left_out(files: Sequence[Member]) -> tuple[str, ...]:
    """Return notes on files that are no images, if there are any."""
    unsupported = [file.name for file in files if file.is_regular]
    special = [file.name for file in files if not file.is_regular]
    reasons = {"not in a supported image format": unsupported, "pipes, sockets or devices": special}
    return tuple(
        Omission(f"{counted(names, 'files')}: {reason}; left out") for reason, names in reasons.items() if names
    )


def scan(source: str, expected: str = _EXPECTED) -> Scan:
    """Find the image files of a folder, zip or tar archive, in all subfolders.

    A file is an image if it has an image suffix or starts like an image; the first bytes of a file with an image suffix
    are not read. Hidden files are ignored.

    Args:
        source: the folder or archive.
        expected: what to do if there are no images, for the message.

    Raises:
        DatasetError: if the source cannot be read, has no images, has two files of one name, or has images of
            unsupported formats.
    """
    if is_folder(source):
        return _scanned(source, _folder_members(source), expected)
    return _scanned(source, archived_files(source), expected)


def _scanned(source: str, members: Iterable[Member], expected: str) -> Scan:
    files = sorted(members, key=operator.attrgetter("parts"))
    unsupported = [file for file in files if file.parts[-1].lower().endswith(_UNSUPPORTED_SUFFIXES)]
    _refuse(source, unsupported, "format not supported; convert")
    images: list[Member] = []
    others: list[Member] = []
    for file in files:
        if not file.is_regular:
            others.append(file)
            continue
        (images if _has_image_suffix(file) or is_image(file.content.head()) else others).append(file)
    large = [file for file in images if file.size > LARGEST_FILE]
    _refuse(source, large, f"larger than {LARGEST_FILE >> 20} MiB; reduce the size of")
    if not images:
        tables = [file.name for file in others if file.parts[-1].lower().endswith(".csv")]
        if tables and expected == _EXPECTED:
            expected = f"to read {tables[0]}, extract it and pass its path"
        raise DatasetError(f"{display_name(source)}: no images found; {expected}")
    occurrences = Counter(file.parts for file in images)
    repeated = [file for file in images if occurrences[file.parts] > 1] if len(occurrences) < len(images) else []
    _refuse(source, repeated, "several files have the same name; rename")
    return Scan(images, others)


def _refuse(source: str, files: Sequence[Member], reason: str) -> None:
    """Refuse files, if any, by their number and the names of the first three."""
    if files:
        it = "it" if len(files) == 1 else "them"
        names = counted([file.name for file in files], "files")
        raise DatasetError(f"{display_name(source)}: {names}: {reason} or remove {it}")


def _has_image_suffix(file: Member) -> bool:
    return file.parts[-1].lower().endswith(IMAGE_SUFFIXES)


def _folder_members(source: str) -> Iterator[Member]:
    """Yield the files of a folder and of all folders below; links are followed, except to a folder above them."""
    waiting: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [(source, (), (os.path.realpath(source),))]
    while waiting:
        folder, parts, real_paths = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if is_ignored(entry.name):
                        continue
                    if entry.is_dir():
                        real = (
                            os.path.realpath(entry) if entry.is_symlink() else f"{real_paths[-1]}{os.sep}{entry.name}"
                        )
                        if real not in real_paths:
                            waiting.append((entry.path, (*parts, entry.name), (*real_paths, real)))
                    else:
                        yield _file_member(entry, (*parts, entry.name))
        except OSError as error:
            raise _unreadable(error.filename or folder, error) from error


def _file_member(entry: os.DirEntry[str], parts: tuple[str, ...]) -> Member:
    status = entry.stat()
    version = version_of(status)
    return Member(parts, _FileContent(entry.path), version, status.st_size, entry.is_file())


def _unreadable(path: str, error: OSError) -> DatasetError:
    return DatasetError(f"{display_name(path)}: cannot be read ({error.strerror})")


def _zip_members(source: str) -> Iterator[Member]:
    for file in zip_files(source):
        # Some Windows programs write backslashes, which violates the zip specification.
        parts = _parts(source, file.path.replace("\\", "/"))
        if parts:
            yield Member(parts, file.content, file.version, file.size)


def _tar_members(source: str) -> Iterator[Member]:
    for file in tar_files(source):
        parts = _parts(source, file.path)
        if parts:
            yield Member(parts, file.content, file.version, file.size, file.is_regular)


def _parts(source: str, path: str) -> tuple[str, ...]:
    """Return the folder names and the file name of a path in an archive; none of a folder, and if one is ignored.

    Raises:
        DatasetError: if the path leads out of the archive.
    """
    folder, _, name = path.rpartition("/")
    if ".." in folder:
        folder = posixpath.normpath(folder)
        if folder == ".." or folder.startswith("../"):
            title = f"{display_name(source)}: {display_name(path)}"
            raise DatasetError(f"{title}: leads out of the archive; pack the images again, from the folder above all")
    above = _folders(folder)
    return () if above is None or not name or is_ignored(name) else (*above, name)


@functools.lru_cache(maxsize=1024)  # called for every file, with few folders
def _folders(path: str) -> tuple[str, ...] | None:
    names = tuple(name for name in path.split("/") if name not in ("", "."))
    return None if any(map(is_ignored, names)) else names


def is_ignored(name: str) -> bool:
    """Return whether a file or folder is a hidden one."""
    return name.startswith(".") or name in _IGNORED


@dataclass(slots=True)
class _FileContent:
    path: str

    def __call__(self) -> bytes:
        return self._read(-1)

    def head(self) -> bytes:
        return self._read(HEAD_BYTES)

    def _read(self, size: int) -> bytes:
        try:
            with open(self.path, "rb") as file:
                return file.read(size)
        except OSError as error:
            raise _unreadable(self.path, error) from error
