"""Build wheels from a copy of a project, so that the checkout is not changed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

NOT_SOURCE = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist")


def build_wheel(project: Path, parts: Sequence[str], scratch: Path) -> Path:
    """Build the wheel of a project from the given files and folders, offline."""
    copy = scratch / "project"
    for part in parts:
        source, target = project / part, copy / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=NOT_SOURCE)
        else:
            shutil.copyfile(source, target)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(scratch / "dist"), str(copy)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (scratch / "dist").glob("*.whl")
    return wheel
