"""Strategies: names, frozen parameters, class names, and the random numbers of a context."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from pydantic import TypeAdapter, ValidationError

from fer_augment import ClassName, Context, Effect, ImageDataset, Strategy, StrategyError
from fer_augment.testing import NearestMeanScout
from tests.data_files import random_images

CONTEXT = Context(seed=1, class_names=("ant", "bee"), stream=("mirror", 0, "rewrite_training_set", -1))


class Mirror(Strategy):
    """Have one parameter."""

    copies: int = 1


class TestStrategy:
    @pytest.mark.parametrize(
        ("class_name", "name"),
        [
            ("Mirror", "mirror"),
            ("MirrorClasses", "mirror_classes"),
            ("SMOTE", "smote"),
            ("SMOTESampler", "smote_sampler"),
            ("CutMix2", "cut_mix2"),
            ("Ldam", "ldam"),
        ],
    )
    def test_its_name_is_its_class_name_in_snake_case(self, class_name: str, name: str) -> None:
        strategy_class: Any = type(class_name, (Strategy,), {"__module__": __name__})
        assert strategy_class.strategy_name() == name

    def test_it_is_frozen(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            Mirror().copies = 2  # type: ignore[misc]

    def test_unknown_and_invalid_parameters_are_refused(self) -> None:
        for parameters in ({"copy": 1}, {"copies": "many"}):
            with pytest.raises(ValidationError):
                Mirror.model_validate(parameters)

    def test_two_with_the_same_parameters_are_not_equal(self) -> None:
        one, other = Mirror(), Mirror()

        assert one != other
        assert len({one, other, one}) == 2

    def test_it_declares_no_effects_by_default(self) -> None:
        assert Mirror().effects == Effect(0)


class TestClassName:
    @pytest.mark.parametrize(
        ("written", "name"),
        [("sad", "sad"), (3, "3"), (0, "0"), (True, "true"), (False, "false"), ("no", "no"), ("Über", "Über")],
    )
    def test_it_accepts_names_that_yaml_reads_as_another_type(self, written: object, name: str) -> None:
        class_name = TypeAdapter(ClassName).validate_python(written)

        assert class_name == name
        assert isinstance(class_name, ClassName)

    @pytest.mark.parametrize("written", ["", None, 1.5, ["sad"], {"sad": 1}])
    def test_it_accepts_nothing_else(self, written: object) -> None:
        with pytest.raises(ValidationError):
            TypeAdapter(ClassName).validate_python(written)

    def test_it_is_a_string_in_the_json_schema(self) -> None:
        assert TypeAdapter(ClassName).json_schema() == {"type": "string", "minLength": 1}


class TestContext:
    def test_its_generators_are_reproducible(self) -> None:
        again = Context(seed=1, class_names=("ant", "bee"), stream=CONTEXT.stream)

        assert_array_equal(again.rng.random(3), Context(1, ("ant", "bee"), CONTEXT.stream).rng.random(3))
        assert again.generator.initial_seed() == CONTEXT.generator.initial_seed()

    @pytest.mark.parametrize(("seed", "stream"), [(2, CONTEXT.stream), (1, ("mirror", 1, "rewrite_training_set", -1))])
    def test_another_seed_or_stream_gives_other_numbers(self, seed: int, stream: Any) -> None:
        other = Context(seed, CONTEXT.class_names, stream)

        assert (other.rng.random(3) != Context(1, ("ant", "bee"), CONTEXT.stream).rng.random(3)).all()
        assert other.generator.initial_seed() != CONTEXT.generator.initial_seed()
        assert (
            other.row_seeds(np.arange(3, dtype=np.uint64)) != CONTEXT.row_seeds(np.arange(3, dtype=np.uint64))
        ).all()

    def test_the_torch_generator_accepts_every_seed_and_is_not_the_global_one(self) -> None:
        state = torch.random.get_rng_state()
        for seed in range(200):
            torch.rand(1, generator=Context(seed, ("ant",)).generator)

        assert torch.equal(torch.random.get_rng_state(), state)

    def test_require_scout_fails_without_a_scout(self) -> None:
        scout = NearestMeanScout()

        assert Context(1, ("ant",), scout=scout).require_scout() is scout
        with pytest.raises(StrategyError, match="no scout is available here"):
            CONTEXT.require_scout()

    def test_note_records_a_chosen_value_only_at_build_adjustment(self) -> None:
        context = replace(CONTEXT, chosen={})
        value: Any = np.float32(0.5)
        context.note("tau", value)
        assert context.chosen == {"tau": 0.5}
        with pytest.raises(StrategyError, match=r"^context.note\('tau', ...\): the value must be finite, got nan$"):
            context.note("tau", float("nan"))
        with pytest.raises(StrategyError, match=r"^context.note\('tau', ...\) is available at build_adjustment only$"):
            CONTEXT.note("tau", 1.0)


class TestRowSeeds:
    def seeds(self, dataset: ImageDataset, rows: list[int], draws: list[int] | None = None) -> list[int]:
        keys = dataset.row_keys(rows)
        return CONTEXT.row_seeds(keys, None if draws is None else np.array(draws)).tolist()

    def test_the_seed_of_a_row_does_not_depend_on_its_position(self) -> None:
        dataset = ImageDataset.from_arrays(random_images(5), [0, 1, 0, 1, 0], ("ant", "bee"))
        moved = dataset.take([3, 3, 1])

        assert self.seeds(moved, [2, 0]) == self.seeds(dataset, [1, 3])
        assert self.seeds(moved, [1]) != self.seeds(dataset, [3])

    def test_a_row_has_another_seed_each_time_it_is_drawn(self) -> None:
        dataset = ImageDataset.from_arrays(random_images(2), [0, 1], ("ant", "bee"))

        assert self.seeds(dataset, [0, 1]) == self.seeds(dataset, [0, 1], draws=[0, 0])
        assert len(set(self.seeds(dataset, [0] * 50 + [1] * 50, draws=[*range(50), *range(50)]))) == 100

    def test_seeds_of_rows_are_available_before_the_rows_are_appended(self) -> None:
        dataset = ImageDataset.from_arrays(random_images(2), [0, 1], ("ant", "bee"))
        before = CONTEXT.row_seeds(dataset.copy_keys([1, 1]))
        grown = dataset.append(random_images(2, seed=1), parents=[1, 1])

        assert before.tolist() == self.seeds(grown, [2, 3])
