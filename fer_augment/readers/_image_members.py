"""Image files in a folder, zip or tar archive, read without extracting the archive."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fer_augment import DatasetError, ImageFile
from fer_augment.readers._conventions import display_name, is_folder, no_such_file
from fer_augment.readers._tar_files import TAR_SUFFIXES, tar_files

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_OTHER_IMAGE_SUFFIXES = (".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
_EXPECTED = "expected split/class/image or class/image"
_DEEPEST = 6
"""Maximum folder depth, so that links to a parent folder cannot cause an endless search."""
_ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Member:
    """An image file.

    Attributes:
        parts: folder names and file name, relative to the source.
        title: name for messages.
        content: function that returns the content; raises DatasetError.
        version: changes with the content.
    """

    parts: tuple[str, ...]
    title: str
    content: Callable[[], bytes]
    version: str

    @property
    def file(self) -> ImageFile:
        """The file, under its name for messages."""
        return ImageFile(self.title, self.content, self.version)


def image_members(source: str, expected: str = _EXPECTED) -> list[Member]:
    """Return the image files of a folder, zip or tar archive, sorted by name.

    Hidden files, `__MACOSX` folders and files that are not images are ignored.

    Args:
        source: the folder or archive.
        expected: what to do if there are no images, for the message.

    Raises:
        DatasetError: if the source cannot be read, has no images, or has images of unsupported formats.
    """
    if is_folder(source):
        return _chosen(source, _folder_members(source), expected)
    if source.lower().endswith(TAR_SUFFIXES):
        return _chosen(source, _tar_members(source), expected)
    return _chosen(source, _zip_members(source, _opened(source)), expected)


def _chosen(source: str, members: Iterable[Member], expected: str) -> list[Member]:
    files = sorted(members, key=lambda member: member.parts)
    for file in files:
        if file.parts[-1].lower().endswith(_OTHER_IMAGE_SUFFIXES):
            raise DatasetError(f"{file.title}: only png and jpg are supported; convert or remove it")
    images = [file for file in files if file.parts[-1].lower().endswith(IMAGE_SUFFIXES)]
    if not images:
        tables = ["/".join(file.parts) for file in files if file.parts[-1].lower().endswith(".csv")]
        if tables and expected == _EXPECTED:
            expected = f"to read {display_name(tables[0])}, extract it and pass its path"
        raise DatasetError(f"{display_name(source)}: no png or jpg images found; {expected}")
    return images


def _folder_members(source: str) -> Iterator[Member]:
    root = Path(source)
    for folder, subfolders, files in os.walk(source, onerror=_refuse_folder, followlinks=True):
        path = Path(folder)
        above = path.relative_to(root).parts
        is_too_deep = len(above) == _DEEPEST
        subfolders[:] = [name for name in subfolders if not (is_too_deep or _is_ignored(name))]
        for name in files:
            if not _is_ignored(name):
                yield Member((*above, name), display_name(str(path / name)), *_content(path / name))


def _refuse_folder(error: OSError) -> None:
    raise DatasetError(f"{display_name(str(error.filename))}: cannot be read ({error.strerror})") from error


def _zip_members(source: str, archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        # Some Windows programs write backslashes, which violates the zip specification.
        parts = tuple(part for part in info.filename.replace("\\", "/").split("/") if part not in ("", "."))
        if parts and not info.is_dir() and not any(map(_is_ignored, parts)):
            title = f"{display_name(source)}: {display_name(info.filename)}"
            yield Member(parts, title, _ZipContent(archive, info, title), f"{info.file_size} {info.CRC}")


def _tar_members(source: str) -> Iterator[Member]:
    for member in tar_files(source):
        parts = tuple(part for part in member.path.split("/") if part not in ("", "."))
        if parts and not any(map(_is_ignored, parts)):
            yield Member(parts, member.file.name, member.file.content, member.file.version)


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _content(path: Path) -> tuple[_FileContent, str]:
    try:
        status = path.stat()
    except OSError as error:
        raise DatasetError(f"{display_name(str(path))}: cannot be read ({error.strerror})") from error
    return _FileContent(path), f"{status.st_size} {status.st_mtime_ns}"


@dataclass(frozen=True)
class _FileContent:
    path: Path

    def __call__(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise DatasetError(f"{display_name(str(self.path))}: cannot be read ({error.strerror})") from error


@dataclass(frozen=True)
class _ZipContent:
    archive: zipfile.ZipFile
    info: zipfile.ZipInfo
    title: str

    def __call__(self) -> bytes:
        try:
            return self.archive.read(self.info)
        except _ZIP_FAULTS as error:
            raise DatasetError(
                f"{self.title}: damaged or encrypted ({display_name(str(error))}); re-download the zip file"
            ) from error


def _opened(source: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except FileNotFoundError as error:
        raise DatasetError(no_such_file(source)) from error
    except _ZIP_FAULTS as error:
        raise DatasetError(
            f"{display_name(source)}: not a complete zip file ({display_name(str(error))}); re-download it"
        ) from error
