"""Access to the linear last layer of a network, for strategies that change its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fer_augment.errors import StrategyError

if TYPE_CHECKING:
    from torch import nn


def linear_head(model: nn.Module) -> nn.Linear:
    """Return the linear last layer of a network, `model.head`, with weights `(K, D)` and a bias `(K,)` or None.

    Raises:
        StrategyError: if the network has no linear head, such as convnet1 to convnet5, or a step has replaced it.
    """
    from torch import nn

    head = getattr(model, "head", None)
    if isinstance(head, nn.Linear):
        return head
    actual = "has no `head`" if head is None else f"has a {type(head).__name__} as `head`"
    raise StrategyError(
        f"a linear last layer is required, but the network {actual} (convnet1 to convnet5 end in batch norm and ReLU, "
        "and a step such as ldam_loss replaces the layer); choose another model, such as vgg_tiny or vgg_mini, or "
        "remove this step or the earlier one that replaced the layer"
    )
