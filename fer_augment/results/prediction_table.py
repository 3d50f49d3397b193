"""Predictions as a table with one row per image: its columns, found by name, and checks of its values."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_augment.errors import PredictionError, did_you_mean, excerpt, text_fault

ROLES: Final = {
    "id": ("image", "image_id", "filename", "file_name", "path", "file", "index", "name"),
    "true": ("label", "target", "true_label", "y_true", "class", "labels", "targets"),
    "predicted": ("prediction", "pred", "predicted_label", "y_pred", "predictions", "preds"),
    "arm": ("recipe", "model", "method"),
    "seed": ("run",),
    "fold": (),
    "group": (),
}
"""Columns by role, with names of other programs that are suggested where a column is missing; two may be missing."""

SCORE_KINDS: Final = {"prob": "probabilities", "logit": "logits"}
"""Prefix of columns with one score per class, such as `prob_happy`, and name of the array with all of them in npz."""

_SCORE = re.compile(rf"({'|'.join(SCORE_KINDS)})_(.+)", re.DOTALL)
_SHORTEST = 20


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """Contents of one file of predictions with N rows.

    Attributes:
        title: its path, for messages.
        values: values of the columns with a role, as text, by role.
        place: returns where a row is in the file, for messages.
        scores: `(N, K) float64`, one score per class; None without.
        classes: the K class names of `scores`; empty without.
        kind: kind of the scores, a key of `SCORE_KINDS`; empty without.
        unused: columns that have no role.
    """

    title: str
    values: Mapping[str, list[str]]
    place: Callable[[int], str]
    scores: NDArray[np.float64] | None = None
    classes: tuple[str, ...] = ()
    kind: str = ""
    unused: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """N, the number of rows."""
        return len(self.values["id"])

    def at(self, row: int) -> str:
        """Return file and place of a row, for messages."""
        return f"{self.title}: {self.place(row)}"


@dataclass(frozen=True)
class Layout:
    """Columns of a file.

    Attributes:
        of_role: column by role.
        score_columns: columns with one score per class.
        classes: their classes.
        kind: kind of the scores, a key of `SCORE_KINDS`; empty without.
        unused: columns that have no role.
    """

    of_role: Mapping[str, str]
    score_columns: tuple[str, ...]
    classes: tuple[str, ...]
    kind: str
    unused: tuple[str, ...]

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns with a role."""
        return tuple(self.of_role.values())


# --- columns


def layout_of(title: str, names: Sequence[str], columns: Mapping[str, str], named: Sequence[str]) -> Layout:
    """Find the columns of a file by name.

    Args:
        title: the file, for messages.
        names: names of its columns.
        columns: names of columns by role, for columns that are not named after their role.
        named: roles whose value is in the name of the file.

    Raises:
        PredictionError: if a column is missing, doubled, or contradicts the name of the file.
    """
    for role, column in columns.items():
        if role not in ROLES:
            raise PredictionError(f"columns: there is no role {excerpt(role)!r}{did_you_mean(role, ROLES)}")
        if column not in names:
            raise PredictionError(f"{title}: no column {excerpt(column)!r}{_among(column, names)}")
    repeated = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if repeated is not None:
        raise PredictionError(f"{title}: there are several columns {excerpt(repeated)!r}; rename them")
    of_role = {role: columns.get(role, role) for role in ROLES if columns.get(role, role) in names}
    doubled = [role for role in named if role in of_role]
    if doubled:
        raise PredictionError(
            f"{title}: {doubled[0]} is in the name of the file and in the column {excerpt(of_role[doubled[0]])!r}; "
            "remove it from the pattern or from the file"
        )
    matches = [(name, match) for name in names if (match := _SCORE.fullmatch(name)) and name not in of_role.values()]
    kinds = sorted({match[1] for _, match in matches})
    if len(kinds) > 1:
        raise PredictionError(f"{title}: there are columns prob_… and logit_…; keep the scores of one kind")
    required = ["id", "true", *(role for role in ("arm", "seed") if role not in named)]
    if not matches:
        required.append("predicted")
    missing = [role for role in required if role not in of_role]
    if missing:
        raise PredictionError(f"{title}: {_missing(missing, names)}")
    scored = tuple(name for name, _ in matches)
    unused = tuple(name for name in names if name not in of_role.values() and name not in scored)
    return Layout(of_role, scored, tuple(match[2] for _, match in matches), kinds[0] if kinds else "", unused)


def _missing(roles: Sequence[str], names: Sequence[str]) -> str:
    usual = {role: next((name for name in names if name.lower() in ROLES[role]), "NAME") for role in roles}
    hint = " ".join(f"--column {role}={excerpt(name)}" for role, name in usual.items())
    named = " and ".join(role for role in ("arm", "seed") if role in roles)
    if named:
        hint += f", or take {named} from the name of the file, such as --pattern '{{arm}}_seed{{seed}}.csv'"
    if "predicted" in roles:
        hint += ", or give one score per class in columns prob_CLASS or logit_CLASS"
    *others, last = map(repr, roles)
    missing = f"{', '.join(others)} or {last}" if others else last
    return f"no column {missing} among {excerpt(', '.join(names))}; choose {'them' if others else 'one'}: {hint}"


def _among(column: str, names: Sequence[str]) -> str:
    return did_you_mean(column, map(excerpt, names)) if len(names) <= _SHORTEST else ""


# --- values


def checked(
    title: str,
    layout: Layout,
    values: dict[str, list[str]],
    scores: NDArray[np.float64] | None,
    place: Callable[[int], str],
) -> PredictionTable:
    """Refuse missing values, scores that are not finite, and probabilities that are none."""
    table = PredictionTable(title, values, place, scores, layout.classes, layout.kind, layout.unused)
    if not table.rows:
        raise PredictionError(f"{title}: has no rows; write one row per image")
    for role, column in values.items():
        if "" in column:
            name = excerpt(layout.of_role[role])
            raise PredictionError(f"{table.at(column.index(''))}: no value for {name!r}; write text or a number")
    for role in ("true", "predicted"):
        faults = {name: fault for name in {*values.get(role, ())} if (fault := text_fault(name))}
        for row, name in enumerate(values[role] if faults else ()):
            if name in faults:
                raise PredictionError(f"{table.at(row)}: {excerpt(layout.of_role[role])} {faults[name]}")
    for name in filter(text_fault, layout.classes):
        raise PredictionError(f"{title}: the column of {excerpt(name)!r} {text_fault(name)}")
    if scores is None:
        return table
    if len(layout.classes) < 2:
        raise PredictionError(f"{title}: scores of one class, {excerpt(layout.classes[0])}; write a column per class")
    for row, column in np.argwhere(~np.isfinite(scores))[:1]:
        name = excerpt(layout.score_columns[column])
        raise PredictionError(f"{table.at(row)}: {name} is {scores[row, column]}, not a finite number; correct it")
    if layout.kind == "prob":
        for row, column in np.argwhere((scores < -_ROUNDING) | (scores > 1 + _ROUNDING))[:1]:
            name, value = excerpt(layout.score_columns[column]), scores[row, column]
            raise PredictionError(f"{table.at(row)}: {name} is {value:g}, not a probability; {_IF_LOGITS}")
        sums = scores.sum(axis=1)
        for row in np.flatnonzero(np.abs(sums - 1) > _SUM_TOLERANCE)[:1]:
            raise PredictionError(f"{table.at(row)}: the probabilities sum to {sums[row]:.3f}, not to 1; {_IF_LOGITS}")
        np.clip(scores, 0.0, 1.0, out=scores)
    return table


_IF_LOGITS = "if these are scores before softmax, name the columns logit_CLASS (in npz the array logits)"
_ROUNDING = 1e-6
_SUM_TOLERANCE = 0.01
"""Probabilities in half precision sum to 1 less exactly than this."""


def as_text(value: object) -> str:
    """Return a value as text: whole numbers have no decimal point; missing values, and what is no value, are empty."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, str | int | float | np.generic) and value == value:  # NaN and NaT are not
        return str(value).strip()
    return ""
