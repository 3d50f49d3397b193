"""The files of a distribution with a strategy."""

from __future__ import annotations

from fer_augment.scaffold.common import PYPROJECT

_STRATEGY = '''\
"""The strategy `$name`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fer_augment import ClassName, Effect, ImageDataset, Strategy, hookimpl
from pydantic import Field


class $class_name(Strategy):
    """Append a left-right mirrored copy of every row of the named classes.

    When: a class is small, and mirroring an image does not change its class.

    Cost: memory for the copies; other classes are drawn less often and may lose recall.

    Try: the smallest class only.
    """

    # Parameters used by the conformity kit; the classes of its data are ant, bee and cat.
    example: ClassVar[Mapping[str, Any]] = {"classes": ["ant"]}

    classes: list[ClassName] = Field(min_length=1, description="Classes whose rows are mirrored.")

    @property
    def effects(self) -> Effect:
        """Declare what changes; recipes are checked for combinations that do not work well."""
        return Effect.SHIFTS_CLASS_PRIOR | Effect.MIRRORED_COPIES

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset) -> ImageDataset:
        """Append the mirrored rows to the training set."""
        rows = training_set.rows_of(self.classes)
        return training_set.append(training_set.images[rows][:, :, ::-1], parents=rows)


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [$class_name]
'''

_RECIPE = """\
# fer-augment compare demo $name.yaml --data demo --seeds 3
#
# This recipe adds one step to `demo`, so the comparison shows the effect of this step alone.
# `demo` is a small network for quick tests; on FER2013, extend `paper` or `modern` and compare with that recipe.
extends: demo
description: "Add mirrored copies of the training images of class disgust."
strategies:
  - $name: {classes: [disgust]}
"""

_TESTS = '''\
"""The strategy passes the conformity kit and does what its docstring says."""

from fer_augment import Strategy
from fer_augment.testing import PluginCheck, parametrize_with_checks, tiny_dataset

from $module import $class_name


# One case per check. To check other parameters, add instances: $class_name(classes=["bee"]).
@parametrize_with_checks([$class_name])
def test_conforms(strategy: type[Strategy], check: PluginCheck) -> None:
    check(strategy)


# This test is about the strategy of the template: replace it by one about yours.
def test_each_row_of_the_named_classes_gets_a_mirrored_copy() -> None:
    data = tiny_dataset()
    rewritten = $class_name(classes=["ant"]).rewrite_training_set(data)
    ants = data.rows_of(["ant"])
    assert (rewritten.images[len(data) :] == data.images[ants][:, :, ::-1]).all()
    assert (rewritten.labels[len(data) :] == data.class_number("ant")).all()
'''

_README = """\
# $name

A strategy for fer_augment. The template in `$module.py` adds mirrored copies of the
rows of the classes that a recipe names; replace it by your strategy. Then adapt the two
files that use its parameter `classes`: the recipe `$name.yaml`, and the second test in
`tests/test_$name.py`.

Install the strategy and check it:

```
pip install -e '.[test]'
fer-augment plugins show $name
fer-augment plugins check $name
pytest
```

Without installing it, `fer-augment plugins check $module.py` checks the file.

Test whether it helps, first on synthetic faces with a small network, which takes a few minutes:

```
fer-augment recipes check $name.yaml
fer-augment compare demo $name.yaml --data demo --seeds 3
```

On your own data, extend the recipe that you use, such as `paper`, in `$name.yaml`, and compare with that recipe:
`fer-augment compare paper $name.yaml --data fer2013.csv --seeds 5`.
"""

FILES = {
    "$module.py": ("the strategy: edit this file", _STRATEGY),
    "$name.yaml": ("a recipe that uses it", _RECIPE),
    "tests/test_$name.py": ("tests: the conformity kit, and one for the strategy", _TESTS),
    "pyproject.toml": ("the distribution and its entry point", PYPROJECT),
    "README.md": ("how to install, check and compare it", _README),
}
"""The purpose and the template of each file."""
