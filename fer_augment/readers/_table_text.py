"""Tables in text files: csv and tsv, JSON Lines, and lists of lines with a file name and a label."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TextIO, TypeAlias

from fer_augment import DatasetError
from fer_augment.data.decoding import IMAGE_SUFFIXES
from fer_augment.readers._conventions import display_name
from fer_augment.readers._table_content import Table

JSON_SUFFIXES = (".jsonl", ".ndjson")
LIST_SUFFIXES = (".txt", ".lst")
TEXT_SUFFIXES = (".csv", ".tsv", *JSON_SUFFIXES, *LIST_SUFFIXES)
PARQUET_SUFFIXES = (".parquet",)
TABLE_SUFFIXES = (*TEXT_SUFFIXES, *PARQUET_SUFFIXES)
LIST_COLUMNS = ("image", "label")
"""Columns of a table without a header."""

_DELIMITERS = ",;\t|"
_SEPARATOR = re.compile(r'"?sep=(.)"?')
_LONGEST_LINE = 1 << 20
"""Characters of the first line that are looked at; other files may have no lines."""

Open: TypeAlias = Callable[[], TextIO]
"""Opens a text file in UTF-8, without translation of line ends."""


def text_table(name: str, open_file: Open) -> Table:
    """Open a table in a text file; its suffix determines the format.

    Args:
        name: its path, for messages.
        open_file: opens the file; called for each pass over the rows.

    Raises:
        DatasetError: if the file cannot be read or is empty; for a fault in a later line, reading its rows raises it.
    """
    file = _TextFile(name, open_file)
    if name.lower().endswith(JSON_SUFFIXES):
        return _json_lines(file)
    file, first, delimiter = _without_preamble(file)
    if "\0" in first:
        raise file.error(1, "has NUL characters, like UTF-16 without a byte order mark; save the file as UTF-8")
    is_tsv = name.lower().endswith(".tsv") and "\t" in first
    delimiter = "\t" if is_tsv else delimiter or _delimiter(first)
    if name.lower().endswith(LIST_SUFFIXES) and not first.count(delimiter):
        if not _is_list_line(first):
            raise file.error(1, "expected the name of an image file, white space and a label")
        return Table(file.title, LIST_COLUMNS, lambda columns: _list_rows(file, columns))
    return _csv(file, delimiter)


def _without_preamble(file: _TextFile) -> tuple[_TextFile, str, str]:
    """Return the file without the lines above its header, the first line of the rest, and the delimiter if one is said.

    These lines are comments, and Excel's `sep=;`, which names the delimiter. The last line that starts with `#` is the
    header if it has as many fields as the next one; if all lines start so, none is a comment.
    """
    delimiter = ""
    marked: list[tuple[int, str]] = []  # with `#`
    for number, line in file.lines():
        if said := _SEPARATOR.fullmatch(line.strip("\r\n")):
            delimiter = said[1]
        elif line.startswith("#") and not _is_list_line(line):
            marked.append((number, line))
        else:
            above, header = marked[-1] if marked else (number, line)
            mark = delimiter or _delimiter(header)
            above, header = (above, header) if 0 < header.count(mark) == line.count(mark) else (number, line)
            return replace(file, skipped=above - 1), header, delimiter
    if not marked:
        raise DatasetError(f"{file.title}: is empty; re-download or remove it")
    first, header = marked[0]
    return replace(file, skipped=first - 1), header, delimiter


def _delimiter(line: str) -> str:
    return max(_DELIMITERS, key=line.count)


def is_image_name(value: str) -> bool:
    """Return whether a value is a file name, with the suffix of an image, rather than an id."""
    return value.lower().endswith(IMAGE_SUFFIXES)


def _is_list_line(line: str) -> bool:
    """Return whether a line is the name of an image file, white space, and a label."""
    words = line.rsplit(maxsplit=1)
    return len(words) == 2 and is_image_name(words[0])


@dataclass(frozen=True)
class _TextFile:
    """A text file.

    Attributes:
        name: its path, for messages.
        open_file: opens the file.
        skipped: lines above the header, or above the first row.
    """

    name: str
    open_file: Open
    skipped: int = 0

    @property
    def title(self) -> str:
        return display_name(self.name)

    def error(self, line: int, reason: str) -> DatasetError:
        return DatasetError(f"{self.title}: line {line}: {reason}")

    @contextmanager
    def opened(self) -> Iterator[TextIO]:
        try:
            with self.open_file() as file:
                for _ in range(self.skipped):
                    file.readline()
                yield file
        except UnicodeDecodeError as error:
            raise DatasetError(f"{self.title}: not UTF-8 text; save the file as UTF-8") from error
        except OSError as error:
            raise DatasetError(f"{self.title}: cannot be read ({error.strerror}); check the path") from error

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield the first lines that are not empty, and their numbers; at most the start of a long one."""
        with self.opened() as file:
            number = 0
            while line := file.readline(_LONGEST_LINE):
                number += 1
                if line.strip():
                    yield number, line


def _csv(file: _TextFile, delimiter: str) -> Table:
    header = next(_csv_lines(file, delimiter))[1]
    has_header = not (len(header) == len(LIST_COLUMNS) and is_image_name(header[0]))
    header[0] = header[0].lstrip("# ") if has_header else header[0]
    columns = tuple(header) if has_header else LIST_COLUMNS

    def rows(wanted: Sequence[str]) -> Iterator[tuple[str, ...]]:
        positions = [columns.index(name) for name in wanted]
        lines = _csv_lines(file, delimiter)
        if has_header:
            next(lines)
        for number, fields in lines:
            if len(fields) != len(columns):
                raise file.error(
                    number, f"{len(fields)} fields, but there are {len(columns)} columns; correct the line"
                )
            yield tuple(fields[position] for position in positions)

    return Table(file.title, columns, rows)


def _csv_lines(file: _TextFile, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each line that is not empty, without white space at their ends, and its number."""
    with file.opened() as text:
        reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True)
        start = 1
        try:
            for fields in reader:
                if any(fields):
                    yield file.skipped + reader.line_num, [field.strip() for field in fields]
                start = reader.line_num + 1
        except csv.Error as error:
            reason = f"{error} (a quote is not closed)" if "end of data" in str(error) else str(error)
            raise file.error(file.skipped + start, f"{reason}; correct the line") from error


def _list_rows(file: _TextFile, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    positions = [LIST_COLUMNS.index(name) for name in columns]
    with file.opened() as text:
        for number, line in enumerate(text, start=file.skipped + 1):
            words = line.rsplit(maxsplit=1)
            if len(words) == 1:
                raise file.error(number, f"{display_name(words[0])!r} has no label; expected a file name and a label")
            if words:
                yield tuple(words[position].strip() for position in positions)


def _json_lines(file: _TextFile) -> Table:
    columns: dict[str, None] = {}
    try:
        for _, record in _json_records(file):
            columns.update(dict.fromkeys(record))
    except DatasetError:
        if not columns:
            raise  # else reading the rows raises it
    if not columns:
        raise DatasetError(f"{file.title}: is empty; re-download or remove it")

    def rows(wanted: Sequence[str]) -> Iterator[tuple[str, ...]]:
        for number, record in _json_records(file):
            try:
                yield tuple(value_as_text(record.get(name)) for name in wanted)
            except TypeError as error:
                raise file.error(number, f"{error}; correct the line") from error

    return Table(file.title, tuple(columns), rows)


def _json_records(file: _TextFile) -> Iterator[tuple[int, dict[str, Any]]]:
    with file.opened() as text:
        for number, line in enumerate(text, start=1):
            if line.isspace():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise file.error(number, f"not JSON ({error}); correct the line") from error
            if not isinstance(record, dict):
                raise file.error(number, 'expected an object, such as {"image": "1.png", "label": "cat"}')
            yield number, record


def value_as_text(value: object) -> str:
    """Return a value of a table as text; None and NaN are empty text.

    Raises:
        TypeError: if the value is a list or a mapping.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return "" if value != value else str(value).strip()  # NaN is no value
    raise TypeError(f"expected text or a number, got a {type(value).__name__}")
