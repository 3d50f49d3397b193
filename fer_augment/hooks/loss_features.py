"""Features of a batch for the losses that ask for them by the argument `features`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeGuard, cast

from fer_augment.errors import StrategyError
from fer_augment.hooks.declarations import BatchLoss, FeatureLoss

if TYPE_CHECKING:
    import torch

ARGUMENT = "features"


def asks_for_features(loss: BatchLoss | FeatureLoss) -> TypeGuard[FeatureLoss]:
    """Return whether a loss has the argument `features`."""
    try:
        return ARGUMENT in inspect.signature(loss).parameters
    except (TypeError, ValueError):  # a callable without a signature
        return False


class LossFeatures:
    """Passes the features of the last forward pass to losses, however deep other losses wrap them.

    Where no loss asks for features, the network is left as it is.

    Attributes:
        is_wanted: whether a loss asks for features.
    """

    def __init__(self) -> None:
        """Start without a loss."""
        self.is_wanted = False
        self._last: torch.Tensor | None = None

    def offered_to(self, loss: BatchLoss | FeatureLoss) -> BatchLoss:
        """Return a loss of logits and targets alone, for the next step to wrap."""
        if not asks_for_features(loss):
            return cast("BatchLoss", loss)
        self.is_wanted = True
        return lambda logits, targets: loss(logits, targets, features=self._of(len(logits)))

    @contextmanager
    def captured(self, network: torch.nn.Module) -> Iterator[None]:
        """Keep the output of the network's `features` of each forward pass in this context, if a loss wants it.

        Raises:
            StrategyError: if the network has no such module.
        """
        if not self.is_wanted:
            yield
            return
        backbone = getattr(network, "features", None)
        if backbone is None:
            raise StrategyError(
                "a loss asks for the outputs of the network's `features`, and it has no such module; choose another "
                "model, and declare Effect.NEEDS_FEATURES so that it is refused before training"
            )
        handle = backbone.register_forward_hook(self._keep)
        try:
            yield
        finally:
            handle.remove()
            self._last = None

    @contextmanager
    def given(self, features: torch.Tensor | None) -> Iterator[None]:
        """Use `(B, D)` features for the losses evaluated in this context."""
        self._last = features
        try:
            yield
        finally:
            self._last = None

    def _keep(self, module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        self._last = output.flatten(1).float()

    def _of(self, rows: int) -> torch.Tensor:
        if self._last is None or len(self._last) != rows:
            given = "none" if self._last is None else f"{len(self._last)} rows"
            raise StrategyError(
                f"a loss that asks for features was given {rows} rows of logits, but there are features of {given}; "
                "place its step after those that evaluate the loss on other rows"
            )
        return self._last
