"""The recipes of this distribution."""

from pathlib import Path

from fer_augment import RecipeFile, hookimpl


@hookimpl
def register_recipes():
    """Register all files in `recipes`."""
    return RecipeFile.all_in(Path(__file__).parent / "recipes")
