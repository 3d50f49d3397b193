"""What a benchmark measures: ours and what a user would pick instead, in turn, and the ratio of each pair."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles

CLEARLY = 0.1
"""By what share a median ratio must have fallen before it may count as worse."""
RULE = (
    f"A ratio counts as worse when its median fell by more than {CLEARLY:.0%} and the interquartile range of the new "
    "ratios lies below that of the old ones."
)


@dataclass(frozen=True)
class Pairs:
    """Measurements of one thing; the i-th of ours and the i-th of the peer were made right after each other.

    Attributes:
        what: what is done, for people.
        peer_is: what a user would pick instead, for people.
        measure: `CPU time` or `wall time` in seconds, or `memory` in bytes.
        ours: n measurements.
        peer: n measurements.
        at_least: the ratio that is aimed at, or None.
        at_most: the most of ours that is aimed at, or None.
    """

    what: str
    peer_is: str
    measure: str
    ours: tuple[float, ...]
    peer: tuple[float, ...]
    at_least: float | None = None
    at_most: float | None = None
    ratios: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Divide."""
        ratios = tuple(peer / ours for ours, peer in zip(self.ours, self.peer, strict=True))
        object.__setattr__(self, "ratios", ratios)

    @property
    def title(self) -> str:
        """What is done, and against what: names the measurement."""
        return f"{self.what}, against {self.peer_is}"

    @property
    def ratio(self) -> float:
        """How many times as much the peer takes: the median over the pairs."""
        return median(self.ratios)

    @property
    def spread(self) -> tuple[float, float]:
        """The lower and the upper quartile of the ratios."""
        return _quartiles(self.ratios)

    @property
    def is_met(self) -> bool | None:
        """Whether the aim is reached; None where there is none."""
        if self.at_least is None and self.at_most is None:
            return None
        return (self.at_least is None or self.ratio >= self.at_least) and (
            self.at_most is None or median(self.ours) <= self.at_most
        )

    def as_json(self) -> dict[str, object]:
        """Return what `of_json` reads."""
        return {name: value for name, value in asdict(self).items() if name != "ratios"}


@dataclass(frozen=True)
class Results:
    """The measurements of one run of the benchmarks, and where and when they were made.

    Attributes:
        machine: processor, cores, memory and system.
        versions: of Python and the libraries.
        date: year, month and day.
        sections: the measurements by the subject of their file.
    """

    machine: str
    versions: str
    date: str
    sections: dict[str, list[Pairs]]

    @property
    def measured(self) -> list[Pairs]:
        """All measurements."""
        return [pairs for section in self.sections.values() for pairs in section]


@dataclass(frozen=True)
class Ratio:
    """A ratio that is kept to compare later ones with: its median, quartiles and number of pairs."""

    ratio: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, pairs: Pairs) -> Ratio:
        """Forget the times."""
        low, high = pairs.spread
        return cls(round(pairs.ratio, 3), round(low, 3), round(high, 3), len(pairs.ratios))


def load_results(path: Path) -> Results:
    """Read the JSON that pytest-benchmark writes."""
    content = json.loads(path.read_text(encoding="utf-8"))
    sections: dict[str, list[Pairs]] = {}
    for benchmark in content["benchmarks"]:
        file = Path(benchmark["fullname"].partition("::")[0])
        section = sections.setdefault(file.stem.removeprefix("bench_").replace("_", " ").capitalize(), [])
        section += [
            Pairs(**{**told, "ours": tuple(told["ours"]), "peer": tuple(told["peer"])})
            for told in benchmark["extra_info"]["pairs"]
        ]
    machine = content["machine_info"]
    return Results(machine["described"], machine["versions"], content["datetime"][:10], sections)


def load_baseline(path: Path) -> dict[str, Ratio]:
    """Read the ratios of an earlier run, by the titles of the measurements."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return {title: Ratio(**ratio) for title, ratio in content.items()}


def save_baseline(path: Path, measured: Iterable[Pairs]) -> None:
    """Keep ratios and nothing else: seconds are those of a machine."""
    lines = [f" {json.dumps(pairs.title)}: {json.dumps(asdict(Ratio.of(pairs)))}" for pairs in measured]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def is_worse(now: Ratio, before: Ratio) -> bool:
    """Return whether a ratio fell by more than the noise, see `RULE`."""
    return now.ratio < (1 - CLEARLY) * before.ratio and now.high < before.low


def _quartiles(values: tuple[float, ...]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high
