"""What a comparison of recipes found: plain typed results, kept as `comparison.json`; reading them needs no torch.

Every mapping from a class is keyed by its name, in the order of `ComparisonRecord.class_names`. What cannot be known is
None: a comparison holds no NaN and no infinity.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AllowInfNan, BaseModel, ConfigDict, ValidationError, model_validator

from fer_augment.data.records import why_unreadable, write_whole
from fer_augment.errors import RunError
from fer_augment.significance import Verdict

COMPARISON_SCHEMA: Final = 2
COMPARISON_FILE = "comparison.json"

Finite: TypeAlias = Annotated[float, AllowInfNan(False)]
Interval: TypeAlias = tuple[Finite, Finite]


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Statistic(_Plain):
    """One number over the seeds of an arm; see `significance.Summary`.

    Attributes:
        mean: None if no run has the number.
        sd: sample standard deviation over seeds; None with fewer than two runs.
        n: number of runs that have the number.
        ci95: 95 % t interval of the mean over new runs, the rows held fixed; None with fewer than two runs.
    """

    mean: Finite | None
    sd: Finite | None
    n: int
    ci95: Interval | None


class SplitScores(_Plain):
    """How well the runs of an arm did on one set of rows; scores lie in `[0, 1]`, as `metrics.Scores` defines them.

    Attributes:
        rows: number of rows.
        accuracy: share of rows that are right.
        balanced_accuracy: mean recall over the classes that have rows.
        macro_f1: mean F1 over the classes that have rows.
        ece: expected calibration error.
        nll: mean negative log-likelihood of the true class, in nats.
        recall: of each class; mean None for a class without rows.
        precision: of each class.
        f1: of each class; mean None for a class without rows.
        confusion: `K x K` counts summed over the runs, rows are true classes and columns predicted ones; divide by
            the number of seeds for the mean.
    """

    rows: int
    accuracy: Statistic
    balanced_accuracy: Statistic
    macro_f1: Statistic
    ece: Statistic
    nll: Statistic
    recall: dict[str, Statistic]
    precision: dict[str, Statistic]
    f1: dict[str, Statistic]
    confusion: tuple[tuple[int, ...], ...]


class Confusion(_Plain):
    """How often one class was taken for another.

    Attributes:
        true: the class that the rows have.
        predicted: the class that they were taken for.
        count: rows of the test split a run.
    """

    true: str
    predicted: str
    count: Statistic


class StepRows(_Plain):
    """What one strategy of an arm did that differs from run to run.

    Attributes:
        name: the strategy's name.
        rows: rows of the rewritten training set that it made, one number a seed.
        chosen: numbers that it chose by itself, by name, one number a seed; None for a run without one.
    """

    name: str
    rows: tuple[int, ...]
    chosen: dict[str, tuple[Finite | None, ...]] = {}


class CurvePoint(_Plain):
    """One evaluation during training, over the seeds of an arm; losses are means per row.

    Attributes:
        epoch: epochs trained so far.
        step: optimizer steps taken so far.
        training_loss: of the batches since the last evaluation, as augmented, by the loss that strategies built.
        selection_loss: on a random selection of training rows, by the recipe's loss.
        validation_loss: on the validation split, by the recipe's loss.
        validation_accuracy: share of validation rows that are right.
        validation_recall: of each class.
    """

    epoch: int
    step: int
    training_loss: Statistic
    selection_loss: Statistic
    validation_loss: Statistic
    validation_accuracy: Statistic
    validation_recall: dict[str, Statistic]


class Arm(_Plain):
    """A recipe with all of its finished runs; whatever is given "one a seed" stands in the order of `seeds`.

    Attributes:
        recipe: the recipe's name.
        description: what it tries, in its own words.
        model: name of its network.
        loss: name of the recipe's loss, before strategies change it.
        seeds: seeds of the finished runs, in ascending order, at least one.
        run_keys: the key of each run, one a seed.
        test: scores on the test split.
        test_deduplicated: on the test rows that do not stand in the training split too, the same for all arms; None
            if there are none.
        validation: scores on the validation split.
        test_loss: mean loss per row of the test split, as the recipe's own loss counts it.
        selection_loss: the same on the selection of training rows, at the end of training.
        watched: how often the watched pairs of classes were confused, the same pairs for all arms.
        steps: the strategies in order.
        train_counts: rows of each class in the training split, before any strategy.
        rewritten_counts: rows of each class in the rewritten training set, one mapping a seed.
        optimizer_steps: optimizer steps taken, one number a seed.
        parameter_count: numbers in the network.
        training_seconds: wall time of a training; runs that reused another's weights do not count.
        curve: evaluations during training, those that all of the runs have.
    """

    recipe: str
    description: str
    model: str
    loss: str
    seeds: tuple[int, ...]
    run_keys: tuple[str, ...]
    test: SplitScores
    test_deduplicated: SplitScores | None
    validation: SplitScores
    test_loss: Statistic
    selection_loss: Statistic
    watched: tuple[Confusion, ...]
    steps: tuple[StepRows, ...]
    train_counts: dict[str, int]
    rewritten_counts: tuple[dict[str, int], ...]
    optimizer_steps: tuple[int, ...]
    parameter_count: int
    training_seconds: Statistic
    curve: tuple[CurvePoint, ...]


class Judgment(_Plain):
    """What may be said of one endpoint of an arm against the baseline; see `significance.Difference`.

    Attributes:
        delta: arm minus baseline, in `[-1, 1]`, over distinct images: copies within the split count once.
        ci95: 95 % interval of `delta` over new runs and new images, for this endpoint alone; not clipped.
        p: two-sided p-value of this endpoint alone.
        p_adjusted: after Holm's correction, over arms for balanced accuracy and for accuracy, over the classes of
            an arm for recall.
        verdict: what `p_adjusted` and the number of runs allow to be said.
        detectable: the true difference that a test with these runs and images would find with 80 % power, before
            Holm's correction; with several arms or classes it takes more.
    """

    delta: Finite | None
    ci95: Interval | None
    p: Finite | None
    p_adjusted: Finite | None
    verdict: Verdict
    detectable: Finite | None


class Judgments(_Plain):
    """The endpoints of an arm against the baseline on one set of rows.

    Attributes:
        accuracy: the guard.
        balanced_accuracy: the primary endpoint.
        recall: of each class.
    """

    accuracy: Judgment
    balanced_accuracy: Judgment
    recall: dict[str, Judgment]


class Versus(Judgments):
    """An arm against the baseline, on the test split.

    Attributes:
        recipe: the arm.
        baseline: what it is compared with.
        share_above: share of two-way bootstrap resamples, of runs and of images, in which the arm's balanced accuracy
            lies above the baseline's, ties counted half: loosely "P(arm > baseline)". None with few runs in either,
            of which resampling makes too much.
        test_deduplicated: the same endpoints on the test rows that do not stand in the training split too.
    """

    recipe: str
    baseline: str
    share_above: Finite | None
    test_deduplicated: Judgments | None


class Data(_Plain):
    """What the runs were trained and scored on.

    Attributes:
        source: where the data came from, for people.
        fingerprint: digest of the data.
        counts: rows of each class in `train`, `validation`, `test` and `test_deduplicated`.
        audit: what the audit counted, by name.
    """

    source: str
    fingerprint: str
    counts: dict[str, dict[str, int]]
    audit: dict[str, int]


class Failure(_Plain):
    """A run that gave no result.

    Attributes:
        recipe: its arm.
        seed: its seed.
        message: why, in one line.
    """

    recipe: str
    seed: int
    message: str


class ComparisonRecord(_Plain):
    """Everything that a report says.

    Attributes:
        baseline: name of the arm that the others are compared with.
        class_names: the K class names.
        data: what the runs were trained and scored on.
        environment: versions, processor, threads, device, precision; values that differ between runs are joined
            by ` | `.
        arms: arms with at least one finished run, the baseline first.
        versus: every other arm against the baseline; empty if the baseline has no finished run.
        failures: runs that gave no result.
        warnings: what the reader has to know, one sentence each, none twice.
    """

    schema_version: Literal[2] = COMPARISON_SCHEMA
    baseline: str
    class_names: tuple[str, ...]
    data: Data
    environment: dict[str, str]
    arms: tuple[Arm, ...]
    versus: tuple[Versus, ...]
    failures: tuple[Failure, ...]
    warnings: tuple[str, ...]

    @model_validator(mode="after")
    def _names_what_exists(self) -> ComparisonRecord:
        arms = [arm.recipe for arm in self.arms]
        if len(set(arms)) != len(arms):
            raise ValueError("two arms have one name")
        if any(name not in arms for versus in self.versus for name in (versus.recipe, versus.baseline)):
            raise ValueError("a verdict is on an arm that does not exist")
        scored = [tuple(arm.test.recall) for arm in self.arms] + [tuple(versus.recall) for versus in self.versus]
        if any(names != self.class_names for names in scored):
            raise ValueError("the recall of an arm is not given for the classes of the comparison")
        return self

    @property
    def baseline_arm(self) -> Arm | None:
        """The baseline, None if none of its runs finished."""
        return next((arm for arm in self.arms if arm.recipe == self.baseline), None)

    def arm(self, recipe: str) -> Arm:
        """Return the arm of a recipe; `versus` names only arms that exist."""
        return next(arm for arm in self.arms if arm.recipe == recipe)


def save_comparison(comparison: ComparisonRecord, directory: Path) -> Path:
    """Write `comparison.json` into a directory, whole or not at all, and return its path."""
    file = directory / COMPARISON_FILE
    write_whole(file, comparison.model_dump_json(indent=1) + "\n")
    return file


def read_comparison(path: Path) -> ComparisonRecord:
    """Read a comparison.

    Args:
        path: `comparison.json`, or the directory that holds it.

    Raises:
        RunError: if it is missing, damaged, or of another schema version.
    """
    file = path / COMPARISON_FILE if path.is_dir() else path
    try:
        return ComparisonRecord.model_validate_json(file.read_bytes())
    except OSError as error:
        raise RunError(f"{file}: {error.strerror}; `fer-augment compare … --out DIR` writes it") from error
    except ValidationError as error:
        told = why_unreadable(error, "comparison", COMPARISON_SCHEMA)
        raise RunError(f"{file}: {told}; run `fer-augment compare` again to rewrite it") from error
