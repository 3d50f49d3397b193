"""Random streams depend only on the seed, their name and the row."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fer_augment.randomness import mix64, nth_seeds, stream_key, stream_rng, uniforms

SPLITMIX64_OF_1234567 = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]
"""First outputs of the public-domain reference implementation by S. Vigna for the seed 1234567."""


def keys(count: int) -> np.ndarray:
    return mix64(np.arange(count, dtype=np.uint64))


class TestStreams:
    def test_streams_are_repeatable(self) -> None:
        assert stream_key(7, "a", 1) == stream_key(7, "a", 1)
        assert_array_equal(stream_rng(7, "a").random(5), stream_rng(7, "a").random(5))

    def test_keys_are_stable_across_versions(self) -> None:
        """Otherwise runs of earlier versions could not be repeated."""
        assert stream_key(0) == 8493733112532773764
        assert stream_key(7, "mirror", 1, "rewrite_training_set", -1) == 9004740159689375153

    def test_streams_differ_by_seed_words_and_their_order(self) -> None:
        names = [(7, "a", "b"), (8, "a", "b"), (7, "b", "a"), (7, "ab"), (7, "a"), (7,), (7, "a", "b", 0)]

        assert len({stream_key(*name) for name in names}) == len(names)  # type: ignore[arg-type]

    def test_the_global_generator_is_neither_used_nor_changed(self) -> None:
        np.random.seed(0)
        before = np.random.get_state(legacy=False)["state"]["key"].copy()
        first = stream_rng(7, "a").random(3)

        assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], before)
        np.random.seed(1)
        assert_array_equal(stream_rng(7, "a").random(3), first)


class TestRowSeeds:
    def test_seeds_are_the_outputs_of_splitmix64(self) -> None:
        start = np.full(5, 1234567, dtype=np.uint64)

        assert nth_seeds(start, np.arange(5)).tolist() == SPLITMIX64_OF_1234567

    def test_mixing_is_injective(self) -> None:
        assert len(np.unique(mix64(np.arange(100_000, dtype=np.uint64)))) == 100_000

    def test_changing_one_input_bit_changes_half_of_the_output_bits(self) -> None:
        values = keys(2000)
        for bit in (0, 17, 63):
            changed = mix64(values) ^ mix64(values ^ np.uint64(1 << bit))
            assert np.bitwise_count(changed).mean() == pytest.approx(32, abs=0.5)


class TestUniforms:
    def test_numbers_are_uniform_in_the_half_open_unit_interval(self) -> None:
        numbers = uniforms(keys(5000), 8)

        assert numbers.shape == (5000, 8)
        assert numbers.dtype == np.float64
        assert numbers.min() >= 0
        assert numbers.max() < 1
        in_bin = np.bincount((numbers.ravel() * 20).astype(int), minlength=20)
        chi_squared = ((in_bin - 2000) ** 2 / 2000).sum()
        assert chi_squared < 43.8  # the 99.9th percentile with 19 degrees of freedom

    def test_the_largest_output_is_below_one(self) -> None:
        assert float(np.uint64(2**64 - 1) >> np.uint64(11)) * 2.0**-53 < 1

    def test_numbers_of_a_row_and_of_neighboring_rows_are_uncorrelated(self) -> None:
        numbers = uniforms(keys(20_000), 3)
        correlations = [
            np.corrcoef(numbers[:, 0], numbers[:, 1])[0, 1],
            np.corrcoef(numbers[:, 0], numbers[:, 2])[0, 1],
            np.corrcoef(numbers[1:, 0], numbers[:-1, 0])[0, 1],
            np.corrcoef(numbers[1:, 0], numbers[:-1, 1])[0, 1],
        ]

        assert np.abs(correlations).max() < 0.025  # 3.5 standard deviations

    def test_numbers_depend_neither_on_other_rows_nor_on_the_number_of_draws(self) -> None:
        whole = uniforms(keys(10), 4)

        assert_array_equal(uniforms(keys(10)[[7, 2]], 4), whole[[7, 2]])
        assert_array_equal(uniforms(keys(10), 2), whole[:, :2])

    def test_zero_rows_give_an_empty_array(self) -> None:
        assert uniforms(keys(0), 3).shape == (0, 3)
