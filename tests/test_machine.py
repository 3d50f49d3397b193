"""What torch says of the processor is kept, for keys that need no torch, and is compared with what it says later."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from fer_augment import RunError
from fer_augment.cache import PROCESSORS
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.training import machine
from fer_augment.training.machine import Processor, device_of, processor

_X86 = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
stepping\t: 8
cpu MHz\t\t: {mhz}
flags\t\t: fpu avx2 fma {flags}

processor\t: 1
vendor_id\t: GenuineIntel
"""
_ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd sve bf16\nCPU implementer\t: 0x41\n"


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that tells processors apart, in a process that has not imported torch, with an empty cache."""
    file = tmp_path / "cpuinfo"
    file.write_text(_X86.format(mhz=2700, flags=""))
    monkeypatch.setattr(machine, "_CPUINFO", file)
    monkeypatch.setattr(machine, "_RELIED_ON", {})
    monkeypatch.setattr(machine, "_torch_is_loaded", lambda: False)
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    return file


def answers(cpuinfo: Path) -> list[Path]:
    return sorted((cpuinfo.parent / "cache" / PROCESSORS).glob("*"))


def test_an_answer_is_kept_and_torch_is_not_asked_again(cpuinfo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = processor()
    assert first.instructions == torch.backends.cpu.get_cpu_capability()
    (file,) = answers(cpuinfo)
    assert json.loads(file.read_text()) == asdict(first)
    monkeypatch.setattr(machine, "_asked", None)  # calling it is an error
    assert processor() == first


@pytest.mark.parametrize("changed", ["flags", "variable", "torch", "frequency"])
def test_torch_is_asked_again_where_its_answer_may_be_another(
    changed: str, cpuinfo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor()
    if changed == "flags":
        cpuinfo.write_text(_X86.format(mhz=2700, flags="avx512f"))
    elif changed == "variable":
        monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    elif changed == "torch":
        (tmp_path / "version.py").write_text("__version__ = '99.0'\ncuda = None\nhip = None\n")
        monkeypatch.setattr(machine, "_version_file", lambda: tmp_path / "version.py")
    else:
        cpuinfo.write_text(_X86.format(mhz=1200, flags=""))
    processor()
    assert len(answers(cpuinfo)) == (1 if changed == "frequency" else 2)


@pytest.mark.parametrize("content", [_ARM, "", None], ids=["ARM", "empty", "missing"])
def test_nothing_is_kept_where_it_is_not_known_what_torch_looks_at(content: str | None, cpuinfo: Path) -> None:
    cpuinfo.unlink() if content is None else cpuinfo.write_text(content)
    assert processor().name
    assert not answers(cpuinfo)


def test_a_cache_that_is_damaged_or_cannot_be_written_is_no_error(cpuinfo: Path) -> None:
    first = processor()
    (file,) = answers(cpuinfo)
    untyped = '{"name": null, "instructions": 7, "has_bfloat16": "false"}'
    for damaged in ("{", "[]", '{"name": "another"}', untyped):
        file.write_text(damaged)
        assert processor() == first
    file.unlink()
    file.parent.rmdir()
    file.parent.touch()
    assert processor() == first


def test_an_answer_that_is_not_true_is_noticed_when_torch_is_imported(
    cpuinfo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = processor()
    (file,) = answers(cpuinfo)
    wrong = replace(asked, instructions="AVX1024")
    file.write_text(json.dumps(asdict(wrong)))
    assert processor() == wrong
    monkeypatch.setattr(machine, "_torch_is_loaded", lambda: True)
    with pytest.raises(
        RunError, match=r"\.json: .*AVX1024.* is not what torch says now.*; it is deleted, run the same"
    ):
        processor()
    assert not file.exists()
    assert processor() == asked  # the same again


def test_an_answer_that_nobody_has_used_is_not_compared(cpuinfo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = processor()
    (file,) = answers(cpuinfo)
    file.write_text(json.dumps(asdict(Processor("another", "AVX1024", has_bfloat16=True))))
    monkeypatch.setattr(machine, "_torch_is_loaded", lambda: True)
    assert processor() == asked


@pytest.mark.parametrize(
    ("versions", "is_asked"),
    [
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", False),
        ("cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n", True),
        ("cuda = None\nhip = '6.4'\n", True),
        ("cuda = None\n", True),
    ],
)
def test_a_build_for_gpus_is_asked_each_time_whether_there_is_one(
    versions: str, is_asked: bool, cpuinfo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = cpuinfo.with_name("version.py")
    file.write_text(versions)
    monkeypatch.setattr(machine, "_version_file", lambda: file)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of(TrainingSettings(device="auto")) == ("cuda" if is_asked else "cpu")
    assert device_of(TrainingSettings(device="cpu")) == "cpu"


@pytest.mark.skipif(sys.platform != "linux", reason="what is kept depends on /proc/cpuinfo")
def test_both_ways_agree_in_processes_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path))
    code = "import sys; from fer_augment.training.machine import processor; print(processor(), 'torch' in sys.modules)"
    outputs = [_ran(code), _ran(code), _ran(f"import torch; {code}")]
    assert len({output.rsplit(maxsplit=1)[0] for output in outputs}) == 1
    if list(tmp_path.glob(f"{PROCESSORS}/*")):
        assert [output.rsplit(maxsplit=1)[1] for output in outputs] == ["True", "False", "True"]


def _ran(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
