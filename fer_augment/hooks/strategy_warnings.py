"""Warnings that strategies give while they work, collected for the record of a run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fer_augment.errors import StrategyWarning


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect the messages of each `StrategyWarning`, once each, in a list; other warnings are shown as usual."""
    messages: list[str] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=StrategyWarning)
        show = warnings.showwarning

        def collect(message: Warning | str, category: type[Warning], *where: Any, **others: Any) -> None:
            if not issubclass(category, StrategyWarning):
                show(message, category, *where, **others)
            elif str(message) not in messages:
                messages.append(str(message))

        warnings.showwarning = collect
        yield messages
