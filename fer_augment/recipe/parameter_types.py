"""Descriptions of parameter types in the notation of a recipe."""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo

from fer_augment.hooks.strategy import ClassName

_WORDS = {
    Any: "any value",
    JsonValue: "any value",
    ClassName: "class name",
    bool: "true | false",
    float: "number",
    int: "whole number",
    str: "text",
    type(None): "null",
}
_LIMITS: tuple[tuple[type[Any], str, Callable[[Any], object]], ...] = (
    (annotated_types.Ge, "at least", lambda limit: limit.ge),
    (annotated_types.Gt, "above", lambda limit: limit.gt),
    (annotated_types.Le, "at most", lambda limit: limit.le),
    (annotated_types.Lt, "below", lambda limit: limit.lt),
    (annotated_types.MultipleOf, "a multiple of", lambda limit: limit.multiple_of),
    (annotated_types.MinLen, "length at least", lambda limit: limit.min_length),
    (annotated_types.MaxLen, "length at most", lambda limit: limit.max_length),
)


def type_in_words(annotation: Any) -> str:
    """Describe how a value of a type is written in a recipe, such as `[class name, …]` or `mirror | none`.

    Lists end in an ellipsis, tuples do not; alternatives are separated by `|`; a nested model is a mapping with the
    names of its fields.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None and annotation in _WORDS:
        return _WORDS[annotation]
    if origin is Annotated:
        return _with_limits(arguments[0], arguments[1:])
    if origin is Literal:
        return " | ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(map(type_in_words, arguments)))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "{" + ", ".join(f"{name}: …" for name in annotation.model_fields) + "}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "{" + ": ".join(map(type_in_words, arguments)) + ", …}"
    if origin is tuple and Ellipsis not in arguments:
        return "[" + ", ".join(map(type_in_words, arguments)) + "]"
    if isinstance(origin, type) and issubclass(origin, Collection):
        return f"[{type_in_words(arguments[0])}, …]"
    return getattr(annotation, "__name__", str(annotation))


def placeholder(annotation: Any) -> JsonValue:
    """Return what to replace by a value of a type, in the form of the value: `[CLASS NAME]` for class names."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated or origin in (Union, types.UnionType):
        return placeholder(arguments[0])
    if origin is Literal:
        return str(arguments[0])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {str(placeholder(arguments[0])): placeholder(arguments[1])}
    if isinstance(origin, type) and issubclass(origin, Collection):
        return [placeholder(argument) for argument in arguments if argument is not Ellipsis]
    return type_in_words(annotation).upper()


def limits_in_words(metadata: Iterable[object]) -> str:
    """Describe the limits in the metadata of a type or a field, such as `at least 0, below 1`."""
    limits = list(_single_limits(metadata))
    return ", ".join(
        f"{words} {value(limit)}" for limit in limits for kind, words, value in _LIMITS if isinstance(limit, kind)
    )


def _single_limits(metadata: Iterable[object]) -> Iterator[object]:
    """Split metadata that combine several limits: `Field(ge=0, le=1)` inside a type, and intervals."""
    for limit in metadata:
        if isinstance(limit, FieldInfo):
            yield from _single_limits(limit.metadata)
        elif isinstance(limit, annotated_types.GroupedMetadata):
            yield from limit
        else:
            yield limit


def _with_limits(annotation: Any, metadata: Iterable[object]) -> str:
    limits = limits_in_words(metadata)
    return f"{type_in_words(annotation)} ({limits})" if limits else type_in_words(annotation)
