"""Strategies and networks in a Python file next to a recipe, for testing an idea before it becomes a distribution."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from fer_augment.errors import PluginError, did_you_mean
from fer_augment.hooks.modules_beside import make_importable, modules_beside
from fer_augment.hooks.networks import ConfigurableModel, Model
from fer_augment.hooks.plugin_manager import model_faults, strategy_faults
from fer_augment.hooks.strategy import Strategy

DIGEST_OF_MODULE = "__source_digest__"
"""Attribute of a module: the SHA-256 of its source as executed; the file may have been edited since."""


_PREFIX, _SOURCES = "fer_augment_local_", "__sources__"


def strategy_in_file(file: Path, class_name: str) -> type[Strategy]:
    """Execute a file and return a strategy class from it.

    Raises:
        PluginError: if the file cannot be executed, has no such class, or the class is not a valid strategy.
    """
    declared = getattr(module_of(file), class_name, None)
    if declared is None:
        hint = did_you_mean(class_name, [defined.__name__ for defined in strategies_in_file(file)])
        raise PluginError(f"{file} has no class {class_name!r}{hint}")
    faults = strategy_faults(declared)
    if faults:
        raise PluginError(f"{file}: {class_name}: {' | '.join(faults)}")
    strategy_class: type[Strategy] = declared
    return strategy_class


def model_in_file(file: Path, name: str) -> Model | type[ConfigurableModel]:
    """Execute a file and return a network from it.

    Args:
        file: the file.
        name: the variable that holds a `Model`, or the name of a subclass of `ConfigurableModel`.

    Raises:
        PluginError: if the file cannot be executed, or has no such network.
    """
    declared = getattr(module_of(file), name, None)
    if declared is None:
        raise PluginError(f"{file} has no model {name!r}{did_you_mean(name, models_in_file(file))}")
    faults = model_faults(declared)
    if faults:
        raise PluginError(f"{file}: {name}: {' | '.join(faults)}")
    model: Model | type[ConfigurableModel] = declared
    return model


def models_in_file(file: Path) -> dict[str, Model | type[ConfigurableModel]]:
    """Execute a file and return the networks that it defines, in order, by the name of their variable or class.

    Raises:
        PluginError: if the file cannot be executed.
    """
    module = module_of(file)
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, Model)
        or (isinstance(value, type) and issubclass(value, ConfigurableModel) and value.__module__ == module.__name__)
    }


def strategies_in_file(file: Path) -> list[type[Strategy]]:
    """Execute a file and return the subclasses of `Strategy` that it defines, in order, valid or not.

    Raises:
        PluginError: if the file cannot be executed.
    """
    module = module_of(file)
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Strategy) and value.__module__ == module.__name__
    ]


def sources_as_executed(thing: type | Callable[..., object]) -> dict[str, bytes]:
    """Return the file that defines a local class or function, and the files beside it that it imports.

    Returns:
        Their content as it was when they were executed, by path relative to the folder of the file, which is the first;
        nothing if the thing is not from such a file.
    """
    defined = thing.func if isinstance(thing, functools.partial) else thing
    module = sys.modules.get(defined.__module__ or "")
    sources: dict[str, bytes] = getattr(module, _SOURCES, {})
    return sources


def loaded_files() -> list[Path]:
    """Return the files that this process has executed and that exist, for another process to load the same classes."""
    modules = [module for name, module in sys.modules.items() if name.startswith(_PREFIX)]
    return [file for module in modules if module.__file__ and (file := Path(module.__file__)).is_file()]


def module_of(file: Path) -> ModuleType:
    """Execute a file of plugins, once per content and process; it can import modules beside it.

    Raises:
        PluginError: if the file cannot be read or executed.
    """
    try:
        if file.exists() and not (file.is_file() or file.is_dir()):  # reading a pipe would wait forever
            raise PluginError(f"{file}: not a regular file")
        source = file.read_bytes()
    except OSError as error:
        raise PluginError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        beside = modules_beside(source, file.parent)
    except OSError as error:
        raise PluginError(f"{error.filename}: cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(b"\0".join([str(file).encode(), source, *beside.values()])).hexdigest()
    name = f"{_PREFIX}{file.stem}_{digest[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    make_importable(file.parent, beside)
    module = ModuleType(name)
    module.__file__ = str(file)
    setattr(module, DIGEST_OF_MODULE, hashlib.sha256(source).hexdigest())
    setattr(module, _SOURCES, {file.name: source, **beside})
    sys.modules[name] = module  # pydantic looks up annotations there
    try:
        exec(compile(source, str(file), "exec", dont_inherit=True), vars(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a file may raise anything
        del sys.modules[name]
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise PluginError(f"{file}: cannot be imported: {reason}") from error
    return module
