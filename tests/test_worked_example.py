"""The worked example of docs/data.md: color photographs of two sizes, with a csv of labels and groups."""

from __future__ import annotations

import csv
import io
import itertools
import os
import zipfile
from pathlib import Path

import pytest
from PIL import Image

import fer_augment as fa
from tests.command_line import assert_refused, fer_augment

OF_EACH_CLASS = 12
CROPS = {"left": (0, 0, 300, 384), "right": (160, 20, 512, 384)}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Return a table of two crops, of different sizes, of photographs of each class of TrashNet."""
    if "TRASHNET" not in os.environ:
        pytest.skip("set TRASHNET to the folder of trashnet_small.zip")
    (tmp_path / "trash" / "images").mkdir(parents=True)
    rows = []
    with zipfile.ZipFile(Path(os.environ["TRASHNET"], "trashnet_small.zip")) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        for label, of_class in itertools.groupby(names, lambda name: Path(name).parent.name):
            for name in itertools.islice(of_class, OF_EACH_CLASS):
                photograph = Image.open(io.BytesIO(archive.read(name)))
                for side, box in CROPS.items():
                    image = f"{Path(name).stem}_{side}"
                    photograph.crop(box).save(tmp_path / "trash" / "images" / f"{image}.jpg")
                    rows.append((image, label, Path(name).stem))
    with (tmp_path / "trash" / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "group"), *rows])
    return tmp_path / "trash" / "labels.csv"


def test_photographs_of_two_sizes_with_a_table_of_labels_and_groups_are_compared(labels: Path, tmp_path: Path) -> None:
    assert_refused(
        fer_augment("compare", "paper", "oversample", "--data", str(labels), "--out", str(tmp_path / "a")),
        "images have 2 sizes (width x height), 300x384 to 352x364", "--set data.size=128",
    )  # fmt: skip
    ran = fer_augment(
        "compare", "paper", "oversample", "--data", str(labels), "--seeds", "1", "--set", "data.size=16",
        "--set", "model=convnet0", "--set", "training.epochs=1", "--out", str(tmp_path / "results"),
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "6 classes" in ran.out
    splits = fa.read_data(labels, size=16, progress=False)
    groups = {name: set(part.sources.groups.tolist()) for name, part in splits.parts.items()}
    assert all(groups.values())
    assert not any(groups[one] & groups[other] for one, other in itertools.combinations(groups, 2))
    run = next((tmp_path / "results" / "runs").glob("oversample/*"))
    photograph = labels.parent / "images" / "glass1_left.jpg"
    assert fer_augment("predict", str(run), str(photograph)).code == 0, "a photograph needs no --resize"
