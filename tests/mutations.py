"""Random damage to files, seeded: bytes, fields and parts of JSON are changed, removed, repeated, and moved."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

_TOKENS = (
    b"", b"\0", b"\n", b"\r\n", b'"', b"'", b",", b":", b": ", b"-", b"[", b"{", b"&a ", b"*a",
    b"!!python/object:os.system ",
    b"nan", b"inf", b"-1", b"1e999", b"0x10", b"007", b"9" * 5001, b"\xff\xfe", "é".encode(), "\u202e".encode(),
    b"\x1b[31m", b"../../etc/passwd", b"/dev/zero", b"~", b"null", b"true", b"a" * 300,
)  # fmt: skip


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return the content with one to four random changes."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        content = rng.choice(_CHANGES)(content, rng)
    return content


def _flipped_bits(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 3, 30)) if content else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _without_part(content: bytes, rng: random.Random) -> bytes:
    start, end = _part(content, rng)
    return content[:start] + content[end:]


def _repeated_part(content: bytes, rng: random.Random) -> bytes:
    start, end = _part(content, rng)
    return content[:end] + content[start:end] * rng.choice((1, 2, 20)) + content[end:]


def _moved_part(content: bytes, rng: random.Random) -> bytes:
    start, end = _part(content, rng)
    part, rest = content[start:end], content[:start] + content[end:]
    place = rng.randint(0, len(rest))
    return rest[:place] + part + rest[place:]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randint(0, len(content))]


def _with_token(content: bytes, rng: random.Random) -> bytes:
    start, end = _part(content, rng) if rng.random() < 0.5 else (rng.randint(0, len(content)),) * 2
    return content[:start] + rng.choice(_TOKENS) + content[end:]


def _in_the_first_bytes(content: bytes, rng: random.Random) -> bytes:
    """Change the first 200 bytes, where most formats have their header."""
    change: Callable[[bytes, random.Random], bytes] = rng.choice((_flipped_bits, _without_part, _with_token))
    return change(content[:200], rng) + content[200:]


def _part(content: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randint(0, len(content))
    return start, min(len(content), start + rng.choice((1, 2, 8, 40, 400)))


_CHANGES = (
    _flipped_bits, _without_part, _repeated_part, _moved_part, _cut, _with_token, _with_token, _in_the_first_bytes,
)  # fmt: skip

_VALUES: tuple[object, ...] = (
    None, True, 0, -1, 1, 2**63, 10**30, 0.5, -0.0, 1e308, 5e-324, 1e-300, "", "a", "better", "\x1b[31m", "=1+1",
    "é" * 3, "\ud800", "a" * 5000, [], {}, [[]], {"": 0}, ["ant"], [1, 2, 3],
)  # fmt: skip


def mutated_json(value: Any, rng: random.Random) -> Any:
    """Return a JSON value with one to three random changes of its parts: replaced, removed, repeated or renamed."""
    changed = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(changed))
        if not places:
            return changed
        parent, key = rng.choice(places)
        change = rng.randrange(4)
        if change == 0:
            parent[key] = copy.deepcopy(rng.choice(_VALUES))
        elif change == 1:
            del parent[key]
        elif change == 2:
            other, place = rng.choice(places)
            parent[key] = copy.deepcopy(other[place])
        elif isinstance(parent, list):
            parent.insert(rng.randint(0, len(parent)), copy.deepcopy(parent[key]))
        else:
            parent[rng.choice(("ant", "x", f"{key}x"))] = parent.pop(key)
    return changed


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each part of a JSON value as its container and key."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(children):
        yield value, key
        yield from _places(child)
