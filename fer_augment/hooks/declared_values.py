"""A check of what a strategy or a network declares in its properties, before a run uses it."""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fer_augment.errors import FerAugmentError, did_you_mean, excerpt, in_one_line
from fer_augment.hooks.networks import AnyModel
from fer_augment.hooks.stages import STAGES
from fer_augment.hooks.strategy import Effect, Strategy


def declaration_fault(plugin: Strategy | AnyModel) -> str | None:
    """Return what is wrong with what a plugin declares; properties are code of plugins and may raise anything."""
    for name in _DECLARATIONS if isinstance(plugin, Strategy) else _OF_NETWORKS:
        is_valid, expected = _DECLARATIONS[name]
        try:
            value = getattr(plugin, name)
            is_as_expected = is_valid(value)
        except (FerAugmentError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit and GeneratorExit, too: they are the plugin's
            return f"{name} raised {in_one_line(error)}"
        if not is_as_expected:
            return f"{name} must be {expected}, is {excerpt(repr(value), 60)}"
    for stage in plugin.idle_at if isinstance(plugin, Strategy) else ():
        if stage not in STAGES:
            return f"idle_at contains {stage!r}, which is not a stage{did_you_mean(stage, STAGES)}"
    return None


def missing_distribution(plugin: Strategy | AnyModel) -> str | None:
    """Return what to install for a plugin, as part of a sentence; None if all that it needs is there."""
    for distribution in plugin.distributions:
        try:
            version(distribution)
        except PackageNotFoundError:
            return f"needs {distribution}, which is not installed: pip install {distribution}"
    return None


def _are_all(kind: type | tuple[type, ...]) -> Callable[[Any], bool]:
    return lambda values: (
        isinstance(values, Collection)
        and not isinstance(values, str | bytes)
        and all(isinstance(value, kind) for value in values)
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and int(value) >= 0


def _are_pairs(values: Any) -> bool:
    is_text = _are_all(str)
    return _are_all((tuple, list))(values) and all(len(pair) == 2 and is_text(pair) for pair in values)


_DECLARATIONS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "effects": (lambda value: isinstance(value, Effect), "an Effect"),
    "acts_from": (_is_count, "a number of epochs, at least 0"),
    "idle_at": (_are_all(str), "a list of names of stages"),
    "distributions": (_are_all(str), "a list of names of distributions"),
    "files": (_are_all((str, os.PathLike)), "a list of paths"),
    "watched_pairs": (_are_pairs, "a list of pairs of class names"),
}
"""For each declared property of a strategy, whether a value is valid, and what it must be."""
_OF_NETWORKS = ("distributions",)
"""Those that networks have, too."""
