"""The tables of a report as plain text cells, for whatever draws them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from fer_augment.reports.wording import UNKNOWN, interval, p_value, percent, points, printable, spread
from fer_augment.results.comparison import Arm, ComparisonRecord, Judgment, Statistic, Versus

Row = tuple[str, ...]
_WORDS = ("recipe", "figure", "verdict")


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        title: what it shows, with the unit.
        columns: their headings; the first one names the rows.
        groups: rows of cells, as many as columns, in groups that belong together.
    """

    title: str
    columns: Row
    groups: tuple[tuple[Row, ...], ...]

    def __post_init__(self) -> None:
        """Refuse rows that do not fit the columns."""
        if any(len(row) != len(self.columns) for group in self.groups for row in group):
            raise ValueError(f"{self.title}: a row does not fit the columns {self.columns}")

    def is_left(self, place: int) -> bool:
        """Return whether a column holds words, which stand at its left, and no numbers."""
        return place == 0 or self.columns[place] in _WORDS

    def without(self, columns: Collection[str]) -> Grid:
        """Return the table less the columns with these headings."""
        kept = [place for place, column in enumerate(self.columns) if column not in columns]
        groups = tuple(tuple(tuple(row[place] for place in kept) for row in group) for group in self.groups)
        return replace(self, columns=tuple(self.columns[place] for place in kept), groups=groups)


def overview(comparison: ComparisonRecord) -> Grid:
    """Return the scores of all arms."""
    rows = []
    for arm in comparison.arms:
        name = printable(arm.recipe) + (" (baseline)" if arm.recipe == comparison.baseline else "")
        test, fewer = arm.test, arm.test_deduplicated
        without_copies = percent(fewer.balanced_accuracy) if fewer else UNKNOWN
        shares = [percent(test.accuracy), percent(test.balanced_accuracy), without_copies, percent(test.macro_f1)]
        rows.append((name, str(len(arm.seeds)), *shares, percent(test.ece), spread(test.nll, digits=3)))
    grid = Grid(
        "All arms, test split: % as mean ± sd over n runs",
        ("arm", "n", "accuracy", "balanced accuracy", "without copies", "macro F1", "ECE", "NLL (nats)"),
        (tuple(rows),),
    )
    has_copies = any(
        arm.test_deduplicated is None or arm.test_deduplicated.rows < arm.test.rows for arm in comparison.arms
    )
    return grid if has_copies else grid.without(["without copies"])


def against_baseline(comparison: ComparisonRecord, versus: Versus) -> Grid:
    """Return the recall of each class and the endpoints over all classes, of an arm and of the baseline."""
    arm, baseline = comparison.arm(versus.recipe), comparison.arm(versus.baseline)
    runs = f"n = {len(arm.seeds)} and {len(baseline.seeds)} runs"
    of_class = comparison.data.counts.get("test", {})
    recalls = tuple(
        _row(printable(name), of_class.get(name, 0), baseline.test.recall[name], arm.test.recall[name], said)
        for name, said in classes_by_move(versus)
    )
    return Grid(
        f"{printable(arm.recipe)} against {printable(baseline.recipe)}: recall in %, mean ± sd, {runs}",
        ("recall of", "rows", "baseline", "arm", "change", "95 % interval", "adj. p", "verdict"),
        (recalls, tuple(_over_all_classes(baseline, arm, versus))),
    )


def classes_by_move(versus: Versus) -> list[tuple[str, Judgment]]:
    """Return the classes: the one that lost most, the one that gained most, then by the size of the change."""
    delta = {name: said.delta or 0.0 for name, said in versus.recall.items()}
    by_size = sorted(delta, key=lambda name: -abs(delta[name]))
    first = [min(delta, key=lambda name: delta[name]), max(delta, key=lambda name: delta[name])]
    return [(name, versus.recall[name]) for name in dict.fromkeys([*first, *by_size])]


def _over_all_classes(baseline: Arm, arm: Arm, versus: Versus) -> Iterator[Row]:
    old, new = baseline.test, arm.test
    yield _row("accuracy", old.rows, old.accuracy, new.accuracy, versus.accuracy)
    yield _row("balanced", old.rows, old.balanced_accuracy, new.balanced_accuracy, versus.balanced_accuracy)
    fewer_old, fewer_new, said = baseline.test_deduplicated, arm.test_deduplicated, versus.test_deduplicated
    if fewer_old and fewer_new and said and fewer_old.rows != old.rows:
        balanced = fewer_old.balanced_accuracy, fewer_new.balanced_accuracy, said.balanced_accuracy
        yield _row("w/o copies", fewer_old.rows, *balanced)


def _row(label: str, rows: int, old: Statistic, new: Statistic, said: Judgment) -> Row:
    change = points(said.delta), interval(said.ci95), p_value(said.p_adjusted)
    return (label, f"{rows:,}", percent(old), percent(new), *change, str(said.verdict))
