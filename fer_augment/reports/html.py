"""A comparison as one self-contained HTML file, or as an HTML fragment for notebooks; neither has scripts or links.

Templates escape all values, because names of classes and recipes come from files.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fer_augment.data.records import StepRecord
from fer_augment.data.whole_files import write_whole
from fer_augment.errors import RunError
from fer_augment.reports.curves import accuracy_charts, loss_charts
from fer_augment.reports.figures import (
    class_scores,
    dot_figures,
    reliability_figures,
    rewritten_figures,
    sampling_figures,
    split_figures,
)
from fer_augment.reports.forest import TONES, forest_plot
from fer_augment.reports.grids import against_baseline, ensembles, overview, recall_by_arm, validation_overview
from fer_augment.reports.matrices import (
    confusion_matrix_figure,
    difference_maps,
    difference_matrix_figures,
    heat_maps,
)
from fer_augment.reports.notable import matrix_classes
from fer_augment.reports.pairs import pair_grids, ranking_chart
from fer_augment.reports.pictures import ConfusedPair, added_galleries, confused_galleries, steps_that_add_nothing
from fer_augment.reports.published import published_grids
from fer_augment.reports.run_files import LocatedRun, RunFiles
from fer_augment.reports.wording import (
    cost_sentence,
    duplicates_sentence,
    failures,
    headline,
    kind_of_duplicates,
    new_samples,
    notes,
    percent,
    printable,
    spread,
    units,
    verdict_sentence,
    warning_lines,
)
from fer_augment.results.comparison import REPORT_FILE as REPORT_FILE
from fer_augment.results.comparison import Arm, ComparisonRecord, Versus, read_comparison
from fer_augment.results.comparison_warnings import listed
from fer_augment.results.confused_images import CONFUSED_FILE, load_confused

if TYPE_CHECKING:
    from jinja2 import Environment

SECTIONS = {
    "verdict": "Verdict",
    "recall": "Recall per class",
    "scores": "Scores per run",
    "confusion": "Confusion matrices",
    "training": "Training",
    "classes": "Class counts",
    "added": "Added training rows",
    "confused": "Confused images",
    "calibration": "Calibration",
    "data": "Data audit",
    "setup": "Setup",
}
"""The sections in order: anchor, which is also the name of the template, and title."""
_OF_SCORES = ("verdict", "recall", "scores", "confusion")
"""The sections that need neither trainings nor images, for predictions of other trainers."""


MOST_CLASS_SCORES = 200
"""Classes up to which the report has a table of recall, precision and F1 of each class."""


def write_report(directory: Path) -> Path:
    """Write `report.html` into the directory of a comparison, atomically.

    Args:
        directory: directory with `comparison.json`; run directories below `runs` and `confused.safetensors` are
            used if they exist.

    Returns:
        The path of the report.

    Raises:
        RunError: if `comparison.json` is missing or damaged, or the report cannot be written.
    """
    comparison = read_comparison(directory)
    file = directory / REPORT_FILE
    try:
        write_whole(file, report_html(comparison, directory))
    except OSError as error:
        raise RunError(f"{file}: cannot be written ({error.strerror})") from error
    return file


def report_html(comparison: ComparisonRecord, directory: Path) -> str:
    """Return the report; the same files give the same text.

    Args:
        comparison: the comparison.
        directory: directory of the run directories and of `confused.safetensors`.
    """
    template = _environment().get_template("report.html.j2")
    sections = {anchor: SECTIONS[anchor] for anchor in SECTIONS if comparison.is_of_trainings or anchor in _OF_SCORES}
    return template.render(sections=sections, **_results(comparison), **_evidence(comparison, RunFiles(directory)),
                           confused=_confused(comparison, directory))  # fmt: skip


def comparison_html(comparison: ComparisonRecord) -> str:
    """Return a comparison as an HTML fragment, for notebooks.

    Args:
        comparison: the comparison.

    Returns:
        A `div` with the verdicts, the recall of each class in every arm, notes, failures and warnings, from the same
        tables and templates as the report. Values are escaped; the fragment has no script and no reference to other
        files.
    """
    recall = [against_baseline(comparison, versus) for versus in comparison.versus] or [recall_by_arm(comparison)]
    recall += pair_grids(comparison)
    return _environment().get_template("fragment.html.j2").render(recall=recall, **_summary(comparison))


@functools.cache
def _environment() -> Environment:
    """Return the environment of the templates, which keeps them compiled."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fer_augment.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,  # takes half of the time of compiling, and a template is rendered once
    )
    environment.filters |= {
        "code": _code, "listed": listed, "percent": percent, "printable": printable, "soft": _soft, "spread": spread
    }  # fmt: skip
    return environment


def _soft(name: str) -> str:
    """Escape a name and allow line breaks after underscores and dots."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[_.])", name))


def _code(line: str) -> str:
    """Escape a line and set what is in backticks as code."""
    from markupsafe import Markup, escape

    parts = re.split(r"`([^`]+)`", line)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if n % 2 else escape(part) for n, part in enumerate(parts)
    )


# --- contents of comparison.json


@dataclass(frozen=True)
class VerdictText:
    """Sentences of the verdict on an arm, and the CSS class of its color."""

    tone: str
    sentence: str
    cost: str


def _summary(comparison: ComparisonRecord) -> dict[str, object]:
    """Return the values that the report and the fragment have in common."""
    return {
        "comparison": comparison,
        "title": _title(comparison),
        "headline": headline(comparison),
        "verdicts": [_verdict(versus) for versus in comparison.versus],
        "overview": overview(comparison),
        "failures": failures(comparison),
        "warnings": warning_lines(comparison),
        "notes": notes(comparison),
        "new_samples": new_samples(comparison),
        "units": units(comparison),
    }


def _results(comparison: ComparisonRecord) -> Mapping[str, object]:
    """Return the values of the report that need no run directories."""
    names, baseline, shown = comparison.class_names, comparison.baseline_arm, matrix_classes(comparison)
    are_many = len(shown) < len(names)
    others = [arm for arm in comparison.arms if arm is not baseline]
    return _summary(comparison) | {
        "duplicates": duplicates_sentence(comparison),
        "duplicate_counts": _duplicate_counts(comparison),
        "kind_of_duplicates": kind_of_duplicates(comparison),
        "validation": validation_overview(comparison),
        "forest": forest_plot(comparison),
        "ensembles": ensembles(comparison),
        "ranking": ranking_chart(comparison),
        "class_scores": {printable(arm.recipe): class_scores(arm.test) for arm in comparison.arms}
        if len(names) <= MOST_CLASS_SCORES
        else {},
        "published": published_grids(comparison),
        "matrices": [confusion_matrix_figure(comparison, arm, shown) for arm in comparison.arms],
        "differences": difference_matrix_figures(comparison, others, baseline, shown) if baseline else (),
        "heat_maps": heat_maps(comparison.arms, names) if are_many else (),
        "difference_maps": difference_maps(others, baseline, names) if are_many and baseline else (),
        "loss_charts": loss_charts(comparison),
        "accuracy_charts": accuracy_charts(comparison),
        "losses": sorted({arm.loss for arm in comparison.arms}),
        "splits": split_figures(comparison),
        "rewritten": rewritten_figures(comparison),
        "unchanged": [printable(arm.recipe) for arm in comparison.arms if not _changes_counts(arm)],
        "idle_steps": steps_that_add_nothing(comparison),
    }


def _title(comparison: ComparisonRecord) -> str:
    names = [printable(versus.recipe) for versus in comparison.versus]
    baseline = printable(comparison.baseline)
    if names:
        return f"{listed(names)} vs. {baseline}"
    return listed(printable(arm.recipe) for arm in comparison.arms) if comparison.arms else baseline


def _verdict(versus: Versus) -> VerdictText:
    tone = TONES.get(versus.balanced_accuracy.verdict, "open")
    return VerdictText(tone, verdict_sentence(versus), cost_sentence(versus))


def _changes_counts(arm: Arm) -> bool:
    return any(after != arm.train_counts for after in arm.rewritten_counts)


@dataclass(frozen=True)
class _DuplicateCounts:
    """Test rows of a class with a duplicate in training."""

    name: str
    rows: int
    exact: int
    near: int


def _duplicate_counts(comparison: ComparisonRecord) -> list[_DuplicateCounts]:
    """Count the test rows with a duplicate in training, for classes that have some."""
    splits = "test", "test_deduplicated", "test_near_duplicates"
    whole, deduplicated, near = (comparison.data.counts.get(split, {}) for split in splits)
    of_near = {name: near.get(name, 0) for name in whole}
    return [
        _DuplicateCounts(printable(name), rows, rows - deduplicated[name] - of_near[name], of_near[name])
        for name, rows in whole.items()
        if deduplicated.get(name, rows) < rows
    ]


# --- contents of run directories


@dataclass(frozen=True)
class ArmSetup:
    """Recipe, steps and runs of an arm.

    Attributes:
        arm: the arm.
        recipe_yaml: its resolved recipe; None if no run directory was located.
        steps: its steps with their providers.
        runs: one row per run: seed, accuracy and balanced accuracy in percent, training time, optimizer steps, run
            key.
    """

    arm: Arm
    recipe_yaml: str | None
    steps: tuple[StepRecord, ...]
    runs: tuple[tuple[str, ...], ...]


def _evidence(comparison: ComparisonRecord, files: RunFiles) -> Mapping[str, object]:
    """Return the values of the report that need run directories."""
    return {
        "runs_expected": sum(len(arm.run_keys) for arm in comparison.arms),
        "runs_located": sum(len(files.of(arm)) for arm in comparison.arms),
        "dots": dot_figures(comparison, files),
        "sampling": sampling_figures(comparison, files),
        "added": added_galleries(comparison, files),
        "reliability": reliability_figures(comparison, files),
        "setups": [_setup(arm, files.of(arm)) for arm in comparison.arms if comparison.is_of_trainings],
    }


def _setup(arm: Arm, runs: Iterable[LocatedRun]) -> ArmSetup:
    of_seed = {run.seed: run for run in runs}
    first = next(iter(of_seed.values()), None)
    text = first.recipe_yaml if first else None
    names = [str(fold) for fold in arm.folds] or [str(seed) for seed in arm.seeds]
    return ArmSetup(
        arm=arm,
        recipe_yaml=None if text is None else "\n".join(_visible(line) for line in text.splitlines()),
        steps=first.record.steps if first else (),
        runs=tuple(
            (name, *_scores_of(of_seed.get(seed)), f"{steps:,}", key[:12])
            for name, seed, steps, key in zip(names, arm.seeds, arm.optimizer_steps, arm.run_keys, strict=True)
        ),
    )


def _scores_of(run: LocatedRun | None) -> tuple[str, str, str]:
    if run is None:
        return ("missing", "missing", "missing")
    seconds = run.record.training_seconds
    time = "cached" if seconds is None else f"{seconds:,.0f} s"
    return f"{100 * run.scores.accuracy:.1f}", f"{100 * run.scores.balanced_accuracy:.1f}", time


def _visible(line: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _confused(comparison: ComparisonRecord, directory: Path) -> tuple[ConfusedPair, ...]:
    try:
        return confused_galleries(comparison, load_confused(directory / CONFUSED_FILE))
    except RunError:
        return ()
