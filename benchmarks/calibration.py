"""`python -m benchmarks calibration`: false positives, misses and power of the significance tests, by simulation."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from benchmarks.gains_page import insert_tables
from benchmarks.judged_simulations import ACCURACY, FoldsDesign, SeedDesign, share, verdicts
from benchmarks.simulated_calibration import CalibrationPopulation, coverage
from benchmarks.simulated_folds import FoldPopulation, Simulation, comparison_of_folds, comparison_of_seeds, many
from benchmarks.simulated_runs import Population, fer2013, mean_recall, simulated, with_counts
from fer_augment.significance import accuracy_weights, balanced_accuracy_weights
from fer_augment.significance.fixed_split import ArmStatistics, estimated
from fer_augment.significance.intervals import half_width

TAIL = 0.025
EQUAL_RUNS = (2, 3, 5, 10)
PLANTED = 0.05
LARGE = 0.2
BETTER_BY = 2
"""Features that a better recipe uses besides; they are worth about 5 points of balanced accuracy."""
KIND = "calibration"
ERRORS = (1.0, 1.1, 1.8), (0.0, 0.15), (300, 3000), (2, 5, 10)
"""Sharpness, its variation over runs, images and runs of the table of the interval of the ECE."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Shares:
    """Shares of simulated comparisons, `(E,)` each: the recall of each class, balanced accuracy, accuracy.

    Attributes:
        before: in which the interval of the earlier test excludes 0; NaN where it had none.
        rejected: in which the interval of today's test excludes 0.
        missed_before: in which the interval of the earlier test does not cover the true difference.
        missed: in which that of today's test does not.
    """

    before: FloatArray
    rejected: FloatArray
    missed_before: FloatArray
    missed: FloatArray


def earlier_half_width(a: ArmStatistics, b: ArmStatistics, weights: FloatArray) -> FloatArray:
    """Return the half-width of the test used until November 2026, `(B, E)`; NaN for a class with one image.

    Its image part was not shrunk and had the degrees of freedom of the smallest class; its run part had no floor.
    """
    estimate, of_class = estimated(a, b, weights), a.of_class
    difference = b.right - a.right
    ends = np.cumsum(of_class)
    with np.errstate(invalid="ignore", divide="ignore"):
        of_images = np.stack(
            [
                difference[:, end - size : end].var(axis=1) / (size - 1.0)
                for end, size in zip(ends, of_class, strict=True)
            ],
            axis=-1,
        )
        beyond = of_images - (a.residual + b.residual) / of_class
    involved = weights != 0
    variance = np.stack(
        [np.maximum(beyond[:, of] @ w[of] ** 2, 0) for w, of in zip(weights, involved, strict=True)], axis=-1
    )
    smallest = np.where(involved, of_class, of_class.max()).min(axis=-1)
    image_df = np.where(smallest > 1, smallest - 1.0, np.nan)
    both_recalls = [arm.recall @ weights.T for arm in (a, b)]
    run_variance = sum(recall.var(axis=1, ddof=1) / recall.shape[1] for recall in both_recalls)
    return np.sqrt(stdtrit(estimate.run_df, TAIL) ** 2 * run_variance + stdtrit(image_df, TAIL) ** 2 * variance)


def endpoint_weights(population: Population) -> FloatArray:
    """Return `(E, K)`: the recall of each class, balanced accuracy, accuracy."""
    classes, labels = len(population.counts), population.labels
    overall = [balanced_accuracy_weights(labels, classes), accuracy_weights(labels, classes)]
    return np.vstack([np.eye(classes), *overall])


def shares(
    population: Population, replications: int, runs: tuple[int, int], planted: float = 0.0, seed: int = 1
) -> Shares:
    """Simulate comparisons in which the true recalls of the arm are higher by `planted`, if below 1."""
    weights = endpoint_weights(population)
    truth = weights @ (mean_recall(population, planted) - mean_recall(population))
    counts = np.zeros((4, len(weights)))
    for arms in simulated(np.random.default_rng(seed), population, replications, runs, planted):
        a, b = (ArmStatistics.of(arm.astype(np.float64), population.counts) for arm in arms)
        delta = estimated(a, b, weights).delta
        before, now = earlier_half_width(a, b, weights), half_width(estimated(a, b, weights), TAIL)
        away, off = np.abs(delta), np.abs(delta - truth)
        counts += [part.sum(axis=0) for part in (away > before, away > now, off > before, off > now)]
        counts[0::2, np.isnan(before).any(axis=0)] = np.nan
    return Shares(*counts / replications)


# --- populations


def populations() -> list[Population]:
    """Return the test splits of the tables; all but FER2013 have a recall of 0.6 with a run sd of .04 or .02."""
    return [
        fer2013(),
        with_counts("2 classes, 500 and 50 images", np.array([500, 50])),
        with_counts("2 classes, 50 and 5 images", np.array([50, 5])),
        with_counts("7 classes, 1 to 50 images", np.array([1, 2, 3, 5, 10, 20, 50])),
        with_counts("7 classes, 10 images each", np.full(7, 10)),
        with_counts("100 classes, 2 to 30 images", np.resize(np.arange(2, 31), 100), run_sd=0.02),
        with_counts("100 classes, 1 to 50 images", np.resize(np.arange(1, 51), 100), run_sd=0.02),
    ]


# --- tables


def fixed_tables(replications: int, report: Callable[[str], None]) -> str:
    """Return the tables for a fixed test split, as Markdown."""
    size = [["test split", "S", "balanced accuracy", "accuracy", "class, mean", "class, worst"]]
    power = [
        ["test split", "S", "power, balanced accuracy +5", "misses of +20, balanced accuracy", "of a class, worst"]
    ]
    for population in populations():
        for runs in EQUAL_RUNS:
            report(f"{population.name}, S = {runs}")
            null = shares(population, replications, (runs, runs))
            size.append([population.name, str(runs), *_size_cells(null)])
            small = shares(population, replications // 2, (runs, runs), PLANTED, seed=2)
            large = shares(population, replications // 2, (runs, runs), LARGE, seed=3)
            cells = [
                _pair(small.before[-2], small.rejected[-2]),
                _pair(large.missed_before[-2], large.missed[-2]),
                _pair(_worst(large.missed_before), _worst(large.missed)),
            ]
            power.append([population.name, str(runs), *cells])
    hard = [["test split", "runs", "balanced accuracy", "accuracy", "class, mean", "class, worst"]]
    faces = fer2013()
    forgetful = replace(faces, name="FER2013, half of the runs do not learn Disgust", forgotten=1)
    unequal = [(2, 3), (3, 5), (2, 10), (2, 20)]
    cases = [*((faces, runs) for runs in unequal), *((forgetful, runs) for runs in ((2, 2), (3, 3), (5, 5)))]
    for population, (runs_a, runs_b) in cases:
        report(f"{population.name}, {runs_a} against {runs_b} runs")
        null = shares(population, replications, (runs_a, runs_b))
        hard.append([population.name, f"{runs_a} / {runs_b}", *_size_cells(null)])
    return "\n\n".join(
        [
            "False positives in %, before → now (a recipe compared with itself):",
            _markdown(size),
            "Power in %, and intervals that miss a true difference in %, before → now:",
            _markdown(power),
            "False positives in %, before → now, with unequal numbers of runs, and where two seeds are not enough:",
            _markdown(hard),
        ]
    )


def _size_cells(null: Shares) -> list[str]:
    return [
        _pair(null.before[-2], null.rejected[-2]),
        _pair(null.before[-1], null.rejected[-1]),
        _pair(_mean(null.before), float(null.rejected[:-2].mean())),
        _pair(_worst(null.before), _worst(null.rejected)),
    ]


def _mean(of_endpoints: FloatArray) -> float:
    return float(np.nanmean(of_endpoints[:-2]))


def _worst(of_endpoints: FloatArray) -> float:
    return float(np.nanmax(of_endpoints[:-2]))


def _pair(before: float, now: float) -> str:
    return f"{'–' if np.isnan(before) else f'{100 * before:.1f}'} → {100 * now:.1f}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    header, *body = rows
    alignment = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, alignment, *body))


def error_of(share: float, replications: int) -> float:
    """Return the standard error of a simulated share."""
    return float(np.sqrt(share * (1 - share) / replications))


FACES = (0.14, 0.02, 0.14, 0.25, 0.17, 0.11, 0.17)
"""Shares of the seven classes of FER2013, rounded."""


def fold_tables(sizes: Sequence[int], replications: int, report: Callable[[str], None]) -> str:
    """Return the table for repeated cross-validation of data sets of some sizes, as Markdown."""
    table = [
        [
            "images", "recipes", "design", "trainings", "false positives, balanced accuracy", "of a class, worst",
            "half-width, balanced accuracy", "of a class, median", "power", "misses",
        ]
    ]  # fmt: skip
    for images in sizes:
        for are_alike in (True, False):
            null = FoldPopulation("", FACES, images, are_alike)
            better = replace(null, better=BETTER_BY)
            for design, trainings, simulate in _designs():
                report(f"{images} images, {'similar' if are_alike else 'different'} errors, {design}")
                deltas, halves = many(simulate, null, replications)
                gains, widths = many(simulate, better, replications, seed=2)
                rejected = (np.abs(deltas) > halves).mean(axis=0)
                missed = (np.abs(gains - gains.mean(axis=0)) > widths).mean(axis=0)
                numbers = [rejected[-1], rejected[:-1].max(), np.median(halves[:, -1]), np.median(halves[:, :-1])]
                numbers += [(np.abs(gains[:, -1]) > widths[:, -1]).mean(), missed[-1]]
                cells = [f"{images:,}", "similar" if are_alike else "different", design, str(trainings)]
                table.append(cells + [f"{100 * number:.1f}" for number in numbers])
    return _markdown(table)


def _designs() -> list[tuple[str, int, Simulation]]:
    return [
        ("fixed fifth, 10 seeds", 10, lambda rng, of: comparison_of_seeds(rng, of, 5, 10)),
        ("5 folds × 1", 5, lambda rng, of: comparison_of_folds(rng, of, 5, 1)),
        ("5 folds × 2", 10, lambda rng, of: comparison_of_folds(rng, of, 5, 2)),
        ("5 folds × 5", 25, lambda rng, of: comparison_of_folds(rng, of, 5, 5)),
    ]


def error_table(replications: int, report: Callable[[str], None]) -> str:
    """Return the table of the interval of the calibration error, as Markdown."""
    table = [["true error", "varies over runs", "images", "S", "mean ECE", "mean interval", "too high", "too low"]]
    for population in error_populations():
        report(str(population))
        table.append(error_row(population, replications))
    return _markdown(table)


def error_populations() -> list[CalibrationPopulation]:
    """Return the rows of the table of the interval of the calibration error."""
    return [CalibrationPopulation(*one) for one in itertools.product(*ERRORS)]


def error_row(population: CalibrationPopulation, replications: int) -> list[str]:
    """Simulate a row of the table."""
    one = coverage(population, replications)
    percents = [f"{100 * number:.1f}" for number in (one.truth, one.ece, one.low, one.high, one.above, one.below)]
    truth, ece, low, high, above, below = percents
    varies = "yes" if population.run_sd else "no"
    return [truth, varies, f"{population.images:,}", str(population.runs), ece, f"{low} to {high}", above, below]


def judged_table(sizes: Sequence[int], replications: int, report: Callable[[str], None]) -> str:
    """Return the table of verdicts of comparisons through `fa.judge`, as Markdown."""
    table = [
        [
            "design", "images", "recipes", "better, balanced accuracy", "better or worse", "better, accuracy",
            "better or worse, accuracy", "better, worst class", "planted: better, balanced accuracy",
        ]
    ]  # fmt: skip
    for row in judged_rows(sizes):
        report(f"{row.name}, {row.images} images, {row.recipes}")
        table.append(row.simulated(replications))
    return _markdown(table)


@dataclass(frozen=True)
class JudgedRow:
    """A row of the table of verdicts.

    Attributes:
        name: the design.
        images: number of scored images.
        recipes: how the errors of the recipes differ.
        design: what is simulated.
        planted: the true difference to plant: of recalls, or in further features.
    """

    name: str
    images: int
    recipes: str
    design: SeedDesign | FoldsDesign
    planted: float

    def simulated(self, replications: int) -> list[str]:
        """Simulate null comparisons, and a fifth as many planted ones."""
        few = replications // 5
        null = verdicts(self.design, replications, 0, seed=1)
        found = verdicts(self.design, few, self.planted, seed=2)
        shares = [
            share(null, replications, "better"),
            share(null, replications, "better", "worse"),
            share(null, replications, "better", endpoint=ACCURACY),
            share(null, replications, "better", "worse", endpoint=ACCURACY),
            share(null, replications, "better", worst_class=True),
            share(found, few, "better"),
        ]
        return [self.name, f"{self.images:,}", self.recipes, *(f"{100 * one:.1f}" for one in shares)]


def judged_rows(sizes: Sequence[int]) -> Iterator[JudgedRow]:
    """Yield the rows of the table of verdicts."""
    faces = fer2013()
    few = replace(faces, counts=faces.counts // 5)
    yield JudgedRow("fixed split, 3 seeds", int(few.counts.sum()), "similar errors", SeedDesign(few, 3), PLANTED)
    for images, are_alike, repeats in itertools.product(sizes, (True, False), (1, 2)):
        recipes = "similar errors" if are_alike else "different errors"
        population = FoldPopulation("", FACES, images, are_alike)
        yield JudgedRow(f"5 folds × {repeats}", images, recipes, FoldsDesign(population, 5, repeats), BETTER_BY)


# --- command

_SAMPLES = {
    "seeds": "{n:,} null comparisons and twice {half:,} planted ones a cell",
    "folds": "{n:,} null comparisons and as many with a true difference a cell",
    "judge": "{n:,} null comparisons and {fifth:,} with a true difference a row",
    "ece": "{n:,} simulations a row",
}
"""What is simulated for each design, with n replications."""
_NOTES = {
    "folds": " All but the trainings in % or points.",
    "judge": " All shares in %, after Holm's correction over the classes.",
    "ece": " All but the images and runs in % or points.",
}
_PLACES = {"seeds": "fixed split"}
"""Names of the places of the tables on the page that differ from those of the designs."""


@click.command()
@click.option("--replications", type=click.IntRange(min=100), default=2000, show_default=True, help="For each cell.")
@click.option("--page", type=click.Path(path_type=Path, exists=True), help="Markdown page to insert the tables into.")
@click.option(
    "--design",
    type=click.Choice(list(_SAMPLES)),
    default="seeds",
    show_default=True,
    help="What to simulate: the test of either design, verdicts through `judge`, or the interval of the ECE.",
)
@click.option(
    "--images", "sizes", type=click.IntRange(min=100), multiple=True, default=(300, 1000), show_default=True,
    help="With --design folds or judge: images of a data set; may be repeated.",
)  # fmt: skip
def calibration(replications: int, page: Path | None, design: str, sizes: tuple[int, ...]) -> None:
    """Simulate comparisons whose true difference is known, and count wrong verdicts.

    Prints the tables of docs/statistics.md, the earlier test beside today's. With the default number of replications,
    it takes about twenty minutes on one core.

    \b
    nice python -m benchmarks calibration --page docs/statistics.md
    nice python -m benchmarks calibration --design folds --replications 300
    nice python -m benchmarks calibration --design judge --replications 1000
    python -m benchmarks calibration --replications 200
    """

    def report(cell: str) -> None:
        click.echo(cell, err=True)

    tables = {
        "seeds": lambda: fixed_tables(replications, report),
        "folds": lambda: fold_tables(sizes, replications, report),
        "judge": lambda: judged_table(sizes, replications, report),
        "ece": lambda: error_table(replications, report),
    }[design]
    option = "" if design == "seeds" else f"--design {design} "
    sample = _SAMPLES[design].format(n=replications, half=replications // 2, fifth=replications // 5)
    heading = (
        f"`python -m benchmarks calibration {option}--replications {replications}`, "
        f"{datetime.date.today().isoformat()}: {sample}, standard error "
        f"{100 * error_of(0.05, replications):.1f} points at 5 %.{_NOTES.get(design, '')}"
    )
    text = f"{heading}\n\n{tables()}"
    click.echo(text)
    if page:
        insert_tables(page, _PLACES.get(design, design), text, kind=KIND)
