"""Write `docs/performance.md` from the results of a benchmark run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from statistics import median

from benchmarks.baseline import RULE
from benchmarks.pairs import Pairs, Results

_WIDTH = 120
_HOW = f"""\
The two sides of a pair are measured alternately, the alternative first, on one thread, after one discarded warm-up
pair. Times are processor seconds unless marked as wall time. Training loops of other libraries run in a separate
process, as their users would run them, a new one for each pair. Memory is the peak of additional allocations. The ratio
is the median over n pairs, with the interquartile range in parentheses. Times are specific to this machine; ratios
transfer better, and `benchmarks/baseline.json` stores only ratios, those of each instruction set apart. Nothing was
measured on an accelerator: see [decision 25](decisions/0025-the-cuda-path-stays-plain-until-it-is-timed.md).

`make bench` measures again (`FER2013=FOLDER` names the folder of `fer2013_images.zip`; without it, synthetic faces are
used; `RUNS=3` repeats the whole), `make bench-compare` lists the ratios that became worse, and `make bench-keep` adds
the ratios to the stored ones and writes this page from the last run. {RULE}"""


def performance_page(results: Results) -> str:
    """Return the page in Markdown."""
    parts = [
        "# Performance",
        "Time and memory of fer_augment compared with the usual alternatives. A ratio of 3 means that the alternative "
        "takes three times as long (or as much memory); a ratio below 1 means that fer_augment takes more.",
        f"Measured on {results.date} on {results.machine}, {results.instructions}; {results.versions}.",
        *_HOW.split("\n\n"),
    ]
    filled = [textwrap.fill(part, _WIDTH, break_on_hyphens=False, break_long_words=False) for part in parts]
    sections = [f"## {name}\n\n" + "\n".join(_table(pairs)) for name, pairs in results.sections.items()]
    return "\n\n".join([*filled, *sections]) + "\n"


def amount(numbers: Iterable[float], measure: str) -> str:
    """Return the median of measurements with three digits and a unit."""
    typical = median(numbers)
    if measure == "memory":
        return f"{_digits(typical / 1e6)} MB"
    text = f"{_digits(typical)} s" if typical >= 1 else f"{_digits(1000 * typical)} ms"
    return text + (" (wall)" if measure == "wall time" else "")


def _digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def ratio_text(pairs: Pairs) -> str:
    """Return the ratio, with its interquartile range if there are several pairs."""
    low, high = pairs.quartiles
    return f"{pairs.ratio:.2f} ({low:.2f}-{high:.2f})" if len(pairs.ratios) > 1 else f"{pairs.ratio:.2f}"


def _table(section: Iterable[Pairs]) -> Iterator[str]:
    yield _row(["task", "compared with", "fer_augment", "alternative", "ratio", "n", "target"])
    yield _row([":--", ":--", "--:", "--:", "--:", "--:", ":--"])
    for pairs in section:
        ours, theirs = (amount(numbers, pairs.measure) for numbers in (pairs.ours, pairs.theirs))
        count = str(len(pairs.ratios))
        yield _row([pairs.task, pairs.alternative, ours, theirs, ratio_text(pairs), count, _target(pairs)])


def _target(pairs: Pairs) -> str:
    targets = [] if pairs.at_least is None else [f"ratio of at least {pairs.at_least:g}"]
    if pairs.at_most is not None:
        targets.append(f"at most {amount([pairs.at_most], pairs.measure)}")
    return f"{' and '.join(targets)}: {'met' if pairs.is_met else 'missed'}" if targets else ""


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
