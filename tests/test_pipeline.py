"""A stage is a fold over the steps in recipe order, each with randomness of its own, and refuses what does not fit."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from fer_augment import ImageDataset, Strategy, StrategyError, hookimpl
from fer_augment.data.records import RunIdentity
from fer_augment.errors import PluginError
from fer_augment.hooks.observers import Observers
from fer_augment.hooks.pipeline import Pipeline, Step, steps_of
from fer_augment.hooks.specs import StageSpecs
from fer_augment.hooks.stages import STAGES
from fer_augment.hooks.strategy import Context
from fer_augment.testing import NearestMeanScout, tiny_dataset
from tests.data_files import random_images

CONTEXT = Context(seed=3, class_names=("ant", "bee", "cat"))
IDENTITY = RunIdentity(recipe="r", seed=3, key="k")


class AppendLetter(Strategy):
    """Say in which order steps act: the adjustment returns what the earlier ones returned, and a letter."""

    letter: str

    @hookimpl
    def build_adjustment(self, adjust: Any) -> Any:
        return lambda text: adjust(text) + self.letter


class Repeat(Strategy):
    """Take some rows again."""

    rows: list[int]

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset) -> ImageDataset:
        return training_set.take([*range(len(training_set)), *self.rows])


class Draw(Strategy):
    """Show the numbers that each stage draws."""

    @hookimpl
    def sampling_weights(self, weights: Any, context: Context) -> Any:
        return context.rng.random(len(weights))

    @hookimpl
    def augment_rows(self, images: Any, context: Context) -> Any:
        return context.rng.integers(0, 256, images.shape, dtype=np.uint8)


class Moveable(Strategy):
    """Act before training or on predictions, as the parameter says."""

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


class ShowDraws(Strategy):
    """Show how often each row was drawn before."""

    @hookimpl
    def augment_rows(self, images: Any, draws: Any) -> Any:
        return np.broadcast_to(draws[:, None, None, None], images.shape).astype(np.uint8)


def returning(stage: str, value: Any) -> Strategy:
    """Make a strategy that returns a value at a stage."""

    def method(self: Strategy) -> Any:
        return value

    method.__name__ = stage
    return type("Returns", (Strategy,), {"__module__": __name__, stage: hookimpl(method)})()


def raising(error: BaseException) -> Strategy:
    """Make a strategy that fails when it is to rewrite the training set."""

    def rewrite_training_set(self: Strategy) -> None:
        raise error

    return type(
        "Fails", (Strategy,), {"__module__": __name__, "rewrite_training_set": hookimpl(rewrite_training_set)}
    )()


def stages(*strategies: Strategy, **settings: Any) -> Pipeline:
    return Pipeline(steps_of(strategies), CONTEXT, **settings)


def some_rows() -> ImageDataset:
    return ImageDataset.from_arrays(random_images(4), [0, 1, 2, 0], CONTEXT.class_names)


def fold(tested: Pipeline, stage: str, first: Any, *, epoch: int = 0, rows: Any = (0, 1), train: Any = None) -> Any:
    """Fold a stage with all arguments that its hook has, some of them made up."""
    dataset, rows = some_rows(), np.array(rows)
    known = {
        "training_set": dataset,
        "rows": rows,
        "labels": dataset.labels[rows],
        "class_prior": np.full(3, 1 / 3),
        "validation_logits": torch.ones(4, 3),
        "validation_labels": torch.zeros(4, dtype=torch.int64),
    }
    names = list(inspect.signature(getattr(StageSpecs, stage)).parameters)[2:]
    others = {name: value for name, value in known.items() if name in names}
    return tested.fold(stage, first, epoch=epoch if "epoch" in names else None, train=train, **others)


def augmented(tested: Pipeline, rows: list[int], epoch: int = 0) -> np.ndarray:
    images: np.ndarray = fold(tested, "augment_rows", some_rows().images[rows], epoch=epoch, rows=rows)
    return images


def refusal(stage: str, first: Any, value: Any) -> str:
    """Return what a strategy is told that returns a value at a stage."""
    with pytest.raises(StrategyError) as caught:
        fold(stages(returning(stage, value)), stage, first)
    return str(caught.value)


class TestSteps:
    def test_they_are_numbered_from_one_and_equal_names_are_counted(self) -> None:
        steps = steps_of([AppendLetter(letter="a"), Draw(), AppendLetter(letter="b")], ["x 1", "y 2", "x 1"])

        assert [(step.name, step.number, step.occurrence, step.provider) for step in steps] == [
            ("append_letter", 1, 0, "x 1"),
            ("draw", 2, 0, "y 2"),
            ("append_letter", 3, 1, "x 1"),
        ]
        assert str(steps[2]) == "step 3 (append_letter)"

    def test_a_step_knows_where_it_acts_and_whether_that_is_in_training(self) -> None:
        adjusting, drawing = steps_of([AppendLetter(letter="a"), Draw()])

        assert [stage for stage in STAGES if drawing.acts_at([stage])] == [
            "sampling_weights",
            "augment_rows",
        ]
        assert drawing.acts_in_training
        assert not adjusting.acts_in_training

    def test_parameters_may_decide_where_a_step_acts(self) -> None:
        before, after = steps_of([Moveable(when="rewrite"), Moveable(when="predict")])

        assert [stage for stage in STAGES if before.acts_at([stage])] == ["rewrite_training_set"]
        assert [stage for stage in STAGES if after.acts_at([stage])] == ["build_adjustment"]
        assert (before.acts_in_training, after.acts_in_training) == (True, False)


class TestFold:
    def test_steps_act_in_recipe_order_each_on_what_the_one_before_returned(self) -> None:
        letters = [AppendLetter(letter=letter) for letter in "abc"]
        adjust = fold(stages(*letters), "build_adjustment", str)

        assert adjust("") == "abc"

    def test_two_equal_steps_both_act(self) -> None:
        twice = stages(AppendLetter(letter="a"), Repeat(rows=[0]), AppendLetter(letter="a"), Repeat(rows=[0]))

        assert fold(twice, "build_adjustment", str)("") == "aa"
        assert len(fold(twice, "rewrite_training_set", some_rows())) == 6

    def test_a_stage_at_which_nobody_acts_gives_back_what_it_was_given(self) -> None:
        dataset = some_rows()
        tested = stages(AppendLetter(letter="a"))

        assert fold(tested, "rewrite_training_set", dataset) is dataset
        assert not tested.acts_at("rewrite_training_set")
        assert tested.acts_at("build_adjustment")

    def test_a_step_is_not_asked_where_it_is_idle(self) -> None:
        dataset = some_rows()
        before, after = stages(Moveable(when="rewrite")), stages(Moveable(when="predict"))

        assert len(fold(before, "rewrite_training_set", dataset)) == 1
        assert fold(after, "rewrite_training_set", dataset) is dataset
        assert [fold(tested, "build_adjustment", str)("") for tested in (before, after)] == ["", "!"]
        assert not before.acts_at("build_adjustment")

    def test_a_misspelt_stage_to_be_idle_at_is_named(self) -> None:
        with pytest.raises(
            PluginError,
            match=r"^Moveable: idle_at contains 'augment_row', which is not a stage; did you mean 'augment_rows'\?$",
        ):
            fold(stages(Moveable(when="augment_row")), "build_adjustment", str)

    def test_rows_are_stamped_with_the_number_of_the_step_that_made_them(self) -> None:
        tested = stages(Repeat(rows=[1]), AppendLetter(letter="a"), Repeat(rows=[0, 4]))

        assert fold(tested, "rewrite_training_set", some_rows()).step.tolist() == [0, 0, 0, 0, 1, 3, 3]

    def test_each_step_gets_the_arguments_that_it_takes(self) -> None:
        class Everything(Strategy):
            @hookimpl
            def sampling_weights(self, weights: Any, training_set: Any, epoch: int, context: Context) -> Any:
                return weights + len(training_set) + 10 * epoch + 100 * context.seed

        weights = fold(stages(Everything()), "sampling_weights", np.ones(4), epoch=2)
        assert weights.tolist() == [325.0] * 4

    def test_only_refining_can_train_again(self) -> None:
        class Asks(Strategy):
            @hookimpl
            def refine_model(self, model: Any, context: Context) -> Any:
                assert context.train is not None
                return context.train(model)

            @hookimpl
            def prepare_model(self, model: Any, context: Context) -> Any:
                assert context.train is None
                return model

        model, trained = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
        assert fold(stages(Asks()), "prepare_model", model) is model
        assert fold(stages(Asks()), "refine_model", model, train=lambda _: trained) is trained


class TestRandomness:
    def weights(self, *strategies: Strategy, seed: int = 3, epoch: int = 0) -> np.ndarray:
        tested = Pipeline(steps_of(strategies), replace(CONTEXT, seed=seed))
        weights: np.ndarray = fold(tested, "sampling_weights", np.ones(5), epoch=epoch)
        return weights

    def test_the_same_run_draws_the_same_numbers(self) -> None:
        assert_array_equal(self.weights(Draw()), self.weights(Draw()))

    def test_another_seed_epoch_or_occurrence_of_a_name_draws_others(self) -> None:
        drawn = [
            self.weights(Draw()),
            self.weights(Draw(), seed=4),
            self.weights(Draw(), epoch=1),
            self.weights(Draw(), Draw()),
        ]
        assert len({numbers.tobytes() for numbers in drawn}) == 4

    def test_a_step_of_another_name_before_it_changes_nothing(self) -> None:
        assert_array_equal(self.weights(Repeat(rows=[0]), Draw()), self.weights(Draw()))

    def test_a_step_draws_other_numbers_at_each_stage(self) -> None:
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

        tested = stages(DrawTwice())
        fold(tested, "prepare_model", abs)
        fold(tested, "refine_model", abs)
        assert all(one != other for one, other in zip(*drawn, strict=True))

    def test_numbers_go_on_from_batch_to_batch_and_begin_anew_in_each_epoch(self) -> None:
        tested = stages(Draw())
        first, second = augmented(tested, [0, 1]), augmented(tested, [0, 1])
        next_epoch = augmented(tested, [0, 1], epoch=1)

        assert (first != second).any()
        assert (first != next_epoch).any()
        assert_array_equal(augmented(stages(Draw()), [0, 1], epoch=1), next_epoch)

    def test_each_row_is_told_how_often_it_was_drawn_before_in_the_epoch(self) -> None:
        tested = stages(ShowDraws())

        def draws(rows: list[int], epoch: int) -> list[int]:
            return augmented(tested, rows, epoch)[:, 0, 0, 0].tolist()

        assert draws([0, 1, 0], epoch=0) == [0, 0, 1]
        assert draws([0, 2, 1, 0], epoch=0) == [2, 0, 1, 3]
        assert draws([0, 3], epoch=1) == [0, 0]


class TestScouts:
    def asked(self, stage: str, **settings: Any) -> list[Any]:
        seen: list[Any] = []

        def method(self: Strategy, context: Context) -> Any:
            seen.append(context.scout)
            return first

        method.__name__ = stage
        asks = type("Asks", (Strategy,), {"__module__": __name__, stage: hookimpl(method)})()
        first: Any = np.ones(4) if stage == "sampling_weights" else abs
        tested = stages(asks, **settings)
        for epoch in (0, 1):
            fold(tested, stage, first, epoch=epoch)
        return seen

    def test_a_step_keeps_one_scout_which_judges_a_set_once(self) -> None:
        real = NearestMeanScout()
        steps: list[Step] = []

        def scout_for(step: Step) -> NearestMeanScout:
            steps.append(step)
            return real

        first, second = self.asked("sampling_weights", scout_for=scout_for)
        data = tiny_dataset()

        assert first is second
        assert [str(step) for step in steps] == ["step 1 (asks)"]
        assert_array_equal(first.probabilities(data), NearestMeanScout().probabilities(data))
        first.probabilities(data)
        assert real.asked == ["out_of_fold"]

    def test_after_training_there_is_none_to_ask(self) -> None:
        assert self.asked("build_adjustment", scout_for=lambda step: NearestMeanScout()) == [None, None]

    def test_where_nobody_can_be_asked_there_is_none(self) -> None:
        assert self.asked("sampling_weights") == [None, None]


class TestWhatIsMadeOfResults:
    def test_weights_are_float64_and_rows_contiguous(self) -> None:
        class Careless(Strategy):
            @hookimpl
            def sampling_weights(self, weights: Any) -> Any:
                return weights.astype(np.float16)

            @hookimpl
            def augment_rows(self, images: Any) -> Any:
                return images[:, :, ::-1]

        assert fold(stages(Careless()), "sampling_weights", np.ones(4)).dtype == np.float64
        images = random_images(4)
        mirrored = fold(stages(Careless()), "augment_rows", images)
        assert mirrored.flags.c_contiguous
        assert_array_equal(mirrored, images[:, :, ::-1])


class TestRefusals:
    @pytest.mark.parametrize("stage", STAGES)
    def test_a_forgotten_return_is_named_at_every_stage(self, stage: str) -> None:
        first: Any = (torch.ones(1), torch.ones(1)) if stage == "augment_batch" else some_rows()

        assert refusal(stage, first, None) == (
            f"step 1 (returns), {stage} returned nothing; end it with a return statement"
        )

    @pytest.mark.parametrize(
        ("value", "told"),
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
    def test_a_rewritten_training_set_must_descend_from_the_one_given(self, value: Any, told: str) -> None:
        assert refusal("rewrite_training_set", some_rows(), value) == (
            f"step 1 (returns), rewrite_training_set must return {told}"
        )

    @pytest.mark.parametrize(
        ("value", "told"),
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
    def test_weights_must_be_fit_to_draw_by(self, value: Any, told: str) -> None:
        assert (
            refusal("sampling_weights", np.ones(3), value) == f"step 1 (returns), sampling_weights must return {told}"
        )

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            (random_images(1), "ndarray uint8 (1, 4, 4, 1)"),
            (random_images(2).astype(np.float32), "ndarray float32 (2, 4, 4, 1)"),
            ("images", "str"),
        ],
    )
    def test_augmented_rows_keep_shape_and_type(self, value: Any, told: str) -> None:
        assert refusal("augment_rows", some_rows().images[[0, 1]], value) == (
            f"step 1 (returns), augment_rows must return uint8 images of shape (2, 4, 4, 1), not {told}"
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
    def test_an_augmented_batch_is_a_pair_like_the_one_given(self, value: Any) -> None:
        first = (torch.ones(2, 1, 4, 4), torch.ones(2, 3))
        told = refusal("augment_batch", first, value)

        assert told.endswith("a pair: images and targets with the shapes and dtypes that it was given")

    @pytest.mark.parametrize("value", [[], torch.ones(2, 1, 4, 4), [torch.ones(2, 1, 4, 5)]])
    def test_views_are_a_list_of_images_like_those_given(self, value: Any) -> None:
        told = refusal("predict_views", [torch.ones(2, 1, 4, 4)], value)

        assert told.endswith("a list of views with the shape and dtype of the images")

    @pytest.mark.parametrize("stage", ["prepare_model", "refine_model", "build_loss", "build_adjustment"])
    def test_models_losses_and_adjustments_can_be_called(self, stage: str) -> None:
        assert refusal(stage, abs, 3) == f"step 1 (returns), {stage} must return a callable, not int"

    def test_whatever_a_strategy_raises_becomes_one_line_that_names_the_step(self) -> None:
        with pytest.raises(StrategyError) as caught:
            fold(stages(raising(KeyError("two\nlines"))), "rewrite_training_set", some_rows())

        assert str(caught.value) == r"step 1 (fails), rewrite_training_set: KeyError: 'two\nlines'"
        assert isinstance(caught.value.__cause__, KeyError)

    def test_an_error_for_people_keeps_its_kind(self) -> None:
        with pytest.raises(PluginError, match=r"^step 1 \(fails\), rewrite_training_set: no such sampler$"):
            fold(stages(raising(PluginError("no such sampler"))), "rewrite_training_set", some_rows())

    def test_an_error_of_a_strangers_own_kind_is_told_as_the_kind_it_was_made_from(self) -> None:
        class TwoPartError(PluginError):
            def __init__(self, what: str, where: str) -> None:
                super().__init__(f"{what} in {where}")

        with pytest.raises(PluginError, match=r"rewrite_training_set: dust in the lens$"):
            fold(stages(raising(TwoPartError("dust", "the lens"))), "rewrite_training_set", some_rows())

    def test_a_run_that_is_interrupted_is_not_a_strategys_fault(self) -> None:
        with pytest.raises(KeyboardInterrupt):
            fold(stages(raising(KeyboardInterrupt())), "rewrite_training_set", some_rows())


@dataclass
class Log:
    """An observer that cannot be hashed, as mutable data classes cannot."""

    told: list[str] = field(default_factory=list)

    @hookimpl
    def run_started(self, run: RunIdentity) -> None:
        self.told.append(f"started {run.recipe}")


class TestObservers:
    def test_strategies_and_trackers_are_told(self) -> None:
        class Listens(Strategy):
            @hookimpl
            def run_started(self, run: RunIdentity) -> None:
                log.told.append("strategy")

        log = Log()
        observers = Observers([Listens(), AppendLetter(letter="a"), log])
        observers.notify("run_started", run=IDENTITY)
        observers.notify("run_finished", run=IDENTITY, curve=())

        assert sorted(log.told) == ["started r", "strategy"]
        assert not observers.failures

    def test_who_fails_is_named_and_told_no_more_and_the_others_are_told(self) -> None:
        class Fails:
            @hookimpl
            def run_started(self, run: RunIdentity) -> None:
                raise ConnectionError("server\naway")

            @hookimpl
            def run_finished(self, run: RunIdentity) -> None:
                log.told.append("not to be told")

        log = Log()
        observers = Observers([Fails(), log])
        observers.notify("run_started", run=IDENTITY)
        observers.notify("run_finished", run=IDENTITY, curve=())

        assert log.told == ["started r"]
        assert observers.failures == ["Fails failed at run_started and was disabled: ConnectionError: server away"]

    def test_a_misspelt_hook_of_a_tracker_is_named(self) -> None:
        class Misspelt:
            @hookimpl
            def run_startet(self, run: RunIdentity) -> None: ...

        with pytest.raises(
            PluginError, match=r"^Misspelt cannot have a hook 'run_startet'; did you mean 'run_started'\?$"
        ):
            Observers([Misspelt()])

    def test_a_misspelt_argument_of_a_tracker_is_named(self) -> None:
        class Misspelt:
            @hookimpl
            def run_started(self, runs: RunIdentity) -> None: ...

        with pytest.raises(PluginError, match=r"^Misspelt: .*'runs'.* can not be found in the hookspec$"):
            Observers([Misspelt()])

    def test_a_tracker_acts_at_no_stage(self) -> None:
        class Meddles:
            @hookimpl
            def build_adjustment(self, adjust: Any) -> Any:
                return adjust

        with pytest.raises(
            PluginError, match="^Meddles cannot have a hook 'build_adjustment'; known: epoch_finished, run"
        ):
            Observers([Meddles()])
