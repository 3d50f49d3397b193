"""The fixtures of the conformity kit: the tiny data set, its scout and its network."""

from __future__ import annotations

import numpy as np
import torch

from fer_augment import ImageDataset
from fer_augment.testing import NearestMeanScout, tiny_dataset, tiny_network


def test_the_out_of_fold_scout_is_fitted_without_the_row_and_its_duplicates() -> None:
    # Class `odd` consists of two equal rows: predicted in sample, not out of fold, where both are held out.
    images = np.zeros((9, 4, 4), dtype=np.uint8)
    images[0] = images[1] = 255
    data = ImageDataset.from_arrays(images, [0, 0, 1, 1, 1, 1, 1, 1, 1], ("odd", "plain"))
    scout = NearestMeanScout()
    assert scout.probabilities(data, how="in_sample")[:2].argmax(axis=1).tolist() == [0, 0]
    assert scout.probabilities(data, how="out_of_fold")[:2].argmax(axis=1).tolist() == [1, 1]
    assert scout.asked == ["in_sample", "out_of_fold"]


def test_a_row_with_sources_in_several_folds_has_no_prediction() -> None:
    data = tiny_dataset()
    distant = [data.rows_of(["ant"])[0], data.rows_of(["cat"])[0]]
    probabilities = [
        NearestMeanScout().probabilities(data.append(data.images[[0]], parents=[[row, other]]))[-1]
        for row in distant
        for other in range(len(data))
    ]
    assert 0 < np.isnan(probabilities).any(axis=1).sum() < len(probabilities)


def test_every_pair_of_classes_is_confused_in_the_tiny_data() -> None:
    for channels in (1, 3):
        data = tiny_dataset(channels)
        for how in ("in_sample", "out_of_fold"):
            predicted = NearestMeanScout().probabilities(data, how=how).argmax(axis=1)
            assert len(set(zip(data.labels.tolist(), predicted.tolist(), strict=True))) == 9


def test_the_tiny_network_is_reproducible_and_uses_no_global_random_numbers() -> None:
    before = torch.get_rng_state()
    one, other = (tiny_network((16, 14, 1), 3).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(before, torch.get_rng_state())
