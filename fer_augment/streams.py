"""Standard streams that cannot show every character, or cannot be written."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from collections.abc import Iterator

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
    """Let stdout and stderr take every character, whatever their encoding."""
    codecs.register_error(_HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # not of a stream that a test puts in its place
        if reconfigure:
            reconfigure(errors=_HANDLER)


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
