"""The strategy `cmo` pastes rectangles of images of small classes into the images of a batch."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch

from fer_augment import Effect, ImageDataset
from fer_augment.data.dataset import SourceRows
from fer_augment.hooks.plugin_manager import installed_plugins
from tests.batches import augmented, one_hot, pipeline_of

Cmo: Any = installed_plugins().strategy("cmo").value
CutMix: Any = installed_plugins().strategy("cutmix").value


def flat(levels: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.broadcast_to(levels.astype(np.uint8)[:, None, None], (len(levels), height, width)).copy()


COUNTS = (320, 64, 16)
LEVELS = (40, 120, 200)
LABELS = np.random.default_rng(0).permutation(np.repeat(range(3), COUNTS))
DATA = ImageDataset.from_arrays(flat(np.array(LEVELS)[LABELS], 24, 20), LABELS, "abc")
"""Images whose gray level is that of their class."""


def pasted(strategy: Any, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paste into black images; return the classes of the foregrounds, -1 for none, their areas, and the targets."""
    images, targets = augmented(strategy, DATA, images=torch.zeros(len(DATA), 1, 24, 20), seed=seed)
    levels = np.rint(255 * images[:, 0].numpy()).astype(int)
    assert set(np.unique(levels)) <= {0, *LEVELS}
    largest = levels.max(axis=(1, 2))
    foreground = np.searchsorted(LEVELS, largest) - (largest == 0)
    return foreground, (levels > 0).mean(axis=(1, 2)), targets.numpy()


def test_labels_are_mixed_by_the_pasted_area_of_the_drawn_image() -> None:
    foreground, area, targets = pasted(Cmo(probability=1))
    area = area[:, None]
    expected = np.eye(3)[LABELS] * (1 - area) + np.where(area > 0, np.eye(3)[foreground], 0) * area
    np.testing.assert_allclose(targets, expected, atol=1e-6)
    assert (area > 0).mean() > 0.9


@pytest.mark.parametrize(
    ("exponent", "shares"),
    [(0, [0.8, 0.16, 0.04]), (1, [1 / 3, 1 / 3, 1 / 3]), (2, [1 / 26, 5 / 26, 20 / 26]), (1000, [0, 0, 1])],
)
def test_foregrounds_are_drawn_by_a_power_of_the_size_of_their_class(exponent: float, shares: list[float]) -> None:
    """A class of n rows is drawn in proportion to n^(1 - exponent); backgrounds stay the rows of the batch."""
    drawn = np.concatenate([pasted(Cmo(probability=1, alpha=200, exponent=exponent), seed)[0] for seed in range(4)])
    assert (drawn >= 0).all()
    assert np.bincount(drawn, minlength=3) / len(drawn) == pytest.approx(shares, abs=0.04)


def test_foregrounds_do_not_depend_on_the_batch() -> None:
    """A batch of one large class receives the small ones."""
    rows = np.flatnonzero(LABELS == 0)[:100]
    images, targets = augmented(Cmo(probability=1, alpha=200), DATA, rows)
    assert {40, 120, 200} <= set(np.unique(np.rint(255 * images.numpy())).astype(int))
    assert float(targets[:, 2].sum()) > 5


def test_rectangles_are_those_of_cutmix() -> None:
    assert pasted(Cmo(probability=1))[1].mean() == pytest.approx(_mean_area(CutMix(probability=1)), abs=0.04)


def _mean_area(strategy: Any) -> float:
    levels = torch.arange(1, len(DATA) + 1).float()[:, None, None, None].expand(-1, 1, 24, 20).contiguous() / 1000
    images, _ = augmented(strategy, DATA, images=levels)
    return float((images != levels).float().mean())


def test_the_given_share_of_images_is_changed() -> None:
    assert (pasted(Cmo(alpha=4))[1] > 0).mean() == pytest.approx(0.5, abs=0.08)
    assert (pasted(Cmo(probability=0))[1] == 0).all()


def test_soft_labels_of_foregrounds_are_used() -> None:
    votes = np.array([[0.9, 0.1], [0.4, 0.6]], np.float32)
    soft = ImageDataset.from_arrays(flat(np.array([10, 250]), 8, 8), [0, 1], "ab", sources=SourceRows(targets=votes))
    batch = np.zeros(50, dtype=np.int64)
    images, targets = augmented(Cmo(probability=1, alpha=200), soft, batch, images=torch.zeros(50, 1, 8, 8))
    levels = np.rint(255 * images[:, 0].numpy())
    area, row = (levels > 0).mean(axis=(1, 2)), (levels.max(axis=(1, 2)) > 100).astype(int)
    expected = (1 - area)[:, None] * [1, 0] + area[:, None] * votes[row]
    np.testing.assert_allclose(targets.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("is_soft", [False, True])
def test_a_batch_after_the_first_allocates_nothing_that_grows_with_the_training_set(is_soft: bool) -> None:
    rows, batch = 200_000, np.arange(8)
    labels = np.arange(rows) % 3
    sources = SourceRows(targets=np.eye(3, dtype=np.float32)[labels]) if is_soft else None
    data = ImageDataset.from_arrays(
        np.zeros((1, 8, 8), np.uint8), labels, "abc", rows=np.zeros(rows, np.int64), sources=sources
    )
    pipeline = pipeline_of(Cmo(), data)
    arguments: dict[str, Any] = {"rows": batch, "training_set": data, "epoch": 0}
    images = torch.zeros(len(batch), 1, 8, 8)
    pipeline.fold("augment_batch", (images, one_hot(data, batch)), **arguments)
    tracemalloc.start()
    try:
        pipeline.fold("augment_batch", (images, one_hot(data, batch)), **arguments)
        assert tracemalloc.get_traced_memory()[1] < rows
    finally:
        tracemalloc.stop()


def test_effects_are_declared() -> None:
    mixing = Effect.RANDOM | Effect.SOFT_TARGETS
    assert Cmo().effects == mixing | Effect.FAVORS_SMALL_CLASSES
    assert Cmo(exponent=0).effects == mixing
    assert Cmo(probability=0).effects == Effect(0)
