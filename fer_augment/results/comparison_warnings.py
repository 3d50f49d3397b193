"""What the reader of a comparison has to know, found in the records of its runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from fer_augment.data.records import RunRecord
from fer_augment.results.comparison import Failure

Runs = Mapping[str, Sequence[RunRecord]]
"""The finished runs of each arm that has any."""


def warnings_of_runs(
    baseline: str, runs: Runs, failures: Sequence[Failure], test_counts: ArrayLike, deduplicated_counts: ArrayLike
) -> list[str]:
    """Return one sentence for each thing that limits what the comparison can say.

    Args:
        baseline: name of the arm that the others are compared with.
        runs: records of the finished runs of each arm.
        failures: runs that gave no result.
        test_counts: `(K,)` rows of each class in the test split.
        deduplicated_counts: `(K,)` those of them that do not stand in the training split too.
    """
    return [
        *_of_failures(baseline, runs, failures),
        *_of_seeds(runs),
        *_of_classes(runs, test_counts),
        *_of_copies(runs, test_counts, deduplicated_counts),
        *_of_steps(runs),
        *_of_environments(runs),
        *_told_by_runs(runs),
    ]


def _of_failures(baseline: str, runs: Runs, failures: Sequence[Failure]) -> Iterator[str]:
    if baseline not in runs:
        yield f"No run of the baseline {baseline} finished, so no arm is compared with it."
    lost = dict.fromkeys(failure.recipe for failure in failures if failure.recipe not in {baseline, *runs})
    if lost:
        yield f"No run of {listed(lost)} finished."


def _of_seeds(runs: Runs) -> Iterator[str]:
    numbers = {recipe: len(records) for recipe, records in runs.items()}
    single = [recipe for recipe, number in numbers.items() if number == 1]
    if single:
        yield (
            f"One run cannot tell a recipe from luck ({listed(single)}): there is no verdict; "
            "give at least two seeds, better five."
        )
    two = [recipe for recipe, number in numbers.items() if number == 2]
    if two:
        yield (
            f"With two runs of an arm ({listed(two)}) its spread is known from a single difference: an interval may "
            "come out far too narrow or too wide by luck. Verdicts hold their level on average; five seeds are better."
        )
    if len(set(numbers.values())) > 1:
        told = ", ".join(f"{recipe} {number}" for recipe, number in numbers.items())
        yield f"The arms have unequal numbers of runs ({told}); verdicts hold their level best with the same seeds."


def _of_classes(runs: Runs, test_counts: ArrayLike) -> Iterator[str]:
    rows = _by_class(runs, test_counts)
    absent = [name for name, count in rows.items() if count == 0]
    if absent:
        yield f"The test split has no rows of {listed(absent)}."
    alone = [name for name, count in rows.items() if count == 1]
    if alone:
        yield f"The test split has a single row of {listed(alone)}: nothing can be said about its recall."


def _of_copies(runs: Runs, test_counts: ArrayLike, deduplicated_counts: ArrayLike) -> Iterator[str]:
    """Say which classes hardly exist in the test split without copies, where there is one."""
    rows, fewer = _by_class(runs, test_counts), _by_class(runs, deduplicated_counts)
    if not any(fewer.values()):
        return
    lost = [name for name in rows if rows[name] > fewer[name] == 0]
    if lost:
        yield (
            f"All test rows of {listed(lost)} stand in the training split too: without copies, balanced accuracy is "
            "the mean recall of the other classes."
        )
    alone = [name for name in rows if rows[name] > fewer[name] == 1]
    if alone:
        told = listed(alone)
        yield f"Without copies the test split has a single row of {told}: nothing can be said about its recall."


def _by_class(runs: Runs, counts: ArrayLike) -> dict[str, int]:
    class_names = next(iter(runs.values()))[0].class_names
    return dict(zip(class_names, np.asarray(counts).tolist(), strict=True))


def _of_steps(runs: Runs) -> Iterator[str]:
    steps = {recipe: sorted({record.optimizer_steps for record in records}) for recipe, records in runs.items()}
    if len({number for numbers in steps.values() for number in numbers}) > 1:
        told = ", ".join(f"{recipe} {' or '.join(f'{n:,}' for n in numbers)}" for recipe, numbers in steps.items())
        yield f"The arms took unequal numbers of optimizer steps ({told}); `training.budget: steps` makes them equal."


def _of_environments(runs: Runs) -> Iterator[str]:
    environments = [record.environment for records in runs.values() for record in records]
    names = dict.fromkeys(name for environment in environments for name in environment)
    differing = [name for name in names if len({environment.get(name) for environment in environments}) > 1]
    if differing:
        yield f"The runs were not all made in one environment; they differ in {listed(differing)}."


def _told_by_runs(runs: Runs) -> Iterator[str]:
    """Repeat what the runs warned of, with the arms that said so."""
    said: dict[str, list[str]] = {}
    for recipe, records in runs.items():
        for warning in dict.fromkeys(warning for record in records for warning in record.warnings):
            said.setdefault(warning, []).append(recipe)
    for warning, recipes in said.items():
        yield f"{listed(recipes)}: {warning}"


def listed(names: Iterable[str]) -> str:
    """Return `a, b and c`; there is at least one name."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
