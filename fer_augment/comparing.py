"""Comparing recipes: prepare a comparison, run it, and judge every arm against the baseline."""
