"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("shared machine", deadline=None)  # other processes may delay an example
settings.load_profile("shared machine")
