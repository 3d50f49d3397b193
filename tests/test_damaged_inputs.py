"""Damaged files are read, or refused in one line; nothing ends in a traceback.

Each case damages one file of a small source many times, from a seed. `FUZZ=N` (`make fuzz`) tries N times as many.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from fer_augment.errors import FerAugmentError, RecipeError
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.binding import bind
from fer_augment.recipe.recipe import check_recipe_file, load_recipe
from tests.data_files import (
    encoded,
    mnist,
    random_images,
    release,
    small_csv_rows,
    split_files,
    write_csv,
    write_folder,
    write_idx,
    write_npy,
    write_npz,
    write_tar,
    write_zip,
)
from tests.mutations import mutated
from tests.reading import read

FUZZ = int(os.environ.get("FUZZ", "1"))
LONGEST_MESSAGE = 1500
"""Characters of the longest message that may be shown; paths and names of files are part of it."""

IMAGES = random_images(14)
LABELS = np.arange(14) % 2
ARRAYS = {"X_training": IMAGES, "Y_training": LABELS, "X_test": IMAGES[:4], "Y_test": LABELS[:4]}
FILES = {f"images/{number}.png": encoded(image) for number, image in enumerate(IMAGES)}


def table(text: str, name: str) -> dict[str, bytes]:
    return {**FILES, name: text.encode()}


def described(folder: Path) -> Path:
    lines = "".join(f"{number},{'ab'[number % 2]},p{number // 3}\n" for number in range(14))
    write_folder(folder, {**FILES, "labels.csv": f"image,label,patient\n{lines}".encode()})
    path = folder / "source.yaml"
    path.write_text(
        "images: images/\ntable: labels.csv\ncolumns: {image: image, label: label, group: patient}\n"
        "classes: {a: ant, b: bee}\nsize: [8, 6]\nfit: pad\nchannels: gray\nsplit: {validation: 0.2, test: 0.2}\n"
    )
    return path


CSV_LABELS = "image,label\n" + "".join(f"{number},{'ab'[number % 2]}\n" for number in range(14))
JSON_LABELS = "".join(f'{{"file_name": "images/{n}.png", "label": "{"ab"[n % 2]}"}}\n' for n in range(14))
SOURCES: Mapping[str, Callable[[Path], Path]] = {
    "csv": lambda path: write_csv(path.with_suffix(".csv"), small_csv_rows()),
    "zip": lambda path: write_zip(path.with_suffix(".zip"), release()),
    "tar": lambda path: write_tar(path.with_suffix(".tar"), split_files({"train": 3, "test": 2})),
    "folder": lambda path: write_folder(path, split_files({"train": 3, "test": 2})),
    "npy": lambda path: write_npy(path, ARRAYS, ["ant", "bee"]),
    "npz": lambda path: write_npz(path.with_suffix(".npz"), ARRAYS),
    "compressed npz": lambda path: write_npz(path.with_suffix(".npz"), ARRAYS, compressed=True),
    "idx": lambda path: write_idx(path, mnist()),
    "csv of labels": lambda path: write_folder(path, table(CSV_LABELS, "labels.csv")),
    "jsonl of labels": lambda path: write_folder(path, table(JSON_LABELS, "labels.jsonl")),
    "description": described,
}


def assert_one_line(error: Exception) -> None:
    message = str(error)
    assert message.isprintable(), "one line, no control characters"
    assert len(message) <= LONGEST_MESSAGE
    assert "allow_pickle" not in message


@pytest.mark.parametrize("name", SOURCES)
def test_a_damaged_source_is_read_or_refused_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    source = SOURCES[name](tmp_path / "source")
    folder = source.parent if name == "description" else source
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else [source]
    rng = random.Random(name)
    refused = 0
    for number in range(120 * FUZZ):
        file = source if name == "description" and number % 2 else rng.choice(files)
        whole = file.read_bytes()
        damaged = mutated(whole, rng)
        file.write_bytes(damaged)
        try:
            read(source)
        except FerAugmentError as error:
            assert_one_line(error)
            refused += 1
        except Exception as error:
            error.add_note(f"{file.name} number {number}: {damaged!r}"[:2000])
            raise
        file.write_bytes(whole)
    assert refused > 20, "the damage is real"


RECIPE = b"""\
# A comment.
extends: paper
description: "Two steps."
training: {epochs: 3, learning_rate: 1e-3, schedule: cosine, scout: {folds: 3}}
data:
  held_out_duplicates: drop
  size: [48, 48]
without: [dedup]
strategies:
  - confusion_mirror: {pairs: [[sad, neutral]], insert: random}
  - power_sampler:
      exponent: 0.5
  - mixup
trackers: []
"""
SETTINGS = (b"training.epochs=5", b"strategies.power_sampler.exponent=0.3", b"model=convnet2", b"data.size=[4, 4]")


def test_a_damaged_recipe_is_bound_or_refused_with_its_faults(tmp_path: Path) -> None:
    path, rng = tmp_path / "damaged.yaml", random.Random(7)
    for number in range(500 * FUZZ):
        content = mutated(RECIPE, rng)
        path.write_bytes(content)
        try:
            for fault in check_recipe_file(path):
                assert_one_line(RecipeError(fault))
            bind(load_recipe(path), installed_plugins())
        except FerAugmentError as error:
            assert_one_line(error)
        except Exception as error:
            error.add_note(f"number {number}: {content!r}")
            raise


def test_a_damaged_setting_is_applied_or_refused_in_one_line() -> None:
    rng = random.Random(8)
    for number in range(300 * FUZZ):
        setting = mutated(rng.choice(SETTINGS), rng).decode("utf-8", "surrogateescape")
        try:
            with warnings.catch_warnings():
                bind(load_recipe("modern_power_sampler", [setting]), installed_plugins())
        except FerAugmentError as error:
            assert_one_line(error)
        except Exception as error:
            error.add_note(f"number {number}: {setting!a}")
            raise
