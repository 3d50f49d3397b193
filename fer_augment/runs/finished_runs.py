"""Which runs of a comparison are finished; looked up in the calling process, so that they start no other."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_augment.data.records import RunDirectory
from fer_augment.errors import RunError
from fer_augment.runs.experiment import Experiment, PlannedRun


@dataclass(frozen=True)
class FinishedRuns:
    """The state of runs on disk.

    Attributes:
        paths: for each run its directory; None for a run that is to be done.
        damaged: directories that cannot be used, with the reason.
    """

    paths: tuple[Path | None, ...]
    damaged: tuple[tuple[Path, str], ...]

    @classmethod
    def among(cls, runs: Sequence[PlannedRun], experiment: Experiment) -> FinishedRuns:
        """Look up runs; nothing is changed on disk."""
        paths: list[Path | None] = []
        damaged = []
        for run in runs:
            path = experiment.path_of(run)
            damage = RunDirectory(path).damage if path.is_dir() else None
            if damage:
                damaged.append((path, f"{damage[0]}: {damage[1]}"))
            paths.append(path if path.is_dir() and not damage else None)
        return cls(tuple(paths), tuple(damaged))

    def remove_damaged(self) -> list[str]:
        """Delete the damaged directories, so that their runs are done again.

        Returns:
            A sentence for each.

        Raises:
            RunError: if one cannot be deleted.
        """
        for path, _ in self.damaged:
            try:
                shutil.rmtree(path)
            except OSError as error:
                raise RunError(f"{path}: damaged, and cannot be deleted ({error.strerror})") from error
        return [f"{damage}; the run is done again" for _, damage in self.damaged]
