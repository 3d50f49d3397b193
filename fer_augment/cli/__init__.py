"""The command line. Every command is a module of its own and is imported when it is called."""

from __future__ import annotations

import importlib
import sys
from typing import NamedTuple

import click

from fer_augment.errors import FerAugmentError, NothingFinishedError


class _Place(NamedTuple):
    """The module that a command lives in, under its own name, and what the list of commands says of it."""

    module: str
    short_help: str


_COMMANDS = {
    "demo": _Place("compare", "The whole job on drawn faces, in one to three minutes."),
    "compare": _Place("compare", "Compare recipes on the same data; the first one is the baseline."),
    "run": _Place("run", "Train one recipe with one seed, score it on the test split once, and keep everything."),
    "rewrite": _Place("rewrite", "Rewrite the training set as a recipe does; write it to files."),
    "predict": _Place("predict", "Tell the class scores of new png or jpg images."),
    "explain": _Place("explain", "Show what a network says of images, and its feature maps."),
    "verify": _Place("verify", "Train a run again, and compare it with the run bit by bit."),
    "data": _Place("data", "Look at a data source, audit it, convert it."),
    "plugins": _Place("plugins", "What is installed, and tools for writing strategies."),
    "recipes": _Place("recipes", "Recipes: what ships, what one amounts to, and what is wrong with one."),
    "report": _Place("report", "Show the comparison that lies in DIR, and write DIR/report.html again."),
}
"""The commands in the order in which people meet them, told so that `--help` imports none of them."""


class LazyGroup(click.Group):
    """A group that imports a command when it is called: `--help` must not wait for numpy or torch."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names."""
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import the module of a command."""
        if name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(f"fer_augment.cli.{_COMMANDS[name].module}"), name)
        assert isinstance(command, click.Command)
        return _with_line_breaks(command)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands; no module of a command is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.short_help) for name, place in _COMMANDS.items()])


def _with_line_breaks(command: click.Command) -> click.Command:
    """Let the help of a command, written as a raw docstring, have the mark that tells click to keep lines apart."""
    if command.help:
        command.help = command.help.replace(r"\b", "\b")
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _with_line_breaks(below)
    return command


@_with_line_breaks
@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fer_augment")
def group() -> None:
    r"""Compare ways to repair a training set, honestly: did this idea raise the recall of the small classes?

    \b
    fer-augment demo            the whole thing on drawn faces, in minutes
    fer-augment compare paper oversample --data fer2013.csv --seeds 5
    fer-augment plugins list    what a recipe can be made of
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit with 0, with 1 if a run failed, with 2 if the user has to change something."""
    try:
        group.main(arguments, prog_name="fer-augment", standalone_mode=False)
    except FerAugmentError as error:
        stop(str(error), code=1 if isinstance(error, NothingFinishedError) else 2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        stop("interrupted; call the same command again to go on", code=130)
    except BrokenPipeError:  # the reader of our output, `head` for one, has gone
        sys.stderr.close()
        sys.exit(0)


def stop(message: str, *, code: int) -> None:
    """Print one line for people and exit."""
    click.echo(f"fer-augment: {message}", err=True)
    sys.exit(code)
