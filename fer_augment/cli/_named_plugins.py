"""The plugins that an argument names: installed ones, or those of a Python file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fer_augment.hooks.plugin_manager import Offer


def plugins_named(argument: str) -> list[tuple[str, Offer[Any]]]:
    """Return the plugins that an argument names, each behind its name as a recipe writes it.

    Args:
        argument: the name of installed plugins, `PATH.py:NAME` for a plugin of a file, `PATH.py` for all that do not
            begin with an underscore.

    Raises:
        PluginError: if there are none, or the file cannot be executed.
    """
    from fer_augment.errors import PluginError, did_you_mean, excerpt
    from fer_augment.hooks.plugin_manager import in_file_here
    from fer_augment.reading import loaded_plugins

    in_file = re.fullmatch(r"(?P<file>.+\.py)(?::(?P<name>\w+))?", argument)
    if in_file:
        return _in_file(Path(in_file["file"]), in_file["name"])
    catalog = loaded_plugins()
    named = [(argument, offer) for offer in catalog.offers if offer.name == argument]
    if not named:
        hint = in_file_here(argument) or did_you_mean(argument, {offer.name for offer in catalog.offers})
        broken = f" (not loaded: {' | '.join(catalog.problems)})" if catalog.problems else ""
        raise PluginError(f"no plugin named {excerpt(argument, 60)!r} is installed{hint}{broken}")
    return named


def _in_file(file: Path, name: str | None) -> list[tuple[str, Offer[Any]]]:
    from fer_augment.errors import PluginError, did_you_mean
    from fer_augment.hooks.local_declarations import faulty_registrations

    found = list(_plugins_of(file))
    if name:
        chosen = (
            [(variable, offer) for variable, offer in found if variable == name]
            or [(variable, offer) for variable, offer in found if offer.name == name]
            or _imported(file, name)
        )
    else:
        chosen = [(variable, offer) for variable, offer in found if not variable.startswith("_")]
    # the kit checks strategies and networks, valid or not
    broken = [one for one in faulty_registrations(file) if not one.startswith(("strategy ", "model "))]
    if broken and not (name and chosen):
        raise PluginError(f"{file}: {' | '.join(broken)}")
    if name and not chosen:
        raise PluginError(f"{file} has no plugin {name!r}{did_you_mean(name, dict(found))}")
    if not chosen:
        raise PluginError(f"{file} defines no strategy, network, loss, reader or tracker")
    return [(f"{file.name}:{variable}", offer) for variable, offer in chosen]


def _imported(file: Path, name: str) -> list[tuple[str, Offer[Any]]]:
    """Return a class that a file imports, from a module beside it for example, if it is a strategy or a network."""
    from fer_augment.hooks.networks import ConfigurableModel
    from fer_augment.hooks.plugin_manager import Offer, title_of
    from fer_augment.hooks.strategy import Strategy
    from fer_augment.hooks.strategy_files import module_of

    provider, value = f"file {file.name}", getattr(module_of(file), name, None)
    if isinstance(value, type) and issubclass(value, Strategy):
        return [(name, Offer("strategy", title_of(value), value, provider, ""))]
    if isinstance(value, type) and issubclass(value, ConfigurableModel):
        return [(name, Offer("model", title_of(value), value, provider, ""))]
    return []


def _plugins_of(file: Path) -> Iterator[tuple[str, Offer[Any]]]:
    """Yield what a file defines, behind the name of its class or variable."""
    from fer_augment.hooks.local_declarations import DECLARED, declarations_in_file
    from fer_augment.hooks.plugin_manager import Offer, title_of
    from fer_augment.hooks.strategy_files import models_in_file, strategies_in_file

    provider = f"file {file.name}"
    for variable, strategy in strategies_in_file(file).items():
        yield variable, Offer("strategy", title_of(strategy), strategy, provider, "")
    for variable, model in models_in_file(file).items():
        yield variable, Offer("model", title_of(model), model, provider, "")
    for kind in DECLARED:
        for variable, declared in declarations_in_file(file, kind).items():
            yield variable, Offer(kind, declared.name, declared, provider, "")
