"""The strategy `random_erasing` overwrites one rectangle of the given size, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fer_augment import Effect, ImageDataset
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.testing.fixtures import as_tensor
from tests.batches import augmented, faces

RandomErasing: Any = installed_plugins().strategy("random_erasing").value
HEIGHT, WIDTH, ROWS = 40, 30, 1500
DATA = faces(ROWS, (HEIGHT, WIDTH, 1))
MARK = 0.3141


def marked(data: ImageDataset = DATA, **parameters: Any) -> np.ndarray:
    """Erase with a value that no pixel has, and return the masks of the erased pixels, `(B, H, W)`."""
    images, _ = augmented(RandomErasing(**{"probability": 1, "fill": MARK, **parameters}), data)
    mask: np.ndarray = (images == torch.tensor(MARK)).all(dim=1).numpy()
    return mask


def sides(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the heights and widths of the rectangles, and check that they are filled rectangles."""
    rows, columns = np.asarray(masks.any(axis=2)), np.asarray(masks.any(axis=1))
    tall, wide = rows.sum(axis=1), columns.sum(axis=1)
    assert (masks.sum(axis=(1, 2)) == tall * wide).all()
    for along, length in ((rows, tall), (columns, wide)):
        last = along.shape[1] - 1 - along[:, ::-1].argmax(axis=1)
        assert (last - along.argmax(axis=1) + 1 == length).all(), "the rectangle has no holes"
    return tall, wide


def test_areas_are_uniform_over_their_range() -> None:
    tall, wide = sides(marked(area=[0.1, 0.4]))
    area = tall * wide / (HEIGHT * WIDTH)
    assert np.quantile(area, [0, 0.25, 0.5, 0.75, 1]) == pytest.approx([0.1, 0.175, 0.25, 0.325, 0.4], abs=0.02)


def test_log_aspect_ratios_are_uniform_over_their_range() -> None:
    tall, wide = sides(marked(area=[0.1, 0.12], aspect=[0.5, 2]))
    logarithm = np.log2(tall / wide)
    assert np.abs(logarithm).max() < 1.2, "sides are rounded to whole pixels"
    assert np.quantile(logarithm, [0.25, 0.5, 0.75]) == pytest.approx([-0.5, 0, 0.5], abs=0.12)


def test_positions_are_uniform() -> None:
    masks = marked(area=[0.04, 0.04], aspect=[1, 1])
    tall, wide = sides(masks)
    tops, lefts = masks.any(axis=2).argmax(axis=1), masks.any(axis=1).argmax(axis=1)
    for start, length, size in ((tops, tall, HEIGHT), (lefts, wide, WIDTH)):
        positions = size - length[0] + 1
        counts = np.bincount(start, minlength=positions)
        assert len(counts) == positions
        expected = ROWS / positions
        assert ((counts - expected) ** 2).sum() / expected < positions + 4 * np.sqrt(2 * positions)


@pytest.mark.parametrize("area", [[1, 1], [0.9, 0.9]])
def test_large_areas_use_an_aspect_ratio_that_fits(area: list[float]) -> None:
    tall, wide = sides(marked(area=area, aspect=[3, 3]))
    assert (tall * wide / (HEIGHT * WIDTH)) == pytest.approx(area[0], abs=0.03)
    assert (tall == HEIGHT).all()


def test_images_are_erased_with_the_given_probability_and_others_are_unchanged() -> None:
    images, targets = augmented(RandomErasing(probability=0.3), DATA)
    changed = (images != as_tensor(DATA.images[:])).any(dim=(1, 2, 3)).float().mean()
    assert float(changed) == pytest.approx(0.3, abs=0.04)
    assert (targets == 1).all()
    assert torch.equal(augmented(RandomErasing(probability=0), DATA)[0], as_tensor(DATA.images[:]))


def test_nothing_outside_the_rectangle_changes() -> None:
    images, _ = augmented(RandomErasing(probability=1, fill=MARK), DATA)
    mask = torch.from_numpy(marked())[:, None]
    assert torch.equal(torch.where(mask, 0, images), torch.where(mask, 0, as_tensor(DATA.images[:])))


def test_noise_is_uniform_and_independent_for_every_pixel_and_channel() -> None:
    data = faces(200, (20, 20, 3))
    images, _ = augmented(RandomErasing(probability=1, area=[0.5, 0.5]), data)
    inside = torch.from_numpy(marked(data, area=[0.5, 0.5]))
    noise = images.permute(0, 2, 3, 1)[inside].numpy()
    assert np.quantile(noise, [0, 0.25, 0.5, 0.75, 1]) == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.01)
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.02
    assert abs(np.corrcoef(noise[1:, 0], noise[:-1, 0])[0, 1]) < 0.02


def test_fill_mean_uses_the_mean_color_of_the_image() -> None:
    data = faces(5, (10, 8, 3))
    images, _ = augmented(RandomErasing(probability=1, area=[1, 1], fill="mean"), data)
    expected = as_tensor(data.images[:]).mean(dim=(2, 3), keepdim=True).expand_as(images)
    assert torch.allclose(images, expected)


@pytest.mark.parametrize("fill", ["noise", "mean", 0.5])
def test_results_do_not_depend_on_the_batch(fill: Any) -> None:
    strategy = RandomErasing(fill=fill)
    some = np.array([40, 3, 17])
    assert torch.allclose(augmented(strategy, DATA, some)[0], augmented(strategy, DATA)[0][some])


def test_epochs_seeds_and_repeated_draws_give_different_rectangles() -> None:
    strategy = RandomErasing(probability=1, fill=MARK)
    first = augmented(strategy, DATA)[0]
    for other in (augmented(strategy, DATA, epoch=1)[0], augmented(strategy, DATA, seed=1)[0]):
        assert (first != other).any(dim=(1, 2, 3)).float().mean() > 0.99
    thrice = augmented(strategy, DATA, np.array([5, 5, 5]))[0]
    assert len(torch.unique(thrice.flatten(1), dim=0)) == 3


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_memory_format_is_preserved(memory_format: Any) -> None:
    data = faces(6, (20, 16, 3))
    images = as_tensor(data.images[:]).contiguous(memory_format=memory_format)
    for fill in ("noise", "mean", 0.0):
        result, _ = augmented(RandomErasing(probability=1, fill=fill), data, images=images)
        assert result.stride() == images.stride()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"probability": 1.5}, "probability"),
        ({"area": [0.4, 0.1]}, r"`area` must be \[smallest, largest\]"),
        ({"area": [0, 0.1]}, r"`area` must be \[smallest, largest\]"),
        ({"aspect": [2, 1]}, r"`aspect` must be \[smallest, largest\]"),
        ({"fill": "black"}, "fill"),
        ({"fill": 255}, "fill"),
    ],
)
def test_parameters_out_of_range_are_rejected(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomErasing(**wrong)


def test_effects_depend_on_the_parameters() -> None:
    assert RandomErasing().effects == Effect.RANDOM
    assert RandomErasing(probability=0).effects == Effect(0)
