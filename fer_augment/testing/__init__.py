"""The conformity kit: the checks that every plugin has to pass, as pytest cases or a list of results.

```python
from fer_augment.testing import parametrize_with_checks

@parametrize_with_checks([MyStrategy, MyStrategy(copies=2), "confusion_mirror"])
def test_conforms(strategy, check):
    check(strategy)
```

pytest then reports one case per check, such as `test_conforms[my_strategy-keeps_provenance]`; a failure says what is
wrong and what to do. A class is built with the parameters in its `example`, an instance keeps its own parameters, and
a string is the name of an installed strategy. `check_strategy` runs the same checks without pytest, and
`assert_conforms` raises a single `AssertionError` for all of them. Networks, losses, readers and trackers have checks
of their own:

```python
from fer_augment.testing import parametrize_with_loss_checks, parametrize_with_model_checks

@parametrize_with_model_checks([MyNetwork, MyNetwork(width=8), "vgg_mini"])
def test_network_conforms(model, check):
    check(model)

@parametrize_with_loss_checks([my_loss])
def test_loss_conforms(loss, check):
    check(loss)
```

Each check runs the strategy at every stage it implements, on tiny data (classes `ant`, `bee` and `cat`, gray and
color), with a scout and a network. `checks.CHECKS_OF_KIND` lists all checks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from fer_augment.errors import FerAugmentError
from fer_augment.hooks.declarations import DatasetReader, Loss, Tracker
from fer_augment.hooks.networks import ConfigurableModel, Model
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.hooks.strategy import Strategy
from fer_augment.testing.checks import (
    CHECKS_OF_KIND,
    AnySubject,
    Check,
    checks_of,
    run_check,
    waiting_for,
)
from fer_augment.testing.fixtures import NearestMeanScout, tiny_dataset, tiny_network
from fer_augment.testing.losses import LossSubject
from fer_augment.testing.models import ModelSubject
from fer_augment.testing.other_process import other_process
from fer_augment.testing.readers import ReaderSubject
from fer_augment.testing.subject import Subject
from fer_augment.testing.trackers import TrackerSubject

if TYPE_CHECKING:
    import pytest

__all__ = [
    "CheckResult",
    "NearestMeanScout",
    "PluginCheck",
    "assert_conforms",
    "check_loss",
    "check_model",
    "check_reader",
    "check_strategy",
    "check_tracker",
    "parametrize_with_checks",
    "parametrize_with_loss_checks",
    "parametrize_with_model_checks",
    "parametrize_with_reader_checks",
    "parametrize_with_tracker_checks",
    "tiny_dataset",
    "tiny_network",
]


AnyStrategy: TypeAlias = type[Strategy] | Strategy
AnyNetwork: TypeAlias = Model | type[ConfigurableModel] | ConfigurableModel
AnyPlugin: TypeAlias = AnyStrategy | AnyNetwork | Loss | DatasetReader | Tracker


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        name: name of the check: what a plugin must do.
        passed: whether the plugin passes; True for a check that cannot be made.
        advice: what is wrong and what to do; for a check that cannot be made, why; else empty.
    """

    name: str
    passed: bool
    advice: str = ""


def check_strategy(strategy: AnyStrategy) -> list[CheckResult]:
    """Run all checks on a strategy; stop after the first of `FIRST_CHECKS` that fails.

    `CHECKS_OF_REPEATED_RUNS` are left out if the strategy uses global random numbers.

    Args:
        strategy: a class, built with the parameters in its `example`, or an instance with its own parameters.

    Returns:
        One result per check that was run, in the order of the checks.
    """
    return _results(Subject.of(strategy))


def check_model(model: AnyNetwork) -> list[CheckResult]:
    """Run all checks on a network; stop after the first of `FIRST_MODEL_CHECKS` that fails.

    Args:
        model: a `Model`; a class, built with the parameters in its `example`; or an instance with its own parameters.

    Returns:
        One result per check that was run, in the order of the checks.
    """
    return _results(ModelSubject(model))


def check_loss(loss: Loss) -> list[CheckResult]:
    """Run all checks on a loss; stop after the first of `FIRST_LOSS_CHECKS` that fails.

    Returns:
        One result per check that was run, in the order of the checks.
    """
    return _results(LossSubject(loss))


def check_reader(reader: DatasetReader, source: str | None = None) -> list[CheckResult]:
    """Run all checks on a dataset reader; stop after the first of `FIRST_READER_CHECKS` that fails.

    Args:
        reader: the reader.
        source: a source that it reads, as typed after `--data`; None for the one that its `example` writes.

    Returns:
        One result per check that was run, in the order of the checks.
    """
    return _results(ReaderSubject(reader, source))


def check_tracker(tracker: Tracker) -> list[CheckResult]:
    """Run all checks on a tracker; stop after the first of `FIRST_TRACKER_CHECKS` that fails.

    Returns:
        One result per check that was run, in the order of the checks.
    """
    return _results(TrackerSubject(tracker))


def assert_conforms(plugin: AnyPlugin) -> None:
    """Run all checks of the kind of a plugin, see `check_strategy` and the like.

    Raises:
        AssertionError: if a check fails; the message has one line per failed check, with what to do.
    """
    subject = _subject_of(plugin)
    failed = [result for result in _results(subject) if not result.passed]
    if failed:
        lines = [f"  {result.name}: {result.advice}" for result in failed]
        title = subject.strategy_class.__name__ if isinstance(subject, Subject) else subject.label
        raise AssertionError("\n".join([f"{title} does not conform:", *lines]))


_SUBJECT_OF_KIND: Mapping[str, Callable[[Any], AnySubject]] = {
    "strategy": Subject.of,
    "model": ModelSubject,
    "loss": LossSubject,
    "dataset reader": ReaderSubject,
    "tracker": TrackerSubject,
}


def _subject_of(plugin: AnyPlugin) -> AnySubject:
    if isinstance(plugin, Loss):
        return LossSubject(plugin)
    if isinstance(plugin, DatasetReader):
        return ReaderSubject(plugin)
    if isinstance(plugin, Tracker):
        return TrackerSubject(plugin)
    declared = plugin if isinstance(plugin, type) else type(plugin)
    if issubclass(declared, Model | ConfigurableModel):
        return ModelSubject(plugin)  # type: ignore[arg-type] # narrowed by its class
    return Subject.of(plugin)  # type: ignore[arg-type] # as above


def _results(subject: AnySubject) -> list[CheckResult]:
    first, others = checks_of(subject)
    if isinstance(subject, Subject):
        other_process()  # starts while the first checks run
    results: list[CheckResult] = []
    waiting: set[Check] = set()
    for check in (*first, *others):
        if check in waiting:
            continue
        faults, error = run_check(check, subject)
        results.append(CheckResult(check.__name__, not faults, "; ".join(faults) or str(error or "")))
        if faults:
            waiting.update(waiting_for(check, subject))
        if check is others[0] and not waiting and isinstance(subject, Subject):
            _ = subject.asked_elsewhere  # answers while the other checks run
    return results


@dataclass(frozen=True)
class PluginCheck:
    """One check of the kit, as `parametrize_with_checks` passes it to a test.

    Attributes:
        function: the check; its docstring states the requirement.
    """

    function: Check

    @property
    def name(self) -> str:
        """The name of the check, such as `keeps_provenance`."""
        return self.function.__name__

    def __call__(self, plugin: AnyPlugin) -> None:
        """Check a plugin; skip the test if a check on which this one depends fails, or if it cannot be made.

        Raises:
            AssertionError: if the check fails; the message states the requirement, what is wrong and what to do.
        """
        __tracebackhide__ = True
        import pytest

        kind = next(kind for kind, checks in CHECKS_OF_KIND.items() if self.function in (*checks[0], *checks[1]))
        subject, failed = _subject_and_failed_check(_Same(plugin), kind)
        if failed and self.function in waiting_for(failed, subject):
            pytest.skip(f"{failed.__name__} fails; fix that first")
        faults, error = run_check(self.function, subject)
        if faults:
            requirement = str(self.function.__doc__).partition("\n")[0]
            lines = [f"  {line}" for line in (f"Required: {requirement}", *faults)]
            # Show the traceback of an exception in the plugin, but not of what the framework then raised.
            cause = error.__cause__ if isinstance(error, FerAugmentError) else error
            raise AssertionError("\n".join([f"{subject.label} fails {self.name}", *lines])) from cause
        if error:
            pytest.skip(str(error))


def parametrize_with_checks(strategies: Iterable[AnyStrategy | str]) -> pytest.MarkDecorator:
    """Parametrize a pytest test with every check of the kit, for every given strategy.

    The test takes the arguments `strategy` and `check` and calls `check(strategy)`. If one of `FIRST_CHECKS` fails,
    the later checks of that strategy are skipped.

    Args:
        strategies: classes, built with the parameters in their `example`; instances with their own parameters; names
            of installed strategies.

    Returns:
        A decorator for the test.

    Raises:
        PluginError: if no strategy of a given name is installed.
    """
    found = [installed_plugins().strategy(one).value if isinstance(one, str) else one for one in strategies]
    return _parametrized("strategy", found, "strategy")


def parametrize_with_model_checks(models: Iterable[AnyNetwork | str]) -> pytest.MarkDecorator:
    """Parametrize a pytest test with every check of the kit, for every given network.

    The test takes the arguments `model` and `check` and calls `check(model)`. If one of `FIRST_MODEL_CHECKS` fails, the
    later checks of that network are skipped.

    Args:
        models: a `Model`; classes, built with the parameters in their `example`; instances with their own parameters;
            names of installed networks.

    Returns:
        A decorator for the test.

    Raises:
        PluginError: if no network of a given name is installed.
    """
    found = [installed_plugins().model(one).value if isinstance(one, str) else one for one in models]
    return _parametrized("model", found, "model")


def parametrize_with_loss_checks(losses: Iterable[Loss | str]) -> pytest.MarkDecorator:
    """Parametrize a pytest test, with the arguments `loss` and `check`, with every check for every given loss.

    Args:
        losses: declarations, or names of installed losses.

    Raises:
        PluginError: if no loss of a given name is installed.
    """
    found = [installed_plugins().loss(one).value if isinstance(one, str) else one for one in losses]
    return _parametrized("loss", found, "loss")


def parametrize_with_reader_checks(readers: Iterable[DatasetReader | str]) -> pytest.MarkDecorator:
    """Parametrize a pytest test, with the arguments `reader` and `check`, with every check for every given reader.

    Args:
        readers: declarations with an `example`, or names of installed readers.

    Raises:
        PluginError: if no reader of a given name is installed.
    """
    found = [installed_plugins().reader(one).value if isinstance(one, str) else one for one in readers]
    return _parametrized("reader", found, "dataset reader")


def parametrize_with_tracker_checks(trackers: Iterable[Tracker | str]) -> pytest.MarkDecorator:
    """Parametrize a pytest test, with the arguments `tracker` and `check`, with every check for every given tracker.

    Args:
        trackers: declarations, or names of installed trackers.

    Raises:
        PluginError: if no tracker of a given name is installed.
    """
    found = [installed_plugins().tracker(one).value if isinstance(one, str) else one for one in trackers]
    return _parametrized("tracker", found, "tracker")


def _parametrized(argument: str, plugins: Sequence[AnyPlugin], kind: str) -> pytest.MarkDecorator:
    import pytest

    first, others = CHECKS_OF_KIND[kind]
    return pytest.mark.parametrize(
        (argument, "check"),
        [
            pytest.param(plugin, PluginCheck(check), id=f"{_SUBJECT_OF_KIND[kind](plugin).label}-{check.__name__}")
            for plugin in plugins
            for check in (*first, *others)
        ],
    )


@dataclass(frozen=True, eq=False)
class _Same:
    """A plugin, compared by identity: what it declares may have no hash."""

    plugin: AnyPlugin

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.plugin is other.plugin

    def __hash__(self) -> int:
        return id(self.plugin)


@functools.lru_cache(maxsize=32)
def _subject_and_failed_check(same: _Same, kind: str) -> tuple[AnySubject, Check | None]:
    """Return what all checks of a plugin share, and the first check that fails and for which others wait, if any."""
    subject = _SUBJECT_OF_KIND[kind](same.plugin)
    first, others = checks_of(subject)
    awaited = (*first, *(check for check in others if waiting_for(check, subject)))
    return subject, next((check for check in awaited if run_check(check, subject)[0]), None)
