"""Temperature scaling: divide the logits of a trained network by one number, so that probabilities are calibrated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fer_augment import Adjustment, Context, Strategy, StrategyError, hookimpl

if TYPE_CHECKING:
    import torch

_SMALLEST, _LARGEST = 0.01, 100.0
"""Range of fitted temperatures; a validation split that is predicted without error has no finite one."""
_HALVINGS = 60


class TemperatureScaling(Strategy):
    """Apply temperature scaling: divide the logits of a trained network by a temperature fitted on validation.

    The temperature is the number that minimizes the negative log-likelihood of the validation split. Above 1 it makes
    probabilities less extreme, below 1 more. The order of the classes stays the same, so no prediction changes:
    accuracy and recall are those of the network, and only the probabilities, and with them ECE and NLL, differ.

    `auto` fits it after the adjustments of earlier steps, by bisection: the likelihood has a single maximum in the
    inverse of the temperature, which is limited to 0.01 to 100. The run record and reports show the value.

    When: probabilities are read as such, for thresholds, costs or several classes at once, and the network is
    overconfident (a large ECE), as after many epochs.

    Cost: no training. One number cannot correct classes that are miscalibrated in different ways. The validation split
    must have the class frequencies of the data on which the probabilities are used.

    Try: auto, as the last step of a recipe.

    Source: Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern Neural Networks", ICML, section 4.2.
    """

    temperature: Annotated[float, Field(ge=_SMALLEST)] | Literal["auto"] = Field(
        default="auto",
        description="number that the logits are divided by; 1: no change; auto: fitted on the validation split.",
    )

    @hookimpl
    def build_adjustment(
        self,
        adjust: Adjustment,
        validation_logits: torch.Tensor,
        validation_labels: torch.Tensor,
        context: Context,
    ) -> Adjustment:
        """Divide the logits after the adjustments of earlier steps."""
        temperature = self.temperature
        if temperature == "auto":
            temperature = _fitted(adjust(validation_logits), validation_labels)
            context.note("temperature", temperature)
        return lambda logits: adjust(logits) / temperature


def _fitted(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the temperature with the smallest mean negative log-likelihood.

    With b = 1 / temperature, its derivative is mean(sum_k p_k z_k - z_label), p = softmax(b z), and increases with b.

    Args:
        logits: `(V, K)`, of V validation rows.
        labels: `(V,)`.

    Raises:
        StrategyError: if there are no validation rows.
    """
    if not len(labels):
        raise StrategyError(
            "`temperature: auto` requires validation rows, but there are none; set `temperature` to a number such as 1"
        )
    exact = logits.double()
    of_labels = exact.gather(1, labels[:, None]).mean()

    def is_too_sharp(inverse: float) -> bool:
        expected = ((inverse * exact).softmax(dim=1) * exact).sum(dim=1).mean()
        return bool(expected > of_labels)

    low, high = 1 / _LARGEST, 1 / _SMALLEST
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if is_too_sharp(middle) else (middle, high)
    return 1 / math.sqrt(low * high)


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [TemperatureScaling]
