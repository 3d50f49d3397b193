"""Source descriptions in YAML: what they change, and messages for invalid ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fer_augment as fa
from fer_augment import ImageSource, RecipeError, load_recipe
from fer_augment.data.pixels import PixelSettings, fitted
from fer_augment.data.splitting import SplitSettings
from fer_augment.readers import description
from fer_augment.recipe.recipe import check_recipe_file
from tests.data_files import (
    FER2013_CLASSES,
    USAGES,
    csv_rows,
    encoded,
    random_images,
    split_files,
    write_csv,
    write_folder,
    write_npz,
    write_table,
    write_zip,
)
from tests.reading import assert_message, assert_source_rows, message_of, read

COUNT = 40
FILES = [f"S{number // 4:02}_{number:02}.png" for number in range(COUNT)]
LABELS = ["cat", "dog", "emu", "fox"] * 10


def write_photos(folder: Path) -> Path:
    """Write images in class folders."""
    images = random_images(COUNT)
    names = [f"{label}/{name}" for label, name in zip(LABELS, FILES, strict=True)]
    return write_folder(folder, dict(zip(names, map(encoded, images), strict=True)))


def described(tmp_path, text: str) -> Path:
    (tmp_path / "source.yaml").write_text(text)
    return tmp_path / "source.yaml"


def opened(path) -> ImageSource:
    """Open a description without decoding its images."""
    source = description.read(str(path), lambda done, total: None)
    assert isinstance(source, ImageSource)
    return source


@pytest.fixture
def photos(tmp_path):
    """A folder that contains `photos` with class folders, and `labels.csv`, which merges the classes to two."""
    write_photos(tmp_path / "photos")
    columns = {
        "file": FILES,
        "kind": ["pet" if label in ("cat", "dog") else "wild" for label in LABELS],
        "color": ["red", "blue"] * 20,
        "owner": [f"P{number // 10}" for number in range(COUNT)],
    }
    write_table(tmp_path / "labels.csv", columns)
    return tmp_path


def test_a_folder_is_read_as_without_a_description(photos):
    splits = read(described(photos, "images: photos\n"))
    assert splits.fingerprint == read(photos / "photos").fingerprint
    assert splits.source.startswith(str(photos / "source.yaml"))
    assert_source_rows(splits)


def test_a_zip_file_is_read(tmp_path):
    write_zip(tmp_path / "a.zip", split_files({"train": 3, "val": 1, "test": 1}))
    assert read(described(tmp_path, "images: a.zip")).fingerprint == read(tmp_path / "a.zip").fingerprint


@pytest.mark.parametrize("suffix", ["yaml", "yml", "YAML"])
def test_files_with_the_suffix_of_yaml_are_recognized(tmp_path, suffix):
    assert description.recognizes(str(tmp_path / f"a.{suffix}"))
    (tmp_path / f"a.{suffix}").mkdir()
    assert not description.recognizes(str(tmp_path / f"a.{suffix}"))


def test_columns_of_a_table_are_chosen_by_name(photos):
    text = "images: photos\ntable: labels.csv\ncolumns: {image: FILE, label: color, group: owner}\n"
    source = opened(described(photos, text))
    assert source.class_names == ("blue", "red")
    assert source.groups.tolist() == [number // 10 for number in range(COUNT)]
    assert [Path(file.name).name for file in source.files] == FILES


def test_images_default_to_the_folder_of_the_table(photos):
    text = "table: labels.csv\ncolumns: {label: kind}\nclasses: {wild: animal}\n"
    assert opened(described(photos, text)).class_names == ("animal", "pet")


def test_columns_of_splits_and_groups_are_ignored_on_request(photos):
    columns = {"image": FILES, "label": LABELS, "set": ["A", "B"] * 20, "patient": range(COUNT)}
    write_table(photos / "labels.csv", columns)
    text = "table: labels.csv\ncolumns:\n  split: null\n  group:\n"
    source = opened(described(photos, text))
    assert (source.split == -1).all()
    assert source.groups is None


def test_splits_in_the_names_of_folders_and_tables_are_ignored_on_request(photos):
    for name, rows in {"train": slice(0, 30), "test": slice(30, COUNT)}.items():
        write_table(photos / "tables" / f"{name}.csv", {"image": FILES[rows], "label": LABELS[rows]})
        images = {f"{name}/{file}": encoded(image) for file, image in zip(FILES[rows], random_images(30), strict=False)}
        write_folder(photos / "tables", images)
    source = opened(described(photos, "images: tables\ncolumns: {split: null}\n"))
    assert (source.split == -1).all()
    assert sorted(set(opened(described(photos, "images: tables")).split)) == [0, 2]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["train", "train", "val", "test"], "have splits; remove this key"),
        (["train", "train", "train", "test"], "have a test split; remove test from this key"),
    ],
)
def test_fractions_for_images_with_splits_are_refused(photos, given, reason):
    write_table(photos / "labels.csv", {"image": FILES, "label": LABELS, "split": given * 10})
    path = described(photos, "table: labels.csv\nsplit: {test: 0.2}\n")
    assert_message(path, [f":2: split: the images {reason}, or ignore them: columns: {{split: null}}"])


def test_one_hot_columns_are_chosen_by_name(photos):
    bits = {name: [int(label == name) for label in LABELS] for name in ("cat", "dog", "emu", "fox")}
    write_table(photos / "labels.csv", {"image": FILES, "is_old": [1] * COUNT, **bits})
    text = "table: labels.csv\ncolumns: {label: [cat, dog, emu, fox]}\n"
    assert opened(described(photos, text)).labels.tolist() == [0, 1, 2, 3] * 10
    assert_message(photos / "labels.csv", ["no column of labels", "{label: [NAME, NAME]} for columns of 0 and 1"])


def test_images_that_a_description_names_come_before_absolute_paths(tmp_path):
    write_folder(tmp_path / "large", dict.fromkeys(FILES, b"large"))
    write_folder(tmp_path / "small", dict.fromkeys(FILES[1:], b"small"))
    write_table(tmp_path / "all.csv", {"image": [f"{tmp_path}/large/{name}" for name in FILES], "label": LABELS})
    source = opened(described(tmp_path, "images: small\ntable: all.csv\n"))
    assert [file.content() for file in source.files] == [b"large", *[b"small"] * (COUNT - 1)]
    assert f"{tmp_path}/large/{FILES[0]}: read from elsewhere than {tmp_path}/small" in source.notes
    (tmp_path / "empty").mkdir()
    source = opened(described(tmp_path, "images: empty\ntable: all.csv\n"))
    assert any(f"{COUNT} images" in note and "read from elsewhere" in note for note in source.notes)
    assert len(source.files) == COUNT


def test_columns_and_classes_apply_to_a_folder_with_a_table(photos):
    text = "images: .\ncolumns: {label: kind}\nclasses: {pet: tame}\n"
    assert opened(described(photos, text)).class_names == ("tame", "wild")


def test_columns_apply_to_a_table_given_as_images(photos):
    assert opened(described(photos, "images: labels.csv\ncolumns: {label: kind}")).class_names == ("pet", "wild")


@pytest.mark.parametrize("source", ["images: photos", "images: photos\ntable: kinds.csv"])
def test_classes_are_renamed_merged_and_dropped(photos, source):
    write_table(photos / "kinds.csv", {"image": FILES, "label": LABELS})
    path = described(photos, f"{source}\nclasses: {{cat: pet, dog: pet, emu: bird, drop: [fox]}}\n")
    opened_source = opened(path)
    assert opened_source.class_names == ("bird", "pet")
    by_name = dict(zip((Path(file.name).name for file in opened_source.files), opened_source.labels, strict=True))
    assert by_name == {
        name: ["bird", "pet"].index({"emu": "bird"}.get(label, "pet"))
        for name, label in zip(FILES, LABELS, strict=True)
        if label != "fox"
    }
    assert "10 rows of fox: dropped" in opened_source.splits(opened_source.settings).omissions
    assert not any("no row in the table" in note for note in opened_source.notes), "dropped images have rows"


def test_numbers_are_renamed_to_the_classes_of_fer2013(photos):
    write_table(photos / "kinds.csv", {"image": FILES[:14], "label": [number % 7 + 1 for number in range(14)]})
    names = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
    changes = ", ".join(f"{number}: {name}" for number, name in enumerate(names, start=1))
    source = opened(described(photos, f"table: kinds.csv\nclasses: {{{changes}}}"))
    assert source.class_names == FER2013_CLASSES
    assert [source.class_names[label] for label in source.labels[:7]] == list(names)


def test_size_fit_and_channels_are_those_of_the_images(photos):
    path = described(photos, "images: photos\nsize: [6, 8]\nfit: pad\nchannels: color\n")
    assert opened(path).settings == PixelSettings((6, 8), "pad", "color")
    assert read(path).train.image_shape == (6, 8, 3)
    assert read(described(photos, "images: photos\nsize: 5\n")).train.image_shape == (5, 5, 1)


def test_fractions_and_seed_of_splits_are_set(photos):
    source = opened(described(photos, "images: photos\nsplit: {validation: 0.1, test: 0.2, seed: 7}\n"))
    assert source.splitting == SplitSettings(0.1, 0.2, 7)
    assert opened(described(photos, "images: photos\nsplit: {test: 0.25}\n")).splitting == SplitSettings(test=0.25)
    assert opened(described(photos, "images: photos\n")).splitting == SplitSettings()
    text = "images: photos\nsplit: {keep_near_duplicates: false}\n"
    assert opened(described(photos, text)).splitting == SplitSettings(keep_near_duplicates=False)
    assert not read(described(photos, text)).keeps_near_duplicates, "for the folds of a cross-validation"
    text = "images: photos\nsplit: {keep_near_duplicate: no}\n"
    assert_message(described(photos, text), [":2: split.keep_near_duplicate: unknown key", "keep_near_duplicates"])


def test_a_rule_and_a_column_of_groups_are_not_both_used(photos):
    write_table(photos / "labels.csv", {"image": FILES, "label": LABELS, "patient": [name[:2] for name in FILES]})
    text = "images: photos\ntable: labels.csv\ngroup: '(S..)_'\n"
    expected = [":3: group: the table has a column of groups, too; ignore it with columns: {group: null}"]
    assert_message(described(photos, text), expected)
    assert len(set(opened(described(photos, f"{text}columns: {{group: null}}\n")).groups.tolist())) == 10


@pytest.mark.parametrize("rule", ["'(S\\d+)_'", '"(S\\d+)_"', "(S\\d+)_", '"(S\\\\d+)_"', "'^\\w+/(S..)'"])
@pytest.mark.parametrize("images", ["photos", "photos.zip"])
def test_a_rule_on_file_names_gives_groups(photos, rule, images):
    write_zip(photos / "photos.zip", {str(f.relative_to(photos)): f.read_bytes() for f in photos.glob("photos/*/*")})
    rule = rule.replace("^\\w+/", "^photos/\\w+/") if images == "photos.zip" else rule
    source = opened(described(photos, f"images: {images}\ngroup: {rule}  # frames of one subject\n"))
    subject = [Path(file.name).name[:3] for file in source.files]
    assert source.groups.tolist() == [int(name[1:]) for name in subject]
    parts = source.splits(source.settings).parts
    in_parts = [set(part.sources.groups.tolist()) for part in parts.values()]
    assert sum(map(len, in_parts)) == len(set.union(*in_parts)) == 10


def test_classes_size_and_color_of_arrays_are_changed(tmp_path):
    images, labels = random_images(14), np.tile(np.arange(7), 2)
    rows = csv_rows(np.concatenate([images] * 3), np.tile(labels, 3), np.repeat(USAGES, 14))
    write_csv(tmp_path / "fer2013.csv", rows)
    text = "images: fer2013.csv\nclasses: {disgust: angry, drop: [neutral]}\nsize: 8\nchannels: color\n"
    splits = read(described(tmp_path, text))
    assert splits.notes[-3:] == (
        "36 images converted from gray to color",
        "36 images resized",
        "36 images enlarged, as they were smaller",
    )
    assert splits.class_names == ("angry", "fear", "happy", "sad", "surprise")
    assert splits.train.counts.tolist() == [4, 2, 2, 2, 2]
    assert splits.test.image_shape == (8, 8, 3)
    assert "6 rows of neutral: dropped" in splits.omissions
    assert_source_rows(splits)


def test_size_and_color_of_arrays_are_defaults_that_a_recipe_overrides(tmp_path):
    images, labels = random_images(60, side=12, channels=3), np.arange(60) % 2
    arrays = {"x_train": images[:40], "y_train": labels[:40], "x_test": images[40:], "y_test": labels[40:]}
    original = read(write_npz(tmp_path / "faces.npz", arrays))
    path = described(tmp_path, "images: faces.npz\nsize: 4\nfit: stretch\nchannels: gray\n")
    assert read(path).train.image_shape == (4, 4, 1)
    as_they_are = fa.read_data(path, size=12, channels="color", progress=False)
    assert as_they_are.fingerprint == original.fingerprint
    assert as_they_are.pixels == PixelSettings((12, 12), "stretch", "color")
    larger = fa.read_data(path, size=(24, 12), channels="color", progress=False).test.images[[3]][0]
    np.testing.assert_array_equal(larger, fitted(original.test.images[[3]][0], (24, 12), "stretch"))


BAD_DESCRIPTIONS = {
    "empty": ("", ["expected `key: value` lines"]),
    "a list": ("- images\n", ["expected `key: value` lines"]),
    "not YAML": ("images: [\n", ["source.yaml:2"]),
    "neither images nor table": ("size: 8\n", ["images or table is missing"]),
    "unknown key": ("images: photos\nclases: {a: b}\n", [":2: clases: unknown key; did you mean 'classes'?"]),
    "unknown column key": (
        "images: photos\ncolumns:\n  lable: x\n",
        [":3: columns.lable: unknown key; did you mean 'label'?"],
    ),
    "unknown split key": (
        "images: photos\nsplit: {tests: 0.1}\n",
        [":2: split.tests: unknown key; did you mean 'test'?"],
    ),
    "folds": ("images: photos\nsplit: {folds: 5}\n", [":2: split.folds: folds are not supported yet"]),
    "drop beside classes": ("images: photos\ndrop: [fox]\n", [":2: drop: belongs below classes"]),
    "several errors": ("images: photos\nsiez: 3\nfti: crop\n", [":2: siez: unknown key", "(first of 2 errors)"]),
    "duplicate key": ("images: photos\nimages: x\n", [":2: images: duplicate key"]),
    "number as path": ("images: 5\n", [":1: images: should be text, got 5; put it in quotes"]),
    "missing images": ("images: phots\n", [":1: images: ", "no such file or folder; did you mean", "photos?"]),
    "missing table": ("images: photos\ntable: label.csv\n", [":2: table: ", "no such file or folder", "labels.csv?"]),
    "folder as table": ("images: photos\ntable: photos\n", [":2: table: ", "is no table of image names"]),
    "another description": ("images: source.yaml\n", [":1: images: source.yaml is a description, too"]),
    "no such column": (
        "table: labels.csv\ncolumns: {label: knd}\n",
        [":2: columns.label: ", "labels.csv has no column 'knd'; did you mean 'kind'?"],
    ),
    "one class left": (
        "table: labels.csv\ncolumns: {label: kind}\nclasses: {wild: pet}\n",
        [":3: classes: fewer than"],
    ),
    "unknown class": (
        "images: photos\nclasses: {cta: x}\n",
        [":2: classes.cta: there is no class 'cta'; did you mean 'cat'"],
    ),
    "unknown dropped class": (
        "images: photos\nclasses:\n  cat: x\n  drop: [foxx]\n",
        [":4: classes.drop: there is no class 'foxx'"],
    ),
    "all classes but one dropped": ("images: photos\nclasses: {drop: [cat, dog, emu]}\n", ["fewer than two classes"]),
    "list of new names": ("images: photos\nclasses: {cat: [a, b]}\n", [":2: classes: cat should have one new name"]),
    "one dropped class": ("images: photos\nclasses: {drop: cat}\n", [":2: classes: drop should be a list of classes"]),
    "size in words": ("images: photos\nsize: big\n", [":2: size: should be a number of pixels, or [HEIGHT, WIDTH]"]),
    "three sizes": ("images: photos\nsize: [1, 2, 3]\n", [":2: size: should be a number of pixels"]),
    "no size": ("images: photos\nsize: 0\n", [":2: size: should be a number of pixels"]),
    "large size": ("images: photos\nsize: 10001\n", [":2: size: should be a number of pixels", "from 1 to 10000"]),
    "unknown fit": ("images: photos\nfit: cut\n", [":2: fit: should be 'crop', 'pad' or 'stretch'"]),
    "unknown channels": ("images: photos\nchannels: rgb\n", [":2: channels: should be 'auto', 'gray' or 'color'"]),
    "large fraction": ("images: photos\nsplit: {test: 1}\n", [":2: split.test: should be less than 1"]),
    "large fractions": (
        "images: photos\nsplit: {test: 0.6, validation: 0.4}\n",
        [":2: split: the fractions add up to 1"],
    ),
    "rule without a group": ("images: photos\ngroup: owner\n", [":2: group: should be a regular", "{group: owner}"]),
    "invalid rule": ("images: photos\ngroup: '(S'\n", [":2: group: should be a regular expression", "unterminated"]),
    "rule without matches": (
        "images: photos\ngroup: '(S00|S01)_'\n",
        [":2: group: 32 images (", "S02_08.png", "no match; change the rule"],
    ),
    "rule and column": (
        "table: labels.csv\ncolumns: {label: kind, group: owner}\ngroup: '(S)'\n",
        ["group and columns.group are both set"],
    ),
    "a recipe": ("extends: paper\ntraining: {epochs: 3}\n", ["is a recipe, not a source description"]),
}


@pytest.mark.parametrize(("text", "expected"), BAD_DESCRIPTIONS.values(), ids=BAD_DESCRIPTIONS)
def test_invalid_descriptions_are_refused_by_file_and_line(photos, text, expected):
    assert_message(described(photos, text), expected)


def test_a_folder_with_columns_needs_a_table(photos):
    assert "photos: no table found; set `table:`" in message_of(
        described(photos, "images: photos\ncolumns: {label: x}\n")
    )
    for name in ("a.csv", "b.csv"):
        write_table(photos / "photos" / name, {"x": [1], "y": [2]})
    text = "images: photos\ncolumns: {label: z}\n"
    assert "2 tables (a.csv, b.csv): no columns of images and labels" in message_of(described(photos, text))


def test_errors_in_the_table_name_the_table(photos):
    path = described(photos, "table: labels.csv\ncolumns: {image: file}\n")
    assert f"{photos / 'labels.csv'}: no column of labels among" in message_of(path)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("group: '(x)'", "they have no file names to match; remove this key, or save group numbers in a folder of npy"),
        ("split: {test: 0.2}", "a description does not change their splits; remove this key, or save arrays for each"),
    ],
)
@pytest.mark.parametrize("source", ["a.csv", "a.npz"])
def test_arrays_are_not_split_or_grouped_with_or_without_splits_of_their_own(tmp_path, setting, reason, source):
    write_csv(tmp_path / "a.csv", csv_rows(random_images(6), [0, 1] * 3, np.repeat(USAGES, 2)))
    write_npz(tmp_path / "a.npz", {"images": random_images(40), "labels": np.arange(40) % 2})
    path = described(tmp_path, f"images: {source}\n{setting}\n")
    assert_message(path, [":2: ", f": the images of {source} are arrays, not files: {reason}"])


def test_a_missing_description_is_refused(tmp_path):
    assert_message(tmp_path / "source.yaml", ["no such file"])


def test_a_description_is_no_recipe(photos):
    path = described(photos, "size: 8\nimages: photos\n")
    message = f"{path}:2: images: belongs to a source description, not to a recipe; pass this file with --data"
    assert check_recipe_file(path) == [message]
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value) == message
