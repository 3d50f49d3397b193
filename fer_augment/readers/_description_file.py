"""The YAML file of a source description: its keys, and errors by file, line and key."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import (
    AllowInfNan,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from fer_augment import DatasetError, did_you_mean
from fer_augment.data.image_files import regular_file
from fer_augment.data.pixels import LARGEST_SIDE, Channels, Fit, PixelSettings
from fer_augment.data.splitting import SplitSettings
from fer_augment.readers._class_changes import ClassChanges
from fer_augment.readers._conventions import display_name, no_such_file
from fer_augment.readers._table_columns import Choice, ColumnChoice
from fer_augment.recipe.files import DESCRIPTION_KEYS, FILE_KEYS
from fer_augment.recipe.recipe import Recipe, Side, validation_message
from fer_augment.recipe.yaml_source import Fault, Keys, Node, parse_yaml

Whole: TypeAlias = Annotated[int, Strict()]
Fraction: TypeAlias = Annotated[float, Strict(), AllowInfNan(False), Field(gt=0, lt=1)]
ClassName: TypeAlias = Annotated[str, Strict()] | Whole

DROP = "drop"
"""Key of the list of dropped classes, beside the renamed ones."""

_DEFAULT = SplitSettings()
_QUOTED_RULE = re.compile(r'^(group:[ \t]*)"((?:[^"\\\n]|\\.)*)"', re.MULTILINE)
_RECIPE_KEYS = Recipe.model_fields.keys() | FILE_KEYS.keys()
_YAML_ESCAPES = '0abtnvfre "/\\N_LPxuU\t'


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnSettings(_Settings):
    """Columns of the table; those that are not set are guessed from usual names."""

    image: str | None = Field(default=None, description="Paths, ids or bytes of the images.")
    label: str | list[str] | None = Field(default=None, description="Classes: one column, or several of 0 and 1.")
    votes: list[str] | None = Field(
        default=None, description="Soft labels: a column of votes for each class; null: none, not even FERPlus's."
    )
    split: str | None = Field(default=None, description="Names of splits; null: none.")
    group: str | None = Field(default=None, description="Rows that stay in one split; null: none.")

    @model_validator(mode="after")
    def _has_one_kind_of_label(self) -> ColumnSettings:
        if self.label and self.votes:
            raise ValueError("label and votes are both set; remove one of them")
        if self.votes is not None and len(set(self.votes)) < 2:
            raise ValueError("votes should be the columns of two or more classes, such as [happy, sad]")
        return self


class SplitFractions(_Settings):
    """Splits that are made, if the source has none."""

    validation: Fraction = Field(default=_DEFAULT.validation, description="Fraction of the images for validation.")
    test: Fraction = Field(default=_DEFAULT.test, description="Fraction of the images for the test.")
    seed: Whole = Field(default=_DEFAULT.seed, ge=0, description="Seed of the assignment.")
    keep_near_duplicates: Annotated[bool, Strict()] = Field(
        default=_DEFAULT.keep_near_duplicates,
        description="Whether near and mirrored duplicates stay in one split or fold.",
    )

    @model_validator(mode="after")
    def _leaves_a_training_split(self) -> SplitFractions:
        if self.validation + self.test >= 1:
            raise ValueError(f"the fractions add up to {self.validation + self.test:g}; leave images for train")
        return self


class Description(_Settings):
    """A data source: where images and labels are, and how they are read."""

    images: str | None = Field(default=None, description="Folder, zip file or table of images, relative to this file.")
    table: str | None = Field(default=None, description="Table of image names and labels, relative to this file.")
    reader: str | None = Field(default=None, description="Name of the reader of `images`, see `plugins list`.")
    columns: ColumnSettings | None = Field(default=None, description="Columns of the table.")
    classes: dict[str, ClassName | list[ClassName]] = Field(
        default={}, description="New names of classes; equal names merge classes. drop: list of classes to leave out."
    )
    size: Side | tuple[Side, Side] | None = Field(default=None, description="Height and width: one number, or [H, W].")
    fit: Fit | None = Field(default=None, description="crop, pad or stretch images of another aspect ratio.")
    channels: Channels | None = Field(default=None, description="auto, gray or color.")
    split: SplitFractions | None = Field(default=None, description="Fractions of the splits that are made.")
    group: str | None = Field(
        default=None, description="Regular expression for file names; its first group in parentheses is the group."
    )

    @field_validator("classes")
    @classmethod
    def _lists_only_dropped_classes(
        cls, classes: dict[str, ClassName | list[ClassName]]
    ) -> dict[str, ClassName | list[ClassName]]:
        for name, new in classes.items():
            if isinstance(new, list) != (name == DROP):
                expected = f"{DROP} should be a list of classes" if name == DROP else f"{name} should have one new name"
                raise ValueError(f"{expected}, as in {{ANGER: anger, {DROP}: [contempt]}}")
        return classes

    @field_validator("group")
    @classmethod
    def _is_a_rule(cls, group: str | None) -> str | None:
        expected = r"should be a regular expression with a group in parentheses, such as '(S\d+)_'"
        try:
            groups = re.compile(group or "()").groups
        except re.error as error:
            raise ValueError(f"{expected} ({error})") from error
        if not groups:
            raise ValueError(f"{expected}; to use a column: columns: {{group: {group}}}")
        return group

    @model_validator(mode="after")
    def _has_images(self) -> Description:
        if self.images is None and self.table is None:
            raise ValueError("images or table is missing, such as images: photos/")
        if self.reader and (self.images is None or self.table or self.columns):
            raise ValueError("reader is for images alone: set images, and remove table and columns")
        if self.group and self.columns and self.columns.group:
            raise ValueError("group and columns.group are both set; remove one of them")
        return self

    @property
    def pixels(self) -> PixelSettings:
        """Size and color of the images."""
        size = (self.size, self.size) if isinstance(self.size, int) else self.size
        return PixelSettings(size, self.fit, self.channels)

    @property
    def splitting(self) -> SplitSettings:
        """How missing splits are made."""
        split = self.split or SplitFractions()
        return SplitSettings(split.validation, split.test, split.seed, split.keep_near_duplicates)


class DescriptionFile:
    """A description with the places of its keys."""

    def __init__(self, path: Path, settings: Description, node: Node) -> None:
        """Hold a valid description."""
        self.path, self.settings, self._node = path, settings, node

    def place(self, *keys: str) -> str:
        """Return `FILE:LINE: KEYS`, for messages."""
        return f"{self._node.place_of(keys)}: {'.'.join(map(display_name, keys))}"

    @property
    def columns(self) -> ColumnChoice:
        """The columns that are set."""
        columns = self.settings.columns or ColumnSettings()
        names: dict[str, Choice] = {}
        for role in columns.model_fields_set:
            name = getattr(columns, role)
            names[role] = tuple(name) if isinstance(name, list) else name
        return ColumnChoice(names, {role: self.place("columns", role) for role in names})

    @property
    def classes(self) -> ClassChanges:
        """The changes of classes."""
        dropped = self.settings.classes.get(DROP, [])
        renamed = {name: str(new) for name, new in self.settings.classes.items() if name != DROP}
        names = [str(name) for name in dropped] if isinstance(dropped, list) else []
        places = {name: self.place("classes", name) for name in renamed}
        places |= dict.fromkeys(names, self.place("classes", DROP))
        return ClassChanges(renamed, frozenset(names), places, self.place("classes"))


def read_description(path: Path) -> DescriptionFile:
    """Read and validate a description.

    Raises:
        DatasetError: with the first error by file, line and key, and the number of errors.
    """
    faults: list[Fault] = []
    node = parse_yaml(_text(path), display_name(str(path)), faults)
    if not faults and not node.entries:
        faults.append(Fault(node.place, (), "expected `key: value` lines, such as images: photos/"))
    if not faults and _RECIPE_KEYS & node.entries.keys() and not {*DESCRIPTION_KEYS} & node.entries.keys():
        raise DatasetError(
            f"{display_name(str(path))}: is a recipe, not a source description; pass it as a recipe, and a source of "
            "images with --data"
        )
    settings = None if faults else _validated(node, faults)
    if settings is None:
        first = min(faults, key=lambda fault: fault.place.line or math.inf)
        more = f" (first of {len(faults)} errors)" if len(faults) > 1 else ""
        raise DatasetError(f"{first}{more}")
    return DescriptionFile(path, settings, node)


def _text(path: Path) -> str:
    """Return the text of the file; a rule in double quotes may contain backslashes that YAML does not allow there."""
    name = display_name(str(path))
    try:
        text = regular_file(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DatasetError(no_such_file(str(path))) from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{name}: not UTF-8 text; save the file as UTF-8") from error
    except OSError as error:
        raise DatasetError(f"{name}: cannot be read ({error.strerror}); check the path") from error
    return _QUOTED_RULE.sub(_single_quoted, text)


def _single_quoted(match: re.Match[str]) -> str:
    if all(escaped in _YAML_ESCAPES for escaped in re.findall(r"\\(.)", match[2])):
        return match[0]
    rule = match[2].replace("'", "''")
    return f"{match[1]}'{rule}'"


def _validated(node: Node, faults: list[Fault]) -> Description | None:
    try:
        return Description.model_validate(node.plain())
    except ValidationError as error:
        by_keys: dict[Keys, list[ErrorDetails]] = {}
        for detail in error.errors():  # a value of several possible types has one error for each
            by_keys.setdefault(_existing(node, detail["loc"]), []).append(detail)
        faults += [Fault(node.place_of(keys), keys, _message(keys, details)) for keys, details in by_keys.items()]
        return None


def _existing(node: Node, keys: Keys) -> Keys:
    """Return the first keys, as far as they are in the file."""
    inner: dict[str | int, Node] = dict(enumerate(node.items))
    inner.update(node.entries)
    return (keys[0], *_existing(inner[keys[0]], keys[1:])) if keys and keys[0] in inner else ()


def _message(keys: Keys, details: Sequence[ErrorDetails]) -> str:
    if keys[:1] == ("size",):
        return f"should be a number of pixels, or [HEIGHT, WIDTH], each from 1 to {LARGEST_SIDE}"
    if details[0]["type"] != "extra_forbidden":
        return validation_message(details)
    if keys == ("split", "folds"):
        return "folds are not supported yet; set fractions, such as split: {validation: 0.1, test: 0.2}"
    if keys == (DROP,):
        return f"belongs below classes, as in classes: {{{DROP}: [contempt]}}"
    below: dict[str, type[BaseModel]] = {"columns": ColumnSettings, "split": SplitFractions}
    siblings = below.get(str(keys[0]), Description).model_fields
    return f"unknown key{did_you_mean(str(keys[-1]), siblings)}"
