"""The JSON Schema of recipe files, for editors and other validators."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticUserError

from fer_augment.hooks.networks import Model
from fer_augment.hooks.plugin_manager import Catalog
from fer_augment.recipe.files import FILE_KEYS
from fer_augment.recipe.recipe import Recipe

_IN_FILE = r"\.py:\w+$"
"""Names of strategies, networks and losses in a file."""


def recipe_json_schema(catalog: Catalog) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a recipe file, with the parameters of installed strategies and networks."""
    schema = Recipe.model_json_schema(mode="validation")
    properties, definitions = schema["properties"], schema["$defs"]
    del definitions["StrategyStep"], definitions["ModelChoice"], schema["required"]
    loss = definitions["TrainingSettings"]["properties"]["loss"]
    installed = {"type": "string", "enum": [offer.name for offer in catalog.of_kind("loss")]}
    loss["anyOf"] = [installed, {"type": "string", "pattern": _IN_FILE}]
    properties["model"] = {
        **_choice_schema("model", catalog, definitions),
        "description": properties["model"]["description"],
    }
    properties["strategies"]["items"] = _choice_schema("strategy", catalog, definitions)
    properties["extends"] = {"type": "string", "description": FILE_KEYS["extends"]}
    names = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    properties["without"] = {**names, "description": FILE_KEYS["without"]}
    schema["anyOf"] = [{"required": ["model"]}, {"required": ["extends"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _choice_schema(kind: str, catalog: Catalog, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a step or of the network; add the definitions that their parameters refer to."""
    prefix = "" if kind == "strategy" else f"{kind}."
    parameters = {offer.name: _parameter_schema(offer.value, prefix + offer.name) for offer in catalog.of_kind(kind)}
    bare = [name for name, schema in parameters.items() if kind == "model" or not schema.get("required")]
    for name, schema in parameters.items():
        inner = schema.pop("$defs", {})
        definitions.update({f"{prefix}{name}.{definition}": value for definition, value in inner.items()})
        definitions[prefix + name] = schema
        if kind == "model":  # the parent of a recipe may set it
            schema.pop("required", None)
    named = {
        "type": "object",
        "properties": {
            name: {"anyOf": [{"$ref": f"#/$defs/{prefix}{name}"}, *[{"type": "null"}] * (name in bare)]}
            for name in parameters
        },
        "patternProperties": {_IN_FILE: {"type": ["object", "null"]}},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {"anyOf": [{"enum": bare}, {"type": "string", "pattern": _IN_FILE}, named]}


def _parameter_schema(declared: type[BaseModel] | Model, definition: str) -> dict[str, Any]:
    """Return the schema of the parameters of a strategy or a network."""
    if isinstance(declared, Model):
        return {"type": "object", "additionalProperties": False}
    try:
        schema: dict[str, Any] = declared.model_json_schema(ref_template=f"#/$defs/{definition}.{{model}}")
        return schema
    except PydanticUserError:  # a parameter whose type has no JSON Schema
        return {"type": "object"}
