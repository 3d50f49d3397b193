"""The strategy `power_sampler` draws classes in proportion to a power of their size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fer_augment import Context, ImageDataset
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins

PowerSampler: Any = installed_plugins().strategy("power_sampler").value
DATA = ImageDataset.from_arrays(np.zeros((141, 2, 2), np.uint8), np.repeat([0, 1, 2], [4, 16, 121]), "abc")


def weights_of(weights: np.ndarray, epoch: int = 0, **parameters: float) -> np.ndarray:
    pipeline = Pipeline(steps_of([PowerSampler(**parameters)]), Context(0, DATA.class_names))
    return pipeline.fold("sampling_weights", weights, epoch=epoch, training_set=DATA)


def drawn(weights: np.ndarray, epoch: int = 0, **parameters: float) -> np.ndarray:
    result = weights_of(weights, epoch, **parameters)
    shares: np.ndarray = np.bincount(DATA.labels, result / result.sum())
    return shares


@pytest.mark.parametrize(
    ("exponent", "expected"),
    [(0, [4, 16, 121]), (0.5, [2, 4, 11]), (1, [1, 1, 1]), (0.75, [4**0.25, 2, 121**0.25])],
)
def test_a_class_of_n_rows_is_drawn_in_proportion_to_a_power_of_n(exponent: float, expected: list[float]) -> None:
    assert drawn(np.ones(141), exponent=exponent) == pytest.approx(np.array(expected) / sum(expected))


def test_square_root_is_the_default() -> None:
    assert drawn(np.ones(141)) == pytest.approx(np.array([2, 4, 11]) / 17)


def test_weights_of_earlier_steps_are_multiplied() -> None:
    earlier = np.where(DATA.labels == 0, 0.0, 1.0)
    assert drawn(earlier, exponent=1) == pytest.approx([0, 0.5, 0.5])


@pytest.mark.parametrize("exponent", [-0.1, 1.1])
def test_an_exponent_outside_0_to_1_is_rejected(exponent: float) -> None:
    with pytest.raises(ValueError, match="exponent"):
        PowerSampler(exponent=exponent)


def test_weights_are_unchanged_before_from_epoch() -> None:
    deferred = {"exponent": 1, "from_epoch": 3}
    assert (weights_of(np.ones(141), 2, **deferred) == 1).all(), "exactly equal weights give a pass over all rows"
    for epoch in (3, 30):
        assert drawn(np.ones(141), epoch, **deferred) == pytest.approx([1 / 3] * 3)
    assert PowerSampler(**deferred).acts_from == 3


@pytest.mark.parametrize(("epoch", "share"), [(0, 0), (2, 0), (3, 0.25), (4, 0.5), (5, 0.75), (6, 1), (7, 1), (100, 1)])
@pytest.mark.parametrize("exponent", [0.5, 1])
@pytest.mark.parametrize("earlier", [np.ones(141), 1.0 + DATA.labels**2], ids=["alone", "after another sampler"])
def test_progressive_probabilities_are_interpolated_linearly(
    epoch: int, share: float, exponent: float, earlier: np.ndarray
) -> None:
    """Kang et al. 2020: p(t) = (1 - t / T) p(instance-balanced) + t / T p(class-balanced)."""
    progressive = {"exponent": exponent, "from_epoch": 2, "ramp_epochs": 4}
    natural, balanced = drawn(earlier, exponent=0), drawn(earlier, exponent=exponent)
    ours = drawn(earlier, epoch, **progressive)
    assert ours == pytest.approx((1 - share) * natural + share * balanced)
    assert (len(np.unique(weights_of(np.ones(141), epoch, **progressive))) == 1) == (share == 0)
    assert PowerSampler(**progressive).acts_from == 3


@pytest.mark.parametrize("wrong", [{"from_epoch": -1}, {"ramp_epochs": -1}, {"from_epoch": 0.5}])
def test_invalid_epochs_are_rejected(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PowerSampler(**wrong)
