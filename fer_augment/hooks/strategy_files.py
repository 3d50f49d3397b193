"""Strategies and networks in a Python file next to a recipe, for testing an idea before it becomes a distribution."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from fer_augment.errors import PluginError, did_you_mean, in_one_line
from fer_augment.hooks.modules_beside import make_importable, modules_beside, modules_of
from fer_augment.hooks.networks import ConfigurableModel, Model
from fer_augment.hooks.plugin_manager import model_faults, strategy_faults
from fer_augment.hooks.strategy import Strategy

DIGEST_OF_MODULE = "__source_digest__"
"""Attribute of a module: the SHA-256 of its source as executed; the file may have been edited since."""


_PREFIX, _EXECUTED = "fer_augment_local_", "__executed__"


@dataclass(frozen=True)
class ExecutedFile:
    """A file of plugins as it was when it was executed; the files on the disk may have been edited or deleted since.

    Attributes:
        path: the file.
        source: its content.
        beside: the content of the modules beside it that it imports, by path relative to its folder.
    """

    path: Path
    source: bytes
    beside: Mapping[str, bytes]

    @property
    def module_name(self) -> str:
        """The name of the module that it is executed as, one for each content."""
        content = b"\0".join([str(self.path).encode(), self.source, *self.beside.values()])
        return f"{_PREFIX}{self.path.stem}_{hashlib.sha256(content).hexdigest()[:16]}"


def strategy_in_file(file: Path, class_name: str) -> type[Strategy]:
    """Execute a file and return a strategy class from it.

    Raises:
        PluginError: if the file cannot be executed, has no such class, or the class is not a valid strategy.
    """
    declared = getattr(module_of(file), class_name, None)
    if declared is None:
        hint = did_you_mean(class_name, strategies_in_file(file))
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


def strategies_in_file(file: Path) -> dict[str, type[Strategy]]:
    """Execute a file and return the subclasses of `Strategy` that it defines, valid or not, in order, by variable.

    A class in several variables is returned by the first of them.

    Raises:
        PluginError: if the file cannot be executed.
    """
    module = module_of(file)
    first: dict[type[Strategy], str] = {}
    for name, value in vars(module).items():
        if isinstance(value, type) and issubclass(value, Strategy) and value.__module__ == module.__name__:
            first.setdefault(value, name)
    return {name: strategy for strategy, name in first.items()}


def sources_as_executed(thing: type | Callable[..., object]) -> dict[str, bytes]:
    """Return the file that defines a local class or function, and the files beside it that it imports.

    Returns:
        Their content as it was when they were executed, by path relative to the folder of the file, which is the first;
        nothing if the thing is not from such a file.
    """
    defined = thing.func if isinstance(thing, functools.partial) else thing
    executed = executed_file(defined.__module__ or "")
    return {executed.path.name: executed.source, **executed.beside} if executed else {}


def executed_file(module_name: str) -> ExecutedFile | None:
    """Return the local file that was executed as a module; None for other modules."""
    executed: ExecutedFile | None = getattr(sys.modules.get(module_name), _EXECUTED, None)
    return executed


def executed_files(classes: Iterable[type]) -> list[ExecutedFile]:
    """Return the local files that define some of the classes, themselves or in modules beside them.

    In another process, `module_as_of` loads the same classes from them.
    """
    executed = [getattr(module, _EXECUTED) for name, module in sys.modules.items() if name.startswith(_PREFIX)]
    names = {name for one in classes for name in (one.__module__, one.__module__.partition(".")[0])}
    return [file for file in executed if not names.isdisjoint({file.module_name, *modules_of(file.beside)})]


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
    return module_as_of(ExecutedFile(file, source, beside))


def module_as_of(executed: ExecutedFile) -> ModuleType:
    """Execute a file of plugins with the content that it had when it was read, once per content and process.

    Raises:
        PluginError: if it cannot be executed.
    """
    file, name = executed.path, executed.module_name
    if name in sys.modules:
        return sys.modules[name]
    make_importable(file.parent, executed.beside)
    module = ModuleType(name)
    module.__file__ = str(file)
    setattr(module, DIGEST_OF_MODULE, hashlib.sha256(executed.source).hexdigest())
    setattr(module, _EXECUTED, executed)
    sys.modules[name] = module  # pydantic looks up annotations there
    try:
        exec(compile(executed.source, str(file), "exec", dont_inherit=True), vars(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a file may raise anything
        del sys.modules[name]
        raise PluginError(f"{file}: cannot be imported: {in_one_line(error)}") from error
    return module
