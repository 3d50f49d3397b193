"""The operations of `trivial_augment` equal those of Pillow and OpenCV, with random strengths."""

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
    """Return smooth images with various brightness and contrast and a little noise; the first one is constant."""
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
    """Return the augmented images, `(B, H, W, C)`, in levels 0 … 255."""
    images, targets = augmented(TrivialAugment(**parameters), data or DATA[channels])
    assert (targets == 1).all()
    levels: np.ndarray = images.permute(0, 2, 3, 1).numpy() * 255
    return levels


def draws(data: ImageDataset = GRAY) -> tuple[np.ndarray, np.ndarray]:
    """Return the strengths in [0, 1], in 31 levels, and signs drawn for the rows."""
    context = Context(0, data.class_names, stream=("trivial_augment", 0, "augment_batch", 0))
    uniform = uniforms(context.row_seeds(data.row_keys()), 3)
    return np.floor(uniform[:, 1] * 31) / 30, np.where(uniform[:, 2] < 0.5, -1, 1)


def with_pillow(name: str, pixels: np.ndarray, strength: float, sign: int, largest: dict[str, float]) -> np.ndarray:
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    factor = 1 + largest["enhance"] * strength * sign
    result = {
        "identity": lambda: image,
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "solarize": lambda: ImageOps.solarize(image, 256 - int(256 * strength)),
        "posterize": lambda: ImageOps.posterize(image, 8 - round(largest["posterize"] * strength)),
        "color": lambda: ImageEnhance.Color(image).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
    }[name]()
    return np.asarray(result, dtype=float).reshape(pixels.shape)


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
def test_operations_on_levels_equal_those_of_pillow(name: str, channels: int, space: Any) -> None:
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
    """Return for each row the affine map from output to input coordinates, `(B, 2, 3)`, in pixels from the center."""
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
def test_geometric_operations_equal_those_of_opencv(name: str, space: Any) -> None:
    result = changed(operations=[name], space=space)[..., 0]
    center = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    for image, matrix, moved in zip(GRAY.images[:], maps(name, space), result, strict=True):
        matrix[:, 2] += center - matrix[:, :2] @ center
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        expected = cv2.warpAffine(
            image.astype(np.float32), matrix, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REPLICATE
        ).reshape(HEIGHT, WIDTH)
        assert np.abs(moved - expected).max() < (0.01 if "translate" in name else 2), (
            "coordinates are rounded to 1/32 pixel"
        )
        assert np.abs(moved - expected).mean() < 0.3


def test_solarize_changes_nothing_at_strength_0_and_inverts_everything_at_strength_1() -> None:
    """The threshold ranges from 256, which no level reaches, to 0, as in the authors' code."""
    rows = 400
    levels = np.tile(np.arange(256, dtype=np.uint8), (rows, 1)).reshape(rows, 16, 16)
    data = ImageDataset.from_arrays(levels, np.zeros(rows, int), ["face"])
    result = changed(data=data, operations=["solarize"]).reshape(rows, 256).round()
    strengths, _ = draws(data)
    assert {0.0, 1.0} < set(strengths.tolist())
    assert (result[strengths == 0] == np.arange(256)).all()
    assert (result[strengths == 1] == np.arange(256)[::-1]).all()


def test_strengths_and_signs_are_drawn_equally_often() -> None:
    many = ImageDataset.from_arrays(np.full((6200, 3, 3), 128, np.uint8), np.zeros(6200, int), ["face"])
    factors = changed(data=many, operations=["brightness"])[:, 1, 1, 0] / 128
    assert factors.min() == pytest.approx(0.1) and factors.max() == pytest.approx(1.9)
    counts = np.bincount(np.rint((factors - 0.1) * 30 / 0.9).astype(int))
    expected = np.where(np.arange(61) == 30, 200, 100)
    assert ((counts - expected) ** 2 / expected).sum() < 61 + 4 * np.sqrt(122)


def test_operations_are_drawn_equally_often() -> None:
    brightest = COLOR.images[:].max(axis=(1, 2, 3)).argmax()
    small = COLOR.images[np.full(1400, brightest)][:, ::2, ::2]
    many = ImageDataset.from_arrays(small, np.zeros(1400, int), ["face"])
    mixed = changed(data=many)
    alone = np.stack([changed(data=many, operations=[name]) for name in OPERATIONS])
    is_result_of = np.abs(mixed - alone).max(axis=(2, 3, 4)) < 1e-3
    assert is_result_of.any(axis=0).all(), "each image is the result of an operation"
    unchanged = is_result_of[OPERATIONS.index("identity")]  # or of another operation with the lowest strength
    counts = [int((matches & ~unchanged).sum()) for matches in is_result_of]
    assert counts.pop(OPERATIONS.index("identity")) == 0
    assert all(65 < count < 135 for count in counts), "100 for each of the 14"
    assert 100 < unchanged.sum() < 200


def test_color_is_skipped_for_gray_images() -> None:
    with pytest.raises(StrategyError, match="`color` requires images with three channels, these have 1"):
        changed(1, operations=["color"])
    without = [name for name in OPERATIONS if name != "color"]
    assert (changed(1) == changed(1, operations=without)).all()


def test_results_do_not_depend_on_the_batch() -> None:
    strategy = TrivialAugment(space="wide")
    some = np.array([40, 3, 17, 60])
    assert torch.allclose(augmented(strategy, COLOR, some)[0], augmented(strategy, COLOR)[0][some], atol=1e-6)


def test_epochs_seeds_and_repeated_draws_give_different_results() -> None:
    strategy = TrivialAugment(operations=["rotate", "brightness"])
    first = augmented(strategy, GRAY)[0]
    for other in (augmented(strategy, GRAY, epoch=1)[0], augmented(strategy, GRAY, seed=1)[0]):
        assert (first != other).any(dim=(1, 2, 3)).float().mean() > 0.9
    assert len(torch.unique(augmented(strategy, GRAY, np.full(6, 5))[0].flatten(1), dim=0)) > 3


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_memory_format_is_preserved(memory_format: Any) -> None:
    images = as_tensor(COLOR.images[:]).contiguous(memory_format=memory_format)
    assert augmented(TrivialAugment(), COLOR, images=images)[0].stride() == images.stride()


def test_images_too_small_for_the_filter_are_unchanged() -> None:
    tiny = ImageDataset.from_arrays(np.arange(40, dtype=np.uint8).reshape(10, 2, 2), np.zeros(10, int), ["face"])
    assert (changed(data=tiny, operations=["sharpness"]) == tiny.images[:]).all()


def test_effects_depend_on_the_parameters() -> None:
    assert TrivialAugment().effects == Effect.RANDOM
    assert TrivialAugment(operations=["equalize"]).effects == Effect(0)
    assert TrivialAugment(operations=["rotate"]).effects == Effect.RANDOM


@pytest.mark.parametrize("wrong", [{"space": "ra"}, {"operations": []}, {"operations": ["flip"]}])
def test_invalid_parameters_are_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrivialAugment(**wrong)
