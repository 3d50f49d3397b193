"""The training loop: reproducibility, checkpoints, stages, curves, and learning rates."""

import random
import time
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from fer_augment import Effect, ImageDataset, Loss, Model, RunError, SourceRows, Strategy, hookimpl
from fer_augment.data.records import Evaluation
from fer_augment.losses import mse
from fer_augment.metrics import score
from fer_augment.randomness import stream_key
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.testing import tiny_dataset
from fer_augment.training.device_images import ResidentImages, as_batch, fit_on
from fer_augment.training.optimization import learning_rate, make_optimizer
from fer_augment.training.prediction import mean_loss, predict
from fer_augment.training.row_stream import RowStream
from fer_augment.training.torch_runtime import reproducible
from fer_augment.training.trainer import refine, train
from tests.tiny_training import LOSS, same_bits, tiny_convnet, tiny_splits, training_of, weights_of

OPTIMIZERS = ("adam", "adamw", "sgd")


class Interruption(KeyboardInterrupt):
    """An interruption such as Ctrl-C."""


class Recorder(Strategy):
    """Implements every training stage, changes nothing, and records calls with their arguments."""

    calls: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def record(self, stage: str, **arguments: Any) -> None:
        self.calls.append((stage, arguments))

    @hookimpl
    def prepare_model(self, model, context):
        self.record("prepare_model")
        return model

    @hookimpl
    def sampling_weights(self, weights, training_set, epoch):
        self.record("sampling_weights", epoch=epoch, rows=len(training_set))
        return weights

    @hookimpl
    def build_loss(self, loss, class_prior, epoch):
        self.record("build_loss", epoch=epoch, prior=class_prior)
        return loss

    @hookimpl
    def augment_rows(self, images, labels, rows, draws, training_set, epoch):
        assert (training_set.images[rows] == images).all()
        assert (training_set.labels[rows] == labels).all()
        self.record("augment_rows", epoch=epoch, rows=rows, draws=draws)
        return images

    @hookimpl
    def augment_batch(self, images, targets, rows, epoch):
        self.record("augment_batch", epoch=epoch, images=images.clone(), targets=targets.clone(), rows=rows)
        return images, targets

    @hookimpl
    def refine_model(self, model):
        self.record("refine_model", training=model.training)
        return model


@pytest.fixture
def recorder():
    Recorder.calls.clear()
    return Recorder()


def calls_of(stage):
    return [arguments for name, arguments in Recorder.calls if name == stage]


def precisions():
    backends: Any = torch.backends
    operations = [backends.cudnn.conv, backends.cuda.matmul, backends.mkldnn.matmul, backends.mkldnn.conv]
    exact = [operation.fp32_precision.replace("none", "ieee") for operation in operations]
    return exact, backends.cudnn.benchmark


DEFAULT_PRECISIONS = ["tf32", "ieee", "ieee", "ieee"], False


@contextmanager
def lower_precision():
    cudnn = torch.backends.cudnn
    torch.set_float32_matmul_precision("medium")
    cudnn.benchmark, cudnn.allow_tf32 = True, False
    try:
        yield
        assert torch.get_float32_matmul_precision() == "medium" and not cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
        cudnn.benchmark, cudnn.allow_tf32 = False, True


@contextmanager
def lower_precision_of_an_operation():
    """Set it through the newer interface, after which torch refuses to read the older one."""
    mkldnn: Any = torch.backends.mkldnn
    operations = mkldnn.matmul, mkldnn.conv
    for operation in operations:
        operation.fp32_precision = "bf16"
    try:
        yield
    finally:
        for operation in operations:
            operation.fp32_precision = "none"


class TestReproducibility:
    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_weights_are_identical_for_the_same_seed_only(self, precision):
        once, again, other = (
            weights_of(train(training_of(seed=seed, precision=precision)).model) for seed in (0, 0, 1)
        )
        assert same_bits(once, again)
        assert not same_bits(once, other)

    def test_weights_do_not_depend_on_the_order_of_rows(self):
        data = tiny_dataset()
        shuffled = data.take(np.random.default_rng(3).permutation(len(data)))
        once, again = (train(training_of(data=rows)) for rows in (data, shuffled))
        assert same_bits(weights_of(once.model), weights_of(again.model))
        assert once.curve == again.curve

    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    @pytest.mark.parametrize("stopped_after", [1, 2, 3])
    def test_resumed_training_is_identical(self, optimizer, stopped_after, tmp_path):
        training = training_of(optimizer=optimizer, evaluate_every=1, schedule="one_cycle")
        whole = train(training)
        checkpoint = tmp_path / "checkpoint"

        def interrupt(evaluation):
            if evaluation.epoch == stopped_after + 1:
                raise Interruption

        started = time.monotonic()
        with pytest.raises(Interruption):
            train(training, checkpoint=checkpoint, evaluated=interrupt, seconds_between_checkpoints=0)
        evaluations: list[Evaluation] = []
        interrupted = time.monotonic()
        resumed = train(training, checkpoint=checkpoint, evaluated=evaluations.append, seconds_between_checkpoints=0)
        assert 0 == whole.seconds_before < resumed.seconds_before < interrupted - started
        assert [evaluation.epoch for evaluation in evaluations] == [1, 2, 3, 4]  # earlier ones are reported again
        assert same_bits(weights_of(resumed.model), weights_of(whole.model))
        assert resumed.curve == whole.curve
        np.testing.assert_array_equal(resumed.class_prior, whole.class_prior)

    def test_resumed_between_evaluations_gives_the_same_curve(self, tmp_path):
        training = training_of(epochs=3, evaluate_every=3)
        whole = train(training)
        checkpoint = tmp_path / "checkpoint"

        def interrupt(done, total):
            if done == 2 * training.steps_per_epoch + 1:
                raise Interruption

        with pytest.raises(Interruption):
            train(training, checkpoint=checkpoint, progress=interrupt, seconds_between_checkpoints=0)
        assert train(training, checkpoint=checkpoint).curve == whole.curve

    def test_global_state_is_restored(self):
        torch.manual_seed(5)
        states = torch.get_rng_state(), np.random.get_state(legacy=False), random.getstate()
        threads = torch.get_num_threads()
        train(training_of(threads=2))
        assert torch.equal(states[0], torch.get_rng_state())
        np.testing.assert_equal(np.random.get_state(legacy=False), states[1])
        assert states[2] == random.getstate()
        assert torch.get_num_threads() == threads
        assert not torch.are_deterministic_algorithms_enabled()

    @pytest.mark.parametrize("change", [lower_precision, lower_precision_of_an_operation])
    def test_precision_set_by_the_program_changes_no_weights_and_is_restored(self, change):
        plain = weights_of(train(training_of(epochs=1)).model)
        with change():
            before = precisions()
            assert before != DEFAULT_PRECISIONS
            with reproducible(TrainingSettings(), 0):
                assert precisions() == DEFAULT_PRECISIONS
            assert same_bits(weights_of(train(training_of(epochs=1)).model), plain)
            assert precisions() == before

    @pytest.mark.parametrize("mode", [0, 1, 2])
    def test_deterministic_kernels_are_set_temporarily(self, mode):
        torch.set_deterministic_debug_mode(mode)
        try:
            with reproducible(TrainingSettings(), 0):
                assert torch.get_deterministic_debug_mode() == 2
            assert torch.get_deterministic_debug_mode() == mode
        finally:
            torch.set_deterministic_debug_mode(0)

    def test_damaged_checkpoint_is_refused(self, tmp_path):
        checkpoint = tmp_path / "checkpoint"
        checkpoint.write_bytes(b"not a checkpoint")
        with pytest.raises(RunError, match=r"checkpoint: not a readable checkpoint .*; delete it to start over"):
            train(training_of(), checkpoint=checkpoint)


def test_fifty_steps_agree_with_a_minimal_loop():
    """The loop uses contiguous float32 images, an unfused optimizer and the same rows."""

    def without_dropout(shape, classes):
        network: Any = tiny_convnet(shape, classes)
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
    def test_batches_are_those_gathered_on_the_cpu(self):
        data = tiny_dataset()
        grown = data.append(255 - data.images[[3, 5]], parents=[3, 5]).take([50, 1, 1, 49, 7])
        rows = np.array([4, 0, 3, 0, 2])
        resident = ResidentImages(grown.images, "cpu")
        batch = resident.batch(torch.from_numpy(rows))
        expected = as_batch(grown.images[rows], "cpu")
        assert torch.equal(batch, expected) and batch.stride() == expected.stride()

    def test_trained_weights_are_identical(self, monkeypatch):
        gathered = weights_of(train(training_of()).model)
        monkeypatch.setattr("fer_augment.training.batches.fit_on", lambda device, images: True)
        assert same_bits(weights_of(train(training_of()).model), gathered)

    def test_not_used_with_augment_rows(self, monkeypatch, recorder):
        monkeypatch.setattr("fer_augment.training.batches.fit_on", lambda device, images: True)
        monkeypatch.setattr(ResidentImages, "batch", None)
        train(training_of(recorder, epochs=1))
        assert len(calls_of("augment_rows")) == 4

    def test_not_used_on_the_cpu(self):
        assert not fit_on("cpu", tiny_dataset().images)


class TestStages:
    def test_stages_are_called_per_run_epoch_or_batch(self, recorder):
        train(training_of(recorder, epochs=3))
        names = [name for name, _ in Recorder.calls]
        assert names == [
            "prepare_model",
            *["sampling_weights", "build_loss", *["augment_rows", "augment_batch"] * 4] * 3,
        ]
        assert [call["epoch"] for call in calls_of("build_loss")] == [0, 1, 2]

    def test_refine_calls_only_refine_model(self, recorder):
        training = training_of(recorder, epochs=1)
        first = train(training)
        Recorder.calls.clear()
        refined = refine(training, first)
        assert [name for name, _ in Recorder.calls] == ["refine_model"]
        assert refined.model is first.model and not refined.model.training
        assert (refined.optimizer_steps, refined.curve) == (first.optimizer_steps, first.curve)

    def test_batches_are_full_and_rows_are_drawn_without_replacement(self, recorder):
        train(training_of(recorder, epochs=49))  # 49 rows, 4 steps of 16: passes and epochs end at different steps
        batches = [call["rows"] for call in calls_of("augment_rows")]
        assert {len(rows) for rows in batches} == {16}
        drawn = np.concatenate(batches)
        for start in range(0, len(drawn) - 48, 49):
            assert sorted(drawn[start : start + 49]) == list(range(49))

    def test_draws_count_earlier_draws_in_the_epoch(self, recorder):
        train(training_of(recorder, epochs=2))
        for epoch in (0, 1):
            batches = [call for call in calls_of("augment_rows") if call["epoch"] == epoch]
            rows, draws = (np.concatenate([batch[name] for batch in batches]) for name in ("rows", "draws"))
            assert [int((rows[:place] == row).sum()) for place, row in enumerate(rows)] == draws.tolist()

    def test_batch_has_images_in_unit_range_and_one_hot_targets(self, recorder):
        training = training_of(recorder, epochs=1)
        train(training)
        batch = calls_of("augment_batch")[0]
        expected = training.training_set.images[batch["rows"]].transpose(0, 3, 1, 2) / np.float32(255)
        np.testing.assert_allclose(batch["images"].numpy(), expected, rtol=0, atol=1e-7)
        assert batch["images"].dtype == batch["targets"].dtype == torch.float32
        np.testing.assert_array_equal(batch["targets"].numpy(), np.eye(3)[training.training_set.labels[batch["rows"]]])

    def test_batch_has_soft_targets_of_its_rows(self, recorder):
        tiny = tiny_dataset()
        soft = np.full((len(tiny), 3), 0.1, dtype=np.float32)
        soft[np.arange(len(tiny)), tiny.labels] = 0.8
        sources = SourceRows(targets=soft)
        data = ImageDataset.from_arrays(tiny.images[:], tiny.labels, tiny.class_names, sources=sources)
        train(training_of(recorder, data=data, epochs=1))
        for arguments in calls_of("augment_batch"):
            np.testing.assert_array_equal(arguments["targets"].numpy(), soft[arguments["rows"]])

    def test_network_of_prepare_model_is_trained(self):
        class Zero(Strategy):
            """Initializes the head with zeros."""

            @hookimpl
            def prepare_model(self, model):
                torch.nn.init.zeros_(model.head.weight)
                torch.nn.init.zeros_(model.head.bias)
                return model

        training = training_of(Zero(), epochs=1, learning_rate=1e-12)
        logits = predict(train(training).model, training.validation, training.settings)
        np.testing.assert_allclose(logits, 0, atol=1e-6)

    def test_rows_are_drawn_by_weight_and_class_prior_is_as_drawn(self, recorder):
        class OnlyBees(Strategy):
            """Draws rows of one class only."""

            @hookimpl
            def sampling_weights(self, weights, training_set):
                return weights * (training_set.labels == 1)

        training = training_of(OnlyBees(), recorder)
        trained = train(training)
        drawn = np.concatenate([call["rows"] for call in calls_of("augment_rows")])
        assert set(training.training_set.labels[drawn]) == {1}
        assert len(set(drawn.tolist())) > 10
        np.testing.assert_array_equal(trained.class_prior, [0, 1, 0])
        np.testing.assert_array_equal(calls_of("build_loss")[0]["prior"], [0, 1, 0])

    def test_class_prior_is_that_of_the_last_epoch(self):
        class ThenBees(Strategy):
            @hookimpl
            def sampling_weights(self, weights, training_set, epoch):
                return weights * (training_set.labels == 1) if epoch == 3 else weights

        assert train(training_of(ThenBees())).class_prior.tolist() == [0, 1, 0]

    def test_class_prior_without_weights_is_the_class_frequencies(self):
        np.testing.assert_allclose(train(training_of()).class_prior, np.array([10, 15, 24]) / 49)

    def test_loss_is_built_for_each_epoch(self):
        class Doubling(Strategy):
            """Doubles the loss in the second epoch."""

            @hookimpl
            def build_loss(self, loss, epoch):
                return (lambda logits, targets: 2 * loss(logits, targets)) if epoch == 1 else loss

        settings: dict[str, Any] = {"epochs": 2, "evaluate_every": 1, "optimizer": "sgd", "learning_rate": 1e-9}
        plain, doubled = train(training_of(**settings)).curve, train(training_of(Doubling(), **settings)).curve
        assert doubled[0].training_loss == plain[0].training_loss
        assert doubled[1].training_loss == pytest.approx(2 * plain[1].training_loss, rel=1e-6)
        assert doubled[1].validation_loss == pytest.approx(plain[1].validation_loss, rel=1e-6)

    def test_network_receives_augmented_batches(self):
        class Whitened(Strategy):
            """Makes every image white and every target the first class."""

            @hookimpl
            def augment_rows(self, images):
                return np.full_like(images, 255)

            @hookimpl
            def augment_batch(self, images, targets):
                assert bool((images == 1).all())
                return images, torch.eye(3)[:1].expand(len(targets), 3).contiguous()

        training = training_of(Whitened(), epochs=20, learning_rate=0.1)
        trained = train(training)
        assert trained.curve[-1].training_loss < 0.01
        assert not predict(trained.model, training.validation, training.settings).argmax(axis=1).any()


class TestTrainAgain:
    @pytest.fixture
    def head_again(self):
        class HeadAgain(Strategy):
            """Trains the head again on rows of one class and records all weights before and after."""

            recorded: ClassVar[list[Any]] = []
            epochs: int = 2

            @hookimpl
            def refine_model(self, model, training_set, context):
                self.recorded.append(weights_of(model))
                weights = (training_set.labels == 2).astype(np.float64)
                trained = context.train(model, parameters=model.head.parameters(), weights=weights, epochs=self.epochs)
                self.recorded.append(weights_of(trained))
                assert all(parameter.requires_grad for parameter in model.parameters())
                return trained

        HeadAgain.recorded.clear()
        return HeadAgain()

    def test_trains_only_the_given_parameters_and_their_statistics(self, head_again):
        trained = trained_again(training_of(head_again))
        before, after = head_again.recorded
        names = list(trained.model.state_dict())
        changed = [name for name, old, new in zip(names, before, after, strict=True) if old.tobytes() != new.tobytes()]
        assert changed == ["head.weight", "head.bias"]
        assert trained.optimizer_steps == (4 + 2) * 4

    def test_draws_rows_by_the_given_weights(self, head_again, recorder):
        training = training_of(recorder, head_again)
        refined = trained_again(training)
        assert refined.class_prior.tolist() == [0, 0, 1], "the rows on which the head was trained"
        second_stage = [call["rows"] for call in calls_of("augment_rows") if call["epoch"] >= 4]
        assert set(training.training_set.labels[np.concatenate(second_stage)]) == {2}
        assert {call["epoch"] for call in calls_of("build_loss")} == {0, 1, 2, 3, 4, 5}

    def test_is_identical_after_an_interruption(self, head_again, tmp_path):
        training = training_of(head_again)
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
        """Repeats every row three times."""

        @property
        def effects(self) -> Effect:
            return Effect.SHIFTS_CLASS_PRIOR

        @hookimpl
        def rewrite_training_set(self, training_set):
            return training_set.take(np.tile(np.arange(len(training_set)), 3))

    @pytest.mark.parametrize(("budget", "steps"), [("steps", 4 * 4), ("epochs", 4 * 10)])
    def test_number_of_steps_follows_the_budget(self, budget, steps):
        assert train(training_of(self.Tripled(), budget=budget)).optimizer_steps == steps


class TestCurve:
    def test_points_are_at_each_evaluation_and_at_the_end(self):
        trained = train(training_of(epochs=5, evaluate_every=2))
        assert [(point.epoch, point.step) for point in trained.curve] == [(2, 8), (4, 16), (5, 20)]

    def test_last_point_has_the_scores_of_the_trained_network(self):
        training = training_of(epochs=3)
        trained = train(training)
        logits = predict(trained.model, training.validation, training.settings)
        scores = score(training.validation.labels, logits.argmax(axis=1), 3)
        last = trained.curve[-1]
        assert last.validation_accuracy == scores.accuracy
        assert last.validation_recall == tuple(scores.recall)
        assert last.validation_loss == pytest.approx(mean_loss(LOSS, logits, training.validation.labels))

    def test_selection_loss_is_over_as_many_training_rows_as_the_test_split_has(self):
        training = training_of(epochs=1)
        logits = predict(train(training).model, training.training_set, training.settings)
        losses = [mean_loss(LOSS, logits[[row]], training.training_set.labels[[row]]) for row in range(49)]
        whole = training_of(epochs=1)
        object.__setattr__(whole, "selection_rows", 49)
        assert train(whole).curve[-1].selection_loss == pytest.approx(np.mean(losses), rel=1e-5)
        assert training.selection_rows == len(tiny_splits().test)
        assert train(training).curve[-1].selection_loss != pytest.approx(np.mean(losses), rel=1e-5)

    def test_recall_is_none_for_a_class_without_validation_rows(self):
        training = training_of(epochs=1)
        bees = training.validation.rows_of(["bee"])
        object.__setattr__(training, "validation", training.validation.without(bees))
        assert train(training).curve[-1].validation_recall[1] is None


class TestLossesThatAreNotFinite:
    def test_pixels_of_a_strategy_are_named_with_epoch_and_step(self):
        class Explodes(Strategy):
            """Makes pixels infinite in the third step of the second epoch."""

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

        message = (
            r"loss became nan in epoch 2, step 3 of 4: step 1 \(explodes\) returned pixels or targets that are not"
        )
        with pytest.raises(RunError, match=message):
            train(training_of(Explodes()))

    def test_a_loss_that_is_infinite_for_finite_logits_is_named(self):
        class DividesByZero(Strategy):
            """Divides by zero for rows of the first class."""

            @hookimpl
            def build_loss(self, loss):
                return lambda logits, targets: loss(logits, targets) / targets[:, 1:].sum(dim=1)

        message = r"the logits were finite: it comes from step 1 \(divides_by_zero\) or the loss 'cross_entropy'"
        with pytest.raises(RunError, match=message):
            train(training_of(DividesByZero()))

    def test_a_loss_of_each_class_is_refused(self):
        class ForgetsToSum(Strategy):
            """Returns one loss for each row and class."""

            @hookimpl
            def build_loss(self, loss):
                return lambda logits, targets: loss(logits, targets)[:, None] * targets

        message = r"or the loss 'cross_entropy' must have shape \(\d+,\), one value per row, has \(\d+, 3\)"
        with pytest.raises(RunError, match=message):
            train(training_of(ForgetsToSum()))

    def test_a_network_that_starts_with_infinite_weights_is_named(self):
        class Breaks(Strategy):
            """Sets all weights to NaN."""

            @hookimpl
            def prepare_model(self, model):
                for parameter in model.parameters():
                    torch.nn.init.constant_(parameter, float("nan"))
                return model

        with pytest.raises(RunError, match=r"with the initial weights: step 1 \(breaks\) or the network"):
            train(training_of(Breaks()))

    def test_a_training_that_diverges_is_told_to_lower_the_learning_rate(self):
        with pytest.raises(RunError, match=r"the training diverged; lower training.learning_rate$"):
            train(training_of(learning_rate=1e30, optimizer="sgd"))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_reduce_the_loss(optimizer):
    trained = train(training_of(optimizer=optimizer, epochs=15))
    assert trained.curve[-1].selection_loss < 0.6 * trained.curve[0].selection_loss


def test_mse_loss_decreases():
    training = training_of(epochs=15)
    object.__setattr__(training, "loss", Loss("mse", "", mse, over_logits=False))
    curve = train(training).curve
    assert curve[-1].selection_loss < 0.6 * curve[0].selection_loss < 2


class TestLearningRate:
    @pytest.mark.parametrize("steps", [10, 137])
    def test_one_cycle_agrees_with_torch(self, steps):
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
    def test_rate_of_very_short_trainings_is_positive(self, schedule, steps):
        settings = TrainingSettings(learning_rate=0.3, schedule=schedule)
        assert all(0 < learning_rate(settings, step, steps) <= 0.3 for step in range(steps))

    def test_cosine_decays_from_the_maximum_to_nearly_zero(self):
        settings = TrainingSettings(learning_rate=0.2, schedule="cosine")
        rates = [learning_rate(settings, step, 100) for step in range(100)]
        assert rates[0] == 0.2
        assert rates[50] == pytest.approx(0.1)
        assert rates == sorted(rates, reverse=True)
        assert 0 < rates[-1] < 1e-4


class TestRowStream:
    def test_order_depends_on_keys_not_on_positions(self):
        keys = np.random.default_rng(0).integers(2**63, size=20).astype(np.uint64)
        order = np.random.default_rng(1).permutation(20)
        once, again = RowStream(keys, 3), RowStream(keys[order], 3)
        weights = np.random.default_rng(2).random(20)
        for epoch in range(3):
            np.testing.assert_array_equal(
                keys[once.epoch(epoch, np.ones(20), 13)], keys[order][again.epoch(epoch, np.ones(20), 13)]
            )
            np.testing.assert_array_equal(
                keys[once.epoch(epoch, weights, 13)], keys[order][again.epoch(epoch, weights[order], 13)]
            )

    def test_draws_are_proportional_to_weights(self):
        stream = RowStream(np.arange(4, dtype=np.uint64), 0)
        drawn = np.bincount(stream.epoch(0, np.array([0.0, 1, 2, 5]), 80_000), minlength=4) / 80_000
        np.testing.assert_allclose(drawn, [0, 0.125, 0.25, 0.625], atol=0.006)

    def test_passes_differ_from_each_other(self):
        stream = RowStream(np.arange(50, dtype=np.uint64), 0)
        first, second = stream.epoch(0, np.ones(50), 50), stream.epoch(1, np.ones(50), 50)
        assert sorted(first) == sorted(second) == list(range(50))
        assert (first != second).any()
