"""The JSON Schema of recipe files, for editors and other validators."""

from __future__ import annotations

from typing import Any

from pydantic.errors import PydanticUserError

from fer_augment.hooks.plugin_manager import Catalog
from fer_augment.hooks.strategy import Strategy
from fer_augment.recipe.files import FILE_KEYS
from fer_augment.recipe.recipe import Recipe


def recipe_json_schema(catalog: Catalog) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a recipe file, with the parameters of every installed strategy."""
    schema = Recipe.model_json_schema()
    properties, definitions = schema["properties"], schema["$defs"]
    del definitions["StrategyStep"], schema["required"]
    training = definitions["TrainingSettings"]["properties"]
    for kind, place in (("model", properties["model"]), ("loss", training["loss"])):
        place["enum"] = [offer.name for offer in catalog.of_kind(kind)]
    properties["strategies"]["items"] = _step_schema(catalog, definitions)
    properties["extends"] = {"type": "string", "description": FILE_KEYS["extends"]}
    names = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    properties["without"] = {**names, "description": FILE_KEYS["without"]}
    schema["anyOf"] = [{"required": ["model"]}, {"required": ["extends"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _step_schema(catalog: Catalog, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a step; add the definitions that the parameters of strategies refer to."""
    parameters = {offer.name: _parameter_schema(offer.value) for offer in catalog.of_kind("strategy")}
    for name, schema in parameters.items():
        inner = schema.pop("$defs", {})
        definitions.update({f"{name}.{definition}": value for definition, value in inner.items()})
        definitions[name] = schema
    bare = [name for name, schema in parameters.items() if not schema.get("required")]
    in_file = r"\.py:\w+$"
    named_step = {
        "type": "object",
        "properties": {
            name: {"anyOf": [{"$ref": f"#/$defs/{name}"}, *[{"type": "null"}] * (name in bare)]} for name in parameters
        },
        "patternProperties": {in_file: {"type": ["object", "null"]}},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {"anyOf": [{"enum": bare}, {"type": "string", "pattern": in_file}, named_step]}


def _parameter_schema(strategy_class: type[Strategy]) -> dict[str, Any]:
    try:
        name = strategy_class.strategy_name()
        return strategy_class.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
    except PydanticUserError:  # a parameter whose type has no JSON Schema
        return {"type": "object"}
