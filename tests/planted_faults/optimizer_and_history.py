"""Strategies with faults at `optimizer_step`, with features, or with the history."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fer_augment import Effect, Strategy, hookimpl
from tests.planted_faults.fault import PlantedFault


class StaysAtMovedWeights(Strategy):
    """Move the weights along the gradient and return too little."""

    @hookimpl
    def optimizer_step(self, gradients: Any, parameters: Any) -> Any:
        def moved(targets: Any, weights: Any = None) -> Any:
            gradients(targets, weights)
            with torch.no_grad():
                for parameter in parameters:
                    parameter.add_(parameter.grad)
            loss = gradients(targets, weights)
            with torch.no_grad():
                for parameter in parameters:
                    parameter.sub_(parameter.grad)  # that of the moved weights
            return loss

        return moved


class RestoresWithRounding(Strategy):
    """Add and subtract the same number, which does not give back the same bits."""

    @hookimpl
    def optimizer_step(self, gradients: Any, parameters: Any) -> Any:
        def moved(targets: Any, weights: Any = None) -> Any:
            with torch.no_grad():
                for parameter in parameters:
                    parameter.add_(1000)
                for parameter in parameters:
                    parameter.sub_(1000)
            return gradients(targets, weights)

        return moved


class DividesByTheNorm(Strategy):
    """Scale gradients to length 1, also those of length 0."""

    @hookimpl
    def optimizer_step(self, gradients: Any, parameters: Any) -> Any:
        def scaled(targets: Any, weights: Any = None) -> Any:
            loss = gradients(targets, weights)
            norm = torch.stack([parameter.grad.norm() for parameter in parameters if parameter.grad is not None]).norm()
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad /= norm
            return loss

        return scaled


class ForgetsTheLoss(Strategy):
    """Return a number in place of the loss."""

    @hookimpl
    def optimizer_step(self, gradients: Any) -> Any:
        return lambda targets, weights=None: float(gradients(targets, weights))


class ExpectsEveryGradient(Strategy):
    """Double the gradients of all parameters, also of frozen ones."""

    @hookimpl
    def optimizer_step(self, gradients: Any, parameters: Any) -> Any:
        def doubled(targets: Any, weights: Any = None) -> Any:
            loss = gradients(targets, weights)
            for parameter in parameters:
                parameter.grad *= 2
            return loss

        return doubled


class DropsTheWeights(Strategy):
    """Compute the gradients of all rows alike."""

    @hookimpl
    def optimizer_step(self, gradients: Any) -> Any:
        return lambda targets, weights=None: gradients(targets, None)


class ComputesItsOwnGradients(Strategy):
    """Set gradients without the function of the earlier steps."""

    @hookimpl
    def optimizer_step(self, parameters: Any) -> Any:
        def decay(targets: Any, weights: Any = None) -> Any:
            for parameter in parameters:
                parameter.grad = 0.01 * parameter.detach()
            return targets.sum() * 0

        return decay


class HidesThatItNeedsFeatures(Strategy):
    """Keep features short, without declaring it."""

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        return lambda logits, targets, features: loss(logits, targets) + (features**2).sum(dim=1)


class DetachesFeatures(Strategy):
    """Measure the length of features, without a gradient."""

    @property
    def effects(self) -> Effect:
        return Effect.NEEDS_FEATURES

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        return lambda logits, targets, features: loss(logits, targets) + (features.detach() ** 2).sum(dim=1)


class WarmsUpFeatures(Strategy):
    """Keep features short, not yet in the first epoch."""

    @property
    def effects(self) -> Effect:
        return Effect.NEEDS_FEATURES

    @hookimpl
    def build_loss(self, loss: Any, epoch: int) -> Any:
        weight = min(1, epoch / 10)
        return lambda logits, targets, features: loss(logits, targets) + weight * (features**2).sum(dim=1)


class ClaimsToNeedFeatures(Strategy):
    """Declare features that no loss asks for."""

    @property
    def effects(self) -> Effect:
        return Effect.NEEDS_FEATURES

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        return lambda logits, targets: 2 * loss(logits, targets)


class TakesEveryRowForDrawn(Strategy):
    """Weight rows by their last logits, which are NaN for rows that were not drawn."""

    @property
    def effects(self) -> Effect:
        return Effect.USES_HISTORY | Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def sampling_weights(self, weights: Any, context: Any) -> Any:
        return weights * np.exp(context.history.logits.max(axis=1))


class NeedsADrawnRow(Strategy):
    """Raise the weights of rows by their share among those drawn, which may be none."""

    @property
    def effects(self) -> Effect:
        return Effect.USES_HISTORY

    @hookimpl
    def sampling_weights(self, weights: Any, context: Any) -> Any:
        drawn = int((context.history.epochs >= 0).sum())
        return weights * (1 + len(weights) // drawn * context.history.predictions.clip(0))


class NeedsADrawnRowLater(Strategy):
    """Do so after the first epoch, where a second training begins without a drawn row."""

    @property
    def effects(self) -> Effect:
        return Effect.USES_HISTORY

    @hookimpl
    def sampling_weights(self, weights: Any, context: Any, epoch: int) -> Any:
        drawn = int((context.history.epochs >= 0).sum()) if epoch else 1
        return weights * (1 + len(weights) // drawn * context.history.predictions.clip(0)) if epoch else weights


class ClaimsToUseTheHistory(Strategy):
    """Declare a history that is not used."""

    @property
    def effects(self) -> Effect:
        return Effect.USES_HISTORY

    @hookimpl
    def sampling_weights(self, weights: Any, context: Any) -> Any:
        return 2 * weights


class WeighsByStaleness(Strategy):
    """Draw rows more often the fewer epochs ago they were drawn."""

    @property
    def effects(self) -> Effect:
        return Effect.USES_HISTORY

    @hookimpl
    def sampling_weights(self, weights: Any, context: Any, epoch: int) -> Any:
        drawn = context.history.epochs
        return np.where(drawn >= 0, weights * (1 + 1 / (epoch - drawn)), weights)


class HidesThatItUsesTheHistory(Strategy):
    """Use the history without declaring it."""

    @hookimpl
    def sampling_weights(self, weights: Any, context: Any) -> Any:
        return weights * (1 + (context.history.epochs >= 0))


FAULTS: list[PlantedFault] = [
    (StaysAtMovedWeights, "returns_to_the_weights", "copy them back"),
    (RestoresWithRounding, "returns_to_the_weights", "bit by bit"),
    (DividesByTheNorm, "sets_finite_gradients", "a batch of weights 0: every parameter needs a finite gradient"),
    (ForgetsTheLoss, "sets_finite_gradients", "return the mean loss, a finite scalar tensor"),
    (ExpectsEveryGradient, "sets_finite_gradients", "fails if a parameter is frozen"),
    (DropsTheWeights, "passes_weights_on", "pass both arguments on"),
    (ComputesItsOwnGradients, "builds_on_earlier_steps", "the gradients of earlier steps are lost"),
    (HidesThatItNeedsFeatures, "declares_features_and_uses_them", "declare Effect.NEEDS_FEATURES"),
    (DetachesFeatures, "declares_features_and_uses_them", "do not detach them"),
    (ClaimsToNeedFeatures, "declares_features_and_uses_them", "remove Effect.NEEDS_FEATURES"),
    (TakesEveryRowForDrawn, "keeps_the_contract_of_its_stages", "finite weights"),
    (NeedsADrawnRow, "keeps_the_contract_of_its_stages", "by zero"),
    (NeedsADrawnRowLater, "copes_with_any_history", "sampling_weights: fails if no row was drawn"),
    (ClaimsToUseTheHistory, "copes_with_any_history", "remove Effect.USES_HISTORY"),
    (HidesThatItUsesTheHistory, "keeps_the_contract_of_its_stages", "declare Effect.USES_HISTORY"),
]
VALID: list[tuple[type[Strategy], str]] = [
    (WarmsUpFeatures, "declares_features_and_uses_them"),
    (WeighsByStaleness, "copes_with_any_history"),
    (WeighsByStaleness, "keeps_the_contract_of_its_stages"),
    (WeighsByStaleness, "hard_codes_no_number_of_classes"),
]
