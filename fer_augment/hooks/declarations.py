"""The nouns that plugins offer besides strategies: models, readers, losses and trackers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from fer_augment.data.dataset import Splits

if TYPE_CHECKING:
    import torch

BatchLoss: TypeAlias = "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]"
"""From logits `(B, K)` and targets `(B, K)` to the loss of each row, `(B,)`."""
Adjustment: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"
"""From logits `(B, K)` to logits `(B, K)`, row by row."""
ReportProgress = Callable[[int, int], None]
"""Called with how much is done and how much there is to do."""


@dataclass(frozen=True)
class Model:
    """A network that a recipe may name.

    Attributes:
        name: the name used in recipes.
        summary: one line for people.
        build: makes an untrained network for `(H, W, C)` images and K classes. It takes `(B, C, H, W) float32` in
            `[0, 1]`, returns `(B, K)` raw logits, and has `features`, a module giving `(B, D)`, so that its last
            layers work on `features(images)`. Where the last layer is linear it is called `head`.
    """

    name: str
    summary: str
    build: Callable[[tuple[int, int, int], int], torch.nn.Module]


@dataclass(frozen=True)
class DatasetReader:
    """A way to read a data source.

    Attributes:
        name: names the format.
        summary: one line for people: what the source looks like.
        recognizes: whether the source (a path or a word, as typed) is of this format; cheap, never raises.
        read: reads it, and says how far it is.
    """

    name: str
    summary: str
    recognizes: Callable[[str], bool]
    read: Callable[[str, ReportProgress], Splits]


@dataclass(frozen=True)
class Loss:
    """A loss that a recipe may name.

    Attributes:
        name: the name used in recipes.
        summary: one line for people.
        of_batch: from logits `(B, K)` and targets `(B, K)` the loss of each row, `(B,)`; the trainer averages.
        over_logits: False where the loss sees the softmax output instead of the logits.
    """

    name: str
    summary: str
    of_batch: BatchLoss
    over_logits: bool = True


@dataclass(frozen=True)
class Tracker:
    """An observer of runs that a recipe may name; it implements the observer hooks of `StageSpecs`.

    Attributes:
        name: the name used in recipes.
        summary: one line for people.
        make: makes the observer of one run.
    """

    name: str
    summary: str
    make: Callable[[], object]
