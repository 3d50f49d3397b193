"""How many recipes were ever scored on a test split: the more are tried, the more the best of them owes to luck."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from fer_augment.data.dataset import Splits
from fer_augment.recipe.recipe import Recipe


@dataclass(frozen=True)
class Ledger:
    """A file for each test split, with a line for each recipe that was scored on it.

    Attributes:
        root: the directory of the files; made when it is needed.
    """

    root: Path

    def note(self, recipe: Recipe, splits: Splits) -> None:
        """Take down that a recipe is scored on a test split; names and descriptions do not count."""
        file = self._file(splits)
        entry = hashlib.sha256(recipe.model_dump_json(exclude={"name", "description", "trackers"}).encode()).hexdigest()
        if entry in self._entries(file):
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        line = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(line, f"{entry}\n".encode())  # short and in one piece, so lines of other processes stay whole
        finally:
            os.close(line)

    def count(self, splits: Splits) -> int:
        """Return how many different recipes were scored on a test split."""
        return len(self._entries(self._file(splits)))

    def _file(self, splits: Splits) -> Path:
        return self.root / f"{splits.test.fingerprint}.txt"

    def _entries(self, file: Path) -> set[str]:
        return set(file.read_text(encoding="utf-8").split()) if file.exists() else set()


def ledger_warning(scored: int, arms: int) -> str | None:
    """Return a sentence on how many recipes a test split has seen; None if they all stand in the comparison."""
    if scored <= arms:
        return None
    return (
        f"{scored} different recipes were scored on this test split with this cache so far: the more are tried, the "
        "more the best of them owes to luck. Choose on validation."
    )
