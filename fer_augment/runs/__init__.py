"""Runs: what they are, where they are done, and what they leave."""
