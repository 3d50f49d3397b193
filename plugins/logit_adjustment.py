"""Logit adjustment: take the class frequencies of the training out of a trained network's logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fer_augment import Adjustment, Context, Effect, Strategy, StrategyError, hookimpl

if TYPE_CHECKING:
    import torch

_GRID = tuple(step / 10 for step in range(21))


class LogitAdjustment(Strategy):
    """Subtract tau times the logarithm of each class's frequency from its logit; nothing is trained again.

    With tau 1 the softmax then estimates probabilities as if all classes were equally frequent, which is what balanced
    accuracy rewards; against labels in their real frequencies it is less well calibrated. Frequencies are those in
    which rows were drawn in the last epoch, so what sampling has balanced is not balanced twice. A class without rows
    is not adjusted: it is never favored.

    The softmax has to estimate probabilities. Cross-entropy and the squared error of the softmax output (`mse`) both
    train it to, as proper scoring rules (Gneiting and Raftery 2007, JASA 102, p. 359).

    `auto` tries 0, 0.1, … 2.0 on the validation split and takes the one with the highest balanced accuracy, the
    smallest of several; the run's record and reports say which.

    When: small classes are overlooked. It is the first thing to try: it takes the networks of the baseline, and
    whatever takes a training has to beat it.

    Cost: no training. The largest class can only lose recall and the smallest only gain; accuracy on data with the
    frequencies of the training tends to fall. `auto` rests on few rows where the validation split has few of a class.

    Try: auto, or 1; 0.5 where large classes lose too much.

    Measured: on FER2013, tau auto (recipe `modern_logit_adjustment`), 18 epochs, n = 3 runs: balanced accuracy +3.8
    points (95 % interval +2.1 to +5.5), better; accuracy -2.0 points (-3.2 to -0.8), worse.

    Elsewhere: accuracy on CIFAR-10 made unequal 100 to 1 (one number each) 71.3 % without, 78.2 % with it:
    github.com/Chumsy0725/logit-adj-pytorch, code of others for the paper.

    Source: Menon et al. 2021, "Long-Tail Learning via Logit Adjustment", ICLR, equation 9.
    """

    tau: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        default="auto",
        description="0: no adjustment; 1: as if all classes were equally frequent; auto: chosen on validation.",
    )

    @property
    def effects(self) -> Effect:
        """The logits make up for class frequencies."""
        return Effect.CORRECTS_CLASS_PRIOR if self.tau else Effect(0)

    @hookimpl
    def build_adjustment(
        self,
        adjust: Adjustment,
        validation_logits: torch.Tensor,
        validation_labels: torch.Tensor,
        class_prior: NDArray[np.float64],
        context: Context,
    ) -> Adjustment:
        """Adjust after what earlier steps do to the logits."""
        import torch

        log_prior = torch.from_numpy(np.log(np.where(class_prior > 0, class_prior, 1)))
        tau = self.tau
        if tau == "auto":
            tau = _best_tau(adjust(validation_logits), validation_labels, log_prior)
            context.note("tau", tau)
        return lambda logits: adjust(logits) - (tau * log_prior).to(logits)


def _best_tau(logits: torch.Tensor, labels: torch.Tensor, log_prior: torch.Tensor) -> float:
    """Return the tau of the grid with the highest balanced accuracy.

    Args:
        logits: `(V, K)` of V validation rows.
        labels: `(V,)`.
        log_prior: `(K,)`, logarithms of the class frequencies.

    Raises:
        StrategyError: if there is no validation row.
    """
    if not len(labels):
        raise StrategyError("there are no validation rows to choose tau on; give `tau` a number, 1 is the usual one")
    shares = 1 / labels.bincount(minlength=len(log_prior)).double()[labels]

    def recall_sum(tau: float) -> float:
        return float(shares[(logits - (tau * log_prior).to(logits)).argmax(dim=1) == labels].sum())

    return max(_GRID, key=recall_sum)


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Offer the strategy of this file."""
    return [LogitAdjustment]
