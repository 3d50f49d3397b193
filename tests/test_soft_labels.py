"""Soft labels from the table to the report: votes, ties, dropped classes, training, rewriting and refusals."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import fer_augment as fa
from fer_augment import DatasetError, ImageSource, RecipeError, Splits
from fer_augment.data.audit import audit, drop_held_out_duplicates
from fer_augment.data.export import refuse_unfit, write_export
from fer_augment.data.npy_format import write_npy_folder
from fer_augment.readers import table
from fer_augment.readers._class_changes import ClassChanges
from fer_augment.readers._table_columns import FERPLUS
from tests.command_line import fer_augment
from tests.data_files import csv_rows, encoded, random_images, write_csv, write_folder, write_npy, write_table
from tests.reading import assert_message, message_of, read

FERPLUS_COLUMNS = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)
KEPT = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
COUNT = 96
USAGES = ["Training"] * 64 + ["PublicTest"] * 16 + ["PrivateTest"] * 16
NAMES = [f"fer{number:07}.png" for number in range(COUNT)]
SIZE = 12

needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow, which the extra parquet installs"
)


def votes(changes: Mapping[int, Mapping[str, int]] = {}) -> np.ndarray:  # noqa: B006 - it is not changed
    """Return `(COUNT, 10)` votes: row i has 6 of 10 for class i % 8 and 4 for the next, but for the changes."""
    counts = np.zeros((COUNT, len(FERPLUS_COLUMNS)), dtype=int)
    rows = np.arange(COUNT)
    counts[rows, rows % 8], counts[rows, (rows + 1) % 8] = 6, 4
    for row, of_row in changes.items():
        counts[row] = [of_row.get(name, 0) for name in FERPLUS_COLUMNS]
    return counts


CHANGES = {
    0: {"neutral": 5, "anger": 5},  # a tie
    1: {"unknown": 7, "happiness": 3},  # a dropped class has the most votes
    2: {"NF": 10},
    3: {"sadness": 10},  # unanimous
    4: {"anger": 4, "fear": 2, "unknown": 4},  # a tie with a dropped class, which is none
    5: {},  # nobody voted
}


def columns(counts: np.ndarray, names=NAMES, usages=USAGES) -> dict[str, list[object]]:
    of_classes = {name: counts[:, number].tolist() for number, name in enumerate(FERPLUS_COLUMNS)}
    return {"Usage": list(usages), "Image name": list(names), **of_classes}


def faces() -> np.ndarray:
    """Return images whose class shows as a bright column."""
    images = np.random.default_rng(0).integers(0, 120, (COUNT, SIZE, SIZE, 1))
    for row in range(COUNT):
        images[row, :, row % 8 : row % 8 + 2] += 60
    return images.astype(np.uint8)


def write_ferplus(folder: Path, counts: np.ndarray | None = None, names=NAMES) -> Path:
    """Write FERPlus's folders of images beside its table."""
    folders = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}
    files = {
        f"{folders[usage]}/{name}": encoded(image) for usage, name, image in zip(USAGES, NAMES, faces(), strict=True)
    }
    write_folder(folder, files)
    write_table(folder / "fer2013new.csv", columns(votes(CHANGES) if counts is None else counts, names))
    return folder


def shares(splits: Splits, name: str) -> np.ndarray:
    """Return the soft label of an image by its file name."""
    for part in splits.parts.values():
        for row in range(len(part)):
            if str(part.name_of(row)).endswith(name):
                assert part.targets is not None
                return part.targets[row]
    raise AssertionError(f"{name} is not in the splits")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_ferplus(tmp_path_factory.mktemp("source") / "ferplus")


@pytest.fixture(scope="module")
def splits(folder) -> Splits:
    return fa.read_data(str(folder), progress=False)


class TestReading:
    def test_votes_become_shares_and_the_most_frequent_class_the_label(self, splits):
        assert splits.class_names == KEPT
        assert [len(part) for part in splits.parts.values()] == [61, 16, 16]
        part = splits.validation
        assert part.targets is not None and part.targets.dtype == np.float32
        expected = np.zeros((16, 8), dtype=np.float32)
        rows = np.arange(64, 80)
        expected[np.arange(16), rows % 8], expected[np.arange(16), (rows + 1) % 8] = 0.6, 0.4
        np.testing.assert_allclose(part.targets, expected)
        np.testing.assert_array_equal(part.labels, rows % 8)

    def test_ties_dropped_classes_and_rows_without_votes_are_counted(self, splits):
        text = "\n".join(splits.notes)
        assert "fer0000000.png: several classes have the most votes; the label is drawn among them" in text
        assert "1 rows with the most votes for unknown: dropped" in text
        assert "1 rows with the most votes for NF: dropped" in text
        assert "fer0000005.png: no votes; left out" in text
        names = {splits.train.name_of(row) for row in range(len(splits.train))}
        assert not {f"FER2013Train/{NAMES[row]}" for row in (1, 2, 5)} & names

    def test_votes_for_dropped_classes_are_taken_out_of_the_shares(self, splits):
        np.testing.assert_allclose(shares(splits, NAMES[4])[[4, 6]], [4 / 6, 2 / 6], rtol=1e-6)
        assert (
            splits.train.labels[[splits.train.name_of(row) for row in range(61)].index(f"FER2013Train/{NAMES[4]}")] == 4
        )
        np.testing.assert_array_equal(shares(splits, NAMES[3]), np.eye(8)[3])

    def test_a_tie_is_drawn_by_the_name_of_the_image_alone(self, tmp_path):
        """Neither the order of rows nor that of columns matters, and both classes are drawn."""
        ties = {row: {"neutral": 5, "anger": 5} for row in range(40)}
        cells = columns(votes(ties))
        labels = []
        for number, order in enumerate((np.arange(COUNT), np.random.default_rng(1).permutation(COUNT))):
            reordered = {name: [values[row] for row in order] for name, values in cells.items()}
            named = dict(sorted(reordered.items(), reverse=bool(number)))
            source = write_ferplus(tmp_path / str(number))
            write_table(source / "fer2013new.csv", named)
            opened = table.read(str(source), lambda done, total: None)
            assert isinstance(opened, ImageSource)
            labels.append(
                {
                    Path(file.name).name: opened.class_names[label]
                    for file, label in zip(opened.files, opened.labels, strict=True)
                }
            )
        assert labels[0] == labels[1]
        drawn = [labels[0][NAMES[row]] for row in range(40)]
        assert set(drawn) == {"neutral", "anger"} and 8 < drawn.count("anger") < 32

    def test_rows_without_an_image_name_are_left_out(self, tmp_path):
        """FERPlus removes images from FER2013 in this way."""
        names = [name if row not in (6, 70) else "" for row, name in enumerate(NAMES)]
        source = write_ferplus(tmp_path / "ferplus", names=names)
        read_splits = read(source)
        assert [len(part) for part in read_splits.parts.values()] == [60, 15, 16]
        assert any("2 rows (row 7, row 71): no image name; left out" in note for note in read_splits.omissions)

    def test_merged_classes_add_their_votes(self, tmp_path):
        source = write_ferplus(tmp_path / "ferplus", votes({0: {"neutral": 4, "anger": 3, "disgust": 3}}))
        (tmp_path / "source.yaml").write_text(
            f"images: {source.name}\nclasses: {{anger: negative, disgust: negative, drop: [contempt]}}\n"
        )
        merged = read(tmp_path / "source.yaml")
        assert "negative" in merged.class_names and "contempt" not in merged.class_names
        np.testing.assert_allclose(np.sort(shares(merged, NAMES[0]))[-2:], [0.4, 0.6], rtol=1e-6)
        first = [merged.train.name_of(row) for row in range(len(merged.train))].index(f"FER2013Train/{NAMES[0]}")
        assert merged.class_names[merged.train.labels[first]] == "negative", "the sum of both is the most"
        assert any("12 rows with the most votes for contempt: dropped" in note for note in merged.omissions)

    @pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", pytest.param("parquet", marks=needs_pyarrow)])
    def test_any_columns_of_votes_in_any_table(self, tmp_path, suffix):
        write_folder(tmp_path / "photos", {name: encoded(image) for name, image in zip(NAMES, faces(), strict=True)})
        cat, dog = np.arange(COUNT) % 5, 2.5 * (np.arange(COUNT) % 3) + 0.5
        cells = {"file": NAMES, "cat": cat.tolist(), "dog": dog.tolist(), "note": ["x"] * COUNT}
        path = tmp_path / "photos" / f"raters.{suffix}"
        if suffix == "jsonl":
            records = (dict(zip(cells, values, strict=True)) for values in zip(*cells.values(), strict=True))
            path.write_text("\n".join(map(json.dumps, records)))
        elif suffix == "parquet":
            import pyarrow
            from pyarrow import parquet

            parquet.write_table(pyarrow.table(cells), path)
        else:
            write_table(path, cells, "," if suffix == "csv" else "\t")
        (tmp_path / "source.yaml").write_text("images: photos\ncolumns: {votes: [cat, dog]}\n")
        source = read(tmp_path / "source.yaml")
        assert source.class_names == ("cat", "dog")
        for row in (3, 7, 50):
            expected = np.array([cat[row], dog[row]]) / (cat[row] + dog[row])
            np.testing.assert_allclose(shares(source, NAMES[row]), expected, rtol=1e-6)

    def test_the_csv_file_of_fer2013_is_read_with_the_votes_beside_it(self, tmp_path):
        """Row i of one file belongs to row i of the other."""
        images = faces()
        emotions = [5, *((3 if row % 2 else 6) for row in range(1, COUNT))]  # happy and neutral, but for the tie
        write_csv(tmp_path / "fer2013.csv", csv_rows(images, emotions, USAGES))
        names = [name if row != 7 else "" for row, name in enumerate(NAMES)]
        write_table(tmp_path / "fer2013new.csv", columns(votes(CHANGES), names))
        in_folder = read(tmp_path)
        kept = [row for row in range(64) if row not in (1, 2, 5, 7)]
        np.testing.assert_array_equal(in_folder.train.images[:], images[kept])
        np.testing.assert_array_equal(in_folder.validation.images[:], images[64:80])
        assert in_folder.train.name_of(1) == NAMES[3]
        np.testing.assert_allclose(shares(in_folder, NAMES[4])[[4, 6]], [4 / 6, 2 / 6], rtol=1e-6)
        agreeing = sum(row % 8 in (0, 1) for row in (*kept, *range(64, COUNT))) - 1
        assert any(f"{agreeing} of " in note and "labels are those of" in note for note in in_folder.notes)
        (tmp_path / "source.yaml").write_text("images: fer2013.csv\ntable: fer2013new.csv\nclasses: {drop: [fear]}\n")
        described = read(tmp_path / "source.yaml")
        assert described.class_names == tuple(name for name in KEPT if name != "fear")
        assert described.train.targets is not None and described.train.targets.shape[1] == 7
        (tmp_path / "source.yaml").write_text("images: fer2013.csv\ntable: fer2013new.csv\nsize: 6\n")
        assert read(tmp_path / "source.yaml").train.image_shape == (6, 6, 1)
        overridden = fa.read_data(tmp_path / "source.yaml", size=SIZE, progress=False)
        assert overridden.fingerprint == in_folder.fingerprint, "the size of a description is a default"
        assert read(tmp_path / "fer2013new.csv").fingerprint == in_folder.fingerprint
        patients: dict[str, list[object]] = {"patient": [f"P{row // 2}" for row in range(COUNT)]}
        write_table(tmp_path / "fer2013new.csv", columns(votes(CHANGES), names) | patients)
        groups = read(tmp_path).train.sources.groups
        assert [a == b for a, b in pairwise(groups)] == [a // 2 == b // 2 for a, b in pairwise(kept)]

    def test_a_table_of_another_edition_is_refused(self, tmp_path):
        write_csv(tmp_path / "fer2013.csv", csv_rows(faces(), [0] * COUNT, USAGES))
        usages = ["Training"] * 63 + ["PublicTest"] * 17 + ["PrivateTest"] * 16
        write_table(tmp_path / "fer2013new.csv", columns(votes(), usages=usages))
        assert_message(tmp_path, ["63 rows of the train split, but", "fer2013.csv has 64", "same edition"])

    @pytest.mark.parametrize("value", ["-1", "many", "", "inf", "nan"])
    def test_a_value_that_is_no_number_of_votes_is_refused(self, tmp_path, value):
        source = write_ferplus(tmp_path / "ferplus")
        cells = columns(votes())
        cells["surprise"][9] = value
        write_table(source / "fer2013new.csv", cells)
        assert_message(source, ["row 10 (fer0000009.png): column 'surprise'", "no number of votes"])

    def test_votes_beside_a_column_of_labels_are_ambiguous(self, tmp_path):
        source = write_ferplus(tmp_path / "ferplus")
        write_table(source / "fer2013new.csv", columns(votes()) | {"emotion": ["happy", "sad"] * (COUNT // 2)})
        assert_message(source, ["the labels may be 'emotion' or the votes of FERPlus", "columns: {label: emotion}"])
        (tmp_path / "hard.yaml").write_text("images: ferplus\ncolumns: {label: emotion}\n")
        assert read(tmp_path / "hard.yaml").train.targets is None

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("columns: {votes: [neutral]}", "two or more classes"),
            ("columns: {votes: [neutral, anger], label: Usage}", "label and votes are both set"),
            ("columns: {votes: [neutral, hapiness]}", "no column 'hapiness'; did you mean happiness"),
        ],
    )
    def test_wrong_columns_of_votes_are_refused(self, folder, tmp_path, text, part):
        (tmp_path / "ferplus").symlink_to(folder)
        (tmp_path / "source.yaml").write_text(f"images: ferplus\n{text}\n")
        assert part in message_of(tmp_path / "source.yaml").replace("'happiness'", "happiness")

    def test_ferplus_is_recognized_by_all_its_columns(self):
        assert set(FERPLUS) == {name.casefold() for name in FERPLUS_COLUMNS}


MERGED = "classes: {anger: negative, disgust: negative, drop: [contempt]}\n"


def by_image(splits: Splits) -> dict[bytes, tuple[str, dict[str, float]]]:
    """Return the label and the share of each class by the pixels of the image."""
    return {
        part.images[[row]].tobytes(): (
            part.class_names[part.labels[row]],
            {name: round(float(share), 5) for name, share in zip(part.class_names, part.targets[row], strict=True)},
        )
        for part in splits.parts.values()
        for row in range(len(part))
    }


class TestMerging:
    """Labels and shares of merged classes are the same, wherever the shares are read from."""

    @pytest.fixture
    def source(self, tmp_path) -> Path:
        """FERPlus with rows whose most frequent class changes when anger and disgust are one."""
        changes = {
            0: {"neutral": 4, "anger": 3, "disgust": 3},
            8: {"contempt": 4, "anger": 3, "disgust": 3},  # more than a dropped class has
            9: {"contempt": 5, "neutral": 5},  # a tie with a dropped class
            10: {"contempt": 6, "anger": 2, "disgust": 2},
        }
        return write_ferplus(tmp_path / "ferplus", votes(changes))

    @pytest.fixture
    def of_votes(self, source) -> dict[bytes, tuple[str, dict[str, float]]]:
        """What a description of the table of votes gives."""
        described = source.parent / "votes.yaml"
        described.write_text(f"images: {source.name}\n{MERGED}")
        result = by_image(read(described))
        assert result[faces()[0].tobytes()][0] == result[faces()[8].tobytes()][0] == "negative"
        assert result[faces()[9].tobytes()][0] == "neutral" and faces()[10].tobytes() not in result
        return result

    def test_converted_shares_give_the_labels_of_the_votes(self, source, of_votes, tmp_path):
        write_npy_folder(read(source), tmp_path / "npy")
        (tmp_path / "source.yaml").write_text(f"images: npy\n{MERGED}")
        merged = read(tmp_path / "source.yaml")
        assert by_image(merged) == of_votes
        dropped = sum(row % 8 == 7 for row in range(COUNT)) + 1
        assert f"{dropped} rows of contempt: dropped" in merged.omissions

    def test_image_files_with_shares_give_the_labels_of_the_votes(self, source, of_votes):
        opened = table.read(str(source), lambda done, total: None)
        assert isinstance(opened, ImageSource)
        changes = ClassChanges({"anger": "negative", "disgust": "negative"}, frozenset({"contempt"}))
        assert by_image(changes.applied(opened).splits(opened.settings)) == of_votes

    def test_a_class_that_no_row_has_any_more_is_left_out(self, tmp_path):
        merged = read(self.with_first_shares(tmp_path, [0.4, 0.3, 0.3, 0]))
        assert merged.class_names == ("bug", "dog")
        assert merged.train.labels.tolist() == [0, 0, 1]
        np.testing.assert_allclose(merged.train.targets, [[1.0, 0.0], [1.0, 0.0], [0.3, 0.7]], atol=1e-6)
        assert "ant: never the largest share; left out" in merged.omissions

    def test_the_label_of_the_source_stays_in_a_tie(self, tmp_path):
        merged = read(self.with_first_shares(tmp_path, [0.5, 0.2, 0.3, 0]))
        assert merged.class_names == ("ant", "bug", "dog")
        assert merged.train.labels.tolist() == [0, 1, 2]
        np.testing.assert_allclose(merged.train.targets[0], [0.5, 0.5, 0], atol=1e-6)

    def test_rows_taken_from_splits_in_memory_keep_their_own_shares_and_names(self, splits):
        rows = [57, 3, 4, *range(8, 32)]
        more = splits.train.append(random_images(1, SIZE, seed=1), parents=[3])
        changes = ClassChanges({"anger": "negative", "disgust": "negative"}, frozenset({"contempt"}))
        taken = changes.applied_to_splits(replace(splits, train=more.take([61, *rows]))).train
        whole = changes.applied_to_splits(splits).train
        names = [whole.name_of(row) for row in range(len(whole))]
        for row in range(1, len(taken)):
            same = names.index(taken.name_of(row))
            np.testing.assert_array_equal(taken.images[[row]], whole.images[[same]])
            np.testing.assert_array_equal(taken.targets[row], whole.targets[same])
        np.testing.assert_array_equal(taken.images[[0]], more.images[[61]], err_msg="from a block of its own")
        np.testing.assert_array_equal(taken.targets[0], taken.targets[2])

    def with_first_shares(self, folder: Path, first: Sequence[float]) -> Path:
        """Describe an npy folder with given shares in the first row of each split; the classes bee and cat are one."""
        shares = np.array([first, [0, 0.6, 0.4, 0], [0, 0, 0.3, 0.7]], np.float32)
        arrays: dict[str, np.ndarray] = {}
        for number, word in enumerate(("training", "validation", "test")):
            arrays |= {f"X_{word}": random_images(3, seed=number), f"Y_{word}": shares.argmax(axis=1)}
            arrays[f"shares_{word}"] = shares
        write_npy(folder / "npy", arrays, ["ant", "bee", "cat", "dog"])
        (folder / "source.yaml").write_text("images: npy\nclasses: {bee: bug, cat: bug}\n")
        return folder / "source.yaml"


class TestShowing:
    def test_data_show(self, folder):
        out = " ".join(fer_augment("data", "show", str(folder)).out.split())
        entropy = -(0.6 * np.log(0.6) + 0.4 * np.log(0.4))
        assert f"soft labels: 93 rows, mean entropy {entropy:.2f} of at most 2.08 nats; 1 unanimous (1.1 %)" in out
        summary = json.loads(fer_augment("data", "show", str(folder), "--json").out)["soft_labels"]
        assert (summary["rows"], summary["unanimous"]) == (93, 1)

    def test_hard_labels_have_no_such_line(self):
        assert "soft labels" not in fer_augment("data", "show", "demo").out
        assert json.loads(fer_augment("data", "show", "demo", "--json").out)["soft_labels"] is None

    def test_audit(self, splits):
        assert audit(splits).soft_labels == {"train": 60, "validation": 16, "test": 16}
        assert audit(splits).summary["train rows with soft labels"] == 60


class TestKeeping:
    def test_converted(self, splits, tmp_path):
        write_npy_folder(splits, tmp_path / "npy")
        assert read(tmp_path / "npy").fingerprint == splits.fingerprint

    def test_groups_are_converted_too(self, tmp_path):
        cells = columns(votes()) | {"patient": [f"p{row // 2}" for row in range(COUNT)]}
        source = write_ferplus(tmp_path / "ferplus")
        write_table(source / "fer2013new.csv", cells)
        grouped = read(source)
        write_npy_folder(grouped, tmp_path / "npy")
        assert grouped.train.sources.groups is not None
        assert read(tmp_path / "npy").fingerprint == grouped.fingerprint

    @pytest.mark.parametrize(
        "values",
        [np.ones((3, 8)) / 8, np.ones((61, 7)) / 7, np.full((61, 8), 0.2), np.full((61, 8), np.nan), np.ones(61)],
    )
    def test_damaged_shares_are_refused(self, splits, tmp_path, values):
        write_npy_folder(splits, tmp_path / "npy")
        np.save(tmp_path / "npy" / "shares_training.npy", values.astype(np.float32))
        assert "soft labels must be" in message_of(tmp_path / "npy")

    @pytest.mark.parametrize("file", ["shares_training.npy", "groups_training.npy"])
    def test_columns_of_text_are_refused(self, splits, tmp_path, file):
        write_npy_folder(splits, tmp_path / "npy")
        np.save(tmp_path / "npy" / file, np.full((61, 8), "a"))
        assert re.search("(groups|soft labels) must be", message_of(tmp_path / "npy"))

    def test_shares_that_contradict_a_label_are_refused(self, splits, tmp_path):
        write_npy_folder(splits, tmp_path / "npy")
        labels = np.load(tmp_path / "npy" / "Y_training.npy")
        assert splits.class_names[labels[1]] == "sadness"
        labels[1] = 0
        np.save(tmp_path / "npy" / "Y_training.npy", labels)
        reason = "row 1: the label neutral has a share of 0 in the soft labels, sadness has 1; label rows with"
        assert_message(tmp_path / "npy", [f"Y_training.npy: {reason}", "or leave out the soft labels"])

    def test_relabeled_rows_in_memory_are_resized_with_their_targets(self, splits):
        labels = splits.train.labels.copy()
        labels[1] = 0
        relabeled = replace(splits.train, labels=labels)
        smaller = fa.read_data(replace(splits, train=relabeled), size=6, progress=False).train
        assert smaller.image_shape == (6, 6, 1)
        np.testing.assert_array_equal(smaller.targets, relabeled.targets)

    @pytest.mark.parametrize(
        "rows", [[*range(44, 20, -1)], [*range(1, 61), 0], [5, 5, 5, *range(58)]], ids=["few", "moved", "drawn"]
    )
    def test_rows_taken_from_splits_in_memory_are_resized_with_their_own_names_groups_and_targets(self, splits, rows):
        sources = replace(splits.train.sources, groups=np.arange(61) // 2)
        train = replace(splits.train, sources=sources).take(rows)
        smaller = fa.read_data(replace(splits, train=train), size=6, progress=False).train
        assert smaller.sources.names == tuple(splits.train.sources.names[row] for row in rows)
        assert smaller.sources.groups.tolist() == [row // 2 for row in rows]
        np.testing.assert_array_equal(smaller.targets, splits.train.targets[rows])

    def test_dropped_duplicates_keep_the_others_in_place(self, splits):
        train = splits.train
        held_out = fa.ImageDataset.from_arrays(train.images[[2, 5]], train.labels[[2, 5]], train.class_names)
        kept = drop_held_out_duplicates(replace(splits, test=held_out)).train
        assert train.targets is not None and kept.targets is not None
        np.testing.assert_array_equal(kept.targets, np.delete(train.targets, [2, 5], axis=0))

    def test_oversampling_by_the_majority_class(self, folder, tmp_path):
        (tmp_path / "over.yaml").write_text("model: convnet4\nstrategies: [{imblearn: {sampler: RandomOverSampler}}]\n")
        rewriting = fa.rewrite(str(tmp_path / "over.yaml"), str(folder), progress=False)
        after = rewriting.after
        assert after.counts.min() == after.counts.max()
        of_source = rewriting.before.targets
        assert of_source is not None and after.targets is not None
        np.testing.assert_array_equal(after.targets, of_source[after.origin])

    def test_exported(self, splits, tmp_path):
        train = splits.train.take([3, 3, 10])
        write_export("npz", train, splits, tmp_path, lambda rows: None)
        np.testing.assert_array_equal(np.load(tmp_path / "training_set.npz")["targets"], train.targets)
        write_export("folder", train, splits, tmp_path, lambda rows: None)
        with (tmp_path / "training_set" / "provenance.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        assert [float(line["share of fear"]) for line in lines] == pytest.approx(train.targets[:, 6].tolist())
        fer2013 = replace_classes(splits)
        with pytest.raises(DatasetError, match="no columns for soft labels; use --format npz"):
            refuse_unfit(["csv"], fer2013)


def replace_classes(splits: Splits) -> Splits:
    """Return splits with FER2013's classes and soft labels."""
    names = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    images, labels = random_images(7), np.arange(7)
    part = fa.ImageDataset.from_arrays(
        images, labels, names, sources=fa.SourceRows(targets=np.full((7, 7), 1 / 7, dtype=np.float32))
    )
    return replace(splits, train=part, validation=part, test=part)


RECIPE = """
model: convnet4
training: {epochs: 2, batch_size: 16, learning_rate: 0.01, loss: cross_entropy, precision: float32, evaluate_every: 1}
"""
HARD_LOSS = '''
import torch
from fer_augment import Effect, Strategy, hookimpl


class HardLoss(Strategy):
    """Weigh rows by nothing, and use the class with the largest target alone."""

    @property
    def effects(self):
        return Effect.NEEDS_HARD_LABELS

    @hookimpl
    def build_loss(self, loss):
        return lambda logits, targets: torch.nn.functional.cross_entropy(
            logits, targets.argmax(dim=1), reduction="none"
        )
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory, folder) -> Path:
    place = tmp_path_factory.mktemp("place")
    (place / "ferplus").symlink_to(folder)
    (place / "soft.yaml").write_text(RECIPE)
    (place / "hard.yaml").write_text("extends: ./soft.yaml\ndata: {labels: majority}\n")
    (place / "hard_loss.py").write_text(HARD_LOSS)
    (place / "picky.yaml").write_text("extends: ./soft.yaml\nstrategies: [{'./hard_loss.py:HardLoss': {}}]\n")
    (place / "mixed.yaml").write_text("extends: ./soft.yaml\nstrategies: [{mixup: {}}]\n")
    return place


@pytest.fixture
def in_place(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(place / "cache"))
    return place


class TestTraining:
    def test_soft_and_hard_labels_are_compared_on_the_same_test_split(self, in_place):
        result = fa.compare(
            ["soft.yaml", "hard.yaml", "mixed.yaml"], "ferplus", seeds=1, out="results", jobs=1, progress=False
        )
        assert not result.failures
        soft, hard, _ = (result.runs[name][0] for name in ("soft", "hard", "mixed"))
        assert soft.record.training_key != hard.record.training_key
        one, other = (run.predictions("test") for run in (soft, hard))
        np.testing.assert_array_equal(one.labels, other.labels)
        assert not np.array_equal(one.logits, other.logits), "the targets differ"
        train = fa.read_data("ferplus", progress=False).train
        assert train.targets is not None
        np.testing.assert_allclose(soft.record.class_prior, train.targets.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(hard.record.class_prior, train.counts / len(train), atol=1e-6)
        assert result.data.audit["train rows with soft labels"] == 60
        report = (in_place / "results" / "report.html").read_text()
        assert "Train rows with soft labels" in report
        ran = fer_augment("report", "results")
        assert ran.code == 0
        image = in_place / "ferplus" / "FER2013Test" / NAMES[90]
        predicted = fer_augment("predict", str(soft.path), str(image), "--json")
        assert predicted.code == 0 and all(name in predicted.out for name in KEPT)

    def test_hard_labels_need_no_new_training_on_a_source_without_votes(self, in_place):
        """The setting changes nothing there, so both arms share their trainings."""
        prepared = fa.prepare(["soft.yaml", "hard.yaml"], "demo", seeds=1, out="nothing", progress=False)
        assert len(prepared.plan.trainings) == 1

    def test_batches_have_the_shares_as_targets(self, splits):
        from fer_augment.training.batches import Batches
        from tests.tiny_training import training_of

        train = splits.train.take([3, 0, 3])
        images, targets = Batches(training_of(data=train), "cpu").batch(np.array([2, 1]), torch.tensor([2, 1]), 0)
        torch.testing.assert_close(targets, torch.from_numpy(train.targets[[2, 1]]))
        assert images.shape == (2, 1, SIZE, SIZE)

    def test_a_strategy_that_needs_hard_labels_is_refused_by_name_before_training(self, in_place):
        message = r"recipe 'picky': step 1 \(HardLoss\): needs hard labels, .*set data.labels to majority"
        with pytest.raises(RecipeError, match=message.replace("HardLoss", "[^)]*")):
            fa.prepare(["soft.yaml", "picky.yaml"], "ferplus", seeds=1, out="refused", progress=False)
        fa.prepare(["picky.yaml"], "ferplus", seeds=1, out="a", overrides={"data.labels": "majority"}, progress=False)
        fa.prepare(["picky.yaml"], "demo", seeds=1, out="b", progress=False)

    def test_it_is_refused_beside_a_step_that_makes_soft_targets(self, in_place):
        (in_place / "both.yaml").write_text(
            "extends: ./soft.yaml\nstrategies: [{mixup: {}}, {'./hard_loss.py:HardLoss': {}}]\n"
        )
        with pytest.raises(RecipeError, match=r"needs hard labels, but step 1 \(mixup\) makes soft targets"):
            fa.prepare(["both.yaml"], "demo", seeds=1, out="c", progress=False)
