"""Names of classes and their order: that of FER2013 for its classes, else natural order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fer_augment.errors import excerpt

FER2013_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's classes in the order of the label numbers."""

_WHOLE_NUMBER = re.compile(r"-?\d+(\.0+)?")
LONGEST_CLASS_NAME = 200
"""Characters of a class name; tables and reports repeat it many times."""


def class_names_fault(names: Sequence[str]) -> str | None:
    """Return what is wrong with class names; None if nothing is."""
    if len(set(names)) != len(names) or not names:
        return f"class_names must be non-empty and unique, got {excerpt(str(names))}"
    for name in names:
        if len(name) > LONGEST_CLASS_NAME:
            return f"class name {excerpt(name, 40)!r} has {len(name)} characters; use at most {LONGEST_CLASS_NAME}"
        if not name or name != name.strip() or not name.isprintable():
            return (
                f"class name {ascii(name)} is empty, has white space at an end or unprintable characters; rename the "
                "class"
            )
    return None


def notes_on_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return notes on classes whose names differ only in case or are one whole number, and how to merge them."""
    distinct = list(names)
    quoted = [f"'{name}'" if whole_number(name) else name for name in distinct]  # in YAML, 01 is 1
    return (
        *_note_on_alike(quoted, [name.casefold() for name in distinct], "differ only in case"),
        *_note_on_alike(quoted, [whole_number(name) or name for name in distinct], "are the same number"),
    )


def _note_on_alike(names: Sequence[str], keys: Sequence[str], alike: str) -> tuple[str, ...]:
    """Return a note on names with equal keys, and how to merge their classes; nothing if there are none."""
    by_key: dict[str, list[str]] = {}
    for key, name in zip(keys, names, strict=True):
        by_key.setdefault(key, []).append(name)
    groups = [sorted(group, key=len, reverse=True) for group in by_key.values() if len(group) > 1]  # 01 becomes 1
    if not groups:
        return ()
    listed = "; ".join(" and ".join(group) for group in groups[:3]) + ("; …" if len(groups) > 3 else "")
    first, other = groups[0][:2]
    return (
        f"class names that {alike}: {listed}; to merge them, set classes: {{{first}: {other}}} in a source description "
        "(docs/data.md)",
    )


def whole_number(text: str) -> str | None:
    """Return a whole number in one form, without `.0`, leading zeros and the sign of 0; None for any other text."""
    if not _WHOLE_NUMBER.fullmatch(text):
        return None
    digits = text.partition(".")[0].lstrip("-").lstrip("0")
    return f"{'-' if digits and text[0] == '-' else ''}{digits or '0'}"


def is_fer2013(names: Iterable[str]) -> bool:
    """Return whether these are FER2013's class names, ignoring order and case."""
    return {name.casefold() for name in names} == set(FER2013_CLASSES)


def class_order(names: Iterable[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Order class names: FER2013's order for FER2013's names (ignoring case), else natural order, 2 before 10.

    Returns:
        The K class names, and the label of each given name.
    """
    distinct = set(names)
    if is_fer2013(distinct):
        return FER2013_CLASSES, {name: FER2013_CLASSES.index(name.casefold()) for name in distinct}
    ordered = tuple(sorted(distinct, key=_natural))
    return ordered, {name: label for label, name in enumerate(ordered)}


def _natural(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Return a sort key that compares runs of digits as numbers: without leading zeros, a longer one is greater."""
    pieces = re.findall(r"[0-9]+|[^0-9]+", name)
    digits = [piece.lstrip("0") if piece[0] in "0123456789" else None for piece in pieces]
    keys = [(True, 0, piece) if n is None else (False, len(n), n) for n, piece in zip(digits, pieces, strict=True)]
    return keys, name
