"""Settings for fine-tuning, each compared with a minimal loop of torch; resuming; what cannot be combined."""

import copy
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from fer_augment import Model, RecipeError, Strategy, hookimpl
from fer_augment.data.records import Evaluation
from fer_augment.hooks.pipeline import steps_of
from fer_augment.metrics import score
from fer_augment.randomness import stream_key
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.recipe.recipe import Recipe, ScoutSettings, TrainingSettings
from fer_augment.recipe.warnings import recipe_warnings
from fer_augment.training.optimization import learning_rate, make_optimizer
from fer_augment.training.prediction import predict
from fer_augment.training.row_stream import RowStream
from fer_augment.training.selection import Selection, score_of
from fer_augment.training.store import TrainingStore
from fer_augment.training.trainer import refine, seconds_per_step, train
from fer_augment.training.trainings import Trainings
from tests.tiny_training import LOSS, MODEL, same_bits, tiny_convnet, tiny_splits, training_of, weights_of


def without_dropout(shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
    network: Any = tiny_convnet(shape, classes)
    network.features[-1].p = 0.0
    return network


PLAIN = Model("plain", "", without_dropout)
SGD: dict[str, Any] = {"model": PLAIN, "optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.05, "epochs": 3}


class Loop:
    """The network, the batches and the steps of a training, written with torch alone."""

    def __init__(self, training):
        self.data, self.steps = training.training_set, training.steps_per_epoch
        self.epochs = training.settings.epochs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_key(0, "torch") >> 1)
            self.network: Any = training.model.build(self.data.image_shape, 3)
        self.network.train()
        self.rows = RowStream(self.data.row_keys(), seed=0)

    def batches(self):
        """Yield the epoch and the loss of each batch, before its gradient is taken."""
        for epoch in range(self.epochs):
            for rows in self.rows.epoch(epoch, np.ones(len(self.data)), self.steps * 16).reshape(-1, 16):
                images = torch.from_numpy(self.data.images[rows].transpose(0, 3, 1, 2).copy()).float() / 255
                labels = torch.from_numpy(self.data.labels[rows])
                yield (
                    epoch,
                    lambda images=images, labels=labels: torch.nn.functional.cross_entropy(
                        self.network(images), labels
                    ),
                )


def assert_close(network: torch.nn.Module, expected: torch.nn.Module) -> None:
    for name, tensor in expected.state_dict().items():
        actual = network.state_dict()[name]
        np.testing.assert_allclose(actual.detach().numpy(), tensor.detach().numpy(), atol=2e-6, err_msg=name)


def test_backbone_has_its_own_learning_rate():
    training = training_of(**SGD, backbone_learning_rate=0.1)
    loop = Loop(training)
    optimizer = torch.optim.SGD(
        [{"params": loop.network.head.parameters()}, {"params": loop.network.features.parameters(), "lr": 0.005}],
        lr=0.05,
    )
    for _, loss in loop.batches():
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert_close(train(training).model, loop.network)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_factor_of_the_backbone_follows_the_schedule(schedule):
    settings = TrainingSettings(backbone_learning_rate=0.25, schedule=schedule, learning_rate=0.4)
    network: Any = tiny_convnet((16, 14, 1), 3)
    optimizer = make_optimizer(settings, list(network.parameters()), network.features.parameters())
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 6]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_backbone_is_frozen_in_evaluation_mode_for_the_first_epochs(momentum):
    training = training_of(**SGD | {"momentum": momentum}, freeze_epochs=2)
    loop = Loop(training)
    optimizer = torch.optim.SGD(loop.network.parameters(), lr=0.05, momentum=momentum, nesterov=momentum > 0)
    for epoch, loss in loop.batches():
        loop.network.features.train(epoch >= 2)
        for parameter in loop.network.features.parameters():
            parameter.requires_grad_(epoch >= 2)
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    trained = train(training).model
    assert_close(trained, loop.network)
    assert all(parameter.requires_grad for parameter in trained.parameters())


def test_what_a_step_has_frozen_stays_frozen_after_the_frozen_epochs():
    class FreezesTheFirstLayer(Strategy):
        @hookimpl
        def prepare_model(self, model):
            model.features[0].requires_grad_(False)
            return model

    training = training_of(FreezesTheFirstLayer(), **SGD, freeze_epochs=1)
    trained, built = train(training).model, Loop(training).network
    same = {name for name, weight in built.named_parameters() if torch.equal(weight, trained.get_parameter(name))}
    assert same == {"features.0.weight", "features.0.bias"}


def test_backbone_that_is_always_frozen_stays_as_built():
    training = training_of(**SGD, freeze_epochs=3)
    trained, built = train(training).model, Loop(training).network
    changed = [
        name for name, tensor in built.state_dict().items() if not torch.equal(tensor, trained.state_dict()[name])
    ]
    assert changed == ["head.weight", "head.bias"]


def test_learning_rate_rises_linearly_before_the_schedule():
    settings = TrainingSettings(learning_rate=0.3, schedule="cosine", warm_up=2)
    rates = [learning_rate(settings, step, 20, warm_up=8) for step in range(20)]
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.3)
    linear = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 8, total_iters=7)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [linear, cosine], milestones=[8])
    for rate in rates:
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        scheduler.step()
    assert rates[7] == rates[8] == 0.3


@pytest.mark.parametrize(("warm_up", "steps"), [(0.5, 2), (1.75, 7), (3.0, 12)])
def test_warm_up_is_counted_in_epochs(warm_up, steps):
    training = training_of(**SGD, warm_up=warm_up)
    loop = Loop(training)
    optimizer = torch.optim.SGD(loop.network.parameters(), lr=0.05)
    for step, (_, loss) in enumerate(loop.batches()):
        optimizer.param_groups[0]["lr"] = 0.05 * min((step + 1) / steps, 1)
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert_close(train(training).model, loop.network)


def test_gradient_is_clipped_to_its_norm():
    training = training_of(**SGD, gradient_clipping=0.05)
    loop = Loop(training)
    optimizer = torch.optim.SGD(loop.network.parameters(), lr=0.05)
    norms = []
    for _, loss in loop.batches():
        optimizer.zero_grad()
        loss().backward()
        norm = torch.cat([parameter.grad.flatten() for parameter in loop.network.parameters()]).norm()
        norms.append(float(norm))
        for parameter in loop.network.parameters():
            parameter.grad.mul_(min(0.05 / float(norm), 1))
        optimizer.step()
    assert min(norms) > 0.05, "every step is clipped"
    assert_close(train(training).model, loop.network)


class TestWeightAverage:
    def loop(self, training, decay):
        loop = Loop(training)
        optimizer = torch.optim.SGD(loop.network.parameters(), lr=0.05)
        average = copy.deepcopy(loop.network)
        for update, (_, loss) in enumerate(loop.batches(), 1):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
            present, kept = loop.network.state_dict(), min(decay, update / (update + 9))
            for name, tensor in average.state_dict().items():
                is_number = tensor.is_floating_point()
                tensor.copy_(kept * tensor + (1 - kept) * present[name] if is_number else present[name])
        return average

    @pytest.mark.parametrize("decay", [0.3, 0.99])
    def test_is_that_of_a_minimal_loop_with_the_statistics_of_batch_norm(self, decay):
        training = training_of(**SGD, weight_average=decay)
        assert_close(train(training).model, self.loop(training, decay))

    def test_is_what_is_evaluated(self):
        training = training_of(**SGD, weight_average=0.9)
        trained = train(training)
        logits = predict(trained.model, training.validation, training.settings)
        scores = score(training.validation.labels, logits.argmax(axis=1), 3)
        assert trained.curve[-1].validation_recall == tuple(scores.recall)

    def test_shared_tensors_are_averaged_once(self):
        def twice(shape: tuple[int, int, int], classes: int):
            network: Any = without_dropout(shape, classes)
            network.register_parameter("again", network.head.weight)
            return network

        once, again = (
            train(training_of(**{**SGD, "model": model}, weight_average=0.5)).model
            for model in (PLAIN, Model("twice", "", twice))
        )
        assert torch.equal(cast("Any", once).head.weight, cast("Any", again).head.weight)

    def test_second_stage_is_averaged_too(self):
        class Again(Strategy):
            @hookimpl
            def refine_model(self, model, context):
                return context.train(model, epochs=1)

        training = training_of(Again(), **SGD, weight_average=0.999)
        plain = training_of(Again(), **SGD)
        first = train(training)
        before = weights_of(first.model)
        refined = weights_of(refine(training, first).model)
        other = train(plain)
        for tensor, values in zip(other.model.state_dict().values(), before, strict=True):
            tensor.copy_(torch.from_numpy(values))
        moved, moved_plainly = (
            np.abs(after[0] - before[0]).max() for after in (refined, weights_of(refine(plain, other).model))
        )
        assert 0 < moved < moved_plainly


class Worsens(Strategy):
    """Makes every target wrong from an epoch on, so that validation gets worse."""

    from_epoch: int = 2

    @hookimpl
    def augment_batch(self, images, targets, epoch):
        return images, targets.roll(1, dims=1) if epoch >= self.from_epoch else targets


def worsening(*strategies: Strategy, from_epoch: int = 4, **settings: Any):
    """Return a training that is evaluated on its own rows, and gets worse from an epoch on."""
    defaults: dict[str, Any] = {"evaluate_every": 1, "keep": "best", "epochs": 8, "learning_rate": 0.02}
    training = training_of(Worsens(from_epoch=from_epoch), *strategies, **defaults | settings)
    object.__setattr__(training, "validation", training.training_set)
    return training


class TestKeepBest:
    @pytest.mark.parametrize("metric", ["balanced_accuracy", "accuracy", "loss"])
    def test_weights_are_those_of_the_best_evaluation(self, metric):
        training = worsening(metric=metric)
        trained = train(training)
        scores = [score_of(point, metric) for point in trained.curve]
        assert len(scores) == 8
        assert trained.kept_epoch == 1 + int(np.argmax(scores)) < 8
        until = worsening(keep="last", epochs=trained.kept_epoch)
        assert same_bits(weights_of(trained.model), weights_of(train(until).model))
        assert trained.optimizer_steps == 8 * training.steps_per_epoch

    def test_class_prior_is_that_of_the_epoch_kept(self):
        class ThenBees(Strategy):
            @hookimpl
            def sampling_weights(self, weights, training_set, epoch):
                return weights * (training_set.labels == 1) if epoch > 4 else weights

        trained = train(worsening(ThenBees()))
        assert trained.kept_epoch <= 5
        np.testing.assert_allclose(trained.class_prior, np.array([10, 15, 24]) / 49)

    @pytest.mark.parametrize("patience", [1, 3])
    def test_training_stops_when_patience_is_exhausted(self, patience):
        trained = train(worsening(patience=patience, epochs=12))
        scores = [score_of(point, "balanced_accuracy") for point in trained.curve]
        assert len(scores) == trained.kept_epoch + patience < 12
        assert trained.kept_epoch == 1 + int(np.argmax(scores))
        assert trained.optimizer_steps == len(scores) * 4, "the steps that were taken"

    def test_patience_counts_evaluations(self):
        trained = train(worsening(evaluate_every=2, patience=1, epochs=12))
        assert [point.epoch for point in trained.curve][-1] == trained.kept_epoch + 2

    def test_average_is_what_is_kept(self):
        trained = train(worsening(weight_average=0.8))
        until = worsening(weight_average=0.8, keep="last", epochs=trained.kept_epoch)
        assert same_bits(weights_of(trained.model), weights_of(train(until).model))

    def test_of_equal_scores_the_first_is_kept(self):
        selection, network = Selection("accuracy", None), torch.nn.Linear(1, 1)
        for epoch, accuracy in enumerate([0.5, 0.75, 0.75, 0.6], 1):
            selection.consider(evaluation(epoch, accuracy), network, np.ones(2) / 2)
        assert (selection.epoch, selection.without_improvement) == (2, 2)

    def test_classes_without_validation_rows_do_not_count(self):
        assert score_of(evaluation(1, 0.5, recall=(0.5, None, 1.0)), "balanced_accuracy") == 0.75


def evaluation(epoch: int, accuracy: float, recall: tuple[float | None, ...] = (1.0,)) -> Evaluation:
    return Evaluation(
        epoch=epoch,
        step=epoch,
        training_loss=1,
        selection_loss=1,
        validation_loss=1,
        validation_accuracy=accuracy,
        validation_recall=recall,
    )


class Interruption(BaseException):
    """An interruption such as Ctrl-C."""


EVERYTHING: dict[str, Any] = {
    "evaluate_every": 1,
    "epochs": 5,
    "schedule": "cosine",
    "warm_up": 1.5,
    "freeze_epochs": 2,
    "backbone_learning_rate": 0.3,
    "gradient_clipping": 0.5,
    "weight_average": 0.9,
    "keep": "best",
    "patience": 4,
}


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("stopped_after", [1, 2, 4])
@pytest.mark.parametrize("threads", [1, 2])
def test_resumed_training_is_identical_with_every_setting(optimizer, stopped_after, threads, tmp_path):
    training = worsening(from_epoch=3, **EVERYTHING, optimizer=optimizer, threads=threads)
    whole = train(training)
    checkpoint = tmp_path / "checkpoint"

    def interrupt(point):
        if point.epoch == stopped_after + 1:
            raise Interruption

    with pytest.raises(Interruption):
        train(training, checkpoint=checkpoint, evaluated=interrupt, seconds_between_checkpoints=0)
    resumed = train(training, checkpoint=checkpoint)
    assert same_bits(weights_of(resumed.model), weights_of(whole.model))
    assert (resumed.curve, resumed.kept_epoch, resumed.optimizer_steps) == (
        whole.curve,
        whole.kept_epoch,
        whole.optimizer_steps,
    )
    np.testing.assert_array_equal(resumed.class_prior, whole.class_prior)


def test_training_that_stopped_early_is_not_continued_from_its_checkpoint(tmp_path):
    training = worsening(patience=1)
    whole = train(training, checkpoint=tmp_path / "checkpoint")
    points: list[Evaluation] = []
    again = train(training, checkpoint=tmp_path / "checkpoint", evaluated=points.append)
    assert tuple(points) == again.curve == whole.curve, "earlier points are repeated, none is added"
    assert same_bits(weights_of(again.model), weights_of(whole.model))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "one_cycle", "warm_up": 1}, "warm_up: schedule one_cycle has a warm-up of its own"),
        ({"warm_up": 31}, "warm_up is 31, more than epochs, 30"),
        ({"freeze_epochs": 31}, "freeze_epochs is 31, more than epochs, 30"),
        ({"freeze_epochs": 5, "scout": {"epochs": 4}}, "freeze_epochs is 5, more than scout.epochs, 4"),
        ({"patience": 2}, "patience: stopping early needs `keep: best`"),
        ({"weight_average": 1}, "should be less than 1"),
        ({"gradient_clipping": 0}, "should be greater than 0"),
        ({"backbone_learning_rate": 0}, "should be greater than 0"),
    ],
)
def test_what_cannot_be_combined_is_refused_by_name(settings, message):
    with pytest.raises(RecipeError, match=message):
        Recipe(name="r", model="vgg_tiny", training=settings)


def test_scout_may_be_as_short_as_the_frozen_epochs():
    assert TrainingSettings(freeze_epochs=4, scout=ScoutSettings(epochs=4)).shortest == 4


@pytest.mark.parametrize("setting", [{"freeze_epochs": 1}, {"backbone_learning_rate": 0.5}])
def test_network_without_a_backbone_is_refused_before_training(setting, tmp_path):
    def featureless(shape: tuple[int, int, int], classes: int):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(shape[0] * shape[1], classes))

    bound = bound_to(Model("featureless", "", featureless), **setting)
    recipe = Trainings(tiny_splits(), 0, TrainingStore(tmp_path / "store")).of(bound)
    with pytest.raises(RecipeError, match=rf"training.{next(iter(setting))}: .* featureless has no such module"):
        recipe.check()


def bound_to(model: Model = MODEL, *strategies: Strategy, **settings: Any) -> BoundRecipe:
    recipe = Recipe(name="r", model="tiny_convnet", training=settings)
    return BoundRecipe(recipe, steps_of(strategies), model, LOSS, ())


def test_warnings_of_selection():
    class Late(Strategy):
        @property
        def acts_from(self) -> int:
            return 7

        @hookimpl
        def sampling_weights(self, weights):
            return weights

    few = bound_to(epochs=5, keep="best")
    assert "a single evaluation to choose from" in recipe_warnings(few)[0]
    late = recipe_warnings(bound_to(MODEL, Late(), epochs=10, keep="best", evaluate_every=2))
    assert late == (
        "With `keep: best`, the weights of an epoch before step 1 (late) starts, at epoch 7 counted from 0, may be "
        "kept.",
    )
    assert not recipe_warnings(replace(few, recipe=few.recipe.model_copy(update={"training": TrainingSettings()})))


def test_steps_with_a_frozen_backbone_are_timed_without_its_gradient():
    training, is_trained = training_of(**SGD, freeze_epochs=1), []

    class Watches(Strategy):
        @hookimpl
        def prepare_model(self, model):
            model.features.register_forward_hook(lambda module, images, output: is_trained.append(output.requires_grad))
            return model

    training = training_of(Watches(), **SGD, freeze_epochs=1)
    for is_frozen in (False, True):
        assert seconds_per_step(training, steps=1, is_frozen=is_frozen) > 0
    assert is_trained == [True, True, False, False]
