"""Command-line interface. Each command is a module that is imported when the command is called."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import NamedTuple

import click

from fer_augment.errors import FerAugmentError, NothingFinishedError, display_text, excerpt, full_disk
from fer_augment.streams import UnwritableOutput, flushed_output, stdout_for_results, write_any_character


class _Command(NamedTuple):
    """Module with a function named after the command, and the description in the list of commands."""

    module: str
    short_help: str


_COMMANDS = {
    "demo": _Command("compare", "Compare three recipes on synthetic faces, in about a minute."),
    "compare": _Command("compare", "Compare recipes on the same data; the first one is the baseline."),
    "judge": _Command("judge", "Compare predictions of any trainer with those of a baseline."),
    "run": _Command("run", "Train one recipe with one seed, score it on the test split once, and keep all results."),
    "rewrite": _Command("rewrite", "Rewrite the training set as a recipe does, and write it to files."),
    "predict": _Command("predict", "Predict class probabilities for new images."),
    "explain": _Command("explain", "Show predictions and feature maps of a run."),
    "export": _Command("export", "Export the network of a run, and write a model card beside it."),
    "verify": _Command("verify", "Check the files of results, or repeat a run and compare it bit by bit."),
    "data": _Command("data", "Show, audit or convert a data source."),
    "plugins": _Command("plugins", "List installed plugins; create and check plugins."),
    "recipes": _Command("recipes", "List, show and check recipes."),
    "cache": _Command("cache", "Show or prune the cache of trainings, pixels, features and audits."),
    "doctor": _Command("doctor", "Show versions, device, cache and plugins, and what is wrong."),
    "report": _Command("report", "Show the comparison in DIR and rewrite DIR/report.html."),
}
"""All commands, most common first. Descriptions are repeated here so that `--help` imports no command."""


class LazyGroup(click.Group):
    """A group that imports commands lazily, so that `--help` does not wait for numpy or torch."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the command names."""
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import and return a command."""
        if name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(f"fer_augment.cli.{_COMMANDS[name].module}"), name)
        assert isinstance(command, click.Command)
        return _prepared(command)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.short_help) for name, entry in _COMMANDS.items()])


TRACEBACK_KEY = "fer_augment.traceback"
"""Where the context of a command keeps whether --traceback was given."""

_PREPARED = set[click.Command]()
"""Commands whose functions are wrapped already."""


def _prepared(command: click.Command) -> click.Command:
    """Keep line breaks of the help text (raw docstrings), add --traceback, prepare for what plugins may do wrong."""
    if command.help:
        command.help = command.help.replace(r"\b", "\b")
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            _prepared(subcommand)
    elif command.callback and command not in _PREPARED:
        command.callback = _beside_plugins(command.callback)
        command.params.append(_traceback_option())
        _PREPARED.add(command)
    return command


def _traceback_option() -> click.Option:
    return click.Option(
        ["--traceback"], is_flag=True, expose_value=False, callback=_keep_choice,
        help="Print the tracebacks of what failed.",
    )  # fmt: skip


def _keep_choice(context: click.Context, _: click.Parameter, is_asked: bool) -> None:
    context.meta[TRACEBACK_KEY] = is_asked


def _beside_plugins(callback: Callable[..., object]) -> Callable[..., object]:
    """Return a command that warns of broken plugins before, and keeps what plugins print out of its results.

    With --traceback it prints that of an error: those of the runs that failed, if the error has them as notes.
    """

    @functools.wraps(callback)
    def run(*arguments: object, **options: object) -> object:
        from fer_augment.reading import loaded_plugins

        with stdout_for_results():
            try:
                loaded_plugins(quiet=bool(options.get("quiet")), again=True)
                return callback(*arguments, **options)
            except (FerAugmentError, OSError) as error:
                if click.get_current_context().meta.get(TRACEBACK_KEY):
                    lines = getattr(error, "__notes__", None) or traceback.format_exception(error)
                    click.echo("".join(lines).rstrip(), err=True)
                raise

    return run


@_prepared
@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fer_augment")
def group() -> None:
    r"""Compare data augmentation and class balancing for image classifiers.

    \b
    fer-augment demo            complete comparison on synthetic faces
    fer-augment compare paper oversample --data fer2013.csv --seeds 5
    fer-augment plugins list    strategies, models and losses for recipes
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit status 0 on success, 1 if a run failed, 2 on invalid input, 130 if interrupted.

    `--fail-on worse` exits with status 3 if an arm is worse, and with 2 if an arm cannot be tested.
    """
    write_any_character()
    try:
        with flushed_output():
            group.main(arguments, prog_name="fer-augment", standalone_mode=False)
    except UnwritableOutput as error:
        stop(f"standard output cannot be written ({error}); results that were written to files are complete", code=2)
    except FerAugmentError as error:
        stop(str(error), code=1 if isinstance(error, NothingFinishedError) else 2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        stop("interrupted; run the same command again to resume", code=130)
    except BrokenPipeError:  # the reader of our output has exited, for example `head`
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if error.filename is None:
            raise
        path = excerpt(os.fsdecode(error.filename))
        reason = f"{path}: cannot be used ({error.strerror}); check the path and its permissions"
        stop(full_disk(error) or reason, code=2)


def stop(message: str, *, code: int) -> None:
    """Print a one-line message and exit."""
    click.echo(display_text(f"fer-augment: {message}"), err=True)
    sys.exit(code)
