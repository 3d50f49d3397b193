"""`fer-augment compare`, `demo` and `run`, as people use them, on real trainings of tiny data."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fer_augment.cli.compare import _folder_name
from fer_augment.data.records import RunDirectory
from fer_augment.results.comparison import read_comparison
from tests.command_line import assert_readable, assert_refused, fer_augment
from tests.data_files import encoded, write_folder

CLASSES = ("bird", "cat[x]", "<dog>")
SMALL = """
model: convnet4
training: {epochs: 2, batch_size: 16, learning_rate: 0.01, loss: cross_entropy, precision: float32, evaluate_every: 1}
"""


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "faces", dict(_files()))
    (tmp_path / "small.yaml").write_text(SMALL)
    for name, step in (
        ("more", "imblearn: {sampler: RandomOverSampler}"),
        ("mined", "confusion_mirror: {pairs: [['<dog>', bird]], predictions: in_sample}"),
        ("breaks", "./broken.py:Breaks: {}"),
    ):
        (tmp_path / f"{name}.yaml").write_text(f"extends: ./small.yaml\nstrategies: [{{{step}}}]\n")
    (tmp_path / "broken.py").write_text(
        "from fer_augment import Strategy, StrategyError, hookimpl\n"
        "class Breaks(Strategy):\n"
        '    """Fails with seed 1."""\n'
        "    @hookimpl\n"
        "    def rewrite_training_set(self, training_set, context):\n"
        "        if context.seed == 1:\n"
        "            raise RuntimeError('not [today]')\n"
        "        return training_set\n"
    )


def _files():
    rng = np.random.default_rng(0)
    for split, counts in (("train", (30, 20, 10)), ("val", (9, 8, 7)), ("test", (12, 10, 8))):
        for label, (name, count) in enumerate(zip(CLASSES, counts, strict=True)):
            for number in range(count):
                image = rng.integers(0, 120, (12, 12))
                image[:, label * 4 : label * 4 + 4] += 40
                yield f"{split}/{name}/{number}.png", encoded(image.astype(np.uint8))


def compare(*arguments: str):
    return fer_augment("compare", "small.yaml", "more.yaml", "mined.yaml", "--data", "faces", *arguments)


def run_files(folder: str = "results/small_more_mined") -> dict[str, bytes]:
    files = sorted(Path(folder, "runs").rglob("*.safetensors"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


class TestCompare:
    def test_shows_a_table_and_writes_everything(self):
        ran = compare("--seeds", "2", "--jobs", "2")
        assert ran.code == 0, ran.err
        assert_readable(ran)
        for words in ("small (baseline)", "balanced accuracy", "cat[x]", "<dog>", "adj. p", "mean ± sd"):
            assert words in ran.out
        comparison = read_comparison(Path("results/small_more_mined"))
        assert [arm.recipe for arm in comparison.arms] == ["small", "more", "mined"]
        assert [arm.seeds for arm in comparison.arms] == [(0, 1)] * 3
        assert comparison.arm("more").rewritten_counts == (dict.fromkeys(CLASSES, 30),) * 2
        runs = list(Path("results/small_more_mined/runs").glob("*/seed-*"))
        assert len(runs) == 6
        accuracies = [
            (said.logits.argmax(axis=1) == said.labels).mean()
            for said in (RunDirectory(path).predictions("test") for path in runs if path.parent.name == "more")
        ]
        assert comparison.arm("more").test.accuracy.mean == pytest.approx(np.mean(accuracies))

    @pytest.mark.parametrize("command", ["compare", "run"])
    @pytest.mark.parametrize("able", [{}, {"avx512_bf16": True}], ids=["emulates", "multiplies"])
    def test_says_before_it_starts_that_bfloat16_is_slow_here(self, command, able, monkeypatch):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        ran = fer_augment(command, "small.yaml", "--data", "faces", "--set", "training.precision=bfloat16")
        assert ran.code == 0, ran.err
        said = ran.err.splitlines()[0].startswith("warning: small: training.precision is bfloat16, which this machine")
        assert said is not bool(able)

    def test_called_again_goes_on_where_it_stopped(self):
        assert compare("--seeds", "0,").code == 0
        first = run_files()
        again = compare("--seeds", "2")
        assert again.code == 0
        assert "; run was there)" in again.err
        assert re.search(r"mined, seed 1 \(\d+ s; scout of confusion_mirror was there\)", again.err)
        assert {name: content for name, content in run_files().items() if "seed-0" in name} == first
        assert len(run_files()) == 2 * len(first)
        assert compare("--seeds", "2", "--out", "elsewhere").code == 0
        assert run_files("elsewhere") == run_files()

    def test_json_is_the_comparison(self):
        ran = compare("--seeds", "1", "--json")
        written = json.loads(Path("results/small_more_mined/comparison.json").read_text())
        assert json.loads(ran.out) == written
        assert written["versus"][0]["balanced_accuracy"]["p"] is None
        assert written["versus"][0]["balanced_accuracy"]["verdict"] == "one run cannot tell"

    def test_a_failing_run_is_told_and_does_not_take_others_with_it(self):
        ran = fer_augment("compare", "small.yaml", "breaks.yaml", "--data", "faces", "--seeds", "2", "--jobs", "1")
        assert ran.code == 1
        assert "failed: breaks with seed 1" in ran.err
        assert "RuntimeError: not [today]" in ran.err
        comparison = read_comparison(Path("results/small_breaks"))
        assert [arm.seeds for arm in comparison.arms] == [(0, 1), (0,)]
        assert comparison.failures[0].message.endswith("RuntimeError: not [today]")

    def test_that_all_runs_failed_is_told_with_the_first_reason_and_nothing_is_made_of_them(self):
        ran = fer_augment("compare", "breaks.yaml", "--data", "faces", "--seeds", "1,", "--json")
        assert (ran.code, ran.out) == (1, "")
        told = "fer-augment: no run finished, so there is nothing to compare; breaks with seed 1: step 1 (breaks), "
        assert ran.err.splitlines()[-1].startswith(told)
        assert not list(Path("results").rglob("*.json"))

    def test_overrides_reach_every_arm_and_only_settings_that_exist(self):
        assert compare("--seeds", "1", "--set", "training.epochs=1").code == 0
        records = [RunDirectory(path).record for path in Path("results/small_more_mined/runs").glob("*/*")]
        assert {record.recipe["training"]["epochs"] for record in records} == {1}
        assert_refused(compare("--set", "training.epoch=1"), "training.epoch", "did you mean 'epochs'")

    def test_a_dry_run_trains_nothing_and_says_what_is_there(self):
        before = compare("--seeds", "2", "--dry-run")
        assert before.code == 0
        assert "6 distinct trainings, 0 stored, 6 to do." in before.out
        assert re.search(r"About \d+\.\d minutes", before.out)
        assert not Path("results").exists()
        compare("--seeds", "2")
        plan = json.loads(compare("--seeds", "3", "--dry-run", "--json").out)
        assert [one["stored"] for one in plan].count(True) == 6
        assert plan[0]["for"] == ["small, seed 0", "mined, seed 0"]


class TestMistakes:
    def test_are_told_in_one_line(self, tmp_path):
        assert_refused(fer_augment("compare", "papr", "--data", "demo"), "papr", "did you mean 'paper'")
        assert_refused(fer_augment("compare", "small.yaml", "--data", "nowhere.csv"), "nowhere.csv: no such file")
        assert_refused(fer_augment("compare", "small.yaml", "small.yaml", "--data", "faces"), "'small' is given twice")
        wrong = tmp_path / "wrong.yaml"
        wrong.write_text("extends: ./small.yaml\nstrategies: [{confusion_mirror: {pairs: [[bird, dog]]}}]\n")
        assert_refused(fer_augment("compare", "small.yaml", "wrong.yaml", "--data", "faces"), "no class 'dog'", "<dog>")
        (tmp_path / "taken").write_text("")
        assert_refused(compare("--out", "taken"), "taken: is a file; name a directory")
        deep = "extends: ./small.yaml\nmodel: vgg_mini\n"
        (tmp_path / "deep.yaml").write_text(deep)
        tiny = {f"{split}/a/{shade}.png": shade for split in ("train", "val", "test") for shade in range(9)}
        write_folder(
            tmp_path / "minute", {name: encoded(np.full((4, 4), shade, np.uint8)) for name, shade in tiny.items()}
        )
        assert_refused(
            fer_augment("compare", "deep.yaml", "--data", "minute"), "vgg_mini needs images of at least 8x8", "4x4"
        )

    @pytest.mark.parametrize("command", ["compare", "run"])
    def test_where_nothing_can_be_written_nothing_is_trained(self, command, tmp_path):
        ran = fer_augment(command, "small.yaml", "--data", "faces", "--out", "/proc/x")
        assert_refused(ran, "/proc/x: cannot be written (", "name another directory with --out")
        assert not list((tmp_path / "cache").rglob("*"))

    def test_a_comparison_on_other_data_is_not_overwritten(self, tmp_path):
        words = "compare", "small.yaml", "--seeds", "0,", "--set", "training.epochs=1"
        assert fer_augment(*words, "--data", "faces").code == 0
        there = Path("results/small/comparison.json")
        first = there.read_bytes()
        write_folder(tmp_path / "others", dict(list(_files())[1:]))
        told = "results/small: holds a comparison on other data, ", "; name another directory with --out"
        assert_refused(fer_augment(*words, "--data", "others"), *told)
        assert there.read_bytes() == first
        for same in (("--data", "faces"), ("--data", "faces", "--seeds", "0,1"), ("--data", "others", "--out", "new")):
            assert fer_augment(*words, *same).code == 0
        assert read_comparison(there).arms[0].seeds == (0, 1)
        there.write_text("{")  # nothing is lost with what nobody can read
        assert fer_augment(*words, "--data", "others").code == 0

    @pytest.mark.parametrize("seeds", ["0", "-1", "1,1", "a", "1.5", ",", ""])
    def test_seeds_are_a_number_or_a_list(self, seeds):
        ran = compare("--seeds", seeds)
        assert ran.code == 2
        assert "give how many seeds, such as 5, or which, such as 0,3,7" in " ".join(ran.err.split())


def test_long_lists_of_recipes_that_begin_alike_get_folders_of_their_own():
    names = [f"recipe_number_{number}" for number in range(12)]
    folders = {_folder_name(names[:count]) for count in range(1, 13)}
    assert len(folders) == 12
    assert max(map(len, folders)) == 80
    assert _folder_name(["paper", "smote"]) == "paper_smote"


class TestRun:
    def test_shows_its_scores_and_keeps_its_directory(self):
        ran = fer_augment("run", "mined.yaml", "--data", "faces", "--seed", "4")
        assert ran.code == 0
        assert_readable(ran)
        assert "mined, seed 4: test accuracy" in ran.out
        (path,) = Path("results/runs/mined").glob("seed-4-*")
        assert path.name in ran.err.replace("\n", "")
        told = json.loads(fer_augment("run", "mined.yaml", "--data", "faces", "--seed", "4", "--json").out)
        said = RunDirectory(path).predictions("test")
        assert told["test"]["accuracy"] == (said.logits.argmax(axis=1) == said.labels).mean()
        assert list(told["test"]["recall"]) == list(RunDirectory(path).record.class_names)

    def test_that_fails_says_why_and_exits_with_1(self):
        ran = fer_augment("run", "breaks.yaml", "--data", "faces", "--seed", "1")
        assert ran.code == 1
        assert "failed breaks, seed 1: step 1 (breaks), rewrite_training_set: RuntimeError: not [today]" in ran.err


def test_ctrl_c_leaves_what_is_finished_and_says_how_to_go_on(tmp_path):
    command = [str(Path(sys.executable).with_name("fer-augment")), "compare", "small.yaml", "more.yaml"]
    command += ["--data", "faces", "--seeds", "4", "--jobs", "2", "--set", "training.epochs=400"]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ)
    store = tmp_path / "cache" / "trainings"
    while not list(store.glob("*.lock")):
        assert started.poll() is None
    started.send_signal(2)
    _, told = started.communicate(timeout=60)
    assert started.returncode == 130
    assert told.strip().splitlines()[-1] == "fer-augment: interrupted; call the same command again to go on"
    assert "Traceback" not in told
    assert compare("--seeds", "1").code == 0


@pytest.mark.skipif(not os.environ.get("FER2013"), reason="FER2013 is not set: the folder of the image release")
def test_the_reports_experiment_on_a_fraction_of_fer2013(tmp_path):
    source = Path(os.environ["FER2013"])
    make = [sys.executable, source / "make_csv.py", tmp_path / "fer2013.csv", "--fraction", "0.03"]
    subprocess.run(make, check=True, capture_output=True)
    arguments = ["--data", "fer2013.csv", "--seeds", "2", "--set", "training.epochs=1"]
    ran = fer_augment("compare", "paper", "confusion_mirror", "oversample", *arguments)
    assert ran.code == 0, ran.err
    assert_readable(ran)
    comparison = read_comparison(tmp_path / "results" / "paper_confusion_mirror_oversample")
    assert comparison.class_names[0] == "angry" and comparison.class_names[6] == "neutral"
    assert sum(comparison.data.counts["train"].values()) == pytest.approx(0.03 * 28_709, rel=0.02)
    oversampled = comparison.arm("oversample").rewritten_counts[0]
    assert len(set(oversampled.values())) == 1
    assert comparison.arm("paper").optimizer_steps == comparison.arm("oversample").optimizer_steps
