"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("shared machine", deadline=None)  # an example may have to wait for its turn
settings.load_profile("shared machine")
