"""`python -m benchmarks judging`: wall time and peak memory of `fa.judge` for predictions of any size."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

import fer_augment as fa
from benchmarks.peak_memory import peak_memory_of

PATTERN = "{arm}_seed{seed}.npz"
BASELINE = "arm0"


def write_predictions(folder: Path, arms: int, seeds: int, images: int, classes: int, *, scores: bool = False) -> None:
    """Write an npz file for each run, with rows in another order each; the arms are better by a point each.

    Args:
        folder: an existing folder.
        arms: number of arms.
        seeds: number of runs of each arm.
        images: number of test images.
        classes: number of classes.
        scores: whether to write a probability per class in place of the predicted class.
    """
    rng = np.random.default_rng(0)
    true = rng.integers(0, classes, images)
    ids = np.array([f"{number:06}.jpg" for number in range(images)])
    for arm in range(arms):
        for seed in range(seeds):
            right = rng.random(images) < 0.6 + 0.01 * arm
            predicted = np.where(right, true, rng.integers(0, classes, images))
            order = rng.permutation(images)
            columns: dict[str, Any] = {"predicted": predicted[order]}
            if scores:
                logits = rng.standard_normal((images, classes), dtype=np.float32)
                logits[np.arange(images), predicted[order]] += 8
                columns = {"logits": logits, "classes": np.arange(classes)}
            file = folder / PATTERN.format(arm=f"arm{arm}", seed=seed)
            np.savez(file, id=ids[order], true=true[order], **columns)


def judge_folder(folder: Path, against: str = "baseline", out: Path | None = None) -> None:
    """Judge the files that `write_predictions` wrote."""
    fa.judge(str(folder / "*.npz"), baseline=BASELINE, pattern=PATTERN, against=against, out=out, progress=False)  # type: ignore[arg-type]


@click.command()
@click.option("--arms", type=click.IntRange(min=2), default=20, show_default=True)
@click.option("--seeds", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--images", type=click.IntRange(min=10), default=50_000, show_default=True)
@click.option("--classes", type=click.IntRange(min=2), default=100, show_default=True)
@click.option("--scores", is_flag=True, help="Files have a score per class in place of the predicted class.")
@click.option("--against", type=click.Choice(["baseline", "all"]), default="baseline", show_default=True)
def judging(arms: int, seeds: int, images: int, classes: int, scores: bool, against: str) -> None:
    """Write predictions, judge them in a new process, and print its wall time and peak memory.

    The time includes reading the files, comparison.json and report.html.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name, "files"), Path(name, "judged")
        folder.mkdir()
        write_predictions(folder, arms, seeds, images, classes, scores=scores)
        start = time.perf_counter()
        peak = peak_memory_of(judge_folder, folder, against, out)
        seconds = time.perf_counter() - start
        sizes = ", ".join(f"{file.name} {file.stat().st_size / 1e6:.1f} MB" for file in sorted(out.iterdir()))
    content = "scores" if scores else "predicted classes"
    click.echo(
        f"{arms} arms x {seeds} seeds x {images:,} images x {classes} classes, npz files of {content}, against "
        f"{against}: {seconds:.1f} s, peak {peak / 1e9:.2f} GB; {sizes}"
    )
