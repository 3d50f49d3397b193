"""Test-time views: look at a held-out image several times, a little moved or mirrored, and average the logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from fer_augment import Strategy, hookimpl

if TYPE_CHECKING:
    import torch


class MirrorViews(Strategy):
    """Predict from each image and its left-right mirror image; nothing is trained again.

    When: a mirror image shows the same class, and a prediction may take twice the time.

    Cost: each image is predicted twice. It favors no class. An arm with it is to be compared with one that has it too.

    Try: it has nothing to choose.

    Measured: on FER2013 (recipe `modern_mirror_views`), 18 epochs, n = 3 runs: balanced accuracy +1.3 points (95 %
    interval +0.4 to +2.2) and accuracy +0.9 points (+0.6 to +1.3), both better.

    Source: common practice, as the mirrored half of the views of Krizhevsky, Sutskever and Hinton 2012, "ImageNet
    Classification with Deep Convolutional Neural Networks", NeurIPS, section 4.1.
    """

    @hookimpl
    def predict_views(self, views: list[torch.Tensor]) -> list[torch.Tensor]:
        """Add the mirror image of each view, `(B, C, H, W)`."""
        return [*views, *_mirrored(views)]


class TenCropViews(Strategy):
    """Predict from each image, from it moved towards each corner, and from the mirror images of these five.

    In the paper the five are crops of a larger image, at its corners and center. Here a view keeps the image's size: it
    is moved by whole pixels, and the edge pixels are repeated where nothing moves in. Nothing is trained again.

    When: faces do not stand in the same place in every image, and a prediction may take ten times the time.

    Cost: each image is predicted ten times. It favors no class. An arm with it is to be compared with one that has it
    too.

    Try: shift 0.1, or as far as the training moves images (`flip_crop_affine`).

    Source: Krizhevsky, Sutskever and Hinton 2012, "ImageNet Classification with Deep Convolutional Neural Networks",
    NeurIPS, section 4.1.
    """

    shift: float = Field(
        default=0.1, ge=0, le=0.5, description="how far to move, as a fraction of height and width; in whole pixels."
    )

    @hookimpl
    def predict_views(self, views: list[torch.Tensor]) -> list[torch.Tensor]:
        """Replace each view, `(B, C, H, W)`, by ten."""
        moved = [crop for view in views for crop in self._crops(view)]
        return [*moved, *_mirrored(moved)]

    def _crops(self, view: torch.Tensor) -> list[torch.Tensor]:
        """Cut images of the old size from the center and the corners of images with wider edges."""
        from torch.nn.functional import pad

        height, width = view.shape[2:]
        down, right = round(self.shift * height), round(self.shift * width)
        wider = pad(view, (right, right, down, down), mode="replicate")
        corners = [(down, right), (0, 0), (0, 2 * right), (2 * down, 0), (2 * down, 2 * right)]
        return [wider[:, :, top : top + height, left : left + width] for top, left in corners]


def _mirrored(views: list[torch.Tensor]) -> list[torch.Tensor]:
    return [view.flip(3) for view in views]


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Offer the strategies of this file."""
    return [MirrorViews, TenCropViews]
