"""The ledger of recipes scored on each test split: the more recipes are tried, the more the best owes to chance."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from fer_augment.recipe.recipe import Recipe


@dataclass(frozen=True)
class Ledger:
    """A file for each test split, with a line for each recipe that was scored on it.

    Attributes:
        root: the directory of the files; created when needed.
    """

    root: Path

    def note(self, recipe: Recipe, scored: str) -> None:
        """Record that a recipe is scored on rows with a digest; names and descriptions are ignored.

        A ledger that cannot be written is no error here: see `fault`.
        """
        with suppress(OSError):
            self._note(recipe, self._file(scored))

    def fault(self, scored: str) -> str | None:
        """Return a warning if the ledger of rows with a digest cannot be read or written; None if it can."""
        file = self._file(scored)
        existing = next(path for path in (file, *file.parents) if path.exists())
        try:
            if existing == file:
                with file.open("r+b"):
                    return None
            with TemporaryFile(dir=existing):
                return None
        except OSError as error:
            return (
                f"{file}: the ledger of recipes scored on these rows cannot be written ({error.strerror}), so they "
                "are not counted"
            )

    def _note(self, recipe: Recipe, file: Path) -> None:
        entry = hashlib.sha256(recipe.model_dump_json(exclude={"name", "description", "trackers"}).encode()).hexdigest()
        if entry in self._entries(file):
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        line = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(line, f"{entry}\n".encode())  # one short write, so that lines of other processes stay intact
        finally:
            os.close(line)

    def count(self, scored: str) -> int:
        """Return how many different recipes were scored on rows with a digest; 0 if the ledger cannot be read."""
        try:
            return len(self._entries(self._file(scored)))
        except (OSError, ValueError):
            return 0

    def _file(self, scored: str) -> Path:
        return self.root / f"{scored}.txt"

    def _entries(self, file: Path) -> set[str]:
        return set(file.read_text(encoding="utf-8", errors="replace").split()) if file.exists() else set()


def ledger_warning(scored: int, arms: int) -> str | None:
    """Return a warning about the number of recipes scored on a test split; None if all are in the comparison."""
    if scored <= arms:
        return None
    return (
        f"{scored} combinations of recipe and settings have been scored on this test split with this cache: the more "
        "recipes are tried, the more the best of them owes to chance. Select recipes on the validation split."
    )
