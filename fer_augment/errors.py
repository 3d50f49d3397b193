"""Exceptions, one class per kind of cause. A message says what is wrong, where, and what to do next."""

from __future__ import annotations

import difflib
import errno
import os
import re
import shutil
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class FerAugmentError(Exception):
    """Base class of all errors that this package raises on purpose; the message is a single readable line."""


class DatasetError(FerAugmentError):
    """A data source or an array is invalid."""


class RecipeError(FerAugmentError):
    """A recipe or an override is invalid."""


class PluginError(FerAugmentError):
    """A plugin is missing, broken, or conflicts with another one."""


class StrategyError(FerAugmentError):
    """A strategy violated the contract of a stage during a run."""


class RunError(FerAugmentError):
    """A run failed, for example because its loss became infinite or NaN."""


class DamagedFileError(RunError):
    """A file of results is missing, damaged, or of another version.

    Attributes:
        file: the file.
        reason: what is wrong.
        remedy: what to do.
    """

    def __init__(self, file: Path, reason: str, remedy: str) -> None:
        """Describe the damage."""
        super().__init__(file, reason, remedy)  # what a copy in another process is made of
        self.file, self.reason, self.remedy = file, reason, remedy

    def __str__(self) -> str:
        """Return all of it in one line."""
        return f"{self.file}: {self.reason}; {self.remedy}"


class PredictionError(FerAugmentError):
    """A file of predictions is invalid, or does not match the others."""


class NothingFinishedError(RunError):
    """All runs of a comparison failed, so there is nothing to compare."""


class StrategyWarning(UserWarning):
    """Something about the data or its parameters that a strategy tells people; part of the warnings of a run."""


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the closest candidate or, if none is close, a list of all candidates."""
    names = sorted(candidates)
    folded = {candidate.lower(): candidate for candidate in names}
    nearest = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    if nearest:
        return f"; did you mean {folded[nearest[0]]!r}?"
    return f"; known: {', '.join(names)}" if names else "; none are available"


@contextmanager
def said_of(title: str) -> Iterator[None]:
    """Put the name of what is read before the message of a DatasetError."""
    try:
        yield
    except DatasetError as error:
        raise DatasetError(f"{title}: {error}") from error


def full_disk(error: BaseException) -> str | None:
    """Return which file system is full, what is free and what a copied file takes; None for all other errors."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT) or not error.filename:
        return None
    source, target = os.fsdecode(error.filename), os.fsdecode(error.filename2 or error.filename)
    folder = os.path.dirname(target)
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        free = f"{shutil.disk_usage(folder or os.curdir).free / 1e6:.1f} MB are free"
        needed = f", {os.path.getsize(source) / 1e6:.1f} MB are needed for this file" if error.filename2 else ""
    except OSError:
        free, needed = "nothing is free", ""
    name = display_name(target)
    return f"{name}: the file system is full ({free}{needed}); make room and run the same command again"


def raised_at(error: BaseException, file: str) -> str:
    """Return `"focus.py, line 12"`: where an exception passed last through a file or through a module beside it.

    If it did not, the place is where it was raised.
    """
    frames, folder = traceback.extract_tb(error.__traceback__), os.path.dirname(file)
    beside = [frame for frame in frames if os.path.dirname(frame.filename) == folder]
    return "".join(f"{display_name(os.path.basename(at.filename))}, line {at.lineno}" for at in (beside or frames)[-1:])


def display_name(name: str) -> str:
    """Return a file name for display, with control characters escaped."""
    if name.isprintable():  # fast path, called for every file
        return name
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def display_text(text: str) -> str:
    """Return text of several lines for display, with all other control characters escaped."""
    return "\n".join(map(display_name, text.split("\n")))


def in_one_line(error: BaseException) -> str:
    """Return `"ValueError: message"`, or the class alone of an error without a message, or whose message fails."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - the class may be that of a plugin
        message = ""
    return f"{type(error).__name__}: {' '.join(message.split())}".removesuffix(": ")


def excerpt(text: str, length: int = 200) -> str:
    """Return text from a file or a library for display in one line: escaped, and cut where it is longer."""
    shown = display_name(" ".join(text[: 2 * length].split()))
    return shown if len(shown) <= length and len(text) <= 2 * length else f"{shown[:length]}…"


def no_such_file(path: str) -> str:
    """Return the message for a path that does not exist, with the most similar path that does; never raises."""
    message = f"{display_name(path)}: no such file or folder"
    folder, name = os.path.split(path.rstrip(os.sep))
    while name and not os.path.isdir(folder or os.curdir):
        folder, name = os.path.split(folder)
    try:
        names = {entry.casefold(): entry for entry in sorted(os.listdir(folder or os.curdir))}
    except (OSError, ValueError):  # ValueError: not a valid file name
        names = {}
    nearest = difflib.get_close_matches(name.casefold(), names, n=1, cutoff=0.6)
    if nearest:
        return f"{message}; did you mean {display_name(os.path.join(folder, names[nearest[0]]))}?"
    if folder and folder != os.path.dirname(path):
        return f"{message}; the nearest existing folder is {display_name(folder)}"
    return f"{message}; check the path"


def text_fault(text: str) -> str | None:
    """Return why text cannot be written to a file or name one: half of a character, or NUL; None if it can."""
    halves = [character for character in text if "\ud800" <= character <= "\udfff"]
    if halves:
        return f"has half of a character, {ascii(halves[0])[1:-1]}; write the whole one, such as \\U0001F600"
    return "has a NUL character, \\0; remove it" if "\0" in text else None


def windows_refuses(name: str) -> bool:
    """Whether Windows allows no folder of this name: a device, with any suffix, or a dot at the end."""
    return bool(re.search(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\.|$)|\.$", name))
