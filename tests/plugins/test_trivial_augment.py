"""TrivialAugment's operations are those of Pillow and OpenCV, each of one random strength."""

from __future__ import annotations

from typing import Any, get_args

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from fer_augment import Context, Effect, ImageDataset, StrategyError, uniforms
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.testing.fixtures import as_tensor
from tests.batches import augmented

TrivialAugment: Any = installed_plugins().strategy("trivial_augment").value
OPERATIONS = get_args(get_args(TrivialAugment.model_fields["operations"].annotation)[0])
HEIGHT, WIDTH, ROWS = 36, 30, 93
LARGEST = {
    "standard": {"rotate": 30.0, "shear": 0.3, "translate": 0.3125, "enhance": 0.9, "posterize": 4},
    "wide": {"rotate": 135.0, "shear": 0.99, "translate": 1.0, "enhance": 0.99, "posterize": 6},
}


def scenes(channels: int = 1) -> ImageDataset:
    """Make smooth pictures of every brightness and contrast, with a little noise, and one that is flat."""
    rng = np.random.default_rng(2)
    coarse = rng.uniform(0, 1, (ROWS, 5, 5, channels))
    smooth = np.stack([cv2.resize(image, (WIDTH, HEIGHT)).reshape(HEIGHT, WIDTH, channels) for image in coarse])
    low, high = np.sort(rng.uniform(0, 255, (2, ROWS, 1, 1, 1)), axis=0)
    images = np.clip(low + (high - low) * smooth + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)
    images[0] = 77
    return ImageDataset.from_arrays(images, np.zeros(ROWS, int), ["face"])


GRAY, COLOR = scenes(1), scenes(3)
DATA = {1: GRAY, 3: COLOR}


def changed(channels: int = 1, data: ImageDataset | None = None, **parameters: Any) -> np.ndarray:
    """Give `(B, H, W, C)` in levels, 0 … 255."""
    images, targets = augmented(TrivialAugment(**parameters), data or DATA[channels])
    assert (targets == 1).all()
    levels: np.ndarray = images.permute(0, 2, 3, 1).numpy() * 255
    return levels


def draws(data: ImageDataset = GRAY) -> tuple[np.ndarray, np.ndarray]:
    """Give what the rows draw: strengths in [0, 1], in 31 levels, and signs."""
    context = Context(0, data.class_names, stream=("trivial_augment", 0, "augment_batch", 0))
    chance = uniforms(context.row_seeds(data.row_keys()), 3)
    return np.floor(chance[:, 1] * 31) / 30, np.where(chance[:, 2] < 0.5, -1, 1)


def with_pillow(name: str, image: np.ndarray, strength: float, sign: int, largest: dict[str, float]) -> np.ndarray:
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    factor = 1 + largest["enhance"] * strength * sign
    result = {
        "identity": lambda: picture,
        "autocontrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
        "solarize": lambda: ImageOps.solarize(picture, 256 - int(256 * strength)),
        "posterize": lambda: ImageOps.posterize(picture, 8 - round(largest["posterize"] * strength)),
        "color": lambda: ImageEnhance.Color(picture).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(picture).enhance(factor),
        "brightness": lambda: ImageEnhance.Brightness(picture).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(picture).enhance(factor),
    }[name]()
    return np.asarray(result, dtype=float).reshape(image.shape)


TOLERANCES = {
    "identity": 1e-3,
    "equalize": 1e-3,
    "solarize": 1e-3,
    "posterize": 1e-3,
    "autocontrast": 1.001,  # Pillow rounds after each step
    "brightness": 1.001,
    "contrast": 2,
    "sharpness": 2,
    "color": 2,
}


@pytest.mark.parametrize("space", ["standard", "wide"])
@pytest.mark.parametrize(
    ("name", "channels"),
    [(name, channels) for name in TOLERANCES for channels in (1, 3) if (name, channels) != ("color", 1)],
)
def test_operations_on_levels_are_pillows(name: str, channels: int, space: Any) -> None:
    data = DATA[channels]
    result = changed(channels, operations=[name], space=space)
    strengths, signs = draws(data)
    expected = [
        with_pillow(name, image, strength, sign, LARGEST[space])
        for image, strength, sign in zip(data.images[:], strengths, signs, strict=True)
    ]
    assert np.abs(result - expected).max() <= TOLERANCES[name]
    if name != "identity":
        assert (np.abs(result - data.images[:]).max(axis=(1, 2, 3)) > 2).mean() > 0.5


def maps(name: str, space: Any) -> np.ndarray:
    """Give for each row where its pixels come from, `(B, 2, 3)`, in pixels from the center."""
    largest = LARGEST[space]
    strengths, signs = draws()
    size, zero, one = strengths * signs, np.zeros(ROWS), np.ones(ROWS)
    cos, sin = np.cos(np.deg2rad(largest["rotate"] * size)), np.sin(np.deg2rad(largest["rotate"] * size))
    x, y = {
        "rotate": ([cos, sin, zero], [-sin, cos, zero]),
        "shear_x": ([one, largest["shear"] * size, zero], [zero, one, zero]),
        "shear_y": ([one, zero, zero], [largest["shear"] * size, one, zero]),
        "translate_x": ([one, zero, np.rint(largest["translate"] * size * WIDTH)], [zero, one, zero]),
        "translate_y": ([one, zero, zero], [zero, one, np.rint(largest["translate"] * size * HEIGHT)]),
    }[name]
    return np.stack([np.stack(x, axis=1), np.stack(y, axis=1)], axis=1)


@pytest.mark.parametrize("space", ["standard", "wide"])
@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
def test_operations_that_move_pixels_are_opencvs(name: str, space: Any) -> None:
    result = changed(operations=[name], space=space)[..., 0]
    center = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    for image, matrix, moved in zip(GRAY.images[:], maps(name, space), result, strict=True):
        matrix[:, 2] += center - matrix[:, :2] @ center
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        expected = cv2.warpAffine(
            image.astype(np.float32), matrix, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REPLICATE
        ).reshape(HEIGHT, WIDTH)
        assert np.abs(moved - expected).max() < (0.01 if "translate" in name else 2), "coordinates to 1/32 of a pixel"
        assert np.abs(moved - expected).mean() < 0.3


def test_solarizing_with_no_strength_leaves_white_and_with_all_inverts_everything() -> None:
    """The threshold goes from 256, which no level reaches, to 0, as in the authors' code."""
    rows = 400
    levels = np.tile(np.arange(256, dtype=np.uint8), (rows, 1)).reshape(rows, 16, 16)
    data = ImageDataset.from_arrays(levels, np.zeros(rows, int), ["face"])
    result = changed(data=data, operations=["solarize"]).reshape(rows, 256).round()
    strengths, _ = draws(data)
    assert {0.0, 1.0} < set(strengths.tolist())
    assert (result[strengths == 0] == np.arange(256)).all()
    assert (result[strengths == 1] == np.arange(256)[::-1]).all()


def test_all_levels_of_strength_and_both_signs_are_drawn_equally_often() -> None:
    many = ImageDataset.from_arrays(np.full((6200, 3, 3), 128, np.uint8), np.zeros(6200, int), ["face"])
    factors = changed(data=many, operations=["brightness"])[:, 1, 1, 0] / 128
    assert factors.min() == pytest.approx(0.1) and factors.max() == pytest.approx(1.9)
    seen = np.bincount(np.rint((factors - 0.1) * 30 / 0.9).astype(int))
    expected = np.where(np.arange(61) == 30, 200, 100)
    assert ((seen - expected) ** 2 / expected).sum() < 61 + 4 * np.sqrt(122)


def test_operations_are_drawn_equally_often() -> None:
    brightest = COLOR.images[:].max(axis=(1, 2, 3)).argmax()
    small = COLOR.images[np.full(1400, brightest)][:, ::2, ::2]
    many = ImageDataset.from_arrays(small, np.zeros(1400, int), ["face"])
    mixed = changed(data=many)
    alone = np.stack([changed(data=many, operations=[name]) for name in OPERATIONS])
    is_result_of = np.abs(mixed - alone).max(axis=(2, 3, 4)) < 1e-3
    assert is_result_of.any(axis=0).all(), "each image is the result of an operation"
    nothing = is_result_of[OPERATIONS.index("identity")]  # as is also the lowest strength of the others
    counts = [int((found & ~nothing).sum()) for name, found in zip(OPERATIONS, is_result_of, strict=True)]
    assert counts.pop(OPERATIONS.index("identity")) == 0
    assert all(65 < count < 135 for count in counts), "100 for each of the 14"
    assert 100 < nothing.sum() < 200


def test_gray_images_are_not_asked_for_their_color() -> None:
    with pytest.raises(StrategyError, match="`color` needs images of three channels, these have 1"):
        changed(1, operations=["color"])
    without = [name for name in OPERATIONS if name != "color"]
    assert (changed(1) == changed(1, operations=without)).all()


def test_a_rows_change_does_not_depend_on_its_batch() -> None:
    strategy = TrivialAugment(space="wide")
    some = np.array([40, 3, 17, 60])
    assert torch.allclose(augmented(strategy, COLOR, some)[0], augmented(strategy, COLOR)[0][some], atol=1e-6)


def test_epochs_seeds_and_repeated_draws_have_their_own_changes() -> None:
    strategy = TrivialAugment(operations=["rotate", "brightness"])
    first = augmented(strategy, GRAY)[0]
    for other in (augmented(strategy, GRAY, epoch=1)[0], augmented(strategy, GRAY, seed=1)[0]):
        assert (first != other).any(dim=(1, 2, 3)).float().mean() > 0.9
    assert len(torch.unique(augmented(strategy, GRAY, np.full(6, 5))[0].flatten(1), dim=0)) > 3


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_memory_format_is_kept(memory_format: Any) -> None:
    given = as_tensor(COLOR.images[:]).contiguous(memory_format=memory_format)
    assert augmented(TrivialAugment(), COLOR, images=given)[0].stride() == given.stride()


def test_images_too_small_for_a_filter_stay() -> None:
    tiny = ImageDataset.from_arrays(np.arange(40, dtype=np.uint8).reshape(10, 2, 2), np.zeros(10, int), ["face"])
    assert (changed(data=tiny, operations=["sharpness"]) == tiny.images[:]).all()


def test_only_what_happens_is_declared() -> None:
    assert TrivialAugment().effects == Effect.RANDOM
    assert TrivialAugment(operations=["equalize"]).effects == Effect(0)
    assert TrivialAugment(operations=["rotate"]).effects == Effect.RANDOM


@pytest.mark.parametrize("wrong", [{"space": "ra"}, {"operations": []}, {"operations": ["flip"]}])
def test_what_it_does_not_know_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrivialAugment(**wrong)
