"""What can go wrong, one class for each kind of cause; a message says what, where, and the next step."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FerAugmentError(Exception):
    """The root of every error that this package raises on purpose; its text is one line for a person."""


class DatasetError(FerAugmentError):
    """A data source, or an array offered as one, is not what it should be."""


class RecipeError(FerAugmentError):
    """A recipe or an override cannot be used as written."""


class PluginError(FerAugmentError):
    """A plugin is missing, broken, or clashes with another one."""


class StrategyError(FerAugmentError):
    """A strategy broke the contract of a stage while a run was under way."""


class RunError(FerAugmentError):
    """A training run failed, for example because its loss stopped being finite."""


class NothingFinishedError(RunError):
    """All runs of a comparison failed, so that there is nothing to compare."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the nearest known name, or else a list of what is known."""
    names = sorted(known)
    folded = {known_name.lower(): known_name for known_name in names}
    nearest = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    if nearest:
        return f"; did you mean {folded[nearest[0]]!r}?"
    return f"; known: {', '.join(names)}" if names else "; none is known"
