"""Names of strategies and models in recipes, derived from class names."""

from __future__ import annotations

import re


def snake_case(class_name: str) -> str:
    """Return a class name in snake case: `ConfusionMirror` becomes `confusion_mirror`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", class_name).lower()
