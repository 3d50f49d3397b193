"""Pipeline: steps, folds of stages in recipe order, random streams, checks of results, and observers."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from fer_augment import ImageDataset, Strategy, StrategyError, hookimpl
from fer_augment.data.records import RunIdentity
from fer_augment.errors import PluginError
from fer_augment.hooks.pipeline import Pipeline, Step, steps_of
from fer_augment.hooks.specs import StageSpecs
from fer_augment.hooks.stages import STAGES
from fer_augment.hooks.strategy import Context
from fer_augment.testing import NearestMeanScout, tiny_dataset
from tests.data_files import random_images

CONTEXT = Context(seed=3, class_names=("ant", "bee", "cat"))
IDENTITY = RunIdentity(recipe="r", seed=3, key="k")


class AppendLetter(Strategy):
    """Append a letter to the result of earlier steps, to show the order of steps."""

    letter: str

    @hookimpl
    def build_adjustment(self, adjust: Any) -> Any:
        return lambda text: adjust(text) + self.letter


class Repeat(Strategy):
    """Repeat some rows."""

    rows: list[int]

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset) -> ImageDataset:
        return training_set.take([*range(len(training_set)), *self.rows])


class Draw(Strategy):
    """Return random numbers at each stage."""

    @hookimpl
    def sampling_weights(self, weights: Any, context: Context) -> Any:
        return context.rng.random(len(weights))

    @hookimpl
    def augment_rows(self, images: Any, context: Context) -> Any:
        return context.rng.integers(0, 256, images.shape, dtype=np.uint8)


class ActWhen(Strategy):
    """Act before training or on predictions, depending on the parameter."""

    when: str

    @property
    def idle_at(self) -> list[str]:
        return {"rewrite": ["build_adjustment"], "predict": ["rewrite_training_set"]}.get(self.when, [self.when])

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset) -> ImageDataset:
        return training_set.take([0])

    @hookimpl
    def build_adjustment(self, adjust: Any) -> Any:
        return lambda text: adjust(text) + "!"


class ReturnDraws(Strategy):
    """Return the number of earlier draws of each row as images, plus 100."""

    @hookimpl
    def augment_rows(self, images: Any, draws: Any) -> Any:
        return np.broadcast_to(100 + draws[:, None, None, None], images.shape).astype(np.uint8)


def returning(stage: str, value: Any) -> Strategy:
    """Create a strategy that returns a value at a stage."""

    def method(self: Strategy) -> Any:
        return value

    method.__name__ = stage
    return type("Returns", (Strategy,), {"__module__": __name__, stage: hookimpl(method)})()


def raising(error: BaseException) -> Strategy:
    """Create a strategy that raises an error at `rewrite_training_set`."""

    def rewrite_training_set(self: Strategy) -> None:
        raise error

    return type(
        "Fails", (Strategy,), {"__module__": __name__, "rewrite_training_set": hookimpl(rewrite_training_set)}
    )()


def pipeline(*strategies: Strategy, **settings: Any) -> Pipeline:
    return Pipeline(steps_of(strategies), CONTEXT, **settings)


def some_rows() -> ImageDataset:
    return ImageDataset.from_arrays(random_images(4), [0, 1, 2, 0], CONTEXT.class_names)


def fold(tested: Pipeline, stage: str, first: Any, *, epoch: int = 0, rows: Any = (0, 1), train: Any = None) -> Any:
    """Fold a stage with synthetic values for the arguments of its hook."""
    dataset, rows = some_rows(), np.array(rows)
    arguments = {
        "training_set": dataset,
        "rows": rows,
        "labels": dataset.labels[rows],
        "class_prior": np.full(3, 1 / 3),
        "parameters": [],
        "validation_logits": torch.ones(4, 3),
        "validation_labels": torch.zeros(4, dtype=torch.int64),
    }
    names = list(inspect.signature(getattr(StageSpecs, stage)).parameters)[2:]
    others = {name: value for name, value in arguments.items() if name in names}
    return tested.fold(stage, first, epoch=epoch if "epoch" in names else None, train=train, **others)


def augmented(tested: Pipeline, rows: list[int], epoch: int = 0) -> np.ndarray:
    images: np.ndarray = fold(tested, "augment_rows", some_rows().images[rows], epoch=epoch, rows=rows)
    return images


def error_for(stage: str, first: Any, value: Any) -> str:
    """Return the message of the error if a strategy returns a value at a stage."""
    with pytest.raises(StrategyError) as caught:
        fold(pipeline(returning(stage, value)), stage, first)
    return str(caught.value)


class TestSteps:
    def test_steps_are_numbered_from_one_and_repeated_names_counted(self) -> None:
        steps = steps_of([AppendLetter(letter="a"), Draw(), AppendLetter(letter="b")], ["x 1", "y 2", "x 1"])

        assert [(step.name, step.number, step.occurrence, step.provider) for step in steps] == [
            ("append_letter", 1, 0, "x 1"),
            ("draw", 2, 0, "y 2"),
            ("append_letter", 3, 1, "x 1"),
        ]
        assert str(steps[2]) == "step 3 (append_letter)"

    def test_the_same_object_twice_makes_two_steps(self) -> None:
        letter = AppendLetter(letter="a")
        first, second = steps_of([letter, letter])

        assert first.strategy is letter
        assert second.strategy is not letter and second.strategy.model_dump() == letter.model_dump()
        assert (second.number, second.occurrence) == (2, 1)
        assert fold(pipeline(letter, letter, letter), "build_adjustment", str)("") == "aaa"

    def test_acting_stages_are_those_implemented(self) -> None:
        adjusting, drawing = steps_of([AppendLetter(letter="a"), Draw()])

        assert [stage for stage in STAGES if drawing.acts_at([stage])] == [
            "sampling_weights",
            "augment_rows",
        ]
        assert drawing.acts_in_training
        assert not adjusting.acts_in_training

    def test_idle_stages_can_depend_on_parameters(self) -> None:
        before, after = steps_of([ActWhen(when="rewrite"), ActWhen(when="predict")])

        assert [stage for stage in STAGES if before.acts_at([stage])] == ["rewrite_training_set"]
        assert [stage for stage in STAGES if after.acts_at([stage])] == ["build_adjustment"]
        assert (before.acts_in_training, after.acts_in_training) == (True, False)


class TestFold:
    def test_steps_act_in_recipe_order_on_the_previous_result(self) -> None:
        letters = [AppendLetter(letter=letter) for letter in "abc"]
        adjust = fold(pipeline(*letters), "build_adjustment", str)

        assert adjust("") == "abc"

    def test_equal_steps_both_act(self) -> None:
        twice = pipeline(AppendLetter(letter="a"), Repeat(rows=[0]), AppendLetter(letter="a"), Repeat(rows=[0]))

        assert fold(twice, "build_adjustment", str)("") == "aa"
        assert len(fold(twice, "rewrite_training_set", some_rows())) == 6

    def test_stage_without_acting_steps_returns_its_input(self) -> None:
        dataset = some_rows()
        tested = pipeline(AppendLetter(letter="a"))

        assert fold(tested, "rewrite_training_set", dataset) is dataset
        assert not tested.acts_at("rewrite_training_set")
        assert tested.acts_at("build_adjustment")

    def test_idle_step_is_not_called(self) -> None:
        dataset = some_rows()
        before, after = pipeline(ActWhen(when="rewrite")), pipeline(ActWhen(when="predict"))

        assert len(fold(before, "rewrite_training_set", dataset)) == 1
        assert fold(after, "rewrite_training_set", dataset) is dataset
        assert [fold(tested, "build_adjustment", str)("") for tested in (before, after)] == ["", "!"]
        assert not before.acts_at("build_adjustment")

    def test_unknown_stage_in_idle_at_is_refused(self) -> None:
        with pytest.raises(
            PluginError,
            match=r"^ActWhen: idle_at contains 'augment_row', which is not a stage; did you mean 'augment_rows'\?$",
        ):
            fold(pipeline(ActWhen(when="augment_row")), "build_adjustment", str)

    def test_new_rows_have_the_number_of_the_step(self) -> None:
        tested = pipeline(Repeat(rows=[1]), AppendLetter(letter="a"), Repeat(rows=[0, 4]))

        assert fold(tested, "rewrite_training_set", some_rows()).step.tolist() == [0, 0, 0, 0, 1, 3, 3]

    def test_hook_receives_the_arguments_that_it_declares(self) -> None:
        class Everything(Strategy):
            @hookimpl
            def sampling_weights(self, weights: Any, training_set: Any, epoch: int, context: Context) -> Any:
                return weights + len(training_set) + 10 * epoch + 100 * context.seed

        weights = fold(pipeline(Everything()), "sampling_weights", np.ones(4), epoch=2)
        assert weights.tolist() == [325.0] * 4

    def test_context_train_exists_only_at_refine_model(self) -> None:
        class TrainAgain(Strategy):
            @hookimpl
            def refine_model(self, model: Any, context: Context) -> Any:
                assert context.train is not None
                return context.train(model)

            @hookimpl
            def prepare_model(self, model: Any, context: Context) -> Any:
                assert context.train is None
                return model

        model, trained = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
        assert fold(pipeline(TrainAgain()), "prepare_model", model) is model
        assert fold(pipeline(TrainAgain()), "refine_model", model, train=lambda _: trained) is trained


class TestRandomness:
    def weights(self, *strategies: Strategy, seed: int = 3, epoch: int = 0) -> np.ndarray:
        tested = Pipeline(steps_of(strategies), replace(CONTEXT, seed=seed))
        weights: np.ndarray = fold(tested, "sampling_weights", np.ones(5), epoch=epoch)
        return weights

    def test_same_run_draws_the_same_numbers(self) -> None:
        assert_array_equal(self.weights(Draw()), self.weights(Draw()))

    def test_numbers_depend_on_seed_epoch_and_occurrence(self) -> None:
        drawn = [
            self.weights(Draw()),
            self.weights(Draw(), seed=4),
            self.weights(Draw(), epoch=1),
            self.weights(Draw(), Draw()),
        ]
        assert len({numbers.tobytes() for numbers in drawn}) == 4

    def test_numbers_do_not_depend_on_steps_with_other_names(self) -> None:
        assert_array_equal(self.weights(Repeat(rows=[0]), Draw()), self.weights(Draw()))

    def test_numbers_differ_between_stages(self) -> None:
        drawn = []

        class DrawTwice(Strategy):
            @hookimpl
            def prepare_model(self, model: Any, context: Context) -> Any:
                drawn.append((context.rng.random(), torch.rand(1, generator=context.generator).item()))
                return model

            @hookimpl
            def refine_model(self, model: Any, context: Context) -> Any:
                drawn.append((context.rng.random(), torch.rand(1, generator=context.generator).item()))
                return model

        tested = pipeline(DrawTwice())
        fold(tested, "prepare_model", abs)
        fold(tested, "refine_model", abs)
        assert all(one != other for one, other in zip(*drawn, strict=True))

    def test_random_stream_continues_over_batches_and_restarts_each_epoch(self) -> None:
        tested = pipeline(Draw())
        first, second = augmented(tested, [0, 1]), augmented(tested, [0, 1])
        next_epoch = augmented(tested, [0, 1], epoch=1)

        assert (first != second).any()
        assert (first != next_epoch).any()
        assert_array_equal(augmented(pipeline(Draw()), [0, 1], epoch=1), next_epoch)

    def test_draws_count_earlier_draws_in_the_epoch(self) -> None:
        tested = pipeline(ReturnDraws())

        def draws(rows: list[int], epoch: int) -> list[int]:
            return (augmented(tested, rows, epoch)[:, 0, 0, 0] - 100).tolist()

        assert draws([0, 1, 0], epoch=0) == [0, 0, 1]
        assert draws([0, 2, 1, 0], epoch=0) == [2, 0, 1, 3]
        assert draws([0, 3], epoch=1) == [0, 0]


class TestScouts:
    def scouts_at(self, stage: str, **settings: Any) -> list[Any]:
        scouts: list[Any] = []

        def method(self: Strategy, context: Context) -> Any:
            scouts.append(context.scout)
            return first

        method.__name__ = stage
        strategy = type("Queries", (Strategy,), {"__module__": __name__, stage: hookimpl(method)})()
        first: Any = np.ones(4) if stage == "sampling_weights" else abs
        tested = pipeline(strategy, **settings)
        for epoch in (0, 1):
            fold(tested, stage, first, epoch=epoch)
        return scouts

    def test_step_has_one_scout_that_caches_predictions(self) -> None:
        real = NearestMeanScout()
        steps: list[Step] = []

        def scout_for(step: Step) -> NearestMeanScout:
            steps.append(step)
            return real

        first, second = self.scouts_at("sampling_weights", scout_for=scout_for)
        data = tiny_dataset()

        assert first is second
        assert [str(step) for step in steps] == ["step 1 (queries)"]
        assert_array_equal(first.probabilities(data), NearestMeanScout().probabilities(data))
        first.probabilities(data)
        assert real.asked == ["out_of_fold"]

    def test_scout_is_none_after_training(self) -> None:
        assert self.scouts_at("build_adjustment", scout_for=lambda step: NearestMeanScout()) == [None, None]

    def test_scout_is_none_without_scout_for(self) -> None:
        assert self.scouts_at("sampling_weights") == [None, None]


class TestConversion:
    def test_weights_are_float64_and_rows_contiguous(self) -> None:
        class Careless(Strategy):
            @hookimpl
            def sampling_weights(self, weights: Any) -> Any:
                return weights.astype(np.float16)

            @hookimpl
            def augment_rows(self, images: Any) -> Any:
                return images[:, :, ::-1]

        assert fold(pipeline(Careless()), "sampling_weights", np.ones(4)).dtype == np.float64
        images = random_images(4)
        mirrored = fold(pipeline(Careless()), "augment_rows", images)
        assert mirrored.flags.c_contiguous
        assert_array_equal(mirrored, images[:, :, ::-1])


class TestRefusals:
    @pytest.mark.parametrize("stage", STAGES)
    def test_missing_return_is_refused_at_every_stage(self, stage: str) -> None:
        first: Any = (torch.ones(1), torch.ones(1)) if stage == "augment_batch" else some_rows()

        assert error_for(stage, first, None) == (
            f"step 1 (returns), {stage} returned nothing; end it with a return statement"
        )

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (random_images(2), "an ImageDataset, not ndarray uint8 (2, 4, 4, 1)"),
            (some_rows().images, "an ImageDataset, not Images"),
            (some_rows().take([]), "at least one row; it removed all rows"),
            (
                ImageDataset.from_arrays(random_images(4), [0] * 4, ("a", "b", "c")),
                "a set with the classes and the image size of the set it was given",
            ),
            (
                ImageDataset.from_arrays(random_images(4, side=5), [0] * 4, CONTEXT.class_names),
                "a set with the classes and the image size of the set it was given",
            ),
            (
                ImageDataset.from_arrays(random_images(9), [0] * 9, CONTEXT.class_names),
                "rows that descend from the set it was given",
            ),
        ],
    )
    def test_rewritten_training_set_must_descend_from_the_given_one(self, value: Any, expected: str) -> None:
        assert error_for("rewrite_training_set", some_rows(), value) == (
            f"step 1 (returns), rewrite_training_set must return {expected}"
        )

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ([1, 1, 1], "weights of shape (3,), not list"),
            (np.ones(4), "weights of shape (3,), not ndarray float64 (4,)"),
            (np.array([1, -1, 1]), "finite weights, 0 or more, that are not all zero"),
            (np.array([1, np.nan, 1]), "finite weights, 0 or more, that are not all zero"),
            (np.array([1, np.inf, 1]), "finite weights, 0 or more, that are not all zero"),
            (np.zeros(3), "finite weights, 0 or more, that are not all zero"),
            (np.ones(3, dtype=object), "finite weights, 0 or more, that are not all zero"),
        ],
    )
    def test_weights_must_be_valid(self, value: Any, expected: str) -> None:
        assert (
            error_for("sampling_weights", np.ones(3), value)
            == f"step 1 (returns), sampling_weights must return {expected}"
        )

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (random_images(1), "ndarray uint8 (1, 4, 4, 1)"),
            (random_images(2).astype(np.float32), "ndarray float32 (2, 4, 4, 1)"),
            ("images", "str"),
        ],
    )
    def test_augmented_rows_must_keep_shape_and_dtype(self, value: Any, expected: str) -> None:
        assert error_for("augment_rows", some_rows().images[[0, 1]], value) == (
            f"step 1 (returns), augment_rows must return uint8 images of shape (2, 4, 4, 1), not {expected}"
        )

    @pytest.mark.parametrize(
        "value",
        [
            torch.ones(2, 1, 4, 4),
            (torch.ones(2, 1, 4, 4), torch.ones(2, 2)),
            (torch.ones(2, 1, 4, 4).double(), torch.ones(2, 3)),
            [torch.ones(2, 1, 4, 4), torch.ones(2, 3)],
            (np.ones((2, 1, 4, 4), np.float32), torch.ones(2, 3)),
        ],
    )
    def test_augmented_batch_must_be_a_pair_like_the_given_one(self, value: Any) -> None:
        first = (torch.ones(2, 1, 4, 4), torch.ones(2, 3))
        message = error_for("augment_batch", first, value)

        assert message.endswith("a pair: images and targets with the shapes and dtypes that it was given")

    @pytest.mark.parametrize("value", [[], torch.ones(2, 1, 4, 4), [torch.ones(2, 1, 4, 5)]])
    def test_views_must_be_a_list_of_images_like_the_given_ones(self, value: Any) -> None:
        message = error_for("predict_views", [torch.ones(2, 1, 4, 4)], value)

        assert message.endswith("a list of views with the shape and dtype of the images")

    @pytest.mark.parametrize("stage", ["prepare_model", "refine_model", "build_loss", "build_adjustment"])
    def test_models_losses_and_adjustments_must_be_callable(self, stage: str) -> None:
        assert error_for(stage, abs, 3) == f"step 1 (returns), {stage} must return a callable, not int"

    def test_unexpected_exception_becomes_a_one_line_error_with_the_step(self) -> None:
        with pytest.raises(StrategyError) as caught:
            fold(pipeline(raising(KeyError("two\nlines"))), "rewrite_training_set", some_rows())

        line = raising.__code__.co_firstlineno + 4
        assert str(caught.value) == (
            rf"step 1 (fails), rewrite_training_set: KeyError: 'two\nlines' (test_pipeline.py, line {line})"
        )
        assert isinstance(caught.value.__cause__, KeyError)

    def test_an_unexpected_exception_without_a_message_is_named_by_its_class(self) -> None:
        with pytest.raises(StrategyError, match=r"rewrite_training_set: MemoryError \(test_pipeline\.py, line \d+\)$"):
            fold(pipeline(raising(MemoryError())), "rewrite_training_set", some_rows())

    def test_fer_augment_error_keeps_its_class(self) -> None:
        with pytest.raises(PluginError, match=r"^step 1 \(fails\), rewrite_training_set: no such sampler$"):
            fold(pipeline(raising(PluginError("no such sampler"))), "rewrite_training_set", some_rows())

    def test_third_party_subclass_of_an_error_is_raised_as_its_base_class(self) -> None:
        class TwoPartError(PluginError):
            def __init__(self, what: str, where: str) -> None:
                super().__init__(f"{what} in {where}")

        with pytest.raises(PluginError, match=r"rewrite_training_set: dust in the lens$"):
            fold(pipeline(raising(TwoPartError("dust", "the lens"))), "rewrite_training_set", some_rows())

    def test_keyboard_interrupt_is_not_converted(self) -> None:
        with pytest.raises(KeyboardInterrupt):
            fold(pipeline(raising(KeyboardInterrupt())), "rewrite_training_set", some_rows())
