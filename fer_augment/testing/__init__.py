"""The conformity kit: what every strategy must do, checked without a test being written.

```python
from fer_augment.testing import assert_conforms

def test_my_strategy():
    assert_conforms(MyStrategy)
```

A strategy is built from its `example`, run at every stage it implements, on tiny data (classes `ant`, `bee`
and `cat`, gray and color) with a real scout and a real network. `checks` is the list of what is
asked of it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from fer_augment.hooks.strategy import Strategy
from fer_augment.testing.checks import CHECKS, FIRST_CHECKS
from fer_augment.testing.fixtures import NearestMeanScout, tiny_dataset, tiny_network
from fer_augment.testing.subject import Subject

__all__ = [
    "CheckResult",
    "NearestMeanScout",
    "assert_conforms",
    "check_strategy",
    "tiny_dataset",
    "tiny_network",
]


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        name: the check's name, which says what a strategy must do.
        passed: whether it does.
        advice: what is wrong and what to do; empty if passed.
    """

    name: str
    passed: bool
    advice: str = ""


def check_strategy(strategy_class: type[Strategy]) -> list[CheckResult]:
    """Run all checks on a strategy class; those after a failed first one are not reached.

    Returns:
        One result for each check that was run, in the order of the list.
    """
    subject = Subject(strategy_class)
    results = []
    for check in (*FIRST_CHECKS, *CHECKS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                faults = list(dict.fromkeys(check(subject)))
            except Exception as error:  # noqa: BLE001 - whatever a strategy does, it fails this check only
                faults = [f"{type(error).__name__}: {error}"]
        results.append(CheckResult(check.__name__, not faults, "; ".join(faults)))
        if faults and check in FIRST_CHECKS:
            break
    return results


def assert_conforms(strategy_class: type[Strategy]) -> None:
    """Check a strategy class.

    Raises:
        AssertionError: if it fails; the text has one line for each failed check and what to do.
    """
    failed = [result for result in check_strategy(strategy_class) if not result.passed]
    if failed:
        lines = [f"  {result.name}: {result.advice}" for result in failed]
        raise AssertionError("\n".join([f"{strategy_class.__name__} does not conform:", *lines]))
