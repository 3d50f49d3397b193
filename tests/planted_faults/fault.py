"""The type of a planted fault."""

from __future__ import annotations

from typing import TypeAlias

from fer_augment import Strategy

PlantedFault: TypeAlias = tuple[type[Strategy], str, str]
"""A strategy with one fault, the check that must report it, and a part of the advice."""
