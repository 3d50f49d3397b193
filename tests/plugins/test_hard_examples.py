"""The strategy `hard_examples` selects rows by its rule, the hardest first, and oversamples them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fer_augment import Context, Effect, ImageDataset, StrategyError
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins

HardExamples: Any = installed_plugins().strategy("hard_examples").value
NAMES = ("sad", "neutral", "happy")
SAD, NEUTRAL, HAPPY = range(3)
ROWS = [
    (SAD, [0.70, 0.20, 0.10]),  # 0: correct
    (SAD, [0.40, 0.50, 0.10]),  # 1: predicted as neutral, small margin
    (SAD, [0.02, 0.90, 0.08]),  # 2: predicted as neutral, large margin
    (SAD, [0.30, 0.25, 0.45]),  # 3: predicted as happy
    (NEUTRAL, [0.45, 0.50, 0.05]),  # 4: correct, close to sad
    (NEUTRAL, [0.60, 0.30, 0.10]),  # 5: predicted as sad
    (NEUTRAL, [0.05, 0.35, 0.60]),  # 6: predicted as happy
    (HAPPY, [0.10, 0.10, 0.80]),  # 7: correct
    (HAPPY, [0.10, 0.60, 0.30]),  # 8: predicted as neutral
    (HAPPY, [0.05, 0.46, 0.49]),  # 9: correct, close to neutral
    (SAD, [np.nan] * 3),  # 10: no prediction
]


class StubScout:
    """Returns the fixed probabilities of each source row, and records the requested kind."""

    requested = ""

    def probabilities(self, training_set: ImageDataset, how: Any = "") -> np.ndarray:
        self.requested = how
        return np.array([ROWS[origin][1] for origin in training_set.origin], dtype=np.float32)

    def embeddings(self, training_set: ImageDataset) -> np.ndarray:
        raise AssertionError("not needed")


def dataset() -> ImageDataset:
    images = np.random.default_rng(0).integers(0, 256, (len(ROWS), 5, 4, 1), dtype=np.uint8)
    return ImageDataset.from_arrays(images, [label for label, _ in ROWS], NAMES)


def pipeline(scout: Any = None, **parameters: Any) -> Pipeline:
    used_scout = scout or StubScout()
    return Pipeline(steps_of([HardExamples(**parameters)]), Context(0, NAMES), scout_for=lambda step: used_scout)


def rewritten(data: ImageDataset | None = None, **parameters: Any) -> ImageDataset:
    return pipeline(**parameters).fold("rewrite_training_set", data or dataset())


def chosen(data: ImageDataset | None = None, **parameters: Any) -> list[int]:
    """Return the source rows of the added copies."""
    result = rewritten(data, **parameters)
    rows: list[int] = result.origin[result.step == 1].tolist()
    return rows


PAIR = {"pairs": [["sad", "neutral"]]}


@pytest.mark.parametrize(
    ("parameters", "rows"),
    [
        ({}, [1, 2, 3, 5, 6, 8]),
        ({"rule": "small_margin"}, [1, 3, 4, 9]),
        ({"rule": "small_margin", "margin": 0.1}, [1, 4, 9]),
        ({"rule": "small_margin", "margin": 0.06}, [4, 9]),
        ({"rule": "small_margin", "margin": 0.0}, []),
        ({"rule": "small_margin", **PAIR, "margin": 0.4}, [1, 4, 5]),
        ({"rule": "small_margin", **PAIR, "margin": 1.0}, [0, 1, 2, 4, 5]),
        ({"rule": "small_margin", "pairs": [["sad", "neutral"], ["happy", "neutral"]]}, [1, 4, 9]),
        ({"rule": "predicted_in_pair", **PAIR}, [0, 1, 2, 3, 4, 5, 6, 8]),
        ({"rule": "predicted_in_pair", "pairs": [["happy", "sad"]]}, [0, 1, 2, 3, 5, 6, 7, 8, 9]),
    ],
)
def test_each_rule_selects_its_rows(parameters: dict[str, Any], rows: list[int]) -> None:
    assert chosen(**parameters) == rows


@pytest.mark.parametrize(
    ("parameters", "rows"),
    [
        ({"max_per_class": 1}, [2, 5, 8]),
        ({"max_per_class": 2}, [2, 3, 5, 6, 8]),
        ({"max_per_class": 1, "min_label_probability": 0.05}, [3, 5, 8]),
        ({"min_label_probability": 0.33}, [1, 6]),
        ({"rule": "small_margin", "max_per_class": 1}, [1, 4, 9]),
        ({"rule": "predicted_in_pair", **PAIR, "max_per_class": 1}, [2, 5, 8]),
    ],
)
def test_the_hardest_rows_are_kept_and_probably_mislabeled_rows_are_excluded(
    parameters: dict[str, Any], rows: list[int]
) -> None:
    assert chosen(**parameters) == rows


def test_selection_does_not_depend_on_the_order_of_rows_even_with_ties() -> None:
    class ConstantScout(StubScout):
        """Returns the same probabilities for all rows, so that all are equally hard."""

        def probabilities(self, training_set: ImageDataset, how: Any = "") -> np.ndarray:
            return np.tile(np.array([0.2, 0.3, 0.5], np.float32), (len(training_set), 1))

    chosen_rows = set()
    for seed in range(5):
        data = dataset().take(np.random.default_rng(seed).permutation(len(ROWS)))
        result = pipeline(ConstantScout(), max_per_class=2).fold("rewrite_training_set", data)
        chosen_rows.add(tuple(sorted(result.origin[result.step == 1].tolist())))
    assert len(chosen_rows) == 1


@pytest.mark.parametrize(
    ("parameters", "rows"),
    [
        ({}, [0, 1, 2, 3]),
        ({"rule": "predicted_in_pair", **PAIR}, [0, 1]),
        ({"rule": "small_margin", **PAIR}, [0, 1]),
        ({"rule": "small_margin", "pairs": [["happy", "neutral"]]}, [1, 2, 3]),
    ],
)
@pytest.mark.parametrize("order", [[0, 1, 2], [1, 2, 0]])
def test_ties_count_alike_for_every_order_of_classes(
    order: list[int], parameters: dict[str, Any], rows: list[int]
) -> None:
    class TiedScout(StubScout):
        """Is undecided between all classes, or between the last two."""

        def probabilities(self, training_set: ImageDataset, how: Any = "") -> np.ndarray:
            thirds = [[1 / 3] * 3] * 3
            return np.array([*thirds, [0.2, 0.4, 0.4]], np.float32)[training_set.origin][:, order]

    images = np.random.default_rng(0).integers(0, 256, (4, 5, 4, 1), dtype=np.uint8)
    labels = [order.index(label) for label in (SAD, NEUTRAL, HAPPY, HAPPY)]
    data = ImageDataset.from_arrays(images, labels, [NAMES[number] for number in order])
    result = pipeline(TiedScout(), **parameters).fold("rewrite_training_set", data)
    assert sorted(result.origin[result.step == 1].tolist()) == rows


def test_unchanged_or_mirrored_copies_are_appended() -> None:
    data = dataset()
    unchanged = rewritten(copies=2)
    assert unchanged.origin.tolist() == [*range(11), 1, 1, 2, 2, 3, 3, 5, 5, 6, 6, 8, 8]
    assert (unchanged.images[11:] == data.images[unchanged.origin[11:]]).all()
    assert (unchanged.labels == data.labels[unchanged.origin]).all()
    mirrored = rewritten(transform="mirror")
    assert (mirrored.images[11:] == data.images[[1, 2, 3, 5, 6, 8]][:, :, ::-1]).all()


def test_sampling_weights_of_the_chosen_rows_are_multiplied() -> None:
    data = dataset()
    before = np.linspace(1, 2, len(ROWS))
    factor = np.where(np.isin(np.arange(len(ROWS)), [2, 5, 8]), 3, 1)
    run = pipeline(when="sampling", weight=3, max_per_class=1)
    assert run.fold("sampling_weights", before, training_set=data, epoch=0) == pytest.approx(before * factor)
    assert run.fold("rewrite_training_set", data).fingerprint == data.fingerprint
    doubled = pipeline(when="sampling").fold("sampling_weights", before, training_set=data, epoch=0)
    assert (doubled / before).tolist() == [1, 2, 2, 2, 1, 2, 2, 1, 2, 1, 1]


def test_rewriting_does_not_change_the_weights() -> None:
    ones = np.ones(len(ROWS))
    assert (pipeline().fold("sampling_weights", ones, training_set=dataset(), epoch=0) == 1).all()


def test_it_acts_only_at_the_stage_selected_by_when() -> None:
    both = ("rewrite_training_set", "sampling_weights")
    assert [pipeline(when="rewrite").acts_at(stage) for stage in both] == [True, False]
    assert [pipeline(when="sampling").acts_at(stage) for stage in both] == [False, True]


def test_a_set_without_hard_rows_is_unchanged() -> None:
    easy = dataset().take([0, 7])
    assert rewritten(easy).fingerprint == easy.fingerprint


@pytest.mark.parametrize("how", ["in_sample", "out_of_fold"])
def test_predictions_of_the_given_kind_are_requested(how: str) -> None:
    scout = StubScout()
    pipeline(scout, predictions=how).fold("rewrite_training_set", dataset())
    assert scout.requested == how
    assert HardExamples().predictions == "out_of_fold"


def test_a_missing_scout_raises_an_error() -> None:
    with pytest.raises(StrategyError, match="no scout"):
        Pipeline(steps_of([HardExamples()]), Context(0, NAMES)).fold("rewrite_training_set", dataset())


def test_the_given_pairs_are_watched() -> None:
    pairs = [["sad", "neutral"], ["happy", "neutral"]]
    watched = [("sad", "neutral"), ("happy", "neutral"), ("neutral", "sad"), ("neutral", "happy")]
    assert list(HardExamples(rule="small_margin", pairs=pairs).watched_pairs) == watched
    assert list(HardExamples(rule="predicted_in_pair", pairs=pairs).watched_pairs) == watched
    assert list(HardExamples().watched_pairs) == []


def test_effects_depend_on_the_parameters() -> None:
    assert HardExamples().effects == Effect.SHIFTS_CLASS_PRIOR | Effect.OUT_OF_FOLD_MINING
    assert HardExamples(transform="mirror").effects == HardExamples().effects | Effect.MIRRORED_COPIES
    assert HardExamples(predictions="in_sample").effects == Effect.SHIFTS_CLASS_PRIOR | Effect.IN_SAMPLE_MINING


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rule": "wrong"}, "rule"),
        ({"rule": "predicted_in_pair"}, "requires `pairs`"),
        ({"pairs": [["sad", "neutral"]]}, "`pairs` requires `rule: small_margin` or"),
        ({"rule": "small_margin", "pairs": [["sad", "sad"]]}, "a pair must name two different classes"),
        ({"margin": 0.1}, "`margin` requires `rule: small_margin`"),
        ({"rule": "small_margin", "margin": 1.5}, "margin"),
        ({"when": "sampling", "copies": 2}, "`copies` requires `when: rewrite`"),
        ({"when": "sampling", "transform": "none"}, "`transform` requires `when: rewrite`"),
        ({"weight": 2}, "`weight` requires `when: sampling`"),
        ({"max_per_class": 0}, "max_per_class"),
        ({"min_label_probability": 2}, "min_label_probability"),
    ],
)
def test_invalid_parameters_are_rejected(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HardExamples(**parameters)
