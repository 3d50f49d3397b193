"""Table files: one that is named, or those in a folder of images."""

from __future__ import annotations

import codecs
import functools
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TextIO

from fer_augment import DatasetError, Omission
from fer_augment.data.decoding import IMAGE_SUFFIXES
from fer_augment.data.image_files import LARGEST_FILE
from fer_augment.readers._array_names import has_arrays
from fer_augment.readers._conventions import counted, display_name, is_folder, no_such_file, version_of
from fer_augment.readers._image_members import (
    Member,
    archived_files,
    archived_names,
    is_archive,
    is_ignored,
    refuse_rewritten_images,
    scan,
)
from fer_augment.readers._table_columns import ColumnChoice, in_words, is_labeled, unknown_roles
from fer_augment.readers._table_content import Table
from fer_augment.readers._table_images import splits_in
from fer_augment.readers._table_parquet import parquet_table
from fer_augment.readers._table_text import (
    LIST_SUFFIXES,
    PARQUET_SUFFIXES,
    TABLE_SUFFIXES,
    TEXT_SUFFIXES,
    is_image_name,
    text_table,
)

_DEEPEST = 2
"""Folders between a source and its tables, such as `default/train/0000.parquet`."""
_IMAGE_NAMES = tuple(suffix.encode() for suffix in IMAGE_SUFFIXES)
_BESIDE_IMAGES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Tables of a Hugging Face `imagefolder`, which are in the folders of the images."""
_NO_CHOICE = ColumnChoice()
_UTF_8 = "utf-8-sig"
_TABLE_FOLDERS = ("label", "annotation", "groundtruth", "list", "split", "meta", "csv")
"""Words in the names of folders that contain tables of the images in other folders."""
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.parquet")
_NUMBERED = re.compile(r"\d+\.parquet")
_NO_TABLE = (
    "if it does not list the images, remove or rename it, or take the folders for classes with --reader image_files"
)
_CHOOSE = "pass one of them, or choose it with `table:` in a source description (docs/data.md)"


@dataclass(frozen=True)
class TableFile:
    """A file that contains a table.

    Attributes:
        path: the file.
        parts: folder names and file name, relative to the folder of the images.
    """

    path: Path
    parts: tuple[str, ...]

    @property
    def folder(self) -> tuple[str, ...]:
        """Its folder, relative to the folder of the images."""
        return self.parts[:-1]

    @property
    def name(self) -> str:
        """Its path relative to the folder of the images."""
        return "/".join(self.parts)

    @cached_property
    def split(self) -> str | None:
        """The split in its file name or, if there is none, in those of its folders."""
        for names in ([self.parts[-1]], self.folder):
            splits = splits_in(names)
            if len(splits) == 1:
                return splits.pop()
        return None

    def opened(self, encoding: str = _UTF_8) -> Table:
        """Open the table.

        Args:
            encoding: of a text file.

        Raises:
            DatasetError: if the file cannot be read.
        """
        if not self.path.is_file():
            raise DatasetError(no_such_file(str(self.path)))
        if self.name.lower().endswith(PARQUET_SUFFIXES):
            return parquet_table(self.path, self.name)
        return text_table(str(self.path), partial(_open_text, self.path, encoding))

    def start(self) -> bytes:
        """Return the first bytes."""
        with self.path.open("rb") as file:
            return file.read(2)


@dataclass(frozen=True)
class _TableInMemory:
    """A file in an archive that contains a table, whose images are not read.

    Attributes:
        name: the archive and the path in it.
        content: the bytes.
    """

    name: str
    content: bytes

    def opened(self, encoding: str = _UTF_8) -> Table:
        if self.name.lower().endswith(PARQUET_SUFFIXES):
            return parquet_table(Path(self.name), self.name, self.content)
        return text_table(self.name, lambda: io.TextIOWrapper(io.BytesIO(self.content), encoding, newline=""))

    def start(self) -> bytes:
        return self.content[:2]


@dataclass(frozen=True)
class TableFiles:
    """The tables of a source.

    Attributes:
        files: at least one table.
        images: folder or archive of the images.
        has_splits: whether each table is a split, or a part of one.
        notes: tables that are not read.
        are_images_chosen: whether a source description names the folder or archive of the images.
    """

    files: tuple[TableFile, ...]
    images: str
    has_splits: bool = False
    notes: tuple[str, ...] = ()
    are_images_chosen: bool = False


def is_table_file(source: str) -> bool:
    """Return whether a source is named like a table; a `.txt` file must also contain one; never raises."""
    name = source.lower()
    if os.path.isdir(source) or not name.endswith(TABLE_SUFFIXES):
        return False
    path = Path(source)
    return not name.endswith(LIST_SUFFIXES) or _is_labeled(TableFile(path, (path.name,)))


def named_table(path: Path) -> TableFiles:
    """Return a table that is passed by its path; images are below its folder.

    If this folder is one of tables, such as RAF-DB's `EmoLabel`, images are below the folder above.
    """
    file = TableFile(path, (path.name,))
    shard = _shard(file)
    count = int(shard[3]) if shard else 1
    note = Omission(
        f"{display_name(path.name)} is one of {count} files, the others are not read; pass the folder to read all"
    )
    folder = path.parent
    is_text = file.name.lower().endswith(TEXT_SUFFIXES)
    if path.is_file() and is_text and _is_folder_of_tables(folder):
        file = TableFile(path, (folder.name, path.name))
        folder = folder.parent
    return TableFiles((file,), str(folder), notes=(note,) if count > 1 else ())


def _is_folder_of_tables(folder: Path) -> bool:
    """Return whether a folder is named like one of tables, and contains nothing else."""
    is_named = any(word in folder.name.lower() for word in _TABLE_FOLDERS)
    names = [other.name for other in folder.iterdir()] if is_named else []
    return is_named and all(name.lower().endswith(TABLE_SUFFIXES) or is_ignored(name) for name in names)


def has_tables(source: str) -> bool:
    """Return whether a folder, or an archive of images, contains a table of images and labels; never raises.

    A table that cannot be read may be one, and reading it says what is wrong.
    """
    try:
        if os.path.isdir(source):
            return is_folder(source) and not has_arrays(source) and any(map(_is_labeled, _table_files(Path(source))))
        archived = _archived_tables(source)
        return bool(archived.labeled or archived.fault)
    except (DatasetError, OSError, ValueError):
        return False


def tables_of(source: str, choice: ColumnChoice = _NO_CHOICE) -> TableFiles:
    """Return the tables of a folder, see `tables_in`, or a table that is passed by its path.

    Raises:
        DatasetError: if the folder has no such tables, or the source is an archive that has tables.
    """
    if os.path.isdir(source):
        return tables_in(source, choice)
    archived = _archived_tables(source)
    if archived.fault:
        raise DatasetError(archived.fault)
    if archived.labeled:
        refuse_rewritten_images(source, scan(source).others)
        raise DatasetError(
            f"{display_name(source)}: {counted(archived.labeled, 'tables')}: columns of images and labels, which are "
            "not read in an archive; unpack it and pass the folder, or take the folders for classes with --reader "
            "image_files"
        )
    return named_table(Path(source))


def tables_in(source: str, choice: ColumnChoice = _NO_CHOICE) -> TableFiles:
    """Return the tables of a folder: one table, one for each split, or the shards of these.

    Args:
        source: the folder.
        choice: columns chosen by name.

    Raises:
        DatasetError: if there is no table with these columns, one cannot be read, or there are several and their names
            are not those of splits.
    """
    files = list(_table_files(Path(source)))
    labeled = [file for file in files if _has_labels(file, choice)] or files[: len(files) == 1]
    if not labeled:
        reason = f"{_listed(files)}: no columns of images and labels" if files else "no table found"
        raise DatasetError(f"{display_name(source)}: {reason}; set `table:` in a source description (docs/data.md)")
    chosen = [file for file in labeled if "submission" not in file.parts[-1].lower()] or labeled
    others = [file.name for file in files if file not in chosen]
    left_out = [display_name(name) for name in others if not name.lower().endswith(LIST_SUFFIXES)]
    note = Omission(f"{counted(left_out, 'tables')}: no columns of images and labels; not read")
    by_split = defaultdict(list)
    for file in chosen:
        by_split[file.split].append(file)
    if len(by_split) > 1 and None in by_split:
        raise _ambiguous(source, chosen)
    for of_split in by_split.values():
        _refuse_different(source, of_split)
    return TableFiles(tuple(chosen), source, len(by_split) > 1, (note,) if left_out else ())


def is_table(file: Member) -> bool:
    """Return whether a file of a source is named like a table, rather than a list, which may be any text."""
    name = file.parts[-1].lower()
    return file.is_regular and name.endswith(TABLE_SUFFIXES) and not name.endswith(LIST_SUFFIXES)


def notes_on_tables(source: str, tables: Sequence[Member]) -> tuple[Omission, ...]:
    """Return a note on the tables of a folder or archive whose folders are taken for classes, if there are any."""
    names = [file.name for file in tables]
    columns = "columns: {image: NAME, label: NAME}"
    if len(names) != 1:
        choose = "if one lists the images, choose it in a source description (docs/data.md)"
        note = Omission(f"{counted(names, 'tables')}: left out; {choose}: table: FILE, {columns}")
        return (note,) if names else ()
    try:
        file = _table_file(Path(source), tables[0].parts) if os.path.isdir(source) else _read(source, tables[0])
        table = _opened(file) if file else None
    except DatasetError:
        table = None
    if table is None:
        return (Omission(f"{names[0]}: a table that cannot be read; left out"),)
    unknown = " or ".join(unknown_roles(table))
    if not unknown:
        note = Omission(
            f"{names[0]}: a table of images and labels; left out; to read it, choose it in a source description "
            f"(docs/data.md): table: {names[0]}"
        )
        return (note,)
    note = Omission(
        f"{names[0]}: a table, but none of its columns ({in_words(table.columns)}) is known as {unknown}; left out; if "
        f"it lists the images, name its columns in a source description (docs/data.md): {columns}"
    )
    return (note,)


def _table_file(root: Path, parts: tuple[str, ...]) -> TableFile:
    return TableFile(root.joinpath(*parts), parts)


def _table_files(root: Path) -> Iterator[TableFile]:
    """Find the tables of a folder, in folders without images, or beside images under a usual name; sorted by name."""
    for parts in sorted(_table_parts(root, ())):
        yield _table_file(root, parts)


def _table_parts(root: Path, above: tuple[str, ...]) -> list[tuple[str, ...]]:
    folders, tables = [], []
    with os.scandir(root.joinpath(*above)) as entries:
        for entry in entries:
            if above and is_image_name(entry.name):
                return _beside_images(root, above)
            if is_ignored(entry.name):
                continue
            if entry.name.lower().endswith(TABLE_SUFFIXES) and entry.is_file():
                tables.append((*above, entry.name))
            elif len(above) < _DEEPEST and entry.is_dir():
                folders.append((*above, entry.name))
    return [*tables, *(table for folder in folders for table in _table_parts(root, folder))]


def _beside_images(root: Path, folder: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [(*folder, name) for name in _BESIDE_IMAGES if root.joinpath(*folder, name).is_file()]


@dataclass(frozen=True)
class _Archived:
    """The tables of an archive.

    Attributes:
        labeled: names of the tables of images and labels.
        fault: why a table cannot be read; empty if all can.
    """

    labeled: tuple[str, ...] = ()
    fault: str = ""


def _archived_tables(source: str) -> _Archived:
    """Return the tables of images and labels in an archive of images; none for any other file.

    Raises:
        DatasetError: if the archive cannot be read.
    """
    if not is_archive(source) or not os.path.isfile(source):
        return _Archived()
    return _tables_in_archive(source, version_of(os.stat(source)))


@functools.lru_cache(maxsize=64)  # each reader asks
def _tables_in_archive(source: str, version: str) -> _Archived:
    """Return the tables, those that `_table_files` would find in the unpacked folder.

    Args:
        source: the archive; folders that all of its files are in are ignored.
        version: changes with its content; a key of the cache.
    """
    if not any(name.lower().endswith(TABLE_SUFFIXES) for name in archived_names(source)):
        return _Archived()  # as most archives of images, which have many files
    files = list(archived_files(source))
    tables = [file for file in files if file.is_regular and file.parts[-1].lower().endswith(TABLE_SUFFIXES)]
    if not tables or len(tables) == len(files):
        return _Archived()
    of_images = {file.parts[:-1] for file in files if is_image_name(file.parts[-1])}
    leading = len(os.path.commonprefix([file.parts[:-1] for file in files]))
    labeled = []
    for file in tables:
        folder, name = file.parts[:-1], file.parts[-1]
        is_beside_images = folder in of_images and len(folder) > leading
        if name not in _BESIDE_IMAGES if is_beside_images else len(folder) - leading > _DEEPEST:
            continue
        try:
            table = _read(source, file)
            if table and _has_labels(table):
                labeled.append(file.name)
        except DatasetError as error:
            return _Archived(fault=str(error))
    return _Archived(tuple(sorted(labeled)))


def _read(source: str, file: Member) -> _TableInMemory | None:
    """Read a table of an archive, the source; return None for one that is too large, or seems to be no list.

    There may be as many text files as images, such as one with the boxes of each.

    Raises:
        DatasetError: if it is damaged, unless it may be no list.
    """
    is_list = file.parts[-1].lower().endswith(LIST_SUFFIXES)
    try:
        head = file.content.head().lower()
        if file.size > LARGEST_FILE or (is_list and not any(name in head for name in _IMAGE_NAMES)):
            return None
        return _TableInMemory(f"{source}: {'/'.join(file.parts)}", file.content())
    except DatasetError:
        if is_list:
            return None
        raise


def _is_labeled(file: TableFile) -> bool:
    """Return whether a table has columns of images and labels, or cannot be read, so that it may have them."""
    try:
        return _has_labels(file)
    except DatasetError:
        return True


def _has_labels(file: TableFile | _TableInMemory, choice: ColumnChoice = _NO_CHOICE) -> bool:
    """Return whether a table has columns of images and labels.

    So may one in another encoding, or with a fault after its first line; reading it says what is wrong.

    Raises:
        DatasetError: if the table cannot be opened, as one with a fault in its first line, or a parquet file that is
            damaged or needs pyarrow, which is missing; not for a list, as a text file may be anything.
    """
    try:
        return is_labeled(_opened(file), choice)
    except DatasetError as error:
        if file.name.lower().endswith(LIST_SUFFIXES):
            return False
        raise DatasetError(f"{error}; {_NO_TABLE}") from error


def _opened(file: TableFile | _TableInMemory) -> Table:
    """Open a table to see its columns, also one that is not UTF-8.

    Raises:
        DatasetError: see `_has_labels`.
    """
    try:
        return file.opened()
    except DatasetError as error:
        if not isinstance(error.__cause__, UnicodeDecodeError):
            raise
        return file.opened(_other_encoding(file.start()))


def _other_encoding(start: bytes) -> str:
    """Return the encoding of text that is not UTF-8, by its first two bytes; any bytes are text in Latin-1."""
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "latin-1"


def _open_text(path: Path, encoding: str) -> TextIO:
    return path.open(encoding=encoding, newline="")


def _refuse_different(source: str, files: Sequence[TableFile]) -> None:
    """Refuse tables of one split, unless they are its shards, and all of them."""
    if len(files) == 1 and not _shard(files[0]):
        return
    series = {(file.folder, _series(file)) for file in files}
    if len(series) > 1 or None in {name for _, name in series}:
        raise _ambiguous(source, files)
    shards = [shard for shard in map(_shard, files) if shard]
    missing = sorted(set(range(int(shards[0][3]))) - {int(shard[2]) for shard in shards}) if shards else []
    if missing:
        names = [f"{shards[0][1]}-{number:05}-of-{shards[0][3]}.parquet" for number in missing]
        raise DatasetError(f"{display_name(source)}: {counted(names, 'files')}: missing; download the whole set")


def _shard(file: TableFile) -> re.Match[str] | None:
    return _SHARD.fullmatch(file.parts[-1])


def _series(file: TableFile) -> str | None:
    """Return what the names of all shards of a table have in common; None for the name of a whole table."""
    shard = _shard(file)
    return f"{shard[1]}-of-{shard[3]}" if shard else "" if _NUMBERED.fullmatch(file.parts[-1]) else None


def _ambiguous(source: str, files: Sequence[TableFile]) -> DatasetError:
    return DatasetError(f"{display_name(source)}: {_listed(files)}: {_CHOOSE}")


def _listed(files: Sequence[TableFile]) -> str:
    return counted([display_name(file.name) for file in files], "tables")
