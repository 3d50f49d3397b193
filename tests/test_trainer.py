"""The training loop: reproducible, resumable, and faithful to every stage."""

import random
import time
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from fer_augment import Effect, Loss, Model, RunError, Strategy, hookimpl
from fer_augment.losses import mse
from fer_augment.metrics import score
from fer_augment.randomness import stream_key
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.testing import tiny_dataset
from fer_augment.training.device_images import ResidentImages, as_batch, fit_on
from fer_augment.training.optimization import learning_rate, make_optimizer
from fer_augment.training.row_stream import RowStream
from fer_augment.training.torch_runtime import reproducible
from fer_augment.training.trainer import mean_loss, predict, refine, train
from tests.tiny_training import LOSS, same_bits, tiny_convnet, tiny_splits, training_of, weights_of

OPTIMIZERS = ("adam", "adamw", "sgd")


class Interruption(BaseException):
    """Comes from outside, like Ctrl-C."""


class Recorder(Strategy):
    """Implements every training stage, changes nothing, and notes what it is told."""

    told: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def note(self, stage: str, **what: Any) -> None:
        self.told.append((stage, what))

    @hookimpl
    def prepare_model(self, model, context):
        self.note("prepare_model")
        return model

    @hookimpl
    def sampling_weights(self, weights, training_set, epoch):
        self.note("sampling_weights", epoch=epoch, rows=len(training_set))
        return weights

    @hookimpl
    def build_loss(self, loss, class_prior, epoch):
        self.note("build_loss", epoch=epoch, prior=class_prior)
        return loss

    @hookimpl
    def augment_rows(self, images, labels, rows, draws, training_set, epoch):
        assert (training_set.images[rows] == images).all()
        assert (training_set.labels[rows] == labels).all()
        self.note("augment_rows", epoch=epoch, rows=rows, draws=draws)
        return images

    @hookimpl
    def augment_batch(self, images, targets, rows, epoch):
        self.note("augment_batch", epoch=epoch, images=images.clone(), targets=targets.clone(), rows=rows)
        return images, targets

    @hookimpl
    def refine_model(self, model):
        self.note("refine_model", training=model.training)
        return model


@pytest.fixture
def recorder():
    Recorder.told.clear()
    return Recorder()


def told(stage):
    return [what for name, what in Recorder.told if name == stage]


class TestTheSameTrainingGivesTheSameBits:
    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_with_the_same_seed_and_no_other(self, precision):
        once, again, other = (
            weights_of(train(training_of(seed=seed, precision=precision)).model) for seed in (0, 0, 1)
        )
        assert same_bits(once, again)
        assert not same_bits(once, other)

    def test_whatever_the_order_of_rows(self):
        data = tiny_dataset()
        shuffled = data.take(np.random.default_rng(3).permutation(len(data)))
        once, again = (train(training_of(data=rows)) for rows in (data, shuffled))
        assert same_bits(weights_of(once.model), weights_of(again.model))
        assert once.curve == again.curve

    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    @pytest.mark.parametrize("stopped_after", [1, 2, 3])
    def test_wherever_it_was_interrupted(self, optimizer, stopped_after, tmp_path):
        training = training_of(optimizer=optimizer, evaluate_every=1, schedule="one_cycle")
        whole = train(training)
        checkpoint = tmp_path / "checkpoint"

        def interrupt(evaluation):
            if evaluation.epoch == stopped_after + 1:
                raise Interruption

        started = time.monotonic()
        with pytest.raises(Interruption):
            train(training, checkpoint=checkpoint, evaluated=interrupt, seconds_between_checkpoints=0)
        seen = []
        interrupted = time.monotonic()
        resumed = train(training, checkpoint=checkpoint, evaluated=seen.append, seconds_between_checkpoints=0)
        assert 0 == whole.seconds_before < resumed.seconds_before < interrupted - started
        assert [evaluation.epoch for evaluation in seen] == list(range(stopped_after + 1, 5))
        assert same_bits(weights_of(resumed.model), weights_of(whole.model))
        assert resumed.curve == whole.curve
        np.testing.assert_array_equal(resumed.class_prior, whole.class_prior)

    def test_between_evaluations_too(self, tmp_path):
        training = training_of(epochs=3, evaluate_every=3)
        whole = train(training)
        checkpoint = tmp_path / "checkpoint"
        steps = []

        def interrupt(done, total):
            steps.append(done)
            if done == 2 * training.steps_per_epoch + 1:
                raise Interruption

        with pytest.raises(Interruption):
            train(training, checkpoint=checkpoint, progress=interrupt, seconds_between_checkpoints=0)
        assert train(training, checkpoint=checkpoint).curve == whole.curve

    def test_and_leaves_no_trace_in_the_process(self):
        torch.manual_seed(5)
        states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        threads = torch.get_num_threads()
        train(training_of(threads=2))
        assert torch.equal(states[0], torch.get_rng_state())
        assert (states[1] == np.random.get_state()[1]).all()
        assert states[2] == random.getstate()
        assert torch.get_num_threads() == threads
        assert not torch.are_deterministic_algorithms_enabled()

    @pytest.mark.parametrize("mode", [0, 1, 2])
    def test_and_asks_for_deterministic_kernels_meanwhile(self, mode):
        torch.set_deterministic_debug_mode(mode)
        try:
            with reproducible(TrainingSettings(), 0):
                assert torch.get_deterministic_debug_mode() == 2
            assert torch.get_deterministic_debug_mode() == mode
        finally:
            torch.set_deterministic_debug_mode(0)

    def test_a_damaged_checkpoint_is_refused(self, tmp_path):
        checkpoint = tmp_path / "checkpoint"
        checkpoint.write_bytes(b"not a checkpoint")
        with pytest.raises(RunError, match=r"checkpoint: not a readable checkpoint .*; delete it to start over"):
            train(training_of(), checkpoint=checkpoint)


def test_fifty_steps_are_those_of_a_plain_loop():
    """The loop everybody writes: contiguous float32, unfused optimizer, the same rows."""

    def without_dropout(shape, classes):
        network = tiny_convnet(shape, classes)
        network.features[-1].p = 0.0
        return network

    training = training_of(model=Model("plain", "", without_dropout), epochs=13, evaluate_every=1, learning_rate=1e-3)
    losses = [evaluation.training_loss for evaluation in train(training).curve]

    data = training.training_set
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_key(0, "torch") >> 1)
        model = without_dropout(data.image_shape, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    rows = RowStream(data.row_keys(), seed=0)
    plain = []
    for epoch in range(13):
        epoch_losses = []
        for batch in rows.epoch(epoch, np.ones(len(data)), 4 * 16).reshape(4, 16):
            images = torch.from_numpy(data.images[batch].transpose(0, 3, 1, 2).copy()).float() / 255
            loss = torch.nn.functional.cross_entropy(model(images), torch.from_numpy(data.labels[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            epoch_losses.append(loss.item())
        plain.append(np.mean(epoch_losses))
    assert losses == pytest.approx(plain, abs=1e-5)


class TestResidentImages:
    def test_give_the_batches_that_are_gathered_row_by_row(self):
        data = tiny_dataset()
        grown = data.append(255 - data.images[[3, 5]], parents=[3, 5]).take([50, 1, 1, 49, 7])
        rows = np.array([4, 0, 3, 0, 2])
        resident = ResidentImages(grown.images, "cpu")
        batch = resident.batch(torch.from_numpy(rows))
        expected = as_batch(grown.images[rows], "cpu")
        assert torch.equal(batch, expected) and batch.stride() == expected.stride()

    def test_train_to_the_same_bits(self, monkeypatch):
        gathered = weights_of(train(training_of()).model)
        monkeypatch.setattr("fer_augment.training.trainer.fit_on", lambda device, images: True)
        assert same_bits(weights_of(train(training_of()).model), gathered)

    def test_are_not_used_where_rows_are_augmented(self, monkeypatch, recorder):
        monkeypatch.setattr("fer_augment.training.trainer.fit_on", lambda device, images: True)
        monkeypatch.setattr(ResidentImages, "batch", None)
        train(training_of(recorder, epochs=1))
        assert len(told("augment_rows")) == 4

    def test_stay_off_the_cpu_where_images_are_already(self):
        assert not fit_on("cpu", tiny_dataset().images)


class TestStages:
    def test_are_called_once_a_run_an_epoch_or_a_batch(self, recorder):
        train(training_of(recorder, epochs=3))
        names = [name for name, _ in Recorder.told]
        assert names == [
            "prepare_model",
            *["sampling_weights", "build_loss", *["augment_rows", "augment_batch"] * 4] * 3,
        ]
        assert [what["epoch"] for what in told("build_loss")] == [0, 1, 2]

    def test_refining_is_a_stage_of_its_own(self, recorder):
        training = training_of(recorder, epochs=1)
        first = train(training)
        Recorder.told.clear()
        refined = refine(training, first)
        assert [name for name, _ in Recorder.told] == ["refine_model"]
        assert refined.model is first.model and not refined.model.training
        assert (refined.optimizer_steps, refined.curve) == (first.optimizer_steps, first.curve)

    def test_batches_are_full_and_every_row_is_seen_before_any_is_seen_again(self, recorder):
        train(training_of(recorder, epochs=49))  # 49 rows, 4 steps of 16: the ends of passes and epochs never meet
        batches = [what["rows"] for what in told("augment_rows")]
        assert {len(rows) for rows in batches} == {16}
        seen = np.concatenate(batches)
        for start in range(0, len(seen) - 48, 49):
            assert sorted(seen[start : start + 49]) == list(range(49))

    def test_draws_count_how_often_a_row_came_before_in_the_epoch(self, recorder):
        train(training_of(recorder, epochs=2))
        for epoch in (0, 1):
            batches = [what for what in told("augment_rows") if what["epoch"] == epoch]
            rows, draws = (np.concatenate([batch[name] for batch in batches]) for name in ("rows", "draws"))
            assert [int((rows[:place] == row).sum()) for place, row in enumerate(rows)] == draws.tolist()

    def test_a_batch_is_the_rows_in_unit_range_with_one_hot_targets(self, recorder):
        training = training_of(recorder, epochs=1)
        train(training)
        batch = told("augment_batch")[0]
        expected = training.training_set.images[batch["rows"]].transpose(0, 3, 1, 2) / np.float32(255)
        np.testing.assert_allclose(batch["images"].numpy(), expected, rtol=0, atol=1e-7)
        assert batch["images"].dtype == batch["targets"].dtype == torch.float32
        np.testing.assert_array_equal(batch["targets"].numpy(), np.eye(3)[training.training_set.labels[batch["rows"]]])

    def test_what_prepare_model_returns_is_trained(self):
        class Zero(Strategy):
            """Starts from a head of zeros."""

            @hookimpl
            def prepare_model(self, model):
                torch.nn.init.zeros_(model.head.weight)
                torch.nn.init.zeros_(model.head.bias)
                return model

        training = training_of(Zero(), epochs=1, learning_rate=1e-12)
        logits = predict(train(training).model, training.validation, training.settings)
        np.testing.assert_allclose(logits, 0, atol=1e-6)

    def test_rows_are_drawn_by_their_weights_and_the_class_prior_says_so(self, recorder):
        class OnlyBees(Strategy):
            """Draws rows of one class only."""

            @hookimpl
            def sampling_weights(self, weights, training_set):
                return weights * (training_set.labels == 1)

        training = training_of(OnlyBees(), recorder)
        trained = train(training)
        drawn = np.concatenate([what["rows"] for what in told("augment_rows")])
        assert set(training.training_set.labels[drawn]) == {1}
        assert len(set(drawn.tolist())) > 10
        np.testing.assert_array_equal(trained.class_prior, [0, 1, 0])
        np.testing.assert_array_equal(told("build_loss")[0]["prior"], [0, 1, 0])

    def test_the_class_prior_is_that_of_the_last_epoch(self):
        class ThenBees(Strategy):
            @hookimpl
            def sampling_weights(self, weights, training_set, epoch):
                return weights * (training_set.labels == 1) if epoch == 3 else weights

        assert train(training_of(ThenBees())).class_prior.tolist() == [0, 1, 0]

    def test_the_class_prior_of_plain_rows_is_their_shares(self):
        np.testing.assert_allclose(train(training_of()).class_prior, np.array([10, 15, 24]) / 49)

    def test_the_loss_of_an_epoch_is_the_one_that_was_built_for_it(self):
        class Doubling(Strategy):
            """Doubles the loss in the second epoch."""

            @hookimpl
            def build_loss(self, loss, epoch):
                return (lambda logits, targets: 2 * loss(logits, targets)) if epoch == 1 else loss

        settings = {"epochs": 2, "evaluate_every": 1, "optimizer": "sgd", "learning_rate": 1e-9}
        plain, doubled = train(training_of(**settings)).curve, train(training_of(Doubling(), **settings)).curve
        assert doubled[0].training_loss == plain[0].training_loss
        assert doubled[1].training_loss == pytest.approx(2 * plain[1].training_loss, rel=1e-6)
        assert doubled[1].validation_loss == pytest.approx(plain[1].validation_loss, rel=1e-6)

    def test_what_augmenting_stages_return_is_what_the_network_sees(self):
        class Blackened(Strategy):
            """Turns every image black, and every target into the first class."""

            @hookimpl
            def augment_rows(self, images):
                return np.zeros_like(images)

            @hookimpl
            def augment_batch(self, images, targets):
                assert not images.any()
                return images, torch.eye(3)[:1].expand(len(targets), 3).contiguous()

        training = training_of(Blackened(), epochs=20, learning_rate=0.1)
        trained = train(training)
        assert trained.curve[-1].training_loss < 0.01
        assert not predict(trained.model, training.validation, training.settings).argmax(axis=1).any()


class TestTrainingAgain:
    @pytest.fixture
    def again(self):
        class HeadAgain(Strategy):
            """Trains the head again, on rows of one class."""

            seen: ClassVar[list[Any]] = []
            epochs: int = 2

            @hookimpl
            def refine_model(self, model, training_set, context):
                self.seen.append(weights_of(model))
                weights = (training_set.labels == 2).astype(np.float64)
                trained = context.train(model, parameters=model.head.parameters(), weights=weights, epochs=self.epochs)
                self.seen.append(weights_of(trained))
                assert all(parameter.requires_grad for parameter in model.parameters())
                return trained

        HeadAgain.seen.clear()
        return HeadAgain()

    def test_trains_the_given_parameters_and_leaves_statistics_of_others(self, again):
        trained = trained_again(training_of(again))
        before, after = again.seen
        names = list(trained.model.state_dict())
        changed = [name for name, old, new in zip(names, before, after, strict=True) if old.tobytes() != new.tobytes()]
        assert changed == ["head.weight", "head.bias"]
        assert trained.optimizer_steps == (4 + 2) * 4

    def test_draws_by_the_given_weights(self, again, recorder):
        training = training_of(recorder, again)
        refined = trained_again(training)
        assert refined.class_prior.tolist() == [0, 0, 1], "what the head was made of"
        second_stage = [what["rows"] for what in told("augment_rows") if what["epoch"] >= 4]
        assert set(training.training_set.labels[np.concatenate(second_stage)]) == {2}
        assert {what["epoch"] for what in told("build_loss")} == {0, 1, 2, 3, 4, 5}

    def test_goes_on_the_same_after_an_interruption(self, again, tmp_path):
        training = training_of(again)
        whole = weights_of(trained_again(training).model)

        def interrupt(done, total):
            if done == total and total == 2 * training.steps_per_epoch:
                raise Interruption

        with pytest.raises(Interruption):
            refine(training, train(training, checkpoint=tmp_path / "c"), progress=interrupt)
        first = train(training, checkpoint=tmp_path / "c")
        assert same_bits(weights_of(refine(training, first).model), whole)


def trained_again(training):
    return refine(training, train(training))


class TestBudget:
    class Tripled(Strategy):
        """Takes every row three times."""

        @property
        def effects(self) -> Effect:
            return Effect.SHIFTS_CLASS_PRIOR

        @hookimpl
        def rewrite_training_set(self, training_set):
            return training_set.take(np.tile(np.arange(len(training_set)), 3))

    @pytest.mark.parametrize(("budget", "steps"), [("steps", 4 * 4), ("epochs", 4 * 10)])
    def test_of_steps_is_that_of_the_source_rows(self, budget, steps):
        assert train(training_of(self.Tripled(), budget=budget)).optimizer_steps == steps


class TestCurve:
    def test_has_a_point_at_each_evaluation_and_at_the_end(self):
        trained = train(training_of(epochs=5, evaluate_every=2))
        assert [(point.epoch, point.step) for point in trained.curve] == [(2, 8), (4, 16), (5, 20)]

    def test_its_last_point_is_what_the_trained_network_says(self):
        training = training_of(epochs=3)
        trained = train(training)
        logits = predict(trained.model, training.validation, training.settings)
        scores = score(training.validation.labels, logits.argmax(axis=1), 3)
        last = trained.curve[-1]
        assert last.validation_accuracy == scores.accuracy
        assert last.validation_recall == tuple(scores.recall)
        assert last.validation_loss == pytest.approx(mean_loss(LOSS, logits, training.validation.labels))

    def test_selection_is_of_training_rows_as_many_as_the_test_split_has(self):
        training = training_of(epochs=1)
        logits = predict(train(training).model, training.training_set, training.settings)
        losses = [mean_loss(LOSS, logits[[row]], training.training_set.labels[[row]]) for row in range(49)]
        whole = training_of(epochs=1)
        object.__setattr__(whole, "selection_rows", 49)
        assert train(whole).curve[-1].selection_loss == pytest.approx(np.mean(losses), rel=1e-5)
        assert training.selection_rows == len(tiny_splits().test)
        assert train(training).curve[-1].selection_loss != pytest.approx(np.mean(losses), rel=1e-5)

    def test_a_class_without_validation_rows_has_no_recall(self):
        training = training_of(epochs=1)
        bees = training.validation.rows_of(["bee"])
        object.__setattr__(training, "validation", training.validation.without(bees))
        assert train(training).curve[-1].validation_recall[1] is None


class TestDivergence:
    def test_is_an_error_that_names_epoch_and_step(self):
        class Explodes(Strategy):
            """Makes the loss infinite in the third step of the second epoch."""

            @hookimpl
            def augment_batch(self, images, targets, epoch, draws):
                late = epoch == 1 and int(draws.sum()) >= 0 and self.count() == 7
                return images * float("inf") if late else images, targets

            calls: ClassVar[list[int]] = []

            def count(self) -> int:
                return len(self.calls)

            @hookimpl
            def augment_rows(self, images):
                self.calls.append(1)
                return images

        with pytest.raises(RunError, match=r"loss became nan in epoch 2, step 3 of 4; lower training.learning_rate"):
            train(training_of(Explodes()))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_all_optimizers_learn(optimizer):
    trained = train(training_of(optimizer=optimizer, epochs=15))
    assert trained.curve[-1].selection_loss < 0.6 * trained.curve[0].selection_loss


def test_the_reports_loss_learns():
    training = training_of(epochs=15)
    object.__setattr__(training, "loss", Loss("mse", "", mse, over_logits=False))
    curve = train(training).curve
    assert curve[-1].selection_loss < 0.6 * curve[0].selection_loss < 2


class TestLearningRate:
    @pytest.mark.parametrize("steps", [10, 137])
    def test_of_one_cycle_is_torchs(self, steps):
        settings = TrainingSettings(learning_rate=0.3, schedule="one_cycle", optimizer="sgd")
        optimizer = make_optimizer(settings, [torch.nn.Parameter(torch.zeros(1))])
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=steps, cycle_momentum=False)
        for step in range(steps):
            assert learning_rate(settings, step, steps) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
            optimizer.step()
            if step + 1 < steps:
                scheduler.step()

    @pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
    @pytest.mark.parametrize("steps", [1, 2, 3, 4])
    def test_of_the_shortest_trainings_is_positive(self, schedule, steps):
        settings = TrainingSettings(learning_rate=0.3, schedule=schedule)
        assert all(0 < learning_rate(settings, step, steps) <= 0.3 for step in range(steps))

    def test_of_a_cosine_falls_from_the_highest_to_nothing(self):
        settings = TrainingSettings(learning_rate=0.2, schedule="cosine")
        rates = [learning_rate(settings, step, 100) for step in range(100)]
        assert rates[0] == 0.2
        assert rates[50] == pytest.approx(0.1)
        assert rates == sorted(rates, reverse=True)
        assert 0 < rates[-1] < 1e-4


class TestRowStream:
    def test_keys_decide_the_order_whatever_the_places(self):
        keys = np.random.default_rng(0).integers(2**63, size=20).astype(np.uint64)
        places = np.random.default_rng(1).permutation(20)
        once, again = RowStream(keys, 3), RowStream(keys[places], 3)
        weights = np.random.default_rng(2).random(20)
        for epoch in range(3):
            np.testing.assert_array_equal(
                keys[once.epoch(epoch, np.ones(20), 13)], keys[places][again.epoch(epoch, np.ones(20), 13)]
            )
            np.testing.assert_array_equal(
                keys[once.epoch(epoch, weights, 13)], keys[places][again.epoch(epoch, weights[places], 13)]
            )

    def test_draws_in_proportion_to_the_weights(self):
        stream = RowStream(np.arange(4, dtype=np.uint64), 0)
        drawn = np.bincount(stream.epoch(0, np.array([0.0, 1, 2, 5]), 80_000), minlength=4) / 80_000
        np.testing.assert_allclose(drawn, [0, 0.125, 0.25, 0.625], atol=0.006)

    def test_passes_differ_from_each_other(self):
        stream = RowStream(np.arange(50, dtype=np.uint64), 0)
        first, second = stream.epoch(0, np.ones(50), 50), stream.epoch(1, np.ones(50), 50)
        assert sorted(first) == sorted(second) == list(range(50))
        assert (first != second).any()
