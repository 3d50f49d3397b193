"""`fer-augment compare`, `demo` and `run` as clients of `fer_augment.comparing`: options, output, exit status."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import time
from pathlib import Path

import pytest
import torch

import fer_augment as fa
from tests.command_line import Ran, assert_readable, assert_refused, fer_augment
from tests.comparison_place import write_place
from tests.processes import start


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return write_place(tmp_path)


def compare(*arguments: str) -> Ran:
    return fer_augment("compare", "small.yaml", "more.yaml", "--data", "faces", *arguments)


class TestCompare:
    def test_prints_a_table_and_names_its_files(self) -> None:
        ran = compare("--seeds", "2", "--jobs", "2")
        assert ran.code == 0, ran.err
        assert_readable(ran)
        for words in ("small (baseline)", "balanced accuracy", "cat[x]", "<dog>", "adj. p", "mean ± sd"):
            assert words in ran.out
        assert "Results are in results/small_more; open results/small_more/report.html" in ran.err
        assert [arm.seeds for arm in fa.load_comparison("results/small_more").arms] == [(0, 1)] * 2

    def test_called_again_says_what_is_cached(self) -> None:
        arguments = "compare", "small.yaml", "mined.yaml", "--data", "faces", "--jobs", "1"
        assert fer_augment(*arguments, "--seeds", "1").code == 0
        again = fer_augment(*arguments, "--seeds", "2")
        assert again.code == 0
        assert re.search(r"done   small, seed 0 \(0 s; cached: run\)", again.err)
        assert re.search(r"done   mined, seed 1 \(\d+ s; cached: scout of confusion_mirror\)", again.err)

    def test_json_is_the_comparison(self) -> None:
        ran = compare("--seeds", "1", "--jobs", "1", "--json")
        assert json.loads(ran.out) == json.loads(Path("results/small_more/comparison.json").read_text())
        assert json.loads(ran.out)["versus"][0]["balanced_accuracy"]["p"] is None

    def test_a_check_of_a_pull_request_prints_markdown_and_exits_with_3_if_an_arm_is_worse(self) -> None:
        Path("idle.yaml").write_text("extends: ./small.yaml\ntraining: {learning_rate: 1.0e-6}\n", encoding="utf-8")
        arguments = "compare", "small.yaml", "idle.yaml", "--data", "faces", "--seeds", "3", "--format", "github", "-q"
        ran = fer_augment(*arguments, "--fail-on", "worse")
        assert ran.code == 3
        assert "\nidle is worse than small: balanced accuracy -" in ran.out
        assert "| class | images | baseline | arm | difference | 95 % CI | adj. p | verdict |" in ran.out
        assert re.fullmatch(r"worse: idle in balanced accuracy \(-\d+\.\d points\), idle in accuracy .*\n", ran.err)
        again = fer_augment(*arguments)
        assert (again.code, again.out, again.err) == (0, ran.out, ""), "without --fail-on"

    def test_exits_with_1_if_a_run_failed(self) -> None:
        ran = fer_augment("compare", "small.yaml", "breaks.yaml", "--data", "faces", "--seeds", "2", "--jobs", "1")
        assert ran.code == 1
        assert "failed: breaks, seed 1" in ran.err
        assert "RuntimeError: not [today]" in ran.err
        assert_readable(ran)

    def test_exits_with_1_in_one_line_if_all_runs_failed(self) -> None:
        ran = fer_augment("compare", "breaks.yaml", "--data", "faces", "--seeds", "1,", "--json")
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.splitlines()[-1].startswith("fer-augment: nothing to compare: no run finished; breaks, seed 1: ")

    def test_a_full_disk_is_one_line_that_names_the_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write = Path.write_bytes

        def write_unless_full(file: Path, content: bytes) -> int:
            if file.name.startswith(".comparison.json"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(file, content)

        monkeypatch.setattr(Path, "write_bytes", write_unless_full)
        ran = compare("--seeds", "1", "--jobs", "1")
        assert (ran.code, ran.out) == (2, "") and "Traceback" not in ran.err
        assert re.fullmatch(
            r"fer-augment: results/small_more/comparison\.json: the file system is full \(.* MB are free\); "
            "make room and run the same command again",
            ran.err.splitlines()[-1],
        )

    def test_a_dry_run_prints_the_trainings_and_their_time(self) -> None:
        arguments = "compare", "small.yaml", "mined.yaml", "--data", "faces", "--dry-run"
        ran = fer_augment(*arguments, "--seeds", "2")
        assert ran.code == 0
        assert_readable(ran)
        assert "4 distinct trainings: 0 cached, 4 to do." in ran.out
        assert re.search(r"Estimated time: about \d+0 seconds, \d+ at a time", ran.out)
        plan = json.loads(fer_augment(*arguments, "--seeds", "1", "--json").out)
        assert [(one["training"], one["stored"]) for one in plan] == [("small", False), ("mined", False)]
        assert plan[0]["for"] == ["small, seed 0", "mined, seed 0"]
        assert not Path("results").exists()

    def test_overrides_reach_every_arm(self) -> None:
        plan = json.loads(compare("--seeds", "1", "--set", "training.epochs=1", "--dry-run", "--json").out)
        assert len(plan) == 2
        assert_refused(compare("--set", "training.epoch=1"), "training.epoch", "did you mean 'epochs'")


class TestWarnings:
    @pytest.mark.parametrize("command", [["compare", "--dry-run"], ["run"]], ids=["compare", "run"])
    @pytest.mark.parametrize("capabilities", [{}, {"avx512_bf16": True}], ids=["emulated", "native"])
    def test_of_slow_bfloat16_come_first(
        self, command: list[str], capabilities: dict[str, bool], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        ran = fer_augment(*command, "small.yaml", "--data", "faces", "--set", "training.precision=bfloat16")
        assert ran.code == 0, ran.err
        warned = ran.err.startswith("warning: small: training.precision is bfloat16, which this machine")
        assert warned is not bool(capabilities)


class TestMistakes:
    def test_are_refused_in_one_line(self) -> None:
        assert_refused(fer_augment("compare", "papr", "--data", "demo"), "papr", "did you mean 'paper'")
        assert_refused(fer_augment("compare", "small.yaml", "--data", "nowhere.csv"), "nowhere.csv: no such file")
        assert_refused(fer_augment("compare", "small.yaml", "small.yaml", "--data", "faces"), "'small' is given twice")
        assert_refused(compare("--out", "small.yaml"), "small.yaml: is a file; name another directory with --out")
        assert_refused(
            fer_augment("compare", "small.yaml", "refining.yaml", "--data", "faces"), "recipe 'refining'", "tau_norm"
        )

    @pytest.mark.parametrize("seeds", ["0", "-1", "1,1", "a", "1.5", ",", ""])
    def test_seeds_are_a_number_or_a_list(self, seeds: str) -> None:
        ran = compare("--seeds", seeds)
        assert ran.code == 2
        assert "give the number of seeds, such as 5, or a list, such as 0,3,7" in " ".join(ran.err.split())
        assert "`7,` is a list of one" in " ".join(ran.err.split())


class TestRun:
    def test_prints_its_scores(self) -> None:
        ran = fer_augment("run", "mined.yaml", "--data", "faces", "--seed", "4")
        assert ran.code == 0
        assert_readable(ran)
        assert "mined, seed 4: test accuracy" in ran.out
        (path,) = Path("results/runs/mined").glob("seed-4-*")
        assert path.name in ran.err.replace("\n", "")
        content = json.loads(fer_augment("run", "mined.yaml", "--data", "faces", "--seed", "4", "--json").out)
        test = fa.load_run(path).predictions("test")
        assert content["test"]["accuracy"] == (test.logits.argmax(axis=1) == test.labels).mean()
        assert list(content["test"]["recall"]) == list(fa.load_run(path).record.class_names)

    def test_exits_with_1_if_it_fails(self) -> None:
        ran = fer_augment("run", "breaks.yaml", "--data", "faces", "--seed", "1")
        assert ran.code == 1
        assert ran.err.splitlines()[-1] == (
            "fer-augment: breaks, seed 1 failed: step 1 (breaks), rewrite_training_set: RuntimeError: not [today] "
            "(broken.py, line 11) (traceback: results/failures/breaks-seed-1.txt)"
        )


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_resume(place: Path) -> None:
    command = [str(Path(sys.executable).with_name("fer-augment")), "compare", "small.yaml", "more.yaml"]
    command += ["--data", "faces", "--seeds", "4", "--jobs", "2", "--set", "training.epochs=400"]
    started = start(command, stderr=-1, stdout=-1, env=os.environ)
    while not list((place / "cache" / "trainings").glob("*.lock")):
        assert started.poll() is None
        time.sleep(0.1)
    started.send_signal(2)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert err.strip().splitlines()[-1] == "fer-augment: interrupted; run the same command again to resume"
    assert "Traceback" not in err
    assert compare("--seeds", "1").code == 0
