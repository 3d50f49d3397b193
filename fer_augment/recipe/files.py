"""Find recipe files, and read a recipe together with everything it inherits.

The result is a tree of nodes with their places in the files; `recipe` validates it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_augment.errors import RecipeError, did_you_mean, excerpt
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.yaml_source import Fault, Node, Place, merged, read_mapping, value_in_words

FILE_KEYS: Mapping[str, str] = {
    "extends": "Parent recipe: a shipped recipe, or a path relative to this file.",
    "without": "Names of inherited strategies to remove.",
}
"""Keys of a recipe file in addition to the fields of `Recipe`, with their descriptions."""
DESCRIPTION_KEYS = ("images", "table")
"""Keys of a source description, which is a YAML file, too; it has at least one of these."""


def _is_path(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) or "/" in name or os.sep in name


def find_recipe(name: str, folder: Path) -> Path:
    """Return the file of a recipe; relative paths start at the folder.

    Raises:
        RecipeError: if the file or shipped recipe does not exist.
    """
    if _is_path(name):
        path = folder / name
        try:
            is_there = path.exists()
        except OSError as error:
            raise RecipeError(f"{excerpt(str(path))}: cannot be read: {error.strerror}") from error
        if not is_there:
            raise RecipeError(f"{excerpt(str(path))}: no such file")
        return path
    offered = named_recipes().get(name, ())
    if len(offered) > 1:
        where = " and ".join(f"{one.provider} ({one.path})" for one in offered)
        raise RecipeError(f"recipe {name!r} is shipped by {where}; uninstall one of them, or give the path of the file")
    if not offered:
        similar = did_you_mean(name, named_recipes())
        hint = similar if similar.endswith("?") else "; see `fer-augment recipes list`"
        shown = excerpt(name)
        raise RecipeError(f"there is no shipped recipe {shown!r} (to use a file, give its path: ./{shown}.yaml){hint}")
    return offered[0].path


@dataclass(frozen=True)
class NamedRecipe:
    """A recipe that is used by its name.

    Attributes:
        path: its file.
        provider: the distribution and version that ships it.
    """

    path: Path
    provider: str


def named_recipes() -> dict[str, list[NamedRecipe]]:
    """Return the recipes of this package and of the installed plugins, by name; more than one under a name clash."""
    own = f"fer_augment {importlib.metadata.version('fer_augment')}"
    named = {name: [NamedRecipe(path, own)] for name, path in shipped_recipes().items()}
    for offer in installed_plugins().of_kind("recipe"):
        named.setdefault(offer.name, []).append(NamedRecipe(offer.value.path, offer.provider))
    return named


def shipped_recipes() -> dict[str, Path]:
    """Return the files of the recipes in the package, by name."""
    files = importlib.resources.files("fer_augment_recipes").iterdir()
    paths = sorted(Path(str(file)) for file in files if file.name.endswith(".yaml"))
    return {path.stem: path for path in paths}


def parents_of(path: Path) -> list[Path]:
    """Return the files that a recipe file inherits from, its parent first.

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
    """Read a recipe with everything it inherits; append errors to `faults`.

    Returns:
        A mapping with the keys of `Recipe`; `name` defaults to the name of the file, and each step is a mapping with
        `name` and `parameters`. None if the file cannot be read as a mapping.
    """
    node = _with_parents(path, (), faults)
    name = Node({"name": Node(path.stem, Place(str(path)))}, Place(str(path)))
    return merged(name, node) if node else None


def _with_parents(path: Path, children: tuple[Path, ...], faults: list[Fault]) -> Node | None:
    own = read_mapping(path, faults)
    if own is None or _is_description(own, faults):
        return None
    entries = _with_full_names(dict(own.entries), path.parent)
    extends, without = (entries.pop(key, None) for key in FILE_KEYS)
    steps = _steps(entries.pop("strategies", None), path.parent, faults)
    parent = _parent(extends, (*children, path), faults) if extends else Node({}, own.place)
    if parent is None:
        # This error is reported already. Do not report `without` or a missing model, which depend on the parent.
        parent, without = Node({"model": Node("", own.place)}, own.place), None
    inherited = {key: node for key, node in parent.entries.items() if key not in ("name", "description")}
    if "model" in entries:
        entries["model"] = _model(entries["model"], path.parent, faults)
        if "model" in inherited and model_name(inherited["model"]) != model_name(entries["model"]):
            del inherited["model"]  # parameters of another network are not inherited
    kept = _without(inherited.pop("strategies", Node([], own.place)), without, faults)
    entries["strategies"] = Node([*kept, *steps], own.place)
    return merged(Node(inherited, own.place), Node(entries, own.place))


def with_full_paths(recipe: Node, folder: Path, faults: list[Fault]) -> Node:
    """Return a recipe as returned by `read_recipe` in which paths that start at the folder are absolute.

    Those from recipe files are absolute already; those from overrides and from Python may be relative. An error in the
    network is appended to `faults`.
    """
    entries = _with_full_names(dict(recipe.entries), folder)
    if "model" in entries:
        entries["model"] = _model(entries["model"], folder, faults)
    steps = entries["strategies"]
    full = [_step(step.entries["name"], step.entries["parameters"], folder, step.place) for step in steps.items]
    return Node({**entries, "strategies": Node(full, steps.place)}, recipe.place)


def _is_description(node: Node, faults: list[Fault]) -> bool:
    """Return whether a file is a source description instead of a recipe; append the error to `faults`."""
    keys = [key for key in DESCRIPTION_KEYS if key in node.entries]
    if not keys or {"model", "extends"} & node.entries.keys():
        return False
    message = "belongs to a source description, not to a recipe; pass this file with --data"
    faults.append(Fault(node.entries[keys[0]].place, (keys[0],), message))
    return True


def _parent(extends: Node, chain: tuple[Path, ...], faults: list[Fault]) -> Node | None:
    """Read the parent of the last recipe of a chain; None if it cannot be read."""
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
    """Return the inherited steps, except those that the child removes."""
    if without is None:
        return steps.items
    labels = [step_label(str(step.entries["name"].value)) for step in steps.items]
    unwanted = [node.value for node in without.items]
    if not unwanted:
        faults.append(Fault(without.place, ("without",), "should be a list of names of inherited strategies"))
    for node in without.items:
        if node.value not in labels:
            message = f"no step {node.value!r} is inherited{did_you_mean(str(node.value), labels)}"
            faults.append(Fault(node.place, ("without",), message))
    return [step for step, label in zip(steps.items, labels, strict=True) if label not in unwanted]


def _steps(strategies: Node | None, folder: Path, faults: list[Fault]) -> list[Node]:
    """Return each step as a mapping with `name` and `parameters`; paths of files become absolute."""
    if strategies is None:
        return []
    if not isinstance(strategies.value, list):
        message = "should be a list; put a dash before each step"
        faults.append(Fault(strategies.place, ("strategies",), message))
    steps = []
    for number, item in enumerate(strategies.items):
        name_and_parameters = _name_and_parameters(item)
        if isinstance(name_and_parameters, str):
            faults.append(Fault(item.place, ("strategies", number), name_and_parameters))
            continue
        name, parameters = name_and_parameters
        steps.append(_step(Node(name, item.place), parameters, folder, item.place))
    return steps


def _step(name: Node, parameters: Node, folder: Path, place: Place) -> Node:
    full_name = Node(_full_name(str(name.value), folder), name.place)
    return Node({"name": full_name, "parameters": _with_full_paths(parameters, folder)}, place)


def _model(model: Node, folder: Path, faults: list[Fault]) -> Node:
    """Return the network as a name, or as a mapping from its name to its parameters; paths become absolute."""
    if not isinstance(model.value, dict):
        return Node(_full_name(model.value, folder), model.place) if isinstance(model.value, str) else model
    written = name_and_parameters(model.plain())
    if isinstance(written, str):
        faults.append(Fault(model.place, ("model",), written))
        return Node("", model.place)
    ((name, parameters),) = model.entries.items()
    entries = dict(_with_full_paths(parameters, folder).entries)
    weights = entries.get("weights")
    if weights and isinstance(weights.value, str):
        entries["weights"] = Node(str((folder / weights.value).resolve()), weights.place)
    return Node({_full_name(name, folder): Node(entries, parameters.place)}, model.place)


def _with_full_paths(parameters: Node, folder: Path) -> Node:
    """Return parameters in which every text that begins with `./` or `../` is the absolute path that it stands for."""
    value = parameters.value
    if isinstance(value, dict):
        return Node({key: _with_full_paths(inner, folder) for key, inner in value.items()}, parameters.place)
    if isinstance(value, list):
        return Node([_with_full_paths(inner, folder) for inner in value], parameters.place)
    is_path = isinstance(value, str) and value.startswith(("./", "../"))
    return Node(str((folder / str(value)).resolve()), parameters.place) if is_path else parameters


def _with_full_names(entries: dict[str, Node], folder: Path) -> dict[str, Node]:
    """Return the entries of a recipe with absolute paths of the files of the loss and of trackers."""

    def full(node: Node) -> Node:
        return Node(_full_name(node.value, folder), node.place) if isinstance(node.value, str) else node

    training, trackers = entries.get("training"), entries.get("trackers")
    if training and "loss" in training.entries:
        settings = {**training.entries, "loss": full(training.entries["loss"])}
        entries["training"] = Node(settings, training.place)
    if trackers and trackers.items:
        entries["trackers"] = Node([full(item) for item in trackers.items], trackers.place)
    return entries


def model_name(model: Node) -> str:
    """Return the name of a network that is written as a name, or as a mapping from its name to its parameters."""
    return str(next(iter(model.entries), "") if model.entries else model.value)


def name_and_parameters(choice: str | dict[str, Any]) -> tuple[str, dict[str, Any]] | str:
    """Return the name and the parameters of a network, or an error message."""
    if isinstance(choice, str):
        return choice, {}
    if len(choice) != 1:
        return "a recipe has one network; write NAME, or NAME: {PARAMETER: VALUE}"
    ((name, parameters),) = choice.items()
    if not isinstance(parameters or {}, dict):
        return f"the parameters of {name} should be a mapping, got {value_in_words(parameters)}"
    return name, parameters or {}


def _full_name(name: str, folder: Path) -> str:
    """Return a name with the path of its file, if it has one, made absolute."""
    file = local_plugin(name)
    return f"{(folder / file[0]).resolve()}:{file[1]}" if file else name


def _name_and_parameters(item: Node) -> tuple[str, Node] | str:
    """Return the name and the parameters of a step, or an error message."""
    if isinstance(item.value, str):
        return item.value, Node({}, item.place)
    if len(item.entries) > 1:
        return "a step has one name; indent its parameters below it, or write - NAME: {PARAMETER: VALUE}"
    for name, parameters in item.entries.items():
        if parameters.value is None:
            return name, Node({}, parameters.place)
        if isinstance(parameters.value, dict):
            return name, parameters
        return f"the parameters of {name} should be a mapping, got {value_in_words(parameters.plain())}"
    return "a step is the name of a strategy, or NAME: {PARAMETER: VALUE}"


def local_plugin(name: str) -> tuple[Path, str] | None:
    """Return the file and the name in it of a plugin `FILE.py:NAME`; None for an installed one."""
    match = re.fullmatch(r"(.+\.py):(\w+)", name)
    return (Path(match[1]), match[2]) if match else None


def step_label(name: str) -> str:
    """Return the name of a step or network in `without` and `--set`; for a file, the name in the file."""
    file = local_plugin(name)
    return file[1] if file else name
