"""The files of a distribution with a network."""

from __future__ import annotations

from fer_augment.scaffold.common import INSTALL, PYPROJECT

_MODEL = '''\
"""The network `$name`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fer_augment import ConfigurableModel, hookimpl
from pydantic import Field

if TYPE_CHECKING:
    from torch import nn


class $class_name(ConfigurableModel):
    """Small network: two convolutions with batch norm, average pooling, linear head."""

    width: int = Field(default=16, ge=1, description="Channels of the first convolution.")

    def build(self, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Build the untrained network for images `(H, W, C)`.

        It has a module `features`, which returns `(B, D)`, and a linear last layer `head`.
        """
        from torch import nn

        width = self.width
        features = nn.Sequential(
            nn.Conv2d(image_shape[2], width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        return nn.Sequential(OrderedDict(features=features, head=nn.Linear(2 * width, classes)))


@hookimpl
def register_models() -> Sequence[type[ConfigurableModel]]:
    """Register the network of this module."""
    return [$class_name]
'''

_RECIPE = """\
# fer-augment compare demo $name.yaml --data demo --seeds 3
#
# This recipe changes the network of `demo`, so the comparison shows the effect of the network alone.
# `demo` is for quick tests; on FER2013, extend `paper` or `modern` and compare with that recipe.
extends: demo
description: "Train the network $name."
model: {$name: {width: 16}}
"""

_TESTS = '''\
"""The network passes the conformity kit and does what its docstring says."""

from fer_augment import ConfigurableModel
from fer_augment.testing import PluginCheck, parametrize_with_model_checks

from $module import $class_name


# One case per check, with the default parameters and with others.
@parametrize_with_model_checks([$class_name, $class_name(width=4)])
def test_conforms(model: type[ConfigurableModel] | ConfigurableModel, check: PluginCheck) -> None:
    check(model)


# This test is about the network of the template: replace it by one about yours.
def test_the_head_has_two_inputs_for_each_channel_of_the_first_convolution() -> None:
    network = $class_name(width=4).build((48, 48, 1), 7)
    assert (network.head.in_features, network.head.out_features) == (8, 7)
'''

_README = f"""\
# $name

A network for fer_augment, which recipes select with `model: $name`, or with parameters:
`model: {{$name: {{width: 32}}}}`. The template in `$module.py` is a small convolutional network; replace it by
yours. Then adapt the recipe `$name.yaml` and the second test in `tests/test_$name.py`, which use its
parameter `width`.

{INSTALL}
Compare it, first on synthetic faces, which takes a few minutes:

```
fer-augment recipes check $name.yaml
fer-augment compare demo $name.yaml --data demo --seeds 3
```
"""

FILES = {
    "$module.py": ("the network: edit this file", _MODEL),
    "$name.yaml": ("a recipe that uses it", _RECIPE),
    "tests/test_$name.py": ("tests: the conformity kit, and one for the network", _TESTS),
    "pyproject.toml": ("the distribution and its entry point", PYPROJECT),
    "README.md": ("how to install, check and compare it", _README),
}
"""The purpose and the template of each file."""
