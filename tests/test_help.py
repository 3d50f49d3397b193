"""The list of commands: it is true, and nothing is imported to show it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from fer_augment.cli import group
from tests.command_line import fer_augment

COMMANDS = group.list_commands(click.Context(group))


def test_the_list_names_every_command_in_order() -> None:
    listed = fer_augment("--help").out.split("Commands:")[1]
    assert [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "] == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_it_says_of_each_command_what_the_command_says_of_itself(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    listed = fer_augment("--help").out.split("Commands:")[1]
    assert command.get_short_help_str(limit=200) in " ".join(listed.split())


def test_it_imports_no_command() -> None:
    program = "import sys; from fer_augment.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name for name in ran.stderr.split() if name.startswith("fer_augment.cli")}
    assert loaded == {"fer_augment.cli"}


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give the words of every command that does something."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from _commands(below, (*path, name))


def _command(*path: str) -> click.Command:
    command: click.Command = group
    for name in path:
        assert isinstance(command, click.Group)
        below = command.get_command(click.Context(command), name)
        assert below is not None
        command = below
    return command


@pytest.mark.parametrize("path", list(_commands(group)), ids=" ".join)
def test_every_command_gives_an_example_that_it_understands(path: tuple[str, ...]) -> None:
    lines = [line.strip() for line in fer_augment(*path, "--help").out.splitlines()]
    examples = [line for line in lines if line.startswith(f"fer-augment {' '.join(path)}")]
    assert examples
    for line in examples:
        words = shlex.split(line.partition(" > ")[0])[1 + len(path) :]
        _command(*path).make_context(path[-1], words)
