"""Losses, trackers and dataset readers in a Python file next to a recipe, before they become a distribution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fer_augment.errors import PluginError, did_you_mean
from fer_augment.hooks.declarations import DatasetReader, Loss, Tracker
from fer_augment.hooks.plugin_manager import Catalog, collect
from fer_augment.hooks.specs import PROJECT
from fer_augment.hooks.strategy_files import module_of

DECLARED: dict[str, type] = {"loss": Loss, "tracker": Tracker, "dataset reader": DatasetReader}
"""The class of the declarations of a kind."""


def declarations_in_file(file: Path, kind: str) -> dict[str, Any]:
    """Execute a file and return the losses, trackers or dataset readers that it declares.

    Args:
        file: the file.
        kind: `loss`, `tracker` or `dataset reader`.

    Returns:
        Those in variables, by the name of the variable, and those that a registration hook returns, by their own name.

    Raises:
        PluginError: if the file cannot be executed.
    """
    declared = DECLARED[kind]
    registered = {offer.name: offer.value for offer in _registered(file).offers if offer.kind == kind}
    in_variables = {name: value for name, value in vars(module_of(file)).items() if isinstance(value, declared)}
    named = {id(value) for value in in_variables.values()}
    return in_variables | {name: value for name, value in registered.items() if id(value) not in named}


def declaration_in_file(file: Path, kind: str, name: str) -> Any:
    """Execute a file and return a loss, a tracker or a dataset reader from it, see `declarations_in_file`.

    Raises:
        PluginError: if the file cannot be executed, or declares none of this name.
    """
    declarations = declarations_in_file(file, kind)
    by_own_name = {value.name: value for value in declarations.values()}
    if name not in declarations and name not in by_own_name:
        problems = faulty_registrations(file)
        broken = f" (not loaded: {' | '.join(problems)})" if problems else ""
        raise PluginError(f"{file} has no {kind} {name!r}{did_you_mean(name, [*declarations, *by_own_name])}{broken}")
    return declarations[name] if name in declarations else by_own_name[name]


def faulty_registrations(file: Path) -> tuple[str, ...]:
    """Execute a file and return a line for each part of what its registration hooks return that cannot be used."""
    problems = (problem.removeprefix(": ") for problem in _registered(file).problems)  # of no distribution
    return tuple(problem.removeprefix(f"{file.name}: ") for problem in problems)


def _registered(file: Path) -> Catalog:
    """Return what the registration hooks of a file return, if it has any."""
    module = module_of(file)
    hooks = [name for name, value in vars(module).items() if hasattr(value, f"{PROJECT}_impl")]
    unmarked = [
        name
        for name, value in vars(module).items()
        if name.startswith("register_") and getattr(value, "__module__", None) == module.__name__
    ]
    return collect([(file.name, "", module)] if hooks or unmarked else [])
