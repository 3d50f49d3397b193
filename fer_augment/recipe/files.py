"""Recipe files: finding them, and reading one together with everything it inherits.

What comes out is a tree of nodes that know their places; `recipe` gives it a meaning.
"""

from __future__ import annotations

import importlib.resources
import os
import re
from collections.abc import Mapping
from pathlib import Path

from fer_augment.errors import RecipeError, did_you_mean
from fer_augment.recipe.yaml_source import Fault, Node, Place, merged, read_mapping, shown

FILE_KEYS: Mapping[str, str] = {
    "extends": "The recipe that this one changes: a shipped recipe, or a path relative to this file.",
    "without": "Names of strategies that are not inherited.",
}
"""What a recipe file may say beside the fields of a `Recipe`, each with its meaning."""


def _is_path(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) or "/" in name or os.sep in name


def find_recipe(name: str, folder: Path) -> Path:
    """Return the file of a recipe; paths are relative to the folder.

    Raises:
        RecipeError: if there is no such file or shipped recipe.
    """
    if _is_path(name):
        if not (folder / name).is_file():
            raise RecipeError(f"{folder / name}: there is no such file")
        return folder / name
    shipped = shipped_recipes()
    if name not in shipped:
        hint = did_you_mean(name, shipped)
        raise RecipeError(f"there is no shipped recipe {name!r} (a file is named by its path, ./{name}.yaml){hint}")
    return shipped[name]


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that come with the package, by name."""
    files = importlib.resources.files("fer_augment_recipes").iterdir()
    paths = sorted(Path(str(file)) for file in files if file.name.endswith(".yaml"))
    return {path.stem: path for path in paths}


def parents_of(path: Path) -> list[Path]:
    """Return the files that a recipe file inherits from, the nearest one first.

    Raises:
        RecipeError: if one of them cannot be read.
    """
    chain: tuple[Path, ...] = (path,)
    while True:
        faults: list[Fault] = []
        node = read_mapping(chain[-1], faults)
        if node is None:
            raise RecipeError(str(faults[0]))
        if "extends" not in node.entries:
            return list(chain[1:])
        chain = (*chain, _parent_file(node.entries["extends"].value, chain))


def read_recipe(path: Path, faults: list[Fault]) -> Node | None:
    """Read a recipe with all that it inherits; what is wrong with it is added to `faults`.

    Returns:
        A mapping with the keys of `Recipe`, named after its file unless it says otherwise, each step a
        mapping of `name` and `parameters`; None if the file cannot be read as a mapping.
    """
    node = _with_parents(path, (), faults)
    name = Node({"name": Node(path.stem, Place(str(path)))}, Place(str(path)))
    return merged(name, node) if node else None


def _with_parents(path: Path, children: tuple[Path, ...], faults: list[Fault]) -> Node | None:
    own = read_mapping(path, faults)
    if own is None:
        return None
    entries = dict(own.entries)
    extends, without = (entries.pop(key, None) for key in FILE_KEYS)
    steps = _steps(entries.pop("strategies", None), path.parent, faults)
    parent = _parent(extends, (*children, path), faults) if extends else Node({}, own.place)
    if parent is None:
        # Its fault is told; nobody can say which steps it has, or whether it names a model.
        parent, without = Node({"model": Node("", own.place)}, own.place), None
    inherited = {key: node for key, node in parent.entries.items() if key not in ("name", "description")}
    kept = _without(inherited.pop("strategies", Node([], own.place)), without, faults)
    entries["strategies"] = Node([*kept, *steps], own.place)
    return merged(Node(inherited, own.place), Node(entries, own.place))


def _parent(extends: Node, chain: tuple[Path, ...], faults: list[Fault]) -> Node | None:
    """Read what the last recipe of a chain extends; None if that cannot be read."""
    try:
        file = _parent_file(extends.value, chain)
    except RecipeError as error:
        faults.append(Fault(extends.place, ("extends",), str(error)))
        return None
    return _with_parents(file, chain, faults)


def _parent_file(extends: object, chain: tuple[Path, ...]) -> Path:
    if not isinstance(extends, str):
        raise RecipeError("should be the name of a shipped recipe or the path of a file")
    file = find_recipe(extends, chain[-1].parent)
    if file.resolve() in [child.resolve() for child in chain]:
        raise RecipeError(f"a recipe cannot extend itself: {' -> '.join(map(str, (*chain, file)))}")
    return file


def _without(steps: Node, without: Node | None, faults: list[Fault]) -> list[Node]:
    """Return the inherited steps less those that the child does not want."""
    if without is None:
        return steps.items
    labels = [step_label(str(step.entries["name"].value)) for step in steps.items]
    unwanted = [node.value for node in without.items]
    if not unwanted:
        faults.append(Fault(without.place, ("without",), "should be a list of names of inherited strategies"))
    for node in without.items:
        if node.value not in labels:
            told = f"no step {node.value!r} is inherited{did_you_mean(str(node.value), labels)}"
            faults.append(Fault(node.place, ("without",), told))
    return [step for step, label in zip(steps.items, labels, strict=True) if label not in unwanted]


def _steps(strategies: Node | None, folder: Path, faults: list[Fault]) -> list[Node]:
    """Return each step as a mapping of `name` and `parameters`; files are made absolute."""
    if strategies is None:
        return []
    if not isinstance(strategies.value, list):
        told = "should be a list; put a dash before each step"
        faults.append(Fault(strategies.place, ("strategies",), told))
    steps = []
    for number, item in enumerate(strategies.items):
        named = _name_and_parameters(item)
        if isinstance(named, str):
            faults.append(Fault(item.place, ("strategies", number), named))
            continue
        name, parameters = named
        file = local_strategy(name)
        full_name = f"{(folder / file[0]).resolve()}:{file[1]}" if file else name
        steps.append(Node({"name": Node(full_name, item.place), "parameters": parameters}, item.place))
    return steps


def _name_and_parameters(item: Node) -> tuple[str, Node] | str:
    """Return the name and the parameters of a step, or what is wrong with how it is written."""
    if isinstance(item.value, str):
        return item.value, Node({}, item.place)
    if len(item.entries) > 1:
        return "a step has one name; indent its parameters below it, or write - NAME: {PARAMETER: VALUE}"
    for name, parameters in item.entries.items():
        if parameters.value is None:
            return name, Node({}, parameters.place)
        if isinstance(parameters.value, dict):
            return name, parameters
        return f"the parameters of {name} should be a mapping, got {shown(parameters.plain())}"
    return "a step is the name of a strategy, or NAME: {PARAMETER: VALUE}"


def local_strategy(name: str) -> tuple[Path, str] | None:
    """Return file and class of a step that names a file, `FILE.py:CLASS`; None for an installed strategy."""
    match = re.fullmatch(r"(.+\.py):(\w+)", name)
    return (Path(match[1]), match[2]) if match else None


def step_label(name: str) -> str:
    """Return the name by which `without` and `--set strategies.NAME.…` call a step: for a file its class."""
    file = local_strategy(name)
    return file[1] if file else name
