"""TrivialAugment: apply one random operation of random strength to each image of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fer_augment import Context, Effect, ImageDataset, Strategy, StrategyError, hookimpl, uniforms

if TYPE_CHECKING:
    import torch

Operation = Literal[
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "color",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
]
_LEVELS = 31


@dataclass(frozen=True)
class _Space:
    """Largest strengths: degrees, slope, fraction of the side, relative change of an enhancement, bits dropped."""

    rotate: float
    shear: float
    translate: float
    enhance: float
    posterize: int


_SPACES = {
    "standard": _Space(rotate=30, shear=0.3, translate=10 / 32, enhance=0.9, posterize=4),
    "wide": _Space(rotate=135, shear=0.99, translate=1, enhance=0.99, posterize=6),
}


class TrivialAugment(Strategy):
    """Apply TrivialAugment: change each image by one random operation of random strength, without tuning.

    Operations on gray levels are those of Pillow, on levels of 1/255. Shifts are fractions of the side, whereas the
    paper gives pixels of 32x32 images. Images are rotated and sheared about their center with bilinear interpolation,
    and edge pixels are repeated outside.

    `color` (saturation) is skipped for images that do not have three channels. The random numbers of a row depend on
    the row, the epoch and on how often the row was already drawn in this epoch.

    When: strong augmentation is needed, without time to tune it.

    Cost: one second on one core for the rows of FER2013. It is strong for a small network and pays off over many
    epochs. It favors no class.

    Try: space `standard` for upright faces, as `wide` rotates by up to 135 degrees; or fewer `operations`.

    Source: Müller and Hutter 2021, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", ICCV;
    operations and strengths are those of its spaces "RA" (here `standard`; after Cubuk, Zoph, Shlens and Le 2020,
    "RandAugment", NeurIPS) and "Wide", with 31 levels of strength.
    """

    space: Literal["standard", "wide"] = Field(
        default="standard",
        description="largest strengths; standard, for upright faces, rotates by up to 30 degrees, wide by up to 135.",
    )
    operations: list[Operation] = Field(
        default=list(get_args(Operation)), min_length=1, description="operations to draw from; all by default."
    )

    @property
    def effects(self) -> Effect:
        """Random, unless there is a single operation without strength."""
        operations = set(self.operations)
        is_deterministic = len(operations) == 1 and operations <= {"identity", "autocontrast", "equalize"}
        return Effect(0) if is_deterministic else Effect.RANDOM

    @hookimpl
    def augment_batch(
        self,
        images: torch.Tensor,
        targets: torch.Tensor,
        rows: NDArray[np.int64],
        draws: NDArray[np.int64],
        training_set: ImageDataset,
        context: Context,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Apply a random operation to each image; targets are unchanged."""
        import torch

        operations = self._operations_for(images.shape[1])
        uniform = uniforms(context.row_seeds(training_set.row_keys(rows), draws), 3)
        drawn = np.array(operations)[np.floor(uniform[:, 0] * len(operations)).astype(np.int64)]
        strength = np.floor(uniform[:, 1] * _LEVELS) / (_LEVELS - 1)
        sign = np.where(uniform[:, 2] < 0.5, -1.0, 1.0)
        changed = images.clone()
        chosen = np.flatnonzero(np.isin(drawn, _GEOMETRIC))
        if len(chosen):
            indices = torch.from_numpy(chosen).to(images.device)
            maps = self._sampling_maps(drawn[chosen], strength[chosen] * sign[chosen], images.shape[2:])
            changed[indices] = _resample(images[indices], torch.from_numpy(maps).to(images))
        for name, operation in _ON_LEVELS.items():
            chosen = np.flatnonzero(drawn == name)
            if len(chosen):
                indices = torch.from_numpy(chosen).to(images.device)
                arguments = torch.from_numpy(self._arguments(name, strength[chosen], sign[chosen]))
                changed[indices] = operation(images[indices], arguments.to(images)[:, None, None, None])
        return changed, targets

    def _operations_for(self, channels: int) -> list[Operation]:
        operations = [name for name in self.operations if name != "color" or channels == 3]
        if not operations:
            raise StrategyError(
                f"`color` requires images with three channels, these have {channels}; add other `operations`"
            )
        return operations

    def _arguments(self, name: str, strength: NDArray[np.float64], sign: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the argument of an operation on levels for each image, `(n,)`, from strengths in [0, 1]."""
        space = _SPACES[self.space]
        if name == "solarize":
            return 256 - np.floor(256 * strength)
        if name == "posterize":
            return np.exp2(np.rint(space.posterize * strength))
        return 1 + space.enhance * strength * sign

    def _sampling_maps(
        self, drawn: NDArray[np.str_], strength: NDArray[np.float64], size: Sequence[int]
    ) -> NDArray[np.float32]:
        """Return for each image the affine map from output to input coordinates.

        Args:
            drawn: `(n,)` names of geometric operations.
            strength: `(n,)` in [-1, 1].
            size: H, W.

        Returns:
            `(n, 2, 3) float32` maps of `(x, y, 1)`; both coordinates range from -1 to 1 across the image.
        """
        height, width = size
        space = _SPACES[self.space]
        angle = np.deg2rad(space.rotate) * strength * (drawn == "rotate")
        slant_x, slant_y = (space.shear * strength * (drawn == name) for name in ("shear_x", "shear_y"))
        right, down = (space.translate * strength * (drawn == name) for name in ("translate_x", "translate_y"))
        cos, sin = np.cos(angle), np.sin(angle)
        to_x = [cos, (sin + slant_x) * height / width, np.rint(right * width) * 2 / width]
        to_y = [(slant_y - sin) * width / height, cos, np.rint(down * height) * 2 / height]
        return np.stack([np.stack(to_x, axis=1), np.stack(to_y, axis=1)], axis=1).astype(np.float32)


def _resample(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Resample `(n, C, H, W)` images by `(n, 2, 3)` affine maps."""
    from torch.nn import functional

    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return moved.clamp_(0, 1)


def _levels(images: torch.Tensor) -> torch.Tensor:
    """Return the nearest integer levels, 0 … 255."""
    return (images * 255).round_()


def _blend(plain: torch.Tensor, images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Interpolate from the plain version (factor 0) to the image (factor 1), or extrapolate beyond it (factor 2)."""
    return (plain + factor * (images - plain)).clamp_(0, 1)


def _luma(images: torch.Tensor) -> torch.Tensor:
    """Return the luma of each pixel, `(n, 1, H, W)`: ITU-R 601 for three channels, otherwise the channel mean."""
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    return (images * images.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)


def _autocontrast(images: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Stretch each channel to the full range; constant channels are unchanged."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    stretched = (images - low) / (high - low).clamp(min=1e-6)
    return stretched.where(high - low > 0.5 / 255, images)


def _equalize(images: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Equalize the histogram of each channel, with the arithmetic of Pillow's `ImageOps.equalize`."""
    levels = _levels(images).long().flatten(2)
    frequency = levels.new_zeros((*levels.shape[:2], 256)).scatter_add_(
        2, levels, levels.new_ones(()).expand_as(levels)
    )
    last = frequency.gather(2, levels.amax(dim=2, keepdim=True))
    step = (levels.shape[2] - last) // 255
    below = frequency.cumsum(dim=2) - frequency
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    spread = table.gather(2, levels).view(images.shape) / 255
    return spread.to(images).where(step[..., None] > 0, images)


def _solarize(images: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Invert pixels at or above the threshold, a level."""
    return images.where(_levels(images) < threshold, 1 - images)


def _posterize(images: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """Round levels down to multiples of the width."""
    return (_levels(images) / width).floor_() * width / 255


def _saturate(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return _blend(_luma(images), images, factor)


def _change_contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return _blend(_luma(images).mean(dim=(2, 3), keepdim=True), images, factor)


def _brighten(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return (images * factor).clamp_(0, 1)


def _sharpen(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Blend with the image smoothed by [[1, 1, 1], [1, 5, 1], [1, 1, 1]] / 13; edge pixels are unchanged."""
    from torch.nn import functional

    smooth = images.clone()
    if min(images.shape[2:]) > 2:
        inner = images[:, :, 1:-1, 1:-1]
        smooth[:, :, 1:-1, 1:-1] = (9 * functional.avg_pool2d(images, 3, stride=1) + 4 * inner) / 13
    return _blend(smooth, images, factor)


_GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_ON_LEVELS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "solarize": _solarize,
    "color": _saturate,
    "posterize": _posterize,
    "contrast": _change_contrast,
    "brightness": _brighten,
    "sharpness": _sharpen,
}


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [TrivialAugment]
