"""PowerSampler draws classes in proportion to a power of their size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fer_augment import Context, ImageDataset
from fer_augment.plugin_manager import installed_plugins
from fer_augment.stages import Stages, steps_of

PowerSampler: Any = installed_plugins().strategy("power_sampler").value
DATA = ImageDataset.from_arrays(np.zeros((141, 2, 2), np.uint8), np.repeat([0, 1, 2], [4, 16, 121]), "abc")


def drawn(weights: np.ndarray, **parameters: float) -> np.ndarray:
    stages = Stages(steps_of([PowerSampler(**parameters)]), Context(0, DATA.class_names))
    result = stages.fold("sampling_weights", weights, epoch=0, training_set=DATA)
    shares: np.ndarray = np.bincount(DATA.labels, result / result.sum())
    return shares


@pytest.mark.parametrize(
    ("exponent", "mass"),
    [(0, [4, 16, 121]), (0.5, [2, 4, 11]), (1, [1, 1, 1]), (0.75, [4**0.25, 2, 121**0.25])],
)
def test_a_class_of_n_rows_is_drawn_in_proportion_to_a_power_of_n(exponent: float, mass: list[float]) -> None:
    assert drawn(np.ones(141), exponent=exponent) == pytest.approx(np.array(mass) / sum(mass))


def test_square_root_is_the_default() -> None:
    assert drawn(np.ones(141)) == pytest.approx(np.array([2, 4, 11]) / 17)


def test_weights_of_earlier_steps_are_multiplied() -> None:
    earlier = np.where(DATA.labels == 0, 0.0, 1.0)
    assert drawn(earlier, exponent=1) == pytest.approx([0, 0.5, 0.5])


@pytest.mark.parametrize("exponent", [-0.1, 1.1])
def test_an_exponent_outside_0_to_1_is_refused(exponent: float) -> None:
    with pytest.raises(ValueError, match="exponent"):
        PowerSampler(exponent=exponent)
