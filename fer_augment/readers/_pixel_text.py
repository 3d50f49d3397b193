"""Parsing of pixel values (0 … 255) from text such as `70 80 82`, many rows at a time.

The fast path treats the text of many rows as one array of bytes. It supports single spaces and numbers of one to three
digits, as written by programs, and rejects anything else; the slow path then parses row by row and reports errors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SPACE = np.uint8(ord(" "))
_ZERO = np.uint8(ord("0"))


def parse_rows(rows: Sequence[bytes], count: int) -> NDArray[np.uint8] | None:
    """Parse rows of pixels with the fast path.

    Args:
        rows: text of n rows.
        count: number of pixels per row.

    Returns:
        `(n, count) uint8`, or None if a row is not `count` numbers in 0 … 255 separated by single spaces.
    """
    # With three leading spaces, the values of the three bytes before every space are the value of its number.
    text = np.frombuffer(b"   " + b" ".join(rows) + b" ", dtype=np.uint8)
    is_space = text == _SPACE
    spaces = np.flatnonzero(is_space[3:])
    row_ends = np.cumsum([len(row) + 1 for row in rows]) - 1
    if len(spaces) != len(rows) * count or not np.array_equal(spaces[count - 1 :: count], row_ends):
        return None
    # Subtraction wraps around, so that all bytes except digits become greater than 9.
    digits = text - _ZERO
    is_digit = digits <= 9
    if np.count_nonzero(is_digit) + len(spaces) + 3 != len(text) or (is_space[2:-1] & is_space[3:]).any():
        return None
    digits *= is_digit
    values = _three_bytes(digits[:-1], is_digit[:-1])
    return None if values is None else values.take(spaces).reshape(len(rows), count)


def _three_bytes(digits: NDArray[np.uint8], is_digit: NDArray[np.bool_]) -> NDArray[np.uint8] | None:
    """Return the number ending at each byte except the first two; None if one has four digits or exceeds 255.

    Args:
        digits: `(n,) uint8`, 0 where the byte is not a digit.
        is_digit: `(n,) bool`.
    """
    two = is_digit[1:-1] & is_digit[2:]
    hundreds = digits[:-2] * two
    if (two[2:] & two[:-2]).any() or hundreds.max(initial=0) > 2:
        return None
    values = digits[1:-1] * np.uint8(10)
    values += digits[2:]
    hundreds *= np.uint8(100)
    values += hundreds  # a number above 255 wraps around and is then less than its hundreds
    return None if (values < hundreds).any() else values


def parse_row(row: bytes) -> NDArray[np.uint8]:
    """Parse one row of pixels: decimal numbers separated by any white space.

    Returns:
        `(count,) uint8`.

    Raises:
        ValueError: if a value is not a number in 0 … 255; the message names it.
    """
    numbers = row.split()
    evenly_spaced = parse_rows([b" ".join(numbers)], len(numbers))
    if evenly_spaced is not None:
        return evenly_spaced.reshape(-1)
    for position, number in enumerate(numbers, start=1):
        if not re.fullmatch(rb"0*[0-9]{1,3}", number) or int(number) > 255:
            raise ValueError(f"pixel {position} is {_excerpt(number)}, not a number from 0 to 255")
    return np.array([int(number) for number in numbers], dtype=np.uint8)


def keep_freed_memory() -> None:
    """Make glibc keep the memory of temporary arrays from one block of rows to the next.

    Freeing one large array raises glibc's threshold for returning memory to the system. Without this, every block
    allocates new pages, and reading FER2013 takes 1.5 times as long.
    """
    np.empty(1 << 24, dtype=np.uint8)


def _excerpt(text: bytes) -> str:
    """Return the text quoted, truncated and with control characters escaped."""
    return ascii(text[:20].decode("utf-8", "replace")) + ("…" if len(text) > 20 else "")
