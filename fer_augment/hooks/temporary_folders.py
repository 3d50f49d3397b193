"""Folders for the work of strategies where there is no cache: they exist until the process ends."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def made_in_temporary_folder(key: str, make: Callable[[Path], None]) -> Path:
    """Do the work in a new folder, whatever the key; see `Context.cached`."""
    folder = Path(tempfile.mkdtemp(prefix="fer_augment-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    make(folder)
    return folder
