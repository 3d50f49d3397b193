"""Temporary folders that are removed with the object that needs them, or when the process ends."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path


def scratch_folder(owner: object) -> Path:
    """Create a temporary folder that lives as long as its owner."""
    folder = Path(tempfile.mkdtemp(prefix="fer_augment_check_"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder
