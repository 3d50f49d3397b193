"""Tables of comparisons of recipes as Markdown, and their insertion into a page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from fer_augment.errors import FerAugmentError
from fer_augment.reports.tables import escaped
from fer_augment.reports.wording import UNKNOWN, interval, points
from fer_augment.results.comparison import ComparisonRecord, Judgment, Versus
from fer_augment.significance import Verdict

END = "<!-- end -->"
_WIDTH = 120
_READING = (
    "Differences are in percentage points on the test split, arm minus baseline, with 95 % confidence intervals over "
    "new trainings and new images. Verdicts are after Holm's correction: over the arms for balanced accuracy and "
    'accuracy, over the classes of an arm for recall. "detectable", in brackets for each class, is the minimum '
    "detectable effect: the true difference that the test finds with 80 % power, unadjusted; with several arms or "
    "classes it is larger. Training time is what an arm trains in addition to its baseline, scouts included, as a "
    "multiple of the baseline's training time (wall time, mean over n seeds); none: it uses the networks of the "
    "baseline."
)


@dataclass(frozen=True)
class Gains:
    """The comparison of a family of recipes with its baseline.

    Attributes:
        baseline: the name of the baseline.
        comparison: the comparison; None if there is none.
        error: the message if all runs failed.
        overrides: the overrides of all arms.
        left_out: the reason for each recipe that was not compared, by name.
        times: by name, the additional training time of each arm as multiples of that of the baseline, one for each
            seed for which it is known.
    """

    baseline: str
    comparison: ComparisonRecord | None
    error: str = ""
    overrides: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def gains_in_markdown(measured: Sequence[Gains], *, command: str, cores: int, date: str) -> str:
    """Return the tables of all families, with the command, the environment, the date and the data.

    Args:
        measured: the families.
        command: the command that reproduces the tables.
        cores: number of processor cores.
        date: the date.

    Raises:
        FerAugmentError: if no family has a comparison.
    """
    comparison = next((gains.comparison for gains in measured if gains.comparison), None)
    if not comparison:
        errors = [gains.error for gains in measured if gains.error]
        reasons = [reason for gains in measured for reason in gains.left_out.values()]
        raise FerAugmentError(errors[0] if errors else f"nothing to compare: {reasons[0]}")
    parts = [
        f"```sh\n{command}\n```",
        _filled(f"{_environment(comparison, cores)}; {date}. {_data(comparison)}"),
        *(part for gains in measured for part in _family(gains)),
        _filled(_READING),
    ]
    return "\n\n".join(parts)


def _environment(comparison: ComparisonRecord, cores: int) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in comparison.environment.items())
    return escaped(f"{cores} cores, {versions}")


def _data(comparison: ComparisonRecord) -> str:
    rows = {part: sum(class_counts.values()) for part, class_counts in comparison.data.counts.items()}
    source = escaped(Path(comparison.data.source).name)
    return f"Data: {source}, {rows['train']:,} training rows and {rows['test']:,} test rows."


# --- one family


def _family(gains: Gains) -> Iterator[str]:
    comparison = gains.comparison
    yield f"### Against {_code(gains.baseline)}"
    yield _filled(f"Overrides of all arms: {', '.join(map(_code, gains.overrides)) or 'none'}.")
    if comparison and comparison.versus:
        yield _arms(comparison, gains.times)
        yield _recalls(comparison)
    lines = []
    for reason in dict.fromkeys(gains.left_out.values()):
        names = [_code(name) for name, other in gains.left_out.items() if other == reason]
        lines.append(f"Left out: {', '.join(names)}; {escaped(reason)}")
    lines += [
        f"{_code(failure.recipe)} with seed {failure.seed} failed: {escaped(failure.message)}"
        for failure in (comparison.failures if comparison else ())
    ]
    lines += [f"Failed: {escaped(gains.error)}"] if gains.error else []
    if lines:
        yield "\n".join(f"- {line}" for line in lines)


def _arms(comparison: ComparisonRecord, times: Mapping[str, tuple[float, ...]]) -> str:
    counts = comparison.data.counts
    has_duplicates = sum(counts["test_deduplicated"].values()) < sum(counts["test"].values())
    columns = ["arm", "n", "balanced accuracy", "detectable", *(["deduplicated"] if has_duplicates else []), "accuracy"]
    rows = []
    for versus in comparison.versus:
        unique = versus.test_deduplicated
        deduplicated = [_difference(unique.balanced_accuracy) if unique else UNKNOWN] if has_duplicates else []
        cells = [_runs(comparison, versus), _verdict(versus.balanced_accuracy), _detectable(versus.balanced_accuracy)]
        cells += [*deduplicated, _verdict(versus.accuracy), _significant(versus), _time(times.get(versus.recipe, ()))]
        rows.append([_code(versus.recipe), *cells])
    return _table([*columns, "recall", "training time"], rows)


def _recalls(comparison: ComparisonRecord) -> str:
    counts = comparison.data.counts["test"]
    columns = ["recall of", *(f"{escaped(name)} ({counts[name]:,})" for name in comparison.class_names)]
    rows = [[_code(versus.recipe), *map(_recall, versus.recall.values())] for versus in comparison.versus]
    return _table(columns, rows)


def _runs(comparison: ComparisonRecord, versus: Versus) -> str:
    """Return the number of runs of the arm, and of the baseline if it differs."""
    arm, baseline = (len(comparison.arm(name).seeds) for name in (versus.recipe, versus.baseline))
    return f"{arm}" if arm == baseline else f"{arm} and {baseline}"


def _difference(judgment: Judgment) -> str:
    return f"{points(judgment.delta)} ({interval(judgment.ci95)})" if judgment.ci95 else points(judgment.delta)


def _verdict(judgment: Judgment) -> str:
    return f"{_difference(judgment)}, {judgment.verdict}"


def _detectable(judgment: Judgment) -> str:
    return _magnitude(judgment.detectable) if judgment.detectable else UNKNOWN


def _magnitude(difference: float) -> str:
    return f"{difference * 100:.1f}" if difference <= 1 else "over 100"


def _recall(judgment: Judgment) -> str:
    if judgment.ci95 is None:
        return points(judgment.delta)
    low, high = judgment.ci95
    return f"{points(judgment.delta)} ± {_magnitude((high - low) / 2)} [{_detectable(judgment)}]"


def _significant(versus: Versus) -> str:
    """Return the classes with a significant difference in recall, with their differences."""
    parts = [
        f"{verdict}: {', '.join(f'{escaped(name)} {_difference(versus.recall[name])}' for name in names)}"
        for verdict in (Verdict.BETTER, Verdict.WORSE)
        if (names := [name for name, judgment in versus.recall.items() if judgment.verdict == verdict])
    ]
    return "; ".join(parts) or UNKNOWN


def _time(multiples: Sequence[float]) -> str:
    if not multiples:
        return UNKNOWN
    return f"{mean(multiples):.2f} (n = {len(multiples)})" if any(multiples) else "none"


# --- Markdown


def _code(text: str) -> str:
    return f"`{' '.join(text.replace('`', '').split())}`"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, [":--"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _filled(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False, break_long_words=False)


# --- the page


def insert_tables(page: Path, name: str, text: str, kind: str = "gains") -> None:
    """Replace the text between `<!-- KIND: NAME -->` and `<!-- end -->` on a page.

    Raises:
        FerAugmentError: if the page cannot be read or lacks the two comments.
    """
    start = _start(kind, name)
    before, _, after = _around(page, start)
    page.write_text(f"{before}{start}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def check_place(page: Path, name: str, kind: str = "gains") -> None:
    """Refuse a page that tables cannot be inserted into, as `insert_tables` does.

    Raises:
        FerAugmentError: if the page cannot be read or lacks the two comments.
    """
    _around(page, _start(kind, name))


def _around(page: Path, comment: str) -> tuple[str, str, str]:
    """Return the text before, between and after the two comments."""
    try:
        before, start, rest = page.read_text(encoding="utf-8").partition(comment)
    except OSError as error:
        raise FerAugmentError(f"{page}: cannot be read ({error.strerror})") from error
    inside, end, after = rest.partition(END)
    if not start or not end or "<!-- " in inside:
        raise FerAugmentError(f"{page}: add the lines `{comment}` and `{END}`; results are inserted between them")
    return before, inside, after


def _start(kind: str, name: str) -> str:
    return f"<!-- {kind}: {name} -->"
