"""The installed distributions that a training depends on, from the metadata of the providers of its parts."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fer_augment.hooks.networks import Model
from fer_augment.hooks.strategy_files import sources_as_executed
from fer_augment.recipe.binding import BoundRecipe

OWN = "fer-augment"
_ARRAYS = frozenset({"numpy", "torch"})
_OWN_MODULES = frozenset({"fer_augment", "numpy", "pydantic", "torch"})
"""Modules that plugins commonly import, of distributions that have the same names."""
_IMPORTERS = frozenset({"import_module", "import_with_torchvision"})
"""Functions that import the module that they are given the name of."""
_FOR_REPORTS = frozenset({"matplotlib"})
"""What fer_augment requires to draw reports and documentation; no training calls it."""


def distribution_versions(bound: BoundRecipe) -> dict[str, str]:
    """Return the versions of the distributions that the training of a recipe depends on, by canonical name, sorted.

    Of fer_augment these are the array libraries among its requirements: numpy, torch, and what requires one of them.
    Of any other distribution that provides a strategy, the model or the loss, these are all of its requirements, and
    in turn the array libraries that those require. Added are the `distributions` that strategies and the model declare,
    those that the model, the loss, a strategy in a file, or a module beside one of these files imports, and the array
    libraries that these require.
    """
    names = set(_array_libraries(OWN))
    for provider in bound.distributions - {OWN}:
        names |= {provider} | required_by(provider) | _array_libraries(provider)
    libraries = set(bound.model.distributions)
    for step in bound.steps:
        libraries.update(step.strategy.distributions)
        if step.provider.startswith("file "):
            libraries |= _imported_by(type(step.strategy))
    libraries |= _imported_by(bound.model.build if isinstance(bound.model, Model) else type(bound.model))
    libraries |= _imported_by(bound.loss.of_batch)
    added: set[str] = {canonicalize_name(name) for name in libraries}
    for library in added - names:  # of an extra, which no provider requires
        names |= {library} | _array_libraries(library)
    versions = {name: installed_version(name) for name in sorted(names - {OWN})}
    return {name: version for name, version in versions.items() if version is not None}


@functools.cache
def required_by(distribution: str) -> frozenset[str]:
    """Return the canonical names of the installed distributions that one requires, without its extras."""
    requirements = map(Requirement, _installed(distribution)[1])
    needed = (one.name for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""}))
    return frozenset(name for name in map(canonicalize_name, needed) if installed_version(name) is not None)


@functools.cache
def _array_libraries(distribution: str) -> frozenset[str]:
    """Return the requirements of a distribution, direct and indirect, that are array libraries."""
    closure: set[str] = set()
    waiting = list(required_by(distribution) - _FOR_REPORTS)
    while waiting:
        name = waiting.pop()
        if name not in closure and name != OWN:
            closure.add(name)
            waiting += required_by(name)
    return frozenset(name for name in closure if _is_array_library(name))


@functools.cache
def _is_array_library(name: str) -> bool:
    return name in _ARRAYS or any(_is_array_library(inner) for inner in required_by(name))


@functools.cache
def _imported_by(plugin: Callable[..., object]) -> frozenset[str]:
    """Return the distributions whose modules the source of a class or function imports."""
    modules = {module for source in _sources_of(plugin) for module in _modules_in(source)} - sys.stdlib_module_names
    if modules <= {*_OWN_MODULES}:  # the common case; listing the modules of all distributions takes longer
        return frozenset(modules - {"fer_augment"})
    providers = distributions_of_modules()
    return frozenset(canonicalize_name(name) for module in modules for name in providers.get(module, ()))


def _sources_of(plugin: Callable[..., object]) -> Collection[bytes]:
    """Return the content of the file of a class or function, and of the modules beside a local file."""
    defined = plugin.func if isinstance(plugin, functools.partial) else inspect.unwrap(plugin)
    if local := sources_as_executed(defined):
        return local.values()
    try:
        return [Path(inspect.getsourcefile(defined) or "").read_bytes()]
    except (OSError, TypeError):  # typed into an interpreter
        return []


def _modules_in(source: bytes) -> Iterator[str]:
    """Yield the first part of the name of each module that is imported, by a statement or by a call with the name."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # a module of a package that is never imported
        return
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name.partition(".")[0] for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]
            case ast.Call(func=ast.Name(name) | ast.Attribute(attr=name), args=[ast.Constant(str(module)), *_]):
                if name in _IMPORTERS:
                    yield module.partition(".")[0]


@functools.cache
def distributions_of_modules() -> dict[str, Iterable[str]]:
    """Return for each top-level module the distributions that provide it."""
    return dict(importlib.metadata.packages_distributions())


def installed_version(name: str) -> str | None:
    """Return the version of a distribution; None if it is not installed."""
    return _installed(name)[0]


@functools.cache
def _installed(name: str) -> tuple[str | None, tuple[str, ...]]:
    """Return version and requirements of a distribution, from one reading of its metadata; none if not installed."""
    for distribution in importlib.metadata.distributions(name=name):
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        # most of it is a description, whose parsing takes longest
        metadata = HeaderParser().parsestr(text.partition("\n\n")[0])
        if version := metadata["Version"]:  # else a folder that is left over; the distribution may come after it
            return version, tuple(metadata.get_all("Requires-Dist") or distribution.requires or ())
    return None, ()
