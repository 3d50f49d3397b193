"""A new distribution with one strategy, complete and working, for somebody to change into their own."""

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
    """Write a distribution that offers one strategy.

    Args:
        name: the strategy's name in recipes: lower-case words parted by `_`.
        folder: where it goes; must not exist.

    Returns:
        The files, relative to the folder, each with what it is for.

    Raises:
        PluginError: if the name cannot be used, the folder exists, or it cannot be written.
    """
    class_name = _class_name(name)
    words = {
        "name": name,
        "class_name": class_name,
        "distribution": f"fer-augment-{name.replace('_', '-')}",
        "module": f"fer_augment_{name}",
        "version": fer_augment.__version__,
    }
    files = {Template(file).substitute(words): purpose for file, purpose in _PURPOSES.items()}
    try:
        folder.mkdir(parents=True)
        for file, template in zip(files, _TEMPLATES.values(), strict=True):
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(Template(template).substitute(words), encoding="utf-8")
    except FileExistsError as error:
        raise PluginError(f"{folder} exists already; name a new folder with --out") from error
    except OSError as error:
        raise PluginError(f"{folder} cannot be written: {error.strerror}") from error
    return files


def _class_name(name: str) -> str:
    """Return the name of the class whose strategy has a name.

    Raises:
        PluginError: if there can be no such class, or a strategy of this name is installed.
    """
    if not _NAME.fullmatch(name):
        nearest = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")
        told = f"{name!r} cannot name a strategy: write lower-case words of two letters or more, parted by _"
        raise PluginError(f"{told}, such as {nearest if _NAME.fullmatch(nearest) else 'mirror_classes'}")
    class_name = "".join(word.capitalize() for word in name.split("_"))
    if keyword.iskeyword(class_name) or hasattr(fer_augment, class_name) or class_name in _USED:
        raise PluginError(f"{name!r} cannot name a strategy: its class would be {class_name}, and that is taken")
    for offer in installed_plugins().of_kind("strategy"):
        if offer.name == name:
            raise PluginError(f"a strategy {name!r} is installed already, by {offer.provider}; take another name")
    return class_name


_NAME = re.compile(r"[a-z][a-z0-9]+(_[a-z][a-z0-9]+)*")
"""Names that `Strategy.strategy_name` gives back from the class name made of them."""

_USED = ("Any", "ClassVar", "Field", "Mapping", "Sequence")
"""What the strategy's file imports beside the names of `fer_augment`."""

_PURPOSES: Mapping[str, str] = {
    "$module.py": "the strategy: put your idea here",
    "$name.yaml": "a recipe that uses it",
    "tests/test_$name.py": "tests: the conformity kit, and what it says",
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

    When: a class is small, and a mirror image of a row shows the same class.

    Cost: memory for the copies. The other classes are drawn less often, and may lose recall.

    Try: the smallest class alone.
    """

    # Parameters with which the conformity kit tries the strategy; its classes are ant, bee and cat.
    example: ClassVar[Mapping[str, Any]] = {"classes": ["ant"]}

    classes: list[ClassName] = Field(min_length=1, description="Classes whose rows are mirrored.")

    @property
    def effects(self) -> Effect:
        """Say what changes, so that a recipe is told what does not go well with it."""
        return Effect.SHIFTS_CLASS_PRIOR | Effect.MIRRORED_COPIES

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset) -> ImageDataset:
        """Return the training set with the mirrored rows at its end."""
        rows = training_set.rows_of(self.classes)
        return training_set.append(training_set.images[rows][:, :, ::-1], parents=rows)


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Offer the strategy of this file."""
    return [$class_name]
'''

_RECIPE = """\
# fer-augment compare demo $name.yaml --data demo --seeds 3
#
# Against `demo` it adds one step, so that the comparison is one of this step alone.
# `demo` is a small network for trying things out; on FER2013 extend and compare with `paper` or `modern`.
extends: demo
description: "Mirror the training images of Disgust, and add them."
strategies:
  - $name: {classes: [disgust]}
"""

_TESTS = '''\
"""The strategy does what every strategy must do, and what it says of itself."""

from fer_augment.testing import assert_conforms, tiny_dataset

from $module import $class_name


def test_it_conforms() -> None:
    assert_conforms($class_name)


def test_each_row_of_the_named_classes_gets_a_mirrored_copy() -> None:
    data = tiny_dataset()
    grown = $class_name(classes=["ant"]).rewrite_training_set(data)
    ants = data.rows_of(["ant"])
    assert (grown.images[len(data) :] == data.images[ants][:, :, ::-1]).all()
    assert (grown.labels[len(data) :] == data.class_number("ant")).all()
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

# fer_augment asks the modules in this group what they offer.
[project.entry-points.fer_augment]
$name = "$module"

[tool.setuptools]
py-modules = ["$module"]
"""

_README = """\
# $name

A strategy for fer_augment. `$module.py` holds it; as it stands it mirrors the rows of
the classes that a recipe names.

Install it, and see that it is found and does what every strategy must do:

```
pip install -e '.[test]'
fer-augment plugins show $name
fer-augment plugins check $name
pytest
```

Ask whether it helps, on drawn faces and with a small network first, which takes a few minutes:

```
fer-augment recipes check $name.yaml
fer-augment compare demo $name.yaml --data demo --seeds 3
```

On your own data, let `$name.yaml` extend the recipe that you use, such as `paper`, and compare with that one:
`fer-augment compare paper $name.yaml --data fer2013.csv --seeds 5`.
"""

_TEMPLATES: Mapping[str, str] = dict(
    zip(_PURPOSES, (_STRATEGY, _RECIPE, _TESTS, _PYPROJECT, _README), strict=True),
)
