"""The conformity kit reports planted faults, each in the check that is responsible for it."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from fer_augment import Effect, Strategy, hookimpl
from fer_augment.testing import PluginCheck, assert_conforms, check_strategy
from fer_augment.testing.checks import CHECKS, CHECKS_OF_REPEATED_RUNS, FIRST_CHECKS, run_check
from fer_augment.testing.circumstances import gives_the_same_result_in_any_process
from fer_augment.testing.other_process import HASH_SEEDS, OtherProcess
from fer_augment.testing.subject import Subject
from fer_augment.torchvision_import import import_with_torchvision
from tests.planted_faults import (
    caching,
    class_numbers,
    data_dependence,
    declarations,
    earlier_steps,
    effects,
    losses_and_networks,
    mining,
    optimizer_and_history,
    repeatability,
    rows,
    run_dependence,
)
from tests.planted_faults.repeatability import UsesNumpyRandom, Warns
from tests.planted_faults.run_dependence import WeighsByHash


class RotatesByTorchvision(Strategy):
    """Rotate images with torchvision, which draws from torch's global generator."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        rotate = import_with_torchvision("torchvision.transforms.v2").RandomAffine(20)
        return torch.stack([rotate(image) for image in images]), targets


class ExitsElsewhere(Strategy):
    """Ends every process but the one that it is checked in."""

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        if os.environ.get("PYTHONHASHSEED") in HASH_SEEDS:
            os._exit(3)
        return weights / 2


PLANTED = [
    fault
    for module in (
        caching,
        declarations,
        repeatability,
        run_dependence,
        effects,
        earlier_steps,
        rows,
        data_dependence,
        losses_and_networks,
        optimizer_and_history,
    )
    for fault in module.FAULTS
]

FOUND_BY_ONE_CHECK = [*mining.FAULTS, *class_numbers.FAULTS, *data_dependence.VARIANTS]
"""Many strategies for the same check, which is run alone."""
VALID = [
    valid
    for module in (
        mining,
        class_numbers,
        declarations,
        repeatability,
        run_dependence,
        effects,
        earlier_steps,
        rows,
        losses_and_networks,
        optimizer_and_history,
    )
    for valid in module.VALID
]
BY_NAME = {check.__name__: check for check in (*FIRST_CHECKS, *CHECKS)}


@pytest.mark.parametrize(("strategy_class", "check", "advice"), FOUND_BY_ONE_CHECK)
def test_variants_of_a_fault_are_reported_by_its_check(strategy_class: type[Strategy], check: str, advice: str) -> None:
    reported, _ = run_check(BY_NAME[check], Subject.of(strategy_class))
    assert advice in "; ".join(reported)


@pytest.mark.parametrize(("strategy_class", "check"), VALID)
def test_what_resembles_these_faults_is_not_reported(strategy_class: type[Strategy], check: str) -> None:
    assert run_check(BY_NAME[check], Subject.of(strategy_class)) == ([], None)


@pytest.mark.parametrize(("strategy_class", "check", "advice"), PLANTED)
def test_a_planted_fault_is_reported_by_its_check(strategy_class: type[Strategy], check: str, advice: str) -> None:
    """Checks that come first pass, or are the one that reports it; others of the list may report it, too."""
    subject = Subject.of(strategy_class)
    for first in FIRST_CHECKS:
        if first.__name__ == check:
            break
        assert run_check(first, subject) == ([], None)
    reported, _ = run_check(BY_NAME[check], subject)
    assert advice in "; ".join(reported)


def test_torchvision_in_a_batch_is_told_of_its_seeding_alone() -> None:
    results = {result.name: result for result in check_strategy(RotatesByTorchvision)}
    (failed,) = (result for result in results.values() if not result.passed)
    assert failed.name == "leaves_global_random_numbers_alone"
    assert "torch's global generator" in failed.advice
    assert {check.__name__ for check in CHECKS_OF_REPEATED_RUNS}.isdisjoint(results)
    assert len(results) == len(FIRST_CHECKS) + len(CHECKS) - len(CHECKS_OF_REPEATED_RUNS)


def test_pytest_skips_what_is_a_consequence_of_global_random_numbers() -> None:
    with pytest.raises(pytest.skip.Exception, match="leaves_global_random_numbers_alone fails; fix that first"):
        PluginCheck(BY_NAME["ignores_the_number_of_cores"])(UsesNumpyRandom)
    with pytest.raises(AssertionError, match="numpy's global random"):
        PluginCheck(BY_NAME["leaves_global_random_numbers_alone"])(UsesNumpyRandom)
    PluginCheck(BY_NAME["keeps_provenance"])(UsesNumpyRandom)


def test_a_strategy_that_another_process_cannot_import_is_checked_without_one() -> None:
    class IsLocal(Strategy):
        """Halve all weights."""

        @hookimpl
        def sampling_weights(self, weights: Any) -> Any:
            return weights / 2

    assert all(result.passed for result in check_strategy(IsLocal))


def test_a_process_that_a_strategy_ends_is_reported_and_replaced() -> None:
    failed = {result.name: result.advice for result in check_strategy(ExitsElsewhere) if not result.passed}
    assert "must not exit or crash" in failed.pop("gives_the_same_result_in_any_process")
    assert not failed
    subject = Subject.of(WeighsByHash)
    for _ in range(2):  # a test may be repeated
        (advice,), _ = run_check(gives_the_same_result_in_any_process, subject)
        assert "no hash() of strings" in advice


def test_the_other_process_starts_where_warnings_are_errors_and_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error::RuntimeWarning")
    started = OtherProcess.started()
    started.stop(seconds=100)
    assert started.process.returncode == 0


def test_every_check_reports_a_planted_fault() -> None:
    assert {check.__name__ for check in (*FIRST_CHECKS, *CHECKS)} == {
        check for _, check, _ in [*PLANTED, *FOUND_BY_ONE_CHECK]
    }


def test_assert_conforms_reports_all_failed_checks() -> None:
    with pytest.raises(AssertionError, match="^Warns does not conform:\n  emits_no_warnings: UserWarning: look out"):
        assert_conforms(Warns)
