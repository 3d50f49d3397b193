"""`fer-augment data` shows, audits and converts data sources, and refuses invalid ones with a one-line message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_augment import read_data
from fer_augment.data.audit import audit
from fer_augment.data.audit_records import Audit
from fer_augment.reports.contact_sheet import GROUPS, MEMBERS
from tests.command_line import Ran, assert_readable, assert_refused, fer_augment
from tests.data_files import (
    KAGGLE_HEADER,
    SPLITS,
    encoded,
    random_images,
    release,
    small_csv_rows,
    split_files,
    write_csv,
    write_folder,
    write_npy,
    write_zip,
)
from tests.reading import read


def words(ran: Ran) -> list[list[str]]:
    return [line.split() for line in ran.out.splitlines()]


@pytest.fixture
def clean(tmp_path) -> Path:
    return write_csv(tmp_path / "clean.csv", small_csv_rows())


@pytest.fixture
def faulty(tmp_path) -> Path:
    """An exact duplicate with conflicting labels in train and a third in test, and a blank image."""
    images = random_images(14)
    images[[4, 12]], images[9] = images[1], 7
    return write_csv(tmp_path / "faulty.csv", small_csv_rows(images))


# --- show


def test_show_prints_counts_percentages_and_imbalance_of_each_split(clean):
    ran = fer_augment("data", "show", str(clean))
    assert ran.code == 0
    assert_readable(ran)
    numbers = {line[0]: [word for word in line[1:] if word[0].isdigit()] for line in words(ran) if line}
    assert numbers["angry"] == ["4", "50.0", "1", "33.3", "2", "66.7"]
    assert numbers["fear"] == ["0", "0.0"] * 3
    assert numbers["all"] == ["8", "3", "3"]
    assert "14 images, 4 x 4 pixels (height x width), gray; 7 classes" in ran.out
    assert f"fingerprint {read(clean).fingerprint[:16]}" in ran.out
    assert "- The test split has only a few images of angry (2) and happy (1): " in " ".join(ran.out.split())


def test_bars_are_proportional_to_the_largest_class(clean):
    ran = fer_augment("data", "show", str(clean))
    bars = {line[0]: [word for word in line[1:] if word.startswith("█")] for line in words(ran) if line}
    assert len(bars["angry"]) == len(bars["happy"]) == 3
    assert [len(bar) for bar in bars["angry"]] == [10, 10, 10]
    assert [len(bar) for bar in bars["happy"]] == [5, 10, 5]
    assert bars["fear"] == []


def test_show_json(clean):
    summary = json.loads(fer_augment("data", "show", str(clean), "--json").out)
    assert summary["fingerprint"] == read(clean).fingerprint
    assert summary["image"] == {"height": 4, "width": 4, "channels": 1}
    assert summary["splits"]["train"]["rows"] == 8
    assert summary["splits"]["train"]["counts"]["angry"] == 4
    assert summary["splits"]["train"]["imbalance"] is None, "a class without rows"


def test_show_lists_what_was_converted_and_left_out(tmp_path):
    images = iter(random_images(6, channels=4))
    files = {f"{split}/{name}/0.png": encoded(next(images)) for split in SPLITS for name in ("cat", "dog")}
    source = write_folder(tmp_path / "folder", files | {"train/[bold]\x1b.txt": b"text"})
    notes = [
        r"train/[bold]\x1b.txt: not in a supported image format; left out",
        "6 images with transparency composited over white",
    ]
    ran = fer_augment("data", "show", str(source))
    assert [line.rstrip() for line in ran.out.splitlines()[-2:]] == [f"- {note}" for note in notes]
    assert_readable(ran)
    assert json.loads(fer_augment("data", "show", str(source), "--json").out)["notes"] == notes


def test_imbalance_is_the_ratio_of_the_largest_to_the_smallest_class(tmp_path):
    images = {f"{split}/{'ab'[n > 5]}/{n}.png": encoded(i) for split in SPLITS for n, i in enumerate(random_images(8))}
    source = write_folder(tmp_path / "folder", images)
    assert json.loads(fer_augment("data", "show", str(source), "--json").out)["splits"]["test"]["imbalance"] == 3.0
    assert ["imbalance", "3.0", "3.0", "3.0"] in words(fer_augment("data", "show", str(source)))


def test_class_names_are_printed_without_markup_and_fit_on_the_screen(tmp_path):
    names = ("[bold]not markup", "größer", "a name of rather more letters than a column has")
    pairs = {
        f"{letter}_{word}": array
        for word in ("training", "validation", "test")
        for letter, array in (("X", random_images(3, channels=3)), ("Y", np.arange(3)))
    }
    source = write_npy(tmp_path / "npy", pairs, names)
    for command in ("show", "audit"):
        ran = fer_augment("data", command, str(source))
        assert ran.code == 0
        assert_readable(ran)
        assert "[bold]not markup" in ran.out
        assert "größer" in ran.out


# --- audit


def test_audit_prints_groups_rows_and_recommendations(faulty):
    ran = fer_augment("data", "audit", str(faulty))
    assert ran.code == 0
    assert_readable(ran)
    assert ["exact", "1", "3", "1", "1", "1", "0", "0"] in words(ran)
    assert ["happy", "1", "0", "0", "0", "0", "0", "0", "0"] in words(ran), "of the test split"
    assert ["angry", "2", "1", "1", "0", "0", "0", "1", "0"] in words(ran), "of the test split"
    notes = " ".join(ran.out.split())
    assert (
        "1 of 3 test rows (33.3 %) have an exact duplicate in the training split; most affected: angry 1 of 2." in notes
    )
    assert "held_out_duplicates: drop" in ran.out
    assert "dedup" in ran.out
    assert "Blank images in validation: row 1." in ran.out


def test_audit_names_the_files_of_conflicting_labels_and_blank_images(tmp_path):
    images = split_files({"train": 4, "test": 2, "val": 2})
    images["test/dog/0.png"] = images["train/cat/1.png"]
    images["val/dog/1.png"] = encoded(np.full((4, 4), 7, np.uint8))
    ran = fer_augment("data", "audit", str(write_folder(tmp_path / "folder", images)))
    assert_readable(ran)
    notes = " ".join(ran.out.split())
    assert "Conflicting labels (exact): cat train/cat/1.png (train), dog test/dog/0.png (test)." in notes
    assert "Blank images in validation: val/dog/1.png." in notes


def test_audit_reports_groups_across_splits(tmp_path):
    images = write_folder(tmp_path / "images", {f"{row}.png": encoded(i) for row, i in enumerate(random_images(9))})
    table = "".join(f"{row}.png,{'ab'[row % 2]},p{row % 4},{SPLITS[row // 3]}\n" for row in range(9))
    source = write_text(images / "labels.csv", f"image,label,patient,split\n{table}")
    ran = fer_augment("data", "audit", str(source))
    assert ran.code == 0, ran
    assert_readable(ran)
    notes = " ".join(ran.out.split())
    assert "4 of 4 groups of the source have rows in more than one split; 2 of 3 validation rows" in notes
    assert "One group: 0.png (train), 4.png (validation), 8.png (test)." in notes


def write_patients(folder: Path, group: str, splits: str = "") -> Path:
    """Write 40 images and a table of them, with two images of each patient."""
    write_folder(folder, {f"{row}.png": encoded(image) for row, image in enumerate(random_images(40))})
    split_of = [("", *SPLITS)[1 + row % 3] if splits else "" for row in range(40)]
    rows = [f"{row}.png,{'ab'[row % 2]},{row // 2},{split}" for row, split in enumerate(split_of)]
    return write_text(folder / "labels.csv", "\n".join([f"image,label,{group},{splits or 'note'}", *rows]))


def test_groups_of_made_and_given_splits_are_counted(tmp_path):
    made, given, none = (write_patients(tmp_path / name, *columns) for name, columns in {
        "made": ("patient",), "given": ("patient", "split"), "none": ("x",),
    }.items())  # fmt: skip
    shown = {source: " ".join(fer_augment("data", "show", str(source)).out.split()) for source in (made, given, none)}
    assert "- groups: 20; none has rows in more than one split" in shown[made]
    assert "- groups: 20; 20 have rows in more than one split, which `data audit` lists" in shown[given]
    assert "- groups:" not in shown[none]
    counts = [json.loads(fer_augment("data", "show", str(source), "--json").out)["groups"] for source in shown]
    assert counts == [{"total": 20, "across": 0}, {"total": 20, "across": 20}, None]
    audited = " ".join(fer_augment("data", "audit", str(made)).out.split())
    assert "Groups of the source: 20; none has rows in more than one split." in audited
    assert "Groups of the source" not in fer_augment("data", "audit", str(none)).out


def test_audit_of_clean_data(clean):
    ran = fer_augment("data", "audit", str(clean))
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == "No exact, near or mirrored duplicates and no blank images found."


def test_audit_json(faulty):
    ran = fer_augment("data", "audit", str(faulty), "--json")
    assert Audit.model_validate_json(ran.out) == audit(read(faulty))


# --- contact sheet


def sheet_of(source: Path, file: Path) -> np.ndarray:
    ran = fer_augment("data", "audit", str(source), "--sheet", str(file))
    assert ran.code == 0, ran
    assert ran.err.endswith(f"Wrote {file}\n")
    return cv2.imread(str(file))


def positions_of(image: np.ndarray, sheet: np.ndarray) -> list[tuple[int, int]]:
    """Return the positions (top, left) of an image `(4, 4, C)`, enlarged to 96 by 96, in a sheet."""
    colors, (height, width) = sheet @ [1, 256, 65536], np.subtract(sheet.shape[:2], 95)
    is_match = np.full((height, width), True)
    for y, x in np.ndindex(4, 4):
        for corner in (0, 23):
            top, left = 24 * y + corner, 24 * x + corner
            color = np.broadcast_to(image[y, x], 3) @ [65536, 256, 1]
            is_match &= colors[top : top + height, left : left + width] == color
    return [(top, left) for top, left in np.argwhere(is_match).tolist()]


def test_the_sheet_shows_all_rows_of_a_group_and_blank_images(faulty, tmp_path):
    sheet = sheet_of(faulty, tmp_path / "sheet.png")
    splits = read(faulty)
    positions = positions_of(splits.train.images[[1]][0], sheet)
    assert len(positions) == 3
    assert len({top for top, _ in positions}) == 1, "side by side"
    assert positions_of(splits.train.images[[0]][0], sheet) == []
    assert len(positions_of(splits.validation.images[[1]][0], sheet)) == 1


def test_no_sheet_is_written_if_there_is_nothing_to_show(clean, tmp_path):
    ran = fer_augment("data", "audit", str(clean), "--sheet", str(tmp_path / "sheet.png"))
    assert ran.code == 0
    assert ran.err.endswith(f"No duplicates and no blank images to show; {tmp_path / 'sheet.png'} is not written\n")
    assert not (tmp_path / "sheet.png").exists()


def test_conflicting_groups_are_first_and_red(tmp_path):
    images = random_images(14)
    images[[1, 2]], images[5] = images[0], images[3]
    source = write_csv(tmp_path / "a.csv", small_csv_rows(images))
    sheet = sheet_of(source, tmp_path / "sheet.png")
    (conflicting, *_), (agreeing, *_) = positions_of(images[3], sheet), positions_of(images[0], sheet)
    assert conflicting[1] < agreeing[1]
    is_red = (sheet[..., 2].astype(int) - sheet[..., 1] > 100) & (sheet[..., 0] < 100)
    assert is_red.any()
    assert np.flatnonzero(is_red.any(axis=0)).max() < agreeing[1]


def test_the_sheet_limits_groups_and_rows_and_accepts_any_class_names_and_colors(tmp_path):
    images = np.repeat(random_images(GROUPS + 5, channels=3), 12, axis=0)
    labels = np.resize([0, 1], len(images))
    pairs = {"X_training": images, "Y_training": labels}
    for word in ("validation", "test"):
        pairs |= {f"X_{word}": random_images(2, channels=3, seed=1), f"Y_{word}": np.arange(2)}
    sheet = sheet_of(write_npy(tmp_path / "npy", pairs, ["größer", "猫"]), tmp_path / "sheet.PNG")
    shown = {group: len(positions_of(images[12 * group], sheet)) for group in (0, 1, GROUPS - 1, GROUPS, GROUPS + 4)}
    assert shown == {0: MEMBERS, 1: MEMBERS, GROUPS - 1: MEMBERS, GROUPS: 0, GROUPS + 4: 0}


def test_an_existing_sheet_is_overwritten(faulty, tmp_path):
    (tmp_path / "sheet.png").write_bytes(b"old")
    assert sheet_of(faulty, tmp_path / "sheet.png").ndim == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faulty.csv", "sheet.png"]


def test_an_invalid_sheet_path_is_refused(faulty, tmp_path):
    assert_refused(fer_augment("data", "audit", str(faulty), "--sheet", "sheet.jpg"), "sheet.jpg", ".png")
    file = tmp_path / "a file"
    file.write_bytes(b"")
    assert_refused(
        fer_augment("data", "audit", str(faulty), "--sheet", str(file / "x.png")), "x.png: cannot be written"
    )


# --- convert


@pytest.mark.parametrize("write", [write_zip, write_folder], ids=["zip", "folder"])
def test_convert_keeps_the_data(tmp_path, write):
    source = write(tmp_path / "source.zip", release())
    ran = fer_augment("data", "convert", str(source), str(tmp_path / "new" / "npy"))
    assert ran.code == 0
    assert ran.out == f"{tmp_path / 'new' / 'npy'}: 42 images, fingerprint {read(source).fingerprint[:16]}\n"
    assert read(tmp_path / "new" / "npy").fingerprint == read(source).fingerprint


@pytest.fixture
def mixed_sizes(tmp_path) -> Path:
    files = split_files({"train": 12, "val": 4, "test": 4}, side=20)
    files |= split_files({"test": 2}, side=30, channels=3)
    return write_folder(tmp_path / "mixed", files)


SIZE = ("--set", "data.size=[8, 16]", "--set", "data.fit=pad", "--set", "data.channels=gray")


def test_every_command_sets_size_and_color_like_compare(mixed_sizes, tmp_path):
    assert_refused(fer_augment("data", "audit", str(mixed_sizes)), "images have 2 sizes", "--set data.size=16")
    shown = json.loads(fer_augment("data", "show", str(mixed_sizes), *SIZE, "--json").out)
    assert shown["image"] == {"height": 8, "width": 16, "channels": 1}
    expected = read_data(mixed_sizes, size=(8, 16), fit="pad", channels="gray", progress=False)
    assert shown["fingerprint"] == expected.fingerprint
    audited = fer_augment("data", "audit", str(mixed_sizes), *SIZE, "--json")
    assert Audit.model_validate_json(audited.out).fingerprint == expected.fingerprint
    assert fer_augment("data", "convert", str(mixed_sizes), str(tmp_path / "npy"), *SIZE).code == 0
    assert read(tmp_path / "npy").fingerprint == expected.fingerprint


@pytest.mark.parametrize("command", ["show", "audit", "convert"])
@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("data.size=0", ["--set data.size=0: data.size", "one whole number from 1 to 10000, or two: [H, W]"]),
        ("data.fit=cut", ["--set data.fit=cut: data.fit", "'crop', 'pad' or 'stretch'"]),
        ("data.siez=8", ["only data.size, data.fit, data.channels", "did you mean 'data.size'?"]),
        ("training.epochs=5", ["--set training.epochs=5: only data.size, data.fit, data.channels"]),
        ("data.size", ["write it as key=value"]),
    ],
)
def test_invalid_settings_are_refused_in_one_line(clean, tmp_path, command, setting, parts):
    out = [str(tmp_path / "out")] if command == "convert" else []
    assert_refused(fer_augment("data", command, str(clean), *out, "--set", setting), *parts)


def test_convert_refuses_an_existing_folder_before_reading(tmp_path):
    (tmp_path / "existing").mkdir()
    ran = fer_augment("data", "convert", "no such source", str(tmp_path / "existing"))
    assert_refused(ran, "existing: already exists")


# --- invalid sources


def write_damaged_zip(path: Path) -> Path:
    write_zip(path, release())
    path.write_bytes(path.read_bytes()[:-40])
    return path


def write_changed(path: Path, row: int, **fields) -> Path:
    """Write clean rows with changed fields (label, pixels, usage) in one of them."""
    rows = small_csv_rows()
    rows[row] = tuple(
        fields.get(name, value) for name, value in zip(("label", "pixels", "usage"), rows[row], strict=True)
    )
    return write_csv(path, rows)


def write_text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


PIXELS = " ".join(["7"] * 16)
BAD = {
    "missing csv": (lambda path: path / "none.csv", ["none.csv: no such file"]),
    "missing zip": (lambda path: path / "none.zip", ["none.zip: no such file"]),
    "missing folder": (lambda path: path / "none", ["none: no such file or folder"]),
    "wrong header": (
        lambda path: write_text(path / "a.csv", f"label,pixels\n0,{PIXELS}\n"),
        ["a.csv: no column of images among label, pixels"],
    ),
    "empty": (lambda path: write_text(path / "a.csv", ""), ["a.csv: is empty"]),
    "header only": (lambda path: write_text(path / "a.csv", f"{KAGGLE_HEADER}\n"), ["a header but no rows"]),
    "unknown label": (lambda path: write_changed(path / "a.csv", 2, label=9), ["a.csv: line 4: unknown label '9'"]),
    "unknown usage": (
        lambda path: write_changed(path / "a.csv", 2, usage="Trianing"),
        ["line 4", "did you mean 'Training'?"],
    ),
    "pixel over 255": (
        lambda path: write_changed(path / "a.csv", 2, pixels=f"{PIXELS[:-1]}256"),
        ["line 4: pixel 16 is '256'"],
    ),
    "not a number": (
        lambda path: write_changed(path / "a.csv", 2, pixels=f"x{PIXELS[1:]}"),
        ["line 4: pixel 1 is 'x'"],
    ),
    "missing pixel": (lambda path: write_changed(path / "a.csv", 2, pixels=PIXELS[:-2]), ["line 4: 15 pixels"]),
    "no test rows": (lambda path: write_csv(path / "a.csv", small_csv_rows()[:11]), ["the test split is empty"]),
    "folder without images": (lambda path: path, ["no images found"]),
    "damaged zip": (lambda path: write_damaged_zip(path / "a.zip"), ["a.zip: not a complete zip file"]),
    "damaged image": (
        lambda path: write_folder(path / "f", release() | {"train/sad/Training_0.png": b"x"}),
        ["train/sad/Training_0.png: not a readable image"],
    ),
    "npy folder without labels": (
        lambda path: write_npy(path / "npy", {"X_training": random_images(2)}, ["a", "b"]),
        ["npy", "Y_training.npy"],
    ),
}


@pytest.mark.parametrize(("write", "parts"), BAD.values(), ids=list(BAD))
def test_invalid_sources_are_refused_in_one_line(tmp_path, write, parts):
    source = str(write(tmp_path))
    assert_refused(fer_augment("data", "show", source), *parts)
    assert_refused(fer_augment("data", "audit", source, "--json"), *parts)
    assert_refused(fer_augment("data", "convert", source, str(tmp_path / "out")), *parts)
    assert not (tmp_path / "out").exists()


def in_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from fer_augment.cli import main; main()", "data", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"}, check=False)


def test_results_go_to_stdout_and_errors_to_stderr_with_exit_code_2(clean, tmp_path):
    good, bad = in_a_process("show", str(clean), "--json"), in_a_process("show", str(tmp_path / "none.csv"))
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)["splits"]
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (2, "", 1)
    assert "Traceback" not in bad.stderr


@pytest.mark.parametrize("command", ["show", "audit", "convert"])
def test_help_has_examples_on_separate_lines(command):
    ran = fer_augment("data", command, "--help")
    assert ran.code == 0
    assert_readable(ran)
    assert sum(line.strip().startswith("fer-augment ") for line in ran.out.splitlines()) == 2
