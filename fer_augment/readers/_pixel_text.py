"""Numbers from 0 to 255 out of text such as `70 80 82`, many rows at a time.

The fast way treats the text of many rows as one array of bytes. It knows single spaces and one to three
digits, which is what programs write; it refuses anything else, and the exact way then reads row by row, or
says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SPACE = np.uint8(ord(" "))
_ZERO = np.uint8(ord("0"))


def parse_rows(rows: Sequence[bytes], count: int) -> NDArray[np.uint8] | None:
    """Read rows of pixels the fast way.

    Args:
        rows: the text of each row, n of them.
        count: how many pixels each row has.

    Returns:
        `(n, count) uint8`, or None when a row is not `count` numbers of 0 … 255 with single spaces between.
    """
    # Three spaces in front, so that three bytes end at the end of every number, at the place of the space after it.
    text = np.frombuffer(b"   " + b" ".join(rows) + b" ", dtype=np.uint8)
    is_space = text == _SPACE
    spaces = np.flatnonzero(is_space[3:])
    row_ends = np.cumsum([len(row) + 1 for row in rows]) - 1
    if len(spaces) != len(rows) * count or not np.array_equal(spaces[count - 1 :: count], row_ends):
        return None
    # Subtraction wraps round, so that whatever is no digit becomes large.
    digits = text - _ZERO
    is_digit = digits <= 9
    if np.count_nonzero(is_digit) + len(spaces) + 3 != len(text) or (is_space[2:-1] & is_space[3:]).any():
        return None
    digits *= is_digit
    values = _three_bytes(digits[:-1], is_digit[:-1])
    return None if values is None else values.take(spaces).reshape(len(rows), count)


def _three_bytes(digits: NDArray[np.uint8], is_digit: NDArray[np.bool_]) -> NDArray[np.uint8] | None:
    """Return the number that ends at each byte but the first two; None if one has four digits or is above 255.

    Args:
        digits: `(n,)`, 0 where there is none.
        is_digit: `(n,)`.
    """
    two = is_digit[1:-1] & is_digit[2:]
    hundreds = digits[:-2] * two
    if (two[2:] & two[:-2]).any() or hundreds.max(initial=0) > 2:
        return None
    values = digits[1:-1] * np.uint8(10)
    values += digits[2:]
    hundreds *= np.uint8(100)
    values += hundreds  # wraps round above 255, and only there becomes less than its hundreds
    return None if (values < hundreds).any() else values


def parse_row(row: bytes) -> NDArray[np.uint8]:
    """Read one row of pixels exactly: decimal numbers with white space between them.

    Returns:
        `(count,) uint8`.

    Raises:
        ValueError: if a number is not one of 0 … 255; the message says which.
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
    """Let glibc keep the memory of the scratch arrays from one block of rows to the next.

    Freeing one large array raises the size from which it hands memory back to the system; else every block
    pays for fresh pages, which made the whole of FER2013 take half as long again.
    """
    np.empty(1 << 24, dtype=np.uint8)


def _excerpt(text: bytes) -> str:
    """Return a quoted text, cut where it is long, without control characters."""
    return ascii(text[:20].decode("utf-8", "replace")) + ("…" if len(text) > 20 else "")
