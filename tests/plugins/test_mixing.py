"""The mixing strategies combine two rows of a batch and their labels as defined in the papers."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from fer_augment import Context, Effect, ImageDataset, StrategyError
from fer_augment.hooks.plugin_manager import installed_plugins
from tests.batches import augmented, faces, one_hot, pipeline_of

Mixup: Any = installed_plugins().strategy("mixup").value
CutMix: Any = installed_plugins().strategy("cutmix").value
Remix: Any = installed_plugins().strategy("remix").value
ConfusionMix: Any = installed_plugins().strategy("confusion_mix").value
confusion_of = importlib.import_module("fer_augment_plugins.mixing")._confusion_of
SIDE = 20
ROWS = SIDE * SIDE
COUNTS = (240, 80, 60, 20)
DATA = ImageDataset.from_arrays(
    np.zeros((ROWS, SIDE, SIDE), np.uint8), np.random.default_rng(0).permutation(np.repeat(range(4), COUNTS)), "abcd"
)


@dataclass
class Blends:
    """Partners and shares, recovered from a batch in which image i is black except for a white pixel at index i."""

    partners: np.ndarray
    share: np.ndarray
    targets: np.ndarray


class StubScout:
    """Returns fixed probabilities for the rows of each class, and records the requested kind."""

    def __init__(self, by_class: list[list[float]], unpredicted: np.ndarray | None = None) -> None:
        self.by_class, self.unpredicted, self.requested = np.array(by_class, np.float32), unpredicted, ""

    def probabilities(self, training_set: ImageDataset, how: Any = "") -> np.ndarray:
        self.requested = how
        probabilities = self.by_class[training_set.labels]
        if self.unpredicted is not None:
            probabilities[self.unpredicted] = np.nan
        return probabilities

    def embeddings(self, training_set: ImageDataset) -> np.ndarray:
        raise AssertionError("not needed")


def blends(strategy: Any, rows: np.ndarray | None = None, **options: Any) -> Blends:
    batch = np.arange(ROWS) if rows is None else rows
    coded = torch.eye(ROWS)[: len(batch)].reshape(-1, 1, SIDE, SIDE)
    images, targets = augmented(strategy, DATA, batch, images=coded, **options)
    pixels = images.reshape(len(batch), ROWS).numpy()
    own = pixels[np.arange(len(batch)), np.arange(len(batch))]
    others = pixels - np.diag(own)[:, : len(batch)] @ np.eye(len(batch), ROWS)
    partners = np.where(own < 1, others.argmax(axis=1), np.arange(len(batch)))
    assert pixels.sum(axis=1) == pytest.approx(1), "each image is a blend of two"
    assert ((pixels > 0).sum(axis=1) <= 2).all()
    return Blends(partners, own, targets.numpy())


def classes(rows: np.ndarray) -> np.ndarray:
    return np.eye(4)[DATA.labels[rows]]


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixup_draws_the_share_of_images_and_labels_from_a_beta_distribution(alpha: float) -> None:
    result = blends(Mixup(alpha=alpha))
    share = result.share[:, None]
    expected = share * classes(np.arange(ROWS)) + (1 - share) * classes(result.partners)
    assert np.abs(result.targets - expected).max() < 1e-6
    mixed = result.share[result.partners != np.arange(ROWS)]
    assert stats.kstest(mixed, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_mixup_of_two_rows_gives_the_same_share_for_images_and_labels() -> None:
    data = ImageDataset.from_arrays(np.array([[[0]], [[255]]], np.uint8), [0, 1], ("dark", "light"))
    for seed in range(20):
        images, targets = augmented(Mixup(alpha=1), data, seed=seed)
        light = images.flatten()  # the light image is 1, the dark one 0
        assert torch.allclose(targets[:, 1], light, atol=1e-6)
        assert torch.allclose(targets[:, 0], 1 - light, atol=1e-6)


def test_partners_are_a_random_permutation_of_the_batch() -> None:
    result = blends(Mixup(alpha=3))
    assert sorted(result.partners) == list(range(ROWS))
    assert (result.partners == np.arange(ROWS)).sum() < 8


@pytest.mark.parametrize("strategy_class", [Mixup, CutMix, Remix, ConfusionMix])
def test_rows_are_mixed_with_the_given_probability(strategy_class: Any) -> None:
    scout = StubScout([[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]])
    data = faces(600, (12, 12, 1), classes=4)
    before = augmented(Mixup(probability=0), data)
    assert torch.equal(before[1], one_hot(data, np.arange(600)))
    images, _ = augmented(strategy_class(probability=0.3, alpha=4), data, scout=scout)
    changed = (images != before[0]).any(dim=(1, 2, 3)).float().mean()
    assert float(changed) == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("strategy_class", [Mixup, CutMix, Remix, ConfusionMix])
def test_a_batch_of_one_row_is_unchanged(strategy_class: Any) -> None:
    data = faces(1, (6, 6, 1), classes=2)
    images, targets = augmented(strategy_class(), data, scout=StubScout([[0.5, 0.5]]))
    assert torch.allclose(images, augmented(Mixup(probability=0), data)[0])
    assert torch.equal(targets, torch.tensor([[1.0, 0.0]]))


def pasted(strategy: Any, data: ImageDataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Apply CutMix to constant images, and return the indices of the partners, the masks and the targets."""
    levels = torch.arange(len(data)).float() / len(data)
    height, width, _ = data.image_shape
    flat = levels[:, None, None, None].expand(-1, 1, height, width).contiguous()
    images, targets = augmented(strategy, data, images=flat)
    masks = (images != flat)[:, 0].numpy()
    sources = np.rint(images[:, 0].numpy() * len(data)).astype(int)
    partners = np.where(masks, sources, -1).max(axis=(1, 2))
    assert (sources[masks] == np.broadcast_to(partners[:, None, None], masks.shape)[masks]).all(), "one partner each"
    return partners, masks, targets.numpy()


CUT = faces(900, (30, 24, 1), classes=3)


def test_cutmix_mixes_labels_by_the_pasted_area() -> None:
    partners, masks, targets = pasted(CutMix(), CUT)
    share = 1 - masks.mean(axis=(1, 2))
    own, other = np.eye(3)[CUT.labels], np.eye(3)[CUT.labels[partners]]
    expected = share[:, None] * own + (1 - share)[:, None] * other
    cut = masks.any(axis=(1, 2))
    assert cut.mean() > 0.95
    assert np.abs(targets - expected)[cut].max() < 1e-6
    assert (targets[~cut] == own[~cut]).all()


def test_cutmix_pastes_one_rectangle_with_the_aspect_ratio_of_the_image() -> None:
    _, masks, _ = pasted(CutMix(), CUT)
    tall, wide = masks.any(axis=2).sum(axis=1), masks.any(axis=1).sum(axis=1)
    assert (masks.sum(axis=(1, 2)) == tall * wide).all()
    inside = ~(masks[:, [0, -1]].any(axis=(1, 2)) | masks[:, :, [0, -1]].any(axis=(1, 2)))
    assert inside.sum() > 50
    assert np.abs(tall / 30 - wide / 24)[inside].max() < 0.15, "sides have even lengths"


def test_cutmix_draws_rectangles_like_the_authors_algorithm() -> None:
    rng = np.random.default_rng(3)
    areas = []
    for share in rng.beta(1, 1, 4000):
        tall, wide = int(30 * np.sqrt(1 - share)), int(24 * np.sqrt(1 - share))
        y, x = rng.integers(30), rng.integers(24)
        down = np.clip(y + tall // 2, 0, 30) - np.clip(y - tall // 2, 0, 30)
        right = np.clip(x + wide // 2, 0, 24) - np.clip(x - wide // 2, 0, 24)
        areas.append(down * right / 720)
    _, masks, _ = pasted(CutMix(), CUT)
    assert stats.ks_2samp(masks.mean(axis=(1, 2)), areas).pvalue > 0.01
    assert masks.mean(axis=0) == pytest.approx(masks.mean(axis=0)[::-1, ::-1], abs=0.12), (
        "the distribution is symmetric"
    )


def test_cutmix_with_large_alpha_pastes_about_half_of_the_image() -> None:
    _, masks, _ = pasted(CutMix(alpha=500), CUT)
    tall, wide = masks.any(axis=2).sum(axis=1), masks.any(axis=1).sum(axis=1)
    assert tall.max() <= 22 and wide.max() <= 18, "sides are sqrt(0.5) times those of the image"
    assert tall.max() >= 20 and wide.max() >= 16


@pytest.mark.parametrize(
    ("share", "own", "other", "expected"),
    [
        (0.4, "a", "b", 0.0),  # 240 and 80 rows, ratio 3: the rarer class gets the label
        (0.5, "a", "b", 0.5),  # unless the larger class has at least half of the image
        (0.6, "b", "a", 1.0),
        (0.5, "b", "a", 0.5),
        (0.1, "b", "c", 0.1),  # 80 and 60 rows: mixup
        (0.9, "b", "c", 0.9),
        (0.3, "c", "d", 0.0),  # 60 and 20 rows
        (0.7, "d", "c", 1.0),
        (0.3, "d", "c", 0.3),
    ],
)
def test_remix_label_shares_in_single_cases(share: float, own: str, other: str, expected: float) -> None:
    labels = [np.array([DATA.class_number(name)]) for name in (own, other)]
    assert Remix()._label_share(np.array([share]), *labels, DATA) == pytest.approx([expected])


def test_remix_assigns_labels_to_the_rarer_class_and_blends_images_as_mixup() -> None:
    result = blends(Remix())
    assert stats.kstest(result.share[result.partners != np.arange(ROWS)], "uniform").pvalue > 0.01
    cases = {"loses": 0, "wins": 0, "shares": 0}
    for row in range(ROWS):
        own, other, share = DATA.labels[row], DATA.labels[result.partners[row]], result.share[row]
        if COUNTS[own] >= 3 * COUNTS[other] and share < 0.5:
            case, part = "loses", 0.0
        elif 3 * COUNTS[own] <= COUNTS[other] and 1 - share < 0.5:
            case, part = "wins", 1.0
        else:
            case, part = "shares", share
        cases[case] += 1
        expected = part * np.eye(4)[own] + (1 - part) * np.eye(4)[other]
        assert result.targets[row] == pytest.approx(expected, abs=1e-6)
    assert min(cases.values()) > 30


def test_remix_uses_class_sizes_of_the_given_training_set() -> None:
    balanced = DATA.take(np.concatenate([np.flatnonzero(DATA.labels == label)[:20] for label in range(4)]))
    never = Remix(kappa=1e9)
    assert torch.equal(augmented(Remix(), balanced)[1], augmented(never, balanced)[1])
    assert not torch.equal(augmented(Remix(), DATA)[1], augmented(never, DATA)[1])


CONFUSION = [[0.9, 0.08, 0.0, 0.02], [0.5, 0.2, 0.3, 0.0], [0.0, 0.0, 1.0, 0.0], [0.1, 0.1, 0.1, 0.7]]


@pytest.mark.parametrize("unpredicted", [None, np.arange(0, ROWS, 3)])
def test_classes_of_partners_are_drawn_in_proportion_to_confusion(unpredicted: Any) -> None:
    scout = StubScout(CONFUSION, unpredicted)
    partners = np.stack([blends(ConfusionMix(), scout=scout, seed=seed).partners for seed in range(6)])
    partner_classes = DATA.labels[partners]
    assert scout.requested == "out_of_fold"
    for label, expected in ((0, [0, 0.8, 0, 0.2]), (1, [0.625, 0, 0.375, 0]), (3, [1 / 3, 1 / 3, 1 / 3, 0])):
        drawn = partner_classes[:, label == DATA.labels]
        frequencies = np.bincount(drawn.ravel(), minlength=4) / drawn.size
        assert frequencies == pytest.approx(expected, abs=0.09)
    assert (partners[:, DATA.labels == 2] == np.flatnonzero(DATA.labels == 2)).all(), "class 2 is never confused"


def test_all_rows_of_a_confused_class_may_be_partners() -> None:
    scout = StubScout([[0, 0, 0, 1]] * 4)
    partners = blends(ConfusionMix(), scout=scout).partners[DATA.labels == 0]
    counts = np.bincount(partners, minlength=ROWS)[DATA.labels == 3]
    assert len(counts) == 20
    assert counts.min() >= 3 and counts.max() <= 24, "240 rows have 20 possible partners"


def test_rows_are_unchanged_if_no_confused_class_is_in_the_batch() -> None:
    rows = np.flatnonzero(DATA.labels < 2)
    result = blends(ConfusionMix(), rows, scout=StubScout([[0, 0, 1, 0], [1, 0, 0, 0], [0] * 4, [0] * 4]))
    unchanged = DATA.labels[rows] == 0
    assert (result.share[unchanged] == 1).all()
    assert (result.targets[unchanged] == np.eye(4)[0]).all()
    assert (DATA.labels[rows[result.partners[~unchanged]]] == 0).mean() > 0.95


def test_confusion_is_computed_once_per_scout_and_set() -> None:
    class CountingScout(StubScout):
        calls = 0

        def probabilities(self, training_set: ImageDataset, how: Any = "") -> np.ndarray:
            self.calls += 1
            return super().probabilities(training_set, how)

    strategy, rows = ConfusionMix(), np.arange(ROWS)
    scouts = {name: CountingScout(CONFUSION) for name in ("one run", "another run")}
    scouts["another run"].by_class[0] = [0, 0, 0, 1]

    def partners_of(scout: CountingScout, data: ImageDataset) -> np.ndarray:
        context = Context(0, data.class_names, scout=scout)
        images = torch.eye(ROWS).reshape(-1, 1, SIDE, SIDE)
        _, targets = strategy.augment_batch(images, one_hot(data, rows), rows, data, context)
        return targets[data.labels == 0].numpy() > 0

    for _ in range(3):
        assert partners_of(scouts["one run"], DATA).any(axis=0).tolist() == [True, True, False, True]
        assert partners_of(scouts["another run"], DATA).any(axis=0).tolist() == [True, False, False, True]
    assert [scout.calls for scout in scouts.values()] == [1, 1]
    partners_of(scouts["one run"], DATA.take(rows[::-1]))
    assert [scout.calls for scout in scouts.values()] == [2, 1]


def test_confusion_does_not_depend_on_the_order_of_rows_which_blas_may_sum_otherwise() -> None:
    order = np.random.default_rng(1).permutation(ROWS)
    probabilities = (10 ** np.random.default_rng(2).uniform(-12, 0, (ROWS, 4))).astype(np.float32)
    straight, shuffled = confusion_of(DATA, probabilities), confusion_of(DATA.take(order), probabilities[order])
    assert straight.tobytes() == shuffled.tobytes()
    means = [probabilities[DATA.labels == label].mean(axis=0, dtype=np.float64) for label in range(4)]
    np.testing.assert_allclose(straight, np.where(np.eye(4), 0, means))


def test_in_sample_predictions_are_requested_and_declared() -> None:
    scout = StubScout(CONFUSION)
    strategy = ConfusionMix(predictions="in_sample")
    augmented(strategy, DATA, scout=scout)
    assert scout.requested == "in_sample"
    mining = Effect.IN_SAMPLE_MINING | Effect.OUT_OF_FOLD_MINING
    assert strategy.effects & mining == Effect.IN_SAMPLE_MINING
    assert ConfusionMix().effects & mining == Effect.OUT_OF_FOLD_MINING


def test_no_pairs_are_watched() -> None:
    assert list(ConfusionMix().watched_pairs) == []


def test_a_missing_scout_raises_an_error() -> None:
    with pytest.raises(StrategyError, match="no scout"):
        augmented(ConfusionMix(), DATA)


def test_soft_targets_are_mixed() -> None:
    rows = np.arange(ROWS)
    soft = torch.full((ROWS, 4), 0.25) * 0.2 + one_hot(DATA, rows) * 0.8
    images = torch.rand(ROWS, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    arguments: dict[str, Any] = {"rows": rows, "training_set": DATA, "epoch": 0}
    _, hard_mixed = pipeline_of(Mixup(), DATA).fold("augment_batch", (images, one_hot(DATA, rows)), **arguments)
    _, soft_mixed = pipeline_of(Mixup(), DATA).fold("augment_batch", (images, soft), **arguments)
    assert torch.allclose(soft_mixed, 0.05 + 0.8 * hard_mixed, atol=1e-6)


@pytest.mark.parametrize("strategy_class", [Mixup, CutMix, Remix])
def test_batches_epochs_and_seeds_are_mixed_differently_and_runs_are_repeatable(strategy_class: Any) -> None:
    data = faces(40, (8, 8, 1), classes=2)
    rows = np.arange(40)

    def run(seed: int) -> list[torch.Tensor]:
        pipeline = pipeline_of(strategy_class(), data, seed)
        pair = (torch.from_numpy(data.images[rows][..., 0][:, None]).float() / 255, one_hot(data, rows))
        return [
            pipeline.fold("augment_batch", pair, rows=rows, training_set=data, epoch=epoch)[0] for epoch in (0, 0, 1)
        ]

    batches = run(0) + run(1)
    assert all(map(torch.equal, run(0), run(0)))
    assert not any(torch.equal(batches[one], batches[other]) for one in range(6) for other in range(one))


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("strategy_class", [Mixup, CutMix])
def test_memory_format_is_preserved(strategy_class: Any, memory_format: Any) -> None:
    data = faces(9, (8, 6, 3))
    images = torch.rand(9, 3, 8, 6).contiguous(memory_format=memory_format)
    assert augmented(strategy_class(), data, images=images)[0].stride() == images.stride()


def test_effects_are_declared() -> None:
    soft = Effect.RANDOM | Effect.SOFT_TARGETS
    assert Mixup().effects == CutMix().effects == soft
    assert ConfusionMix().effects == soft | Effect.OUT_OF_FOLD_MINING
    assert Remix().effects == soft | Effect.FAVORS_SMALL_CLASSES
    for strategy_class in (Mixup, CutMix, Remix, ConfusionMix):
        assert strategy_class(probability=0).effects == Effect(0)


@pytest.mark.parametrize(
    ("strategy_class", "wrong"),
    [
        (Mixup, {"alpha": 0}),
        (CutMix, {"probability": 1.1}),
        (Remix, {"kappa": 0.9}),
        (Remix, {"tau": 1.1}),
        (ConfusionMix, {"predictions": "test"}),
    ],
)
def test_parameters_out_of_range_are_rejected(strategy_class: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        strategy_class(**wrong)
