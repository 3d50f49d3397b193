"""`fer-augment data` shows, audits and converts data sources, and says in one line what is wrong with one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_augment.data.audit import Audit, audit
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.reports.contact_sheet import GROUPS, MEMBERS
from tests.command_line import Ran, assert_readable, assert_refused, fer_augment
from tests.data_files import (
    KAGGLE_HEADER,
    csv_rows,
    encoded,
    random_images,
    release,
    write_csv,
    write_folder,
    write_npy,
    write_zip,
)

SPLITS = ("train", "validation", "test")
USAGES = ("Training", "PublicTest", "PrivateTest")


def read(source):
    return installed_plugins().read(str(source))


def words(ran: Ran) -> list[list[str]]:
    return [line.split() for line in ran.out.splitlines()]


def sound_rows(images=None):
    """Rows of a csv file: 4 angry, 2 disgust, 2 happy to train on; 1, 1, 1 of PublicTest and 2, 0, 1 of PrivateTest."""
    labels = [0, 0, 0, 0, 1, 1, 3, 3] + [0, 1, 3] + [0, 0, 3]
    usages = ["Training"] * 8 + ["PublicTest"] * 3 + ["PrivateTest"] * 3
    return csv_rows(random_images(14) if images is None else images, labels, usages)


@pytest.fixture
def sound(tmp_path) -> Path:
    return write_csv(tmp_path / "sound.csv", sound_rows())


@pytest.fixture
def unsound(tmp_path) -> Path:
    """Two identical training rows of two classes, a copy of one in the test split, and a blank image."""
    images = random_images(14)
    images[[4, 12]], images[9] = images[1], 7
    return write_csv(tmp_path / "unsound.csv", sound_rows(images))


# ------------------------------------------------------------------------------------------------- show


def test_show_tells_counts_shares_and_imbalance_of_each_split(sound):
    ran = fer_augment("data", "show", str(sound))
    assert ran.code == 0
    assert_readable(ran)
    numbers = {line[0]: [word for word in line[1:] if word[0].isdigit()] for line in words(ran) if line}
    assert numbers["angry"] == ["4", "50.0", "1", "33.3", "2", "66.7"]
    assert numbers["fear"] == ["0", "0.0"] * 3
    assert numbers["all"] == ["8", "3", "3"]
    assert "14 images, 4 x 4 pixels (height x width), gray; 7 classes" in ran.out
    assert f"fingerprint {read(sound).fingerprint[:16]}" in ran.out


def test_the_bar_of_the_largest_class_is_the_longest_and_others_are_in_proportion(sound):
    ran = fer_augment("data", "show", str(sound))
    bars = {line[0]: [word for word in line[1:] if word.startswith("█")] for line in words(ran) if line}
    assert len(bars["angry"]) == len(bars["happy"]) == 3
    assert [len(bar) for bar in bars["angry"]] == [10, 10, 10]
    assert [len(bar) for bar in bars["happy"]] == [5, 10, 5]
    assert bars["fear"] == []


def test_show_json_holds_the_same(sound):
    told = json.loads(fer_augment("data", "show", str(sound), "--json").out)
    assert told["fingerprint"] == read(sound).fingerprint
    assert told["image"] == {"height": 4, "width": 4, "channels": 1}
    assert told["splits"]["train"]["rows"] == 8
    assert told["splits"]["train"]["counts"]["angry"] == 4
    assert told["splits"]["train"]["imbalance"] is None, "a class without rows"


def test_imbalance_is_largest_over_smallest_class(tmp_path):
    images = {f"{split}/{'ab'[n > 5]}/{n}.png": encoded(i) for split in SPLITS for n, i in enumerate(random_images(8))}
    source = write_folder(tmp_path / "folder", images)
    assert json.loads(fer_augment("data", "show", str(source), "--json").out)["splits"]["test"]["imbalance"] == 3.0
    assert ["imbalance", "3.0", "3.0", "3.0"] in words(fer_augment("data", "show", str(source)))


def test_names_from_files_are_printed_as_they_are_and_fit_on_the_screen(tmp_path):
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


# ------------------------------------------------------------------------------------------------ audit


def test_audit_tells_groups_rows_and_what_to_do(unsound):
    ran = fer_augment("data", "audit", str(unsound))
    assert ran.code == 0
    assert_readable(ran)
    assert ["identical", "1", "3", "1", "1", "1", "0", "0"] in words(ran)
    assert ["happy", "1", "0", "0", "0", "0", "0", "0", "0"] in words(ran), "of the test split"
    assert ["angry", "2", "1", "1", "0", "0", "0", "1", "0"] in words(ran), "of the test split"
    assert "1 of 3 test rows (33.3 %) stand in train too; most: angry 1 of 2." in ran.out
    assert "held_out_duplicates: drop" in ran.out
    assert "dedup" in ran.out
    assert "Blank in validation: row 1." in ran.out


def test_audit_says_so_where_there_is_nothing_to_tell(sound):
    ran = fer_augment("data", "audit", str(sound))
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == ("No image occurs twice, none is a mirror image of another, and none is blank.")


def test_audit_json_is_the_whole_audit(unsound):
    ran = fer_augment("data", "audit", str(unsound), "--json")
    assert Audit.model_validate_json(ran.out) == audit(read(unsound))


# ---------------------------------------------------------------------------------------- contact sheet


def sheet_of(source: Path, file: Path) -> np.ndarray:
    ran = fer_augment("data", "audit", str(source), "--sheet", str(file))
    assert ran.code == 0, ran
    return cv2.imread(str(file))


def places_of(image: np.ndarray, sheet: np.ndarray) -> list[tuple[int, int]]:
    """Find an image, `(4, 4, C)`, enlarged to 96 by 96, in a sheet; top first."""
    colors, (height, width) = sheet @ [1, 256, 65536], np.subtract(sheet.shape[:2], 95)
    is_there = np.full((height, width), True)
    for y, x in np.ndindex(4, 4):
        for corner in (0, 23):
            top, left = 24 * y + corner, 24 * x + corner
            color = np.broadcast_to(image[y, x], 3) @ [65536, 256, 1]
            is_there &= colors[top : top + height, left : left + width] == color
    return [tuple(place) for place in np.argwhere(is_there).tolist()]


def test_the_sheet_shows_each_row_of_a_group_and_blank_images(unsound, tmp_path):
    sheet = sheet_of(unsound, tmp_path / "sheet.png")
    splits = read(unsound)
    found = places_of(splits.train.images[[1]][0], sheet)
    assert len(found) == 3
    assert len({top for top, _ in found}) == 1, "side by side"
    assert places_of(splits.train.images[[0]][0], sheet) == []
    assert len(places_of(splits.validation.images[[1]][0], sheet)) == 1


def test_contradictory_groups_come_first_and_are_red(tmp_path):
    images = random_images(14)
    images[[1, 2]], images[5] = images[0], images[3]
    source = write_csv(tmp_path / "a.csv", sound_rows(images))
    sheet = sheet_of(source, tmp_path / "sheet.png")
    (contradictory, *_), (agreeing, *_) = places_of(images[3], sheet), places_of(images[0], sheet)
    assert contradictory[1] < agreeing[1]
    is_red = (sheet[..., 2].astype(int) - sheet[..., 1] > 100) & (sheet[..., 0] < 100)
    assert is_red.any()
    assert np.flatnonzero(is_red.any(axis=0)).max() < agreeing[1]


def test_a_sheet_has_bounds_and_takes_any_names_colors_and_shapes(tmp_path):
    images = np.repeat(random_images(GROUPS + 5, channels=3), 12, axis=0)
    labels = np.resize([0, 1], len(images))
    pairs = {"X_training": images, "Y_training": labels}
    for word in ("validation", "test"):
        pairs |= {f"X_{word}": random_images(2, channels=3, seed=1), f"Y_{word}": np.arange(2)}
    sheet = sheet_of(write_npy(tmp_path / "npy", pairs, ["größer", "猫"]), tmp_path / "sheet.PNG")
    shown = {group: len(places_of(images[12 * group], sheet)) for group in (0, 1, GROUPS - 1, GROUPS, GROUPS + 4)}
    assert shown == {0: MEMBERS, 1: MEMBERS, GROUPS - 1: MEMBERS, GROUPS: 0, GROUPS + 4: 0}


def test_an_audit_that_found_nothing_has_a_sheet_all_the_same(sound, tmp_path):
    assert sheet_of(sound, tmp_path / "sheet.png").shape[0] < 300


def test_a_sheet_is_written_whole_over_an_old_one(unsound, tmp_path):
    (tmp_path / "sheet.png").write_bytes(b"old")
    assert sheet_of(unsound, tmp_path / "sheet.png").ndim == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sheet.png", "unsound.csv"]


def test_a_sheet_that_cannot_be_written_is_refused(unsound, tmp_path):
    assert_refused(fer_augment("data", "audit", str(unsound), "--sheet", "sheet.jpg"), "sheet.jpg", ".png")
    file = tmp_path / "a file"
    file.write_bytes(b"")
    assert_refused(
        fer_augment("data", "audit", str(unsound), "--sheet", str(file / "x.png")), "x.png: cannot be written"
    )


# ---------------------------------------------------------------------------------------------- convert


@pytest.mark.parametrize("write", [write_zip, write_folder], ids=["zip", "folder"])
def test_convert_writes_a_folder_with_the_same_data(tmp_path, write):
    source = write(tmp_path / "source.zip", release())
    ran = fer_augment("data", "convert", str(source), str(tmp_path / "new" / "npy"))
    assert ran.code == 0
    assert ran.out == f"{tmp_path / 'new' / 'npy'}: 42 images, fingerprint {read(source).fingerprint[:16]}\n"
    assert read(tmp_path / "new" / "npy").fingerprint == read(source).fingerprint


def test_convert_refuses_a_folder_that_exists_before_it_reads(tmp_path):
    (tmp_path / "taken").mkdir()
    ran = fer_augment("data", "convert", "no such source", str(tmp_path / "taken"))
    assert_refused(ran, "taken: exists already")


# --------------------------------------------------------------------------------------------- bad input


def damaged_zip(path: Path) -> Path:
    write_zip(path, release())
    path.write_bytes(path.read_bytes()[:-40])
    return path


def spoilt(path: Path, row: int, **fields) -> Path:
    """Write sound rows of which one has other fields: label, pixels, usage."""
    rows = sound_rows()
    rows[row] = tuple(
        fields.get(name, value) for name, value in zip(("label", "pixels", "usage"), rows[row], strict=True)
    )
    return write_csv(path, rows)


def text_file(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


PIXELS = " ".join(["7"] * 16)
BAD = {
    "missing csv": (lambda path: path / "none.csv", ["none.csv: no such file"]),
    "missing zip": (lambda path: path / "none.zip", ["none.zip: no such file"]),
    "nothing": (lambda path: path / "none", ["none: no such file, or nothing that a reader recognizes", "demo"]),
    "wrong header": (
        lambda path: text_file(path / "a.csv", f"label,pixels\n0,{PIXELS}\n"),
        ["line 1", "emotion, Usage"],
    ),
    "empty": (lambda path: text_file(path / "a.csv", ""), ["a.csv: is empty"]),
    "header alone": (lambda path: text_file(path / "a.csv", f"{KAGGLE_HEADER}\n"), ["a header and no rows"]),
    "unknown label": (lambda path: spoilt(path / "a.csv", 2, label=9), ["a.csv: line 4: unknown label '9'"]),
    "unknown usage": (lambda path: spoilt(path / "a.csv", 2, usage="Trianing"), ["line 4", "did you mean 'Training'?"]),
    "too bright": (lambda path: spoilt(path / "a.csv", 2, pixels=f"{PIXELS[:-1]}256"), ["line 4: pixel 16 is '256'"]),
    "no number": (lambda path: spoilt(path / "a.csv", 2, pixels=f"x{PIXELS[1:]}"), ["line 4: pixel 1 is 'x'"]),
    "too short": (lambda path: spoilt(path / "a.csv", 2, pixels=PIXELS[:-2]), ["line 4: 15 pixels"]),
    "no test rows": (lambda path: write_csv(path / "a.csv", sound_rows()[:11]), ["the test split is empty"]),
    "folder without images": (lambda path: path, ["holds no png or jpg image"]),
    "damaged zip": (lambda path: damaged_zip(path / "a.zip"), ["a.zip: not a whole zip file"]),
    "damaged image": (
        lambda path: write_folder(path / "f", release() | {"train/sad/Training_0.png": b"x"}),
        ["train/sad/Training_0.png: is no image"],
    ),
    "converted folder without labels": (
        lambda path: write_npy(path / "npy", {"X_training": random_images(2)}, ["a", "b"]),
        ["npy", "Y_training.npy"],
    ),
}


@pytest.mark.parametrize(("write", "parts"), BAD.values(), ids=list(BAD))
def test_a_bad_source_is_refused_in_one_line(tmp_path, write, parts):
    source = str(write(tmp_path))
    assert_refused(fer_augment("data", "show", source), *parts)
    assert_refused(fer_augment("data", "audit", source, "--json"), *parts)
    assert_refused(fer_augment("data", "convert", source, str(tmp_path / "out")), *parts)
    assert not (tmp_path / "out").exists()


def in_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from fer_augment.cli import main; main()", "data", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"}, check=False)


def test_results_go_to_stdout_and_errors_to_stderr_with_exit_code_2(sound, tmp_path):
    good, bad = in_a_process("show", str(sound), "--json"), in_a_process("show", str(tmp_path / "none.csv"))
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)["splits"]
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (2, "", 1)
    assert "Traceback" not in bad.stderr


@pytest.mark.parametrize("command", ["show", "audit", "convert"])
def test_help_has_examples_each_on_a_line_of_its_own(command):
    ran = fer_augment("data", command, "--help")
    assert ran.code == 0
    assert_readable(ran)
    assert sum(line.strip().startswith("fer-augment ") for line in ran.out.splitlines()) == 2
