"""Benchmarks: pairs of measurements, stored ratios, and the page of results."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.__main__ import main
from benchmarks.page import amount, performance_page
from benchmarks.pairs import Pairs, Ratio, Results, is_worse, load_baseline, load_results, save_baseline

ROOT = Path(__file__).parents[1]
BASELINE = ROOT / "benchmarks" / "baseline.json"


def pairs(ours: tuple[float, ...], theirs: tuple[float, ...], **changes) -> Pairs:
    return Pairs(
        **{"task": "counting", "alternative": "fingers", "measure": "CPU time", "ours": ours, "theirs": theirs}
        | changes
    )


def ratio(*ratios: float) -> Ratio:
    return Ratio.of(pairs((1.0,) * len(ratios), ratios))


class TestPairs:
    def test_ratio_is_the_median_of_ratios_not_the_ratio_of_medians(self) -> None:
        assert pairs((1, 2, 4), (3, 2, 8)).ratio == 2

    def test_quartiles_are_those_of_the_ratios(self) -> None:
        assert pairs((1,) * 5, (5, 1, 3, 2, 4)).quartiles == (2, 4)
        assert pairs((2,), (4,)).quartiles == (2, 2)

    @pytest.mark.parametrize(
        ("targets", "is_met"),
        [
            ({}, None),
            ({"at_least": 2}, True),
            ({"at_least": 2.1}, False),
            ({"at_most": 3}, True),
            ({"at_most": 2}, False),
        ],
    )
    def test_target_is_a_ratio_or_an_amount(self, targets: dict[str, float], is_met: bool | None) -> None:
        assert pairs((3.0, 3.0), (6.0, 6.0), **targets).is_met is is_met

    def test_incomplete_pairs_are_refused(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            pairs((1.0, 2.0), (1.0,))


class TestIsWorse:
    def test_drop_outside_the_interquartile_range_is_worse(self) -> None:
        assert is_worse(ratio(2, 2.1, 2.2), ratio(3, 3.1, 3.2))

    def test_drop_within_the_interquartile_range_is_noise(self) -> None:
        assert not is_worse(ratio(1, 2, 3.5), ratio(2, 3, 4))

    def test_drop_of_less_than_a_tenth_is_noise(self) -> None:
        assert not is_worse(ratio(2.8, 2.8, 2.8), ratio(3, 3, 3))

    def test_increase_is_not_worse(self) -> None:
        assert not is_worse(ratio(9, 9, 9), ratio(3, 3, 3))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a benchmark whose alternative takes four times as long and three times the memory; return its JSON."""
    folder = tmp_path_factory.mktemp("bench")
    text = """
        import time
        order = []

        def ours():
            order.append("ours")
            time.sleep(0.01)

        def theirs():
            order.append("theirs")
            time.sleep(0.04)

        def test_sleep(side_by_side):
            side_by_side("sleeping", ours=ours, theirs=theirs, alternative="snoring", n=3, at_most=60.0)
            assert order == ["theirs", "ours"] * 4
            many, few = (lambda: bytearray(3_000_000)), (lambda: bytearray(1_000_000))
            side_by_side.memory("sleeping: memory", ours=few, theirs=many, alternative="snoring", at_most=1e3)
    """
    (folder / "bench_bed_time.py").write_text(textwrap.dedent(text))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "benchmarks.conftest", "-c", str(ROOT / "pyproject.toml")]
    command += ["-o", "python_files=bench_*.py", "--benchmark-only", f"--benchmark-json={folder / 'latest.json'}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # of a worker
    result = subprocess.run(
        [*command, str(folder)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
    return folder / "latest.json"


def invoke(command: str, *arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "100"}).invoke(main, [command, *map(str, arguments)])


class TestResults:
    def test_both_sides_are_timed_alternately(self, measured: Path) -> None:
        results = load_results(measured)
        assert list(results.sections) == ["Bed time"]
        sleeping, memory = results.measured
        assert (sleeping.title, sleeping.measure) == ("sleeping vs. snoring", "wall time")
        assert len(sleeping.ours) == len(sleeping.theirs) == 3
        assert min(sleeping.ours) >= 0.01
        assert min(sleeping.theirs) >= 0.04
        assert sleeping.is_met
        assert memory.ratio == pytest.approx(3, rel=0.01)
        assert not memory.is_met

    def test_table_shows_machine_and_targets(self, measured: Path) -> None:
        result = invoke("table", "--results", measured)
        assert result.exit_code == 0, result.stderr
        assert "Bed time" in result.stdout
        assert re.search(r"sleeping vs\. snoring +\d+(\.\d+)? ms \(wall\) .* 3 +met", result.stdout)
        assert re.search(r"sleeping: memory vs\. .* 3.00 +1 +missed", result.stdout)
        assert load_results(measured).machine in " ".join(result.stdout.split())

    def test_keep_writes_ratios_and_the_page(self, measured: Path, tmp_path: Path) -> None:
        baseline, page = tmp_path / "baseline.json", tmp_path / "page.md"
        assert invoke("keep", "--results", measured, "--baseline", baseline, "--page", page).exit_code == 0
        assert load_baseline(baseline) == {one.title: Ratio.of(one) for one in load_results(measured).measured}
        assert page.read_text(encoding="utf-8") == performance_page(load_results(measured))

    def test_compare_exits_with_1_if_a_ratio_is_worse(self, measured: Path, tmp_path: Path) -> None:
        sleeping, memory = load_results(measured).measured
        save_baseline(tmp_path / "same.json", [sleeping, memory])
        same = invoke("compare", "--results", measured, "--baseline", tmp_path / "same.json")
        assert (same.exit_code, same.stdout.count("within the noise")) == (0, 2)

        better = Pairs("sleeping", "snoring", "wall time", sleeping.ours, tuple(3 * time for time in sleeping.theirs))
        removed = pairs((1.0,), (1.0,))
        save_baseline(tmp_path / "worse.json", [better, removed])
        worse = invoke("compare", "--results", measured, "--baseline", tmp_path / "worse.json")
        assert worse.exit_code == 1
        assert re.search(r"sleeping vs\. snoring .* worse", worse.stdout)
        assert re.search(r"sleeping: memory vs\. .* new", worse.stdout)
        assert re.search(r"counting vs\. fingers .* not measured", worse.stdout)

    def test_message_without_results_names_the_command(self, tmp_path: Path) -> None:
        result = invoke("table", "--results", tmp_path / "none.json")
        assert result.exit_code == 1
        assert "run `make bench`" in result.stderr


@pytest.mark.parametrize(
    ("numbers", "measure", "expected"),
    [
        ((0.0123, 0.5, 0.0100), "CPU time", "12.3 ms"),
        ((2.0,), "CPU time", "2 s"),
        ((123.4,), "wall time", "123 s (wall)"),
        ((1_234_567_890.0,), "memory", "1,235 MB"),
    ],
)
def test_amount_has_three_digits_and_a_unit(numbers: tuple[float, ...], measure: str, expected: str) -> None:
    assert amount(numbers, measure) == expected


def test_page_shows_machine_date_and_targets() -> None:
    page = performance_page(
        Results("a mill", "Python 4", "2030-01-02", {"Counting": [pairs((1.0,), (2.0,), at_least=3)]})
    )
    assert "Measured on 2030-01-02 on a mill; Python 4." in page
    assert "| counting | fingers | 1 s | 2 s | 2.00 | 1 | ratio of at least 3: missed |" in page


class TestStoredResults:
    """The baseline and the page in the repository."""

    def test_baseline_has_ratios_but_no_times(self) -> None:
        content = json.loads(BASELINE.read_text(encoding="utf-8"))
        assert content
        assert all(set(ratio) == {"ratio", "low", "high", "n"} for ratio in content.values())

    def test_page_has_the_ratios_of_the_baseline(self) -> None:
        page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
        rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
        ratios = {f"{row[0]} vs. {row[1]}": float(row[4].split()[0]) for row in rows if row[4][0].isdigit()}
        stored = load_baseline(BASELINE)
        assert ratios == {title: pytest.approx(one.ratio, abs=0.006) for title, one in stored.items()}
