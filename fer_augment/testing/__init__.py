"""The conformity kit: the checks that every strategy has to pass, as pytest cases or as a list of results.

```python
from fer_augment.testing import parametrize_with_checks

@parametrize_with_checks([MyStrategy, MyStrategy(copies=2), "confusion_mirror"])
def test_conforms(strategy, check):
    check(strategy)
```

pytest then reports one case per check, such as `test_conforms[my_strategy-keeps_provenance]`; a failure says what is
wrong and what to do. A class is built with the parameters in its `example`, an instance keeps its own parameters, and
a string is the name of an installed strategy. `check_strategy` runs the same checks without pytest, and
`assert_conforms` raises a single `AssertionError` for all of them.

Each check runs the strategy at every stage it implements, on tiny data (classes `ant`, `bee` and `cat`, gray and
color), with a scout and a network. `checks.CHECKS` lists all checks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fer_augment.errors import FerAugmentError
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.hooks.strategy import Strategy
from fer_augment.testing.checks import CHECKS, FIRST_CHECKS, Check, run_check
from fer_augment.testing.fixtures import NearestMeanScout, tiny_dataset, tiny_network
from fer_augment.testing.subject import Subject

if TYPE_CHECKING:
    import pytest

__all__ = [
    "CheckResult",
    "NearestMeanScout",
    "StrategyCheck",
    "assert_conforms",
    "check_strategy",
    "parametrize_with_checks",
    "tiny_dataset",
    "tiny_network",
]


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        name: name of the check: what a strategy must do.
        passed: whether the strategy passes.
        advice: what is wrong and what to do; empty if passed.
    """

    name: str
    passed: bool
    advice: str = ""


def check_strategy(strategy: type[Strategy] | Strategy) -> list[CheckResult]:
    """Run all checks on a strategy; stop after the first of `FIRST_CHECKS` that fails.

    Args:
        strategy: a class, built with the parameters in its `example`, or an instance with its own parameters.

    Returns:
        One result per check that was run, in the order of the checks.
    """
    subject = Subject.of(strategy)
    results = []
    for check in (*FIRST_CHECKS, *CHECKS):
        faults, _ = run_check(check, subject)
        results.append(CheckResult(check.__name__, not faults, "; ".join(faults)))
        if faults and check in FIRST_CHECKS:
            break
    return results


def assert_conforms(strategy: type[Strategy] | Strategy) -> None:
    """Run all checks on a strategy, see `check_strategy`.

    Raises:
        AssertionError: if a check fails; the message has one line per failed check, with what to do.
    """
    failed = [result for result in check_strategy(strategy) if not result.passed]
    if failed:
        lines = [f"  {result.name}: {result.advice}" for result in failed]
        raise AssertionError("\n".join([f"{Subject.of(strategy).strategy_class.__name__} does not conform:", *lines]))


@dataclass(frozen=True)
class StrategyCheck:
    """One check of the kit, as `parametrize_with_checks` passes it to a test.

    Attributes:
        function: the check; its docstring states the requirement.
    """

    function: Check

    @property
    def name(self) -> str:
        """The name of the check, such as `keeps_provenance`."""
        return self.function.__name__

    def __call__(self, strategy: type[Strategy] | Strategy) -> None:
        """Check a strategy; skip the test if one of `FIRST_CHECKS`, on which this one depends, fails.

        Raises:
            AssertionError: if the check fails; the message states the requirement, what is wrong and what to do.
        """
        __tracebackhide__ = True
        import pytest

        subject, failed = _subject_and_failed_check(strategy)
        if failed and self.function not in FIRST_CHECKS[: FIRST_CHECKS.index(failed) + 1]:
            pytest.skip(f"{failed.__name__} fails; fix that first")
        faults, error = run_check(self.function, subject)
        if faults:
            requirement = str(self.function.__doc__).partition("\n")[0]
            lines = [f"  {line}" for line in (f"Required: {requirement}", *faults)]
            # Show the traceback of an exception in the strategy, but not of what the framework then raised.
            cause = error.__cause__ if isinstance(error, FerAugmentError) else error
            raise AssertionError("\n".join([f"{subject.label} fails {self.name}", *lines])) from cause


def parametrize_with_checks(strategies: Iterable[type[Strategy] | Strategy | str]) -> pytest.MarkDecorator:
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
    import pytest

    classes_or_instances = [
        installed_plugins().strategy(strategy).value if isinstance(strategy, str) else strategy
        for strategy in strategies
    ]
    checks = [StrategyCheck(check) for check in (*FIRST_CHECKS, *CHECKS)]
    return pytest.mark.parametrize(
        ("strategy", "check"),
        [
            pytest.param(strategy, check, id=f"{Subject.of(strategy).label}-{check.name}")
            for strategy in classes_or_instances
            for check in checks
        ],
    )


@functools.lru_cache(maxsize=32)
def _subject_and_failed_check(strategy: type[Strategy] | Strategy) -> tuple[Subject, Check | None]:
    """Return what all checks of a strategy share, and the first of `FIRST_CHECKS` that fails, if any."""
    subject = Subject.of(strategy)
    return subject, next((check for check in FIRST_CHECKS if run_check(check, subject)[0]), None)
