"""Gains and costs of recipes as Markdown, and a page in which they replace those of an earlier time."""

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
    "accuracy, over the classes of an arm for recall. \"detectable\", in brackets for each class, is the minimum "
    "detectable effect: the true difference that the test finds with 80 % power, unadjusted; with several arms or "
    "classes it is larger. Training time is what an arm trains in addition to its baseline, scouts included, as a "
    "multiple of the baseline's training time (wall time, mean over n seeds); none: it uses the networks of the "
    "baseline."
)


@dataclass(frozen=True)
class Gains:
    """What came of the comparison of a family of recipes with its baseline.

    Attributes:
        baseline: the name of the baseline.
        comparison: what may be said; None where there is none.
        trouble: why there is none, where that is because all runs failed.
        overrides: what was set for all of its recipes.
        left_out: why recipes were not compared, by name.
        times: what each arm trained in addition to the baseline, as shares of the baseline's training time, one for
            each seed for which that is known.
    """

    baseline: str
    comparison: ComparisonRecord | None
    trouble: str = ""
    overrides: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def gains_in_markdown(measured: Sequence[Gains], *, command: str, cores: int, date: str) -> str:
    """Return the tables of all families, with where, when and on what they were measured.

    Raises:
        FerAugmentError: if there is no comparison among them.
    """
    comparison = next((gains.comparison for gains in measured if gains.comparison), None)
    if not comparison:
        whys = [why for gains in measured for why in (gains.trouble, *gains.left_out.values()) if why]
        raise FerAugmentError(f"there is nothing to compare: {whys[0]}")
    parts = [
        f"```sh\n{command}\n```",
        _filled(f"{_where(comparison, cores)}; {date}. {_on_what(comparison)}"),
        *(part for gains in measured for part in _family(gains)),
        _filled(_READING),
    ]
    return "\n\n".join(parts)


def _where(comparison: ComparisonRecord, cores: int) -> str:
    said = ", ".join(f"{name} {value}" for name, value in comparison.environment.items())
    return escaped(f"{cores} cores, {said}")


def _on_what(comparison: ComparisonRecord) -> str:
    rows = {part: sum(of_class.values()) for part, of_class in comparison.data.counts.items()}
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
    for why in dict.fromkeys(gains.left_out.values()):
        names = [_code(name) for name, its in gains.left_out.items() if its == why]
        lines.append(f"Left out: {', '.join(names)}; {escaped(why)}")
    lines += [
        f"{_code(failure.recipe)} with seed {failure.seed} failed: {escaped(failure.message)}"
        for failure in (comparison.failures if comparison else ())
    ]
    lines += [f"Nothing finished: {escaped(gains.trouble)}"] if gains.trouble else []
    if lines:
        yield "\n".join(f"- {line}" for line in lines)


def _arms(comparison: ComparisonRecord, times: Mapping[str, tuple[float, ...]]) -> str:
    counts = comparison.data.counts
    has_copies = sum(counts["test_deduplicated"].values()) < sum(counts["test"].values())
    columns = ["arm", "n", "balanced accuracy", "detectable", *(["without copies"] if has_copies else []), "accuracy"]
    rows = []
    for versus in comparison.versus:
        fewer = versus.test_deduplicated
        without_copies = [_change(fewer.balanced_accuracy) if fewer else UNKNOWN] if has_copies else []
        cells = [_runs(comparison, versus), _judged(versus.balanced_accuracy), _detectable(versus.balanced_accuracy)]
        cells += [*without_copies, _judged(versus.accuracy), _moved(versus), _time(times.get(versus.recipe, ()))]
        rows.append([_code(versus.recipe), *cells])
    return _table([*columns, "recall", "training time"], rows)


def _recalls(comparison: ComparisonRecord) -> str:
    rows_of = comparison.data.counts["test"]
    columns = ["recall of", *(f"{escaped(name)} ({rows_of[name]:,})" for name in comparison.class_names)]
    return _table(
        columns, [[_code(one.recipe), *(_recall(said) for said in one.recall.values())] for one in comparison.versus]
    )


def _runs(comparison: ComparisonRecord, versus: Versus) -> str:
    """Return the number of runs of the arm, and of the baseline where it is another one."""
    arm, baseline = (len(comparison.arm(name).seeds) for name in (versus.recipe, versus.baseline))
    return f"{arm}" if arm == baseline else f"{arm} and {baseline}"


def _change(said: Judgment) -> str:
    return f"{points(said.delta)} ({interval(said.ci95)})" if said.ci95 else points(said.delta)


def _judged(said: Judgment) -> str:
    return f"{_change(said)}, {said.verdict}"


def _detectable(said: Judgment) -> str:
    return _size(said.detectable) if said.detectable else UNKNOWN


def _size(of_difference: float) -> str:
    return f"{of_difference * 100:.1f}" if of_difference <= 1 else "over 100"


def _recall(said: Judgment) -> str:
    if said.ci95 is None:
        return points(said.delta)
    low, high = said.ci95
    return f"{points(said.delta)} ± {_size((high - low) / 2)} [{_detectable(said)}]"


def _moved(versus: Versus) -> str:
    """Return the classes of which there is a verdict, with their changes."""
    moved = [
        f"{verdict}: {', '.join(f'{escaped(name)} {_change(versus.recall[name])}' for name in names)}"
        for verdict in (Verdict.BETTER, Verdict.WORSE)
        if (names := [name for name, said in versus.recall.items() if said.verdict == verdict])
    ]
    return "; ".join(moved) or UNKNOWN


def _time(shares: Sequence[float]) -> str:
    if not shares:
        return UNKNOWN
    return f"{mean(shares):.2f} (n = {len(shares)})" if any(shares) else "none"


# --- Markdown


def _code(text: str) -> str:
    return f"`{' '.join(text.replace('`', '').split())}`"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, [":--"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _filled(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False, break_long_words=False)


# --- the page


def put_in(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- gains: NAME -->` and `<!-- end -->` on a page, and nothing else.

    Raises:
        FerAugmentError: if the page cannot be read, or does not have the two comments.
    """
    before, _, after = _around(page, name)
    page.write_text(f"{before}{_start(name)}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def refuse_without_place(page: Path, name: str) -> None:
    """Refuse a page on which there is no place of the name.

    Raises:
        FerAugmentError: if that is so.
    """
    _around(page, name)


def _around(page: Path, name: str) -> tuple[str, str, str]:
    """Return what stands before, between, and after the two comments."""
    try:
        before, start, rest = page.read_text(encoding="utf-8").partition(_start(name))
    except OSError as error:
        raise FerAugmentError(f"{page}: cannot be read ({error.strerror})") from error
    inside, end, after = rest.partition(END)
    if not start or not end or "<!-- gains:" in inside:
        raise FerAugmentError(f"{page}: lacks the lines `{_start(name)}` and `{END}`, between which results are put")
    return before, inside, after


def _start(name: str) -> str:
    return f"<!-- gains: {name} -->"
