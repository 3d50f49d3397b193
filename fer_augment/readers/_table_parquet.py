"""Tables in parquet files, with images as paths or as bytes; needs pyarrow, the extra `parquet`."""

from __future__ import annotations

import io
import json
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from fer_augment import DatasetError, ImageFile
from fer_augment.readers._conventions import counted, display_name, excerpt, version_of
from fer_augment.readers._table_content import Table
from fer_augment.readers._table_text import value_as_text

_ROWS_AT_ONCE = 1024
"""Rows without image bytes that are read at once."""
_BUFFER = 1 << 20
"""Bytes that are read at once, instead of a whole row group."""
_IMAGES_AT_ONCE = 64
_IMAGES_KEPT = (2 + min(8, os.cpu_count() or 1)) * _IMAGES_AT_ONCE
"""Images whose bytes are kept: threads that decode ask for rows in nearly, but not exactly, ascending order."""
_MOST_IMAGES_KEPT = 16 * _IMAGES_KEPT
_BYTES_KEPT = 1 << 28
"""Upper bound of the bytes kept beyond `_IMAGES_KEPT` images."""
_OPEN_GROUPS = 4
"""Row groups that are read at the same time."""


def parquet_table(path: Path, name: str, content: bytes | None = None) -> Table:
    """Open a parquet file.

    Args:
        path: the file.
        name: its name relative to the source, for the names of its images.
        content: its content if it is in an archive, whose images are not read.

    Raises:
        DatasetError: if pyarrow is not installed, or the file cannot be read.
    """
    title = display_name(str(path))
    file = _ParquetFile(path, name, title, _pyarrow(title), content)
    schema = file.schema()
    features = _hugging_face_features(schema)
    images = {column: partial(file.image_files, column) for column in schema.names if file.has_bytes(schema, column)}
    classes = {
        column: tuple(map(str, feature["names"]))
        for column, feature in features.items()
        if feature.get("_type") == "ClassLabel" and feature.get("names") and column in schema.names
    }
    return Table(file.title, tuple(schema.names), partial(file.rows, classes), classes, images)


def _pyarrow(title: str) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DatasetError(
            f"{title}: parquet files need pyarrow; install it: pip install 'fer_augment[parquet]'"
        ) from error
    return pyarrow


def _hugging_face_features(schema: Any) -> Mapping[str, Mapping[str, Any]]:
    """Return the features that Hugging Face `datasets` writes to the schema, by column; none elsewhere."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, LookupError, TypeError):
        return {}
    return {column: feature for column, feature in dict(features).items() if isinstance(feature, dict)}


@dataclass(frozen=True)
class _ParquetFile:
    path: Path
    name: str
    title: str
    pyarrow: Any
    content: bytes | None = None

    @property
    def faults(self) -> tuple[type[Exception], ...]:
        return OSError, ValueError, self.pyarrow.ArrowException

    def opened(self) -> Any:
        """Open the file for reading.

        Raises:
            DatasetError: if it is missing or damaged.
        """
        try:
            source = self.path if self.content is None else io.BytesIO(self.content)
            return self.pyarrow.parquet.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False)
        except self.faults as error:
            raise self.error(error) from error

    def error(self, error: Exception) -> DatasetError:
        reason = excerpt(str(error))
        return DatasetError(f"{self.title}: not a readable parquet file ({reason}); re-download it")

    def schema(self) -> Any:
        with self.opened() as file:
            return file.schema_arrow

    def has_bytes(self, schema: Any, column: str) -> bool:
        """Return whether a column contains image files as bytes, alone or in a struct with a field `bytes`."""
        types, kind = self.pyarrow.types, schema.field(column).type
        if types.is_struct(kind):
            position = kind.get_field_index("bytes")
            return position >= 0 and self.is_binary(kind.field(position).type)
        return self.is_binary(kind)

    def is_binary(self, kind: Any) -> bool:
        types = self.pyarrow.types
        return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))

    def rows(self, classes: Mapping[str, tuple[str, ...]], columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Yield the values of some columns; numbers of classes become their names."""
        with self.opened() as file:
            row = 0
            try:
                for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=list(columns)):
                    values = [batch.column(name).to_pylist() for name in columns]
                    for record in zip(*values, strict=True):
                        yield tuple(self.text(classes, *pair, row) for pair in zip(columns, record, strict=True))
                        row += 1
            except self.faults as error:
                raise self.error(error) from error

    def text(self, classes: Mapping[str, tuple[str, ...]], column: str, value: object, row: int) -> str:
        names = classes.get(column)
        try:
            if names is None or not isinstance(value, int):
                return value_as_text(value)
            return names[value] if value >= 0 else ""  # -1 is no label
        except (TypeError, IndexError) as error:
            reason = error if names is None else f"class {value} is outside 0..{len(names) - 1}"
            raise DatasetError(f"{self.title}: row {row}: column {display_name(column)!r}: {reason}") from error

    def image_files(self, column: str) -> list[ImageFile]:
        """Return the images of a column; their bytes are read when they are needed.

        Raises:
            DatasetError: if a row has no bytes.
        """
        with self.opened() as file:
            is_struct = self.pyarrow.types.is_struct(file.schema_arrow.field(column).type)
            groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
            paths = self.paths(file, column) if is_struct else None
        leaf = f"{column}.bytes" if is_struct else column
        starts = [0, *accumulate(group.num_rows for group in groups)]
        size, is_missing = 0, False
        for group in groups:
            for number in range(group.num_columns):
                chunk = group.column(number)
                if chunk.path_in_schema == leaf:
                    size += chunk.total_uncompressed_size
                    is_missing |= bool(chunk.statistics and chunk.statistics.null_count)
        if is_missing:
            self.refuse_missing_bytes(column, leaf)
        bytes_of = _ImageBytes(self, leaf, starts, size / max(1, starts[-1]))
        status = os.stat(self.path)
        version = version_of(status)
        names = self.image_names(starts[-1], paths)
        return [ImageFile(names[row], partial(bytes_of.row, row), f"{version} {row}") for row in range(starts[-1])]

    def paths(self, file: Any, column: str) -> list[str] | None:
        """Return the field `path` of a struct column; None if there is none."""
        if file.schema_arrow.field(column).type.get_field_index("path") < 0:
            return None
        batches = file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[f"{column}.path"])
        return [value_as_text(path) for batch in batches for path in batch.column(0).field("path").to_pylist()]

    def image_names(self, rows: int, paths: Sequence[str] | None) -> list[str]:
        """Return a unique name for each image: the file and its path, or the number of its row."""
        if paths and all(paths) and len(set(paths)) == rows:
            return [f"{self.name}: {display_name(path)}" for path in paths]
        return [f"{self.name}: row {row}" for row in range(rows)]

    def refuse_missing_bytes(self, column: str, leaf: str) -> None:
        with self.opened() as file:
            batches = file.iter_batches(batch_size=_IMAGES_AT_ONCE, columns=[leaf])
            flags = [not valid for batch in batches for valid in _leaf(batch).is_valid().to_pylist()]
        rows = [f"row {row}" for row, is_missing in enumerate(flags) if is_missing]
        raise DatasetError(
            f"{self.title}: {counted(rows, 'rows')}: no bytes in the column {display_name(column)!r}; "
            "remove these rows or re-download the file"
        )


class _ImageBytes:
    """Bytes of the images of a column, read in batches."""

    def __init__(self, file: _ParquetFile, leaf: str, starts: Sequence[int], mean_size: float) -> None:
        self._file, self._leaf, self._starts, self._mean_size = file, leaf, starts, mean_size
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Any] = OrderedDict()  # batches by their first row
        self._kept_rows = 0
        self._limit = _IMAGES_KEPT
        self._readers: OrderedDict[int, tuple[int, Iterator[Any]]] = OrderedDict()  # by row group: next row, batches

    def row(self, row: int) -> bytes:
        """Return the bytes of an image; may be called from several threads.

        Raises:
            DatasetError: if they cannot be read.
        """
        with self._lock:
            for start, batch in reversed(self._kept.items()):
                if start <= row < start + len(batch):
                    break
            else:
                start, batch = self._read_to(row)
            content = batch[row - start].as_py()
        if content is None:
            raise DatasetError(f"{self._file.title}: row {row}: has no image bytes; remove the row")
        return bytes(content)

    def _read_to(self, row: int) -> tuple[int, Any]:
        """Read the row group that contains a row, from where its last batch ended, up to this row."""
        group = bisect_right(self._starts, row) - 1
        position, batches = self._readers.pop(group, (None, iter(())))
        try:
            if position is None or position > row:
                if position is not None and self._limit * self._mean_size < _BYTES_KEPT:
                    self._limit = min(2 * self._limit, _MOST_IMAGES_KEPT)  # rows are asked for in another order
                position, batches = self._starts[group], self._batches(group)
            for batch in batches:
                start, position = position, position + len(batch)
                self._keep(start, batch)
                if row < position:
                    self._readers[group] = position, batches
                    while len(self._readers) > _OPEN_GROUPS:
                        self._readers.popitem(last=False)
                    return start, batch
        except self._file.faults as error:
            raise self._file.error(error) from error
        raise DatasetError(f"{self._file.title}: row {row} is missing; re-download the file")

    def _batches(self, group: int) -> Iterator[Any]:
        with self._file.opened() as file:
            for batch in file.iter_batches(
                _IMAGES_AT_ONCE, row_groups=[group], columns=[self._leaf], use_threads=False
            ):
                yield _leaf(batch)

    def _keep(self, start: int, batch: Any) -> None:
        self._kept_rows += 0 if start in self._kept else len(batch)
        self._kept[start] = batch
        self._kept.move_to_end(start)
        while self._kept_rows > self._limit:
            self._kept_rows -= len(self._kept.popitem(last=False)[1])


def _leaf(batch: Any) -> Any:
    """Return the bytes of a batch that was read with one column."""
    column = batch.column(0)
    return column.field("bytes") if hasattr(column, "field") else column
