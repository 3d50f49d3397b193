"""The conformity kit reports planted faults, each in the check that is responsible for it."""

from __future__ import annotations

import pytest

from fer_augment import Strategy
from fer_augment.testing import assert_conforms, check_strategy
from fer_augment.testing.checks import CHECKS, FIRST_CHECKS
from tests.planted_faults import (
    caching,
    declarations,
    earlier_steps,
    effects,
    losses_and_networks,
    optimizer_and_history,
    repeatability,
    rows,
)
from tests.planted_faults.repeatability import Warns

PLANTED = [
    fault
    for module in (
        caching,
        declarations,
        repeatability,
        effects,
        earlier_steps,
        rows,
        losses_and_networks,
        optimizer_and_history,
    )
    for fault in module.FAULTS
]


@pytest.mark.parametrize(("strategy_class", "check", "advice"), PLANTED)
def test_a_planted_fault_is_reported_by_its_check(strategy_class: type[Strategy], check: str, advice: str) -> None:
    failed = {result.name: result.advice for result in check_strategy(strategy_class) if not result.passed}
    assert advice in failed.get(check, f"reported only: {failed}")


def test_every_check_reports_a_planted_fault() -> None:
    assert {check.__name__ for check in (*FIRST_CHECKS, *CHECKS)} == {check for _, check, _ in PLANTED}


def test_assert_conforms_reports_all_failed_checks() -> None:
    with pytest.raises(AssertionError, match="^Warns does not conform:\n  emits_no_warnings: UserWarning: look out"):
        assert_conforms(Warns)
