"""Every row of the tables of formats in docs/data.md: a small source of that form is read by the row's command."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fer_augment.data.npy_format import write_npy_folder
from tests.command_line import fer_augment
from tests.data_files import (
    SPLITS,
    encoded,
    mnist,
    random_images,
    small_csv_rows,
    split_files,
    write_csv,
    write_folder,
    write_idx,
    write_npy,
    write_npz,
    write_table,
    write_tar,
    write_zip,
)
from tests.reading import read
from tests.test_soft_labels import write_ferplus
from tests.test_table_reader import write_hugging_face

PAGE = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"`fer-augment data show (\S+)`", "\n".join(re.findall(r"(?m)^\|.*\|$", PAGE)))

COUNT = 24
IMAGES, LABELS = random_images(COUNT, side=8, channels=3), ["cat", "dog", "emu"] * 8
NAMES = [f"{number:02}.png" for number in range(COUNT)]
FILES = {name: encoded(image) for name, image in zip(NAMES, IMAGES, strict=True)}
IN_SPLITS = split_files({"train": 6, "validation": 2, "test": 2})
NUMBERS = np.arange(COUNT) % 3
PARTS = {"train": slice(0, 12), "val": slice(12, 18), "test": slice(18, 24)}


def table_of_images(path: Path) -> None:
    """Write a table of image names and labels, and the images below its folder."""
    write_folder(path.parent / "photos", FILES)
    write_table(path, {"image": NAMES, "label": LABELS})


def list_of_images(path: Path) -> None:
    write_folder(path.parent / "photos", FILES)
    path.write_text("".join(f"{name} {label}\n" for name, label in zip(NAMES, LABELS, strict=True)))


def aptos(folder: Path) -> None:
    stems = [name.removesuffix(".png") for name in NAMES]
    write_folder(folder / "train_images", FILES)
    write_folder(folder / "test_images", {"a.png": FILES["00.png"]})
    write_table(folder / "train.csv", {"id_code": stems, "diagnosis": NUMBERS.tolist()})
    write_table(folder / "test.csv", {"id_code": ["a"]})


def isic(path: Path) -> None:
    write_folder(path.parent / "images", FILES)
    one_hot = {
        name: [float(row % 3 == number) for row in range(COUNT)] for number, name in enumerate(("MEL", "NV", "BKL"))
    }
    write_table(path, {"image": [name.removesuffix(".png") for name in NAMES], **one_hot})


def raf_db(folder: Path) -> None:
    stems = [f"{'train' if number < 16 else 'test'}_{number:05}" for number in range(COUNT)]
    images = {f"{stem}_aligned.png": content for stem, content in zip(stems, FILES.values(), strict=True)}
    write_folder(folder / "Image" / "aligned", images)
    (folder / "EmoLabel").mkdir()
    lines = [f"{stem}.png {number + 1}\n" for stem, number in zip(stems, NUMBERS, strict=True)]
    (folder / "EmoLabel" / "list_patition_label.txt").write_text("".join(lines))


def table_for_each_split(folder: Path) -> None:
    for split, rows in PARTS.items():
        write_folder(folder / split, dict([*FILES.items()][rows]))
        write_table(folder / f"{split}_labels.csv", {"image": NAMES[rows], "label": LABELS[rows]})


def imagefolder(folder: Path) -> None:
    for split, rows in PARTS.items():
        write_folder(folder / split, dict([*FILES.items()][rows]))
        write_table(folder / split / "metadata.csv", {"file_name": NAMES[rows], "label": LABELS[rows]})


def downloaded(folder: Path) -> None:
    for split, rows in {"train": slice(0, 16), "test": slice(16, 24)}.items():
        for number, half in enumerate(np.array_split(np.arange(COUNT)[rows], 2)):
            path = folder / "data" / f"{split}-{number:05}-of-00002.parquet"
            write_hugging_face(path, IMAGES[half], NUMBERS[half].tolist(), ["cat", "dog", "emu"])


def described(path: Path) -> None:
    table_of_images(path.parent / "photos.csv")
    path.write_text("images: photos\ntable: photos.csv\nsize: 4\n")


def converted(folder: Path) -> None:
    write_csv(folder.with_suffix(".csv"), small_csv_rows())
    write_npy_folder(read(folder.with_suffix(".csv")), folder)


def keras(path: Path) -> None:
    write_npz(path, {"x_train": IMAGES, "y_train": NUMBERS, "x_test": IMAGES, "y_test": NUMBERS})


def medmnist(path: Path) -> None:
    parts = ("train", "val", "test")
    arrays = {f"{part}_images": IMAGES for part in parts} | {f"{part}_labels": NUMBERS[:, None] for part in parts}
    write_npz(path, arrays)


def arrays(folder: Path) -> None:
    write_npy(folder, {"X_train": IMAGES, "Y_train": NUMBERS, "X_test": IMAGES, "Y_test": NUMBERS})


BUILDERS: dict[str, Callable[[Path], object]] = {
    "fer2013.csv": lambda path: write_csv(path, small_csv_rows()),
    "faces": lambda path: write_folder(path, IN_SPLITS),
    "faces.zip": lambda path: write_zip(path, IN_SPLITS),
    "faces.tar.gz": lambda path: write_tar(path, IN_SPLITS),
    "animals": lambda path: write_folder(
        path, {f"{'ab'[row % 2]}/{name}": FILES[name] for row, name in enumerate(NAMES)}
    ),
    "pathmnist.npz": medmnist,
    "faces.npz": keras,
    "mnist": lambda path: write_idx(path, mnist(suffix=".gz")),
    "arrays": arrays,
    "fer2013": converted,
    "fer2013new.csv": lambda path: write_ferplus(path.parent),
    "faces.yaml": described,
    "demo": lambda path: None,
    "labels.csv": table_of_images,
    "labels.tsv": table_of_images,
    "labels.jsonl": table_of_images,
    "list.txt": list_of_images,
    "aptos": aptos,
    "isic/GroundTruth.csv": isic,
    "raf_db": raf_db,
    "tables": table_for_each_split,
    "imagefolder": imagefolder,
    "downloaded": downloaded,
    "faces.parquet": table_of_images,
}
NEED_PYARROW = ("downloaded", "faces.parquet")


def test_every_row_has_a_command_and_a_source():
    assert sorted(COMMANDS) == sorted(BUILDERS)


@pytest.mark.parametrize("source", BUILDERS)
def test_the_command_of_a_row_reads_such_a_source(tmp_path, monkeypatch, source):
    if source in NEED_PYARROW and importlib.util.find_spec("pyarrow") is None:
        pytest.skip("needs pyarrow, which the extra parquet installs")
    monkeypatch.chdir(tmp_path)
    BUILDERS[source](tmp_path / source)
    ran = fer_augment("data", "show", source)
    assert ran.code == 0, ran.err
    assert ran.out.startswith(source)
    assert all(split in ran.out for split in SPLITS)
