"""The classes that reports show if there are too many for a table: watched, changed significantly, or changed most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fer_augment.results.comparison import ComparisonRecord, Judgment, Versus
from fer_augment.significance import Verdict

MOST_ROWS = 40
"""Classes up to which tables have a row for each."""
SHOWN_ROWS = 30
"""Rows of the tables of comparisons with more classes."""
MOST_CELLS = 20
"""Classes up to which confusion matrices have a cell for each pair."""
SHOWN_CELLS = 12
"""Rows of the confusion matrices of comparisons with more classes."""

_SIGNIFICANT = (Verdict.BETTER, Verdict.WORSE)


def notable_classes(comparison: ComparisonRecord, versus: Versus) -> tuple[str, ...]:
    """Return the classes to show for one arm, in class order; all of them if there are few."""
    names = comparison.class_names
    if len(names) <= MOST_ROWS:
        return names
    return _first(names, [*_watched(comparison), *_by_change([versus], names)], SHOWN_ROWS)


def matrix_classes(comparison: ComparisonRecord) -> tuple[str, ...]:
    """Return the classes to show in confusion matrices, the same for all arms; all of them if there are few.

    Without tests, they are those with the lowest recall in the first arm.
    """
    names = comparison.class_names
    if len(names) <= MOST_CELLS:
        return names
    changed = _by_change(comparison.versus, names) if comparison.versus else _by_recall(comparison)
    return _first(names, [*_watched(comparison), *changed], SHOWN_CELLS)


def _first(names: Sequence[str], preferred: Iterable[str], count: int) -> tuple[str, ...]:
    chosen = set(list(dict.fromkeys(preferred))[:count])
    return tuple(name for name in names if name in chosen)


def _watched(comparison: ComparisonRecord) -> list[str]:
    pairs = comparison.arms[0].watched if comparison.arms else ()
    return [name for pair in pairs for name in (pair.true, pair.predicted)]


def _by_change(versus: Sequence[Versus], names: Sequence[str]) -> list[str]:
    """Order classes by significance, then by the size of the change, the largest of all arms."""

    def change(name: str) -> tuple[bool, float]:
        return max(_size(one.recall[name]) for one in versus)

    return sorted(names, key=change, reverse=True)


def _size(judgment: Judgment) -> tuple[bool, float]:
    return judgment.verdict in _SIGNIFICANT, abs(judgment.delta or 0.0)


def _by_recall(comparison: ComparisonRecord) -> list[str]:
    recall = comparison.arms[0].test.recall if comparison.arms else {}
    return sorted(recall, key=lambda name: 2.0 if (mean := recall[name].mean) is None else mean)
