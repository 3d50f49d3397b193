"""What `make bench` says is what was measured."""

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


def pairs(ours: tuple[float, ...], peer: tuple[float, ...], **changes) -> Pairs:
    return Pairs(
        **{"what": "counting", "peer_is": "fingers", "measure": "CPU time", "ours": ours, "peer": peer} | changes
    )


def ratio(*ratios: float) -> Ratio:
    return Ratio.of(pairs((1.0,) * len(ratios), ratios))


class TestPairs:
    def test_the_ratio_is_the_median_over_pairs_and_not_that_of_medians(self) -> None:
        assert pairs((1, 2, 4), (3, 2, 8)).ratio == 2

    def test_the_spread_is_the_middle_half(self) -> None:
        assert pairs((1,) * 5, (5, 1, 3, 2, 4)).spread == (2, 4)
        assert pairs((2,), (4,)).spread == (2, 2)

    @pytest.mark.parametrize(
        ("aims", "is_met"),
        [
            ({}, None),
            ({"at_least": 2}, True),
            ({"at_least": 2.1}, False),
            ({"at_most": 3}, True),
            ({"at_most": 2}, False),
        ],
    )
    def test_an_aim_is_one_of_the_ratio_or_of_ours(self, aims: dict[str, float], is_met: bool | None) -> None:
        assert pairs((3.0, 3.0), (6.0, 6.0), **aims).is_met is is_met

    def test_pairs_are_complete(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            pairs((1.0, 2.0), (1.0,))


class TestWorse:
    def test_a_clear_fall_is_worse(self) -> None:
        assert is_worse(ratio(2, 2.1, 2.2), ratio(3, 3.1, 3.2))

    def test_a_fall_within_the_spread_is_noise(self) -> None:
        assert not is_worse(ratio(1, 2, 3.5), ratio(2, 3, 4))

    def test_a_fall_of_less_than_a_tenth_is_noise(self) -> None:
        assert not is_worse(ratio(2.8, 2.8, 2.8), ratio(3, 3, 3))

    def test_a_rise_is_not_worse(self) -> None:
        assert not is_worse(ratio(9, 9, 9), ratio(3, 3, 3))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a benchmark whose peer takes four times as long and three times the memory; return its JSON."""
    folder = tmp_path_factory.mktemp("bench")
    text = """
        import time
        order = []

        def ours():
            order.append("ours")
            time.sleep(0.01)

        def peer():
            order.append("peer")
            time.sleep(0.04)

        def test_sleep(side_by_side):
            side_by_side("sleeping", ours=ours, peer=peer, peer_is="snoring", n=3, at_most=60.0)
            assert order == ["peer", "ours"] * 4
            many, few = (lambda: bytearray(3_000_000)), (lambda: bytearray(1_000_000))
            side_by_side.memory("sleeping: memory", ours=few, peer=many, peer_is="snoring", at_most=1e3)
    """
    (folder / "bench_bed_time.py").write_text(textwrap.dedent(text))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "benchmarks.conftest", "-c", str(ROOT / "pyproject.toml")]
    command += ["-o", "python_files=bench_*.py", "--benchmark-only", f"--benchmark-json={folder / 'latest.json'}"]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # no worker's child
    ran = subprocess.run([*command, str(folder)], cwd=ROOT, env=alone, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    return folder / "latest.json"


def shown(command: str, *arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "100"}).invoke(main, [command, *map(str, arguments)])


class TestResults:
    def test_ours_and_the_peer_are_timed_in_turn(self, measured: Path) -> None:
        results = load_results(measured)
        assert list(results.sections) == ["Bed time"]
        sleeping, memory = results.measured
        assert (sleeping.title, sleeping.measure) == ("sleeping, against snoring", "wall time")
        assert len(sleeping.ours) == len(sleeping.peer) == 3
        assert min(sleeping.ours) >= 0.01
        assert min(sleeping.peer) >= 0.04
        assert sleeping.is_met
        assert memory.ratio == pytest.approx(3, rel=0.01)
        assert not memory.is_met

    def test_the_table_names_machine_and_aims(self, measured: Path) -> None:
        ran = shown("table", "--results", measured)
        assert ran.exit_code == 0, ran.stderr
        assert "Bed time" in ran.stdout
        assert re.search(r"sleeping, against snoring +\d+(\.\d+)? ms \(wall\) .* 3 +reached", ran.stdout)
        assert re.search(r"sleeping: memory, .* 3.00 +1 +missed", ran.stdout)
        assert load_results(measured).machine in " ".join(ran.stdout.split())

    def test_what_is_kept_is_ratios_and_a_page(self, measured: Path, tmp_path: Path) -> None:
        baseline, page = tmp_path / "baseline.json", tmp_path / "page.md"
        assert shown("keep", "--results", measured, "--baseline", baseline, "--page", page).exit_code == 0
        assert load_baseline(baseline) == {one.title: Ratio.of(one) for one in load_results(measured).measured}
        assert page.read_text(encoding="utf-8") == performance_page(load_results(measured))

    def test_a_comparison_fails_where_a_ratio_became_worse(self, measured: Path, tmp_path: Path) -> None:
        sleeping, memory = load_results(measured).measured
        save_baseline(tmp_path / "same.json", [sleeping, memory])
        same = shown("compare", "--results", measured, "--baseline", tmp_path / "same.json")
        assert (same.exit_code, same.stdout.count("within the noise")) == (0, 2)

        once = Pairs("sleeping", "snoring", "wall time", sleeping.ours, tuple(3 * time for time in sleeping.peer))
        gone = pairs((1.0,), (1.0,))
        save_baseline(tmp_path / "worse.json", [once, gone])
        worse = shown("compare", "--results", measured, "--baseline", tmp_path / "worse.json")
        assert worse.exit_code == 1
        assert re.search(r"sleeping, against snoring .* worse", worse.stdout)
        assert re.search(r"sleeping: memory, .* new", worse.stdout)
        assert re.search(r"counting, against fingers .* not measured", worse.stdout)

    def test_without_results_it_says_what_to_do(self, tmp_path: Path) -> None:
        ran = shown("table", "--results", tmp_path / "none.json")
        assert ran.exit_code == 1
        assert "run `make bench`" in ran.stderr


@pytest.mark.parametrize(
    ("numbers", "measure", "told"),
    [
        ((0.0123, 0.5, 0.0100), "CPU time", "12.3 ms"),
        ((2.0,), "CPU time", "2 s"),
        ((123.4,), "wall time", "123 s (wall)"),
        ((1_234_567_890.0,), "memory", "1,235 MB"),
    ],
)
def test_amounts_have_three_digits_and_a_unit(numbers: tuple[float, ...], measure: str, told: str) -> None:
    assert amount(numbers, measure) == told


def test_the_page_says_where_and_when() -> None:
    told = performance_page(
        Results("a mill", "Python 4", "2030-01-02", {"Counting": [pairs((1.0,), (2.0,), at_least=3)]})
    )
    assert "Measured on 2030-01-02 on a mill; Python 4." in told
    assert "| counting | fingers | 1 s | 2 s | 2.00 | 1 | ratio of at least 3: missed |" in told


class TestWhatIsKept:
    """The baseline and the page in the repository."""

    def test_the_baseline_holds_ratios_and_no_seconds(self) -> None:
        content = json.loads(BASELINE.read_text(encoding="utf-8"))
        assert content
        assert all(set(kept) == {"ratio", "low", "high", "n"} for kept in content.values())

    def test_the_page_shows_the_same_ratios(self) -> None:
        page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
        rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
        shown_ratios = {f"{row[0]}, against {row[1]}": float(row[4].split()[0]) for row in rows if row[4][0].isdigit()}
        kept = load_baseline(BASELINE)
        assert shown_ratios == {title: pytest.approx(one.ratio, abs=0.006) for title, one in kept.items()}
