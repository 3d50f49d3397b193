"""How reports put a comparison into words and short numbers, the same in every format.

Scores are shown in percent and differences in points, a hundredth of the range of a score.
"""

from __future__ import annotations

from collections.abc import Iterable

from fer_augment.results.comparison import ComparisonRecord, Interval, Judgment, Statistic, Versus
from fer_augment.results.comparison_warnings import listed
from fer_augment.significance import LEVEL, Verdict

UNKNOWN = "-"

READING = (
    "Changes and 95 % intervals are in points, over new runs and new images, each by itself; copies within the test "
    "split count once. Adjusted p (Holm): for recall over the classes of an arm, for accuracy and balanced accuracy "
    "over the arms; what would often be missed is told before this correction, and with several arms it takes more."
)
"""How the numbers of a verdict are to be read."""

READING_WITHOUT_INTERVALS = "Changes are in points; copies within the test split count once."
"""The same where no number has an interval: arms of a single run."""


def printable(name: str) -> str:
    """Return text from a file or a folder in one line, without what would steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(name.split()))


# --- numbers


def percent(score: Statistic) -> str:
    """Return mean and sd of a score in `[0, 1]`, in percent: `55.1 ± 0.6`."""
    return spread(score, scale=100)


def spread(number: Statistic, *, scale: float = 1, digits: int = 1) -> str:
    """Return `mean ± sd`, or the mean alone where there is but one run."""
    if number.mean is None:
        return UNKNOWN
    mean = f"{number.mean * scale:,.{digits}f}"
    return mean if number.sd is None else f"{mean} ± {number.sd * scale:,.{digits}f}"


def points(delta: float | None) -> str:
    """Return a difference of two scores in points, with its sign: `+0.9`."""
    if delta is None:
        return UNKNOWN
    told = f"{delta * 100:+.1f}"
    return "0.0" if float(told) == 0 else told


def interval(ci95: Interval | None) -> str:
    """Return an interval of a difference in points, less what no difference can be: `-0.1 to +1.9`."""
    if ci95 is None:
        return UNKNOWN
    low, high = (min(max(end, -1.0), 1.0) for end in ci95)
    return f"{points(low)} to {points(high)}"


def p_value(p: float | None) -> str:
    """Return a p-value to three digits, `0.042` or `<.001`, or to more where the verdict hangs on them: `0.0497`."""
    if p is None:
        return UNKNOWN
    if p < 0.001:
        return "<.001"
    rounded = (f"{p:.{digits}f}" for digits in (3, 4, 5))
    return next((told for told in rounded if (float(told) < LEVEL) == (p < LEVEL)), f"<{LEVEL}")


# --- sentences


def headline(comparison: ComparisonRecord) -> str:
    """Name the data."""
    rows = sum(comparison.data.counts.get("test", {}).values())
    return f"{printable(comparison.data.source)}: test split of {rows:,} rows, {len(comparison.class_names)} classes"


def verdict_sentence(versus: Versus) -> str:
    """Say what may be said of an arm, by its balanced accuracy on the test split, and where copies decide it."""
    return f"{_verdict(versus)}{_without_copies(versus)}."


def _verdict(versus: Versus) -> str:
    said, arm, baseline = versus.balanced_accuracy, printable(versus.recipe), printable(versus.baseline)
    if said.verdict in (Verdict.BETTER, Verdict.WORSE):
        return f"{arm} is {said.verdict} than {baseline}: {_evidence(versus)}"
    if said.verdict == Verdict.NO_EVIDENCE:
        return f"{arm}: no evidence of a difference from {baseline}: {_evidence(versus)}{_could_be_missed(said)}"
    difference = f"balanced accuracy {points(said.delta)} points against {baseline}"
    if said.verdict == Verdict.ONE_RUN:
        return f"{arm}: one run cannot tell a recipe from luck; these runs differ by {difference}"
    return f"{arm}: cannot be tested against {baseline}; {difference}"


def _without_copies(versus: Versus) -> str:
    """Say what the verdict is on test rows that do not stand in the training split, where it is another one."""
    if not versus.test_deduplicated:
        return ""
    said = versus.test_deduplicated.balanced_accuracy
    if said.verdict == versus.balanced_accuracy.verdict:
        return ""
    return f"; without copies of training rows: {said.verdict} ({points(said.delta)} points)"


def _evidence(versus: Versus) -> str:
    said = versus.balanced_accuracy
    told = f"balanced accuracy {points(said.delta)} points"
    details = [f"95 % interval {interval(said.ci95)}"] if said.ci95 else []
    details.append(f"adjusted p {p_value(said.p_adjusted)}")
    if versus.share_above is not None:
        details.append(f"higher in {_most_of(versus.share_above)} % of bootstrap resamples")
    return f"{told} ({', '.join(details)})"


def _most_of(share: float) -> str:
    """Return a share in percent that is never rounded to all or nothing."""
    told = f"{share * 100:.0f}"
    return {"0": "<1", "100": ">99"}.get(told, told)


def _could_be_missed(said: Judgment) -> str:
    if not said.detectable:
        return ""
    size = f"{said.detectable * 100:.1f}"
    return f"; before Holm's correction, a true one of less than {size} points would often be missed"


def cost_sentence(versus: Versus) -> str:
    """Say what became of accuracy, and which classes gained and which paid, whatever the verdict on the whole."""
    is_judged = versus.balanced_accuracy.verdict != Verdict.ONE_RUN
    word = f" ({versus.accuracy.verdict})" if is_judged else ""
    told = [f"Accuracy {points(versus.accuracy.delta)} points{word}"]
    verdicts = {name: said.verdict for name, said in versus.recall.items()}
    deltas = {name: said.delta for name, said in versus.recall.items() if said.delta is not None}
    for verdict in (Verdict.BETTER, Verdict.WORSE):
        moved = [f"{printable(name)} ({points(deltas[name])})" for name in deltas if verdicts[name] == verdict]
        if moved:
            told.append(f"recall {verdict} for {listed(moved)}")
    if Verdict.WORSE not in verdicts.values() and deltas:
        told += ["no class is shown to be worse"] if is_judged else []
        name = min(deltas, key=lambda name: deltas[name])
        told.append(_largest_fall(printable(name), deltas[name]))
    return f"{'; '.join(told)}."


def _largest_fall(name: str, delta: float) -> str:
    if delta >= 0:
        return "no recall fell"
    fall = points(delta)
    return f"the largest fall is {name} ({fall})" if float(fall) else "no recall fell by a tenth of a point"


def notes(comparison: ComparisonRecord) -> list[str]:
    """Say what the tables leave open: copies, watched pairs of classes, added rows, how to read the numbers."""
    copies = copies_sentence(comparison)
    told = [copies] if copies else []
    for number, pair in enumerate(comparison.arms[0].watched if comparison.arms else ()):
        counts = ", ".join(f"{printable(arm.recipe)} {spread(arm.watched[number].count)}" for arm in comparison.arms)
        told.append(f"{printable(pair.true)} taken for {printable(pair.predicted)}, test rows a run: {counts}.")
    steps = [(arm, step) for arm in comparison.arms for step in arm.steps if any(step.rows)]
    added = [f"{printable(arm.recipe)} {_from_to(step.rows)} by {printable(step.name)}" for arm, step in steps]
    if added:
        told.append(f"Rows added to the training set a run: {', '.join(added)}.")
    chosen = [
        f"{printable(arm.recipe)} {printable(step.name)} {printable(name)} {', '.join(map(_number, values))}"
        for arm in comparison.arms
        for step in arm.steps
        for name, values in step.chosen.items()
    ]
    if chosen:
        told.append(f"Chosen by steps themselves, one number a run: {'; '.join(chosen)}.")
    if not comparison.versus:
        return told
    return [*told, READING if any(map(_has_interval, comparison.versus)) else READING_WITHOUT_INTERVALS]


def _has_interval(versus: Versus) -> bool:
    return any(said.ci95 for said in (versus.accuracy, versus.balanced_accuracy, *versus.recall.values()))


def failures(comparison: ComparisonRecord) -> list[str]:
    """Name each run that failed, and why."""
    return [printable(f"{failed.recipe}, seed {failed.seed}: {failed.message}") for failed in comparison.failures]


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _from_to(numbers: Iterable[int]) -> str:
    distinct = sorted(set(numbers))
    return f"{distinct[0]:,}" if len(distinct) == 1 else f"{distinct[0]:,} to {distinct[-1]:,}"


def copies_sentence(comparison: ComparisonRecord) -> str | None:
    """Say which test rows also stand in the training split; None if none does."""
    whole, without = (comparison.data.counts.get(split, {}) for split in ("test", "test_deduplicated"))
    copies = {name: count - without.get(name, count) for name, count in whole.items()}
    total = sum(copies.values())
    if not total:
        return None
    most = sorted((name for name in copies if copies[name]), key=lambda name: -copies[name] / whole[name])[:3]
    told = ", ".join(f"{printable(name)} {copies[name]} of {whole[name]:,}" for name in most)
    return (
        f"Without copies: less the {total:,} of {sum(whole.values()):,} test rows that stand in the training split too "
        f"(most: {told})."
    )
