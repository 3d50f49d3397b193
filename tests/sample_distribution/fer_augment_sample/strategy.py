"""A strategy with two parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from fer_augment import ClassName, Context, Effect, ImageDataset, Strategy, hookimpl, uniforms


class DimmedCopies(Strategy):
    """Append a darker copy of every row of the named classes, each by a random amount."""

    example: ClassVar[Mapping[str, Any]] = {"classes": ["ant"]}

    classes: list[ClassName] = Field(min_length=1, description="Classes whose rows are copied.")
    darkest: float = Field(default=0.5, gt=0, lt=1, description="Brightness of the darkest copy, as a share.")

    @property
    def effects(self) -> Effect:
        """Declare more rows of some classes, at random brightness."""
        return Effect.SHIFTS_CLASS_PRIOR | Effect.RANDOM

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset, context: Context) -> ImageDataset:
        """Append the copies."""
        rows = training_set.rows_of(self.classes)
        chance = uniforms(context.row_seeds(training_set.copy_keys(rows)), 1)
        share = self.darkest + (1 - self.darkest) * chance[:, :, None, None]
        return training_set.append((training_set.images[rows] * share).astype(np.uint8), parents=rows)


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [DimmedCopies]
