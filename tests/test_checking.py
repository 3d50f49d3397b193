"""`fer-augment verify DIR` without data: damaged and missing files of results are named with how to mend them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fer_augment.data.digests import write_digests
from fer_augment.reports.html import write_report
from fer_augment.results.checking import damages_in
from tests.command_line import assert_refused, fer_augment
from tests.comparison_directory import write_comparison
from tests.mutations import mutated
from tests.prediction_files import write_runs


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    write_comparison(folder)
    write_report(folder)
    for record in folder.glob("runs/*/*/record.json"):
        for name in ("provenance.safetensors", "weights.safetensors"):
            save_file({"x": np.zeros(2)}, record.parent / name)
        write_digests(record.parent)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def first_run(folder: Path) -> Path:
    return sorted(folder.glob("runs/*/*/record.json"))[0].parent


def test_whole_results_are_ok(folder: Path) -> None:
    ran = fer_augment("verify", str(folder))
    assert (ran.code, ran.out, ran.err) == (0, "OK: all files are readable and match.\n", "")
    assert fer_augment("verify", str(first_run(folder))).code == 0
    assert json.loads(fer_augment("verify", str(folder), "--json").out) == {"damages": []}


def test_predictions_that_were_judged_are_ok(tmp_path: Path) -> None:
    files = write_runs(tmp_path)
    named = ["--pattern", "{arm}_seed{seed}.csv", "--baseline", "plain", "--out", str(tmp_path / "out")]
    fer_augment("judge", *map(str, files), *named)
    assert fer_augment("verify", str(tmp_path / "out")).code == 0


def only_damage(directory: Path) -> tuple[str, str, str]:
    ran = fer_augment("verify", str(directory), "--json")
    assert ran.code == 1
    (damage,) = json.loads(ran.out)["damages"]
    return Path(damage["file"]).name, damage["reason"], damage["remedy"]


def test_a_missing_run_is_named(folder: Path) -> None:
    shutil.rmtree(first_run(folder))
    _, reason, remedy = only_damage(folder)
    assert "is missing" in reason and "run the same `fer-augment compare` again" in remedy


@pytest.mark.parametrize(
    "name", ["recipe.yaml", "weights.safetensors", "predictions.safetensors", "examples.safetensors", "sources/own.py"]
)
def test_a_missing_file_of_a_run_is_named(folder: Path, name: str) -> None:
    file = first_run(folder) / name
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        file.touch()
        write_digests(first_run(folder))
    file.unlink()
    damaged, reason, _ = only_damage(folder)
    assert damaged == file.name and ("is missing" in reason or "not readable" in reason or "No such file" in reason)
    assert only_damage(first_run(folder))[2] == "delete its directory and run it again"


def test_predictions_that_do_not_match_the_record_are_named(folder: Path) -> None:
    file = first_run(folder) / "predictions.safetensors"
    arrays = load_file(file)
    arrays["test.logits"] = np.ascontiguousarray(arrays["test.logits"][:, :2])
    save_file(arrays, file)
    write_digests(file.parent)
    name, reason, _ = only_damage(folder)
    assert name == "predictions.safetensors" and "test: (" in reason and "3 classes" in reason


@pytest.mark.parametrize("name", ["recipe.yaml", "weights.safetensors", "predictions.safetensors", "record.json"])
def test_one_changed_bit_of_a_run_is_named(folder: Path, name: str) -> None:
    file = first_run(folder) / name
    content = bytearray(file.read_bytes())
    content[-3] ^= 1 if name.endswith(".safetensors") else 0
    file.write_bytes(bytes(content) + (b"" if name.endswith(".safetensors") else b"\n"))
    assert only_damage(folder)[:2] == (name, "has changed since the run wrote it (SHA-256)")


def test_results_of_versions_without_digests_are_ok(folder: Path) -> None:
    for digests in folder.glob("runs/*/*/SHA256SUMS"):
        digests.unlink()
    assert fer_augment("verify", str(folder)).code == 0


@pytest.mark.parametrize("kept", [0, 1])
def test_digests_that_are_cut_off_are_named(folder: Path, kept: int) -> None:
    digests = first_run(folder) / "SHA256SUMS"
    digests.write_text("".join(digests.read_text().splitlines(keepends=True)[-kept:] if kept else []))
    assert "SHA256SUMS" in only_damage(folder)[0]


def test_digests_are_those_of_sha256sum(folder: Path) -> None:
    run = first_run(folder)
    lines = (run / "SHA256SUMS").read_text().splitlines()
    digest = hashlib.sha256((run / "recipe.yaml").read_bytes()).hexdigest()
    assert f"{digest}  recipe.yaml" in lines
    assert {line.partition("  ")[2] for line in lines} == {file.name for file in run.iterdir()} - {"SHA256SUMS"}


def test_a_damaged_comparison_is_named(folder: Path) -> None:
    value = json.loads((folder / "comparison.json").read_bytes())
    value["arms"][0]["seeds"].append(99)
    (folder / "comparison.json").write_text(json.dumps(value))
    name, reason, _ = only_damage(folder)
    assert name == "comparison.json" and "arms.0.run_keys: expected a value for each of the" in reason


@pytest.mark.parametrize("name", ["comparison.json", "confused.safetensors", "runs/*/*/record.json"])
def test_a_path_with_the_signs_of_a_message_is_named_whole(whole: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "faces: all; old" / "out"))
    file = sorted(folder.glob(name))[0]
    file.write_bytes(b"cut")
    (damage,) = [one for one in damages_in(folder) if "is missing" not in one.reason]
    assert damage.file == str(file) and damage.reason and "faces" not in damage.reason + damage.remedy


def test_a_missing_report_is_named_with_the_command(folder: Path) -> None:
    (folder / "report.html").unlink()
    assert only_damage(folder) == ("report.html", "is missing or empty", f"fer-augment report {folder}")
    (folder / "report.html").touch()
    assert only_damage(folder)[0] == "report.html"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_in_place_of_any_file_is_named_and_never_opened(folder: Path) -> None:
    run = first_run(folder)
    for file in (folder / "comparison.json", folder / "confused.safetensors", *sorted(run.glob("*.*"))):
        if file.exists() and file.name != "recipe.yaml":
            content = file.read_bytes()
            file.unlink()
            os.mkfifo(file)
            assert any(damage.file == str(file) for damage in damages_in(folder)), file
            file.unlink()
            file.write_bytes(content)


def test_other_directories_are_refused(tmp_path: Path) -> None:
    assert_refused(fer_augment("verify", str(tmp_path)), "neither a comparison nor a run")


def test_any_damage_is_one_line_each(folder: Path) -> None:
    rng = random.Random(21)
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != "report.html"]
    found = 0
    for _ in range(60):
        file = rng.choice(files)
        content = file.read_bytes()
        file.write_bytes(mutated(content, rng))
        damages = damages_in(folder)
        assert all("\n" not in str(damage) for damage in damages)
        found += bool(damages)
        file.write_bytes(content)
    assert found > 10
