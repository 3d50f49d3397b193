"""Stored ratios of repeated benchmark runs, and the noise bound that follows from the repeats."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.stats import t

from benchmarks.pairs import Pairs

ERROR_RATE = 0.05
"""Probability that an unchanged version gets at least one `worse`, over all measurements."""
PRIOR_DEGREES = 4
"""Weight of the typical variance of a kind of measurement, in degrees of freedom."""
KEPT = 9
"""Stored runs of a measurement; older ones are dropped."""
RULE = (
    "A ratio counts as worse when it fell by more than the noise: a one-sided t-test of the logarithms of the ratios "
    f"of whole benchmark runs, at {ERROR_RATE:.0%} divided by the number of measurements. The variance is that of the "
    "stored runs of a measurement, drawn toward the typical variance of its kind (CPU time, wall time or memory) with "
    f"the weight of at most {PRIOR_DEGREES} degrees of freedom."
)

Change = Literal["worse", "better", "within the noise", "noise unknown", "new", "not measured"]


@dataclass(frozen=True)
class Runs:
    """One measurement in repeated benchmark runs.

    Attributes:
        measure: `CPU time`, `wall time` or `memory`.
        ratios: the median ratio of each run, the newest last.
    """

    measure: str
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The geometric mean of the ratios."""
        return float(np.exp(np.log(self.ratios).mean()))

    def followed_by(self, other: Runs | None) -> Runs:
        """Return these runs and then the other ones, as many as are kept."""
        return self if other is None else Runs(other.measure, (self.ratios + other.ratios)[-KEPT:])


Baseline = dict[str, Runs]
"""Measurements by title."""


def baseline_of(results: Iterable[Sequence[Pairs]]) -> Baseline:
    """Return the ratios of the measurements of each benchmark run."""
    ratios: dict[str, list[float]] = defaultdict(list)
    measures: dict[str, str] = {}
    for measured in results:
        for pairs in measured:
            ratios[pairs.title].append(round(pairs.ratio, 3))
            measures[pairs.title] = pairs.measure
    return {title: Runs(measures[title], tuple(values)) for title, values in ratios.items()}


def changes(now: Baseline, before: Baseline) -> dict[str, Change]:
    """Compare measurements with the stored ones, see `RULE`; the stored ones come first."""
    both = [title for title in before if title in now]
    return {title: _change(title, now, before, len(both)) for title in {**before, **now}}


def _change(title: str, now: Baseline, before: Baseline, comparisons: int) -> Change:
    if title not in now:
        return "not measured"
    if title not in before:
        return "new"
    new, old = now[title], before[title]
    variance, degrees = _variance(old, [runs for runs in before.values() if runs.measure == old.measure])
    if degrees == 0:
        return "noise unknown"
    difference = np.log(new.ratio) - np.log(old.ratio)
    error = np.sqrt(variance * (1 / len(new.ratios) + 1 / len(old.ratios)))
    noise = t.isf(ERROR_RATE / comparisons, degrees) * error
    return "worse" if difference < -noise else "better" if difference > noise else "within the noise"


def _variance(runs: Runs, of_kind: Iterable[Runs]) -> tuple[float, int]:
    """Return the variance of the logarithm of a ratio between runs, and its degrees of freedom; 0 without repeats."""
    total, total_degrees = (sum(values) for values in zip(*map(_squares, of_kind), strict=True))
    if total_degrees == 0:
        return 0.0, 0
    own, own_degrees = _squares(runs)
    prior_degrees = min(PRIOR_DEGREES, total_degrees)
    degrees = prior_degrees + own_degrees
    return (prior_degrees * total / total_degrees + own) / degrees, int(degrees)


def _squares(runs: Runs) -> tuple[float, int]:
    """Return the sum of squared deviations of the logarithms from their mean, and its degrees of freedom."""
    logarithms = np.log(runs.ratios)
    return float(((logarithms - logarithms.mean()) ** 2).sum()), len(runs.ratios) - 1


def load_baselines(path: Path) -> dict[str, Baseline]:
    """Read the stored ratios of each instruction set."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return {
        instructions: {title: Runs(one["measure"], tuple(one["ratios"])) for title, one in stored.items()}
        for instructions, stored in content.items()
    }


def save_baselines(path: Path, baselines: Mapping[str, Baseline]) -> None:
    """Write ratios only, since times are specific to a machine; a line for each measurement."""
    parts = []
    for instructions, baseline in sorted(baselines.items()):
        lines = [
            f"  {json.dumps(title)}: {json.dumps({'measure': runs.measure, 'ratios': runs.ratios})}"
            for title, runs in baseline.items()
        ]
        parts.append(f" {json.dumps(instructions)}: {{\n" + ",\n".join(lines) + "\n }")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
