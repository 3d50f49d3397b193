"""Run observers; their exceptions never affect a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fer_augment.hooks.stage_manager import StageManager


class Observers:
    """Trackers, and strategies with observer hooks; an observer that fails is not called again.

    Attributes:
        failures: one message per observer that failed.
    """

    def __init__(self, observers: Iterable[object]) -> None:
        """Register the observers.

        Raises:
            PluginError: if an observer has a hook or an argument that does not exist.
        """
        self.failures: list[str] = []
        self._manager = StageManager(observers)
        self._failed: set[int] = set()

    def notify(self, event: str, **arguments: Any) -> None:
        """Call an observer hook of all observers that implement it and have not failed."""
        for implementation in getattr(self._manager.hook, event).get_hookimpls():
            observer = implementation.plugin
            if id(observer) in self._failed:
                continue
            try:
                implementation.function(*(arguments[name] for name in implementation.argnames))
            except Exception as error:  # noqa: BLE001 - an unreachable server or a full disk must not stop the run
                self._failed.add(id(observer))
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                self.failures.append(f"{type(observer).__name__} failed at {event} and was disabled: {reason}")
