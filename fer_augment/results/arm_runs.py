"""Arms of a comparison in memory: read from run directories, and summarized as records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.records import Evaluation, FoldIdentity, Predictions, RunDirectory, RunRecord, StepRecord
from fer_augment.errors import RunError
from fer_augment.results.comparison import Arm, CurvePoint, Ensemble, StepRows
from fer_augment.results.ensembles import ensemble_of
from fer_augment.results.scored_rows import ScoredRows, confusion_of, first_of_group, share, split_scores, statistic

Pair = tuple[str, str]


@dataclass(frozen=True, eq=False)
class ArmRuns:
    """The runs of an arm, in ascending order of their seeds.

    Attributes:
        name: name of the arm: its recipe.
        class_names: the K class names.
        seeds: seed per run.
        keys: run key per run.
        test: predictions for the test split; in a cross-validation, of each repeat for all rows.
        validation: predictions for the validation split, a part for each set of rows; empty if there are none.
        records: record per run; empty for predictions of another trainer.
        folds: held-out fold per run; empty on a fixed test split.
        repeats: number of each run of `test` that is a repeat; empty on a fixed test split.
        ensemble: scores of the mean of the runs' class probabilities on a fixed test split; None without.
    """

    name: str
    class_names: tuple[str, ...]
    seeds: tuple[int, ...]
    keys: tuple[str, ...]
    test: ScoredRows
    validation: tuple[ScoredRows, ...] = ()
    records: tuple[RunRecord, ...] = ()
    folds: tuple[FoldIdentity, ...] = ()
    repeats: tuple[int, ...] = ()
    ensemble: Ensemble | None = None

    @property
    def single_class(self) -> str | None:
        """The class that every run predicts for all of its test rows, in words; None if a run tells classes apart."""
        classes = self.test.single_classes
        if classes is None or len(np.unique(self.test.labels)) < 2:  # one that is right for all rows
            return None
        return self.class_names[int(classes[0])] if len(classes) == 1 else "a single class"


def read_arm(recipe: str, directories: Iterable[RunDirectory]) -> ArmRuns:
    """Read the finished runs of an arm, at least one; of a cross-validation, those of its complete repeats.

    Raises:
        RunError: if files of a run are damaged, or runs were scored on different rows.
    """
    runs = sorted(((run.record, run) for run in directories), key=lambda pair: pair[0].identity.seed)
    if runs[0][0].identity.fold:
        return _of_folds(recipe, runs)
    of_runs = [(run.predictions("test"), run.predictions("validation")) for _, run in runs]
    for (_, run), of_run in zip(runs, of_runs, strict=True):
        if any(not np.array_equal(own.labels, first.labels) for own, first in zip(of_run, of_runs[0], strict=True)):
            raise RunError(f"{run.path}: scored on different rows than {runs[0][1].path}; remove the wrong run")
    test, validation = (ScoredRows.of(split) for split in zip(*of_runs, strict=True))
    records = tuple(record for record, _ in runs)
    return ArmRuns(
        name=recipe,
        class_names=records[0].class_names,
        seeds=tuple(record.identity.seed for record in records),
        keys=tuple(record.identity.key for record in records),
        test=test,
        validation=(validation,),
        records=records,
        ensemble=ensemble_of([of_test for of_test, _ in of_runs], records[0].class_names),
    )


def has_complete_repeat(directories: Iterable[RunDirectory]) -> bool:
    """Return whether an arm can be read: whether it has a run, and in a cross-validation all folds of a repeat."""
    folds = [directory.record.identity.fold for directory in directories]
    return bool(folds) and (folds[0] is None or bool(_complete_repeats(fold for fold in folds if fold)))


def _complete_repeats(folds: Iterable[FoldIdentity]) -> list[int]:
    found = Counter((fold.repeat, fold.folds) for fold in folds)
    return sorted(repeat for (repeat, folds_of_repeat), count in found.items() if count == folds_of_repeat)


def _of_folds(recipe: str, runs: Sequence[tuple[RunRecord, RunDirectory]]) -> ArmRuns:
    """Join the held-out folds of each complete repeat to predictions for all rows."""
    repeats = _complete_repeats(record.identity.fold for record, _ in runs if record.identity.fold)
    complete = [
        (record, run) for record, run in runs if record.identity.fold and record.identity.fold.repeat in repeats
    ]
    of_repeat: dict[int, list[Predictions]] = {repeat: [] for repeat in repeats}
    validation, folds = [], []
    for record, run in complete:
        if record.identity.fold:
            of_repeat[record.identity.fold.repeat].append(run.predictions("test"))
            folds.append(record.identity.fold)
        validation.append(ScoredRows.of([run.predictions("validation")]))
    joined = [_joined(recipe, parts) for parts in of_repeat.values()]
    first = joined[0][0]
    if any(not np.array_equal(other.labels, first.labels) for other, _ in joined):
        raise RunError(f"{recipe}: the repeats were made with different data; remove the runs and compare again")
    test = ScoredRows.of([predictions for predictions, _ in joined])
    records = tuple(record for record, _ in complete)
    return ArmRuns(
        name=recipe,
        class_names=records[0].class_names,
        seeds=tuple(record.identity.seed for record in records),
        keys=tuple(record.identity.key for record in records),
        test=replace(test, folds=np.stack([of_fold for _, of_fold in joined]), together=first.together),
        validation=tuple(validation),
        records=records,
        folds=tuple(folds),
        repeats=tuple(repeats),
    )


def _joined(recipe: str, parts: Sequence[Predictions]) -> tuple[Predictions, NDArray[np.int64]]:
    """Return predictions for all rows in order, and the fold of each row, from those for each fold."""
    if any(part.rows is None or part.together is None for part in parts):
        raise RunError(f"{recipe}: a run does not say which rows it held out; remove it and compare again")
    rows = np.concatenate([part.rows for part in parts if part.rows is not None])
    order = np.argsort(rows, kind="stable")
    if not np.array_equal(rows[order], np.arange(len(rows))):
        raise RunError(f"{recipe}: the folds of a repeat do not hold out every row once; remove its runs")
    # duplicates are in one fold, so that the first row of a group names it in every repeat
    groups = [part.rows[first_of_group(part.groups)] for part in parts if part.rows is not None]
    predictions = Predictions(
        labels=np.concatenate([part.labels for part in parts])[order],
        logits=np.concatenate([part.logits for part in parts])[order],
        groups=np.concatenate(groups)[order],
        in_train=np.concatenate([part.in_train for part in parts])[order],
        together=np.concatenate([part.together for part in parts if part.together is not None])[order],
    )
    return predictions, np.repeat(np.arange(len(parts)), [len(part.labels) for part in parts])[order]


def summarized(arm: ArmRuns, kept: NDArray[np.bool_] | None, watched: Sequence[Pair]) -> Arm:
    """Return an arm with its scores.

    Args:
        arm: its runs.
        kept: `(N,) bool`, rows of the deduplicated test split; None if it is unknown.
        watched: pairs (true class, predicted class) to count.
    """
    names = arm.class_names
    return Arm(
        recipe=arm.name,
        seeds=arm.seeds,
        run_keys=arm.keys,
        folds=arm.folds,
        test=split_scores([arm.test], names),
        test_deduplicated=None if kept is None or not kept.any() else split_scores([arm.test.where(kept)], names),
        validation=split_scores(arm.validation, names) if arm.validation else None,
        ensemble=arm.ensemble,
        watched=tuple(confusion_of(arm.test, names, pair) for pair in watched),
        **(_of_records(arm.records) if arm.records else {}),
    )


def _of_records(records: Sequence[RunRecord]) -> dict[str, object]:
    """Return the fields of an arm that describe its recipe and trainings."""
    newest, names = records[-1], records[0].class_names
    return {
        "description": str(newest.recipe.get("description", "")),
        "model": _model_in_words(newest.recipe.get("model", "")),
        "loss": str(newest.recipe.get("training", {}).get("loss", "")),
        "test_loss": statistic([record.test_loss for record in records]),
        "selection_loss": statistic([record.curve[-1].selection_loss for record in records if record.curve]),
        "steps": _step_rows(records),
        "train_counts": dict(zip(names, newest.train_counts, strict=True)),
        "rewritten_counts": tuple(dict(zip(names, record.rewritten_counts, strict=True)) for record in records),
        "optimizer_steps": tuple(record.optimizer_steps for record in records),
        "parameter_count": newest.parameter_count,
        "training_seconds": statistic([s for record in records if (s := record.training_seconds) is not None]),
        "curve": _curve(records),
    }


def _model_in_words(model: object) -> str:
    """Return the network as a record holds it, a name or a name with parameters, for display."""
    if not isinstance(model, dict):
        return str(model)
    ((name, parameters),) = model.items()
    return f"{name} ({', '.join(f'{key}: {value}' for key, value in parameters.items())})"


def _step_rows(records: Sequence[RunRecord]) -> tuple[StepRows, ...]:
    of_steps = zip(*(record.steps for record in records), strict=True)
    return tuple(
        StepRows(name=step[0].name, rows=tuple(run.rows for run in step), chosen=_chosen(step)) for step in of_steps
    )


def _chosen(step: Sequence[StepRecord]) -> dict[str, tuple[float | None, ...]]:
    names = dict.fromkeys(name for run in step for name in run.chosen)
    return {name: tuple(run.chosen.get(name) for run in step) for name in names}


def _curve(records: Sequence[RunRecord]) -> tuple[CurvePoint, ...]:
    of_runs = [{_place(record, point): point for point in record.curve} for record in records]
    shared = [place for place in of_runs[0] if all(place in points for points in of_runs)]
    names = records[0].class_names
    curve = []
    for place in shared:
        points = [of_run[place] for of_run in of_runs]
        recall = np.array([point.validation_recall for point in points], dtype=np.float64)
        curve.append(
            CurvePoint(
                epoch=points[0].epoch,
                step=points[0].step,
                training_loss=statistic([point.training_loss for point in points]),
                selection_loss=statistic([point.selection_loss for point in points]),
                validation_loss=statistic([point.validation_loss for point in points]),
                validation_accuracy=share([point.validation_accuracy for point in points]),
                validation_recall={name: share(column) for name, column in zip(names, recall.T, strict=True)},
            )
        )
    return tuple(curve)


def _place(record: RunRecord, point: Evaluation) -> tuple[int, ...]:
    """Return what evaluations of several runs have in common; folds differ in size, and so in steps per epoch."""
    return (point.epoch,) if record.identity.fold else (point.epoch, point.step)


def watched_pairs(arms: Sequence[ArmRuns]) -> tuple[Pair, ...]:
    """Return the pairs (true, predicted) that steps watch, or the most frequent confusion of the first arm.

    The latter is determined on the validation split, so that nothing is selected on the test split; without
    predictions for that split there is no pair.
    """
    class_names = arms[0].class_names
    steps = (step for arm in arms for record in arm.records[:1] for step in record.steps)
    named = [pair for step in steps for pair in step.watched_pairs if set(pair) <= set(class_names)]
    if named:
        return tuple(dict.fromkeys(named))
    if not arms[0].validation:
        return ()
    confusion = np.array(split_scores(arms[0].validation, class_names).confusion)
    np.fill_diagonal(confusion, 0)
    if not confusion.any():
        return ()
    true, predicted = np.unravel_index(confusion.argmax(), confusion.shape)
    return ((class_names[true], class_names[predicted]),)
