"""The files of a distribution with a tracker."""

from __future__ import annotations

from fer_augment.scaffold.common import INSTALL, PYPROJECT

_TRACKER = '''\
"""The tracker `$name`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fer_augment import Comparison, RunIdentity, Tracker, hookimpl


class $class_name:
    """Append a line to `$name.txt` for each run, and one for the comparison."""

    def __init__(self, out: Path) -> None:
        """Remember the directory of results; write nothing before the first event."""
        self.file = out / "$name.txt"

    @hookimpl
    def run_finished(self, run: RunIdentity, scores: Mapping[str, float]) -> None:
        """Write the balanced accuracy on the test split."""
        self._write(f"{run.recipe}, seed {run.seed}: {scores['test_balanced_accuracy']:.3f}")

    @hookimpl
    def run_failed(self, run: RunIdentity, message: str) -> None:
        """Write the reason."""
        self._write(f"{run.recipe}, seed {run.seed}: failed: {message}")

    @hookimpl
    def comparison_finished(self, comparison: Comparison) -> None:
        """Write the verdict on each arm."""
        for versus in comparison.versus:
            self._write(f"{versus.recipe}: {versus.balanced_accuracy.verdict}")

    def _write(self, line: str) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            print(line, file=file)


TRACKER = Tracker("$name", "writes a line for each run to $name.txt", $class_name)


@hookimpl
def register_trackers() -> Sequence[Tracker]:
    """Register the tracker of this module."""
    return [TRACKER]
'''

_RECIPE = """\
# fer-augment run $name.yaml --data demo --out results/$name
#
# This recipe is `demo`, with the tracker $name. In place of this recipe, `--track $name` adds the tracker to any
# comparison.
extends: demo
description: "The recipe demo, followed by the tracker $name."
trackers: [$name]
"""

_TESTS = '''\
"""The tracker passes the conformity kit and does what its docstring says."""

from pathlib import Path

from fer_augment import RunIdentity, Tracker
from fer_augment.testing import PluginCheck, parametrize_with_tracker_checks

from $module import TRACKER


@parametrize_with_tracker_checks([TRACKER])
def test_conforms(tracker: Tracker, check: PluginCheck) -> None:
    check(tracker)


# This test is about the tracker of the template: replace it by one about yours.
def test_each_run_has_a_line(tmp_path: Path) -> None:
    observer = TRACKER.make(tmp_path)
    assert not list(tmp_path.iterdir())
    observer.run_finished(RunIdentity(recipe="demo", seed=3, key="k"), {"test_balanced_accuracy": 0.5})
    assert (tmp_path / "$name.txt").read_text() == "demo, seed 3: 0.500\\n"
'''

_README = f"""\
# $name

A tracker for fer_augment, which recipes select with `trackers: [$name]`, and all commands that train with
`--track $name`. The template in `$module.py` writes a line for each run; replace it by yours, and the second
test in `tests/test_$name.py` by one about it.

{INSTALL}
Follow a run on synthetic faces:

```
fer-augment recipes check $name.yaml
fer-augment run $name.yaml --data demo --out results/$name
```
"""

FILES = {
    "$module.py": ("the tracker: edit this file", _TRACKER),
    "$name.yaml": ("a recipe that uses it", _RECIPE),
    "tests/test_$name.py": ("tests: the conformity kit, and one for the tracker", _TESTS),
    "pyproject.toml": ("the distribution and its entry point", PYPROJECT),
    "README.md": ("how to install, check and use it", _README),
}
"""The purpose and the template of each file."""
