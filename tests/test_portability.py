"""What can be checked on Linux about running on other systems: imports, signals, encodings, processes, and files."""

from __future__ import annotations

import ast
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fer_augment as fa
from fer_augment.processes import process_class_of
from tests.comparison_place import write_place
from tests.markdown import ROOT

SOURCES = sorted([*ROOT.glob("fer_augment/**/*.py"), *ROOT.glob("plugins/*.py"), *ROOT.glob("tools/*.py")])
POSIX_MODULES = {"crypt", "fcntl", "grp", "posix", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty"}
POSIX_FUNCTIONS = {"fork", "forkpty", "getuid", "geteuid", "getgid", "getpgid", "killpg", "mkfifo", "nice", "setsid"}
WINDOWS_SIGNALS = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_IGN", "SIG_DFL"}


def nodes_of(file: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(file.read_text(encoding="utf-8")))


def uses_of(file: Path) -> Iterator[str]:
    """Yield what a file uses that some systems lack."""
    for node in nodes_of(file):
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
            yield from sorted(names & POSIX_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from sorted({node.module.partition(".")[0]} & POSIX_MODULES)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "os" and node.attr in POSIX_FUNCTIONS:
                yield f"os.{node.attr}"
            if node.value.id == "signal" and node.attr.startswith("SIG") and node.attr not in WINDOWS_SIGNALS:
                yield f"signal.{node.attr}"


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_is_used_that_windows_lacks(file: Path) -> None:
    assert list(uses_of(file)) == []


@pytest.mark.parametrize(
    "text", ["import fcntl", "from resource import getrusage", "os.fork()", "signal.SIGKILL", "signal.SIGHUP"]
)
def test_what_windows_lacks_is_found(text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(text, encoding="utf-8")
    assert len(list(uses_of(tmp_path / "bad.py"))) == 1


def is_opened_as_text(call: ast.Call) -> bool:
    """Return whether a call of `open`, `read_text` or `write_text` depends on the encoding of the system."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("read_text", "write_text"):
        given = len(call.args) > (1 if name == "write_text" else 0)
        return not given and not any(keyword.arg == "encoding" for keyword in call.keywords)
    if name != "open" or any(keyword.arg == "force_zip64" for keyword in call.keywords):
        return False
    modes = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
    modes += [keyword.value.value for keyword in call.keywords if isinstance(keyword.value, ast.Constant)]
    is_text_mode = any(isinstance(mode, str) and set(mode) <= set("rwatx+") and "b" not in mode for mode in modes)
    return is_text_mode and not any(keyword.arg == "encoding" for keyword in call.keywords)


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_text_files_are_opened_with_an_encoding(file: Path) -> None:
    lines = [node.lineno for node in nodes_of(file) if isinstance(node, ast.Call) and is_opened_as_text(node)]
    assert not lines


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('path.open("w")', True),
        ('path.open("w", encoding="utf-8")', False),
        ('path.open("wb")', False),
        ("path.read_text()", True),
        ('path.write_text("a")', True),
        ('path.write_text("a", encoding="utf-8")', False),
    ],
)
def test_a_missing_encoding_is_found(text: str, found: bool) -> None:
    (call,) = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    assert is_opened_as_text(call) is found


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_processes_are_new_interpreters_where_forks_are_not_safe(platform: str) -> None:
    assert process_class_of(platform, []) is multiprocessing.get_context("spawn").Process


def test_workers_handle_signals_of_every_system() -> None:
    assert signal.SIGTERM in signal.valid_signals()


_LIKE_WINDOWS = ROOT / "tests" / "like_windows"
_COMMANDS = """
import glob, sys
from fer_augment.data import pixel_cache
from fer_augment.cli import main

pixel_cache.CACHED_FROM = 1  # as if the images were many
for line in sys.argv[1:]:
    words = []
    for word in line.split():
        before, equals, path = word.rpartition("=")
        words.append(before + equals + (glob.glob(path) or [path])[0])
    try:
        main(words)
    except SystemExit as stopped:
        assert not stopped.code, line
"""
_NOISE = '''
from typing import ClassVar

import numpy as np
from fer_augment import Effect, Strategy, hookimpl, uniforms


class Noise(Strategy):
    """Inverts a tenth of the rows."""

    effects: ClassVar[Effect] = Effect.RANDOM

    @hookimpl
    def augment_rows(self, images, rows, draws, training_set, context):
        chosen = uniforms(context.row_seeds(training_set.row_keys(rows), draws), 1)[:, 0] < 0.1
        return np.where(chosen[:, None, None, None], 255 - images, images)
'''


@pytest.mark.skipif(sys.platform != "linux", reason="looks up open files in /proc")
def test_commands_work_and_give_the_same_results_without_what_windows_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_place(tmp_path))
    Path("noise.py").write_text(_NOISE, encoding="utf-8")
    noisy = "extends: ./small.yaml\nstrategies: ['./noise.py:Noise': {}]\n"
    Path("noisy.yaml").write_text(noisy, encoding="utf-8")
    Path("net.yaml").write_text("extends: ./small.yaml\nmodel: {vgg_mini: {width: 8}}\n", encoding="utf-8")
    environment = {
        **os.environ, "PYTHONPATH": str(_LIKE_WINDOWS), "PYTHONIOENCODING": "cp1252", "FER_AUGMENT_CACHE": "cache",
    }  # fmt: skip
    commands = [
        "compare noisy.yaml net.yaml --data faces --seeds 1 --jobs 1 --track csv --out out",
        "run net.yaml --data faces --out head --set training.train=head --set model.vgg_mini.weights=out/runs/net/*",
        "report out",
        "verify out/runs/net/*",
        "predict out/runs/net/* faces/test/bird/0.png",
        "export out/runs/net/* --format safetensors --out exported.safetensors",
        "data convert faces converted",
        "doctor",
    ]
    ran = subprocess.run(
        [sys.executable, "-c", _COMMANDS, *commands],
        env=environment, capture_output=True, text=True, encoding="cp1252", check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "only soft file lock is available" in ran.stderr, "fcntl is missing"
    monkeypatch.setenv("FER_AUGMENT_CACHE", "usual_cache")
    usual = fa.compare(["noisy.yaml", "net.yaml"], "faces", seeds=1, jobs=1, out="usual", progress=False)
    for (run,) in usual.runs.values():
        other = Path("out") / Path(run.path).relative_to("usual")
        for name in ("predictions.safetensors", "weights.safetensors", "provenance.safetensors"):
            assert (other / name).read_bytes() == (run.path / name).read_bytes()
