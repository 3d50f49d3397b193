"""Output on streams that cannot show every character or cannot be written, and beside plugins that print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fer_augment.cli import main
from tests.command_line import fer_augment
from tests.comparison_directory import write_comparison
from tests.comparison_place import write_place


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    write_comparison(folder, class_names=("ant", "b\u00e9e", "\u732b \U0001f431"))
    return folder


def run(*arguments: str, stdout=subprocess.PIPE, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "fer_augment", *arguments]
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, env={**os.environ, "COLUMNS": "80", **environment}, check=False
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("chosen", ["terminal", "markdown", "csv", "json"])
def test_any_encoding_of_stdout_is_enough(folder: Path, encoding: str, chosen: str) -> None:
    ran = run("report", str(folder), "--format", chosen, PYTHONIOENCODING=encoding)
    assert (ran.returncode, ran.stderr) == (0, b"")
    text = ran.stdout.decode(encoding)
    assert "ant" in text and "\\u732b" in text
    if chosen == "json":
        assert json.loads(text)["class_names"] == ["ant", "b\u00e9e", "\u732b \U0001f431"]
    if chosen == "terminal" and encoding == "ascii":
        assert "+/-" in text and "\\u00b1" not in text


def test_the_locale_of_a_bare_environment_is_enough(folder: Path) -> None:
    ran = run("report", str(folder), LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert ran.returncode == 0 and b"Traceback" not in ran.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("options", [(), ("--format", "json")])
def test_a_full_stdout_is_one_line_with_exit_code_2(folder: Path, options: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        ran = run("report", str(folder), *options, stdout=full)
    lines = ran.stderr.decode().splitlines()
    assert ran.returncode == 2
    assert lines[-1] == (
        "fer-augment: standard output cannot be written (No space left on device); results that were written to files "
        "are complete"
    )
    assert "Traceback" not in ran.stderr.decode() and "Exception ignored" not in ran.stderr.decode()


def test_a_closed_pipe_is_no_error(folder: Path) -> None:
    command = f"{sys.executable} -m fer_augment report {folder} --format json | head -c 10"
    ran = subprocess.run(command, shell=True, capture_output=True, check=False)
    assert (ran.returncode, ran.stderr, len(ran.stdout)) == (0, b"", 10)


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_closed_stream_drops_what_is_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, name, None)  # as of `fer-augment recipes list >&-`
    main(["recipes", "list"])
    getattr(sys, name).close()


def test_what_a_plugin_prints_at_import_is_not_part_of_the_results(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text("print('hello from a plugin')\n")
    information = tmp_path / "loud-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[fer_augment]\nloud = loud\n")
    ran = run("plugins", "list", "--json", PYTHONPATH=str(tmp_path))
    assert ran.returncode == 0 and json.loads(ran.stdout)
    assert b"hello from a plugin" in ran.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("plugins", "list"),
        ("data", "show", "demo"),
        ("recipes", "list"),
        ("compare", "demo", "demo_balanced", "--data", "demo", "--dry-run"),
    ],
    ids=" ".join,
)
def test_lines_have_no_spaces_at_their_ends(arguments: tuple[str, ...], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = fer_augment(*arguments)
    assert ran.code == 0
    assert [line for line in ran.out.splitlines() if line != line.rstrip()] == []


PRINTING = """
import ctypes, multiprocessing, os, subprocess, sys
from fer_augment.streams import results_stream, stdout_for_results

def work():
    print("of a worker")

if __name__ == "__main__":
    print("before")
    ctypes.CDLL(None).puts(b"before, of C")
    with stdout_for_results():
        print("of Python")
        subprocess.run([sys.executable, "-c", "print('of a program')"])
        process = multiprocessing.get_context("spawn").Process(target=work)
        process.start()
        process.join()
        ctypes.CDLL(None).puts(b"of C")
        results_stream().write("result\\n")
    print("after")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the C library has no such name")
def test_stdout_is_for_results_whoever_prints(tmp_path: Path) -> None:
    script = tmp_path / "printing.py"
    script.write_text(PRINTING)
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, env=buffered)
    assert ran.stdout.splitlines() == ["before", "before, of C", "result", "after"]
    assert ran.stderr.splitlines() == ["of Python", "of a program", "of a worker", "of C"]


def test_what_a_plugin_prints_in_hooks_is_not_part_of_the_results(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(write_place(tmp_path))
    (tmp_path / "loud.py").write_text(
        "from fer_augment import Strategy, hookimpl\n\n"
        "class Loud(Strategy):\n"
        '    """Print."""\n\n'
        "    @hookimpl\n"
        "    def rewrite_training_set(self, training_set, context):\n"
        "        print('hello from a hook')\n"
        "        return training_set\n"
    )
    (tmp_path / "loud.yaml").write_text("model: convnet4\nstrategies: [loud.py:Loud]\n")
    ran = fer_augment("rewrite", "loud.yaml", "--data", "faces", "--dry-run", "--json")
    assert ran.code == 0 and json.loads(ran.out)
    assert "hello from a hook" in ran.err
