"""Recipes: reading files, validation, and the plugins they name."""
