"""Recipes, as files and as settings."""
