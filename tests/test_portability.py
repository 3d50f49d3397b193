"""What can be checked on any system about running on others: imports, signals, encodings, and worker processes."""

from __future__ import annotations

import ast
import multiprocessing
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fer_augment.processes import process_class_of
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
    assert process_class_of(platform) is multiprocessing.get_context("spawn").Process


def test_workers_handle_signals_of_every_system() -> None:
    assert signal.SIGTERM in signal.valid_signals()
