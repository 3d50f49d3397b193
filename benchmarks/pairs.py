"""Results of the benchmarks: pairs of measurements of fer_augment and an alternative, and their ratios."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles


@dataclass(frozen=True)
class Pairs:
    """Measurements of one task; the i-th of both sides were made directly after each other.

    Attributes:
        task: the task, for display.
        alternative: the alternative to fer_augment, for display.
        measure: `CPU time` or `wall time` in seconds, or `memory` in bytes.
        ours: n measurements of fer_augment.
        theirs: n measurements of the alternative.
        at_least: target for the ratio, or None.
        at_most: target for the measurements of fer_augment, or None.
    """

    task: str
    alternative: str
    measure: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    at_least: float | None = None
    at_most: float | None = None
    ratios: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Compute the ratios."""
        ratios = tuple(theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True))
        object.__setattr__(self, "ratios", ratios)

    @property
    def title(self) -> str:
        """The unique name of the measurement: task and alternative."""
        return f"{self.task} vs. {self.alternative}"

    @property
    def ratio(self) -> float:
        """The alternative's measurement divided by ours: the median over the pairs."""
        return median(self.ratios)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower and the upper quartile of the ratios."""
        return _quartiles(self.ratios)

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        if self.at_least is None and self.at_most is None:
            return None
        return (self.at_least is None or self.ratio >= self.at_least) and (
            self.at_most is None or median(self.ours) <= self.at_most
        )

    def as_json(self) -> dict[str, object]:
        """Return the fields as JSON-serializable values, for `load_results`."""
        return {name: value for name, value in asdict(self).items() if name != "ratios"}


@dataclass(frozen=True)
class Results:
    """The measurements of one benchmark run.

    Attributes:
        machine: processor, cores, memory and system.
        instructions: the widest instruction set of the processor that torch uses, such as `AVX2` or `AVX512 bf16`.
        versions: versions of Python and the libraries.
        date: year, month and day.
        sections: the measurements by subject, one for each benchmark file.
    """

    machine: str
    instructions: str
    versions: str
    date: str
    sections: dict[str, list[Pairs]]

    @property
    def measured(self) -> list[Pairs]:
        """All measurements."""
        return [pairs for section in self.sections.values() for pairs in section]


def load_results(path: Path) -> Results:
    """Read the JSON file written by pytest-benchmark."""
    content = json.loads(path.read_text(encoding="utf-8"))
    sections: dict[str, list[Pairs]] = {}
    for benchmark in content["benchmarks"]:
        file = Path(benchmark["fullname"].partition("::")[0])
        section = sections.setdefault(file.stem.removeprefix("bench_").replace("_", " ").capitalize(), [])
        section += [
            Pairs(**{**pairs, "ours": tuple(pairs["ours"]), "theirs": tuple(pairs["theirs"])})
            for pairs in benchmark["extra_info"]["pairs"]
        ]
    machine = content["machine_info"]
    return Results(
        machine=machine["description"],
        instructions=machine["instructions"],
        versions=machine["versions"],
        date=content["datetime"][:10],
        sections=sections,
    )


def _quartiles(values: tuple[float, ...]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high
