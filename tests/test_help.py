"""`--help` lists all commands without importing them; examples are valid; lines fit 80 columns."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fer_augment.cli import group
from tests.command_line import assert_readable, assert_refused, fer_augment

assert isinstance(group, click.Group)
COMMANDS = group.list_commands(click.Context(group))


def test_all_commands_are_listed_in_order() -> None:
    listed = fer_augment("--help").out.split("Commands:")[1]
    assert [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "] == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_listed_descriptions_are_those_of_the_commands(name: str) -> None:
    assert isinstance(group, click.Group)
    command = group.get_command(click.Context(group), name)
    assert command is not None
    listed = fer_augment("--help").out.split("Commands:")[1]
    assert command.get_short_help_str(limit=200) in " ".join(listed.split())


def test_help_imports_no_command() -> None:
    program = "import sys; from fer_augment.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = {name for name in ran.stderr.split() if name.startswith("fer_augment.cli")}
    assert imported == {"fer_augment.cli"}


def test_the_package_can_be_run_as_a_module() -> None:
    ran = subprocess.run([sys.executable, "-m", "fer_augment", "--help"], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("Usage: fer-augment ")
    assert ran.stderr == ""


def test_errors_of_the_module_have_exit_status_2() -> None:
    command = [sys.executable, "-m", "fer_augment", "data", "show", "missing.csv"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("fer-augment: missing.csv: no such file")


LONG = "a" * 300
"""A name that no file can have."""


@pytest.mark.parametrize(
    "line",
    [
        f"data show {LONG}", f"data show demo --reader {LONG}.py:x", f"data convert demo {LONG}",
        f"judge {LONG}.csv --baseline a",
        f"recipes show ./{LONG}.yaml", f"report {LONG}", f"verify {LONG}", f"predict {LONG} a.png",
        f"explain {LONG} --image a.png", f"export {LONG} --out a.onnx", f"plugins check {LONG}.py",
        f"plugins new {LONG}", f"run demo --data demo --out {LONG}", f"run demo --data demo --track {LONG}.py:x",
        f"compare ./{LONG}.yaml demo --data demo",
    ],
)  # fmt: skip
def test_a_path_that_cannot_be_used_is_one_line(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(fer_augment(*line.split()), "aaaaaaa")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("verify . --reader demo", "--data, which is missing"),
        ("explain . --image a.png --reader demo", "--data, which is missing"),
        ("explain . --data demo --resize", "--resize is for files of --image"),
        ("compare paper --data demo --max-seeds 5", "--max-seeds limits --precision"),
        ("compare paper --data demo --dry-run --format csv", "--dry-run has no results for --format csv"),
        ("compare paper --data demo --dry-run --fail-on worse", "--dry-run has no results for --fail-on"),
        ("compare paper --data demo --seeds 1 --fail-on worse", "--fail-on needs a significance test"),
        ("compare paper --data demo --seeds 7, --fail-on worse", "use at least two seeds"),
        ("compare paper --data demo --fail-on worse", "--fail-on needs an arm to test against the first recipe"),
        ("compare paper --data demo --folds 5 --fail-on worse", "name a second one"),
        ("predict . a.png --json --csv", "--json and --csv contradict each other"),
        ("judge a.csv --baseline a --column true=b --column true=c", "--column true=… is given twice"),
        ("plugins check power_sampler --source demo", "power_sampler is none"),
    ],
)
def test_options_without_effect_are_refused(line: str, reason: str) -> None:
    ran = fer_augment(*line.split())
    assert (ran.code, ran.out) == (2, "")
    assert reason in ran.err


def test_a_cache_that_cannot_be_used_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_AUGMENT_CACHE", f"/{LONG}")
    assert_refused(fer_augment("cache", "show"), "File name too long")


@pytest.mark.parametrize(
    ("line", "completions"), [("fer-augment comp", ["compare"]), ("fer-augment compare --fo", ["--folds", "--format"])]
)
def test_the_shell_completes_commands_and_options(line: str, completions: list[str]) -> None:
    asked = {"_FER_AUGMENT_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    ran = subprocess.run(
        [sys.executable, "-m", "fer_augment"], capture_output=True, text=True, check=True, env={**os.environ, **asked}
    )
    assert ran.stdout.splitlines() == [f"plain,{completion}" for completion in completions]


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every command that is not a group."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        subcommand = command.get_command(context, name)
        assert subcommand is not None
        yield from _commands(subcommand, (*path, name))


def _command(*path: str) -> click.Command:
    command: click.Command = group
    for name in path:
        assert isinstance(command, click.Group)
        subcommand = command.get_command(click.Context(command), name)
        assert subcommand is not None
        command = subcommand
    return command


@pytest.mark.parametrize("path", list(_commands(group)), ids=" ".join)
def test_every_command_has_a_valid_example(path: tuple[str, ...]) -> None:
    lines = [line.strip() for line in fer_augment(*path, "--help").out.splitlines()]
    examples = [line for line in lines if line.startswith(f"fer-augment {' '.join(path)}")]
    assert examples
    for line in examples:
        words = shlex.split(line.partition(" > ")[0])[1 + len(path) :]
        _command(*path).make_context(path[-1], words)


@pytest.mark.parametrize("path", [(), ("data",), ("plugins",), ("recipes",), *_commands(group)], ids=" ".join)
def test_help_fits_80_columns(path: tuple[str, ...]) -> None:
    assert_readable(fer_augment(*path, "--help"))
