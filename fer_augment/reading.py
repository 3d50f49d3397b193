"""Reading data sources, and the plugins that do it; imports no torch."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from os import PathLike
from typing import TypeAlias

import numpy as np

from fer_augment.data.dataset import Splits
from fer_augment.data.image_source import DEMO, ArraySource, DataSource
from fer_augment.data.pixels import Channels, Fit, PixelSettings
from fer_augment.errors import DatasetError
from fer_augment.hooks.declarations import DatasetReader
from fer_augment.hooks.local_declarations import declaration_in_file
from fer_augment.hooks.plugin_manager import Catalog, Offer, installed_plugins
from fer_augment.recipe.files import local_plugin
from fer_augment.reports.console import print_warnings, progress_of


@dataclass(frozen=True)
class Source:
    """A data source, and the reader that reads it.

    Attributes:
        path: a path or a word such as `demo`.
        reader: the name of an installed reader, or `FILE.py:NAME`, which is used whatever it recognizes; None for the
            one that recognizes the source. A reader of another distribution comes before those of fer_augment.
    """

    path: str | PathLike[str]
    reader: str | None = None

    def __str__(self) -> str:
        """Return the path or word."""
        return str(self.path)


Data: TypeAlias = str | PathLike[str] | Source | Splits
"""A data source by path or word, such as `demo`, with or without its reader, or splits that are in memory.

A word is a text: `Path("demo")` is a folder.
"""


def read_data(
    data: Data,
    *,
    size: int | tuple[int, int] | None = None,
    fit: Fit | None = None,
    channels: Channels | None = None,
    progress: bool = True,
) -> Splits:
    """Read a data source with the reader that recognizes it.

    Args:
        data: a path, a word such as `demo`, or `Splits`.
        size: height and width of all images; None keeps those of the source.
        fit: how images of another aspect ratio are fitted: `crop`, `pad` or `stretch`; None is `crop`.
        channels: `gray`, `color` or `auto`; None is `auto`: color if any image is.
        progress: whether to show progress and warnings on stderr.

    Raises:
        DatasetError: if no reader or more than one recognizes the source, the source is invalid, or there is no such
            size, fit or color.
    """
    settings = PixelSettings((size, size) if isinstance(size, int | np.integer) else size, fit, channels)
    return splits_of(open_data(data, progress=progress), settings, progress=progress)


def open_data(data: Data, *, progress: bool = True) -> DataSource:
    """Open a data source; image files are not decoded yet.

    Args:
        data: a path, a word such as `demo`, or `Splits`.
        progress: whether to show progress and warnings on stderr.

    Raises:
        DatasetError: if no reader or more than one recognizes the source, or the source is invalid or no source.
    """
    catalog = loaded_plugins(quiet=not progress)
    if isinstance(data, Splits):
        return ArraySource(data)
    source, reader = (data.path, data.reader) if isinstance(data, Source) else (data, None)
    if not isinstance(source, str | PathLike):
        raise DatasetError(
            f"data must be a path, a word such as 'demo', or Splits, not {type(source).__name__}; for arrays see "
            "ImageDataset.from_arrays"
        )
    with progress_of(f"reading {source}", quiet=not progress) as report:
        return catalog.open(_as_text(source), report, reader=_in_file(reader) if reader else None)


def _as_text(source: str | PathLike[str]) -> str:
    """Return a path or word; a path object is never the word `demo`, but a folder of this name: pathlib drops `./`."""
    text = str(source)
    return os.path.join(os.curdir, text) if text == DEMO and not isinstance(source, str) else text


def _in_file(reader: str) -> str | Offer[DatasetReader]:
    """Return the reader of a file, `FILE.py:NAME`, or the name of an installed one.

    Raises:
        PluginError: if the file cannot be executed, or declares no such reader.
    """
    local = local_plugin(reader)
    if local is None:
        return reader
    file, name = local
    return Offer("dataset reader", name, declaration_in_file(file, "dataset reader", name), f"file {file.name}", "")


def splits_of(source: DataSource, settings: PixelSettings, *, progress: bool = True) -> Splits:
    """Return the splits of an open source, with images in a size and color.

    Raises:
        DatasetError: if an image cannot be decoded, or the settings do not fit the images.
    """
    with progress_of(f"decoding {source.description}", quiet=not progress) as report:
        return source.splits(settings, report)


def loaded_plugins(*, quiet: bool = False, again: bool = False) -> Catalog:
    """Return what all installed plugins offer; warn of those that could not be loaded, or whose import takes long.

    Args:
        quiet: whether to show no warnings.
        again: whether to repeat warnings that this process has shown already.
    """
    catalog = installed_plugins()
    if again:
        _warn_once.cache_clear()
    if not quiet:
        _warn_once((*catalog.problems, *catalog.slow))
    return catalog


@functools.cache
def _warn_once(problems: tuple[str, ...]) -> None:
    print_warnings(problems)
