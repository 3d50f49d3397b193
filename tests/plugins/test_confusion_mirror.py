"""The strategy `confusion_mirror` appends mirrored copies of the rows that a scout confuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fer_augment import Context, DatasetError, Effect, ImageDataset
from fer_augment.functional import make_strategy
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.testing import NearestMeanScout, tiny_dataset
from fer_augment.training.trainer import train
from tests.tiny_training import same_bits, training_of, weights_of

ConfusionMirror: Any = installed_plugins().strategy("confusion_mirror").value
NAMES = ("sad", "neutral", "happy")
LABELS = [0, 1, 0, 2, 0, 1]
PREDICTED = [1, 1, 0, 0, 1, 0]
"""Rows 0 and 4 are sad and predicted as neutral, row 5 is neutral and predicted as sad."""


class StubScout:
    """Returns fixed predictions, and records the requested kind."""

    def __init__(self, unpredicted: list[int], unpredicted_as: float) -> None:
        self.unpredicted, self.unpredicted_as, self.requested = unpredicted, unpredicted_as, ""

    def probabilities(self, training_set: ImageDataset, how: Any = "") -> Any:
        self.requested = how
        probabilities = np.eye(3, dtype=np.float32)[PREDICTED] * 0.8 + 0.1
        probabilities[self.unpredicted] = self.unpredicted_as
        return probabilities

    def embeddings(self, training_set: ImageDataset) -> np.ndarray:
        raise AssertionError("not needed")


def dataset() -> ImageDataset:
    images = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 1), dtype=np.uint8)
    return ImageDataset.from_arrays(images, LABELS, NAMES)


def rewritten(
    unpredicted: list[int] | None = None, seed: int = 0, unpredicted_as: float = np.nan, **parameters: Any
) -> ImageDataset:
    scout = StubScout(unpredicted or [], unpredicted_as)
    strategy = ConfusionMirror(**{"pairs": [["sad", "neutral"]], **parameters})
    pipeline = Pipeline(steps_of([strategy]), Context(seed, NAMES), scout_for=lambda step: scout)
    result = pipeline.fold("rewrite_training_set", dataset())
    assert scout.requested == strategy.predictions
    return result


def added(result: ImageDataset) -> ImageDataset:
    return result.take(result.step == 1)


def test_rows_of_the_pair_are_appended_mirrored_left_to_right() -> None:
    result = rewritten(insert="end")
    assert result.origin.tolist() == [0, 1, 2, 3, 4, 5, 0, 4]
    assert result.labels[6:].tolist() == [0, 0]
    assert (result.images[6:] == dataset().images[[0, 4]][:, :, ::-1]).all()
    assert (result.images[:6] == dataset().images[:]).all()


def test_axis_up_down_swaps_top_and_bottom() -> None:
    result = rewritten(insert="end", axis="up_down")
    assert (result.images[6:] == dataset().images[[0, 4]][:, ::-1]).all()


def test_transform_none_adds_the_same_images_unmirrored() -> None:
    result = rewritten(insert="end", transform="none")
    assert (result.images[6:] == dataset().images[[0, 4]]).all()


def test_several_pairs_select_the_union_of_their_rows() -> None:
    assert added(rewritten(pairs=[["sad", "neutral"], ["neutral", "sad"]], insert="end")).origin.tolist() == [
        0,
        4,
        5,
    ]


def test_copies_are_identical_with_consecutive_copy_numbers() -> None:
    copies = added(rewritten(copies=3, insert="end"))
    assert copies.origin.tolist() == [0, 0, 0, 4, 4, 4]
    assert copies.copies.tolist() == [1, 2, 3, 1, 2, 3]
    assert len(set(copies.digests.tolist())) == 2


def test_random_positions_preserve_the_order_of_the_existing_rows() -> None:
    orders = set()
    for seed in range(40):
        result = rewritten(seed=seed)
        assert result.origin[result.step == 0].tolist() == [0, 1, 2, 3, 4, 5]
        assert sorted(added(result).origin) == [0, 4]
        orders.add(tuple(result.step))
    assert len(orders) > 15, "there are 28 positions of two rows among eight"


@pytest.mark.parametrize("parameters", [{}, {"copies": 3}, {"rows": "random_same_class"}])
def test_the_position_of_inserted_rows_does_not_affect_training(parameters: dict[str, Any]) -> None:
    sets, networks = [], []
    for insert in ("random", "end"):
        strategy = ConfusionMirror(pairs=[["ant", "bee"], ["bee", "cat"]], insert=insert, **parameters)
        pipeline = Pipeline(
            steps_of([strategy]), Context(0, tiny_dataset().class_names), lambda step: NearestMeanScout()
        )
        sets.append(pipeline.fold("rewrite_training_set", tiny_dataset()))
        networks.append(weights_of(train(training_of(data=sets[-1])).model))
    assert sets[0].fingerprint != sets[1].fingerprint
    assert same_bits(*networks)


def contents(data: ImageDataset) -> list[Any]:
    """Return key, label and digest of each row, in the order of the keys."""
    return sorted(zip(data.row_keys().tolist(), data.labels.tolist(), data.digests.tolist(), strict=True))


@pytest.mark.parametrize("amount", [{"target_count": "largest_class"}, {"copies": 1}])
def test_the_position_of_inserted_rows_does_not_affect_later_copies(amount: dict[str, Any]) -> None:
    sets = []
    for insert in ("random", "end"):
        mirror = ConfusionMirror(pairs=[["ant", "bee"], ["bee", "cat"]], copies=3, insert=insert)
        noise = make_strategy("albumentations", when="rewrite", transforms=[{"GaussNoise": {"p": 1}}], **amount)
        pipeline = Pipeline(
            steps_of([mirror, noise]), Context(0, tiny_dataset().class_names), lambda step: NearestMeanScout()
        )
        sets.append(pipeline.fold("rewrite_training_set", tiny_dataset()))
    assert sets[0].origin.tolist() != sets[1].origin.tolist()
    assert contents(sets[0]) == contents(sets[1])
    assert (sets[0].step == 2).any()


def test_the_random_control_does_not_depend_on_the_order_of_rows() -> None:
    strategy = ConfusionMirror(pairs=[["ant", "bee"], ["bee", "cat"]], rows="random_same_class")
    data = tiny_dataset()
    sets = [
        Pipeline(steps_of([strategy]), Context(0, data.class_names), scout_for=lambda step: NearestMeanScout()).fold(
            "rewrite_training_set", data.take(order)
        )
        for order in (np.arange(len(data)), np.random.default_rng(0).permutation(len(data)))
    ]
    assert contents(sets[0]) == contents(sets[1])
    assert len(sets[0]) > len(data)


def test_rows_without_predictions_are_never_chosen() -> None:
    assert added(rewritten(unpredicted=[0, 5])).origin.tolist() == [4]


def test_a_set_without_confused_rows_is_unchanged() -> None:
    result = rewritten(pairs=[["happy", "neutral"]])
    assert result.fingerprint == dataset().fingerprint


def test_predictions_are_out_of_fold_by_default_and_their_kind_is_declared() -> None:
    pairs = {"pairs": [["sad", "neutral"]]}
    mining = Effect.IN_SAMPLE_MINING | Effect.OUT_OF_FOLD_MINING
    assert ConfusionMirror(**pairs).predictions == "out_of_fold"
    assert ConfusionMirror(**pairs).effects & mining == Effect.OUT_OF_FOLD_MINING
    assert ConfusionMirror(**pairs, predictions="in_sample").effects & mining == Effect.IN_SAMPLE_MINING


@pytest.mark.parametrize(
    ("parameters", "declared"),
    [({}, True), ({"transform": "none"}, False), ({"axis": "up_down"}, False)],
)
def test_only_left_right_mirroring_is_declared_as_mirrored_copies(parameters: dict[str, str], declared: bool) -> None:
    strategy = ConfusionMirror(pairs=[["sad", "neutral"]], **parameters)
    assert (Effect.MIRRORED_COPIES in strategy.effects) is declared


def test_a_pair_of_equal_classes_and_an_empty_list_are_rejected() -> None:
    with pytest.raises(ValueError, match="a pair must name two different classes"):
        ConfusionMirror(pairs=[["sad", "sad"]])
    with pytest.raises(ValueError, match="at least 1"):
        ConfusionMirror(pairs=[])


def test_the_given_pairs_are_watched() -> None:
    pairs = [["sad", "neutral"], ["neutral", "sad"]]
    assert list(ConfusionMirror(pairs=pairs).watched_pairs) == [("sad", "neutral"), ("neutral", "sad")]
    both = ConfusionMirror(pairs=[["sad", "neutral"]], both_directions=True)
    assert list(both.watched_pairs) == [("sad", "neutral"), ("neutral", "sad")]


@pytest.mark.parametrize("pair", [["neutral", "sad"], ["sad", "neutral"], ["sad", "happy"]])
def test_a_row_with_equal_probabilities_of_all_classes_is_in_no_pair(pair: list[str]) -> None:
    tied = rewritten([0, 1, 2, 3, 4, 5], unpredicted_as=1 / 3, pairs=[pair])
    assert tied.fingerprint == dataset().fingerprint


def test_an_unknown_class_raises_an_error() -> None:
    with pytest.raises(DatasetError, match="no class 'said'; did you mean 'sad'"):
        rewritten(pairs=[["said", "neutral"]])


def test_both_directions_also_selects_the_second_class_predicted_as_the_first() -> None:
    assert added(rewritten(both_directions=True, insert="end")).origin.tolist() == [0, 4, 5]


BOTH_PAIRS: dict[str, Any] = {
    "pairs": [["sad", "neutral"], ["neutral", "sad"]],
    "rows": "random_same_class",
    "insert": "end",
}


def test_the_random_control_adds_the_same_number_of_rows_of_each_class() -> None:
    for seed in range(10):
        result = rewritten(seed=seed, **BOTH_PAIRS)
        rows = added(result).origin.tolist()
        assert rows == sorted(set(rows)), "rows are distinct"
        assert added(result).labels.tolist().count(0) == 2
        assert added(result).labels.tolist().count(1) == 1
        assert (added(result).images[:] == dataset().images[rows][:, :, ::-1]).all()


def test_the_random_control_draws_from_rows_that_are_not_confused() -> None:
    """Row 0 has no prediction, so rows 4 and 5 are confused; the others are 0 and 2 (sad) and 1 (neutral)."""
    chosen = {tuple(added(rewritten([0], seed=seed, **BOTH_PAIRS)).origin.tolist()) for seed in range(30)}
    assert chosen == {(0, 1), (1, 2)}


def test_the_random_control_adds_confused_rows_if_there_are_too_few_others() -> None:
    """Two of the three sad rows are confused, so row 2 is the only other one."""
    chosen = {tuple(added(rewritten(seed=seed, **BOTH_PAIRS)).origin.tolist()) for seed in range(30)}
    assert chosen == {(0, 1, 2), (1, 2, 4)}


def test_the_random_control_adds_nothing_if_no_row_is_confused() -> None:
    result = rewritten(pairs=[["happy", "neutral"]], rows="random_same_class")
    assert result.fingerprint == dataset().fingerprint


def test_the_random_control_is_declared_random() -> None:
    strategy = ConfusionMirror(pairs=[["sad", "neutral"]], rows="random_same_class", insert="end")
    assert Effect.RANDOM in strategy.effects
    assert Effect.RANDOM not in ConfusionMirror(pairs=[["sad", "neutral"]], insert="end").effects
