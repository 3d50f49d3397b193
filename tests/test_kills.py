"""A comparison that is killed loses nothing; `python -m tests.kills` tries it many times."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.kills import kill_comparisons


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_comparisons_end_with_the_same_bytes(tmp_path: Path) -> None:
    killed = kill_comparisons(tmp_path, kills=2, jobs=1, seed=0, recipes=("mined.yaml",))
    assert killed.kills == 2 and killed.comparisons >= 1
    assert killed.faults == []
