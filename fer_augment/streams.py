"""Standard streams that cannot show every character or cannot be written, and stdout for results alone."""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from typing import TextIO

_PLAIN = {
    "±": "+/-", "−": "-", "–": "-", "…": "...", "→": "->", "←": "<-", "×": "x", "²": "^2", "·": "-", "─": "-",
    "━": "-", "•": "*", "✓": "ok", "└": "`", "├": "|", "│": "|",
}  # fmt: skip
"""What to write where a stream has no such character; all others are written as `\\uXXXX`, which JSON can read."""

_HANDLER = "fer_augment.plain"


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_replaced, error.object[error.start : error.end])), error.end


def _replaced(character: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))


def write_any_character() -> None:
    """Let stdout and stderr take every character, whatever their encoding; those that are closed drop all."""
    codecs.register_error(_HANDLER, _plain)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open as long as the process runs
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)  # not of a stream that a test puts in its place
        if reconfigure:
            reconfigure(errors=_HANDLER)


_STDOUT = 1
"""The file descriptor that programs and libraries in C print to."""
_results: TextIO | None = None


def results_stream() -> TextIO:
    """Return stdout, also while it is kept for results."""
    return _results or sys.stdout


@contextlib.contextmanager
def stdout_for_results() -> Iterator[None]:
    """Keep stdout for what is written to `results_stream`; all else that is printed in the block goes to stderr.

    That is what plugins and libraries print, in Python or in C, and the processes that they or we start.
    """
    global _results
    outer = sys.stdout
    with contextlib.ExitStack() as stack:
        _results = stack.enter_context(_stdout_apart(outer)) if _is_of_process(outer) else outer
        sys.stdout = sys.stderr
        try:
            yield
        finally:
            sys.stdout, _results = outer, None


def _is_of_process(stream: TextIO) -> bool:
    """Whether it is the stdout of this process, and none that a test or a notebook put in its place."""
    try:
        return stream.fileno() == _STDOUT and sys.stderr.fileno() != _STDOUT
    except (AttributeError, OSError, ValueError):
        return False


@contextlib.contextmanager
def _stdout_apart(stdout: TextIO) -> Iterator[TextIO]:
    """Let the descriptor of stdout be that of stderr; yields a stream to where it led before."""
    stdout.flush()
    _flush_streams_of_c()
    descriptor = os.dup(_STDOUT)
    os.dup2(sys.stderr.fileno(), _STDOUT)
    with open(descriptor, "w", encoding=stdout.encoding, errors=stdout.errors) as results:
        try:
            yield results
        finally:
            _flush_streams_of_c()
            os.dup2(descriptor, _STDOUT)
            try:
                results.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)  # drops what is left in the buffer
                raise


def _flush_streams_of_c() -> None:
    """Write what libraries in C have printed and is still in their buffer, where that can be asked for."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # Windows has no library of the process itself
        ctypes.CDLL(None).fflush(None)


class UnwritableOutput(Exception):
    """Standard output cannot be written; the argument is the reason."""


@contextlib.contextmanager
def flushed_output() -> Iterator[None]:
    """Write what is left in the buffer of stdout at the end of the block.

    Raises:
        UnwritableOutput: if that fails, for example on a full disk.
        BrokenPipeError: if the reader has exited.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is not None or not _is_unwritable():
            raise
        raise UnwritableOutput(error.strerror) from error


def _is_unwritable() -> bool:
    """Return whether stdout takes nothing more; if so, drop what is in its buffer."""
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
