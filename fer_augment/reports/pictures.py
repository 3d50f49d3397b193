"""Images of a report: what strategies added, and what networks confused, as pictures that need no file beside them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_augment.reports.run_files import FoundRun, RunFiles
from fer_augment.reports.wording import printable
from fer_augment.results.comparison import Arm, ComparisonRecord
from fer_augment.results.confused_images import ConfusedImages

LARGEST = 96
"""Side of a picture in pixels; larger images are shown at this size."""

BARS = 8
"""How many class scores are shown beside a confused image; of more classes the highest ones."""


def data_uri(image: NDArray[np.uint8]) -> str:
    """Return an image `(H, W, C) uint8`, gray or RGB, as a PNG in a data URI; other channels are averaged."""
    import cv2

    pixels = image if image.shape[2] in (1, 3) else image.mean(axis=2, keepdims=True).astype(np.uint8)
    scale = LARGEST / max(pixels.shape[:2])
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, -1)
    content = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


# --- what strategies added


@dataclass(frozen=True)
class AddedRow:
    """A row that a strategy made, beside the row that it was made from."""

    source: str
    result: str
    label: str


@dataclass(frozen=True)
class AddedRows:
    """What one strategy of an arm added.

    Attributes:
        arm: the arm's name.
        strategy: the strategy's name.
        seed: the run that the pictures are from.
        told: rows added, in words.
        rows: a few of them.
        are_copies: whether all of these are the same as their sources, pixel for pixel.
    """

    arm: str
    strategy: str
    seed: int
    told: str
    rows: tuple[AddedRow, ...]
    are_copies: bool


def added_galleries(comparison: ComparisonRecord, files: RunFiles) -> tuple[AddedRows, ...]:
    """Show rows that strategies added, in the first run of each arm that kept some."""
    return tuple(gallery for arm in comparison.arms for gallery in _added_by(arm, files, comparison.class_names))


def steps_that_add_nothing(comparison: ComparisonRecord) -> tuple[str, ...]:
    """Name the strategies that made no row: they act on batches, draws, the loss, the network or its predictions."""
    return tuple(
        f"{printable(step.name)} in {printable(arm.recipe)}"
        for arm in comparison.arms
        for step in arm.steps
        if not any(step.rows)
    )


def _added_by(arm: Arm, files: RunFiles, class_names: Sequence[str]) -> Iterator[AddedRows]:
    run = next((run for run in files.of(arm) if run.examples), None)
    for number, step in enumerate(arm.steps, 1):
        if run and any(step.rows):
            yield _added(arm, run, number, class_names)


def _added(arm: Arm, run: FoundRun, number: int, class_names: Sequence[str]) -> AddedRows:
    assert run.examples
    step = arm.steps[number - 1]
    examples = list(run.examples.of_step(number))
    low, high = min(step.rows), max(step.rows)
    return AddedRows(
        arm=printable(arm.recipe),
        strategy=printable(step.name),
        seed=run.seed,
        told=f"{low:,} rows" if low == high else f"{low:,} to {high:,} rows",
        rows=tuple(
            AddedRow(data_uri(source), data_uri(result), printable(class_names[label]))
            for source, result, label in examples
        ),
        are_copies=all(np.array_equal(source, result) for source, result, _ in examples),
    )


# --- what networks confused


@dataclass(frozen=True)
class ClassScore:
    """What a network said of a class: its probability in words and in percent, and what the class is to the image."""

    label: str
    told: str
    percent: float
    role: str


@dataclass(frozen=True)
class ConfusedPicture:
    """A confused image with the class scores."""

    picture: str
    alternative: str
    scores: tuple[ClassScore, ...]


@dataclass(frozen=True)
class ConfusedOfArm:
    """The images that one arm confused."""

    arm: str
    seed: int
    total: int
    pictures: tuple[ConfusedPicture, ...]


@dataclass(frozen=True)
class ConfusedPair:
    """The images of one split that were taken for another class, by arm."""

    true: str
    predicted: str
    split: str
    arms: tuple[ConfusedOfArm, ...]


_SPLITS = {"test": "test", "train": "training"}


def confused_galleries(comparison: ComparisonRecord, confused: Sequence[ConfusedImages]) -> tuple[ConfusedPair, ...]:
    """Show confused images, those of one pair of classes and one split together.

    Images of runs and classes that the comparison does not have are left out: they are of an earlier one.
    """
    keys = {key for arm in comparison.arms for key in arm.run_keys}
    classes = comparison.class_names
    known = [
        one
        for one in confused
        if one.rows.run.key in keys
        and {one.rows.true, one.rows.predicted} <= set(classes)
        and one.probabilities.shape == (len(one.images), len(classes))
    ]
    places = dict.fromkeys((one.rows.true, one.rows.predicted, one.rows.split) for one in known)
    return tuple(
        ConfusedPair(
            printable(true),
            printable(predicted),
            _SPLITS[split],
            tuple(
                _confused_of_arm(one, classes)
                for one in known
                if (one.rows.true, one.rows.predicted, one.rows.split) == (true, predicted, split)
            ),
        )
        for true, predicted, split in places
    )


def _confused_of_arm(confused: ConfusedImages, classes: Sequence[str]) -> ConfusedOfArm:
    rows = confused.rows
    alternative = f"{_SPLITS[rows.split]} image of {printable(rows.true)}, taken for {printable(rows.predicted)}"
    pictures = tuple(
        ConfusedPicture(data_uri(image), alternative, _scores(said, classes, rows.true, rows.predicted))
        for image, said in zip(confused.images, confused.probabilities, strict=True)
    )
    return ConfusedOfArm(printable(rows.run.recipe), rows.run.seed, rows.total, pictures)


def _scores(said: NDArray[np.float32], classes: Sequence[str], true: str, predicted: str) -> tuple[ClassScore, ...]:
    roles = {true: "true", predicted: "predicted"}
    highest = np.argsort(-said, kind="stable")[:BARS]
    shown = sorted({*highest.tolist(), classes.index(true)})
    return tuple(
        ClassScore(
            printable(classes[number]),
            f"{said[number]:.2f}",
            round(100 * float(said[number]), 1),
            roles.get(classes[number], "other"),
        )
        for number in shown
    )
