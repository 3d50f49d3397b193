"""A check of strategies that keep their work in the cache."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from fer_augment.hooks.stages import STAGES
from fer_augment.testing.fixtures import with_reversed_counts
from fer_augment.testing.stages import arguments_of, same
from fer_augment.testing.subject import Subject


def caches_under_honest_keys(subject: Subject) -> Iterator[str]:
    """What `context.cached` returns is the same work whether it was done before or not, with any data and seed."""
    with tempfile.TemporaryDirectory() as name:
        shared = _Shared(Path(name))
        stages = [stage for stage in subject.stages if not STAGES[stage].is_per_batch]
        for stage in stages:
            for data in subject.datasets:
                for arguments in arguments_of(stage, data):
                    arguments.fold(subject.build(), cached=shared)
        others = [with_reversed_counts(data) for data in subject.datasets[:1]]  # for values per class
        for stage in stages if shared.folders else ():
            for data in (*subject.datasets, *others):
                for seed in (0, 1):
                    for arguments in arguments_of(stage, data):
                        alone = arguments.outcome(subject.build(), seed=seed)
                        if not same(alone, arguments.outcome(subject.build(), seed=seed, cached=shared)):
                            yield (
                                f"{stage}: a folder of context.cached is found again for other work; add what decides "
                                "it to the key, such as training_set.fingerprint and context.seed"
                            )


class _Shared:
    """A cache for all runs of the check, by key alone: instances of the check have equal parameters."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders: dict[str, Path] = {}

    def __call__(self, key: str, make: Callable[[Path], None]) -> Path:
        if key not in self.folders:
            folder = Path(tempfile.mkdtemp(dir=self.root))
            make(folder)
            self.folders[key] = folder
        return self.folders[key]
