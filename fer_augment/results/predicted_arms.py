"""Arms of a comparison from predictions of any trainer: rows are matched by image id across files.

Legend: N images, K classes, S runs of an arm, n rows of one file.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.class_order import class_order
from fer_augment.errors import PredictionError, excerpt
from fer_augment.results.arm_runs import ArmRuns
from fer_augment.results.comparison_warnings import listed
from fer_augment.results.ensembles import SummedProbabilities
from fer_augment.results.predicted_runs import PredictedRun, runs_in
from fer_augment.results.prediction_scores import scored_predictions
from fer_augment.results.prediction_table import PredictionTable
from fer_augment.results.scored_rows import ScoredRows, first_of_group

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_FEWEST_FOLDS = 2
_TOO_LARGE = "Ensembles are not scored: the class probabilities of all arms would need more than 1 GB of memory."
_SAME_IMAGES = "every run needs predictions for the same images"


@dataclass(frozen=True)
class PredictedArms:
    """Arms with the same N images in the same order.

    Attributes:
        arms: the arms, in the order in which the files name them.
        fingerprint: digest of the ids, labels and groups of the images.
        warnings: what may mislead in the predictions, one sentence each.
    """

    arms: tuple[ArmRuns, ...]
    fingerprint: str
    warnings: tuple[str, ...]


def arms_of(tables: Iterable[tuple[PredictionTable, Mapping[str, str]]]) -> PredictedArms:
    """Match the predictions of all runs by image.

    Args:
        tables: contents of each file, and values of roles that its name contains, such as the arm. They are read one
            after the other, and only predicted class, its probability and the loss of each row are kept.

    Raises:
        PredictionError: if a run is given twice, a file has other images or labels than the first one, or values
            contradict each other; the message names file and row.
    """
    runs = _Runs()
    for table, named in tables:
        for arm, seed, rows in runs_in(table, named):
            runs.add(table, arm, seed, rows, named.get("fold"))
    return runs.matched()


class _Runs:
    """The runs read so far, with the numbers given to images, classes and groups."""

    def __init__(self) -> None:
        self.images: dict[str, int] = {}
        self.classes: dict[str, int] = {}
        self.groups: dict[str, int] = {}
        self.folds: dict[str, int] = {}
        self.scored: PredictionTable | None = None
        self.of_arm: dict[str, dict[int, PredictedRun]] = {}
        self.sums = SummedProbabilities()

    def add(self, table: PredictionTable, arm: str, seed: int, rows: IntArray, fold: str | None) -> None:
        """Add the predictions of a run, or of a fold of a repeat, that are in a file."""
        values = {
            role: column if len(rows) == len(column) else [column[row] for row in rows]
            for role, column in table.values.items()
        }
        true = _numbered(values["true"], self.classes)
        scores, unknown, probabilities = self._scores(table, rows), np.full(len(rows), np.nan), None
        if scores is None:
            predicted, confidence, losses = values["predicted"], unknown, unknown
        else:
            classes = self.scored.classes if self.scored else ()
            predicted, confidence, losses, probabilities = scored_predictions(
                table, classes, scores, values, seed, rows
            )
        folds = values.get("fold") if fold is None else [fold] * len(rows)
        run = PredictedRun(
            tables=(PredictionTable(table.title, {}, table.place),),
            of_table=np.zeros(len(rows), dtype=np.int64),
            rows=rows,
            images=_numbered(values["id"], self.images),
            true=true,
            predicted=_numbered(predicted, self.classes),
            confidence=confidence,
            losses=losses,
            groups=_numbered(values["group"], self.groups) if "group" in values else None,
            folds=None if folds is None else _numbered(folds, self.folds),
        )
        if folds is None:
            self.sums.add(arm, run.images, probabilities)
        earlier = self.of_arm.setdefault(arm, {}).get(seed)
        self.of_arm[arm][seed] = earlier.joined(run, f"seed {seed} of {excerpt(arm)}") if earlier else run

    def _scores(self, table: PredictionTable, rows: IntArray) -> FloatArray | None:
        """Return the scores of a run in the order of the classes of the first file with scores."""
        if table.scores is None:
            return None
        first = self.scored = self.scored or PredictionTable(table.title, {}, table.place, classes=table.classes)
        if set(table.classes) != set(first.classes):
            different = excerpt(sorted(set(table.classes) ^ set(first.classes))[0])
            raise PredictionError(f"{table.title}: other classes than in {first.title}: {different!r}; use the same")
        places = np.array([table.classes.index(name) for name in first.classes])
        scores: FloatArray = table.scores[np.ix_(rows, places)]
        return scores

    def matched(self) -> PredictedArms:
        """Order the rows of all runs by id.

        Raises:
            PredictionError: if runs have other images, labels or groups.
        """
        by_arm = [(arm, seed, run) for arm, of_arm in self.of_arm.items() for seed, run in sorted(of_arm.items())]
        names, label_of = self._class_order([run for _, _, run in by_arm])
        for _, _, run in by_arm if self.scored is None else ():  # scores name the classes
            self._refuse_foreign_classes(run)
        first, groups = by_arm[0][2], None
        first.refuse_repeated(self._image_name)
        ids = list(self.images)
        first = first.in_order(np.array(sorted(range(len(first.images)), key=lambda row: ids[first.images[row]])))
        ordered: dict[str, list[tuple[int, PredictedRun]]] = defaultdict(list)
        for arm, seed, run in by_arm:
            same = self._as_first(run, first)
            if same.groups is not None:
                groups = groups or same
                self._refuse_other_groups(same, groups)
            if (same.folds is None) != (first.folds is None):
                without, with_folds = (same, first) if same.folds is None else (first, same)
                raise PredictionError(f"{without.title}: no fold, but {with_folds.title} has; give all runs one")
            ordered[arm].append((seed, same))
        if first.folds is not None:
            self._refuse_wrong_folds(ordered, groups)
        labels = label_of[first.true]
        of_images = np.arange(len(labels)) if groups is None or groups.groups is None else first_of_group(groups.groups)
        arms = [
            replace(
                _arm(arm, of_arm, names, label_of, labels, of_images),
                ensemble=self.sums.ensemble(arm, first.images, labels, names),
            )
            for arm, of_arm in ordered.items()
        ]
        warnings = [*_warnings(ordered, label_of), *([_TOO_LARGE] if self.sums.is_too_large else [])]
        return PredictedArms(tuple(arms), self._fingerprint(first, names, labels, of_images), tuple(warnings))

    def _class_order(self, runs: Sequence[PredictedRun]) -> tuple[tuple[str, ...], IntArray]:
        """Return the class names in order, and the label of each class by its number."""
        if self.scored is None:
            names, label_of = class_order(self.classes)
            return names, np.array([label_of[name] for name in self.classes], dtype=np.int64)
        names = self.scored.classes
        for name, number in self.classes.items():
            if name not in names:
                run, positions = next(
                    (run, np.flatnonzero(found))
                    for run in runs
                    if (found := (run.true == number) | (run.predicted == number)).any()
                )
                raise PredictionError(
                    f"{run.at(positions[0])}: {excerpt(name)!r} is not a class of the scores in {self.scored.title}: "
                    f"{excerpt(', '.join(names))}; use the same names"
                )
        return names, np.array([names.index(name) for name in self.classes], dtype=np.int64)

    def _refuse_foreign_classes(self, run: PredictedRun) -> None:
        """Refuse true and predicted classes that have nothing in common: they are written in two ways."""
        if np.isin(run.predicted, run.true).any():
            return
        classes = list(self.classes)
        true, predicted = (
            excerpt(", ".join(classes[number] for number in np.unique(column)[:5].tolist()), 80)
            for column in (run.true, run.predicted)
        )
        raise PredictionError(
            f"{run.title}: no predicted class ({predicted}) is a true one ({true}); write both alike, as names or as "
            "numbers"
        )

    def _as_first(self, run: PredictedRun, first: PredictedRun) -> PredictedRun:
        """Order the rows of a run as in the first one, which has the same images and labels."""
        if not np.array_equal(run.images, first.images):
            run.refuse_repeated(self._image_name)
            self._refuse_other_images(run, first)
            position = np.empty(len(self.images), dtype=np.int64)
            position[run.images] = np.arange(len(run.images))
            run = run.in_order(position[first.images])
        for row in np.flatnonzero(run.true != first.true)[:1]:
            own, other = (excerpt(list(self.classes)[one.true[row]]) for one in (run, first))
            raise PredictionError(
                f"{run.at(row)}: image {self._image_name(run.images[row])} is labeled {own!r}, but {other!r} in "
                f"{first.at(row)}; correct one of them"
            )
        return run

    def _refuse_other_images(self, run: PredictedRun, first: PredictedRun) -> None:
        for row in np.flatnonzero(~np.isin(run.images, first.images))[:1]:
            image = self._image_name(run.images[row])
            raise PredictionError(f"{run.at(row)}: image {image} is not in {first.title}; {_SAME_IMAGES}")
        missing = np.flatnonzero(~np.isin(first.images, run.images))
        for row in missing[:1]:
            others = f" and {len(missing) - 1:,} others are" if len(missing) > 1 else " is"
            image = self._image_name(first.images[row])
            raise PredictionError(f"{run.title}: image {image} of {first.at(row)}{others} missing; {_SAME_IMAGES}")

    def _refuse_other_groups(self, run: PredictedRun, known: PredictedRun) -> None:
        assert run.groups is not None and known.groups is not None
        for row in np.flatnonzero(run.groups != known.groups)[:1]:
            raise PredictionError(
                f"{run.at(row)}: image {self._image_name(run.images[row])} is in another group than in "
                f"{known.at(row)}; correct one of them"
            )

    def _refuse_wrong_folds(
        self, arms: Mapping[str, Sequence[tuple[int, PredictedRun]]], known: PredictedRun | None
    ) -> None:
        """Refuse folds that are not the same for all arms, not equally many, or divide a group."""
        of_repeat: dict[int, PredictedRun] = {}
        for runs in arms.values():
            for seed, run in runs:
                same = of_repeat.setdefault(seed, run)
                assert run.folds is not None and same.folds is not None
                for row in np.flatnonzero(run.folds != same.folds)[:1]:
                    raise PredictionError(
                        f"{run.at(row)}: image {self._image_name(run.images[row])} is in another fold than in "
                        f"{same.at(row)}; all arms need the same folds in a repeat"
                    )
        numbers = {seed: len(np.unique(run.folds)) for seed, run in of_repeat.items() if run.folds is not None}
        if min(numbers.values()) < _FEWEST_FOLDS or len(set(numbers.values())) > 1:
            of_seeds = ", ".join(f"seed {seed} has {number}" for seed, number in numbers.items())
            raise PredictionError(f"folds: every repeat needs the same number of folds, at least two; {of_seeds}")
        if known is None or known.groups is None:
            return
        for run in of_repeat.values():
            first = first_of_group(known.groups)
            assert run.folds is not None
            for row in np.flatnonzero(run.folds != run.folds[first])[:1]:
                raise PredictionError(
                    f"{run.at(row)}: image {self._image_name(run.images[row])} is in another fold than "
                    f"{self._image_name(run.images[first[row]])} of the same group; keep groups in one fold"
                )

    def _image_name(self, number: int) -> str:
        return repr(excerpt(list(self.images)[number]))

    def _fingerprint(self, first: PredictedRun, names: Sequence[str], labels: IntArray, groups: IntArray) -> str:
        ids = list(self.images)
        of_rows = zip(first.images, labels, first.images[groups], strict=True)
        rows = ["\x1f".join((ids[image], names[label], ids[same])) for image, label, same in of_rows]
        return hashlib.sha256("\x1e".join(rows).encode("utf-8", "surrogatepass")).hexdigest()


def _numbered(names: Sequence[str], known: dict[str, int]) -> IntArray:
    """Return the number of each name, new ones in the order in which they appear."""
    try:  # most files have no new names
        return np.array([known[name] for name in names], dtype=np.int64)
    except KeyError:
        return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)


def _arm(
    name: str,
    runs: Sequence[tuple[int, PredictedRun]],
    class_names: tuple[str, ...],
    label_of: IntArray,
    labels: IntArray,
    groups: IntArray,
) -> ArmRuns:
    rows = ScoredRows(
        labels=labels,
        groups=groups,
        in_train=None,
        predicted=np.stack([label_of[run.predicted] for _, run in runs]),
        confidence=np.stack([run.confidence for _, run in runs]),
        losses=np.stack([run.losses for _, run in runs]),
    )
    keys = tuple(_digest(run, label_of, f"{name}\x1f{seed}") for seed, run in runs)
    seeds = tuple(seed for seed, _ in runs)
    folds = [np.unique(first_of_group(run.folds), return_inverse=True)[1] for _, run in runs if run.folds is not None]
    if not folds:
        return ArmRuns(name, class_names, seeds, keys, rows)
    rows = replace(rows, folds=np.stack(folds), together=groups)
    return ArmRuns(name, class_names, seeds, keys, rows, repeats=seeds)


def _digest(run: PredictedRun, label_of: IntArray, words: str = "") -> str:
    digest = hashlib.sha256(words.encode("utf-8", "surrogatepass"))
    for array in (label_of[run.predicted], run.confidence, run.losses):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _warnings(arms: Mapping[str, Sequence[tuple[int, PredictedRun]]], label_of: IntArray) -> Iterator[str]:
    for name, runs in arms.items():
        seeds_of: dict[str, list[int]] = defaultdict(list)
        for seed, run in runs:
            seeds_of[_digest(run, label_of)].append(seed)
        for seeds in seeds_of.values():
            if len(seeds) > 1:
                yield (
                    f"{excerpt(name)}: the predictions of seeds {listed(map(str, seeds))} are identical: a run that is "
                    "counted twice makes intervals too narrow."
                )
        scored = sum(not np.isnan(run.losses).all() for _, run in runs)
        if 0 < scored < len(runs):
            yield f"{excerpt(name)}: {scored} of {len(runs)} runs have scores; NLL and ECE are those of these alone."
        if any(np.isinf(run.losses).any() for _, run in runs):
            yield f"{excerpt(name)}: a true class has probability 0, so the NLL of some runs is infinite and left out."
