"""Columns of a table that contain images, labels, votes, splits and groups: guessed from usual names, or chosen."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TypeAlias

from fer_augment import DatasetError, did_you_mean
from fer_augment.readers._conventions import display_name, excerpt
from fer_augment.readers._table_content import Table
from fer_augment.readers._table_text import is_image_name

USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "image": (
        *("image", "image_id", "id_code", "filename", "file_name", "path", "filepath", "name", "img"),
        *("filepaths", "file", "file_path", "image_file", "image_name", "image_path", "image_index", "img_path", "pth"),
    ),
    "label": (
        *("label", "class", "target", "dx", "diagnosis", "category", "emotion"),
        *("labels", "class_name", "expression"),
    ),
    "split": ("split", "set", "subset", "fold_split", "usage", "data_set", "partition"),
    "group": (
        *("group", "patient", "patient_id", "subject", "subject_id", "lesion_id", "video"),
        *("video_id", "person", "person_id"),
    ),
}
"""Usual column names by role, in lower case with `_` for spaces and hyphens."""

LESS_USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "image": ("id",),
    "label": ("breed", "species", "level", "grade", "type"),
}
"""Names that are used if a table has no column with a usual name."""

FERPLUS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "nf")
"""Columns of votes in FERPlus's `fer2013new.csv`, in lower case."""
NO_CLASSES = ("unknown", "nf")
"""Columns of FERPlus that are no classes: unknown expression, and no face."""

OPTIONAL = ("split", "group")
"""Roles without which a table can be read."""

_MOST = 0.9
"""Share of the rows in which columns of 0 and 1 are those of classes, if they are wrong in others."""

_LONGEST = 200
"""Characters of the names of columns in a message."""

Choice: TypeAlias = str | tuple[str, ...] | None
ReadSample: TypeAlias = Callable[[Sequence[str]], list[tuple[str, ...]]]


@dataclass(frozen=True)
class ColumnChoice:
    """Columns chosen in a source description.

    Attributes:
        names: by role, a column, several columns for one-hot labels or votes, or None for no column; other roles are
            guessed.
        places: by role, where the column is chosen, for messages.
    """

    names: Mapping[str, Choice] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)


_NO_CHOICE = ColumnChoice()


@dataclass(frozen=True)
class Columns:
    """Columns of a table by role.

    Attributes:
        image: paths, ids or bytes of the images.
        label: class names or numbers; None if labels are one-hot or votes.
        one_hot: one column for each class; empty unless labels are one-hot.
        split: names of splits; None without.
        group: rows that must stay together; None without.
        votes: one column of votes for each class; empty unless labels are votes.
        no_classes: columns among `votes` that are dropped, as they are no classes.
    """

    image: str
    label: str | None
    one_hot: tuple[str, ...]
    split: str | None
    group: str | None
    votes: tuple[str, ...] = ()
    no_classes: tuple[str, ...] = ()

    @property
    def in_words(self) -> str:
        """The columns by role, for display."""
        labels = f"{', '.join(self.labels[:3])}{', …' if len(self.labels) > 3 else ''}"
        role = "votes" if self.votes else "label"
        roles = {"image": self.image, role: labels, "split": self.split, "group": self.group}
        return ", ".join(f"{display_name(name)} ({role})" for role, name in roles.items() if name)

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns that contain the label."""
        return (self.label,) if self.label is not None else self.one_hot or self.votes


def is_labeled(table: Table, choice: ColumnChoice = _NO_CHOICE) -> bool:
    """Return whether a table seems to have columns of images and labels; there may be several candidates.

    A table whose rows cannot be read may have them, too; reading it then says what is wrong.

    Args:
        table: the table.
        choice: columns chosen by name; they must exist.
    """
    folded = {column.casefold() for column in table.columns}
    chosen = {column for role in choice.names for column in _names(choice.names[role])}
    return {column.casefold() for column in chosen} <= folded and not unknown_roles(table, choice)


def unknown_roles(table: Table, choice: ColumnChoice = _NO_CHOICE) -> list[str]:
    """Return which of image and label no column of a table seems to contain; see `is_labeled`."""
    candidates = _candidates(table) | {role: _names(name) for role, name in choice.names.items()}
    others = {name for names in candidates.values() for name in names}
    has_votes = bool(candidates.get("votes")) or ("votes" not in choice.names and bool(ferplus_votes(table)))
    has_labels = bool(candidates["label"]) or has_votes
    if not candidates["image"]:
        return ["image"] if has_labels else ["image", "label"]
    return [] if has_labels or _one_hot(table, others, table.readable_sample) else ["label"]


def in_words(names: Sequence[str]) -> str:
    """Return the names of columns, for display; many are shortened."""
    text = ", ".join(map(display_name, names))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def columns_of(table: Table, choice: ColumnChoice) -> Columns:
    """Return the columns of a table by role.

    Raises:
        DatasetError: if a column is missing or there are several candidates; the message names them.
    """
    repeated = sorted({name for name in table.columns if name and table.columns.count(name) > 1})
    if repeated:
        title = f"{table.name}: line 1"
        raise DatasetError(f"{title}: there are several columns {display_name(repeated[0])!r}; rename them")
    chosen = {role: _existing(table, choice, role) for role in choice.names}
    chosen_votes = chosen.pop("votes", None)
    votes = chosen_votes if isinstance(chosen_votes, tuple) else ()
    is_ferplus = not {"label", "votes"} & choice.names.keys() and bool(ferplus_votes(table))
    if votes:
        chosen["label"] = None
    taken = {column for name in chosen.values() for column in _names(name)}
    candidates = _candidates(table, taken)
    for role in [role for role in USUAL_NAMES if role not in chosen]:
        if len(candidates[role]) > 1:
            raise _ambiguous(table, role, candidates[role])
        chosen[role] = next(iter(candidates[role]), None)
    label = chosen["label"]
    if is_ferplus and label is not None:
        raise DatasetError(
            f"{table.name}: the labels may be {display_name(str(label))!r} or the votes of FERPlus; choose the column "
            f"in a source description (docs/data.md): columns: {{label: {display_name(str(label))}}}, or the votes: "
            f"columns: {{votes: [{', '.join(map(display_name, ferplus_votes(table)))}]}}"
        )
    votes = ferplus_votes(table) if is_ferplus else votes
    one_hot = label if isinstance(label, tuple) else ()
    if label is None and not votes:
        one_hot = _one_hot(table, {*taken, *(name for names in candidates.values() for name in names)}, table.sample)
    if chosen["image"] is None:
        raise _none(table, "image")
    if label is None and not one_hot and not votes:
        raise _none(table, "label")
    image, single, split, group = (
        name if isinstance(name, str) else None for name in (chosen[role] for role in USUAL_NAMES)
    )
    assert image is not None
    no_classes = tuple(name for name in votes if name.casefold() in NO_CLASSES) if is_ferplus else ()
    return Columns(image, single, one_hot, split, group, votes, no_classes)


def ferplus_votes(table: Table) -> tuple[str, ...]:
    """Return the columns of votes if the table has those of FERPlus; else none."""
    votes = tuple(name for name in table.columns if name.casefold() in FERPLUS)
    return votes if len(votes) == len(FERPLUS) else ()


def _candidates(table: Table, taken: Set[str] = frozenset()) -> dict[str, tuple[str, ...]]:
    """Return the columns with usual names, by role; columns with images or class names as such take precedence.

    Args:
        table: the table.
        taken: columns that are chosen already.
    """
    free = [name for name in table.columns if name not in taken]
    candidates = {role: tuple(name for name in free if _normal(name) in names) for role, names in USUAL_NAMES.items()}
    for role, names in LESS_USUAL_NAMES.items():
        candidates[role] = candidates[role] or tuple(name for name in free if _normal(name) in names)
    letters = {_letters(name) for name in USUAL_NAMES["group"]}
    candidates["group"] = candidates["group"] or tuple(name for name in free if _letters(name) in letters)
    for role, typed in (("image", table.image_files), ("label", table.class_names)):
        of_type = tuple(name for name in typed if name in free)
        usual = tuple(name for name in of_type if name in candidates[role])
        if of_type:
            candidates[role] = usual if len(usual) == 1 else of_type
    return candidates


def _normal(name: str) -> str:
    return re.sub(r"[ -]", "_", name.casefold())


def _letters(name: str) -> str:
    """Return a name without what divides its words: `PatientID` is `patient_id`."""
    return _normal(name).replace("_", "")


def _one_hot(table: Table, others: Set[str], sample: ReadSample) -> tuple[str, ...]:
    """Return the columns that contain only 0 and 1, if in the first rows exactly one of them is 1; else none.

    If there are none, they may be wrong in few rows, which reading the labels refuses by name.

    Args:
        table: the table.
        others: columns that contain something else.
        sample: returns the values of some columns in the first rows.
    """
    columns = tuple(name for name in table.columns if name not in others and name not in table.image_files)
    rows = [[bit(value) for value in row] for row in sample(columns)] if columns else []
    return _one_hot_among(columns, rows, 1.0) or _one_hot_among(columns, rows, _MOST) if rows else ()


def _one_hot_among(columns: Sequence[str], rows: Sequence[Sequence[int | None]], share: float) -> tuple[str, ...]:
    """Return the columns of 0 and 1 in at least a share of the rows, if exactly one is 1 in such a share; else none."""
    needed = share * len(rows)
    is_bits = [sum(row[position] is not None for row in rows) >= needed for position in range(len(columns))]
    sums = [sum(value or 0 for value, keep in zip(row, is_bits, strict=True) if keep) for row in rows]
    if sum(is_bits) < 2 or sums.count(1) < needed:
        return ()
    return tuple(name for name, keep in zip(columns, is_bits, strict=True) if keep)


def bit(value: str) -> int | None:
    """Return 0 or 1 for a value of a one-hot column, None for any other value."""
    return {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}.get(value.lower())


def _existing(table: Table, choice: ColumnChoice, role: str) -> Choice:
    """Return the chosen column under its name in the table."""
    name = choice.names[role]
    if name is None:
        return None
    by_folded = {column.casefold(): column for column in table.columns}
    names = _names(name)
    missing = [wanted for wanted in names if wanted not in table.columns and wanted.casefold() not in by_folded]
    if missing:
        hint = did_you_mean(missing[0], map(display_name, table.columns))
        raise DatasetError(f"{choice.places[role]}: {table.name} has no column {excerpt(missing[0], 60)!r}{hint}")
    existing = tuple(wanted if wanted in table.columns else by_folded[wanted.casefold()] for wanted in names)
    return existing[0] if isinstance(name, str) else existing


def _names(choice: Choice) -> tuple[str, ...]:
    return (choice,) if isinstance(choice, str) else choice or ()


def _ambiguous(table: Table, role: str, candidates: Sequence[str]) -> DatasetError:
    names = [display_name(name) for name in candidates]
    none = f", or {{{role}: null}} for none" if role in OPTIONAL else ""
    return DatasetError(
        f"{table.name}: the column of {_PLURAL[role]} may be {' or '.join(map(repr, names))}; choose one in a "
        f"source description (docs/data.md): columns: {{{role}: {names[0]}}}{none}"
    )


def _none(table: Table, role: str) -> DatasetError:
    if any(map(is_image_name, table.columns)):
        return DatasetError(f"{table.name}: line 1 is not a header; add one, such as image,label,split")
    one_hot = (
        ", or {label: [NAME, NAME]} for columns of 0 and 1, or {votes: [NAME, NAME]} for columns of votes"
        if role == "label"
        else ""
    )
    return DatasetError(
        f"{table.name}: no column of {_PLURAL[role]} among {in_words(table.columns)}; name it in a source description "
        f"(docs/data.md): columns: {{{role}: NAME}}{one_hot}"
    )


_PLURAL = {"image": "images", "label": "labels", "split": "splits", "group": "groups"}
