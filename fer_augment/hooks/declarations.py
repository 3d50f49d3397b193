"""Declarations that plugins register besides strategies and networks: readers, losses, trackers and recipes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from fer_augment.data.dataset import Splits
from fer_augment.data.image_source import ImageSource
from fer_augment.phases import ReportProgress

if TYPE_CHECKING:
    import torch

BatchLoss: TypeAlias = "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]"
"""A function of logits `(B, K)` and targets `(B, K)` that returns the loss of each row, `(B,)`."""


class FeatureLoss(Protocol):
    """A loss that steps of `build_loss` may return in place of a `BatchLoss`; it asks for features by the name."""

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return the `(B,)` losses of rows.

        Args:
            logits: `(B, K) float32`.
            targets: `(B, K) float32`.
            features: `(B, D) float32`, the outputs of the network's module `features` for the rows, with gradient.
        """
        ...


Gradients: TypeAlias = "Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]"
"""A function that sets the gradients of the trained parameters for the batch of an optimizer step.

It is given targets `(B, K)` and weights `(B,)` or None, replaces the gradients by those of the mean over the batch of
weight times loss, and returns this mean, a scalar without gradient. It may be called several times in a step.
"""
Adjustment: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"
"""A function from logits `(B, K)` to logits `(B, K)` that treats each row independently."""


@dataclass(frozen=True)
class DatasetReader:
    """A way to read a data source.

    Attributes:
        name: the name of the format.
        summary: one-line description of the format.
        recognizes: whether the source (a path or a word, as typed) has this format; must be fast and never raise.
        read: reads the source and reports progress; returns splits, or image files that the framework decodes in the
            size and color that a recipe asks for.
        example: writes a small source into an empty folder and returns it as typed after `--data`; the conformity kit
            reads it. A reader that is without one is checked with `--source`.
    """

    name: str
    summary: str
    recognizes: Callable[[str], bool]
    read: Callable[[str, ReportProgress], Splits | ImageSource]
    example: Callable[[Path], str] | None = None


@dataclass(frozen=True)
class Loss:
    """A loss for recipes.

    Attributes:
        name: the name used in recipes.
        summary: one-line description.
        of_batch: returns the loss of each row, `(B,)`; logits and targets are `(B, K) float32`. The trainer averages.
        over_logits: False if the loss uses the softmax output instead of the logits.
    """

    name: str
    summary: str
    of_batch: BatchLoss
    over_logits: bool = True


@dataclass(frozen=True)
class RecipeFile:
    """A recipe that a distribution ships; its name is that of the file, without `.yaml`.

    Attributes:
        path: the file, installed with the distribution.
    """

    path: Path

    @classmethod
    def all_in(cls, folder: Path) -> list[RecipeFile]:
        """Return the recipes in a folder, sorted by name."""
        return [cls(path) for path in sorted(folder.glob("*.yaml"))]

    @property
    def name(self) -> str:
        """The name by which the recipe is used."""
        return self.path.stem

    @property
    def summary(self) -> str:
        """Where the recipe is."""
        return f"the recipe in {self.path}"

    @property
    def fault(self) -> str | None:
        """What is wrong with the declaration; None if nothing is."""
        if not isinstance(self.path, Path) or self.path.suffix != ".yaml":
            return f"path must be a Path of a .yaml file, got {self.path!r}"
        if not re.fullmatch(r"[A-Za-z]\w*", self.name):
            return f"{self.path}: the file name must consist of letters, digits and _, starting with a letter"
        return None if self.path.is_file() else f"{self.path}: no such file; is it part of the installed package?"


@dataclass(frozen=True)
class Tracker:
    """A way to follow comparisons and runs, such as a log or a tracking server.

    Attributes:
        name: the name used in recipes and with `--track`.
        summary: one-line description.
        make: creates the observer of one comparison or run, an object with hooks of `ObserverSpecs`. Receives the
            directory of results; nothing should be written before the first event. It raises `PluginError` if a
            package is missing.
    """

    name: str
    summary: str
    make: Callable[[Path], object]
