"""YAML as a person means it, with the place of everything, so that a fault is told by file, line and key.

PyYAML follows YAML 1.1, where `no` and `on` are booleans, `1e-4` is text and `012` is ten. Here the core
schema of YAML 1.2 holds: `no` and `on` are text, `1e-4` is a number, `012` is twelve, and only `true` and
`false` are booleans. Keys are always text. Anchors, aliases and tags are refused: nothing in a file can grow
or build objects.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

Scalar: TypeAlias = str | int | float | bool | None
Keys: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """Where something was written: a file and a line, or a source that has no lines."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        """Write the place as editors read it."""
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class Fault:
    """What is wrong, where, under which keys."""

    place: Place
    keys: Keys
    what: str

    def __str__(self) -> str:
        """Say it in one line."""
        keys = ".".join(map(str, self.keys))
        return ": ".join(part for part in (str(self.place), keys, self.what) if part)


@dataclass(frozen=True)
class Node:
    """A value that knows its place.

    Attributes:
        value: a scalar, a list of nodes, or a mapping from text to nodes.
        place: the line of its key in a mapping, or else its own.
    """

    value: Scalar | list[Node] | dict[str, Node]
    place: Place

    @property
    def entries(self) -> dict[str, Node]:
        """The entries of a mapping; none for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The items of a list; none for anything else."""
        return self.value if isinstance(self.value, list) else []

    def plain(self) -> Any:
        """Return the value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def place_of(self, keys: Keys) -> Place:
        """Return the place of what stands under the keys, or of the last of them that is there."""
        if not keys:
            return self.place
        inner: dict[str | int, Node] = dict(enumerate(self.items))
        inner.update(self.entries)
        return inner[keys[0]].place_of(keys[1:]) if keys[0] in inner else self.place


def merged(under: Node, over: Node) -> Node:
    """Lay one node over another: mappings are merged key by key, at every depth; all else is replaced."""
    if not (isinstance(under.value, dict) and isinstance(over.value, dict)):
        return over
    laid = {key: merged(under.value.get(key, node), node) for key, node in over.value.items()}
    return Node({**under.value, **laid}, over.place)


def nested(keys: Sequence[str], value: Node) -> Node:
    """Wrap a node into mappings, the first key outermost."""
    for key in reversed(keys):
        value = Node({key: value}, value.place)
    return value


def read_mapping(path: Path, faults: list[Fault]) -> Node | None:
    """Read a file that holds one YAML mapping; what is wrong with it is added to `faults`.

    Returns:
        The mapping; None if the file cannot be read as one.
    """
    whole = Place(str(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        faults.append(Fault(whole, (), "not UTF-8 text; save the file as UTF-8"))
        return None
    except OSError as error:
        faults.append(Fault(whole, (), f"cannot be read: {error.strerror}"))
        return None
    known = len(faults)
    node = parse_yaml(text, str(path), faults)
    if len(faults) == known and node.value is None:
        faults.append(Fault(whole, (), "the file is empty"))
    elif len(faults) == known and not isinstance(node.value, dict):
        faults.append(Fault(node.place, (), "the file should hold `key: value` lines"))
    return node if isinstance(node.value, dict) else None


def parse_yaml(text: str, source: str, faults: list[Fault], *, has_lines: bool = True) -> Node:
    """Parse one YAML document; what is wrong with it is added to `faults`.

    Args:
        text: the document.
        source: names where the text comes from.
        faults: grows by what is wrong.
        has_lines: whether line numbers mean something to the reader of a fault.

    Returns:
        What was read; a node without a value for an empty or unreadable document.
    """
    reading = _Reading(source, has_lines, faults)
    try:
        root = _composed(text)
        return reading.node(root, reading.place(root.start_mark), ()) if root else Node(None, reading.place())
    except yaml.MarkedYAMLError as error:
        told = ", ".join(part for part in (error.context, error.problem) if part)
        faults.append(Fault(reading.place(error.problem_mark or error.context_mark), (), told))
    except yaml.reader.ReaderError as error:
        told = f"the character {chr(error.character)!a} is not allowed in YAML"
        faults.append(Fault(reading.place(), (), told))
    except RecursionError:
        faults.append(Fault(reading.place(), (), "nested too deeply"))
    return Node(None, reading.place())


def shown(value: object) -> str:
    """Say in a few words what was given in the place of something else."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    told = str(value).lower() if isinstance(value, bool) else repr(value)
    return told if len(told) <= 60 else f"{told[:60]}…"


def dump_yaml(content: dict[str, Any]) -> str:
    """Write plain data as YAML that `parse_yaml`, and a YAML 1.1 parser too, reads back as the same data."""
    # Innermost lists and mappings stand in one line, as people write them. A line is broken after an item beyond the
    # width, so that most lines fit a terminal of 80 columns.
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=60, default_flow_style=None)


class _Loader(yaml.SafeLoader):
    """Composes nodes; nothing is ever constructed from them by PyYAML."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call] # its stub has no types
        told = None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            told = "anchors (&) and aliases (*) are not read; write the value out, or put the text in quotes"
        elif getattr(event, "tag", None):
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            told = f"tags are not read, found {tag}; write the plain value, or put the text in quotes"
        if told:
            raise yaml.MarkedYAMLError(problem=told, problem_mark=event.start_mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Repeats values instead of writing anchors, and quotes text that YAML 1.1 or 1.2 would take for more."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        # Line breaks other than \n survive in double quotes only.
        return self.represent_scalar("tag:yaml.org,2002:str", text, None if text.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_text)


_NULL, _BOOL, _INT, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))
_CORE_SCHEMA: Sequence[tuple[str, str, str]] = (
    (_NULL, r"(?:~|null|Null|NULL|)\Z", "~nN"),
    (_BOOL, r"(?:true|True|TRUE|false|False|FALSE)\Z", "tTfF"),
    (_INT, r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z", "-+0123456789"),
    (
        _FLOAT,
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z",
        "-+.0123456789",
    ),
)
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _CORE_SCHEMA:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(_pattern), [*_first, *[""] * (_tag == _NULL)])


@dataclass(frozen=True)
class _Reading:
    """Turns the nodes of PyYAML into ours, and notes what is wrong with them."""

    source: str
    has_lines: bool
    faults: list[Fault]

    def place(self, mark: yaml.Mark | None = None) -> Place:
        return Place(self.source, mark.line + 1 if mark and self.has_lines else None)

    def node(self, node: yaml.Node, place: Place, keys: Keys) -> Node:
        if isinstance(node, yaml.MappingNode):
            return Node(self.entries(node, keys), place)
        if isinstance(node, yaml.SequenceNode):
            places = [self.place(item.start_mark) for item in node.value]
            return Node([self.node(item, places[i], (*keys, i)) for i, item in enumerate(node.value)], place)
        try:
            return Node(_scalar(node.tag, node.value), place)
        except ValueError:
            self.faults.append(Fault(place, keys, f"a number of {len(node.value)} digits is too long"))
            return Node(None, place)

    def entries(self, node: yaml.MappingNode, keys: Keys) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for key_node, value_node in node.value:
            place = self.place(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                self.faults.append(Fault(place, keys, "a key should be a word, not a list or a mapping"))
                continue
            key = key_node.value
            if key in entries:
                told = f"given twice; it already stands at {entries[key].place}"
                self.faults.append(Fault(place, (*keys, key), told))
            entries[key] = self.node(value_node, place, (*keys, key))
        return entries


def _composed(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _scalar(tag: str, text: str) -> Scalar:
    if tag == _NULL:
        return None
    if tag == _BOOL:
        return text.lower() == "true"
    if tag == _INT:
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan")) if tag == _FLOAT else text
