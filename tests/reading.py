"""Read data sources with the built-in readers, and check the result or the error message."""

from __future__ import annotations

import numpy as np
import pytest

from fer_augment import DatasetError
from fer_augment.hooks.plugin_manager import collect
from fer_augment.readers import csv_file, demo, description, idx_files, image_files, npy_folder, npz_file, table

MODULES = (csv_file, image_files, npy_folder, npz_file, idx_files, table, description, demo)
READERS = collect([(module.__name__, "fer_augment", module) for module in MODULES])


def read(source, progress=lambda done, total: None):
    return READERS.read(str(source), progress)


def message_of(source) -> str:
    """Return the message of the DatasetError raised by reading a source."""
    with pytest.raises(DatasetError) as caught:
        read(source)
    message = str(caught.value)
    assert message.isprintable(), "one line, no control characters"
    return message


def assert_message(source, expected) -> None:
    """Reading the source raises an error whose message contains the source and all expected texts."""
    message = message_of(source)
    for text in (str(source), *expected):
        assert text in message


def assert_source_rows(splits) -> None:
    """All rows are source rows: every row is its own origin, without a step."""
    for part in splits.parts.values():
        np.testing.assert_array_equal(part.origins, np.arange(len(part))[:, None])
        assert not part.step.any()
        assert not part.copies.any()
