"""Mixing strategies blend or paste two rows of a batch, and share the label exactly as the papers say."""

from __future__ import annotations

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
SIDE = 20
ROWS = SIDE * SIDE
COUNTS = (240, 80, 60, 20)
DATA = ImageDataset.from_arrays(
    np.zeros((ROWS, SIDE, SIDE), np.uint8), np.random.default_rng(0).permutation(np.repeat(range(4), COUNTS)), "abcd"
)


@dataclass
class Blends:
    """What can be read from a batch in which image i is black but for a white pixel at place i."""

    partners: np.ndarray
    share: np.ndarray
    targets: np.ndarray


class StubScout:
    """Says what it is told to of rows of each class, and remembers how it was asked."""

    def __init__(self, by_class: list[list[float]], unknown: np.ndarray | None = None) -> None:
        self.by_class, self.unknown, self.asked = np.array(by_class, np.float32), unknown, ""

    def probabilities(self, training_set: ImageDataset, how: Any = "") -> np.ndarray:
        self.asked = how
        answer = self.by_class[training_set.labels]
        if self.unknown is not None:
            answer[self.unknown] = np.nan
        return answer

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
    assert pixels.sum(axis=1) == pytest.approx(1), "it is a blend of two"
    assert ((pixels > 0).sum(axis=1) <= 2).all()
    return Blends(partners, own, targets.numpy())


def classes(rows: np.ndarray) -> np.ndarray:
    return np.eye(4)[DATA.labels[rows]]


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixup_shares_images_and_labels_by_a_beta_distribution(alpha: float) -> None:
    found = blends(Mixup(alpha=alpha))
    share = found.share[:, None]
    expected = share * classes(np.arange(ROWS)) + (1 - share) * classes(found.partners)
    assert np.abs(found.targets - expected).max() < 1e-6
    mixed = found.share[found.partners != np.arange(ROWS)]
    assert stats.kstest(mixed, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_by_hand_two_rows_are_mixed_with_each_other() -> None:
    data = ImageDataset.from_arrays(np.array([[[0]], [[255]]], np.uint8), [0, 1], ("dark", "light"))
    for seed in range(20):
        images, targets = augmented(Mixup(alpha=1), data, seed=seed)
        light = images.flatten()  # the light image is 1, the dark one 0
        assert torch.allclose(targets[:, 1], light, atol=1e-6)
        assert torch.allclose(targets[:, 0], 1 - light, atol=1e-6)


def test_partners_are_a_random_order_of_the_batch() -> None:
    found = blends(Mixup(alpha=3))
    assert sorted(found.partners) == list(range(ROWS))
    assert (found.partners == np.arange(ROWS)).sum() < 8


@pytest.mark.parametrize("strategy_class", [Mixup, CutMix, Remix, ConfusionMix])
def test_as_many_rows_are_mixed_as_the_probability_says(strategy_class: Any) -> None:
    scout = StubScout([[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]])
    data = faces(600, (12, 12, 1), classes=4)
    before = augmented(Mixup(probability=0), data)
    assert torch.equal(before[1], one_hot(data, np.arange(600)))
    images, _ = augmented(strategy_class(probability=0.3, alpha=4), data, scout=scout)
    changed = (images != before[0]).any(dim=(1, 2, 3)).float().mean()
    assert float(changed) == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("strategy_class", [Mixup, CutMix, Remix, ConfusionMix])
def test_a_batch_of_one_row_stays(strategy_class: Any) -> None:
    data = faces(1, (6, 6, 1), classes=2)
    images, targets = augmented(strategy_class(), data, scout=StubScout([[0.5, 0.5]]))
    assert torch.allclose(images, augmented(Mixup(probability=0), data)[0])
    assert torch.equal(targets, torch.tensor([[1.0, 0.0]]))


def pasted(strategy: Any, data: ImageDataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut and mix images of one level each: give the places of the partners, the masks and the targets."""
    levels = torch.arange(len(data)).float() / len(data)
    height, width, _ = data.image_shape
    flat = levels[:, None, None, None].expand(-1, 1, height, width).contiguous()
    images, targets = augmented(strategy, data, images=flat)
    masks = (images != flat)[:, 0].numpy()
    came_from = np.rint(images[:, 0].numpy() * len(data)).astype(int)
    partners = np.where(masks, came_from, -1).max(axis=(1, 2))
    assert (came_from[masks] == np.broadcast_to(partners[:, None, None], masks.shape)[masks]).all(), "one partner each"
    return partners, masks, targets.numpy()


CUT = faces(900, (30, 24, 1), classes=3)


def test_cutmix_shares_labels_by_the_area_that_is_pasted() -> None:
    partners, masks, targets = pasted(CutMix(), CUT)
    share = 1 - masks.mean(axis=(1, 2))
    own, other = np.eye(3)[CUT.labels], np.eye(3)[CUT.labels[partners]]
    expected = share[:, None] * own + (1 - share)[:, None] * other
    cut = masks.any(axis=(1, 2))
    assert cut.mean() > 0.95
    assert np.abs(targets - expected)[cut].max() < 1e-6
    assert (targets[~cut] == own[~cut]).all()


def test_cutmix_pastes_one_full_rectangle_of_the_images_proportions() -> None:
    _, masks, _ = pasted(CutMix(), CUT)
    tall, wide = masks.any(axis=2).sum(axis=1), masks.any(axis=1).sum(axis=1)
    assert (masks.sum(axis=(1, 2)) == tall * wide).all()
    inside = ~(masks[:, [0, -1]].any(axis=(1, 2)) | masks[:, :, [0, -1]].any(axis=(1, 2)))
    assert inside.sum() > 50
    assert np.abs(tall / 30 - wide / 24)[inside].max() < 0.15, "sides are even numbers of pixels"


def test_cutmix_draws_the_rectangles_of_the_authors_algorithm() -> None:
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
    assert masks.mean(axis=0) == pytest.approx(masks.mean(axis=0)[::-1, ::-1], abs=0.12), "as often above as below"


def test_cutmix_with_a_large_alpha_pastes_about_half() -> None:
    _, masks, _ = pasted(CutMix(alpha=500), CUT)
    tall, wide = masks.any(axis=2).sum(axis=1), masks.any(axis=1).sum(axis=1)
    assert tall.max() <= 22 and wide.max() <= 18, "sides of the square root of a half"
    assert tall.max() >= 20 and wide.max() >= 16


@pytest.mark.parametrize(
    ("share", "own", "other", "expected"),
    [
        (0.4, "a", "b", 0.0),  # 240 rows against 80 are three times as many: the rarer class gets the label
        (0.5, "a", "b", 0.5),  # but not where the larger class has the larger part of the image
        (0.6, "b", "a", 1.0),
        (0.5, "b", "a", 0.5),
        (0.1, "b", "c", 0.1),  # 80 against 60: mixup
        (0.9, "b", "c", 0.9),
        (0.3, "c", "d", 0.0),  # 60 against 20
        (0.7, "d", "c", 1.0),
        (0.3, "d", "c", 0.3),
    ],
)
def test_remix_by_hand(share: float, own: str, other: str, expected: float) -> None:
    labels = [np.array([DATA.class_number(name)]) for name in (own, other)]
    assert Remix()._label_share(np.array([share]), *labels, DATA) == pytest.approx([expected])


def test_remix_gives_labels_to_the_rarer_class_and_blends_images_as_mixup() -> None:
    found = blends(Remix())
    assert stats.kstest(found.share[found.partners != np.arange(ROWS)], "uniform").pvalue > 0.01
    cases = {"loses": 0, "wins": 0, "shares": 0}
    for row in range(ROWS):
        own, other, share = DATA.labels[row], DATA.labels[found.partners[row]], found.share[row]
        if COUNTS[own] >= 3 * COUNTS[other] and share < 0.5:
            case, part = "loses", 0.0
        elif 3 * COUNTS[own] <= COUNTS[other] and 1 - share < 0.5:
            case, part = "wins", 1.0
        else:
            case, part = "shares", share
        cases[case] += 1
        expected = part * np.eye(4)[own] + (1 - part) * np.eye(4)[other]
        assert found.targets[row] == pytest.approx(expected, abs=1e-6)
    assert min(cases.values()) > 30


def test_remix_counts_the_set_as_it_stands() -> None:
    balanced = DATA.take(np.concatenate([np.flatnonzero(DATA.labels == label)[:20] for label in range(4)]))
    never = Remix(kappa=1e9)
    assert torch.equal(augmented(Remix(), balanced)[1], augmented(never, balanced)[1])
    assert not torch.equal(augmented(Remix(), DATA)[1], augmented(never, DATA)[1])


CONFUSION = [[0.9, 0.08, 0.0, 0.02], [0.5, 0.2, 0.3, 0.0], [0.0, 0.0, 1.0, 0.0], [0.1, 0.1, 0.1, 0.7]]


@pytest.mark.parametrize("unknown", [None, np.arange(0, ROWS, 3)])
def test_partners_are_drawn_from_classes_in_proportion_to_their_confusion(unknown: Any) -> None:
    scout = StubScout(CONFUSION, unknown)
    partners = np.stack([blends(ConfusionMix(), scout=scout, seed=seed).partners for seed in range(6)])
    partner_classes = DATA.labels[partners]
    assert scout.asked == "out_of_fold"
    for label, expected in ((0, [0, 0.8, 0, 0.2]), (1, [0.625, 0, 0.375, 0]), (3, [1 / 3, 1 / 3, 1 / 3, 0])):
        drawn = partner_classes[:, label == DATA.labels]
        seen = np.bincount(drawn.ravel(), minlength=4) / drawn.size
        assert seen == pytest.approx(expected, abs=0.09)
    assert (partners[:, DATA.labels == 2] == np.flatnonzero(DATA.labels == 2)).all(), "2 is confused with nothing"


def test_all_rows_of_a_confused_class_may_be_partners() -> None:
    scout = StubScout([[0, 0, 0, 1]] * 4)
    partners = blends(ConfusionMix(), scout=scout).partners[DATA.labels == 0]
    seen = np.bincount(partners, minlength=ROWS)[DATA.labels == 3]
    assert len(seen) == 20
    assert seen.min() >= 3 and seen.max() <= 24, "240 rows draw from 20"


def test_rows_stay_where_no_confused_class_is_in_the_batch() -> None:
    rows = np.flatnonzero(DATA.labels < 2)
    found = blends(ConfusionMix(), rows, scout=StubScout([[0, 0, 1, 0], [1, 0, 0, 0], [0] * 4, [0] * 4]))
    stays = DATA.labels[rows] == 0
    assert (found.share[stays] == 1).all()
    assert (found.targets[stays] == np.eye(4)[0]).all()
    assert (DATA.labels[rows[found.partners[~stays]]] == 0).mean() > 0.95


def test_confusions_are_counted_once_for_each_scout_and_set_and_not_in_every_batch() -> None:
    class CountingScout(StubScout):
        times = 0

        def probabilities(self, training_set: ImageDataset, how: Any = "") -> np.ndarray:
            self.times += 1
            return super().probabilities(training_set, how)

    strategy, rows = ConfusionMix(), np.arange(ROWS)
    asked = {name: CountingScout(CONFUSION) for name in ("one run", "another run")}
    asked["another run"].by_class[0] = [0, 0, 0, 1]

    def partners_of(scout: CountingScout, data: ImageDataset) -> np.ndarray:
        context = Context(0, data.class_names, scout=scout)
        images = torch.eye(ROWS).reshape(-1, 1, SIDE, SIDE)
        _, targets = strategy.augment_batch(images, one_hot(data, rows), rows, data, context)
        return targets[data.labels == 0].numpy() > 0

    for _ in range(3):
        assert partners_of(asked["one run"], DATA).any(axis=0).tolist() == [True, True, False, True]
        assert partners_of(asked["another run"], DATA).any(axis=0).tolist() == [True, False, False, True]
    assert [scout.times for scout in asked.values()] == [1, 1]
    partners_of(asked["one run"], DATA.take(rows[::-1]))
    assert [scout.times for scout in asked.values()] == [2, 1]


def test_in_sample_confusion_is_asked_for_and_declared() -> None:
    scout = StubScout(CONFUSION)
    strategy = ConfusionMix(predictions="in_sample")
    augmented(strategy, DATA, scout=scout)
    assert scout.asked == "in_sample"
    mining = Effect.IN_SAMPLE_MINING | Effect.OUT_OF_FOLD_MINING
    assert strategy.effects & mining == Effect.IN_SAMPLE_MINING
    assert ConfusionMix().effects & mining == Effect.OUT_OF_FOLD_MINING


def test_without_a_scout_there_is_nothing_to_go_by() -> None:
    with pytest.raises(StrategyError, match="no scout"):
        augmented(ConfusionMix(), DATA)


def test_targets_that_are_soft_already_are_mixed_on() -> None:
    rows = np.arange(ROWS)
    soft = torch.full((ROWS, 4), 0.25) * 0.2 + one_hot(DATA, rows) * 0.8
    images = torch.rand(ROWS, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    arguments: dict[str, Any] = {"rows": rows, "training_set": DATA, "epoch": 0}
    _, hard_mixed = pipeline_of(Mixup(), DATA).fold("augment_batch", (images, one_hot(DATA, rows)), **arguments)
    _, soft_mixed = pipeline_of(Mixup(), DATA).fold("augment_batch", (images, soft), **arguments)
    assert torch.allclose(soft_mixed, 0.05 + 0.8 * hard_mixed, atol=1e-6)


@pytest.mark.parametrize("strategy_class", [Mixup, CutMix, Remix])
def test_batches_epochs_and_seeds_are_mixed_anew_and_a_run_can_be_repeated(strategy_class: Any) -> None:
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
def test_memory_format_is_kept(strategy_class: Any, memory_format: Any) -> None:
    data = faces(9, (8, 6, 3))
    given = torch.rand(9, 3, 8, 6).contiguous(memory_format=memory_format)
    assert augmented(strategy_class(), data, images=given)[0].stride() == given.stride()


def test_what_changes_is_declared() -> None:
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
def test_parameters_out_of_range_are_refused(strategy_class: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        strategy_class(**wrong)
