"""Trainings: the loop, and what is trained once and kept."""
