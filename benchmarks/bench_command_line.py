"""Start-up time of the command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.side_by_side import SideBySide, children_time


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)


@pytest.mark.benchmark(timer=children_time)
@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["plugins", "list"]], ids=" ".join)
def test_start(side_by_side: SideBySide, arguments: list[str]) -> None:
    side_by_side(
        f"`fer-augment {' '.join(arguments)}`",
        ours=lambda: run("-c", "from fer_augment.cli import main; main()", *arguments),
        theirs=lambda: run("-c", "import torch"),
        alternative="`import torch`, as in any training script",
        at_most=0.4 if "--help" in arguments else None,
    )
