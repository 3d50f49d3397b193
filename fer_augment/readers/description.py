"""Reader for source descriptions: YAML files that name images and a table, and change how they are read."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_augment import DatasetError, DatasetReader, ImageSource, Splits, hookimpl
from fer_augment.data.image_source import ArraySource
from fer_augment.data.splitting import SPLIT_ORDER
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.phases import ReportProgress
from fer_augment.readers import csv_file, table
from fer_augment.readers._conventions import counted, display_name, is_folder, no_such_file
from fer_augment.readers._table_files import TableFile, TableFiles, named_table, tables_of
from fer_augment.readers._voted_csv import csv_beside, read_voted_csv

if TYPE_CHECKING:
    from fer_augment.readers._description_file import DescriptionFile

SUFFIXES = (".yaml", ".yml")


@hookimpl
def register_dataset_readers() -> list[DatasetReader]:
    """Register the reader of source descriptions."""
    summary = "FILE.yaml that describes a source: images, table, columns, classes, size, split, group (docs/data.md)"
    return [DatasetReader("description", summary, recognizes, read)]


def recognizes(source: str) -> bool:
    """Return whether the source has the suffix `.yaml` or `.yml`."""
    return source.lower().endswith(SUFFIXES) and not is_folder(source)


def read(source: str, progress: ReportProgress) -> Splits | ImageSource:
    """Read the described source.

    Raises:
        DatasetError: if the description or the source is invalid.
    """
    from fer_augment.readers._description_file import read_description  # imports pydantic

    file = read_description(Path(source))
    settings, title = file.settings, display_name(source)
    images = None if settings.images is None else _existing(file, "images", settings.images)
    if images is not None and settings.table is not None and not settings.reader and csv_file.recognizes(images):
        return _voted_csv(file, images, settings.table, progress)
    tables = None if settings.reader else _tables(file, images)
    if tables and (pixels := csv_beside(tables)):
        return _voted_csv(file, str(pixels), os.path.relpath(tables.files[0].path, file.path.parent), progress)
    if tables:
        read_source = table.read_tables(title, tables, file.columns, file.classes, progress=progress)
    else:
        assert images is not None, "a description has images or a table"
        if settings.columns:
            raise DatasetError(f"{file.place('columns')}: {display_name(images)} has no table; add `table: FILE.csv`")
        opened = installed_plugins().open(images, progress, reader=settings.reader)
        if isinstance(opened, ArraySource):
            return _changed_arrays(file, opened)
        if not isinstance(opened, ImageSource):
            raise DatasetError(f"{file.place('images')}: {display_name(images)} cannot be changed by a description")
        read_source = file.classes.applied(opened)
    given = {SPLIT_ORDER[number] for number in np.unique(read_source.split[read_source.split >= 0])}
    ignored = ", or ignore them: columns: {split: null}" if tables else ""
    if settings.split and len(given) == len(SPLIT_ORDER):
        raise DatasetError(f"{file.place('split')}: the images have splits; remove this key{ignored}")
    if settings.split and "test" in settings.split.model_fields_set and "test" in given:
        raise DatasetError(f"{file.place('split')}: the images have a test split; remove test from this key{ignored}")
    if settings.group and tables and read_source.groups is not None:
        raise DatasetError(
            f"{file.place('group')}: the table has a column of groups, too; ignore it with columns: {{group: null}}, "
            "or remove this key"
        )
    groups = _groups(file, read_source) if settings.group else read_source.groups
    return replace(
        read_source,
        description=title,
        settings=settings.pixels.over(read_source.settings),
        splitting=settings.splitting if settings.split else read_source.splitting,
        groups=groups,
    )


def _existing(file: DescriptionFile, key: str, path: str) -> str:
    """Return a path that is relative to the description; refuse one that does not exist, and another description."""
    full = os.path.join(file.path.parent, path)
    if not os.path.exists(full):
        raise DatasetError(f"{file.place(key)}: {no_such_file(full)}")
    if recognizes(full):
        raise DatasetError(f"{file.place(key)}: {display_name(path)} is a description, too; name its images instead")
    return full


def _tables(file: DescriptionFile, images: str | None) -> TableFiles | None:
    """Return the tables of the source; None if another reader reads it."""
    if file.settings.table is None:
        if images is None or not (table.recognizes(images) or (file.settings.columns and os.path.isdir(images))):
            return None
        return replace(tables_of(images, file.columns), are_images_chosen=os.path.isdir(images))
    path = _existing(file, "table", file.settings.table)
    if os.path.isdir(path) or csv_file.recognizes(path):
        raise DatasetError(
            f"{file.place('table')}: {display_name(path)} is no table of image names; set it as `images:`"
        )
    if images is None:
        return named_table(Path(path))
    relative = Path(os.path.relpath(path, images)).parts if os.path.isdir(images) else ("..",)
    table_file = TableFile(Path(path), relative if relative[0] != ".." else (Path(path).name,))
    return TableFiles((table_file,), images, are_images_chosen=True)


def _changed_arrays(file: DescriptionFile, source: ArraySource) -> Splits:
    """Return images in memory with other classes, in their own size and color; see `Splits.pixels`."""
    _refuse_splitting(file, file.settings.images or source.description)
    splits = file.classes.applied_to_splits(source.original)
    return replace(splits, pixels=file.settings.pixels.over(splits.pixels))


def _voted_csv(file: DescriptionFile, pixels: str, table_path: str, progress: ReportProgress) -> Splits:
    """Return the images of a csv file of FER2013 with the votes of FERPlus's table."""
    _refuse_splitting(file, pixels)
    (votes,) = named_table(Path(_existing(file, "table", table_path))).files
    title = display_name(str(file.path))
    splits = read_voted_csv(title, votes, pixels, file.columns, file.classes, progress=progress)
    return replace(splits, pixels=file.settings.pixels)


def _refuse_splitting(file: DescriptionFile, images: str) -> None:
    """Refuse keys for image files: the reader of arrays has given them their splits, and they have no file names."""
    reasons = {
        "split": "a description does not change their splits; remove this key, or save arrays for each split, such as "
        "x_train, x_val and x_test",
        "group": "they have no file names to match; remove this key, or save group numbers in a folder of npy files, "
        "such as groups_train.npy",
    }
    title = display_name(images)
    for key, reason in reasons.items():
        if getattr(file.settings, key):
            raise DatasetError(f"{file.place(key)}: the images of {title} are arrays, not files: {reason}")


def _groups(file: DescriptionFile, source: ImageSource) -> NDArray[np.int64]:
    """Return the group of each image by the rule for file names, which applies to paths relative to the source."""
    rule = re.compile(file.settings.group or "")
    names = [image.name for image in source.files]
    matches = [rule.search(name) for name in names]
    groups = [match[1] if match else None for match in matches]
    without = [name for name, group in zip(names, groups, strict=True) if not group]
    if without:
        raise DatasetError(
            f"{file.place('group')}: {counted(without)}: no match; change the rule, or use columns: {{group: NAME}}"
        )
    return np.unique(np.array(groups, dtype=str), return_inverse=True)[1].astype(np.int64)
