"""Text and number formats that all reports share.

Scores are shown in percent and differences in percentage points ("points").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fer_augment.results.comparison import ComparisonRecord, Interval, Judgment, Statistic, Versus
from fer_augment.results.comparison_warnings import listed
from fer_augment.results.judgments import PRECISIONS
from fer_augment.significance import LEVEL, Verdict

UNKNOWN = "-"

_MOST_NAMES = 10
"""Classes that a sentence names: those that changed most."""

DEDUPLICATED = "deduplicated"
"""Label of balanced accuracy on the deduplicated test split, as a column and as a row."""

EXPLANATION = (
    "Differences and 95 % confidence intervals (CI) are in percentage points. CIs cover new seeds and new test images "
    "and are unadjusted. Exact duplicates within the test split count once. Adjusted p: Holm's correction, over the "
    "classes of an arm for recall, over the arms for accuracy and balanced accuracy. Because of this correction, a "
    "CI may exclude 0 although the verdict is no evidence of a difference. With several arms, the minimum detectable "
    "effect after this correction is larger."
)
"""Explanation of the numbers of a verdict."""

_OVER_ARMS, _OVER_PAIRS = "over the arms for", "over all pairs of arms for"
_NEW_ON_A_SPLIT, _NEW_IN_FOLDS = "new seeds and new test images", "new trainings and new data sets"

EXPLANATION_WITHOUT_TESTS = "Differences are in percentage points; exact duplicates within the test split count once."
"""The same for comparisons without intervals: arms with one run."""


_LONGEST_TEXT = 2000
"""Characters of a name or sentence from a file that are shown."""
_MOST_LINES = 100
"""Lines of a list of warnings or failures that are shown."""


def printable(name: str) -> str:
    """Return text from a file or folder on one line, cut if it is long, with non-printable characters as `?`."""
    text = name if len(name) <= _LONGEST_TEXT else f"{name[:_LONGEST_TEXT]}…"
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))


def class_phrase(name: str) -> str:
    """Return the name of a class for a sentence: `class 8` if it is a number."""
    return f"class {name}" if name.isdecimal() else printable(name)


def printable_lines(lines: Sequence[str]) -> list[str]:
    """Return lines of a list for display, with the number of those that are left out if there are too many."""
    shown = [printable(line) for line in lines[:_MOST_LINES]]
    left_out = len(lines) - len(shown)
    return [*shown, f"and {left_out:,} more, see comparison.json"] if left_out else shown


def warning_lines(comparison: ComparisonRecord) -> list[str]:
    """Return the warnings of a comparison for display."""
    return printable_lines(comparison.warnings)


# --- numbers


def percent(score: Statistic) -> str:
    """Format mean and sd of a score in `[0, 1]` in percent: `55.1 ± 0.6`."""
    return spread(score, scale=100)


def spread(number: Statistic, *, scale: float = 1, digits: int = 1) -> str:
    """Format `mean ± sd`, or the mean alone if there is one run."""
    if number.mean is None:
        return UNKNOWN
    mean = f"{number.mean * scale:,.{digits}f}"
    return mean if number.sd is None else f"{mean} ± {number.sd * scale:,.{digits}f}"


def points(delta: float | None) -> str:
    """Format a difference of two scores in points, with its sign: `+0.9`."""
    if delta is None:
        return UNKNOWN
    text = f"{delta * 100:+.1f}"
    return "0.0" if float(text) == 0 else text


def interval(ci95: Interval | None) -> str:
    """Format an interval of a difference in points, clipped to [-100, 100]: `-0.1 to +1.9`."""
    if ci95 is None:
        return UNKNOWN
    low, high = (min(max(end, -1.0), 1.0) for end in ci95)
    return f"{points(low)} to {points(high)}"


def percent_interval(ci95: Interval | None) -> str:
    """Format an interval of a score in percent: `2.1 to 4.0`."""
    return UNKNOWN if ci95 is None else f"{100 * ci95[0]:.1f} to {100 * ci95[1]:.1f}"


def p_value(p: float | None) -> str:
    """Format a p-value with three digits, or more if rounding would cross the significance level.

    Examples: `0.042`, `<.001`, `0.0497`.
    """
    if p is None:
        return UNKNOWN
    if p < 0.001:
        return "<.001"
    rounded = (f"{p:.{digits}f}" for digits in (3, 4, 5))
    return next((text for text in rounded if (float(text) < LEVEL) == (p < LEVEL)), f"<{LEVEL}")


# --- sentences


def headline(comparison: ComparisonRecord) -> str:
    """Describe the data, and how often all of them were held out."""
    rows = sum(comparison.data.counts.get("test", {}).values())
    data, design = f"{printable(comparison.data.source)}: {len(comparison.class_names)} classes", ""
    if comparison.cross_validation:
        repeats = comparison.cross_validation.repeats
        times = "once" if repeats == 1 else f"{repeats} times"
        design = f", {comparison.cross_validation.folds}-fold cross-validation, {times}"
    return f"{data}, {rows:,} {'images' if design else 'test images'}{design}"


def design_sentence(comparison: ComparisonRecord) -> str | None:
    """State what the scores and intervals of a cross-validation are about; None on a fixed test split."""
    design = comparison.cross_validation
    if design is None:
        return None
    test = (
        "The given test split was not scored." if design.keeps_test else "It is not a score on an official test split."
    )
    return (
        "Every image was held out once in each repeat, by trainings that had not seen it; the interval holds for new "
        "trainings and for another data set like this one, trained on "
        f"{100 * (design.folds - 1) / design.folds:.0f} % as many images. {test}"
    )


def precision_sentence(comparison: ComparisonRecord) -> str | None:
    """State how precisely balanced accuracy is known, and how many seeds more precision would take; None if unknown."""
    halves = [((ci95[1] - ci95[0]) / 2, one) for one in comparison.tests if (ci95 := one.balanced_accuracy.ci95)]
    if not halves or comparison.cross_validation:
        return None
    half, widest = max(halves, key=lambda pair: pair[0])
    now = 100 * half
    which = "difference in balanced accuracy"
    if len(comparison.tests) > 1:
        names = f"{printable(widest.recipe)} vs. {printable(widest.baseline)}"
        which = f"least precise {which}, {names}"
    further = {points: seeds for points, seeds in comparison.seeds_for_precision.items() if float(points) < now}
    reachable = [f"± {points} about {seeds} seeds" for points, seeds in further.items() if seeds is not None]
    beyond = next((points for points, seeds in further.items() if seeds is None), None)
    parts = [f"± {now:.1f} points now"]
    parts += [f"estimated for {', '.join(reachable)}"] if reachable else []
    unknown = [f"± {points}" for points in PRECISIONS if points < now and f"{points}" not in further]
    hint = "; if the test split is small, use --folds" if comparison.is_of_trainings else ""
    parts += [f"the seeds for {listed(unknown)} are unknown{hint}"] if unknown else []
    parts += [f"± {beyond} is probably out of reach on this test split with any number of seeds"] if beyond else []
    return f"Precision of the {which} (95 % CI): {'; '.join(parts)}."


def choice_sentence(comparison: ComparisonRecord) -> str | None:
    """State which arm of a grid was chosen on validation, and what that means for its score; None without a choice."""
    if not comparison.grid or comparison.grid.chosen is None:
        return None
    arm = comparison.arm(comparison.grid.chosen)
    balanced = arm.validation.balanced_accuracy if arm.validation else None
    score = f"{percent(balanced)} %, n = {balanced.n}" if balanced else UNKNOWN
    chosen = (
        f"{printable(arm.recipe)} was chosen on validation among the {len(comparison.grid.arms)} arms of the grid: its "
        f"mean balanced accuracy there is the highest ({score})."
    )
    if comparison.cross_validation:
        return (
            f"{chosen} Every image of a validation part is held out by another fold, so its score on the held-out "
            "folds is slightly too high by this choice; confirm it on other data."
        )
    return (
        f"{chosen} The test split took no part in this choice, so its test score and its difference are unbiased by "
        "it; the highest test score of the table, as such, is not."
    )


def unit_of(comparison: ComparisonRecord) -> str:
    """Return what scores are scores of: `run`, or `repeat` in a cross-validation."""
    return "repeat" if comparison.cross_validation else "run"


def units(comparison: ComparisonRecord) -> str:
    """Return `runs`, or `repeats` in a cross-validation."""
    return f"{unit_of(comparison)}s"


def numbered(count: int, comparison: ComparisonRecord) -> str:
    """Return a number of runs, or of repeats in a cross-validation: `1 run`, `5 runs`."""
    return f"{count} {unit_of(comparison) if count == 1 else units(comparison)}"


def scored_rows(comparison: ComparisonRecord) -> str:
    """Name the rows that are scored: `test split`, or `held-out folds` in a cross-validation."""
    return "held-out folds" if comparison.cross_validation else "test split"


def new_samples(comparison: ComparisonRecord) -> str:
    """Say what confidence intervals cover."""
    return _NEW_IN_FOLDS if comparison.cross_validation else _NEW_ON_A_SPLIT


def verdict_sentence(versus: Versus) -> str:
    """State the verdict on balanced accuracy, and that on the deduplicated test split if it differs."""
    return f"{_verdict(versus)}{_on_deduplicated(versus)}"


def _verdict(versus: Versus) -> str:
    judgment, arm, baseline = versus.balanced_accuracy, printable(versus.recipe), printable(versus.baseline)
    if judgment.verdict in (Verdict.BETTER, Verdict.WORSE):
        return f"{arm} is {judgment.verdict} than {baseline}: {_evidence(versus)}."
    if judgment.verdict == Verdict.NO_EVIDENCE:
        return f"{arm}: no evidence of a difference from {baseline}: {_evidence(versus)}.{_detectable(judgment)}"
    return f"{arm} vs. {baseline}: {judgment.verdict}; balanced accuracy {points(judgment.delta)} points."


def _on_deduplicated(versus: Versus) -> str:
    if not versus.test_deduplicated:
        return ""
    judgment = versus.test_deduplicated.balanced_accuracy
    if judgment.verdict == versus.balanced_accuracy.verdict:
        return ""
    return f" On the deduplicated test split: {judgment.verdict} ({points(judgment.delta)} points)."


def _evidence(versus: Versus) -> str:
    judgment = versus.balanced_accuracy
    details = [f"95 % CI {interval(judgment.ci95)}"] if judgment.ci95 else []
    details.append(f"adjusted p {_relation(p_value(judgment.p_adjusted))}")
    if versus.share_above is not None:
        details.append(f"higher in {_inexact_percent(versus.share_above)} % of bootstrap resamples")
    return f"balanced accuracy {points(judgment.delta)} points ({', '.join(details)})"


def _relation(p: str) -> str:
    return f"< {p[1:]}" if p.startswith("<") else f"= {p}"


def _inexact_percent(share: float) -> str:
    """Format a share in percent without rounding to 0 or 100."""
    text = f"{share * 100:.0f}"
    return {"0": "<1", "100": ">99"}.get(text, text)


def _detectable(judgment: Judgment) -> str:
    if not judgment.detectable:
        return ""
    return f" Minimum detectable effect (80 % power, unadjusted): {judgment.detectable * 100:.1f} points."


def cost_sentence(versus: Versus) -> str:
    """State the change of accuracy, the classes with significant changes of recall, and the largest drop."""
    word = f" ({versus.accuracy.verdict})" if is_tested(versus) else ""
    parts = [f"Accuracy {points(versus.accuracy.delta)} points{word}"]
    verdicts = {name: judgment.verdict for name, judgment in versus.recall.items()}
    deltas = {name: judgment.delta for name, judgment in versus.recall.items() if judgment.delta is not None}
    for verdict in (Verdict.BETTER, Verdict.WORSE):
        names = [name for name in deltas if verdicts[name] == verdict]
        largest = sorted(names, key=lambda name: -abs(deltas[name]))[:_MOST_NAMES]
        changed = [f"{class_phrase(name)} ({points(deltas[name])})" for name in names if name in largest]
        if len(names) > len(changed):
            changed.append(f"{len(names) - len(changed):,} other classes")
        if changed:
            parts.append(f"recall {verdict} for {listed(changed)}")
    if Verdict.WORSE not in verdicts.values() and deltas:
        name = min(deltas, key=lambda name: deltas[name])
        parts += ["no class is significantly worse"] if is_tested(versus) else []
        parts.append(_largest_drop(class_phrase(name), deltas[name]))
    return f"{'; '.join(parts)}."


def _largest_drop(name: str, delta: float) -> str:
    if delta >= 0:
        return "no recall dropped"
    drop = points(delta)
    if not float(drop):
        return "no recall dropped by 0.1 points or more"
    return f"largest drop: {name} ({drop})"


def notes(comparison: ComparisonRecord) -> list[str]:
    """Return remarks on the tables: duplicates, watched confusions, added rows, explanation of the numbers."""
    duplicates = duplicates_sentence(comparison)
    remarks = [choice] if (choice := choice_sentence(comparison)) else []
    remarks += [f'{duplicates} In tables, "{DEDUPLICATED}" is balanced accuracy on it.'] if duplicates else []
    images = "images per repeat" if comparison.cross_validation else "test images per run"
    for number, pair in enumerate(comparison.arms[0].watched if comparison.arms else ()):
        counts = ", ".join(f"{printable(arm.recipe)} {spread(arm.watched[number].count)}" for arm in comparison.arms)
        remarks.append(f"{printable(pair.true)} predicted as {printable(pair.predicted)}, {images}: {counts}.")
    steps = [(arm, step) for arm in comparison.arms for step in arm.steps if any(step.rows)]
    added = [f"{printable(arm.recipe)} {_range(step.rows)} by {printable(step.name)}" for arm, step in steps]
    if added:
        remarks.append(f"Training rows added per run: {', '.join(added)}.")
    chosen = [
        f"{printable(arm.recipe)} {printable(step.name)} {printable(name)} = {', '.join(map(_number, values))}"
        for arm in comparison.arms
        for step in arm.steps
        for name, values in step.chosen.items()
    ]
    if chosen:
        remarks.append(f"Values selected by steps, one per run: {'; '.join(chosen)}.")
    if not comparison.tests:
        return remarks
    precision = precision_sentence(comparison)
    remarks += [precision] if precision else []
    explanation = EXPLANATION if any(map(is_tested, comparison.tests)) else EXPLANATION_WITHOUT_TESTS
    if comparison.against == "all":
        explanation = explanation.replace(_OVER_ARMS, _OVER_PAIRS)
    design = design_sentence(comparison)
    of_design = [design] if design else []
    if comparison.cross_validation:
        explanation = explanation.replace(_NEW_ON_A_SPLIT, _NEW_IN_FOLDS).replace("within the test split ", "")
    return [*of_design, *remarks, explanation]


def is_tested(versus: Versus) -> bool:
    """Return whether two arms are tested: whether both have enough runs."""
    return versus.balanced_accuracy.verdict != Verdict.ONE_RUN


def failures(comparison: ComparisonRecord) -> list[str]:
    """Return arm, seed or fold, and reason of each failed run."""
    return printable_lines([f"{failed}: {failed.message}" for failed in comparison.failures])


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _range(numbers: Iterable[int]) -> str:
    distinct = sorted(set(numbers))
    return f"{distinct[0]:,}" if len(distinct) == 1 else f"{distinct[0]:,} to {distinct[-1]:,}"


def duplicates_sentence(comparison: ComparisonRecord) -> str | None:
    """Describe the deduplicated test split; None if no test image has a duplicate in the training split."""
    whole, deduplicated = (comparison.data.counts.get(split, {}) for split in ("test", "test_deduplicated"))
    duplicates = {name: count - deduplicated.get(name, count) for name, count in whole.items()}
    total, rows = sum(duplicates.values()), sum(whole.values())
    if not total:
        return None
    near = comparison.data.counts.get("test_near_duplicates")
    kinds = "" if near is None else f"{total - sum(near.values()):,} exact, {sum(near.values()):,} near or mirrored; "
    most = sorted((name for name in duplicates if duplicates[name]), key=lambda name: -duplicates[name] / whole[name])
    shares = ", ".join(f"{printable(name)} {duplicates[name]:,} of {whole[name]:,}" for name in most[:3])
    return (
        f"Deduplicated test split: the {rows - total:,} of {rows:,} test images without "
        f"{kind_of_duplicates(comparison)} in the training split ({kinds}most duplicates: {shares})."
    )


def kind_of_duplicates(comparison: ComparisonRecord) -> str:
    """Name the duplicates that the deduplicated test split of a comparison omits, with an article."""
    return "a duplicate" if "test_near_duplicates" in comparison.data.counts else "an exact duplicate"
