"""Plugins: declarations, discovery, and the stages at which strategies act."""
