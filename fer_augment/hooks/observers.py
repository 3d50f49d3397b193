"""Those who are told what happens in a run: whatever goes wrong with them changes no result."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fer_augment.hooks.stage_manager import StageManager


class Observers:
    """Trackers, and strategies that want to know; who fails is told no more, and the run goes on.

    Attributes:
        failures: a sentence for each that failed.
    """

    def __init__(self, observers: Iterable[object]) -> None:
        """Take in who is told.

        Raises:
            PluginError: if one of them has a hook or an argument that does not exist.
        """
        self.failures: list[str] = []
        self._manager = StageManager(observers)
        self._failed: set[int] = set()

    def tell(self, event: str, **told: Any) -> None:
        """Call an observer hook of all who have it and have not failed."""
        for listener in getattr(self._manager.hook, event).get_hookimpls():
            if id(listener.plugin) in self._failed:
                continue
            try:
                listener.function(*(told[name] for name in listener.argnames))
            except Exception as error:  # noqa: BLE001 - a server that is away, a full disk: none of it is the run's fault
                self._failed.add(id(listener.plugin))
                what = f"{type(error).__name__}: {' '.join(str(error).split())}"
                self.failures.append(f"{type(listener.plugin).__name__} failed at {event} and was told no more: {what}")
