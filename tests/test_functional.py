"""Strategies in other training loops: the same results as in a run, and the examples of the page."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from fer_augment import DatasetError, ImageDataset, RecipeError, Strategy, StrategyError, hookimpl
from fer_augment.functional import BatchAugmentation, StrategyLoss, make_strategy, prepare_model, sampling_weights
from fer_augment.hooks.loss_features import asks_for_features
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.hooks.strategy import Context, Effect
from fer_augment.testing import tiny_dataset, tiny_network
from fer_augment.training.trainer import train
from tests.markdown import DOCS, blocks_of
from tests.tiny_training import training_of

TINY = tiny_dataset()
DATA = ImageDataset.from_arrays(TINY.images[:], TINY.labels, TINY.class_names)
ROWS = np.arange(len(DATA))
SHIPPED = [
    offer.value for offer in installed_plugins().of_kind("strategy") if offer.module.startswith("fer_augment_plugins.")
]


def examples_at(stage: str) -> list[Any]:
    strategies = [strategy_class(**strategy_class.example) for strategy_class in SHIPPED]
    needs_scout = Effect.IN_SAMPLE_MINING | Effect.OUT_OF_FOLD_MINING
    acting = [one for one in strategies if steps_of([one])[0].acts_at([stage]) and not one.effects & needs_scout]
    return [pytest.param(one, id=one.strategy_name()) for one in acting]


def batch_of(dataset: ImageDataset, rows: Any = ROWS) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.from_numpy(dataset.images[rows]).permute(0, 3, 1, 2).float() / 255
    return images, torch.from_numpy(dataset.labels[rows].copy())


def in_a_run(strategy: Any, stage: str, value: Any, **arguments: Any) -> Any:
    pipeline = Pipeline(steps_of([strategy]), Context(5, DATA.class_names))
    return pipeline.fold(stage, value, epoch=3, training_set=DATA, **arguments)


def augmentation(strategy: Any) -> BatchAugmentation:
    augment = BatchAugmentation(
        strategy, labels=DATA.labels, images=DATA.images[:], class_names=DATA.class_names, seed=5
    )
    augment.epoch = 3
    return augment


class TestBatchAugmentation:
    @pytest.mark.parametrize("strategy", examples_at("augment_batch"))
    def test_gives_the_bytes_of_a_run(self, strategy: Any) -> None:
        images, labels = batch_of(DATA)
        one_hot = torch.nn.functional.one_hot(labels, 3).float()
        expected = in_a_run(strategy, "augment_batch", (images, one_hot), rows=ROWS)
        given = augmentation(strategy)(images, labels, rows=ROWS)
        assert all(torch.equal(*pair) for pair in zip(given, expected, strict=True))

    def test_a_strategy_that_adds_images_of_the_set_needs_them(self) -> None:
        augment = BatchAugmentation(make_strategy("cmo"), labels=DATA.labels)
        with pytest.raises(StrategyError, match=r"which are 1x1, into images of .*images="):
            augment(*batch_of(DATA), rows=ROWS)

    def test_rows_are_transformed_on_the_cpu_as_in_a_run(self) -> None:
        strategy = make_strategy("albumentations", transforms=[{"Affine": {"rotate": 20, "p": 1.0}}], classes=["bee"])
        expected = in_a_run(strategy, "augment_rows", DATA.images[:], labels=DATA.labels, rows=ROWS)
        images, _ = augmentation(strategy)(*batch_of(DATA), rows=ROWS)
        np.testing.assert_array_equal((images * 255).round().permute(0, 2, 3, 1).numpy(), expected)
        changed = (expected != DATA.images[:]).any(axis=(1, 2, 3))
        assert {*DATA.labels[changed]} == {1}

    def test_with_positions_batches_do_not_matter(self) -> None:
        strategy = make_strategy("random_erasing")
        whole, _ = augmentation(strategy)(*batch_of(DATA), rows=ROWS)
        order = np.random.default_rng(0).permutation(ROWS)
        augment = augmentation(strategy)
        parts = [augment(*batch_of(DATA, part), rows=part)[0] for part in np.array_split(order, 5)]
        assert torch.equal(torch.cat(parts), whole[order])

    def test_without_positions_every_draw_differs_and_the_seed_repeats_it(self) -> None:
        strategy = make_strategy("random_erasing", probability=1)
        images, labels = torch.full((40, 1, 8, 8), 0.5), torch.zeros(40, dtype=torch.int64)
        augment, again = augmentation(strategy), augmentation(strategy)
        batches = [augment(images, labels)[0] for _ in range(2)]
        assert len(torch.cat(batches).unique(dim=0)) == 80
        assert torch.equal(again(images, labels)[0], batches[0])

    def test_class_weights_are_accepted_and_kept(self) -> None:
        images, labels = batch_of(DATA)
        soft = torch.nn.functional.one_hot(labels, 3) * 0.7 + 0.1
        _, targets = augmentation(make_strategy("flip_crop_affine"))(images, soft)
        assert torch.equal(targets, soft)

    def test_strategies_that_do_not_act_on_batches_are_refused(self) -> None:
        with pytest.raises(StrategyError, match="^dedup does not act at augment_rows or augment_batch$"):
            BatchAugmentation(make_strategy("dedup"), labels=[0, 1])
        with pytest.raises(StrategyError, match="give at least one strategy"):
            BatchAugmentation(labels=[0, 1])

    def test_mining_without_a_scout_is_refused_and_with_one_works(self) -> None:
        class Scout:
            def probabilities(self, training_set: ImageDataset, how: Any = "in_sample") -> Any:
                return np.full((len(training_set), 3), 1 / 3, dtype=np.float32)

            def embeddings(self, training_set: ImageDataset) -> Any:
                raise NotImplementedError

        strategy = make_strategy("confusion_mix")
        with pytest.raises(StrategyError, match="no scout is available"):
            BatchAugmentation(strategy, labels=DATA.labels)(*batch_of(DATA))
        _, targets = BatchAugmentation(strategy, labels=DATA.labels, scout=Scout())(*batch_of(DATA))
        assert (targets > 0).sum() > len(targets)

    @pytest.mark.parametrize(
        "change", [lambda images: images * 255, lambda images: images - 1, lambda images: images / 0, torch.Tensor.byte]
    )
    def test_other_images_than_floats_from_0_to_1_are_refused(self, change: Any) -> None:
        images, labels = batch_of(DATA)
        with pytest.raises(DatasetError, match=r"images must be \(B, C, H, W\) floats in \[0, 1\]"):
            augmentation(make_strategy("flip_crop_affine"))(change(images), labels)

    @pytest.mark.parametrize(
        ("targets", "message"),
        [
            (lambda labels: labels + 1, "class numbers from 0 to 2"),
            (lambda labels: -labels, "class numbers from 0 to 2"),
            (lambda labels: labels + 0.7, r"whole numbers or \(B, 3\) floats, got torch.float32"),
            (lambda labels: torch.eye(4)[labels], r"got torch.float32 \(49, 4\)"),
            (lambda labels: torch.eye(3)[labels] * 2, "sum to 1 in each row"),
            (lambda labels: torch.eye(3)[labels] * 3 - 2 / 3, "0 or more"),
            (lambda labels: torch.eye(3)[labels] * torch.nan, "sum to 1 in each row"),
        ],
    )
    def test_targets_that_are_no_class_weights_are_refused(self, targets: Any, message: str) -> None:
        images, labels = batch_of(DATA)
        with pytest.raises(DatasetError, match=message):
            augmentation(make_strategy("flip_crop_affine"))(images, targets(labels))

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([0, 49], r"2 whole numbers from 0 to 48, got 49$"),
            ([-1, 0], r"2 whole numbers from 0 to 48, got -1$"),
            ([0], r"position of each image in the training set: 2 whole numbers from 0 to 48, got int64 \(1,\)$"),
            ([0.0, 1.0], r"2 whole numbers from 0 to 48, got float64 \(2,\)$"),
            ([[0, 1]], r"2 whole numbers from 0 to 48, got int64 \(1, 2\)$"),
        ],
    )
    @pytest.mark.parametrize("name", ["flip_crop_affine", "albumentations"])
    def test_positions_outside_the_training_set_are_refused(self, name: str, rows: Any, message: str) -> None:
        parameters = {"transforms": ["HorizontalFlip"]} if name == "albumentations" else {}
        with pytest.raises(DatasetError, match=message):
            augmentation(make_strategy(name, **parameters))(*batch_of(DATA, ROWS[:2]), rows=rows)

    def test_invalid_parameters_are_refused_in_one_line(self) -> None:
        with pytest.raises(RecipeError, match="^alfa: unknown parameter; did you mean 'alpha'"):
            make_strategy("mixup", alfa=1)

    @pytest.mark.parametrize("labels", [[], [0.5], [[0]], [-1, 0]])
    def test_invalid_labels_are_refused(self, labels: Any) -> None:
        with pytest.raises(DatasetError, match="labels must be"):
            BatchAugmentation(make_strategy("mixup"), labels=labels)


SEEN: list[tuple[int, np.ndarray, torch.Tensor]] = []


class Watch(Strategy):
    """Record the epoch, the rows and the images of each batch."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, rows: Any, epoch: int) -> Any:
        SEEN.append((epoch, rows, images.clone()))
        return images, targets


def batches_of_a_run(strategy: Strategy, batch_size: int) -> list[tuple[int, np.ndarray, torch.Tensor]]:
    """Train two epochs; return the epoch, the rows and the augmented images of each batch."""
    SEEN.clear()
    train(training_of(strategy, Watch(), data=DATA, seed=5, epochs=2, batch_size=batch_size))
    return SEEN.copy()


class TestRuns:
    """Row transforms in trainings, with the seeds that rows have there."""

    TURN = make_strategy("albumentations", transforms=[{"Affine": {"rotate": [-90, 90], "p": 1.0}}])

    @pytest.mark.parametrize("batch_size", [8, 16])
    def test_rows_are_transformed_alike_with_their_positions(self, batch_size: int) -> None:
        augment = augmentation(self.TURN)
        batches = batches_of_a_run(self.TURN, batch_size)
        assert {epoch for epoch, _, _ in batches} == {0, 1} and len(batches) > 4
        for epoch, rows, images in batches:
            augment.epoch = epoch
            assert torch.equal(augment(*batch_of(DATA, rows), rows=rows)[0], images)

    def first_images(self, batch_size: int) -> dict[int, torch.Tensor]:
        """Return the image of each row when it is drawn for the first time in the first epoch."""
        first: dict[int, torch.Tensor] = {}
        for epoch, rows, images in batches_of_a_run(self.TURN, batch_size):
            for row, image in zip(rows.tolist(), images, strict=True):
                if epoch == 0:
                    first.setdefault(row, image)
        return first

    def test_the_transform_of_a_row_does_not_depend_on_the_size_of_batches(self) -> None:
        small, large = self.first_images(8), self.first_images(16)
        assert small.keys() == large.keys() == {*ROWS.tolist()}
        assert all(torch.equal(small[row], large[row]) for row in small)


class TestStrategyLoss:
    @pytest.mark.parametrize("strategy", examples_at("build_loss"))
    def test_is_that_of_a_run(self, strategy: Any) -> None:
        logits = torch.randn(len(DATA), 3, generator=torch.Generator().manual_seed(0))
        base = installed_plugins().loss("cross_entropy").value.of_batch
        _, labels = batch_of(DATA)
        expected = in_a_run(strategy, "build_loss", base, class_prior=DATA.counts / len(DATA))
        loss_of = StrategyLoss(strategy, labels=DATA.labels, class_names=DATA.class_names, seed=5)
        loss_of.epoch = 3
        given = [logits.cos()] if asks_for_features(expected) else []
        rows = expected(logits, torch.nn.functional.one_hot(labels, 3).float(), *given)
        assert torch.equal(loss_of.of_rows(logits, labels, *given), rows)
        assert torch.equal(loss_of(logits, labels, *given), rows.mean())

    @pytest.mark.parametrize("strategy", examples_at("build_loss"))
    def test_half_precision_is_computed_in_float32(self, strategy: Any) -> None:
        logits = torch.randn(len(DATA), 3, generator=torch.Generator().manual_seed(0)).bfloat16()
        _, labels = batch_of(DATA)
        loss_of = StrategyLoss(strategy, labels=DATA.labels, class_names=DATA.class_names)
        halves, floats = (loss_of.of_rows(x, labels, x.cos()) for x in (logits, logits.float()))
        assert halves.dtype == torch.float32
        torch.testing.assert_close(halves, floats, atol=0.02, rtol=0)  # the features are rounded once more

    def test_deferred_strategies_begin_in_their_epoch(self) -> None:
        loss_of = StrategyLoss(make_strategy("weighted_loss", exponent=1, from_epoch=2), labels=DATA.labels)
        logits, labels = torch.zeros(len(DATA), 3), torch.from_numpy(DATA.labels.copy())
        assert len(loss_of.of_rows(logits, labels).unique()) == 1
        loss_of.epoch = 2
        assert len(loss_of.of_rows(logits, labels).unique()) == 3

    def test_class_frequencies_of_the_batches_can_be_given(self) -> None:
        loss_of = StrategyLoss(make_strategy("balanced_softmax"), labels=DATA.labels, class_prior=np.full(3, 1 / 3))
        logits, labels = torch.randn(9, 3), torch.arange(9) % 3
        torch.testing.assert_close(loss_of(logits, labels), torch.nn.functional.cross_entropy(logits, labels))
        with pytest.raises(DatasetError, match="class_prior must be 3 frequencies that sum to 1"):
            StrategyLoss(make_strategy("balanced_softmax"), labels=DATA.labels, class_prior=[1.0, 1.0, 1.0])


def test_sampling_weights_are_those_of_a_run() -> None:
    strategy = make_strategy("power_sampler", exponent=1)
    weights = sampling_weights(strategy, labels=DATA.labels)
    np.testing.assert_array_equal(weights, in_a_run(strategy, "sampling_weights", np.ones(len(DATA))))
    shares = [weights[DATA.labels == label].sum() / weights.sum() for label in range(3)]
    np.testing.assert_allclose(shares, 1 / 3)


def test_networks_are_prepared() -> None:
    network = tiny_network((8, 8, 1), 3)
    assert prepare_model(network, make_strategy("ldam_loss")).head is not None
    with pytest.raises(StrategyError, match="^mixup does not act at prepare_model$"):
        prepare_model(network, make_strategy("mixup"))


@pytest.mark.parametrize("section", ["plain-pytorch", "lightning", "scikit-learn"])
@pytest.mark.filterwarnings("ignore")  # of Lightning, about its defaults
def test_examples_of_the_page_run(section: str) -> None:
    (block,) = (
        block
        for block in blocks_of(DOCS / "own_loop.md")
        if block.language == "python" and re.sub(r"\W+", "-", block.section.lower()) == section
    )
    if "import lightning" in block.text:
        pytest.importorskip("lightning", reason="lightning is not installed: pip install 'fer_augment[bench]'")
    exec(compile(block.text, f"{block.page}:{block.line}", "exec", dont_inherit=True), {"__name__": "example"})
