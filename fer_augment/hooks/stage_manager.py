"""The pluggy manager of the hooks of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy

from fer_augment.errors import PluginError, did_you_mean
from fer_augment.hooks.specs import OBSERVERS, PROJECT, StageSpecs
from fer_augment.hooks.stages import STAGES
from fer_augment.hooks.strategy import Strategy


class StageManager(pluggy.PluginManager):
    """Registers the hooks of strategies and trackers.

    For strategies only attributes named like a hook are read: reading others of a pydantic instance emits warnings.
    """

    def __init__(self, plugins: Iterable[object]) -> None:
        """Register strategies, and other objects, which may only have observer hooks.

        Raises:
            PluginError: if an object has a hook or an argument that does not exist.
        """
        super().__init__(PROJECT)
        self.add_hookspecs(StageSpecs)
        for plugin in plugins:
            self._register(plugin, (*STAGES, *OBSERVERS) if isinstance(plugin, Strategy) else OBSERVERS)

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        """Return the options of a hook implementation, or None if the attribute is not one."""
        may_be_a_hook = hasattr(StageSpecs, name) or not isinstance(plugin, Strategy)
        return super().parse_hookimpl_opts(plugin, name) if may_be_a_hook else None

    def _register(self, plugin: object, hooks: Iterable[str]) -> None:
        try:
            self.register(plugin, str(id(plugin)))
        except pluggy.PluginValidationError as error:
            raise PluginError(f"{type(plugin).__name__}: {' '.join(str(error).split())}") from error
        for caller in self.get_hookcallers(plugin) or []:
            if caller.name not in hooks:
                hint = did_you_mean(caller.name, hooks)
                raise PluginError(f"{type(plugin).__name__} cannot have a hook {caller.name!r}{hint}")
        for stage in plugin.idle_at if isinstance(plugin, Strategy) else ():
            if stage not in STAGES:
                hint = did_you_mean(stage, STAGES)
                raise PluginError(f"{type(plugin).__name__}: idle_at contains {stage!r}, which is not a stage{hint}")
