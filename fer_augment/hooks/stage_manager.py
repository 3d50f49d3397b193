"""Which objects have which hooks of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy

from fer_augment.errors import PluginError, did_you_mean
from fer_augment.hooks.specs import OBSERVERS, PROJECT, STAGES, StageSpecs
from fer_augment.hooks.strategy import Strategy


class StageManager(pluggy.PluginManager):
    """Knows the hooks of a run that strategies and trackers have.

    Strategies are asked for known hooks only: reading every attribute of a pydantic instance would warn of some.
    """

    def __init__(self, plugins: Iterable[object]) -> None:
        """Register strategies, and others, who can but observe.

        Raises:
            PluginError: if one has a hook or an argument that does not exist.
        """
        super().__init__(PROJECT)
        self.add_hookspecs(StageSpecs)
        for plugin in plugins:
            self._register(plugin, (*STAGES, *OBSERVERS) if isinstance(plugin, Strategy) else OBSERVERS)

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        """Return the marks of a hook, or None where there is none."""
        is_asked = hasattr(StageSpecs, name) or not isinstance(plugin, Strategy)
        return super().parse_hookimpl_opts(plugin, name) if is_asked else None

    def _register(self, plugin: object, known: Iterable[str]) -> None:
        try:
            self.register(plugin, str(id(plugin)))
        except pluggy.PluginValidationError as error:
            raise PluginError(f"{type(plugin).__name__}: {' '.join(str(error).split())}") from error
        for caller in self.get_hookcallers(plugin) or []:
            if caller.name not in known:
                hint = did_you_mean(caller.name, known)
                raise PluginError(f"{type(plugin).__name__} can have no hook {caller.name!r}{hint}")
        for stage in plugin.idle_at if isinstance(plugin, Strategy) else ():
            if stage not in STAGES:
                hint = did_you_mean(stage, STAGES)
                raise PluginError(f"{type(plugin).__name__}: idle_at names {stage!r}, which is no stage{hint}")
