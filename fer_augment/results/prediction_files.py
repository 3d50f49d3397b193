"""Files of predictions: csv, tsv, JSON Lines, parquet, npz, and tables in memory. Reading them needs no torch.

A file has one row per image. Its columns are found by name, see `prediction_table`.
"""

from __future__ import annotations

import csv
import json
import tokenize
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fer_augment.errors import PredictionError, excerpt, no_such_file
from fer_augment.results.prediction_table import SCORE_KINDS, Layout, PredictionTable, as_text, checked, layout_of

_ROWS_AT_ONCE = 4096
_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".npz")

TableLike: TypeAlias = Mapping[str, ArrayLike]
"""Columns by name: a mapping of arrays, or a pandas DataFrame."""


def read_table(
    source: Path | TableLike, columns: Mapping[str, str] | None = None, *, title: str = "", named: Iterable[str] = ()
) -> PredictionTable:
    """Read a file of predictions, or columns in memory.

    Args:
        source: a file with a suffix of csv, tsv, JSON Lines, parquet or npz, or columns by name.
        columns: names of columns by role, for columns that are not named after their role.
        title: name of the table, for messages; None for the path.
        named: roles whose value is in the name of the file: there may be no column for them.

    Raises:
        PredictionError: if the file cannot be read, a column is missing or doubled, or a value is missing or not
            finite; the message names file and row.
    """
    if not isinstance(source, Path):
        return _from_arrays(title or "the table", source, columns or {}, tuple(named))
    name = title or excerpt(str(source))
    suffix = source.suffix.lower()
    if suffix not in _SUFFIXES:
        raise PredictionError(f"{name}: not a file of predictions; expected {', '.join(_SUFFIXES)}")
    if not source.is_file():
        raise PredictionError(no_such_file(str(source)) if not source.exists() else f"{name}: is not a file")
    if suffix == ".npz":
        return _from_arrays(name, _read_npz(source, name), columns or {}, tuple(named))
    if suffix == ".parquet":
        return _from_parquet(source, name, columns or {}, tuple(named))
    opened = _json_lines if suffix in (".jsonl", ".ndjson") else _csv_lines
    header, rows = opened(source, name)
    layout = layout_of(name, header, columns or {}, tuple(named))
    return _from_rows(name, layout, header, rows)


# --- text files


Rows: TypeAlias = Iterator[tuple[int, Sequence[object]]]
"""Line number and values of each row."""


def _csv_lines(path: Path, title: str) -> tuple[list[str], Rows]:
    rows = _csv_rows(path, title)
    _, header = next(rows, (0, []))
    if not header:
        raise PredictionError(f"{title}: is empty; write a header and one row per image")
    return list(map(str, header)), rows


def _csv_rows(path: Path, title: str) -> Rows:
    with _text(path, title) as file:
        sample = file.readline(1 << 20)
        file.seek(0)
        delimiter = max(",;\t", key=sample.count)
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
        width = 0
        try:
            for fields in reader:
                if not fields:
                    continue
                width = width or len(fields)
                if len(fields) != width:
                    raise PredictionError(
                        f"{title}: line {reader.line_num}: {len(fields)} fields, but there are {width} columns; "
                        "correct the line"
                    )
                yield reader.line_num, fields
        except csv.Error as error:
            raise PredictionError(f"{title}: line {reader.line_num}: {error}; correct the line") from error


def _json_lines(path: Path, title: str) -> tuple[list[str], Rows]:
    records = _json_records(path, title)
    number, first = next(records, (0, {}))
    if not first:
        raise PredictionError(f"{title}: is empty; write one object per image")
    names = list(first)

    def rows() -> Rows:
        yield number, list(first.values())
        for line, record in records:
            if record.keys() != first.keys():
                different = sorted(record.keys() ^ first.keys())[0]
                raise PredictionError(
                    f"{title}: line {line}: other keys than the first line: {excerpt(different)!r}; write the same "
                    "keys on every line"
                )
            yield line, [record[name] for name in names]

    return names, rows()


def _json_records(path: Path, title: str) -> Iterator[tuple[int, dict[str, object]]]:
    with _text(path, title) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise PredictionError(f"{title}: line {number}: not JSON ({excerpt(str(error))})") from error
            if not isinstance(record, dict):
                raise PredictionError(f'{title}: line {number}: expected an object, such as {{"id": "1.png", …}}')
            yield number, record


@contextmanager
def _text(path: Path, title: str) -> Iterator[Any]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError as error:
        raise PredictionError(f"{title}: not UTF-8 text; save the file as UTF-8") from error
    except OSError as error:
        raise PredictionError(f"{title}: cannot be read ({error.strerror}); check the path") from error


@dataclass
class _Lines:
    """Line of each row; in most files, of the first row and those after it."""

    numbers: array[int] = field(default_factory=lambda: array("q"))

    def __call__(self, row: int) -> str:
        return f"line {self.numbers[row]}"


def _from_rows(title: str, layout: Layout, header: Sequence[str], rows: Rows) -> PredictionTable:
    places = [header.index(name) for name in layout.text_columns]
    scored = [header.index(name) for name in layout.score_columns]
    columns: list[list[str]] = [[] for _ in places]
    blocks: list[NDArray[np.float64]] = []
    block: list[list[object]] = []
    lines = _Lines()
    for number, fields in rows:
        lines.numbers.append(number)
        for column, place in zip(columns, places, strict=True):
            value = fields[place]
            column.append(value.strip() if isinstance(value, str) else as_text(value))
        if scored:
            block.append([fields[place] for place in scored])
            if len(block) == _ROWS_AT_ONCE:
                blocks.append(_numbers(title, layout, block, lines, len(lines.numbers) - len(block)))
                block = []
    if block:
        blocks.append(_numbers(title, layout, block, lines, len(lines.numbers) - len(block)))
    scores = np.concatenate(blocks) if blocks else None
    return checked(title, layout, dict(zip(layout.of_role, columns, strict=True)), scores, lines)


def _numbers(
    title: str, layout: Layout, block: Sequence[Sequence[object]], place: Callable[[int], str], first: int
) -> NDArray[np.float64]:
    try:
        numbers = np.array(block, dtype=np.float64)
        if numbers.ndim != 2:
            raise ValueError("a score is a list")
        return numbers
    except (TypeError, ValueError, OverflowError):
        for row, values in enumerate(block):
            for column, value in zip(layout.score_columns, values, strict=True):
                try:
                    float(value)  # type: ignore[arg-type] # whatever is in the file
                except (TypeError, ValueError, OverflowError):
                    shown = excerpt(str(value), 40)
                    raise PredictionError(
                        f"{title}: {place(first + row)}: {excerpt(column)} is not a number ({shown!r})"
                    ) from None
        raise


# --- arrays


def _row_number(row: int) -> str:
    return f"row {row}"


def _read_npz(path: Path, title: str) -> Mapping[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise PredictionError(f"{title}: not readable (not an npz file); save columns by name with numpy.savez")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                columns = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, SyntaxError, *_DAMAGED) as error:
        is_object = "allow_pickle" in str(error)
        reason = "an array of Python objects; save it with dtype str" if is_object else excerpt(str(error))
        raise PredictionError(f"{title}: not readable ({reason})") from error
    return columns


_DAMAGED = (zipfile.BadZipFile, NotImplementedError, zlib.error, tokenize.TokenError)


def _from_arrays(title: str, source: TableLike, columns: Mapping[str, str], named: Sequence[str]) -> PredictionTable:
    arrays = {str(name): _as_array(title, name, source[name]) for name in source.keys()}  # noqa: SIM118 # a DataFrame, too
    matrices = [kind for kind, name in SCORE_KINDS.items() if name in arrays]
    if len(matrices) > 1:
        raise PredictionError(f"{title}: there are arrays {' and '.join(SCORE_KINDS.values())}; keep one of them")
    expanded = dict(arrays)
    if matrices:
        scores = expanded.pop(SCORE_KINDS[matrices[0]])
        given = expanded.pop("classes", None)
        if scores.ndim != 2 or (given is not None and given.shape != scores.shape[1:]):
            shapes = f"{scores.shape} and {'none' if given is None else given.shape}"
            raise PredictionError(
                f"{title}: {SCORE_KINDS[matrices[0]]} must be a matrix with a row per image and a column per class, "
                f"and `classes` its class names; got shapes {shapes}"
            )
        names = [str(number) for number in range(scores.shape[1])] if given is None else list(map(as_text, given))
        expanded |= {f"{matrices[0]}_{name}": scores[:, place] for place, name in enumerate(names)}
        if len(set(names)) != len(names):
            raise PredictionError(f"{title}: classes: a name occurs twice")
        if "" in names:
            raise PredictionError(f"{title}: classes: name {names.index('')} is empty; write a name for each class")
    layout = layout_of(title, list(expanded), columns, named)
    for name in (*layout.text_columns, *layout.score_columns):
        if expanded[name].ndim != 1:
            raise PredictionError(f"{title}: {excerpt(name)} must have one dimension, got {expanded[name].ndim}")
    lengths = {name: len(expanded[name]) for name in (*layout.text_columns, *layout.score_columns)}
    if len(set(lengths.values())) > 1:
        (first, rows), *_ = lengths.items()
        other = next(name for name, length in lengths.items() if length != rows)
        raise PredictionError(f"{title}: {first} has {rows:,} rows, {excerpt(other)} {lengths[other]:,}")
    values = {role: _text_column(expanded[name]) for role, name in layout.of_role.items()}
    return checked(title, layout, values, _score_matrix(title, layout, expanded), _row_number)


def _score_matrix(title: str, layout: Layout, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float64] | None:
    """Return the columns of scores as a matrix; None without any."""
    scores = []
    for name in layout.score_columns:
        try:
            if arrays[name].dtype.kind not in "biufOUS":
                raise TypeError(f"dtype {arrays[name].dtype}")
            scores.append(arrays[name].astype(np.float64))
        except (TypeError, ValueError, OverflowError) as error:
            raise PredictionError(f"{title}: {excerpt(name)} is not a number ({excerpt(str(error))})") from error
    return np.stack(scores, axis=1) if scores else None


def _as_array(title: str, name: object, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # lists of different lengths, tensors with a gradient
        raise PredictionError(f"{title}: {excerpt(str(name))} cannot be an array ({excerpt(str(error))})") from error


def _text_column(array: NDArray[Any]) -> list[str]:
    if array.dtype.kind == "U":
        return [value.strip() for value in array.tolist()]
    if array.dtype.kind in "iu":
        return list(map(str, array.tolist()))
    return [as_text(value) for value in array.tolist()]


def _from_parquet(path: Path, title: str, columns: Mapping[str, str], named: Sequence[str]) -> PredictionTable:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise PredictionError(
            f"{title}: parquet files need pyarrow; install it: pip install 'fer_augment[parquet]'"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            layout = layout_of(title, file.schema_arrow.names, columns, named)
            table = file.read(columns=[*layout.text_columns, *layout.score_columns])
        values = {role: [as_text(v) for v in table.column(name).to_pylist()] for role, name in layout.of_role.items()}
        arrays = {name: table.column(name).to_numpy() for name in layout.score_columns}
    except (OSError, ValueError, TypeError, pyarrow.ArrowException) as error:
        raise PredictionError(f"{title}: not a readable parquet file ({excerpt(str(error))})") from error
    return checked(title, layout, values, _score_matrix(title, layout, arrays), _row_number)
