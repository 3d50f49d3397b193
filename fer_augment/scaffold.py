"""Template of a distribution with one working strategy: `fer-augment plugins new`."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

import fer_augment
from fer_augment.errors import PluginError
from fer_augment.hooks.plugin_manager import installed_plugins


def write_distribution(name: str, folder: Path) -> dict[str, str]:
    """Write a distribution that registers one strategy.

    Args:
        name: the name of the strategy in recipes: lower-case words separated by `_`, as `strategy_name_of` returns it.
        folder: the folder to create.

    Returns:
        The files, relative to the folder, each with a description.

    Raises:
        PluginError: if the name is not valid, or the folder exists or cannot be written.
    """
    class_name = _class_name(name)
    substitutions = {
        "name": name,
        "class_name": class_name,
        "distribution": f"fer-augment-{name.replace('_', '-')}",
        "module": f"fer_augment_{name}",
        "version": fer_augment.__version__,
    }
    files = {Template(file).substitute(substitutions): description for file, description in _DESCRIPTIONS.items()}
    try:
        folder.mkdir(parents=True)
        for file, template in zip(files, _TEMPLATES.values(), strict=True):
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(Template(template).substitute(substitutions), encoding="utf-8")
    except FileExistsError as error:
        raise PluginError(f"{folder} already exists; name a new folder with --out") from error
    except OSError as error:
        raise PluginError(f"{folder} cannot be written: {error.strerror}") from error
    return files


def strategy_name_of(name: str) -> str:
    """Return a name in the form of strategy names: `soft_focus` for `soft-focus` or `SoftFocus`; others unchanged."""
    return _nearest(name) if _SPELLED_OTHERWISE.fullmatch(name) and _NAME.fullmatch(_nearest(name)) else name


def _nearest(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")


def _class_name(name: str) -> str:
    """Return the class name for a strategy name.

    Raises:
        PluginError: if no class can have the name, or a strategy with this name is installed.
    """
    if not _NAME.fullmatch(name):
        nearest = _nearest(name)
        message = f"{name!r} is not a valid strategy name: use lower-case words of two or more letters, joined by _"
        raise PluginError(f"{message}, such as {nearest if _NAME.fullmatch(nearest) else 'mirror_classes'}")
    class_name = "".join(word.capitalize() for word in name.split("_"))
    if keyword.iskeyword(class_name) or hasattr(fer_augment, class_name) or class_name in _IMPORTED:
        raise PluginError(f"{name!r} is not a valid strategy name: the class name {class_name} is already in use")
    for offer in installed_plugins().of_kind("strategy"):
        if offer.name == name:
            raise PluginError(f"a strategy {name!r} is already installed, by {offer.provider}; choose another name")
    return class_name


_NAME = re.compile(r"[a-z][a-z0-9]+(_[a-z][a-z0-9]+)*")
"""Names that survive the conversion to a class name and back by `Strategy.strategy_name`."""
_SPELLED_OTHERWISE = re.compile(r"[A-Za-z][A-Za-z0-9 _-]*")
"""Names of words that are joined or capitalized in another way."""

_IMPORTED = ("Any", "ClassVar", "Field", "Mapping", "Sequence")
"""Names that the strategy module imports from elsewhere than `fer_augment`."""

_DESCRIPTIONS: Mapping[str, str] = {
    "$module.py": "the strategy: edit this file",
    "$name.yaml": "a recipe that uses it",
    "tests/test_$name.py": "tests: the conformity kit, and one for the strategy",
    "pyproject.toml": "the distribution and its entry point",
    "README.md": "how to install, check and compare it",
}

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
from fer_augment.testing import StrategyCheck, parametrize_with_checks, tiny_dataset

from $module import $class_name


# One case per check. To check other parameters, add instances: $class_name(classes=["bee"]).
@parametrize_with_checks([$class_name])
def test_conforms(strategy: type[Strategy], check: StrategyCheck) -> None:
    check(strategy)


# This test is about the strategy of the template: replace it by one about yours.
def test_each_row_of_the_named_classes_gets_a_mirrored_copy() -> None:
    data = tiny_dataset()
    rewritten = $class_name(classes=["ant"]).rewrite_training_set(data)
    ants = data.rows_of(["ant"])
    assert (rewritten.images[len(data) :] == data.images[ants][:, :, ::-1]).all()
    assert (rewritten.labels[len(data) :] == data.class_number("ant")).all()
'''

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"

[project]
name = "$distribution"
version = "0.1.0"
description = "The strategy $name for fer_augment."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["fer_augment>=$version"]

[project.optional-dependencies]
test = ["pytest"]

# fer_augment loads the modules in this group and registers their strategies.
[project.entry-points.fer_augment]
$name = "$module"

[tool.setuptools]
py-modules = ["$module"]
"""

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

Test whether it helps, first on synthetic faces with a small network, which takes a few minutes:

```
fer-augment recipes check $name.yaml
fer-augment compare demo $name.yaml --data demo --seeds 3
```

On your own data, extend the recipe that you use, such as `paper`, in `$name.yaml`, and compare with that recipe:
`fer-augment compare paper $name.yaml --data fer2013.csv --seeds 5`.
"""

_TEMPLATES: Mapping[str, str] = dict(
    zip(_DESCRIPTIONS, (_STRATEGY, _RECIPE, _TESTS, _PYPROJECT, _README), strict=True),
)
