"""Test-time augmentation: average the logits over several shifted or mirrored views of each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from fer_augment import Strategy, hookimpl

if TYPE_CHECKING:
    import torch


class MirrorViews(Strategy):
    """Apply test-time augmentation with mirroring: predict from each image and its left-right mirror image.

    When: mirroring preserves the class, and prediction may take twice as long. No retraining is needed.

    Cost: two predictions per image. It favors no class. Compare an arm that uses it with arms that also use it.

    Try: no parameters to tune.

    Measured: on FER2013 (recipe `modern_mirror_views`), 18 epochs, n = 3 runs: balanced accuracy +1.3 points (95 % CI
    +0.4 to +2.2) and accuracy +0.9 points (+0.6 to +1.3), both better.

    Source: common practice; the mirrored half of the views of Krizhevsky, Sutskever and Hinton 2012, "ImageNet
    Classification with Deep Convolutional Neural Networks", NeurIPS, section 4.1.
    """

    @hookimpl
    def predict_views(self, views: list[torch.Tensor]) -> list[torch.Tensor]:
        """Add the mirror image of each view, `(B, C, H, W)`."""
        return [*views, *_mirrored(views)]


class TenCropViews(Strategy):
    """Apply ten-crop test-time augmentation: predict from each image, shifted to its corners, and mirrored.

    The ten views are the image, the image shifted toward each corner, and the mirror images of these five. In the
    paper, they are crops from the center and corners of a larger image. Here, each view keeps the size of the image: it
    is shifted by whole pixels, and edge pixels are repeated to fill the gap. No retraining is needed.

    When: the position of faces varies between images, and prediction may take ten times as long.

    Cost: ten predictions per image. It favors no class. Compare an arm that uses it with arms that also use it.

    Try: shift 0.1, or the shift used in training (`flip_crop_affine`).

    Source: Krizhevsky, Sutskever and Hinton 2012, "ImageNet Classification with Deep Convolutional Neural Networks",
    NeurIPS, section 4.1.
    """

    shift: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="size of the shift, as a fraction of height and width, rounded to whole pixels.",
    )

    @hookimpl
    def predict_views(self, views: list[torch.Tensor]) -> list[torch.Tensor]:
        """Replace each view, `(B, C, H, W)`, by ten views."""
        shifted = [crop for view in views for crop in self._crops(view)]
        return [*shifted, *_mirrored(shifted)]

    def _crops(self, view: torch.Tensor) -> list[torch.Tensor]:
        """Crop images of the original size from the center and corners of the padded images."""
        from torch.nn.functional import pad

        height, width = view.shape[2:]
        down, right = round(self.shift * height), round(self.shift * width)
        padded = pad(view, (right, right, down, down), mode="replicate")
        corners = [(down, right), (0, 0), (0, 2 * right), (2 * down, 0), (2 * down, 2 * right)]
        return [padded[:, :, top : top + height, left : left + width] for top, left in corners]


def _mirrored(views: list[torch.Tensor]) -> list[torch.Tensor]:
    return [view.flip(3) for view in views]


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategies of this module."""
    return [MirrorViews, TenCropViews]
