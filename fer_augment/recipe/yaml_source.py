"""Read YAML with the place of every value, so that errors are reported by file, line and key.

PyYAML implements YAML 1.1, where `no` and `on` are booleans, `1e-4` is text and `012` is ten. This module uses the core
schema of YAML 1.2: `no` and `on` are text, `1e-4` is a number, and only `true` and `false` are booleans. It deviates in
one point: `012` is text. YAML 1.1 reads ten, YAML 1.2 twelve, and it usually names a class. Keys are always text.
Anchors, aliases and tags are refused, so a file can neither expand nor construct objects.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from fer_augment.errors import excerpt, text_fault

Scalar: TypeAlias = str | int | float | bool | None
Keys: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """A file and a line, or a source without lines."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        """Format the place as `file:line`, which editors recognize."""
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class Fault:
    """An error in a recipe: its place, the keys that lead to it, and a message."""

    place: Place
    keys: Keys
    message: str

    def __str__(self) -> str:
        """Format the error in one line, as `place: keys: message`."""
        keys = ".".join(excerpt(str(key), 60) for key in self.keys)
        return ": ".join(part for part in (str(self.place), keys, self.message) if part)


@dataclass(frozen=True)
class Node:
    """A value with its place.

    Attributes:
        value: a scalar, a list of nodes, or a mapping from text to nodes.
        place: the place of its key in a mapping, else of the value.
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
        """Return the place of the value at the keys, or of the last one that exists."""
        if not keys:
            return self.place
        inner: dict[str | int, Node] = dict(enumerate(self.items))
        inner.update(self.entries)
        return inner[keys[0]].place_of(keys[1:]) if keys[0] in inner else self.place


def merged(under: Node, over: Node) -> Node:
    """Merge two nodes: mappings are merged recursively, key by key; any other value is replaced."""
    if not (isinstance(under.value, dict) and isinstance(over.value, dict)):
        return over
    replaced = {key: merged(under.value.get(key, node), node) for key, node in over.value.items()}
    return Node({**under.value, **replaced}, over.place)


def as_node(value: Any, place: Place) -> Node:
    """Convert plain data to nodes that all have the same place; a path becomes text, absolute."""
    if isinstance(value, dict):
        return Node({str(key): as_node(inner, place) for key, inner in value.items()}, place)
    if isinstance(value, PathLike):
        return Node(str(Path(value).absolute()), place)
    return Node([as_node(inner, place) for inner in value] if isinstance(value, list | tuple) else value, place)


def with_value(node: Node, keys: Sequence[str], value: Node) -> Node:
    """Return a mapping with another value at the keys, the first key outermost; mappings that are missing are made."""
    if not keys:
        return value
    inner = node.entries.get(keys[0], Node({}, value.place))
    return Node({**node.entries, keys[0]: with_value(inner, keys[1:], value)}, value.place)


def read_mapping(path: Path, faults: list[Fault]) -> Node | None:
    """Read a file with one YAML mapping; append errors to `faults`.

    Returns:
        The mapping; None if the file cannot be read as a mapping.
    """
    whole = Place(str(path))
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # reading a pipe would wait forever
            faults.append(Fault(whole, (), "not a regular file"))
            return None
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        faults.append(Fault(whole, (), "not UTF-8 text; save the file as UTF-8"))
        return None
    except OSError as error:
        faults.append(Fault(whole, (), f"cannot be read: {error.strerror}"))
        return None
    faults_before = len(faults)
    node = parse_yaml(text, str(path), faults)
    if len(faults) == faults_before and node.value is None:
        faults.append(Fault(whole, (), "the file is empty"))
    elif len(faults) == faults_before and not isinstance(node.value, dict):
        faults.append(Fault(node.place, (), "the file should contain `key: value` lines"))
    return node if isinstance(node.value, dict) else None


def parse_yaml(text: str, source: str, faults: list[Fault], *, has_lines: bool = True) -> Node:
    """Parse one YAML document; append errors to `faults`.

    Args:
        text: the document.
        source: name of the source of the text, for messages.
        faults: list that errors are appended to.
        has_lines: whether messages contain line numbers.

    Returns:
        The root node; its value is None if the document is empty or cannot be read.
    """
    reading = _Reading(source, has_lines, faults)
    try:
        root = _composed(text)
        return reading.node(root, reading.place(root.start_mark), ()) if root else Node(None, reading.place())
    except yaml.MarkedYAMLError as error:
        message = ", ".join(part for part in (error.context, error.problem) if part)
        faults.append(Fault(reading.place(error.problem_mark or error.context_mark), (), message))
    except yaml.reader.ReaderError as error:
        message = f"the character {chr(error.character)!a} is not allowed in YAML"
        faults.append(Fault(reading.place(), (), message))
    except RecursionError:
        faults.append(Fault(reading.place(), (), "nested too deeply"))
    return Node(None, reading.place())


def value_in_words(value: object) -> str:
    """Return a short description of an invalid value."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def dump_yaml(content: dict[str, Any]) -> str:
    """Return plain data as YAML; `parse_yaml` and YAML 1.1 parsers read the same data from it."""
    # Innermost lists and mappings are written in one line. PyYAML breaks a line only after an item beyond the width, so
    # with this width most lines fit in 80 columns.
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=60, default_flow_style=None)


class _Loader(yaml.SafeLoader):
    """Composes nodes; PyYAML never constructs objects from them."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call] # its stub has no types
        problem = None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problem = "anchors (&) and aliases (*) are not supported; repeat the value, or put the text in quotes"
        elif getattr(event, "tag", None):
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            problem = f"tags are not supported, got {tag}; write the plain value, or put the text in quotes"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Repeats values instead of writing anchors, and quotes text that YAML 1.1 or 1.2 would read as another type."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        # Line breaks other than \n are preserved in double quotes only.
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
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _CORE_SCHEMA:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(_pattern), [*_first, *[""] * (_tag == _NULL)])


@dataclass(frozen=True)
class _Reading:
    """Converts nodes of PyYAML to `Node`, and collects errors."""

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
        fault = text_fault(node.value)
        if fault:
            self.faults.append(Fault(place, keys, fault))
            return Node(node.value.replace("\0", "?").encode("utf-8", "replace").decode(), place)
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
            fault = text_fault(key)
            if fault:
                self.faults.append(Fault(place, keys, f"the key {key!a} {fault.partition(',')[0]}"))
                continue
            if key in entries:
                message = f"duplicate key; first set at {entries[key].place}"
                self.faults.append(Fault(place, (*keys, key), message))
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
        if _LEADING_ZERO.fullmatch(text):
            return text
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan")) if tag == _FLOAT else text
