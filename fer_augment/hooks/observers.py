"""The trackers of a comparison; their exceptions never affect a result."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pluggy

from fer_augment.errors import FerAugmentError, PluginError, did_you_mean, in_one_line
from fer_augment.hooks.declarations import Tracker
from fer_augment.hooks.observer_specs import OBSERVERS, ObserverSpecs
from fer_augment.hooks.specs import PROJECT
from fer_augment.hooks.stage_manager import register


class Observers:
    """Receives events and passes them to trackers; a tracker that fails is not called again.

    Attributes:
        failures: one message per tracker that failed.
    """

    def __init__(self, observers: Mapping[str, object] | None = None) -> None:
        """Register observers under the names of their trackers.

        Raises:
            PluginError: if an observer has no hook, or a hook or an argument that does not exist.
        """
        self.failures: list[str] = []
        self._names = {id(observer): name for name, observer in (observers or {}).items()}
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(ObserverSpecs)
        for name, observer in (observers or {}).items():
            register(self._manager, observer, f"tracker {name!r}")
            _refuse_unknown_hooks(self._manager, observer, f"tracker {name!r}")

    @classmethod
    def of(cls, trackers: Iterable[Tracker], out: Path) -> Observers:
        """Create the observers of a comparison or a single run.

        Args:
            trackers: the trackers; one that cannot be created is left out and named in `failures`.
            out: the directory of results.

        Raises:
            FerAugmentError: if a tracker refuses, for example because a package is missing.
        """
        made, failures = {}, []
        for tracker in trackers:
            try:
                made[tracker.name] = tracker.make(out)
            except (FerAugmentError, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - an unreachable server or a full disk must not stop the runs
                failures.append(_failure(tracker.name, "creation", error))
        observers = cls(made)
        observers.failures += failures
        return observers

    @classmethod
    def check(cls, tracker: Tracker) -> None:
        """Create the observer of a tracker in a folder that is removed again, to find what a run would refuse.

        Raises:
            FerAugmentError: if a package is missing, or the observer has no hook, or one that does not exist.
        """
        with tempfile.TemporaryDirectory(prefix="fer_augment_tracker_") as folder:
            cls.of([tracker], Path(folder))

    @property
    def names(self) -> list[str]:
        """The trackers that have not failed."""
        return list(self._names.values())

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return bool(self._names)

    def notify(self, event: str, **arguments: Any) -> list[str]:
        """Call an observer hook of all trackers that implement it.

        Returns:
            A message for each tracker that failed now and will not be called again.
        """
        failures = []
        for implementation in getattr(self._manager.hook, event).get_hookimpls():
            try:
                implementation.function(*(arguments[name] for name in implementation.argnames))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - an unreachable server or a full disk must not stop the runs
                self._manager.unregister(implementation.plugin)
                failures.append(_failure(self._names.pop(id(implementation.plugin)), event, error))
        self.failures += failures
        return failures


def _refuse_unknown_hooks(manager: pluggy.PluginManager, observer: object, name: str) -> None:
    hooks = {caller.name for caller in manager.get_hookcallers(observer) or []}
    for hook in sorted(hooks - {*OBSERVERS}):
        raise PluginError(f"{name} cannot have a hook {hook!r}{did_you_mean(hook, OBSERVERS)}")
    for hook in OBSERVERS:
        if hook not in hooks and callable(getattr(observer, hook, None)):
            raise PluginError(f"{name}: {hook} is a hook; mark the method with @hookimpl")
    if not hooks:
        raise PluginError(f"{name} has no hook; mark at least one of {', '.join(OBSERVERS)} with @hookimpl")


def _failure(name: str, event: str, error: BaseException) -> str:
    return f"tracker {name!r} failed at {event} and was disabled; results are not affected: {in_one_line(error)}"
