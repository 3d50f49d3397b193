"""Tracebacks of failed runs, kept beside the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fer_augment.data.whole_files import write_whole
from fer_augment.errors import NothingFinishedError, RunError

if TYPE_CHECKING:
    from fer_augment.runs.experiment import PlannedRun


def traceback_file(directory: Path, recipe: str, seed: int) -> Path:
    """Return the file with the traceback of a run; it exists if the run failed the last time that it was done.

    Args:
        directory: the directory of results.
        recipe: name of the recipe.
        seed: the seed.
    """
    return directory / "failures" / f"{recipe}-seed-{seed}.txt"


def keep_traceback(directory: Path, run: PlannedRun, traceback: str) -> tuple[str, ...]:
    """Write the traceback of a run, and remove that of an earlier attempt.

    Returns:
        A warning if the traceback cannot be written, as on a full disk; what failed is reported without it.

    Raises:
        RunError: if that of an earlier attempt cannot be removed.
    """
    file = traceback_file(directory, run.recipe.name, run.seed)
    unwritten: tuple[str, ...] = ()
    try:
        if traceback:
            write_whole(file, traceback)
            return ()
    except OSError as error:
        unwritten = (f"{file.parent}: tracebacks of failed runs cannot be written ({error.strerror})",)
    try:
        if file.parent.is_dir():
            file.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{file}: cannot be removed ({error.strerror})") from error
    return unwritten


def with_traceback(error: NothingFinishedError, directory: Path, run: PlannedRun) -> NothingFinishedError:
    """Return an error that names the file with the traceback of a run, and has it as a note."""
    file = traceback_file(directory, run.recipe.name, run.seed)
    if not file.is_file():
        return error
    named = NothingFinishedError(f"{error} (traceback: {file})")
    named.add_note(file.read_text(encoding="utf-8"))
    return named
