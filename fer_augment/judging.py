"""Verdicts for predictions of any trainer: no torch, no training, only files with one row per image.

```python
import fer_augment as fa

comparison = fa.judge("predictions/*.csv", baseline="plain", pattern="{arm}_seed{seed}.csv")
comparison                    # in a notebook: verdicts and the recall table
```
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np

from fer_augment.errors import PredictionError, RunError, did_you_mean, excerpt
from fer_augment.finished import Comparison
from fer_augment.reports.console import print_warnings, progress_of
from fer_augment.results.comparison import Against, ComparisonRecord, save_comparison
from fer_augment.results.earlier import keep_earlier
from fer_augment.results.judgments import check_against
from fer_augment.results.predicted_arms import arms_of
from fer_augment.results.prediction_files import TableLike, read_table
from fer_augment.results.prediction_table import PredictionTable
from fer_augment.results.verdicts import compare_arms

Predictions: TypeAlias = str | PathLike[str] | TableLike
"""A file, a pattern such as `predictions/*.csv`, or columns in memory: a mapping of arrays, or a DataFrame."""

NAMED_ROLES = ("arm", "seed", "fold")
"""Roles whose value may be in the name of a file."""
_EXPECTED = "predictions must be files, or columns by name such as a DataFrame"


def judge(
    predictions: Predictions | Sequence[Predictions],
    *,
    baseline: str | None = None,
    against: Against = "baseline",
    out: str | PathLike[str] | None = None,
    pattern: str | None = None,
    columns: Mapping[str, str] | None = None,
    progress: bool = True,
) -> Comparison:
    """Compare predictions of any trainer with those of a baseline, with the tests of `compare`.

    A file has one row per test image with the columns `id`, `true` (label), `predicted` (label) or one score per class
    (`prob_CLASS` for probabilities, `logit_CLASS` for logits), `arm` and `seed`; `group` is optional and equal for
    exact duplicates. With a column `fold`, the seeds are repeats of a cross-validation. In npz files the scores are one
    array, `probabilities` or `logits`, with `classes`. Rows are matched by `id`, in any order. See docs/judge.md.

    Args:
        predictions: files in csv, tsv, JSON Lines, parquet or npz, patterns such as `predictions/*.csv`, or columns
            in memory.
        baseline: the arm that the others are compared with; with `against="all"` None is the first arm.
        against: `all` to test every two arms, with Holm's correction over all pairs.
        out: a directory for `comparison.json` and `report.html`; None to write nothing.
        pattern: where the names of files contain the arm and the seed, such as `{arm}_seed{seed}.csv`; there must be a
            separator between two of them.
        columns: names of columns that are not named after their role, by role, such as `{"true": "label"}`.
        progress: whether to show progress and warnings on stderr.

    Returns:
        The comparison. NLL and ECE exist for runs with scores, and there is no deduplicated test split, since the
        training images are unknown.

    Raises:
        FerAugmentError: if `against` is unknown, or the baseline is missing.
        PredictionError: if a file cannot be read, or does not match the others; the message names file and row.
        RunError: if results cannot be written.
    """
    check_against(against)
    if baseline is None and against == "baseline":
        raise PredictionError("baseline: name the arm that the others are compared with, or test against all")
    sources = _sources(predictions)
    unused: set[str] = set()
    with progress_of("reading predictions", quiet=not progress) as report:

        def tables() -> Iterator[tuple[PredictionTable, Mapping[str, str]]]:
            for number, (title, source) in enumerate(sources):
                named = _named(source, pattern) if pattern and isinstance(source, Path) else {}
                table = read_table(source, columns, title=title, named=tuple(named))
                unused.update(table.unused)
                yield table, named
                report(number + 1, len(sources))

        predicted = arms_of(tables())
    names = [arm.name for arm in predicted.arms]
    if baseline is None:
        baseline = names[0]
    if baseline not in names:
        raise PredictionError(f"baseline: there is no arm {excerpt(baseline)!r}{did_you_mean(baseline, names)}")
    first = predicted.arms[0]
    comparison = compare_arms(
        predicted.arms,
        baseline=baseline,
        source=_described(sources),
        fingerprint=predicted.fingerprint,
        counts={"test": np.bincount(first.test.labels, minlength=len(first.class_names))},
        warnings=predicted.warnings,
        against=against,
    )
    if progress and unused:
        print_warnings([f"columns without a role, not used: {excerpt(', '.join(sorted(unused)))}"])
    if out is None:
        return Comparison(**dict(comparison))
    return Comparison.at(_written(comparison, Path(out), progress=progress), comparison)


def _written(comparison: ComparisonRecord, directory: Path, *, progress: bool) -> Path:
    from fer_augment.reports.html import write_report

    try:
        directory.mkdir(parents=True, exist_ok=True)
        kept = keep_earlier(comparison, directory)
        save_comparison(comparison, directory)
    except OSError as error:
        raise RunError(f"{directory}: cannot be written ({error.strerror})") from error
    if kept and progress:
        print_warnings([kept])
    write_report(directory)
    return directory


# --- files and their names


def _sources(predictions: Predictions | Sequence[Predictions]) -> list[tuple[str, Path | TableLike]]:
    """Return title and source of each file and table; patterns are replaced by the files that match."""
    is_one = isinstance(predictions, str | PathLike | Mapping) or hasattr(predictions, "keys")
    try:
        given: Sequence[Predictions] = [predictions] if is_one else list(predictions)  # type: ignore[list-item, arg-type]
    except TypeError as error:
        raise PredictionError(f"{_EXPECTED}, not {excerpt(repr(predictions), 60)}") from error
    sources: list[tuple[str, Path | TableLike]] = []
    for number, one in enumerate(given, start=1):
        if isinstance(one, str | PathLike):
            sources += [(excerpt(str(path)), path) for path in _files(str(one))]
        elif hasattr(one, "keys"):
            sources.append((f"table {number}", one))
        else:
            raise PredictionError(f"{_EXPECTED}, not {excerpt(repr(one), 60)}")
    if not sources:
        raise PredictionError("no predictions given; name at least one file")
    seen: dict[Path, str] = {}
    for title, source in sources:
        if isinstance(source, Path) and seen.setdefault(source.resolve(), title) is not title:
            raise PredictionError(f"{title}: is given twice; name each file once")
    return sources


def _files(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        raise PredictionError(f"{excerpt(name)}: is a folder; name its files, such as '{excerpt(str(path / '*.csv'))}'")
    if path.exists() or not glob.has_magic(name):
        return [path]
    found = sorted(map(Path, glob.glob(name, recursive=True)))
    if not found:
        raise PredictionError(f"{excerpt(name)}: no file matches this pattern; check the path")
    return found


def _named(path: Path, pattern: str) -> dict[str, str]:
    """Return the values that the name of a file contains."""
    depth = pattern.count("/") + 1
    name = "/".join(path.parts[-depth:])
    match = _expression(pattern).fullmatch(name)
    if not match:
        suffix = Path(pattern).suffix
        hint = f", or give only files such as {excerpt(str(path.with_name(f'*{suffix}')))}"
        raise PredictionError(
            f"{excerpt(str(path))}: the name does not match the pattern {excerpt(pattern)!r}; correct one of them"
            + (hint if suffix != path.suffix else "")
        )
    values = {role: value.strip() for role, value in match.groupdict().items()}  # as the values of columns
    if values.get("arm") == "":
        raise PredictionError(f"{excerpt(str(path))}: the arm in its name is empty; write one")
    return values


def _expression(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[^{}]*\})", pattern)
    expression = ""
    for part in parts:
        role = part[1:-1] if part.startswith("{") else None
        if role is None:
            expression += re.escape(part)
        elif role not in NAMED_ROLES or f"(?P<{role}>" in expression:
            known = ", ".join(f"{{{name}}}" for name in NAMED_ROLES)
            raise PredictionError(f"pattern: {excerpt(pattern)!r}: may contain each of {known} once")
        else:
            expression += rf"(?P<{role}>{'.+' if role == 'arm' else '[0-9]+'})"
    if any(not between.strip("0123456789") for between in parts[2:-1:2]):
        raise PredictionError(
            f"pattern: {excerpt(pattern)!r}: the end of one value is not known; write a separator between, such as "
            "{arm}_{seed}, or give arm and seed as columns"
        )
    return re.compile(expression)


def _described(sources: Sequence[tuple[str, Path | TableLike]]) -> str:
    return f"predictions in {sources[0][0]}" if len(sources) == 1 else f"predictions in {len(sources)} files"
