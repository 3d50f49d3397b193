"""Fitting of images to a size: geometry of crop, pad and stretch, and closeness to Pillow's scaling."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from fer_augment.data.pixels import PixelSettings, crop_box, fitted, reduction, with_channels
from fer_augment.errors import DatasetError
from tests.image_formats import photograph

FITS = ("crop", "pad", "stretch")


def mean_difference(first: np.ndarray, second: Image.Image) -> float:
    return np.abs(first.squeeze().astype(int) - np.asarray(second)).mean()


def ramp(height: int, width: int) -> np.ndarray:
    """Return `(height, width, 3)`: row number, column number, 255."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, columns, np.full_like(rows, 255)], axis=-1)


# --- geometry


@pytest.mark.parametrize(
    ("shape", "size", "box"),
    [
        ((10, 10), (5, 5), (0, 0, 10, 10)),
        ((10, 14), (5, 5), (0, 2, 10, 10)),
        ((14, 10), (5, 5), (2, 0, 10, 10)),
        ((10, 15), (5, 5), (0, 2, 10, 10)),  # 5 columns are cut: 2 on the left, 3 on the right
        ((15, 10), (5, 5), (2, 0, 10, 10)),
        ((384, 512), (96, 64), (0, 128, 384, 256)),
        ((384, 512), (64, 96), (21, 0, 341, 512)),
        ((7, 5), (3, 3), (1, 0, 5, 5)),
        ((1, 1), (48, 48), (0, 0, 1, 1)),
        ((1, 100), (48, 48), (0, 49, 1, 1)),
        ((3, 1000), (1, 500), (0, 0, 2, 1000)),
        ((1000, 3), (500, 1), (0, 0, 1000, 2)),
        ((2, 2), (1, 1000), (0, 0, 1, 2)),
    ],
)
def test_crop_keeps_the_center_in_the_aspect_ratio_of_the_size(shape, size, box):
    assert crop_box(shape, size) == crop_box(shape, size, "crop") == box
    top, left, rows, columns = box
    image = ramp(*shape)[:256, :256]
    if shape == image.shape[:2]:
        expected = fitted(image[top : top + rows, left : left + columns], size, "stretch")
        np.testing.assert_array_equal(fitted(image, size), expected)


def test_crop_without_scaling_cuts_whole_pixels():
    np.testing.assert_array_equal(fitted(ramp(5, 8), (5, 5)), ramp(5, 8)[:, 1:6])
    np.testing.assert_array_equal(fitted(ramp(8, 5), (5, 5)), ramp(8, 5)[1:6])


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (shape, size)
        for shape in [(20, 20), (20, 13), (13, 20), (7, 31), (31, 8), (1, 9), (9, 1), (1, 1), (64, 3)]
        for size in [(8, 8), (8, 9), (15, 4), (40, 41), (1, 1)]
        if min(shape[1] * size[0] / shape[0], shape[0] * size[1] / shape[1]) > 0.5  # where Pillow makes no side of 0
    ],
)
def test_pad_has_the_geometry_of_pillow(shape, size):
    image = np.full((*shape, 3), 200, np.uint8)
    expected = ImageOps.pad(Image.fromarray(image), size[::-1])
    padded = fitted(image, size, "pad")
    np.testing.assert_array_equal(padded == 0, np.asarray(expected) == 0)
    assert set(np.unique(padded)) <= {0, 200}


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2), (1, 50_000), (50_000, 1), (40_000, 3), (3, 40_000), (48, 48), (5, 49), (4_000, 7)]
)
@pytest.mark.parametrize("size", [(48, 48), (1, 1), (7, 96)])
def test_any_shape_is_fitted_to_any_size(shape, size, channels, fit):
    image = np.full((*shape, channels), 77, np.uint8)
    result = fitted(image, size, fit)
    assert result.shape == (*size, channels)
    assert result.dtype == np.uint8
    assert set(np.unique(result)) <= {0, 77}
    assert (fit == "pad") or (result == 77).all()


@pytest.mark.parametrize("fit", FITS)
def test_an_image_of_the_size_is_unchanged(fit):
    image = photograph(6, 9)
    assert fitted(image, (6, 9), fit) is image


@pytest.mark.parametrize("fit", FITS)
def test_rotated_views_are_fitted(fit):
    image = photograph(30, 50)[:, ::-1].swapaxes(0, 1)
    np.testing.assert_array_equal(fitted(image, (12, 12), fit), fitted(np.ascontiguousarray(image), (12, 12), fit))


@pytest.mark.parametrize(
    ("shape", "size", "fit", "expected"),
    [
        ((384, 512), (96, 96), "crop", 4),
        ((384, 512), (96, 96), "pad", 512 / 96),
        ((384, 512), (96, 96), "stretch", 4),
        ((48, 96), (96, 96), "crop", 0.5),
        ((48, 96), (96, 96), "pad", 1),
        ((48, 192), (96, 96), "stretch", 0.5),
    ],
)
def test_reduction_is_that_of_the_less_reduced_side(shape, size, fit, expected):
    assert reduction(shape, size, fit) == pytest.approx(expected)


# --- scaling


def areas(length: int, parts: int) -> np.ndarray:
    """Return `(parts, length)`: the share of each part of a line that each of its pixels covers."""
    edges = np.linspace(0, length, parts + 1)
    starts = np.arange(length)
    covered = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    return np.clip(covered, 0, None) * parts / length


@pytest.mark.parametrize(("shape", "size"), [((64, 48), (16, 12)), ((61, 47), (16, 13)), ((100, 97), (96, 96))])
def test_reduced_images_are_averages_of_areas(shape, size):
    image = photograph(*shape)
    expected = np.einsum("Hh,hwc,Ww->HWc", areas(shape[0], size[0]), image, areas(shape[1], size[1]))
    assert np.abs(fitted(image, size, "stretch") - expected).max() <= 1


@pytest.mark.parametrize("size", [(48, 48), (64, 64), (96, 96)])
def test_reduced_images_are_close_to_those_of_pillow(size):
    image = photograph(384, 512)
    picture = Image.fromarray(image)
    bounds = {Image.Resampling.BOX: 0.5, Image.Resampling.BILINEAR: 2, Image.Resampling.LANCZOS: 2}
    for method, bound in bounds.items():
        assert mean_difference(fitted(image, size), ImageOps.fit(picture, size, method)) < bound
    nearest = ImageOps.fit(picture, size, Image.Resampling.NEAREST)
    assert mean_difference(fitted(image, size), nearest) > 5, "without averaging the noise remains"


@pytest.mark.parametrize("size", [(96, 96), (96, 64)])
def test_padded_images_are_close_to_those_of_pillow(size):
    image = photograph(384, 512)
    expected = ImageOps.pad(Image.fromarray(image), size[::-1], Image.Resampling.BOX)
    assert mean_difference(fitted(image, size, "pad"), expected) < 1


@pytest.mark.parametrize("fit", FITS)
def test_enlarged_images_are_those_of_pillow_with_linear_interpolation(fit):
    image = photograph(20, 30)
    picture = Image.fromarray(image)
    method = Image.Resampling.BILINEAR
    expected = {
        "crop": ImageOps.fit(picture, (64, 64), method),
        "pad": ImageOps.pad(picture, (64, 64), method),
        "stretch": picture.resize((64, 64), method),
    }[fit]
    assert mean_difference(fitted(image, (64, 64), fit), expected) < 0.5


@pytest.mark.parametrize("shape", [(200, 20), (20, 200)])
def test_a_side_is_averaged_where_the_other_is_enlarged(shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 1), dtype=np.uint8)
    result = fitted(noise, (40, 40), "stretch")
    expected = Image.fromarray(noise[..., 0]).resize((40, 40), Image.Resampling.BOX)
    assert result.std() < 0.6 * noise.std()
    assert np.corrcoef(result.ravel(), np.asarray(expected).ravel())[0, 1] > 0.85


def test_a_fine_pattern_becomes_gray_not_moire():
    stripes = np.tile(np.array([0, 255], np.uint8), (120, 60))[..., None]
    assert (np.abs(fitted(stripes, (40, 40), "stretch").astype(int) - 128) <= 43).all()
    assert set(np.unique(fitted(stripes, (30, 30)))) <= {127, 128}


# --- color


def test_color_becomes_gray_as_in_pillow():
    image = photograph(64, 64)
    expected = np.asarray(Image.fromarray(image).convert("L"))
    np.testing.assert_array_equal(with_channels(image, 1)[..., 0], expected)
    np.testing.assert_array_equal(with_channels(image[:, ::2], 1)[..., 0], expected[:, ::2])


def test_gray_becomes_three_equal_channels_and_back():
    gray = photograph(5, 4, 1)[..., None]
    color = with_channels(gray, 3)
    assert color.shape == (5, 4, 3)
    np.testing.assert_array_equal(with_channels(color, 1), gray)
    assert with_channels(gray, 1) is gray


def test_other_channels_are_refused():
    with pytest.raises(DatasetError, match="4 channels"):
        with_channels(np.zeros((2, 2, 4), np.uint8), 3)


def test_settings_override_those_of_the_source():
    assert PixelSettings((5, 5)).over(PixelSettings((9, 9), "pad", "gray")) == PixelSettings((5, 5), "pad", "gray")
    assert PixelSettings().over(PixelSettings()) == PixelSettings()
    assert [PixelSettings(channels=name).channel_count for name in ("auto", "gray", "color")] == [None, 1, 3]


@pytest.mark.parametrize(
    "size",
    [(0, 5), (5, -1), (5, 10_001), (5.0, 5.0), (True, True), (5,), (5, 5, 5), 5, 5.0, "55", np.zeros((2, 2), np.int64)],
)
def test_a_size_that_is_not_two_whole_numbers_of_pixels_is_refused(size):
    with pytest.raises(DatasetError, match=r"^size: should be one whole number from 1 to 10000, or two: .*, got "):
        PixelSettings(size)


@pytest.mark.parametrize("size", [[5, 9], (np.int64(5), np.uint8(9)), np.array([5, 9])])
def test_sizes_in_lists_and_numbers_of_numpy_are_those_in_numbers_of_python(size):
    settings = PixelSettings(size)
    assert settings == PixelSettings((5, 9)) and hash(settings) == hash(PixelSettings((5, 9)))
    assert str(settings) == str(PixelSettings((5, 9))), "it is part of a key of the cache"


def test_an_unknown_fit_or_color_is_refused():
    with pytest.raises(DatasetError, match=r"^fit: should be 'crop', 'pad' or 'stretch', got 'resize'$"):
        PixelSettings(fit="resize")  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=r"^channels: should be 'auto', 'gray' or 'color', got 'grey'$"):
        PixelSettings(channels="grey")  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=r"^channels: .* got 3$"):
        PixelSettings(channels=3)  # type: ignore[arg-type]
