"""Run the command line in this process, as in a terminal of 80 columns without colors."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

from fer_augment.cli import main


@dataclass(frozen=True)
class Ran:
    """The result of a command."""

    code: int
    out: str
    err: str


def fer_augment(*arguments: str) -> Ran:
    """Run `fer-augment ARGUMENTS`."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with _plain_terminal(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as stopped:
            code = int(stopped.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _plain_terminal() -> Iterator[None]:
    with mock.patch.dict(os.environ, {"COLUMNS": "80", "NO_COLOR": "1"}):
        os.environ.pop("FORCE_COLOR", None)
        yield


def assert_readable(ran: Ran) -> None:
    """Assert that stdout has no line of more than 80 columns and no control characters."""
    for line in ran.out.splitlines():
        assert len(line.rstrip()) <= 80, line
        assert line.isprintable(), line


def assert_refused(ran: Ran, *parts: str) -> None:
    """Assert exit code 2, no stdout, and one line on stderr that contains all parts."""
    assert (ran.code, ran.out) == (2, ""), ran
    assert ran.err.startswith("fer-augment: ") and ran.err.count("\n") == 1, ran.err
    assert all(part in ran.err for part in parts), ran.err
