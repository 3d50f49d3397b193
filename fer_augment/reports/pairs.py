"""Tests of every two arms: groups without evidence of a difference, a table, and data of the chart that joins them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fer_augment.reports.axes import Axis
from fer_augment.reports.grids import Grid
from fer_augment.reports.wording import interval, p_value, percent, points, printable, scored_rows, units
from fer_augment.results.comparison import Arm, ComparisonRecord, Judgment, Versus
from fer_augment.significance import Verdict

MOST_PAIRS = 45
"""Pairs of arms up to which tables have a row for each."""

_GROUPS_MEAN = (
    'Arms of one group: "no evidence of a difference" in balanced accuracy between any two of them, after Holm\'s '
    "correction over all pairs. This does not mean that they are equal. "
)

_OPPOSITE = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}


@dataclass(frozen=True)
class Ranking:
    """Arms in descending order of mean balanced accuracy on the test split.

    Attributes:
        arms: the arms.
        groups: places of arms between any two of which there is no evidence of a difference; every such pair is in at
            least one group, and no group is in another one.
        untested: number of pairs that could not be tested.
    """

    arms: tuple[Arm, ...]
    groups: tuple[tuple[int, ...], ...]
    untested: int

    def groups_of(self, place: int) -> tuple[int, ...]:
        """Return the numbers of the groups of an arm, from 1."""
        return tuple(number for number, group in enumerate(self.groups, start=1) if place in group)

    @property
    def meaning(self) -> str:
        """State what a group is, and that some pairs were not tested."""
        if not self.untested:
            return f"{_GROUPS_MEAN}Two arms without a common group differ significantly."
        pairs = "1 pair was" if self.untested == 1 else f"{self.untested:,} pairs were"
        return f"{_GROUPS_MEAN}Two arms without a common group differ significantly, or were not tested: {pairs} not."


def ranking(comparison: ComparisonRecord) -> Ranking | None:
    """Return the arms with their groups; None if not every two arms are compared, or no pair could be tested."""
    verdicts = {frozenset((one.recipe, one.baseline)): one.balanced_accuracy.verdict for one in comparison.tests}
    is_tested = [verdict not in (Verdict.ONE_RUN, Verdict.UNTESTABLE) for verdict in verdicts.values()]
    if comparison.against != "all" or not any(is_tested):
        return None
    arms = sorted(comparison.arms, key=lambda arm: -(arm.test.balanced_accuracy.mean or 0.0))
    joined = [
        [verdicts.get(frozenset((a.recipe, b.recipe))) == Verdict.NO_EVIDENCE and a is not b for b in arms]
        for a in arms
    ]
    return Ranking(tuple(arms), tuple(_groups(joined)), is_tested.count(False))


def _groups(joined: Sequence[Sequence[bool]]) -> list[tuple[int, ...]]:
    """Cover all joined pairs by groups whose members are all joined, in order of their first members.

    A group starts with a pair that is in none yet, of the first arm of such a pair and the last one joined to it, and
    takes all arms that are joined to all of it, in order. At the end, groups whose pairs are all in others are dropped.
    """
    places = range(len(joined))
    pairs = [(a, b) for a in places for b in reversed(places) if a < b and joined[a][b]]
    groups: list[tuple[int, ...]] = []
    for a, b in pairs:
        if any(a in group and b in group for group in groups):
            continue
        members = [a, b]
        for place in places:
            if place not in members and all(joined[place][member] for member in members):
                members.append(place)
        groups.append(tuple(sorted(members)))
    for group in list(groups):
        others = [other for other in groups if other is not group]
        own = [(a, b) for a, b in pairs if a in group and b in group]
        if all(any(a in other and b in other for other in others) for a, b in own):
            groups = others
    return sorted(groups)


# --- tables


def pair_grids(comparison: ComparisonRecord) -> tuple[Grid, ...]:
    """Return the groups of arms, and the tests of balanced accuracy of every two arms; none if they are not tested."""
    ranked = ranking(comparison)
    if not ranked:
        return ()
    rows = tuple(
        (printable(arm.recipe), percent(arm.test.balanced_accuracy), " ".join(map(str, ranked.groups_of(place))) or "-")
        for place, arm in enumerate(ranked.arms)
    )
    title = f"Every two arms, {scored_rows(comparison)}: balanced accuracy in %, mean ± sd over {units(comparison)}"
    groups = Grid(title, ("arm", "balanced accuracy", "groups"), (rows,), note=ranked.meaning)
    return groups, pair_table(comparison, ranked)


def pair_table(comparison: ComparisonRecord, ranked: Ranking, most: int = MOST_PAIRS) -> Grid:
    """Return the test of balanced accuracy of every two arms; of many pairs those with the largest differences."""
    pairs = list(_in_order(comparison, ranked))
    largest = sorted(pairs, key=lambda pair: -abs(pair[2].delta or 0.0))[:most]
    rows = tuple(
        (
            *(printable(first), printable(second), points(judgment.delta), interval(judgment.ci95)),
            *(p_value(judgment.p_adjusted), str(judgment.verdict)),
        )
        for first, second, judgment in (pairs if len(pairs) <= most else largest)
    )
    missing = len(pairs) - len(rows)
    return Grid(
        "Every two arms: balanced accuracy of the first minus that of the second, points",
        ("first", "second", "difference", "95 % CI", "adj. p", "verdict"),
        (rows,),
        note=f"{missing:,} other pairs differ less; all are in the CSV table." if missing else "",
    )


def _in_order(comparison: ComparisonRecord, ranked: Ranking) -> Iterator[tuple[str, str, Judgment]]:
    """Yield every two arms, the one with the higher mean first, and their test in this direction."""
    tests = {frozenset((one.recipe, one.baseline)): one for one in comparison.tests}
    names = [arm.recipe for arm in ranked.arms]
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            one = tests.get(frozenset((first, second)))
            if one:
                yield first, second, one.balanced_accuracy if one.recipe == first else _opposite(one)


def _opposite(versus: Versus) -> Judgment:
    """Return the test of balanced accuracy with the arms exchanged."""
    judgment = versus.balanced_accuracy
    return judgment.model_copy(
        update={
            "delta": None if judgment.delta is None else -judgment.delta,
            "ci95": judgment.ci95 and (-judgment.ci95[1], -judgment.ci95[0]),
            "verdict": _OPPOSITE.get(judgment.verdict, judgment.verdict),
        }
    )


# --- chart


@dataclass(frozen=True)
class Bar:
    """Part of a group's bar in the row of an arm.

    Attributes:
        group: number of the group, from 1.
        x: position from the left, in pixels.
        top: where the bar begins, in percent of the row; 50 in its first row.
        bottom: where it ends.
        is_member: whether the arm is in the group; a bar also passes arms that are not.
    """

    group: int
    x: int
    top: int
    bottom: int
    is_member: bool


@dataclass(frozen=True)
class RankedArm:
    """An arm as a row of the chart.

    Attributes:
        arm: its name.
        score: balanced accuracy in percent, `mean ± sd`.
        n: number of runs, or of repeats.
        at: position of its mean on the axis, in percent; None if it is undefined.
        groups: numbers of its groups, as text; empty if there are none.
        bars: parts of bars in its row.
    """

    arm: str
    score: str
    n: int
    at: float | None
    groups: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class RankingChart:
    """Mean balanced accuracy of every arm on an axis; bars join the arms of each group.

    After the critical-difference diagrams of Demšar (2006, J. Mach. Learn. Res. 7, p. 1), but with the tests of every
    pair in place of one critical difference of ranks.

    Attributes:
        axis: axis of the means, in percent.
        rows: arms in descending order of their means.
        width: width of the part with the bars, in pixels.
        meaning: what a bar means.
        table: the tests of all pairs.
    """

    axis: Axis
    rows: tuple[RankedArm, ...]
    width: int
    meaning: str
    table: Grid


def ranking_chart(comparison: ComparisonRecord) -> RankingChart | None:
    """Return the chart; None if not every two arms are tested."""
    ranked = ranking(comparison)
    if not ranked:
        return None
    means = [100 * mean for arm in ranked.arms if (mean := arm.test.balanced_accuracy.mean) is not None]
    axis, pitch = Axis.close_to(means), 12 if len(ranked.groups) <= 8 else 8
    rows = []
    for place, arm in enumerate(ranked.arms):
        summary = arm.test.balanced_accuracy
        rows.append(
            RankedArm(
                arm=printable(arm.recipe),
                score=percent(summary),
                n=summary.n,
                at=None if summary.mean is None else axis.at(100 * summary.mean),
                groups=", ".join(map(str, ranked.groups_of(place))),
                bars=tuple(_bars(ranked, place, pitch)),
            )
        )
    pairs = len(comparison.tests)
    table = pair_table(comparison, ranked, most=pairs)
    return RankingChart(axis, tuple(rows), pitch * max(len(ranked.groups), 1) + 4, ranked.meaning, table)


def _bars(ranked: Ranking, place: int, pitch: int) -> Iterator[Bar]:
    for number, group in enumerate(ranked.groups):
        if group[0] <= place <= group[-1]:
            top, bottom = (50 if place == group[0] else 0), (50 if place == group[-1] else 100)
            yield Bar(number + 1, pitch * number + pitch // 2, top, bottom, place in group)
