"""The files of a distribution with a loss."""

from __future__ import annotations

from fer_augment.scaffold.common import INSTALL, PYPROJECT

_LOSS = '''\
"""The loss `$name`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fer_augment import Loss, hookimpl

if TYPE_CHECKING:
    import torch


def absolute_error(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the absolute error of the softmax output of each row, summed over the classes.

    Args:
        logits: `(B, K) float32`.
        targets: `(B, K) float32`, class weights that sum to 1 in each row; they need not be one-hot.

    Returns:
        `(B,)`; the trainer averages.
    """
    return (logits.softmax(dim=1) - targets).abs().sum(dim=1)


# over_logits=False: the loss uses the softmax output, so steps that need a loss over logits are warned of.
LOSS = Loss("$name", "absolute error of the softmax output", absolute_error, over_logits=False)


@hookimpl
def register_losses() -> Sequence[Loss]:
    """Register the loss of this module."""
    return [LOSS]
'''

_RECIPE = """\
# fer-augment compare demo $name.yaml --data demo --seeds 3
#
# This recipe changes the loss of `demo`, so the comparison shows the effect of the loss alone.
# `demo` is a small network for quick tests; on FER2013, extend `paper` or `modern` and compare with that recipe.
extends: demo
description: "Train with the loss $name."
training: {loss: $name}
"""

_TESTS = '''\
"""The loss passes the conformity kit and does what its docstring says."""

import torch
from fer_augment import Loss
from fer_augment.testing import PluginCheck, parametrize_with_loss_checks

from $module import LOSS


@parametrize_with_loss_checks([LOSS])
def test_conforms(loss: Loss, check: PluginCheck) -> None:
    check(loss)


# This test is about the loss of the template: replace it by one about yours.
def test_it_is_the_absolute_error_of_the_softmax_output() -> None:
    logits, targets = torch.zeros(1, 4), torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    assert LOSS.of_batch(logits, targets).tolist() == [1.5]
'''

_README = f"""\
# $name

A loss for fer_augment, which recipes select with `training: {{loss: $name}}`. The template in `$module.py`
is the absolute error of the softmax output; replace it by your loss, and the second test in
`tests/test_$name.py` by one about it.

{INSTALL}
Test whether it helps, first on synthetic faces with a small network, which takes a few minutes:

```
fer-augment recipes check $name.yaml
fer-augment compare demo $name.yaml --data demo --seeds 3
```
"""

FILES = {
    "$module.py": ("the loss: edit this file", _LOSS),
    "$name.yaml": ("a recipe that uses it", _RECIPE),
    "tests/test_$name.py": ("tests: the conformity kit, and one for the loss", _TESTS),
    "pyproject.toml": ("the distribution and its entry point", PYPROJECT),
    "README.md": ("how to install, check and compare it", _README),
}
"""The purpose and the template of each file."""
