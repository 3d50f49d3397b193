"""The last layer of a network, for strategies that work on its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fer_augment.errors import StrategyError

if TYPE_CHECKING:
    from torch import nn


def linear_head(model: nn.Module) -> nn.Linear:
    """Return the linear last layer of a network, `model.head`, with weights `(K, D)` and a bias `(K,)` or none.

    Raises:
        StrategyError: if it has none, as convnet1 to convnet5 have not.
    """
    from torch import nn

    head = getattr(model, "head", None)
    if isinstance(head, nn.Linear):
        return head
    found = "has no `head`" if head is None else f"has a {type(head).__name__} for a `head`"
    raise StrategyError(
        f"this works on a linear last layer, and the network {found} (convnet1 to convnet5 end in batch norm and "
        "ReLU); choose another model, such as vgg_tiny or vgg_mini, or take this step out"
    )
