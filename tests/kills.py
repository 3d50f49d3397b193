"""Kill a small comparison at random moments and repeat it: nothing is lost, and the result is that without kills.

`python -m tests.kills --kills 30 --jobs 2` tries it by hand and prints where the kills hit.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fer_augment.data.digests import DIGESTS_FILE
from fer_augment.results.checking import damages_in
from fer_augment.results.comparison import COMPARISON_FILE
from tests.comparison_place import write_place

RECIPES = ("small.yaml", "more.yaml", "mined.yaml")
_TIMES = ("training_seconds",)
"""Parts of records that differ from run to run."""


@dataclass
class Killed:
    """What happened in comparisons that were killed.

    Attributes:
        kills: how many processes were killed.
        comparisons: how many comparisons ended, each after some kills.
        runs_when_killed: for each number of finished runs, how often a kill found so many.
        faults: what was lost, damaged or different.
    """

    kills: int = 0
    comparisons: int = 0
    runs_when_killed: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def kill_comparisons(folder: Path, kills: int, jobs: int, seed: int, recipes: tuple[str, ...] = RECIPES) -> Killed:
    """Kill comparisons with SIGKILL at random moments, `kills` times in all, until each one ends; compare the results.

    Args:
        folder: an empty folder.
        kills: how many kills.
        jobs: runs at a time; every second kill leaves the worker processes alive, which then end by themselves.
        seed: of the moments.
        recipes: the arms, of `write_place`.
    """
    write_place(folder)
    rng, killed = random.Random(seed), Killed()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["fer_augment.comparing", "fer_augment.runs.plan", "fer_augment.reports.html", "torch._dynamo"]
    )
    started = time.monotonic()
    assert _compare(context, folder, "expected", jobs, recipes, seconds=None)
    duration = time.monotonic() - started
    expected = dict(_results(folder / "expected"))
    before: dict[str, str] = {}
    while killed.kills < kills:
        name = f"killed-{killed.comparisons}"
        has_ended = _compare(
            context, folder, name, jobs, recipes, rng.uniform(0.05, 0.9 * duration), bool(killed.kills % 2)
        )
        _check(folder / name, before, killed)
        if has_ended:
            _finish(folder / name, before, expected, killed)
        else:
            killed.kills += 1
            killed.runs_when_killed[len(_run_files(folder / name))] += 1
    name = f"killed-{killed.comparisons}"
    assert _compare(context, folder, name, jobs, recipes, seconds=None)
    _finish(folder / name, before, expected, killed)
    return killed


def _compare(
    context: multiprocessing.context.ForkServerContext,
    folder: Path,
    name: str,
    jobs: int,
    recipes: tuple[str, ...],
    seconds: float | None,
    leave_workers: bool = False,
) -> bool:
    """Start a comparison; kill it after some seconds. Return whether it ended by itself, with success."""
    process = context.Process(target=_work, args=(str(folder), name, jobs, recipes))
    process.start()
    process.join(seconds)
    if process.exitcode is not None:
        if process.exitcode:
            raise RuntimeError(f"the comparison {name} ended with {process.exitcode}")
        return True
    assert process.pid is not None
    (os.kill if leave_workers else os.killpg)(process.pid, signal.SIGKILL)
    process.join()
    return False


def _work(folder: str, name: str, jobs: int, recipes: tuple[str, ...]) -> None:
    os.setsid()  # the process and its workers are a group
    os.chdir(folder)
    os.environ["FER_AUGMENT_CACHE"] = f"cache-{name}"
    from fer_augment.comparing import compare
    from fer_augment.training import trainer, trainings

    # With worker processes, which import it anew, no training is long enough for a checkpoint.
    setattr(trainings, "train", functools.partial(trainer.train, seconds_between_checkpoints=0.0))  # noqa: B010 - typed
    compare(recipes, "faces", seeds=2, jobs=jobs, out=name, overrides={"training.epochs": 6}, progress=False)


def _check(out: Path, before: dict[str, str], killed: Killed) -> None:
    """Note whether a finished run was lost, changed, or is damaged."""
    now = _run_files(out)
    killed.faults += [f"{path} was lost or changed" for path, digest in before.items() if now.get(path) != digest]
    before.clear()
    before |= now
    if now:
        killed.faults += [str(damage) for damage in damages_in(out) if "report.html" not in damage.file]


def _finish(out: Path, before: dict[str, str], expected: Mapping[str, str], killed: Killed) -> None:
    results = dict(_results(out))
    killed.faults += [
        f"{out.name}: {path} differs" for path in {*expected, *results} if expected.get(path) != results.get(path)
    ]
    killed.faults += [str(damage) for damage in damages_in(out)]
    killed.comparisons += 1
    before.clear()


def _run_files(out: Path) -> dict[str, str]:
    """Return a digest of each finished run, by its path."""
    return {
        str(record.parent.relative_to(out)): hashlib.sha256(
            b"".join(file.read_bytes() for file in sorted(record.parent.rglob("*")) if file.is_file())
        ).hexdigest()
        for record in out.glob("runs/*/*/record.json")
    }


def _results(out: Path) -> Iterator[tuple[str, str]]:
    """Yield path and digest of each file of runs and of the comparison; times are left out."""
    for file in [*out.glob("runs/*/*/*"), out / COMPARISON_FILE]:
        content = file.read_bytes()
        if file.suffix == ".json":
            content = json.dumps(_without_times(json.loads(content)), sort_keys=True).encode()
        elif file.name == DIGESTS_FILE:  # the record has times
            content = b"".join(line for line in content.splitlines() if not line.endswith(b"  record.json"))
        yield str(file.relative_to(out)), hashlib.sha256(content).hexdigest()
    leftovers = [path for path in out.rglob(".*") if path.name != ".lock"]
    yield "leftovers", str(sorted(str(path.relative_to(out)) for path in leftovers if path.is_file()))


def _without_times(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_times(part) for key, part in value.items() if key not in _TIMES}
    return [_without_times(part) for part in value] if isinstance(value, list) else value


def main() -> None:
    """Kill comparisons and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        killed = kill_comparisons(Path(folder), options.kills, options.jobs, options.seed)
    at = ", ".join(f"{runs}: {count}" for runs, count in sorted(killed.runs_when_killed.items()))
    print(f"{killed.kills} kills in {killed.comparisons} comparisons with {options.jobs} runs at a time")
    print(f"kills by number of finished runs: {at}")
    print("\n".join(killed.faults) or "nothing was lost, damaged or different")
    sys.exit(bool(killed.faults))


if __name__ == "__main__":
    main()
