"""Plugins: what they declare, how they are found, and when they are called."""
