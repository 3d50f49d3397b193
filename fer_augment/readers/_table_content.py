"""A table that is opened: names of its columns, and its values as text, read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import TypeAlias

from fer_augment import DatasetError, ImageFile

SAMPLE = 1000
"""Rows that are read to find out what the columns of a table contain."""

ReadRows: TypeAlias = Callable[[Sequence[str]], Iterator[tuple[str, ...]]]
ReadFiles: TypeAlias = Callable[[], list[ImageFile]]


@dataclass(frozen=True, eq=False)
class Table:
    """A table of images and labels.

    Attributes:
        name: its path, for messages.
        columns: names of its columns.
        rows: returns the values of some columns, row by row; empty text for no value; raises DatasetError.
        class_names: by column with class numbers, the names of the classes, in order.
        image_files: by column that contains images, a function that returns one image file for each row.
    """

    name: str
    columns: tuple[str, ...]
    rows: ReadRows
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    image_files: Mapping[str, ReadFiles] = field(default_factory=lambda: MappingProxyType({}))

    def sample(self, columns: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the values of some columns in the first rows."""
        return list(islice(self.rows(columns), SAMPLE))

    def readable_sample(self, columns: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the values of some columns in the first rows, up to one that cannot be read."""
        rows = []
        with suppress(DatasetError):
            for row in islice(self.rows(columns), SAMPLE):
                rows.append(row)  # noqa: PERF402 - an extended list would be empty after a fault
        return rows
