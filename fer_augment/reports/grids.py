"""Tables of a report as plain text cells, independent of the output format."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from fer_augment.reports.notable import MOST_ROWS, notable_classes
from fer_augment.reports.wording import (
    DEDUPLICATED,
    UNKNOWN,
    interval,
    numbered,
    p_value,
    percent,
    percent_interval,
    points,
    printable,
    scored_rows,
    spread,
    units,
)
from fer_augment.results.comparison import Arm, ComparisonRecord, Judgment, Statistic, Versus

ECE_INTERVAL = "ECE 95 % CI"
Row = tuple[str, ...]
_TEXT_COLUMNS = ("recipe", "metric", "verdict", "second")


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        title: content and unit.
        columns: column headings; the first column names the rows.
        groups: groups of rows; every row has as many cells as there are columns.
        note: a sentence below the table; may be empty.
        optional: headings of columns that are left out together where the table is too wide, the last ones first.
    """

    title: str
    columns: Row
    groups: tuple[tuple[Row, ...], ...]
    note: str = ""
    optional: tuple[Row, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for a row whose length differs from the columns."""
        if any(len(row) != len(self.columns) for group in self.groups for row in group):
            raise ValueError(f"{self.title}: a row does not match the columns {self.columns}")

    def is_left(self, place: int) -> bool:
        """Return whether a column is left-aligned: text columns are, number columns are not."""
        return place == 0 or self.columns[place] in _TEXT_COLUMNS

    def without(self, columns: Collection[str]) -> Grid:
        """Return the table without the columns with these headings."""
        kept = [place for place, column in enumerate(self.columns) if column not in columns]
        groups = tuple(tuple(tuple(row[place] for place in kept) for row in group) for group in self.groups)
        return replace(self, columns=tuple(self.columns[place] for place in kept), groups=groups)


def comparison_grids(comparison: ComparisonRecord) -> tuple[Grid, ...]:
    """Return the tables of a comparison: scores of all arms and of their ensembles, each arm against the baseline."""
    validation = validation_overview(comparison)
    further = [grid for grid in (ensembles(comparison), validation) if grid]
    return overview(comparison), *further, *(against_baseline(comparison, versus) for versus in comparison.versus)


def overview(comparison: ComparisonRecord) -> Grid:
    """Return the scores of all arms on the test split."""
    rows = []
    for arm in _in_order(comparison):
        name = _arm_name(comparison, arm)
        test, deduplicated = arm.test, arm.test_deduplicated
        on_deduplicated = percent(deduplicated.balanced_accuracy) if deduplicated else UNKNOWN
        scores = [percent(test.accuracy), percent(test.balanced_accuracy), on_deduplicated, percent(test.macro_f1)]
        calibration = percent(test.ece), percent_interval(test.ece_ci95)
        rows.append((name, str(arm.n), *scores, *calibration, spread(test.nll, digits=3)))
    grid = Grid(
        f"All arms, {scored_rows(comparison)}: scores in %, mean ± sd over n {units(comparison)}",
        ("arm", "n", "accuracy", "balanced accuracy", DEDUPLICATED, "macro F1", "ECE", ECE_INTERVAL, "NLL (nats)"),
        (tuple(rows),),
        optional=((ECE_INTERVAL,), ("macro F1",), ("NLL (nats)",)),
    )
    has_probabilities = any(arm.test.nll.n or arm.test.ece.n for arm in comparison.arms)
    has_interval = any(arm.test.ece_ci95 for arm in comparison.arms)
    is_known = {DEDUPLICATED: has_duplicates(comparison), ECE_INTERVAL: has_interval}
    is_known |= dict.fromkeys(("ECE", "NLL (nats)"), has_probabilities)
    return grid.without([column for column, known in is_known.items() if not known])


def has_duplicates(comparison: ComparisonRecord) -> bool:
    """Return whether test images are known to have an exact duplicate in the training split."""
    counts = comparison.data.counts
    return "test_deduplicated" in counts and counts["test_deduplicated"] != counts.get("test")


def validation_overview(comparison: ComparisonRecord) -> Grid | None:
    """Return the scores of all arms on the validation split; None without predictions for it."""
    scored = [(arm, arm.validation) for arm in _in_order(comparison) if arm.validation]
    rows = tuple(
        (
            _arm_name(comparison, arm),
            str(scores.accuracy.n),
            percent(scores.accuracy),
            percent(scores.balanced_accuracy),
        )
        for arm, scores in scored
    )
    if not rows:
        return None
    held_out = "of the held-out folds" if comparison.cross_validation else "on the test split"
    return Grid(
        "All arms, validation split: scores in %, mean ± sd over n runs",
        ("arm", "n", "accuracy", "balanced accuracy"),
        (rows,),
        note=f"Select recipes by these scores, not by those {held_out}.",
    )


def ensembles(comparison: ComparisonRecord) -> Grid | None:
    """Return the scores of the ensemble of each arm's runs on the test split; None if there are none."""
    scored = [(arm, arm.ensemble) for arm in _in_order(comparison) if arm.ensemble]
    shown = comparison.class_names if len(comparison.class_names) <= MOST_ROWS else ()
    rows = tuple(
        (
            *(_arm_name(comparison, arm), str(one.runs), _share(one.accuracy), _share(one.balanced_accuracy)),
            *(_share(one.ece), *(_share(one.recall[name]) for name in shown)),
        )
        for arm, one in scored
    )
    if not rows:
        return None
    classes = tuple(f"recall {printable(name)}" for name in shown)
    return Grid(
        "Ensembles of all runs of an arm, test split: scores in %",
        ("arm", "runs", "accuracy", "balanced accuracy", "ECE", *classes),
        (rows,),
        note="An ensemble predicts by the mean of the runs' class probabilities. One ensemble per arm: no interval and "
        "no verdict. It takes the predictions of all runs, so compare it with ensembles only."
        + ("" if shown else " All classes: comparison.json."),
        optional=(classes,),
    )


def _share(score: float | None) -> str:
    return UNKNOWN if score is None else f"{100 * score:.1f}"


def _in_order(comparison: ComparisonRecord) -> Sequence[Arm]:
    """Return the arms as compared; with a grid, the baseline, then the others by balanced accuracy on the test rows."""
    if not comparison.grid:
        return comparison.arms
    means = {arm.recipe: arm.test.balanced_accuracy.mean for arm in comparison.arms}
    return sorted(comparison.arms, key=lambda arm: (arm.recipe != comparison.baseline, -(means[arm.recipe] or 0)))


def _arm_name(comparison: ComparisonRecord, arm: Arm) -> str:
    is_chosen = comparison.grid is not None and comparison.grid.chosen == arm.recipe
    remarks = ["baseline"] if arm.recipe == comparison.baseline else []
    remarks += ["chosen on validation"] if is_chosen else []
    return printable(arm.recipe) + (f" ({', '.join(remarks)})" if remarks else "")


def recall_by_arm(comparison: ComparisonRecord) -> Grid:
    """Return the recall of each class in every arm, without tests."""
    counts = comparison.data.counts.get("test", {})
    arms = [f"{printable(arm.recipe)} (n = {arm.n})" for arm in comparison.arms]
    rows = tuple(
        (printable(name), f"{counts.get(name, 0):,}", *(percent(arm.test.recall[name]) for arm in comparison.arms))
        for name in comparison.class_names
    )
    title = f"Recall per class, {scored_rows(comparison)}: %, mean ± sd over n {units(comparison)}"
    return Grid(title, ("class", "images", *arms), (rows,))


def against_baseline(comparison: ComparisonRecord, versus: Versus) -> Grid:
    """Return the recall of each class and the overall endpoints of an arm and the baseline, with the tests."""
    arm, baseline = comparison.arm(versus.recipe), comparison.arm(versus.baseline)
    counts = comparison.data.counts.get("test", {})
    shown = notable_classes(comparison, versus)
    recalls = tuple(
        _row(printable(name), counts.get(name, 0), baseline.test.recall[name], arm.test.recall[name], judgment)
        for name, judgment in ((name, versus.recall[name]) for name in shown)
    )
    missing = len(comparison.class_names) - len(shown)
    names = f"{printable(arm.recipe)} vs. {printable(baseline.recipe)}"
    return Grid(
        f"{names}: recall in %, mean ± sd, {runs_of(comparison, versus)}",
        ("class", "images", "baseline", "arm", "difference", "95 % CI", "adj. p", "verdict"),
        (recalls, tuple(_overall(baseline, arm, versus))),
        note=f"{missing:,} other classes changed less; all are in the CSV table." if missing else "",
    )


def runs_of(comparison: ComparisonRecord, versus: Versus) -> str:
    """Describe the numbers of runs, or of repeats, of an arm and the baseline."""
    arm, baseline = comparison.arm(versus.recipe), comparison.arm(versus.baseline)
    numbers = f"n = {numbered(arm.n, comparison)}"
    numbers += " each" if arm.n == baseline.n else f" (baseline {baseline.n})"
    if not comparison.cross_validation or arm.repeats == baseline.repeats:
        return numbers
    return f"{numbers}, tested on the {len(arm.repeats & baseline.repeats)} that both have"


def _overall(baseline: Arm, arm: Arm, versus: Versus) -> Iterator[Row]:
    old, new = baseline.test, arm.test
    yield _row("accuracy", old.rows, old.accuracy, new.accuracy, versus.accuracy)
    yield _row("balanced accuracy", old.rows, old.balanced_accuracy, new.balanced_accuracy, versus.balanced_accuracy)
    old_deduplicated, new_deduplicated = baseline.test_deduplicated, arm.test_deduplicated
    judgments = versus.test_deduplicated
    if old_deduplicated and new_deduplicated and judgments and old_deduplicated.rows != old.rows:
        scores = old_deduplicated.balanced_accuracy, new_deduplicated.balanced_accuracy
        yield _row(DEDUPLICATED, old_deduplicated.rows, *scores, judgments.balanced_accuracy)


def _row(label: str, rows: int, old: Statistic, new: Statistic, judgment: Judgment) -> Row:
    difference = points(judgment.delta), interval(judgment.ci95), p_value(judgment.p_adjusted)
    return (label, f"{rows:,}", percent(old), percent(new), *difference, str(judgment.verdict))
