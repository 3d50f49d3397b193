"""Results of the originating report (2021) on FER2013, for comparison with reproduced results.

The report trained every network once on the Training split and scored it on PrivateTest. Its losses are sums of the
squared error of the softmax output over classes and rows: the 3,589 rows of the test split, and as many random rows of
the training split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fer_augment.reports.grids import Grid, Row
from fer_augment.reports.wording import numbered, percent, printable, spread, units
from fer_augment.results.comparison import Arm, ComparisonRecord, Statistic

TEST_COUNTS = {"angry": 491, "disgust": 55, "fear": 528, "happy": 879, "sad": 594, "surprise": 416, "neutral": 626}
"""Rows per class in FER2013's PrivateTest."""

REPORTED_LOSS = "mse"


@dataclass(frozen=True)
class ClassScores:
    """Scores per class in the order of `TEST_COUNTS`, in `[0, 1]`, and the number of Sad rows predicted as Neutral."""

    recall: tuple[float, ...]
    precision: tuple[float, ...]
    f1: tuple[float, ...]
    sad_as_neutral: int


@dataclass(frozen=True)
class PublishedModel:
    """A network of the report.

    Attributes:
        number: its number in the report.
        recipes: names of the recipes that reproduce it.
        accuracy: accuracy on PrivateTest, in percent (Table 2).
        test_loss: loss on PrivateTest, sum over rows (Table 2).
        training_loss: loss on 3,589 training rows, sum over rows (Table 2).
        classes: scores per class (Tables 3 to 6), if published.
    """

    number: int
    recipes: tuple[str, ...]
    accuracy: float
    test_loss: float
    training_loss: float
    classes: ClassScores | None = None


PUBLISHED = (
    PublishedModel(0, ("convnet0",), 45.8, 2594.5, 1925.6),
    PublishedModel(1, ("convnet1",), 61.4, 1883.8, 15.2),
    PublishedModel(2, ("convnet2",), 59.1, 2013.6, 16.6),
    PublishedModel(3, ("convnet3",), 59.2, 1998.6, 11.6),
    PublishedModel(4, ("convnet4",), 57.3, 2082.8, 28.2),
    PublishedModel(
        5,
        ("paper", "convnet5"),
        61.2,
        1942.7,
        1119.3,
        ClassScores(
            recall=(0.484, 0.363, 0.365, 0.860, 0.503, 0.721, 0.629),
            precision=(0.561, 0.769, 0.546, 0.750, 0.458, 0.757, 0.539),
            f1=(0.520, 0.493, 0.438, 0.801, 0.479, 0.738, 0.581),
            sad_as_neutral=119,
        ),
    ),
    PublishedModel(
        6,
        ("confusion_mirror",),
        61.3,
        1962.5,
        1133.7,
        ClassScores(
            recall=(0.507, 0.400, 0.371, 0.869, 0.464, 0.737, 0.618),
            precision=(0.515, 0.846, 0.545, 0.751, 0.466, 0.737, 0.556),
            f1=(0.511, 0.543, 0.441, 0.805, 0.465, 0.737, 0.585),
            sad_as_neutral=116,
        ),
    ),
)


def published_grids(comparison: ComparisonRecord) -> list[Grid]:
    """Return tables of reported and reproduced results; empty if the data or all arms differ from the report's."""
    if comparison.data.counts.get("test") != TEST_COUNTS:
        return []
    pairs = [(model, arm) for model in PUBLISHED for arm in comparison.arms if arm.recipe in model.recipes]
    if not pairs:
        return []
    table_2 = Grid(
        f"Originating report (one training) and our results (mean ± sd over n {units(comparison)})",
        ("model", "recipe", "n", "metric", "report", "ours"),
        tuple(tuple(_metrics(model, arm)) for model, arm in pairs),
    )
    return [
        table_2,
        *(_class_grid(comparison, model.number, model.classes, arm) for model, arm in pairs if model.classes),
    ]


def _metrics(model: PublishedModel, arm: Arm) -> Iterator[Row]:
    of_model = str(model.number), printable(arm.recipe), str(arm.n)
    yield (*of_model, "test accuracy, %", f"{model.accuracy:.1f}", percent(arm.test.accuracy))
    if arm.loss == REPORTED_LOSS:
        for name, reported, ours in (
            ("test loss, sum", model.test_loss, arm.test_loss),
            ("training loss, sum", model.training_loss, arm.selection_loss),
        ):
            yield (*of_model, name, f"{reported:,.1f}", spread(ours, scale=arm.test.rows))
    if model.classes:
        count = spread(_sad_as_neutral(arm))
        yield (*of_model, "sad predicted as neutral, rows", str(model.classes.sad_as_neutral), count)


def _sad_as_neutral(arm: Arm) -> Statistic:
    for pair in arm.watched:
        if (pair.true, pair.predicted) == ("sad", "neutral"):
            return pair.count
    sad, neutral = (list(TEST_COUNTS).index(name) for name in ("sad", "neutral"))
    n = arm.n
    return Statistic(mean=arm.test.confusion[sad][neutral] / n, sd=None, n=n, ci95=None)


def _class_grid(comparison: ComparisonRecord, number: int, published: ClassScores, arm: Arm) -> Grid:
    rows = []
    for place, name in enumerate(TEST_COUNTS):
        cells = [name]
        for score in ("recall", "precision", "f1"):
            cells += [f"{getattr(published, score)[place] * 100:.1f}", percent(getattr(arm.test, score)[name])]
        rows.append(tuple(cells))
    headings = [f"{score}, {source}" for score in ("recall", "precision", "F1") for source in ("report", "ours")]
    title = f"Model {number} of the report and {printable(arm.recipe)} (n = {numbered(arm.n, comparison)}), %"
    return Grid(title, ("class", *headings), (tuple(rows),))
