"""A comparison as a tidy pandas DataFrame; pandas is imported only here, in the function."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from fer_augment.errors import FerAugmentError
from fer_augment.results.comparison import Arm, ComparisonRecord, Judgment, Judgments, SplitScores, Statistic, Versus

if TYPE_CHECKING:
    import pandas

_TEXT, _NUMBER, _COUNT = "string", "float64", "int64"

COLUMNS: Final = {
    **dict.fromkeys(("arm", "baseline", "split", "endpoint", "class"), _TEXT),
    **dict.fromkeys(("arm_mean", "arm_sd", "baseline_mean", "delta", "delta_ci95_low", "delta_ci95_high"), _NUMBER),
    **dict.fromkeys(("p", "p_adjusted"), _NUMBER),
    "verdict": _TEXT,
    "detectable": _NUMBER,
    **dict.fromkeys(("n", "rows"), _COUNT),
}
"""Columns of the frame with their dtypes."""


def comparison_frame(comparison: ComparisonRecord) -> pandas.DataFrame:
    """Return one row per arm, split, endpoint and class.

    Args:
        comparison: the comparison.

    Returns:
        A frame with the columns `COLUMNS`. `split` is `test` or `test_deduplicated`, `endpoint` is `accuracy`,
        `balanced_accuracy` or `recall`, and `class` is missing unless the endpoint is `recall`. Scores and
        differences are fractions of 1; `n` is the number of runs of the arm, or of repeats in a cross-validation, and
        `rows` the number of rows of the class or split. In the rows of the baseline, and of all arms if no run of the
        baseline finished, the columns `delta` to `detectable` are missing. If every two arms are tested, rows of the
        other pairs follow, in which `baseline` is the arm that is compared with. See `results.comparison.Judgment` for
        these.

    Raises:
        FerAugmentError: if pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise FerAugmentError("pandas is not installed; pip install 'fer_augment[pandas]'") from error
    return pandas.DataFrame(list(_rows(comparison)), columns=list(COLUMNS)).astype(COLUMNS)


def _rows(comparison: ComparisonRecord) -> Iterator[tuple[object, ...]]:
    versus = {one.recipe: one for one in comparison.versus}
    for arm in comparison.arms:
        yield from _rows_of(comparison, arm, comparison.baseline, comparison.baseline_arm, versus.get(arm.recipe))
    for pair in comparison.pairs:
        other = comparison.arm(pair.baseline)
        yield from _rows_of(comparison, comparison.arm(pair.recipe), pair.baseline, other, pair)


def _rows_of(
    comparison: ComparisonRecord, arm: Arm, name: str, baseline: Arm | None, versus: Versus | None
) -> Iterator[tuple[object, ...]]:
    """Yield the rows of an arm and the arm `name` that it is compared with."""
    for split, scores, baseline_scores, judgments in _splits(arm, baseline, versus):
        counts = comparison.data.counts.get(split, {})
        of_baseline = list(_endpoints(baseline_scores)) if baseline_scores else []
        for place, (endpoint, class_name, score) in enumerate(_endpoints(scores)):
            judgment = _judgment(judgments, endpoint, class_name)
            yield (
                *(arm.recipe, name, split, endpoint, class_name),
                *(score.mean, score.sd, of_baseline[place][2].mean if of_baseline else None),
                *_judged(judgment),
                *(scores.accuracy.n, scores.rows if class_name is None else counts.get(class_name, 0)),
            )


def _splits(
    arm: Arm, baseline: Arm | None, versus: Versus | None
) -> Iterator[tuple[str, SplitScores, SplitScores | None, Judgments | None]]:
    yield "test", arm.test, baseline.test if baseline else None, versus
    if arm.test_deduplicated:
        of_baseline = baseline.test_deduplicated if baseline else None
        yield "test_deduplicated", arm.test_deduplicated, of_baseline, versus.test_deduplicated if versus else None


def _endpoints(scores: SplitScores) -> Iterator[tuple[str, str | None, Statistic]]:
    yield "accuracy", None, scores.accuracy
    yield "balanced_accuracy", None, scores.balanced_accuracy
    for class_name, recall in scores.recall.items():
        yield "recall", class_name, recall


def _judgment(judgments: Judgments | None, endpoint: str, class_name: str | None) -> Judgment | None:
    if judgments is None:
        return None
    if class_name is not None:
        return judgments.recall[class_name]
    return judgments.accuracy if endpoint == "accuracy" else judgments.balanced_accuracy


def _judged(judgment: Judgment | None) -> tuple[object, ...]:
    """Return the columns `delta` to `detectable`."""
    if judgment is None:
        return (None,) * 7
    low, high = judgment.ci95 or (None, None)
    verdict = str(judgment.verdict)
    return judgment.delta, low, high, judgment.p, judgment.p_adjusted, verdict, judgment.detectable
