"""Comparisons of other runs are kept when a new one is written into their directory."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fer_augment.errors import RunError
from fer_augment.results.comparison import COMPARISON_FILE, REPORT_FILE, ComparisonRecord, read_comparison
from fer_augment.results.confused_images import CONFUSED_FILE

_DIGEST_LETTERS = 8


def keep_earlier(comparison: ComparisonRecord, directory: Path) -> str | None:
    """Move the comparison in a directory into a folder of its own, if it has runs that the new one has not.

    One that cannot be read, such as that of a later version, is moved as well.

    Args:
        comparison: the comparison that will be written into the directory.
        directory: its directory.

    Returns:
        A message that names the folder; None if nothing was moved.
    """
    try:
        keys = _run_keys(read_comparison(directory))
        if keys <= _run_keys(comparison):
            return None
        kind, digested = "of other recipes or settings", "".join(sorted(keys)).encode()
    except RunError:
        if not (directory / COMPARISON_FILE).is_file():
            return None
        kind, digested = "that this version cannot read and", (directory / COMPARISON_FILE).read_bytes()
    folder = directory / "earlier" / hashlib.sha256(digested).hexdigest()[:_DIGEST_LETTERS]
    folder.mkdir(parents=True, exist_ok=True)
    for file in (COMPARISON_FILE, REPORT_FILE, CONFUSED_FILE):
        if (directory / file).is_file():
            (directory / file).replace(folder / file)
    return f"kept the comparison {kind} that {directory} held in {folder}"


def holds_runs_of(comparison: ComparisonRecord, directory: Path) -> bool:
    """Return whether the comparison in a directory has all runs of another one; False if there is none.

    Args:
        comparison: the other one.
        directory: the directory.
    """
    try:
        earlier = read_comparison(directory)
    except RunError:  # there is none, or one that cannot be read
        return False
    return _run_keys(comparison) <= _run_keys(earlier)


def _run_keys(comparison: ComparisonRecord) -> set[str]:
    return {key for arm in comparison.arms for key in arm.run_keys}
