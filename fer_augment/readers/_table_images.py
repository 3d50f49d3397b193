"""Image files that the rows of a table name by path, by file name, or by an id without suffix."""

from __future__ import annotations

import functools
import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TypeAlias

from fer_augment import DatasetError, ImageFile, Omission
from fer_augment.data.image_files import refuse_large, regular_file
from fer_augment.readers._conventions import counted, display_name, split_called, version_of
from fer_augment.readers._image_members import Member, left_out, scan
from fer_augment.readers._table_text import TABLE_SUFFIXES, is_image_name

_IMAGE_FOLDERS = ("image", "images", "img", "imgs")
_EXPECTED = "add the images, or set `images:` in a source description (docs/data.md)"
ALIGNED = "_aligned"
"""Suffix of the file names of aligned faces in RAF-DB, which its lists omit."""

Parts: TypeAlias = tuple[str, ...]
"""Folder names and file name of an image, see `_folded`."""


@dataclass(frozen=True)
class NamedImage:
    """How a row names its image.

    Attributes:
        value: the text in the table.
        folder: folder of the table, relative to the source of the images.
        split: split of the row, if its column or the name of its table says so.
    """

    value: str
    folder: tuple[str, ...]
    split: str | None

    @cached_property
    def parts(self) -> Parts:
        """Folder names and file name, in lower case; relative to the source of the images if it contains `..`."""
        parts = _parts(self.value)
        return _parts(posixpath.normpath(posixpath.join(*self.folder, *parts))) if ".." in parts else parts


@dataclass(frozen=True, eq=False)
class FoundImages:
    """The images of rows.

    Attributes:
        files: one file for each row.
        paths: folder, without links and `..`, and file name of each file: equal for a file that is named in two ways.
        folders: folder names of each file, without those that all files are in.
        notes: how names were matched, and images without a row.
    """

    files: list[ImageFile]
    paths: list[tuple[str, str]]
    folders: list[tuple[str, ...]]
    notes: tuple[str, ...]


def find_images(
    title: str,
    images: str,
    rows: Sequence[NamedImage],
    unused_rows: Sequence[NamedImage] = (),
    *,
    is_chosen: bool = False,
) -> FoundImages:
    """Return the image file of each row.

    A value is a path relative to the folder of the table or to the source of the images, the last parts of such a
    path, or a file name without suffix, in any letter case. If no row matches, leading folders of the values are
    ignored, then their suffix, and at last `_aligned` is added, as RAF-DB's lists need. An existing file elsewhere is
    read from there; if the source of the images is chosen, from an absolute path only if the source has no such image.

    Args:
        title: the table, for messages.
        images: a folder or archive of images.
        rows: the values.
        unused_rows: values of rows that are not read; their images may be missing.
        is_chosen: whether a source description names the source of the images.

    Raises:
        DatasetError: if an image is missing or a value fits several images; the message names the first three.
    """
    outside = [_outside_path(row, images) for row in rows]
    elsewhere = [i for i, path in enumerate(outside) if is_chosen and path is not None and not _is_below(images, path)]
    absolute = [number for number in elsewhere if os.path.isabs(outside[number] or "")]
    inside = [number for number, path in enumerate(outside) if path is None]
    files_found = None
    if absolute and not inside:
        with suppress(DatasetError):  # the source of the images may have none
            files_found = scan(images, _EXPECTED)
    elif inside:
        files_found = scan(images, _EXPECTED)
    root = os.path.abspath(images)
    real_path = _real_path_in()
    notes: list[str] = []
    matches: dict[int, list[Member]] = {}
    if files_found:
        index = _Index(files_found.images)
        of_absolute, absolute_note = index.matches([rows[number] for number in absolute])
        of_inside, note = index.matches([*(rows[number] for number in inside), *unused_rows])
        notes += dict.fromkeys(one for one in (note, absolute_note) if one)
        matches = dict(zip(inside, of_inside, strict=False))
        _refuse_missing(title, images, [rows[number] for number, match in matches.items() if not match])
        matches |= {number: match for number, match in zip(absolute, of_absolute, strict=True) if match}
        _refuse_ambiguous(title, [(rows[number], match) for number, match in matches.items() if len(match) > 1])
        used = {member.parts for match in (*matches.values(), *of_inside[len(inside) :]) for member in match}
        read = {real_path(path) for path in outside if path is not None}
        unused = [
            member.name
            for member in index.members
            if member.parts not in used and real_path(os.path.join(root, *member.parts)) not in read
        ]
        notes += [Omission(f"{counted(unused)}: no row in the table; left out")] if unused else []
        notes += left_out([file for file in files_found.others if not file.name.lower().endswith(TABLE_SUFFIXES)])
    names = [display_name(rows[number].value) for number in elsewhere if number not in matches]
    notes += [f"{counted(names)}: read from elsewhere than {display_name(images)}"] if names else []
    files, paths = [], []
    for number, path in enumerate(outside):
        if number in matches:
            member = matches[number][0]
            files.append(member.file)
            paths.append(os.path.join(root, *member.parts))
        elif path is not None:
            files.append(_file_on_disk(path))
            paths.append(path)
    folders = [tuple(os.path.dirname(os.path.abspath(path)).split(os.sep)) for path in paths]
    common = len(os.path.commonprefix(folders))
    return FoundImages(files, [*map(real_path, paths)], [folder[common:] for folder in folders], tuple(notes))


def _real_path_in() -> Callable[[str], tuple[str, str]]:
    """Return a function that returns the folder of a file, without links and `..`, and its name.

    A file that is a link keeps its own name: in some stores equal images are links to one file, and are duplicates.
    """
    real: Callable[[str], str] = functools.cache(os.path.realpath)

    @functools.cache  # many images are in one folder
    def real_folder(folder: str) -> str:
        above, name = os.path.split(folder)
        if name in ("", ".", ".."):
            return real(folder)
        path = os.path.join(real(above), name)  # many folders are in one folder
        return real(path) if os.path.islink(path) else path

    def real_path(path: str) -> tuple[str, str]:
        folder, name = os.path.split(path)
        return real_folder(folder), name

    return real_path


def _is_below(folder: str, path: str) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def _refuse_missing(title: str, images: str, rows: Sequence[NamedImage]) -> None:
    if rows:
        names = counted([display_name(row.value) for row in rows], "rows")
        raise DatasetError(
            f"{title}: {names}: no such image below {display_name(images)}; add the images or remove the rows, or set "
            "`images:` in a source description (docs/data.md)"
        )


def _refuse_ambiguous(title: str, rows: Sequence[tuple[NamedImage, Sequence[Member]]]) -> None:
    if rows:
        names = [
            f"{display_name(row.value)} is {' or '.join(member.name for member in members[:2])}"
            for row, members in rows
        ]
        raise DatasetError(
            f"{title}: {counted(names, 'rows')}: several images have this name; write their paths relative to "
            "the table, or set `images:` in a source description (docs/data.md)"
        )


@dataclass(frozen=True)
class _Variant:
    """A way to compare a value with file names: ignoring some leading folders, and by file name or stem."""

    ignored_folders: int
    suffix: str | None
    note: str

    def parts(self, row: NamedImage) -> Parts:
        parts = row.parts[min(self.ignored_folders, len(row.parts) - 1) :]
        return parts if self.suffix is None else (*parts[:-1], _stem(parts[-1]) + self.suffix)


class _Index:
    """Image files by name."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = members
        self._parts = [_parts("/".join(member.parts)) for member in members]
        self._endings: dict[tuple[int, bool], dict[Parts, list[int]]] = {}
        self._stem_parts = [(*parts[:-1], _stem(parts[-1])) for parts in self._parts]

    def matches(self, rows: Sequence[NamedImage]) -> tuple[list[list[Member]], str]:
        """Return the images that fit each row under the first variant that fits any row, and a note."""
        for variant in _variants(max((len(row.parts) for row in rows), default=1) - 1):
            matches = [self._matches(row, variant) for row in rows]
            if any(matches):
                return [[self.members[number] for number in numbers] for numbers in matches], variant.note
        return [[] for _ in rows], ""

    def _matches(self, row: NamedImage, variant: _Variant) -> list[int]:
        parts = variant.parts(row)
        if not parts:
            return []
        numbers = self._by_ending(len(parts)).get(parts, []) if variant.suffix is None else []
        if not numbers and (variant.suffix is not None or not is_image_name(parts[-1])):
            numbers = self._by_ending(len(parts), is_stem=True).get(parts, [])
        if len(numbers) > 1:
            for is_better in self._preferences(row, parts):
                numbers = [number for number in numbers if is_better(number)] or numbers
        return numbers

    def _by_ending(self, length: int, *, is_stem: bool = False) -> dict[Parts, list[int]]:
        """Return the images by the last parts of their paths, with the file name or its stem."""
        if (length, is_stem) not in self._endings:
            images = self._endings[length, is_stem] = defaultdict(list)
            for number, parts in enumerate(self._stem_parts if is_stem else self._parts):
                images[parts[-length:]].append(number)
        return self._endings[length, is_stem]

    def _preferences(self, row: NamedImage, parts: Parts) -> tuple[Callable[[int], bool], ...]:
        below_table = (*map(_folded, row.folder), *parts[:-1])
        written = row.value.replace("\\", "/").rpartition("/")[2]
        return (
            lambda number: self._parts[number][:-1] == below_table,
            lambda number: self._parts[number][:-1] == parts[:-1],
            lambda number: row.split is not None and row.split in splits_in(self.members[number].parts[:-1]),
            lambda number: any(folder in _IMAGE_FOLDERS for folder in self._parts[number][:-1]),
            lambda number: self.members[number].parts[-1].startswith(written),
        )


def _variants(folders: int) -> list[_Variant]:
    variants = []
    for suffix, note in (
        (None, ""),
        ("", "images were matched by their names without suffix"),
        (ALIGNED, f"images were matched by their names followed by {ALIGNED}"),
    ):
        variants.append(_Variant(0, suffix, note))
        for ignored in range(1, folders + 1):
            also = f"images were matched without the first {ignored} parts of their paths"
            variants.append(_Variant(ignored, suffix, f"{note}; {also}" if note else also))
    return variants


def splits_in(names: Sequence[str]) -> set[str]:
    """Return the splits that names contain as a word, such as train for `train_images` and `trainLabels`."""
    words = (word for name in names for word in re.split(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])", name))
    return {split for split in map(split_called, words) if split}


def _parts(value: str) -> Parts:
    return tuple(part for part in _folded(value).replace("\\", "/").split("/") if part not in ("", "."))


def _folded(name: str) -> str:
    """Return a name in lower case, and in one of the Unicode forms in which it may be written: NFC."""
    return unicodedata.normalize("NFC", name).casefold()


def _stem(name: str) -> str:
    return name.rpartition(".")[0] if is_image_name(name) else name


def _outside_path(row: NamedImage, images: str) -> str | None:
    """Return the path of an existing file that is not below the folder of the images; None for any other value."""
    value = row.value.replace("\\", "/")
    if "\0" in value or not os.path.isdir(images):
        return None
    if os.path.isabs(value):
        return value if os.path.isfile(value) else None
    if ".." not in value:
        return None
    path = posixpath.normpath(posixpath.join(*row.folder, value))
    full = os.path.join(images, path)
    return full if path.startswith("../") and os.path.isfile(full) else None


def _file_on_disk(path: str) -> ImageFile:
    status = os.stat(path)
    refuse_large(display_name(path), status.st_size)
    return ImageFile(display_name(path), partial(_content, path), version_of(status))


def _content(path: str) -> bytes:
    try:
        return regular_file(Path(path)).read_bytes()
    except OSError as error:
        raise DatasetError(f"{display_name(path)}: cannot be read ({error.strerror})") from error
