"""`parametrize_with_checks` gives one pytest case per check, with readable ids and advice on failure."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fer_augment.errors import PluginError
from fer_augment.testing import parametrize_with_checks
from fer_augment.testing.checks import CHECKS, FIRST_CHECKS
from tests.test_testing_valid import MirrorClasses

CHECK_NAMES = [check.__name__ for check in (*FIRST_CHECKS, *CHECKS)]
STRATEGIES = """
from __future__ import annotations

from fer_augment import Effect, Strategy, hookimpl
from fer_augment.testing import parametrize_with_checks


class ScalesWeights(Strategy):
    '''Multiply all weights by a factor.'''

    example = {"factor": 2}

    factor: float
    in_place: bool = False
    crash: bool = False

    @hookimpl
    def sampling_weights(self, weights):
        if self.crash:
            return weights[len(weights)]
        if self.in_place:
            weights *= self.factor
            return weights
        return weights * self.factor


class HasNoExample(Strategy):
    '''Require a parameter, without an example.'''

    factor: float

    @hookimpl
    def sampling_weights(self, weights):
        return weights * self.factor
"""


def reports(strategies: str, folder: Path) -> tuple[dict[str, str], str]:
    """Run the checks of some strategies in a pytest of their own; return the outcome per test id, and the output."""
    test = f"@parametrize_with_checks({strategies})\ndef test_conforms(strategy, check):\n    check(strategy)\n"
    (folder / "test_mine.py").write_text(f"{STRATEGIES}\n\n{test}", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-vrs", "-p", "no:cacheprovider", "-W", "error", "test_mine.py"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return dict(re.findall(r"::test_conforms\[(.*)\] (\w+)", ran.stdout)), ran.stdout + ran.stderr


def test_every_check_of_a_class_an_instance_and_an_installed_strategy_is_a_case(tmp_path: Path) -> None:
    outcomes, _ = reports("[ScalesWeights, ScalesWeights(factor=0.5), 'power_sampler']", tmp_path)
    labels = ("scales_weights", "scales_weights(factor=0.5)", "power_sampler")
    assert outcomes == {f"{label}-{name}": "PASSED" for label in labels for name in CHECK_NAMES}


def test_an_instance_is_checked_with_its_own_parameters_and_a_failure_says_what_to_do(tmp_path: Path) -> None:
    outcomes, output = reports("[ScalesWeights(factor=2, in_place=True)]", tmp_path)
    label = "scales_weights(factor=2.0, in_place=True)"
    assert outcomes == {
        f"{label}-{name}": "FAILED" if name == "leaves_its_inputs_alone" else "PASSED" for name in CHECK_NAMES
    }
    message = "\n".join(line.removeprefix("E").strip() for line in output.splitlines())
    assert (
        f"AssertionError: {label} fails leaves_its_inputs_alone\n"
        "Required: Hooks do not modify their arguments (arrays, tensors, lists) in place, except for models.\n"
        "sampling_weights: an argument was changed in place; work on a copy\n"
    ) in message
    assert "fer_augment/testing" not in output  # the traceback ends in the test


def test_an_exception_in_a_strategy_is_shown_with_its_traceback(tmp_path: Path) -> None:
    outcomes, output = reports("[ScalesWeights(factor=2, crash=True)]", tmp_path)
    assert [name for name, outcome in outcomes.items() if outcome == "FAILED"] == [
        "scales_weights(factor=2.0, crash=True)-keeps_the_contract_of_its_stages"
    ]
    assert ">           return weights[len(weights)]" in output
    assert "StrategyError: step 1 (scales_weights), sampling_weights: IndexError: index 49 is out of" in output


def test_checks_after_a_failed_first_check_are_skipped_with_the_reason(tmp_path: Path) -> None:
    outcomes, output = reports("[HasNoExample, ScalesWeights]", tmp_path)
    by_check = {name: outcomes[f"has_no_example-{name}"] for name in CHECK_NAMES}
    assert list(by_check.values()) == ["PASSED", "FAILED", *["SKIPPED"] * (len(CHECK_NAMES) - 2)]
    assert "set the class attribute `example` to valid parameters: factor: is missing" in output
    assert "builds_from_its_example fails; fix that first" in output
    assert all(outcomes[f"scales_weights-{name}"] == "PASSED" for name in CHECK_NAMES)


def test_a_name_that_is_not_installed_is_an_error() -> None:
    with pytest.raises(PluginError, match="'power_samplr'; did you mean 'power_sampler'"):
        parametrize_with_checks(["power_samplr"])


@parametrize_with_checks([MirrorClasses])
def test_conforms(strategy, check):  # without types, as in the documentation
    check(strategy)
