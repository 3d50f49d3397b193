"""The pluggy manager of the stages of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy

from fer_augment.errors import PluginError, did_you_mean
from fer_augment.hooks.specs import PROJECT, StageSpecs
from fer_augment.hooks.stages import STAGES
from fer_augment.hooks.strategy import Strategy


class StageManager(pluggy.PluginManager):
    """Registers the stage hooks of strategies.

    Only attributes named like a hook are read: reading others of a pydantic instance emits warnings.
    """

    def __init__(self, strategies: Iterable[Strategy]) -> None:
        """Register strategies.

        Raises:
            PluginError: if a strategy has a hook or an argument that does not exist.
        """
        super().__init__(PROJECT)
        self.add_hookspecs(StageSpecs)
        for strategy in strategies:
            name = type(strategy).__name__
            register(self, strategy, name)
            for stage in strategy.idle_at:
                if stage not in STAGES:
                    hint = did_you_mean(stage, STAGES)
                    raise PluginError(f"{name}: idle_at contains {stage!r}, which is not a stage{hint}")

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        """Return the options of a hook implementation, or None if the attribute is not one."""
        return super().parse_hookimpl_opts(plugin, name) if hasattr(StageSpecs, name) else None


def register(manager: pluggy.PluginManager, plugin: object, name: str) -> None:
    """Register an object with hooks under a manager whose specifications have been added.

    Raises:
        PluginError: if it has an argument that does not exist.
    """
    try:
        manager.register(plugin, str(id(plugin)))
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{name}: {' '.join(str(error).split())}") from error
