"""A comparison that is finished costs little, and damaged runs are done again and named."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fer_augment as fa
from fer_augment.cache import AUDITS, cache_folder
from fer_augment.data import audit_store
from fer_augment.data.audit import audit
from fer_augment.data.audit_records import Audit
from fer_augment.data.audit_store import audited
from fer_augment.data.dataset import SourceRows
from fer_augment.data.records import RunDirectory
from fer_augment.runs import executors, galleries, network_checks
from fer_augment.training import trainings
from tests.comparison_place import write_place
from tests.tiny_training import tiny_splits

ARMS = ["small.yaml", "mined.yaml"]


@pytest.fixture(scope="module")
def shared_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a finished comparison in `out`."""
    place = write_place(tmp_path_factory.mktemp("place"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_AUGMENT_CACHE", str(place / "cache"))
        patch.chdir(place)
        fa.compare(ARMS, "faces", seeds=2, jobs=2, out="out", progress=False)
    return place


@pytest.fixture(autouse=True)
def place(shared_place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(shared_place, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def again(**options: Any) -> fa.Comparison:
    return fa.compare(ARMS, "faces", seeds=2, jobs=2, out="out", **options)


def test_a_finished_comparison_starts_no_worker_and_computes_nothing_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    shutil.rmtree(place / "cache/trainings")
    for module, name in ((executors, "_Worker"), (galleries, "load_run_model"), (audit_store, "audit")):
        monkeypatch.setattr(module, name, None)  # calling it is an error
    comparison = again(progress=False)
    assert [arm.seeds for arm in comparison.arms] == [(0, 1), (0, 1)]
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before
    assert not (place / "cache/trainings").exists()
    prepared = fa.prepare(ARMS, "faces", seeds=2, out="out", progress=False)
    assert not prepared.plan.missing and prepared.memory == 0


def test_a_finished_run_is_found_again_without_its_network(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(place / "cache/trainings")
    for module, name in ((network_checks, "build_network"), (trainings, "build_model")):
        monkeypatch.setattr(module, name, None)  # calling it is an error
    (path,) = Path("out/runs/mined").glob("seed-1-*")
    assert fa.run("mined.yaml", "faces", seed=1, out="out", progress=False).path == path
    assert not (place / "cache/trainings").exists()


_IMPORTED = """
import sys
from fer_augment.cli import main

main(sys.argv[1:])
print(sorted({"torch", "albumentations", "matplotlib"}.intersection(sys.modules)), file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="torch is asked each time")
@pytest.mark.skipif(bool(torch.version.cuda or torch.version.hip), reason="torch is asked whether there is a GPU")
@pytest.mark.parametrize("command", [["compare", *ARMS, "--seeds", "2"], ["run", "mined.yaml", "--seed", "1"]])
def test_what_is_finished_imports_no_torch_and_finds_the_runs_of_a_process_that_did(command: list[str]) -> None:
    command = [*command, "--data", "faces", "--out", "out"]
    runs = sorted(Path("out/runs").glob("*/*"))
    for _ in range(2):  # the first asks torch what processor this is, and keeps the answer
        ran = subprocess.run([sys.executable, "-c", _IMPORTED, *command], capture_output=True, text=True, check=True)
    assert ran.stderr.endswith("\n[]\n")
    assert sorted(Path("out/runs").glob("*/*")) == runs


def test_confused_images_of_other_runs_are_collected_again() -> None:
    before = Path("out/confused.safetensors").read_bytes()
    Path("out/confused.safetensors").write_bytes(b"cut off")
    again(progress=False)
    assert Path("out/confused.safetensors").read_bytes() == before
    fa.compare(ARMS, "faces", seeds=[1], jobs=1, out="out", progress=False)
    assert Path("out/confused.safetensors").read_bytes() != before


@pytest.mark.parametrize("file", ["record.json", "predictions.safetensors", "weights.safetensors"])
def test_a_damaged_run_is_named_and_done_again(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = Path("out/runs/small").glob("seed-1-*")
    before = {path.name: path.read_bytes() for path in run.glob("*.safetensors")}
    (run / file).write_bytes((run / file).read_bytes()[:-100])
    assert (RunDirectory(run).damage or ())[0] == run / file
    comparison = again()
    err = " ".join(capsys.readouterr().err.split())
    assert f"{run / file}: " in err and "; the run is done again" in err
    assert [arm.seeds for arm in comparison.arms] == [(0, 1), (0, 1)]
    assert {path.name: path.read_bytes() for path in run.glob("*.safetensors")} == before
    assert RunDirectory(run).damage is None


def test_a_damaged_run_is_done_again_alone(place: Path) -> None:
    done = fa.run("small.yaml", "faces", out="out", progress=False)
    (done.path / "record.json").unlink()
    assert fa.run("small.yaml", "faces", out="out", progress=False).record.identity.seed == 0


class TestAudits:
    def test_are_made_once_for_the_same_data_and_code(self, monkeypatch: pytest.MonkeyPatch) -> None:
        splits = tiny_splits()
        first = audited(splits)
        files = list((cache_folder() / AUDITS).iterdir())
        for file in files:
            os.utime(file, (1, 1))
        monkeypatch.setattr(audit_store, "audit", None)
        calls: list[int] = []
        assert audited(splits, lambda done, total: calls.append(done)) == first
        assert not calls
        assert sum(file.stat().st_mtime > 1 for file in files) == 1, "the time of the last use, for pruning"

    @pytest.mark.parametrize("changed", ["row", "source", "file name", "code"])
    def test_are_made_again_for_others(self, changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
        splits = tiny_splits()
        train, test = splits.train, splits.test
        named = SourceRows(tuple(f"{row}.png" for row in range(len(train))))
        base = fa.Splits(_with(train, named), splits.validation, test, "tiny")
        audited(base)
        other = {
            "row": fa.Splits(base.train, base.validation, test.take(np.arange(len(test) - 1)), "tiny"),
            "source": fa.Splits(base.train, base.validation, test, "another"),
            "file name": fa.Splits(_with(train, SourceRows(tuple(f"{row}.jpg" for row in range(len(train))))),
                                   base.validation, test, "tiny"),
            "code": base,
        }[changed]  # fmt: skip
        if changed == "code":
            monkeypatch.setattr(audit_store, "_code_digest", lambda: "of another version")
        made: list[fa.Splits] = []

        def recorded(splits: fa.Splits, progress: Any) -> Audit:
            made.append(splits)
            return audit(splits, progress)

        monkeypatch.setattr(audit_store, "audit", recorded)
        audited(other)
        assert made == [other]

    def test_that_are_damaged_or_cannot_be_kept_are_made(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = audited(tiny_splits())
        for file in (cache_folder() / AUDITS).iterdir():
            file.write_text("{")
        assert audited(tiny_splits()) == first
        monkeypatch.setenv("FER_AUGMENT_CACHE", str(place / "small.yaml"))  # a file, so that nothing can be written
        assert audited(tiny_splits()) == first


def _with(dataset: fa.ImageDataset, sources: SourceRows) -> fa.ImageDataset:
    return fa.ImageDataset.from_arrays(dataset.images[:], dataset.labels, dataset.class_names, sources=sources)
