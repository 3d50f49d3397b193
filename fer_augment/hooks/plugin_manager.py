"""Discover plugins, load them one by one, and look them up by name.

pluggy's own `load_setuptools_entrypoints` silently drops the second of two plugins with the same name, lets one broken
plugin stop the program, and ignores misspelled hooks. Here every conflict and every fault names the distribution and
version, and a broken plugin does not affect the others.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import pluggy

from fer_augment.data.dataset import Splits
from fer_augment.data.image_source import ArraySource, DataSource, ImageSource
from fer_augment.data.pixels import PixelSettings
from fer_augment.errors import (
    DatasetError,
    FerAugmentError,
    PluginError,
    did_you_mean,
    display_name,
    excerpt,
    in_one_line,
    no_such_file,
)
from fer_augment.hooks.declarations import DatasetReader, Loss, RecipeFile, Tracker
from fer_augment.hooks.naming import snake_case
from fer_augment.hooks.networks import ConfigurableModel, Model
from fer_augment.hooks.specs import PROJECT, RegistrationSpecs, StageSpecs
from fer_augment.hooks.stages import STAGES
from fer_augment.hooks.strategy import Strategy
from fer_augment.phases import ReportProgress

T = TypeVar("T")

LONGEST_IMPORT = 2.0
"""Processor seconds after which the import of a plugin is called slow: elapsed time depends on what else runs."""

_KINDS: dict[str, tuple[str, type]] = {
    "strategy": ("register_strategies", Strategy),
    "model": ("register_models", Model),
    "dataset reader": ("register_dataset_readers", DatasetReader),
    "loss": ("register_losses", Loss),
    "tracker": ("register_trackers", Tracker),
    "recipe": ("register_recipes", RecipeFile),
}


@dataclass(frozen=True)
class Offer(Generic[T]):
    """A registered strategy, model, dataset reader, loss, tracker or recipe.

    Attributes:
        kind: `strategy`, `model`, `dataset reader`, `loss`, `tracker` or `recipe`.
        name: its name in recipes.
        value: the declaration, or the class of a strategy or of a network with parameters.
        provider: the distribution and version that registered it.
        module: the module that registered it.
    """

    kind: str
    name: str
    value: T
    provider: str
    module: str

    @property
    def is_built_in(self) -> bool:
        """Whether fer_augment itself registered it."""
        return self.provider.rpartition(" ")[0] == PROJECT


@dataclass(frozen=True)
class Catalog:
    """Everything that the installed plugins register.

    Attributes:
        offers: all registered objects, in the order of distributions and entry points.
        problems: one line per plugin, or part of one, that cannot be used.
        slow: one line per plugin whose import takes long, which every command pays for.
    """

    offers: tuple[Offer[Any], ...]
    problems: tuple[str, ...]
    slow: tuple[str, ...] = ()

    def of_kind(self, kind: str) -> list[Offer[Any]]:
        """Return everything of a kind, sorted by name."""
        return sorted((offer for offer in self.offers if offer.kind == kind), key=lambda offer: offer.name)

    def strategy(self, name: str) -> Offer[type[Strategy]]:
        """Look up a strategy class."""
        return self._only("strategy", name)

    def model(self, name: str) -> Offer[Model | type[ConfigurableModel]]:
        """Look up a network."""
        return self._only("model", name)

    def loss(self, name: str) -> Offer[Loss]:
        """Look up a loss."""
        return self._only("loss", name)

    def reader(self, name: str) -> Offer[DatasetReader]:
        """Look up a dataset reader."""
        return self._only("dataset reader", name)

    def tracker(self, name: str) -> Offer[Tracker]:
        """Look up a tracker."""
        return self._only("tracker", name)

    def open(
        self,
        source: str,
        progress: ReportProgress = lambda done, total: None,
        *,
        reader: str | Offer[DatasetReader] | None = None,
    ) -> DataSource:
        """Open a data source with the reader that recognizes it; images are not decoded yet.

        A reader of another distribution comes before those of fer_augment; the source then has a note that says so.

        Args:
            source: a path or a word such as `demo`.
            progress: called with the number of units read and their total.
            reader: the reader to use, or its name, whatever it recognizes; None to ask all readers.

        Raises:
            DatasetError: if no reader or more than one recognizes the source, or the source is invalid.
            PluginError: if there is no reader of that name, or more than one.
        """
        is_path = "\0" not in source and os.path.exists(source)
        if is_path and not (os.path.isfile(source) or os.path.isdir(source)):  # reading a pipe would wait forever
            raise DatasetError(f"{display_name(source)}: neither a regular file nor a folder; pass a copy")
        if reader:
            offer = reader if isinstance(reader, Offer) else self._only("dataset reader", reader)
            return _opened(offer, source, progress)
        readers, failures = self._readers_of(source)
        if failures and not readers:
            raise DatasetError(f"{display_name(source)}: no reader recognizes it, and {' and '.join(failures)}")
        if not readers:
            exists = "\0" not in source and os.path.lexists(source)
            message = f"{display_name(source)}: not a supported format" if exists else no_such_file(source)
            if not exists and (os.sep in source or message.endswith("?")):  # a misspelled path, not a word
                raise DatasetError(message)
            formats = "; ".join(offer.value.summary for offer in self.of_kind("dataset reader"))
            raise DatasetError(f"{message}. Supported: {formats}")
        preferred = [offer for offer in readers if not offer.is_built_in] or readers
        if len(preferred) > 1:
            names = " and ".join(f"{offer.name} ({offer.provider})" for offer in preferred)
            raise DatasetError(f"{display_name(source)}: recognized by {names}; choose one with --reader NAME")
        others = [offer.name for offer in readers if offer not in preferred]
        return _opened(preferred[0], source, progress, passed_over=others)

    def read(self, source: str, progress: ReportProgress = lambda done, total: None) -> Splits:
        """Open a data source and return its splits, with images in the size and color that the source gives them."""
        return self.open(source, progress).splits(PixelSettings(), progress)

    def _readers_of(self, source: str) -> tuple[list[Offer[DatasetReader]], list[str]]:
        """Return the readers that recognize a source, and one line for each reader that fails to decide."""
        readers, failures = [], []
        for offer in self.of_kind("dataset reader"):
            try:
                if offer.value.recognizes(source):
                    readers.append(offer)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit included
                failures.append(f"the reader {offer.name} ({offer.provider}) failed: {in_one_line(error)}")
        return readers, failures

    def _only(self, kind: str, name: str) -> Offer[Any]:
        matching = [offer for offer in self.of_kind(kind) if offer.name == name]
        if len(matching) == 1:
            return matching[0]
        if matching:
            providers = " and ".join(f"{offer.provider} ({offer.module})" for offer in matching)
            raise PluginError(f"{kind} {name!r} is registered by {providers}; uninstall or rename one of them")
        hint = in_file_here(name, kind) or did_you_mean(name, {offer.name for offer in self.of_kind(kind)})
        broken = f" (not loaded: {' | '.join(self.problems)})" if self.problems else ""
        raise PluginError(f"there is no {kind} {excerpt(name, 60)!r}{hint}{broken}")


def in_file_here(name: str, kind: str = "") -> str:
    """Return how to use a file of the current folder that is named after a plugin; nothing if there is none.

    Args:
        name: the name of the plugin, which is not installed.
        kind: its kind, for the name of its class; empty if unknown.
    """
    for file in (f"{name}.py", f"fer_augment_{name}.py"):
        if name.isidentifier() and os.path.isfile(file):
            is_class = kind in ("strategy", "model")
            own_name = "".join(word.capitalize() for word in name.split("_")) if is_class else name
            install = "run `pip install -e .`, or " if os.path.isfile("pyproject.toml") else ""
            return f"; {file} is not installed: {install}use {file}" + (f":{own_name}" if kind else "")
    return ""


def _opened(
    offer: Offer[DatasetReader], source: str, progress: ReportProgress, passed_over: Sequence[str] = ()
) -> DataSource:
    """Open a source with a reader; note the readers of fer_augment that it was preferred to.

    Raises:
        DatasetError: if the reader fails in any way.
    """
    named = f"{display_name(source)}: the reader {offer.name} ({offer.provider})"
    try:
        opened = offer.value.read(source, progress)
    except (FerAugmentError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit and GeneratorExit, too: they are the plugin's, not ours
        raise DatasetError(f"{named} failed: {in_one_line(error)}") from error
    if not isinstance(opened, Splits) and not callable(getattr(opened, "splits", None)):
        raise DatasetError(f"{named} must return Splits or an ImageSource, returned {type(opened).__name__}")
    if passed_over and isinstance(opened, Splits | ImageSource):  # another source has no notes
        note = (
            f"Read by {offer.name} ({offer.provider}), although {' and '.join(passed_over)} would read it, too; "
            f"--reader {passed_over[0]} chooses the latter."
        )
        opened = replace(opened, notes=(*opened.notes, note))
    return ArraySource(opened) if isinstance(opened, Splits) else opened


@functools.cache
def installed_plugins() -> Catalog:
    """Load the plugins of all installed distributions, once per process."""
    entry_points = sorted(
        importlib.metadata.entry_points(group=PROJECT),
        key=lambda point: (_provider(point), point.name),
    )
    modules: list[tuple[str, str, object]] = []
    problems: list[str] = []
    slow: list[str] = []
    for point in entry_points:
        provider, started = _provider(point), time.process_time()
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for results, such as JSON
                modules.append((point.value, provider, point.load()))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - importing a plugin module may raise anything
            problems.append(f"{provider}: {point.value} cannot be imported: {in_one_line(error)}")
        seconds = time.process_time() - started
        if seconds > LONGEST_IMPORT and not provider.startswith(f"{PROJECT} "):  # those import what all commands need
            slow.append(
                f"{provider}: importing {point.value} took {seconds:.1f} s, in every command; import large libraries "
                "in the methods that need them"
            )
    catalog = collect(modules)
    return Catalog(catalog.offers, (*problems, *catalog.problems), tuple(slow))


def _provider(point: importlib.metadata.EntryPoint) -> str:
    """Return the name and version of the distribution of an entry point; its folder may be left over, without them."""
    return (point.dist and _title_of(point.dist)) or f"unknown distribution of {point.value}"


@functools.cache  # reading the metadata of a distribution takes milliseconds, and it may have many entry points
def _title_of(distribution: importlib.metadata.Distribution) -> str | None:
    try:
        metadata = distribution.metadata
    except (FileNotFoundError, UnicodeDecodeError):  # the former of importlib_metadata, which replaces the finder of
        return None  # the standard library once it is imported
    return f"{metadata['Name']} {metadata['Version']}" if metadata and "Name" in metadata else None


def collect(modules: Iterable[tuple[str, str, object]]) -> Catalog:
    """Call the registration hooks of plugin modules.

    Args:
        modules: `(module name, provider, module)`; a module is any object with registration hooks.
    """
    offers: list[Offer[Any]] = []
    problems: list[str] = []
    for name, provider, module in modules:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                own_offers, own_problems = _offers_of(name, provider, module)
            offers += own_offers
            problems += [f"{provider}: {problem}" for problem in own_problems]
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a hook of a plugin may raise anything
            problems.append(f"{provider}: {name}: {in_one_line(error)}")
    return Catalog(tuple(offers), tuple(problems))


def _offers_of(name: str, provider: str, module: object) -> tuple[list[Offer[Any]], list[str]]:
    """Return what a module registers, and one line for each part that cannot be used."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(RegistrationSpecs)
    manager.register(module, name)
    implemented = {caller.name for caller in manager.get_hookcallers(module) or []}
    hooks = [hook for hook, _ in _KINDS.values()]
    offers: list[Offer[Any]] = []
    problems = [f"{name}: there is no hook {hook!r}{did_you_mean(hook, hooks)}" for hook in implemented - {*hooks}]
    for kind, (hook, expected) in _KINDS.items():
        if hook not in implemented:
            if hasattr(module, hook):
                problems.append(f"{name}: {hook} is a hook; mark it with @hookimpl")
            continue
        declarations = next(iter(getattr(manager.hook, hook)()), None)
        if not isinstance(declarations, list | tuple):
            problems.append(f"{name}: {hook} must return a list, not {type(declarations).__name__}")
            continue
        for declared in declarations:
            faults = _faults_of(kind, declared, expected)
            if faults:
                problems += [f"{kind} {title_of(declared)}: {fault}" for fault in faults]
            else:
                offers.append(Offer(kind, title_of(declared), declared, provider, name))
    if not offers and not problems:
        problems.append(f"{name} registers nothing; mark its registration hooks with @hookimpl")
    return offers, problems


def title_of(declared: object) -> str:
    """Return the name of a declaration in recipes; that of its class in snake case if its method for that fails."""
    if isinstance(declared, type) and issubclass(declared, Strategy):
        return _returned_name(declared.strategy_name) or snake_case(declared.__name__)
    if isinstance(declared, type) and issubclass(declared, ConfigurableModel):
        return _returned_name(declared.model_name) or snake_case(declared.__name__)
    return str(getattr(declared, "name", declared))


def _returned_name(method: Callable[[], object]) -> str | None:
    try:
        name = method()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a method of a plugin may raise anything
        return None
    return name if isinstance(name, str) else None


def _faults_of(kind: str, declared: object, expected: type) -> list[str]:
    if kind == "strategy":
        return strategy_faults(declared)
    if kind == "model":
        return model_faults(declared)
    if isinstance(declared, RecipeFile):
        return [declared.fault] if declared.fault else []
    return [] if isinstance(declared, expected) else [f"must be a {expected.__name__}, is a {type(declared).__name__}"]


def model_faults(declared: object) -> list[str]:
    """Return what is wrong with the declaration of a network, one line per fault."""
    if isinstance(declared, Model):
        return []
    if not (isinstance(declared, type) and issubclass(declared, ConfigurableModel)):
        found = f"is the class {declared.__name__}" if isinstance(declared, type) else f"is a {type(declared).__name__}"
        return [f"must be a Model or a subclass of ConfigurableModel, {found}"]
    if declared.build is ConfigurableModel.build:
        return ["implements no build(self, image_shape, classes), which returns the untrained network"]
    if not _returned_name(declared.model_name):
        return ["model_name must be a classmethod that returns a text"]
    return []


def strategy_faults(declared: object) -> list[str]:
    """Return what is wrong with the definition of a strategy class, one line per fault.

    Faults are hooks that do not exist, arguments that a hook does not have or that pluggy does not pass, methods named
    like a hook without `@hookimpl`, an `__init__`, a `strategy_name` that fails, and `tryfirst`, `trylast` and
    wrappers, as steps always act in recipe order.
    """
    if not (isinstance(declared, type) and issubclass(declared, Strategy)):
        return ["must be a subclass of Strategy"]
    faults = []
    if inspect.getattr_static(declared, "__init__") is not inspect.getattr_static(Strategy, "__init__"):
        faults.append(
            "a strategy has no `__init__`; declare parameters as annotated class attributes, for example "
            "`sigma: float = 10`"
        )
    if not _returned_name(declared.strategy_name):
        faults.append("strategy_name must be a classmethod that returns a text")
    acts = False
    for method_name, method in inspect.getmembers(declared, inspect.isroutine):
        options = getattr(method, f"{PROJECT}_impl", None)
        if options is None:
            if method_name in STAGES:
                faults.append(f"{method_name} is a hook; mark the method with @hookimpl")
            continue
        if method_name not in STAGES:
            faults.append(f"there is no hook {method_name!r}{did_you_mean(method_name, STAGES)}")
            continue
        acts = True
        if any(options[name] for name in ("tryfirst", "trylast", "wrapper", "hookwrapper")):
            faults.append(f"{method_name}: remove tryfirst, trylast and wrapper; the recipe decides the order")
        if isinstance(inspect.getattr_static(declared, method_name), staticmethod | classmethod):
            faults.append(f"{method_name} must be an instance method, not a staticmethod or classmethod")
        else:
            faults += _argument_faults(method_name, method)
    if not acts and not faults:
        faults.append("implements no hook; mark at least one method with @hookimpl")
    return faults


def _argument_faults(hook: str, method: Callable[..., object]) -> Iterator[str]:
    parameters = set(inspect.signature(getattr(StageSpecs, hook)).parameters) - {"self"}
    for argument in list(inspect.signature(method).parameters.values())[1:]:
        if argument.name not in parameters:
            yield f"{hook} has no argument {argument.name!r}{did_you_mean(argument.name, parameters)}"
        elif argument.kind is not argument.POSITIONAL_OR_KEYWORD or argument.default is not argument.empty:
            yield f"{hook}: {argument.name!r} must be a plain argument without a default, as it is always passed"
