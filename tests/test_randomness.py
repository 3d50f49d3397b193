"""Every consumer has random numbers of its own, which depend on nothing but the seed, its name and the row."""

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
"""The first outputs of the reference implementation by S. Vigna, public domain, from the seed 1234567."""


def keys(count: int) -> np.ndarray:
    return mix64(np.arange(count, dtype=np.uint64))


class TestStreams:
    def test_a_stream_is_the_same_every_time(self) -> None:
        assert stream_key(7, "a", 1) == stream_key(7, "a", 1)
        assert_array_equal(stream_rng(7, "a").random(5), stream_rng(7, "a").random(5))

    def test_keys_are_the_same_in_every_version_or_runs_could_not_be_repeated(self) -> None:
        assert stream_key(0) == 8493733112532773764
        assert stream_key(7, "mirror", 1, "rewrite_training_set", -1) == 9004740159689375153

    def test_seed_and_every_word_in_its_place_make_another_stream(self) -> None:
        names = [(7, "a", "b"), (8, "a", "b"), (7, "b", "a"), (7, "ab"), (7, "a"), (7,), (7, "a", "b", 0)]

        assert len({stream_key(*name) for name in names}) == len(names)  # type: ignore[arg-type]

    def test_the_global_generator_is_neither_asked_nor_changed(self) -> None:
        np.random.seed(0)
        before = np.random.get_state()[1].copy()
        first = stream_rng(7, "a").random(3)

        assert_array_equal(np.random.get_state()[1], before)
        np.random.seed(1)
        assert_array_equal(stream_rng(7, "a").random(3), first)


class TestRowSeeds:
    def test_they_are_the_outputs_of_splitmix64(self) -> None:
        start = np.full(5, 1234567, dtype=np.uint64)

        assert nth_seeds(start, np.arange(5)).tolist() == SPLITMIX64_OF_1234567

    def test_mixing_gives_different_integers_for_different_ones(self) -> None:
        assert len(np.unique(mix64(np.arange(100_000, dtype=np.uint64)))) == 100_000

    def test_one_bit_of_the_input_changes_half_of_the_output(self) -> None:
        values = keys(2000)
        for bit in (0, 17, 63):
            changed = mix64(values) ^ mix64(values ^ np.uint64(1 << bit))
            assert np.bitwise_count(changed).mean() == pytest.approx(32, abs=0.5)


class TestUniforms:
    def test_they_are_in_the_half_open_unit_interval_and_spread_evenly(self) -> None:
        numbers = uniforms(keys(5000), 8)

        assert numbers.shape == (5000, 8)
        assert numbers.dtype == np.float64
        assert numbers.min() >= 0
        assert numbers.max() < 1
        in_bin = np.bincount((numbers.ravel() * 20).astype(int), minlength=20)
        chi_squared = ((in_bin - 2000) ** 2 / 2000).sum()
        assert chi_squared < 43.8  # the 99.9th percentile with 19 degrees of freedom

    def test_the_largest_output_stays_below_one(self) -> None:
        assert float(np.uint64(2**64 - 1) >> np.uint64(11)) * 2.0**-53 < 1

    def test_numbers_of_one_row_and_of_neighboring_rows_are_not_correlated(self) -> None:
        numbers = uniforms(keys(20_000), 3)
        correlations = [
            np.corrcoef(numbers[:, 0], numbers[:, 1])[0, 1],
            np.corrcoef(numbers[:, 0], numbers[:, 2])[0, 1],
            np.corrcoef(numbers[1:, 0], numbers[:-1, 0])[0, 1],
            np.corrcoef(numbers[1:, 0], numbers[:-1, 1])[0, 1],
        ]

        assert np.abs(correlations).max() < 0.025  # 3.5 standard deviations

    def test_a_rows_numbers_do_not_depend_on_the_rows_beside_it_nor_on_how_many_are_drawn(self) -> None:
        whole = uniforms(keys(10), 4)

        assert_array_equal(uniforms(keys(10)[[7, 2]], 4), whole[[7, 2]])
        assert_array_equal(uniforms(keys(10), 2), whole[:, :2])

    def test_no_rows_have_no_numbers(self) -> None:
        assert uniforms(keys(0), 3).shape == (0, 3)
