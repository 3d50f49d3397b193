"""Label-aware smoothing: smooth the labels of large classes more than those of small ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fer_augment import BatchLoss, Context, Effect, ImageDataset, Strategy, hookimpl

if TYPE_CHECKING:
    import torch

Shape = Literal["concave", "linear", "convex"]
_SHAPES: dict[Shape, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "concave": lambda place: np.sin(np.pi / 2 * place),
    "linear": lambda place: place,
    "convex": lambda place: 1 - np.cos(np.pi / 2 * place),
}
"""Share of the way from the smallest to the largest smoothing, by (n - n_min) / (n_max - n_min)."""


class LabelAwareSmoothing(Strategy):
    """Apply label-aware smoothing: move a share of each target to the other classes, the more the larger its class.

    A row of class y has the target 1 - s_y for its class and s_y / (K - 1) for each other class. s_y goes from
    `smallest_class` to `largest_class` with the number of rows of the class, along a quarter of a sine (`concave`), a
    straight line, or a quarter of a cosine (`convex`). So the network is kept from overconfidence where it has most
    rows. For soft targets, the target is the weighted sum over the classes.

    Rows are counted in the training set as rewritten by earlier steps, regardless of sampling. If all classes have the
    same number, all have the smoothing of the largest class.

    The paper smooths in a second stage, which trains the classifier alone. Epoch numbers continue in the second stage
    of `crt`, so with `from_epoch` equal to `training.epochs` only that stage is smoothed (recipe
    `modern_label_aware_smoothing`).

    When: a balanced classifier is overconfident.

    Cost: no time or memory. As the step is a part of the loss, a recipe with it does not share its training with the
    baseline, even if it acts in the second stage only. Probabilities of confident predictions are lower.

    Try: 0.3 to 0.4 for the largest and 0 to 0.1 for the smallest class, as in the authors' code for CIFAR.

    Elsewhere: accuracy and ECE on long-tailed CIFAR-10 (imbalance ratio 100, ResNet-32, no spread given) 72.8 and 2.1 %
    with mixup, 82.5 and 3.7 % with MiSLAS after it: tables in the code repository of the paper.

    Source: Zhong, Cui, Liu and Jia 2021, "Improving Calibration for Long-Tailed Recognition", CVPR, section 3.2
    (MiSLAS). Its second stage also learns a scale of each class and updates batch norm; here `crt` initializes the
    classifier again.
    """

    largest_class: float = Field(default=0.3, ge=0, lt=1, description="smoothing of the class with the most rows.")
    smallest_class: float = Field(default=0.0, ge=0, lt=1, description="smoothing of the class with the fewest rows.")
    shape: Shape = Field(
        default="concave", description="how the smoothing grows with the number of rows between these two."
    )
    from_epoch: int = Field(
        default=0,
        ge=0,
        description="first epoch in which the step acts, counted from 0 and on through second stages; before it, the "
        "loss is unchanged.",
    )

    @property
    def effects(self) -> Effect:
        """Targets are no longer one-hot; rows of small classes keep more of theirs."""
        favors = Effect.FAVORS_SMALL_CLASSES if self.largest_class != self.smallest_class else Effect(0)
        return Effect.SOFT_TARGETS | favors if self.largest_class or self.smallest_class else Effect(0)

    @property
    def acts_from(self) -> int:
        """The first epoch with smoothed targets."""
        return self.from_epoch

    @hookimpl
    def build_loss(self, loss: BatchLoss, training_set: ImageDataset, epoch: int, context: Context) -> BatchLoss:
        """Smooth the targets before the loss from epoch `from_epoch` on."""
        import torch

        if epoch < self.from_epoch:
            return loss
        smoothing = self._smoothing(training_set.counts.astype(np.float64))
        smoothing_K = torch.tensor(smoothing, dtype=torch.float32, device=context.device)

        def of_smoothed(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            moved = targets * smoothing_K.to(targets)
            others = max(targets.shape[1] - 1, 1)
            return loss(logits, targets - moved + (moved.sum(dim=1, keepdim=True) - moved) / others)

        return of_smoothed

    def _smoothing(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the smoothing of each class, `(K,)`; that of a class without rows is never used."""
        smallest, largest = counts[counts > 0].min(), counts.max()
        place = (counts - smallest).clip(0) / (largest - smallest) if largest > smallest else np.ones_like(counts)
        return self.smallest_class + (self.largest_class - self.smallest_class) * _SHAPES[self.shape](place)


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [LabelAwareSmoothing]
