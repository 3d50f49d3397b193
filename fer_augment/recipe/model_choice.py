"""The network of a recipe, as a name or as a name with parameters."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator
from pydantic_core import PydanticKnownError

from fer_augment.recipe.files import name_and_parameters, step_label
from fer_augment.recipe.training_settings import Parameters, Text


class ModelChoice(BaseModel):
    """The network of a recipe; written as a name, or as a name with parameters: `{vgg_mini: {width: 64}}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Text = Field(
        description="Name of an installed network, or FILE.py:NAME for one in a file next to the recipe."
    )
    parameters: Parameters = Field(default={}, description="Parameters of the network.")

    @property
    def label(self) -> str:
        """The name of the network in `--set model.NAME.…`; for a file, the name in the file."""
        return step_label(self.name)

    def __str__(self) -> str:
        """Return the name and the parameters, in the notation of a recipe."""
        given = ", ".join(f"{key}: {value}" for key, value in self.parameters.items())
        return f"{self.label} ({given})" if given else self.label

    @model_validator(mode="before")
    @classmethod
    def _as_in_files(cls, choice: object) -> object:
        if isinstance(choice, ModelChoice):
            return choice
        written = name_and_parameters(choice) if isinstance(choice, str | dict) else None
        if written is None:
            raise PydanticKnownError("string_type")
        if isinstance(written, str):
            raise ValueError(written)
        return {"name": written[0], "parameters": written[1]}

    @model_serializer
    def _as_written(self) -> str | dict[str, Any]:
        return {self.name: self.parameters} if self.parameters else self.name
