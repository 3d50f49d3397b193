"""Logit adjustment: remove the class prior of the training set from the logits of a trained network."""

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
    """Apply post-hoc logit adjustment: subtract tau times the log class frequencies from a trained network's logits.

    No retraining is needed. With tau 1, the softmax estimates the class probabilities under equal class frequencies,
    which is optimal for balanced accuracy; under the real frequencies it is less well calibrated. Class frequencies are
    those of the rows drawn in the last epoch, so classes that sampling has balanced are not balanced twice. Classes
    without rows are not adjusted, and so never favored.

    The softmax must estimate probabilities. Cross-entropy and the squared error of the softmax output (`mse`) ensure
    this, as they are proper scoring rules (Gneiting and Raftery 2007, JASA 102, p. 359).

    `auto` evaluates 0, 0.1, … 2.0 on the validation split and chooses the value with the highest balanced accuracy, the
    smallest if there is a tie; the run record and reports show the chosen value. A row in which m classes have the
    largest logit, its own among them, counts 1/m.

    When: small classes are rarely predicted. Try it first: it reuses the networks of the baseline, so any method that
    needs training should beat it.

    Cost: no training. The largest class can only lose recall and the smallest can only gain; accuracy on data with the
    class frequencies of the training set tends to drop. `auto` is noisy if the validation split has few rows of a
    class.

    Try: auto, or 1; 0.5 if large classes lose too much recall.

    Measured: on FER2013, tau auto (recipe `modern_logit_adjustment`), 18 epochs, n = 3 runs: balanced accuracy +3.8
    points (95 % CI +2.1 to +5.5), better; accuracy -2.0 points (-3.2 to -0.8), worse.

    Elsewhere: accuracy on long-tailed CIFAR-10 (imbalance ratio 100, no spread given) 71.3 % without, 78.2 % with it:
    github.com/Chumsy0725/logit-adj-pytorch, a third-party implementation of the paper.

    Source: Menon et al. 2021, "Long-Tail Learning via Logit Adjustment", ICLR, equation 9.
    """

    tau: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        default="auto",
        description="0: no adjustment; 1: as if all classes were equally frequent; auto: chosen on the validation "
        "split.",
    )

    @property
    def effects(self) -> Effect:
        """The logits correct for class frequencies."""
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
        """Adjust the logits after the adjustments of earlier steps."""
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
        logits: `(V, K)`, of V validation rows.
        labels: `(V,)`.
        log_prior: `(K,)`, log class frequencies.

    Raises:
        StrategyError: if there are no validation rows.
    """
    if not len(labels):
        raise StrategyError("`tau: auto` requires validation rows, but there are none; set `tau` to a number such as 1")
    logits, labels = logits.cpu(), labels.cpu()  # sums on a GPU may depend on the order of its threads
    counts = labels.bincount(minlength=len(log_prior))

    def recall_sum(tau: float) -> float:
        adjusted = logits - (tau * log_prior).to(logits)
        largest = adjusted == adjusted.max(dim=1, keepdim=True).values
        right = largest.gather(1, labels[:, None])[:, 0] / largest.sum(dim=1)  # 1/m for one of m classes
        recall = labels.bincount(right.double(), minlength=len(counts)) / counts.clamp_min(1)
        return round(float(recall.sum()), 12)  # so that rounding does not break ties

    return max(_GRID, key=recall_sum)


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [LogitAdjustment]
