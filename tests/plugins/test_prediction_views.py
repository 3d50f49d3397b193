"""The views of test-time augmentation are the image, exactly mirrored or shifted by whole pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fer_augment import Context, Effect
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins

MirrorViews: Any = installed_plugins().strategy("mirror_views").value
TenCropViews: Any = installed_plugins().strategy("ten_crop_views").value
IMAGES = torch.rand(4, 3, 20, 31, generator=torch.Generator().manual_seed(0))


def views(*strategies: Any, images: torch.Tensor = IMAGES) -> list[np.ndarray]:
    pipeline = Pipeline(steps_of(strategies), Context(0, ("a", "b")))
    return [view.numpy() for view in pipeline.fold("predict_views", [images])]


def shifted(images: np.ndarray, down: int, right: int) -> np.ndarray:
    """Shift images by indexing, with indices clipped at the edges."""
    rows = np.clip(np.arange(images.shape[2]) - down, 0, images.shape[2] - 1)
    columns = np.clip(np.arange(images.shape[3]) - right, 0, images.shape[3] - 1)
    return images[:, :, rows][:, :, :, columns]


def test_mirror_views_are_the_image_and_its_mirror_image() -> None:
    plain, mirrored = views(MirrorViews())
    assert (plain == IMAGES.numpy()).all() and (mirrored == IMAGES.numpy()[..., ::-1]).all()


@pytest.mark.parametrize(("shift", "down", "right"), [(0.1, 2, 3), (0.5, 10, 16), (0, 0, 0)])
def test_ten_crop_views_are_five_shifts_and_their_mirror_images(shift: float, down: int, right: int) -> None:
    actual = views(TenCropViews(shift=shift))
    shifts = [(0, 0), (down, right), (down, -right), (-down, right), (-down, -right)]
    expected = [shifted(IMAGES.numpy(), *each) for each in shifts]
    expected += [view[..., ::-1] for view in expected]
    assert len(actual) == 10
    for view, other in zip(actual, expected, strict=True):
        assert (view == other).all()


def test_views_of_several_steps_are_combined() -> None:
    assert len(views(MirrorViews(), TenCropViews())) == 20
    quadruple = views(MirrorViews(), MirrorViews())
    assert [(view == IMAGES.numpy()).all() for view in quadruple] == [True, False, False, True]


@pytest.mark.parametrize("strategy", [MirrorViews(), TenCropViews()])
def test_views_do_not_depend_on_the_batch(strategy: Any) -> None:
    for together, alone in zip(views(strategy), views(strategy, images=IMAGES[2:3]), strict=True):
        assert (together[2:3] == alone).all()


@pytest.mark.parametrize("strategy", [MirrorViews(), TenCropViews()])
def test_no_retraining_is_needed_and_no_effects_are_declared(strategy: Any) -> None:
    assert not steps_of([strategy])[0].acts_in_training
    assert strategy.effects == Effect(0)


@pytest.mark.parametrize("shift", [-0.1, 0.6])
def test_a_shift_out_of_range_is_rejected(shift: float) -> None:
    with pytest.raises(ValueError, match="shift"):
        TenCropViews(shift=shift)
