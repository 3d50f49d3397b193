"""The image files in a zip or a folder: their names, and a way to get their bytes without extracting them."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fer_augment import DatasetError
from fer_augment.readers._conventions import is_folder, shown

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_OTHER_IMAGE_SUFFIXES = (".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
_EXPECTED = "expected split/class/image or class/image"
_DEEPEST = 6
"""How many folders deep images are looked for, so that a link to a folder above cannot trap the search."""
_ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Member:
    """An image file.

    Attributes:
        parts: the folders on the way to it, and its name.
        title: what to call it in a message.
        content: gives its bytes; raises DatasetError.
    """

    parts: tuple[str, ...]
    title: str
    content: Callable[[], bytes]


@contextmanager
def image_members(source: str) -> Iterator[list[Member]]:
    """Give the image files of a folder or zip, sorted by name, as long as the block lasts.

    Hidden files and what macOS adds to zips are passed over, and so are files that are no images.

    Raises:
        DatasetError: if the source cannot be read, holds no image, or holds images of other kinds.
    """
    if is_folder(source):
        yield _chosen(source, _folder_members(source))
        return
    with _opened(source) as archive:
        yield _chosen(source, _zip_members(source, archive))


def _chosen(source: str, members: Iterable[Member]) -> list[Member]:
    seen = sorted(members, key=lambda member: member.parts)
    for member in seen:
        if member.parts[-1].lower().endswith(_OTHER_IMAGE_SUFFIXES):
            raise DatasetError(f"{member.title}: only png and jpg are read; convert it, or take it away")
    images = [member for member in seen if member.parts[-1].lower().endswith(IMAGE_SUFFIXES)]
    if not images:
        tables = ["/".join(member.parts) for member in seen if member.parts[-1].lower().endswith(".csv")]
        hint = f"to read its {shown(tables[0])}, give the path of that file, unpacked" if tables else _EXPECTED
        raise DatasetError(f"{shown(source)}: holds no png or jpg image; {hint}")
    return images


def _folder_members(source: str) -> Iterator[Member]:
    root = Path(source)
    for folder, subfolders, files in os.walk(source, onerror=_refuse_folder, followlinks=True):
        path = Path(folder)
        above = path.relative_to(root).parts
        is_too_deep = len(above) == _DEEPEST
        subfolders[:] = [name for name in subfolders if not (is_too_deep or _passed_over(name))]
        for name in files:
            if not _passed_over(name):
                yield Member((*above, name), shown(str(path / name)), _FileContent(path / name))


def _refuse_folder(error: OSError) -> None:
    raise DatasetError(f"{shown(str(error.filename))}: cannot be read ({error.strerror})") from error


def _zip_members(source: str, archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        # Some programs on Windows write backslashes, against the format's rules.
        parts = tuple(part for part in info.filename.replace("\\", "/").split("/") if part not in ("", "."))
        if parts and not info.is_dir() and not any(map(_passed_over, parts)):
            title = f"{shown(source)}: {shown(info.filename)}"
            yield Member(parts, title, _ZipContent(archive, info, title))


def _passed_over(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


@dataclass(frozen=True)
class _FileContent:
    path: Path

    def __call__(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise DatasetError(f"{shown(str(self.path))}: cannot be read ({error.strerror})") from error


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
                f"{self.title}: damaged or encrypted ({shown(str(error))}); get the zip again"
            ) from error


def _opened(source: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except FileNotFoundError as error:
        raise DatasetError(f"{shown(source)}: no such file; check the path") from error
    except _ZIP_FAULTS as error:
        raise DatasetError(f"{shown(source)}: not a whole zip file ({shown(str(error))}); get it again") from error
