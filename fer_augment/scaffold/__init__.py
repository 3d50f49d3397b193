"""Templates of distributions with one working plugin: `fer-augment plugins new`."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

import fer_augment
from fer_augment.errors import PluginError
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.scaffold import loss, model, reader, strategy, tracker

KINDS: Mapping[str, tuple[str, Mapping[str, tuple[str, str]]]] = {
    "strategy": ("strategy", strategy.FILES),
    "model": ("model", model.FILES),
    "loss": ("loss", loss.FILES),
    "reader": ("dataset reader", reader.FILES),
    "tracker": ("tracker", tracker.FILES),
}
"""For each value of `--kind` the kind of plugin, and the purpose and the template of each file."""


def write_distribution(name: str, folder: Path, kind: str = "strategy") -> dict[str, str]:
    """Write a distribution that registers one plugin.

    Args:
        name: the name of the plugin in recipes: lower-case words separated by `_`, as `plugin_name_of` returns it.
        folder: the folder to create.
        kind: one of `KINDS`.

    Returns:
        The files, relative to the folder, each with a description.

    Raises:
        PluginError: if the name is not valid, or the folder exists or cannot be written.
    """
    offered, templates = KINDS[kind]
    substitutions = {
        "name": name,
        "class_name": _class_name(name, kind, offered),
        "distribution": f"fer-augment-{name.replace('_', '-')}",
        "module": f"fer_augment_{name}",
        "version": fer_augment.__version__,
        "kind": kind,
    }
    written = {Template(file).substitute(substitutions): purpose for file, (purpose, _) in templates.items()}
    try:
        folder.mkdir(parents=True)
        for file, (_, template) in zip(written, templates.values(), strict=True):
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(Template(template).substitute(substitutions), encoding="utf-8")
    except FileExistsError as error:
        raise PluginError(f"{folder} already exists; name a new folder with --out") from error
    except OSError as error:
        raise PluginError(f"{folder} cannot be written: {error.strerror}") from error
    return written


def plugin_name_of(name: str) -> str:
    """Return a name as recipes write it: `soft_focus` for `soft-focus` or `SoftFocus`; others unchanged."""
    return _nearest(name) if _SPELLED_OTHERWISE.fullmatch(name) and _NAME.fullmatch(_nearest(name)) else name


def _nearest(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")


def _class_name(name: str, kind: str, offered: str) -> str:
    """Return the class name for the name of a plugin.

    Raises:
        PluginError: if no class can have the name, or a plugin of this kind and name is installed.
    """
    if not _NAME.fullmatch(name):
        nearest = _nearest(name)
        message = f"{name!r} is not a valid {kind} name: use lower-case words of two or more letters, joined by _"
        raise PluginError(f"{message}, such as {nearest if _NAME.fullmatch(nearest) else 'mirror_classes'}")
    class_name = "".join(word.capitalize() for word in name.split("_"))
    if keyword.iskeyword(class_name) or hasattr(fer_augment, class_name) or class_name in _IMPORTED:
        raise PluginError(f"{name!r} is not a valid {kind} name: the class name {class_name} is already in use")
    for offer in installed_plugins().of_kind(offered):
        if offer.name == name:
            raise PluginError(f"a {kind} {name!r} is already installed, by {offer.provider}; choose another name")
    return class_name


_NAME = re.compile(r"[a-z][a-z0-9]+(_[a-z][a-z0-9]+)*")
"""Names that survive the conversion to a class name and back, as by `Strategy.strategy_name`."""
_SPELLED_OTHERWISE = re.compile(r"[A-Za-z][A-Za-z0-9 _-]*")
"""Names of words that are joined or capitalized in another way."""

_IMPORTED = ("Any", "Callable", "ClassVar", "Field", "Mapping", "OrderedDict", "Path", "Sequence")
"""Names that the modules import from elsewhere than `fer_augment`."""
