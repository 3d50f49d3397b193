"""Smoke test of an installation, run with its interpreter: the command line, the plugins, and a comparison of a second.

It imports nothing of the source tree.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMPARISON = ["compare", "demo", "demo_balanced", "--data", "demo", "--seeds", "2", "--jobs", "2", "--track", "csv"]
SHORT = ["--set", "training.epochs=1", "--out", "results"]


def command(*arguments: str) -> str:
    """Run a command; return what it prints."""
    script = Path(sys.executable).with_name("fer-augment" + (".exe" if sys.platform == "win32" else ""))
    done = subprocess.run([str(script), *arguments], capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, f"fer-augment {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def main() -> None:
    """Run the smoke test in a temporary directory."""
    started = time.monotonic()
    version = command("--version").split()[-1]
    listed = json.loads(command("plugins", "list", "--json"))
    assert listed["problems"] == [], listed["problems"]
    assert "modern_balanced" in command("recipes", "list")
    command("recipes", "check", "modern_balanced")
    assert "no evidence" in command(*COMPARISON, *SHORT) or "better" in command(*COMPARISON, *SHORT)
    import fer_augment

    assert fer_augment.__version__ == version
    comparison = fer_augment.load_comparison("results")
    assert [len(runs) for runs in comparison.runs.values()] == [2, 2]
    assert Path("results/report.html").stat().st_size > 10_000
    assert len(Path("results/curves.csv").read_text(encoding="utf-8").splitlines()) > 4
    seconds = time.monotonic() - started
    print(f"fer_augment {version} on Python {platform.python_version()}, {sys.platform}: OK ({seconds:.0f} s)")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["FER_AUGMENT_CACHE"] = str(Path(scratch) / "cache")
        os.chdir(scratch)
        main()
        os.chdir(os.path.expanduser("~"))
