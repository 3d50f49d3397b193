"""Results of a comparison of recipes as typed records, stored as `comparison.json`; reading them needs no torch.

Mappings with a value per class are keyed by class name, in the order of `ComparisonRecord.class_names`. Undefined
values are None: a comparison contains no NaN and no infinity.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from fer_augment.data.image_files import regular_file
from fer_augment.data.records import FoldIdentity, why_unreadable
from fer_augment.data.whole_files import write_whole
from fer_augment.errors import DamagedFileError, RunError
from fer_augment.results.migration import migrated
from fer_augment.significance import Verdict

COMPARISON_SCHEMA: Final = 2
COMPARISON_FILE = "comparison.json"
REPORT_FILE = "report.html"
"""The report of a comparison, beside it."""

Finite: TypeAlias = Annotated[float, AllowInfNan(False), Field(ge=-1e100, le=1e100)]
Count: TypeAlias = Annotated[int, Field(ge=0, le=2**53)]
Interval: TypeAlias = tuple[Finite, Finite]
Points: TypeAlias = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(e[+-]\d+)?$")]
Against: TypeAlias = Literal["baseline", "all"]
"""What arms are tested against: the baseline, or all other arms."""


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Statistic(_Plain):
    """Summary of one number over the seeds of an arm; see `significance.Summary`.

    Attributes:
        mean: mean over seeds; None if no run has the number.
        sd: sample standard deviation over seeds; None with fewer than two runs.
        n: number of runs that have the number.
        ci95: 95 % t interval of the mean over new runs on the same rows, clipped to
            `[0, 1]` for scores in this range; None with fewer than two runs.
    """

    mean: Finite | None
    sd: Finite | None
    n: Count
    ci95: Interval | None


class SplitScores(_Plain):
    """Scores of the runs of an arm on one set of rows; scores are in `[0, 1]` and defined in `metrics.Scores`.

    Attributes:
        rows: number of rows.
        accuracy: share of correct predictions.
        balanced_accuracy: mean recall over the classes with rows.
        macro_f1: mean F1 over the classes with rows.
        ece: expected calibration error.
        ece_ci95: 95 % interval of the calibration error over new runs and new images, in `[0, 1]`, see
            `significance.calibration_error_interval`; None in a cross-validation, with fewer than two runs, or if a run
            has no class probabilities.
        nll: mean negative log-likelihood of the true class, in nats.
        recall: recall per class; mean None for a class without rows.
        precision: precision per class.
        f1: F1 per class; mean None for a class without rows.
        confusion: `K x K` counts summed over the runs; rows are true classes, columns predicted classes. Divide by
            the number of seeds for the mean.
    """

    rows: Count
    accuracy: Statistic
    balanced_accuracy: Statistic
    macro_f1: Statistic
    ece: Statistic
    nll: Statistic
    recall: dict[str, Statistic]
    precision: dict[str, Statistic]
    f1: dict[str, Statistic]
    confusion: tuple[tuple[Count, ...], ...]
    ece_ci95: Interval | None = None


class Ensemble(_Plain):
    """Scores on the test split of one ensemble: the mean of the class probabilities of all runs of an arm.

    It has no interval and no test: it is one prediction per image, and how much another ensemble of new trainings would
    differ is not known.

    Attributes:
        runs: number of runs, at least two.
        accuracy: share of correct predictions.
        balanced_accuracy: mean recall over the classes with rows.
        recall: recall per class; None for a class without rows.
        ece: expected calibration error.
    """

    runs: Annotated[Count, Field(ge=2)]
    accuracy: Finite
    balanced_accuracy: Finite
    recall: dict[str, Finite | None]
    ece: Finite


class Confusion(_Plain):
    """How often one class was predicted as another.

    Attributes:
        true: true class of the rows.
        predicted: predicted class.
        count: rows of the test split per run.
    """

    true: str
    predicted: str
    count: Statistic


class StepRows(_Plain):
    """Results of one step of an arm that may differ between runs.

    Attributes:
        name: name of the strategy.
        rows: rows that it added to the rewritten training set, one number per seed.
        chosen: values that the step selected, by name, one per seed; None for a run without the value.
    """

    name: str
    rows: tuple[Count, ...]
    chosen: dict[str, tuple[Finite | None, ...]] = {}


class CurvePoint(_Plain):
    """One evaluation during training, over the seeds of an arm; losses are means per row.

    Attributes:
        epoch: epochs trained so far.
        step: optimizer steps taken so far.
        training_loss: loss of the augmented batches since the last evaluation, as modified by strategies.
        selection_loss: the recipe's loss on a random sample of training rows.
        validation_loss: the recipe's loss on the validation split.
        validation_accuracy: accuracy on the validation split.
        validation_recall: recall per class on the validation split.
    """

    epoch: Annotated[Count, Field(ge=1)]
    step: Count
    training_loss: Statistic
    selection_loss: Statistic
    validation_loss: Statistic
    validation_accuracy: Statistic
    validation_recall: dict[str, Statistic]


class Arm(_Plain):
    """A recipe with its finished runs; values "per seed" are in the order of `seeds`.

    Predictions of another trainer have scores only: the fields that describe the recipe and its trainings are empty.

    Attributes:
        recipe: name of the recipe.
        description: the recipe's description.
        model: name of its network.
        loss: name of the recipe's loss, before strategies change it.
        seeds: seeds of the finished runs in ascending order, at least one.
        run_keys: run key per seed.
        test: scores on the test split.
        test_deduplicated: scores on the deduplicated test split: the test rows without an exact, near or mirrored
            duplicate in the training split, the same for all arms; None if there are none, or if it is not known which
            these are.
        validation: scores on the validation split; None without predictions for it.
        test_loss: the recipe's loss on the test split, mean per row.
        selection_loss: the recipe's loss on the sample of training rows at the end of training, mean per row.
        watched: counts of the watched confusions, the same pairs for all arms.
        steps: the steps in order.
        train_counts: rows per class in the training split, before any strategy.
        rewritten_counts: rows per class in the rewritten training set, one mapping per seed.
        optimizer_steps: optimizer steps taken, per seed.
        parameter_count: number of parameters of the network; None if it is not known.
        training_seconds: wall time of a training, without cached trainings.
        curve: evaluations during training that all runs have in common.
        folds: held-out fold per seed; empty on a fixed test split.
        ensemble: the runs as one predictor; None in a cross-validation, with one run, or if a run has no scores.
    """

    recipe: str
    description: str = ""
    model: str = ""
    loss: str = ""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    run_keys: tuple[str, ...]
    test: SplitScores
    test_deduplicated: SplitScores | None
    validation: SplitScores | None = None
    test_loss: Statistic = Statistic(mean=None, sd=None, n=0, ci95=None)
    selection_loss: Statistic = Statistic(mean=None, sd=None, n=0, ci95=None)
    watched: tuple[Confusion, ...] = ()
    steps: tuple[StepRows, ...] = ()
    train_counts: dict[str, Count] = {}
    rewritten_counts: tuple[dict[str, Count], ...] = ()
    optimizer_steps: tuple[Count, ...] = ()
    parameter_count: Count | None = None
    training_seconds: Statistic = Statistic(mean=None, sd=None, n=0, ci95=None)
    curve: tuple[CurvePoint, ...] = ()
    folds: tuple[FoldIdentity, ...] = ()
    ensemble: Ensemble | None = None

    @property
    def n(self) -> int:
        """Number of scores on the test split: of runs, or of repeats in a cross-validation."""
        return self.test.accuracy.n

    @property
    def repeats(self) -> frozenset[int]:
        """The numbers of its repeats in a cross-validation; predictions of another trainer have one per seed."""
        return frozenset(fold.repeat for fold in self.folds) or frozenset(self.seeds)


class Judgment(_Plain):
    """Test of one endpoint of an arm against the baseline; see `significance.Difference`.

    Attributes:
        delta: arm minus baseline, in `[-1, 1]`, over distinct images: exact duplicates within the split count once.
        ci95: 95 % confidence interval of `delta` over new runs and new images, unadjusted and not clipped.
        p: two-sided p-value, unadjusted.
        p_adjusted: p-value after Holm's correction: over arms, or over all pairs of arms, for balanced accuracy and for
            accuracy, over the classes of an arm or pair for recall.
        verdict: result of the test, by `p_adjusted` and the number of runs.
        detectable: minimum detectable effect of this test (80 % power, unadjusted); larger after Holm's correction
            for several arms or classes.
    """

    delta: Finite | None
    ci95: Interval | None
    p: Finite | None
    p_adjusted: Finite | None
    verdict: Verdict
    detectable: Finite | None


class Judgments(_Plain):
    """Tests of an arm against the baseline on one set of rows.

    Attributes:
        accuracy: the guard endpoint.
        balanced_accuracy: the primary endpoint.
        recall: recall per class.
    """

    accuracy: Judgment
    balanced_accuracy: Judgment
    recall: dict[str, Judgment]


class Versus(Judgments):
    """Tests of an arm against the baseline on the test split.

    Attributes:
        recipe: the arm.
        baseline: the arm that it is compared with.
        share_above: share of two-way bootstrap resamples, of runs and images, in which the arm's balanced accuracy
            is above the baseline's, with ties counted half: loosely "P(arm > baseline)". None with fewer than five
            runs of either arm, where the bootstrap is too optimistic, and in `ComparisonRecord.pairs`.
        test_deduplicated: the same tests on the deduplicated test split; None if it is empty.
    """

    recipe: str
    baseline: str
    share_above: Finite | None
    test_deduplicated: Judgments | None


class Data(_Plain):
    """The data that the runs were trained and scored on.

    Attributes:
        source: description of the data source, for display.
        fingerprint: digest of the data.
        counts: rows per class in `train`, `validation`, `test`, `test_deduplicated`, and `test_near_duplicates`: the
            test rows with a near or mirrored duplicate in the training split and no exact one. Without this key (in
            comparisons of earlier versions) the deduplicated test split omits exact duplicates only.
        audit: counts of the data audit, by name.
    """

    source: str
    fingerprint: str
    counts: dict[str, dict[str, Count]]
    audit: dict[str, Count]


class Failure(_Plain):
    """A failed run.

    Attributes:
        recipe: its arm.
        seed: its seed.
        message: the reason, in one line.
        fold: its held-out fold; None on a fixed test split.
    """

    recipe: str
    seed: int
    message: str
    fold: FoldIdentity | None = None

    def __str__(self) -> str:
        """Return the recipe with seed or fold, for messages."""
        return f"{self.recipe}, {self.fold or f'seed {self.seed}'}"


class FoldDesign(_Plain):
    """A repeated cross-validation, in which every image is held out once in each repeat.

    Attributes:
        folds: number of folds of each repeat.
        repeats: number of repeats that at least one arm has finished.
        keeps_test: whether the given test split is not part of the folds, and not scored.
    """

    folds: Annotated[Count, Field(ge=2)]
    repeats: Annotated[Count, Field(ge=1)]
    keeps_test: bool


class GridChoice(_Plain):
    """The arms of a grid, and the one that was chosen on the validation split.

    Attributes:
        arms: values of each arm by dotted key, such as `{"strategies.power_sampler.exponent": 0.5}`.
        chosen: the arm that is first by `criterion`, of equal ones the first; None if none has the score.
        criterion: how it was chosen; in a cross-validation, on the validation rows of all folds.
    """

    arms: dict[str, dict[str, JsonValue]]
    chosen: str | None
    criterion: Literal["highest mean balanced accuracy on the validation split"] = (
        "highest mean balanced accuracy on the validation split"
    )


class ComparisonRecord(_Plain):
    """The results of a comparison: scores, tests against the baseline, failures and warnings.

    Attributes:
        baseline: name of the baseline.
        class_names: the K class names.
        data: the data that the runs were trained and scored on.
        environment: versions, processor, threads, device, precision; values that differ between runs are joined
            by ` | `.
        arms: arms with at least one finished run, the baseline first; at least one.
        versus: tests of every other arm against the baseline; empty if the baseline has no finished run.
        failures: failed runs.
        warnings: limitations of the results, one sentence each, without repetition.
        cross_validation: how the data were divided into folds; None on a fixed test split. In a cross-validation, the
            "test split" of all scores and tests are the rows of all folds, `n` and `runs` are numbers of repeats, and
            training and validation counts are those of the first fold.
        seeds_for_precision: estimated number of seeds with which the 95 % interval of balanced accuracy of every test
            is at most this many points to either side, by points (`"2"`); None if this test split is probably too small
            for it. Without points for which the variance between images is not known well enough. Tests of an arm with
            one run do not count; empty if there are no others, and in a cross-validation.
        grid: the arms of a grid and the one chosen on the validation split; None without a grid.
        against: `all` if every two arms are tested, with Holm's correction over all of `tests`.
        pairs: with `against` `all`, tests of every two arms other than the baseline; `baseline` is then the arm that is
            first in `arms`.
    """

    schema_version: Literal[2] = COMPARISON_SCHEMA
    baseline: str
    class_names: tuple[str, ...]
    data: Data
    environment: dict[str, str]
    arms: Annotated[tuple[Arm, ...], Field(min_length=1)]
    versus: tuple[Versus, ...]
    failures: tuple[Failure, ...]
    warnings: tuple[str, ...]
    cross_validation: FoldDesign | None = None
    seeds_for_precision: dict[Points, Count | None] = {}
    grid: GridChoice | None = None
    against: Against = "baseline"
    pairs: tuple[Versus, ...] = ()

    @model_validator(mode="after")
    def _check_consistency(self) -> ComparisonRecord:
        fault = next(faults_of(self), None)
        if fault:
            raise ValueError(fault)
        return self

    @property
    def baseline_arm(self) -> Arm | None:
        """The baseline; None if none of its runs finished."""
        return next((arm for arm in self.arms if arm.recipe == self.baseline), None)

    @property
    def tests(self) -> tuple[Versus, ...]:
        """All tests: of the arms against the baseline, and of the other pairs."""
        return (*self.versus, *self.pairs)

    @property
    def is_of_trainings(self) -> bool:
        """Whether the arms were trained by this package; if not, they are predictions of other trainers."""
        return any(arm.parameter_count is not None for arm in self.arms)

    def arm(self, recipe: str) -> Arm:
        """Return the arm of a recipe, which must be one of `arms`."""
        return next(arm for arm in self.arms if arm.recipe == recipe)


def faults_of(comparison: ComparisonRecord) -> Iterator[str]:
    """Yield what contradicts itself in a comparison: every part must have the same classes, arms and runs."""
    names, arms = comparison.class_names, [arm.recipe for arm in comparison.arms]
    if not names or len(set(names)) != len(names):
        yield "class_names: expected at least one class, each once"
    if len(set(arms)) != len(arms):
        yield "arms: two arms have the same name"
    if comparison.grid and comparison.grid.chosen not in {None, *(set(comparison.grid.arms) & set(arms))}:
        yield "grid.chosen: is not an arm of the grid that was compared"
    for field, tests in (("versus", comparison.versus), ("pairs", comparison.pairs)):
        for place, versus in enumerate(tests):
            if versus.recipe not in arms or versus.baseline not in arms:
                yield f"{field}.{place}: recipe or baseline is not an arm of the comparison"
            for judgments in (versus, versus.test_deduplicated):
                if judgments and tuple(judgments.recall) != names:
                    yield f"{field}.{place}.recall: the classes differ from class_names"
    if len({frozenset((one.recipe, one.baseline)) for one in comparison.tests}) != len(comparison.tests):
        yield "versus, pairs: two arms are tested twice"
    if len({arm.parameter_count is None for arm in comparison.arms}) > 1:
        yield "arms: some have a parameter_count and some have none"
    for place, arm in enumerate(comparison.arms):
        yield from (f"arms.{place}.{fault}" for fault in _faults_of_arm(arm, names))
        if [(one.true, one.predicted) for one in arm.watched] != [
            (one.true, one.predicted) for one in comparison.arms[0].watched
        ]:
            yield f"arms.{place}.watched: other pairs than in the first arm"
    for split, counts in comparison.data.counts.items():
        if not set(counts) <= set(names):
            yield f"data.counts.{split}: the classes differ from class_names"
    rows = comparison.data.counts.get("test", {})
    for split in ("test_deduplicated", "test_near_duplicates"):
        if any(count > rows.get(name, 0) for name, count in comparison.data.counts.get(split, {}).items()):
            yield f"data.counts.{split}: more rows of a class than in the test split"


def _faults_of_arm(arm: Arm, names: tuple[str, ...]) -> Iterator[str]:
    for split in ("test", "test_deduplicated", "validation"):
        scores: SplitScores | None = getattr(arm, split)
        if scores is None:
            continue
        by_class = {name: getattr(scores, name) for name in ("recall", "precision", "f1")}
        overall = {name: getattr(scores, name) for name in ("accuracy", "balanced_accuracy", "macro_f1", "ece")}
        for name, of_classes in by_class.items():
            if tuple(of_classes) != names:
                yield f"{split}.{name}: the classes differ from class_names"
            overall |= {f"{name}.{class_name}": one for class_name, one in of_classes.items()}
        for name, one in overall.items():
            if one.mean is not None and not -_ROUNDING <= one.mean <= 1 + _ROUNDING:
                yield f"{split}.{name}: the mean {one.mean:g} is not between 0 and 1"
        if len(scores.confusion) != len(names) or any(len(row) != len(names) for row in scores.confusion):
            yield f"{split}.confusion: expected a row and a column for each of the {len(names)} classes"
    for name in ("accuracy", "balanced_accuracy"):
        if getattr(arm.test, name).mean is None or not getattr(arm.test, name).n:
            yield f"test.{name}: expected the score of at least one run"
    if arm.ensemble and tuple(arm.ensemble.recall) != names:
        yield "ensemble.recall: the classes differ from class_names"
    runs = len(arm.seeds)
    lengths = {"run_keys": len(arm.run_keys), **{f"steps.{n}.rows": len(step.rows) for n, step in enumerate(arm.steps)}}
    if arm.folds:
        lengths["folds"] = len(arm.folds)
    if arm.parameter_count is not None:
        lengths |= {"optimizer_steps": len(arm.optimizer_steps), "rewritten_counts": len(arm.rewritten_counts)}
    for name, length in lengths.items():
        if length != runs:
            yield f"{name}: expected a value for each of the {runs} seeds, got {length}"
    for name, counts in (("train_counts", (arm.train_counts,)), ("rewritten_counts", arm.rewritten_counts)):
        if any(tuple(one) != names and (one or arm.rewritten_counts) for one in counts):
            yield f"{name}: the classes differ from class_names"
    if any(tuple(point.validation_recall) != names for point in arm.curve):
        yield "curve: the classes differ from class_names"
    if not {name for pair in arm.watched for name in (pair.true, pair.predicted)} <= set(names):
        yield "watched: a class is not in class_names"


def save_comparison(comparison: ComparisonRecord, directory: Path) -> Path:
    """Write `comparison.json` into a directory atomically and return its path."""
    file = directory / COMPARISON_FILE
    text = comparison.model_dump_json(indent=1)
    write_whole(file, _NUMBERS.sub(lambda numbers: re.sub(r"\s+", "", numbers[0]), text) + "\n")
    return file


_NUMBERS = re.compile(r"\[\n\s*\d+(?:,\s+\d+)*\s+\]")
"""Lists of counts, such as the rows of a confusion matrix, which are written in one line; no text has line breaks."""
_ROUNDING = 1e-9


def read_comparison(path: Path) -> ComparisonRecord:
    """Read a comparison, of an earlier schema version as well; see `results.migration`.

    Args:
        path: `comparison.json` or its directory.

    Raises:
        RunError: if the file is missing, damaged, or has a later schema version.
    """
    if path.suffix != ".json" and not path.exists():
        raise RunError(f"{path}: no such directory; `fer-augment compare … --out {path}` creates it")
    file = path / COMPARISON_FILE if path.is_dir() else path
    try:
        content = regular_file(file).read_bytes()
        try:
            return ComparisonRecord.model_validate_json(content)
        except ValidationError:
            return ComparisonRecord.model_validate_json(_migrated(content))
    except OSError as error:
        remedy = "`fer-augment compare … --out DIR` writes this file"
        raise DamagedFileError(file, f"{error.strerror}", remedy) from error
    except ValidationError as error:
        reason = why_unreadable(error, "comparison", COMPARISON_SCHEMA)
        raise DamagedFileError(file, reason, "run `fer-augment compare` again to rewrite it") from error


def _migrated(content: bytes) -> bytes:
    """Return a file of an earlier schema as one of the present schema, and any other as it is."""
    try:
        return json.dumps(migrated(json.loads(content), COMPARISON_SCHEMA)).encode()
    except (ValueError, RecursionError):  # damaged: refused with the place of the damage
        return content
