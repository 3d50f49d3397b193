"""The strategy `flip_crop_affine` transforms each image by its own random affine map within the given limits."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from fer_augment import Context, Effect, ImageDataset
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins

FlipCropAffine: Any = installed_plugins().strategy("flip_crop_affine").value
HEIGHT, WIDTH, ROWS = 32, 24, 64
DATA = ImageDataset.from_arrays(
    np.random.default_rng(0).integers(0, 256, (ROWS, HEIGHT, WIDTH, 3), dtype=np.uint8),
    np.zeros(ROWS, int),
    ["face"],
)
NO_CHANGE = {"flip": 0, "shift": 0, "rotate": 0, "scale": 0}


def pipeline(seed: int = 0, **parameters: Any) -> Pipeline:
    return Pipeline(steps_of([FlipCropAffine(**{**NO_CHANGE, **parameters})]), Context(seed, DATA.class_names))


def images_of(rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(DATA.images[rows].transpose(0, 3, 1, 2).copy()).float() / 255


def moved(
    images: torch.Tensor | None = None, rows: np.ndarray | None = None, epoch: int = 0, **parameters: Any
) -> np.ndarray:
    """Augment a batch of rows (all by default) and return `(B, H, W, C)`."""
    batch = np.arange(ROWS) if rows is None else rows
    inputs = images_of(batch) if images is None else images
    pair = (inputs, torch.ones(len(inputs), 1))
    result, targets = pipeline(**parameters).fold("augment_batch", pair, rows=batch, training_set=DATA, epoch=epoch)
    assert (targets == 1).all()
    changed: np.ndarray = result.permute(0, 2, 3, 1).numpy()
    return changed


def poses(**parameters: Any) -> np.ndarray:
    """Estimate affine maps `(B, 2, 3)`, in pixels from the center, from transformed images of coordinates."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    coordinates = torch.from_numpy(np.stack([x / 100, y / 100])).expand(ROWS, 2, HEIGHT, WIDTH).contiguous()
    sampled = 100 * moved(coordinates, **parameters)
    targets = np.stack([x - (WIDTH - 1) / 2, y - (HEIGHT - 1) / 2, np.ones_like(x)], axis=-1)
    maps = []
    for source in sampled:
        inside = (source > 0.01).all(axis=-1) & (source < [WIDTH - 1.01, HEIGHT - 1.01]).all(axis=-1)
        centered = source[inside] - [(WIDTH - 1) / 2, (HEIGHT - 1) / 2]
        solution, residuals, _, _ = np.linalg.lstsq(targets[inside], centered, rcond=None)
        assert residuals.max() < 1e-4, "the map is affine"
        maps.append(solution.T)
    return np.stack(maps)


def test_flip_with_probability_1_equals_numpys_flip_exactly() -> None:
    assert (moved(flip=1) == images_of(np.arange(ROWS)).permute(0, 2, 3, 1).numpy()[:, :, ::-1]).all()


def test_zero_parameters_leave_images_unchanged() -> None:
    assert (moved() == images_of(np.arange(ROWS)).permute(0, 2, 3, 1).numpy()).all()


def test_images_are_flipped_with_the_given_probability() -> None:
    mirrored = np.linalg.det(poses(flip=0.5, shift=0.1)[:, :, :2]) < 0
    assert 20 < mirrored.sum() < 44
    assert (mirrored == (moved(flip=0.5) != moved()).any(axis=(1, 2, 3))).all(), "with and without a shift"


def test_shifts_are_exact_and_in_whole_pixels() -> None:
    maps = poses(shift=0.1)
    assert np.abs(maps[:, :, :2] - np.eye(2)).max() < 1e-4
    shifts = np.rint(maps[:, :, 2]).astype(int)
    assert np.abs(maps[:, :, 2] - shifts).max() < 1e-3
    assert np.abs(shifts).max(axis=0).tolist() == [2, 3], "a tenth of 24 and of 32"
    assert len(np.unique(shifts, axis=0)) > 20
    original = moved()
    for row, (right, down) in enumerate(shifts):
        rolled = np.roll(original[row], (-down, -right), axis=(0, 1))
        assert moved(shift=0.1)[row][3:-3, 3:-3] == pytest.approx(rolled[3:-3, 3:-3], abs=1e-5)


def test_rotations_cover_the_range_up_to_the_limit() -> None:
    maps = poses(rotate=20)[:, :, :2]
    assert np.abs(maps @ maps.transpose(0, 2, 1) - np.eye(2)).max() < 1e-3, "the map is a rotation"
    angles = np.rad2deg(np.arctan2(maps[:, 0, 1], maps[:, 0, 0]))
    assert -20 <= angles.min() < -15
    assert 15 < angles.max() <= 20


def test_scaling_covers_the_range_up_to_the_limit() -> None:
    maps = poses(scale=0.2)[:, :, :2]
    zoom = 1 / maps[:, 0, 0]
    assert np.abs(maps - np.eye(2) / zoom[:, None, None]).max() < 1e-4
    assert 0.8 <= zoom.min() < 0.85
    assert 1.15 < zoom.max() <= 1.2


@pytest.mark.parametrize(("padding", "border"), [("border", cv2.BORDER_REPLICATE), ("reflection", cv2.BORDER_REFLECT)])
def test_the_combined_transform_equals_opencvs_for_the_same_map(padding: str, border: int) -> None:
    parameters: dict[str, Any] = {"flip": 0.5, "shift": 0.1, "rotate": 15, "scale": 0.2}
    result, original = moved(padding=padding, **parameters), moved()
    center = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    for row, pose in enumerate(poses(**parameters)):
        matrix = pose.copy()
        matrix[:, 2] += center - matrix[:, :2] @ center
        expected = cv2.warpAffine(
            original[row],
            matrix,
            (WIDTH, HEIGHT),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=border,
        )
        # OpenCV rounds coordinates to 1/32 pixel, and neighboring pixels of the noise differ by up to 1.
        assert np.abs(result[row] - expected).mean() < 0.02


def test_results_do_not_depend_on_the_batch() -> None:
    parameters: dict[str, Any] = {"flip": 0.5, "shift": 0.1, "rotate": 15, "scale": 0.2}
    some = np.array([40, 3, 17])
    assert moved(rows=some, **parameters) == pytest.approx(moved(**parameters)[some], abs=1e-6)


def test_epochs_seeds_and_repeated_draws_give_different_results() -> None:
    parameters: dict[str, Any] = {"shift": 0.1, "rotate": 15}
    first = moved(**parameters)
    assert (moved(epoch=1, **parameters) != first).any(axis=(1, 2, 3)).all()
    assert (moved(seed=1, **parameters) != first).any(axis=(1, 2, 3)).all()
    thrice = moved(rows=np.array([5, 5, 5]), **parameters)
    assert (thrice[0] == first[5]).all()
    assert len(np.unique(thrice.reshape(3, -1), axis=0)) == 3


def test_a_row_repeated_in_a_later_batch_is_transformed_differently() -> None:
    run = pipeline(rotate=15)
    rows = np.array([5, 6])
    batches = [
        run.fold("augment_batch", (images_of(rows), torch.ones(2, 1)), rows=rows, training_set=DATA, epoch=epoch)[0]
        for epoch in (0, 0, 1)
    ]
    assert not any(torch.equal(batches[one], batches[other]) for one, other in ((0, 1), (0, 2), (1, 2)))


def test_memory_format_is_preserved() -> None:
    inputs = images_of(np.arange(4)).contiguous(memory_format=torch.channels_last)
    pair = (inputs, torch.ones(4, 1))
    result, _ = pipeline(rotate=5).fold("augment_batch", pair, rows=np.arange(4), training_set=DATA, epoch=0)
    assert result.is_contiguous(memory_format=torch.channels_last)
    plain, _ = pipeline(rotate=5).fold(
        "augment_batch", (inputs.contiguous(), torch.ones(4, 1)), rows=np.arange(4), training_set=DATA, epoch=0
    )
    assert plain.is_contiguous()
    assert torch.allclose(plain, result)


def test_effects_depend_on_the_parameters() -> None:
    assert FlipCropAffine().effects == Effect.RANDOM | Effect.RANDOM_FLIP
    assert FlipCropAffine(**NO_CHANGE).effects == Effect(0)
    assert FlipCropAffine(**{**NO_CHANGE, "flip": 1}).effects == Effect.RANDOM_FLIP
    assert FlipCropAffine(**{**NO_CHANGE, "rotate": 5}).effects == Effect.RANDOM


@pytest.mark.parametrize("wrong", [{"flip": 1.5}, {"shift": 0.6}, {"rotate": -1}, {"scale": 1}, {"padding": "zeros"}])
def test_parameters_out_of_range_are_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FlipCropAffine(**wrong)
