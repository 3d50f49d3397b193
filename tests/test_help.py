"""The list of commands: it is true, and nothing is imported to show it."""

from __future__ import annotations

import subprocess
import sys

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
