"""Images of a report, embedded as data URIs: rows added by strategies, and confused images."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.records import NO_SOURCE
from fer_augment.reports.run_files import Example, LocatedRun, RunFiles
from fer_augment.reports.wording import printable
from fer_augment.results.comparison import Arm, ComparisonRecord, StepRows
from fer_augment.results.confused_images import ConfusedImages

LARGEST = 96
"""Maximum side of a picture in pixels; larger images are scaled down."""

BARS = 8
"""Maximum number of class probabilities shown for a confused image: the highest ones, and that of the true class."""


def data_uri(image: NDArray[np.uint8]) -> str:
    """Encode an image `(H, W, C) uint8`, gray or RGB, as a data URI with a PNG; other channels are averaged."""
    import cv2

    pixels = image if image.shape[2] in (1, 3) else image.mean(axis=2, keepdims=True).astype(np.uint8)
    scale = LARGEST / max(pixels.shape[:2])
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, -1)
    content = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


_SHADES = 32
_BETTER, _WORSE = np.array([11, 92, 173]), np.array([184, 71, 11])
"""Colors of the largest positive and negative shade, as in the style sheet."""


def shades_uri(shades: NDArray[np.float64]) -> str:
    """Encode a matrix of numbers in [-1, 1] as a data URI with a PNG of a pixel each: blue, white at 0, orange."""
    import cv2

    levels = np.round(np.clip(shades, -1, 1) * _SHADES)[..., None] / _SHADES
    color = np.where(levels >= 0, _BETTER, _WORSE)
    pixels = np.round(255 + np.abs(levels) * (color - 255)).astype(np.uint8)
    content = cv2.imencode(".png", pixels[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


# --- rows added by strategies


@dataclass(frozen=True)
class AddedRow:
    """A row that a strategy added, with its source row."""

    source: str
    result: str
    label: str


@dataclass(frozen=True)
class AddedRows:
    """Rows added by one strategy of an arm.

    Attributes:
        arm: name of the arm.
        strategy: name of the strategy.
        seed: seed of the run of the pictures.
        count: number of rows added per run, as text.
        rows: examples of these rows.
        are_unchanged: whether all of them are identical to their source rows, pixel for pixel.
        have_blank_sources: whether some of them were not made from training rows.
    """

    arm: str
    strategy: str
    seed: int
    count: str
    rows: tuple[AddedRow, ...]
    are_unchanged: bool
    have_blank_sources: bool


def added_galleries(comparison: ComparisonRecord, files: RunFiles) -> tuple[AddedRows, ...]:
    """Return examples of the rows that each step of each arm added, from the first run that has some."""
    return tuple(gallery for arm in comparison.arms for gallery in _added_by(arm, files, comparison.class_names))


def steps_that_add_nothing(comparison: ComparisonRecord) -> tuple[str, ...]:
    """Name the steps that added no row: they act on batches, sampling, the loss, the network or predictions."""
    return tuple(
        f"{printable(step.name)} in {printable(arm.recipe)}"
        for arm in comparison.arms
        for step in arm.steps
        if not any(step.rows)
    )


def _added_by(arm: Arm, files: RunFiles, class_names: Sequence[str]) -> Iterator[AddedRows]:
    for number, step in enumerate(arm.steps, 1):
        of_runs = ((run, list(run.examples.of_step(number))) for run in files.of(arm) if run.examples)
        run, examples = next((pair for pair in of_runs if pair[1]), (None, []))
        if run and any(step.rows):
            yield _added(arm, step, run, examples, class_names)


def _added(
    arm: Arm, step: StepRows, run: LocatedRun, examples: Sequence[Example], class_names: Sequence[str]
) -> AddedRows:
    low, high = min(step.rows), max(step.rows)
    return AddedRows(
        arm=printable(arm.recipe),
        strategy=printable(step.name),
        seed=run.seed,
        count=f"{low:,} rows" if low == high else f"{low:,} to {high:,} rows",
        rows=tuple(
            AddedRow(data_uri(source), data_uri(result), printable(class_names[label]))
            for source, result, label in examples
        ),
        are_unchanged=all(np.array_equal(source, result) for source, result, _ in examples),
        have_blank_sources=any((source == NO_SOURCE).all() for source, _, _ in examples),
    )


# --- confused images


@dataclass(frozen=True)
class ClassProbability:
    """Predicted probability of a class.

    Attributes:
        label: name of the class.
        text: the probability, as text.
        percent: the probability in percent.
        role: `true`, `predicted` or `other`.
    """

    label: str
    text: str
    percent: float
    role: str


@dataclass(frozen=True)
class ConfusedPicture:
    """A confused image with its class probabilities."""

    picture: str
    alternative: str
    probabilities: tuple[ClassProbability, ...]


@dataclass(frozen=True)
class ConfusedOfArm:
    """Confused images of one arm."""

    arm: str
    seed: int
    total: int
    pictures: tuple[ConfusedPicture, ...]


@dataclass(frozen=True)
class ConfusedPair:
    """Images of one split and class that were predicted as one other class, by arm."""

    true: str
    predicted: str
    split: str
    arms: tuple[ConfusedOfArm, ...]


_SPLITS = {"test": "test", "train": "training"}


def confused_galleries(comparison: ComparisonRecord, confused: Sequence[ConfusedImages]) -> tuple[ConfusedPair, ...]:
    """Return the confused images, grouped by pair of classes and split.

    Images of runs and classes that are not in the comparison are ignored: they are from an earlier comparison.
    """
    keys = {key for arm in comparison.arms for key in arm.run_keys}
    classes = comparison.class_names
    current = [
        one
        for one in confused
        if one.rows.run.key in keys
        and {one.rows.true, one.rows.predicted} <= set(classes)
        and one.probabilities.shape == (len(one.images), len(classes))
    ]
    pairs = dict.fromkeys((one.rows.true, one.rows.predicted, one.rows.split) for one in current)
    return tuple(
        ConfusedPair(
            printable(true),
            printable(predicted),
            _SPLITS[split],
            tuple(
                _confused_of_arm(one, classes)
                for one in current
                if (one.rows.true, one.rows.predicted, one.rows.split) == (true, predicted, split)
            ),
        )
        for true, predicted, split in pairs
    )


def _confused_of_arm(confused: ConfusedImages, classes: Sequence[str]) -> ConfusedOfArm:
    rows = confused.rows
    alternative = f"{_SPLITS[rows.split]} image of {printable(rows.true)}, predicted as {printable(rows.predicted)}"
    pictures = tuple(
        ConfusedPicture(data_uri(image), alternative, _shown(probabilities, classes, rows.true, rows.predicted))
        for image, probabilities in zip(confused.images, confused.probabilities, strict=True)
    )
    return ConfusedOfArm(printable(rows.run.recipe), rows.run.seed, rows.total, pictures)


def _shown(
    probabilities: NDArray[np.float32], classes: Sequence[str], true: str, predicted: str
) -> tuple[ClassProbability, ...]:
    roles = {true: "true", predicted: "predicted"}
    highest = np.argsort(-probabilities, kind="stable")[:BARS]
    return tuple(
        ClassProbability(
            printable(classes[number]),
            f"{probabilities[number]:.2f}",
            round(100 * float(probabilities[number]), 1),
            roles.get(classes[number], "other"),
        )
        for number in sorted({*highest.tolist(), classes.index(true)})
    )
