"""Benchmarks: pairs of measurements, stored ratios, and the page of results."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from benchmarks.__main__ import main
from benchmarks.baseline import KEPT, Baseline, Runs, baseline_of, changes, load_baselines, save_baselines
from benchmarks.page import amount, performance_page
from benchmarks.pairs import Pairs, Results, load_results

ROOT = Path(__file__).parents[1]
BASELINE = ROOT / "benchmarks" / "baseline.json"


def pairs(ours: tuple[float, ...], theirs: tuple[float, ...], **changes) -> Pairs:
    return Pairs(
        **{"task": "counting", "alternative": "fingers", "measure": "CPU time", "ours": ours, "theirs": theirs}
        | changes
    )


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


STEADY, NOISY = (3.0, 3.01, 2.99), (3.0, 4.0, 2.2)


def one(*ratios: float, measure: str = "CPU time") -> Baseline:
    return {"counting": Runs(measure, ratios)}


class TestChanges:
    @pytest.mark.parametrize(
        ("stored", "new", "expected"),
        [
            (STEADY, 2.7, "worse"),
            (STEADY, 3.3, "better"),
            (STEADY, 2.99, "within the noise"),
            (NOISY, 2.7, "within the noise"),
            ((3.0,), 1.0, "noise unknown"),
        ],
    )
    def test_bound_follows_from_the_spread_of_repeats(
        self, stored: tuple[float, ...], new: float, expected: str
    ) -> None:
        assert changes(one(new), one(*stored)) == {"counting": expected}

    def test_false_alarms_are_as_rare_as_stated(self) -> None:
        """At most 5 % of comparisons of an unchanged version find any measurement worse, though some are noisier."""
        rng, alarms, trials = np.random.default_rng(0), 0, 400
        titles = [f"task {number}" for number in range(20)]
        spreads = rng.uniform(0.01, 0.05, len(titles))

        def measured(count: int) -> Baseline:
            return {
                title: Runs("CPU time", tuple(np.exp(rng.normal(1, spread, count))))
                for title, spread in zip(titles, spreads, strict=True)
            }

        for _ in range(trials):
            alarms += "worse" in changes(measured(1), measured(3)).values()
        assert alarms <= 0.05 * trials

    def test_a_measurement_without_repeats_has_the_noise_of_its_kind(self) -> None:
        stored = {"counting": Runs("CPU time", (3.0,)), "adding": Runs("CPU time", STEADY)}
        assert changes(one(2.5), stored)["counting"] == "worse"
        stored["adding"] = Runs("memory", STEADY)
        assert changes(one(2.5), stored)["counting"] == "noise unknown"

    def test_the_newest_runs_are_kept(self) -> None:
        runs = Runs("CPU time", (1.0, 2.0)).followed_by(Runs("CPU time", tuple(map(float, range(3, KEPT + 2)))))
        assert runs.ratios == tuple(map(float, range(2, KEPT + 2)))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a benchmark whose alternative takes four times as long and three times the memory; return its folder."""
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
    command += ["-o", "python_files=bench_*.py", "--benchmark-only", f"--benchmark-json={folder / 'run_1.json'}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # of a worker
    result = subprocess.run(
        [*command, str(folder)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
    return folder


def invoke(command: str, *arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "100"}).invoke(main, [command, *map(str, arguments)])


class TestResults:
    def test_both_sides_are_timed_alternately(self, measured: Path) -> None:
        results = load_results(measured / "run_1.json")
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
        assert load_results(measured / "run_1.json").machine in " ".join(result.stdout.split())

    def test_keep_adds_ratios_and_writes_the_page(self, measured: Path, tmp_path: Path) -> None:
        baseline, page = tmp_path / "baseline.json", tmp_path / "page.md"
        save_baselines(baseline, {"MMX": one(3.0)})
        for _ in range(2):
            assert invoke("keep", "--results", measured, "--baseline", baseline, "--page", page).exit_code == 0
        results = load_results(measured / "run_1.json")
        twice = baseline_of([results.measured, results.measured])
        assert load_baselines(baseline) == {"MMX": one(3.0), results.instructions: twice}
        assert page.read_text(encoding="utf-8") == performance_page(results)

    def test_runs_of_several_instruction_sets_are_refused(self, measured: Path, tmp_path: Path) -> None:
        content = json.loads((measured / "run_1.json").read_text(encoding="utf-8"))
        for number, instructions in enumerate(("SSE2", "AVX2")):
            content["machine_info"]["instructions"] = instructions
            (tmp_path / f"run_{number}.json").write_text(json.dumps(content), encoding="utf-8")
        result = invoke("table", "--results", tmp_path)
        assert (result.exit_code, "several instruction sets" in result.stderr) == (1, True)

    def test_compare_exits_with_1_if_a_ratio_is_worse(self, measured: Path, tmp_path: Path) -> None:
        results = load_results(measured / "run_1.json")
        sleeping, memory = results.measured
        same = baseline_of([results.measured] * 3)

        def compared(baseline: Baseline) -> Result:
            save_baselines(tmp_path / "stored.json", {results.instructions: baseline, "MMX": one(99.0)})
            return invoke("compare", "--results", measured, "--baseline", tmp_path / "stored.json")

        unchanged = compared(same)
        assert (unchanged.exit_code, unchanged.stdout.count("within the noise")) == (0, 2)
        assert f"Instruction set: {results.instructions}." in " ".join(unchanged.stdout.split())

        better = Runs("wall time", tuple(3 * ratio for ratio in same[sleeping.title].ratios))
        worse = compared({sleeping.title: better, **one(1.0)})
        assert worse.exit_code == 1
        assert re.search(r"sleeping vs\. snoring .* worse", worse.stdout)
        assert re.search(r"sleeping: memory vs\. .* new", worse.stdout)
        assert re.search(r"counting .* not measured", worse.stdout)
        assert memory.title not in load_baselines(tmp_path / "stored.json")["MMX"]

    def test_message_without_results_names_the_command(self, tmp_path: Path) -> None:
        result = invoke("table", "--results", tmp_path)
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
        Results("a mill", "MMX", "Python 4", "2030-01-02", {"Counting": [pairs((1.0,), (2.0,), at_least=3)]})
    )
    assert "Measured on 2030-01-02 on a mill, MMX; Python 4." in page
    assert "| counting | fingers | 1 s | 2 s | 2.00 | 1 | ratio of at least 3: missed |" in page


class TestStoredResults:
    """The baseline and the page in the repository."""

    def test_baseline_has_ratios_but_no_times(self) -> None:
        content = json.loads(BASELINE.read_text(encoding="utf-8"))
        assert content
        assert all(set(one) == {"measure", "ratios"} for stored in content.values() for one in stored.values())

    def test_page_has_the_last_ratios_of_its_instruction_set(self) -> None:
        page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
        rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
        shown = {f"{row[0]} vs. {row[1]}": float(row[4].split()[0]) for row in rows if row[4][0].isdigit()}
        stored = load_baselines(BASELINE)
        (instructions,) = [name for name in stored if f", {name}; " in " ".join(page.split())]
        last = {title: pytest.approx(runs.ratios[-1], abs=0.006) for title, runs in stored[instructions].items()}
        assert shown == last
