"""Data sets are immutable and validated, share pixels with data sets derived from them, and keep provenance."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fer_augment.data.dataset import AS_READ, UNSTAMPED, ImageDataset, Omission, SourceRows, Splits, occurrence
from fer_augment.data.pixel_blocks import PixelBlock
from fer_augment.errors import DatasetError
from tests.data_files import random_images

CLASSES = ("ant", "bee", "cat")
ROWS = 7


def seven_rows(images: np.ndarray | PixelBlock | None = None) -> ImageDataset:
    return ImageDataset.from_arrays(random_images(ROWS) if images is None else images, [0, 1, 2, 0, 1, 2, 0], CLASSES)


def arrays_of(dataset: ImageDataset) -> dict[str, np.ndarray]:
    return {
        field.name: getattr(dataset, field.name)
        for field in fields(dataset)
        if isinstance(getattr(dataset, field.name), np.ndarray)
    }


class TestConstruction:
    def test_source_rows_are_their_own_origins_without_a_step(self) -> None:
        dataset = seven_rows()

        assert dataset.origins.tolist() == [[row] for row in range(ROWS)]
        assert dataset.copies.tolist() == [0] * ROWS
        assert dataset.step.tolist() == [AS_READ] * ROWS

    def test_a_channel_axis_is_added(self) -> None:
        assert seven_rows(random_images(ROWS)[..., 0]).image_shape == (4, 4, 1)

    def test_any_size_and_number_of_channels(self) -> None:
        images = np.arange(ROWS * 2 * 5 * 3, dtype=np.uint8).reshape(ROWS, 2, 5, 3)

        assert seven_rows(images).images.shape == (ROWS, 2, 5, 3)
        assert repr(seven_rows(images)) == "ImageDataset(7 rows of 2x5x3, 3 classes)"

    def test_arrays_are_copied(self) -> None:
        images, labels, rows = random_images(3), np.array([0, 1, 2]), np.array([2, 1, 0])
        dataset = ImageDataset.from_arrays(images, labels, CLASSES, rows=rows)
        original = images.copy()

        images[:], labels[:], rows[:] = 0, 0, 0

        assert_array_equal(dataset.images[:], original[::-1])
        assert dataset.labels.tolist() == [0, 1, 2]

    def test_data_sets_are_read_only(self) -> None:
        writable = random_images(ROWS)
        for dataset in (seven_rows(), seven_rows(PixelBlock(writable)), pickle.loads(pickle.dumps(seven_rows()))):
            for array in (*arrays_of(dataset).values(), dataset.origin, dataset.counts, dataset.blocks[0].pixels):
                with pytest.raises(ValueError, match="read-only"):
                    array[0] = 1
            with pytest.raises(FrozenInstanceError):
                dataset.labels = np.zeros(ROWS)  # type: ignore[misc]

    def test_counts_include_classes_without_rows(self) -> None:
        dataset = ImageDataset.from_arrays(random_images(3), [2, 0, 2], CLASSES)
        assert dataset.counts.tolist() == [1, 0, 2]
        assert dataset.counts is dataset.counts, "they are counted once"

    def test_rows_and_labels_of_class_names(self) -> None:
        assert seven_rows().rows_of(["cat", "ant"]).tolist() == [0, 2, 3, 5, 6]
        assert seven_rows().rows_of([]).tolist() == []
        assert seven_rows().class_number("bee") == 1

    def test_selected_rows_of_a_block_equal_copied_rows(self) -> None:
        images, labels = random_images(6), np.array([0, 1, 0, 1, 1, 0])
        rows = np.array([4, 0, 5])
        view = ImageDataset.from_arrays(PixelBlock.of(images), labels[rows], "ab", rows=rows)
        copy = ImageDataset.from_arrays(images[rows], labels[rows], "ab")

        assert view.fingerprint == copy.fingerprint
        assert_array_equal(view.images[:], copy.images[:])
        assert view.origin.tolist() == [0, 1, 2]

    def test_an_unknown_class_is_refused_with_the_closest_name(self) -> None:
        with pytest.raises(DatasetError, match=r"no class 'bees'; did you mean 'bee'\?"):
            seven_rows().rows_of(["bees"])

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: seven_rows(random_images(ROWS).astype(np.float32)), "uint8 in 0..255, got float32; convert"),
            (lambda: PixelBlock(random_images(ROWS) / 255), "uint8 in 0..255, got float64"),
            (lambda: seven_rows(random_images(ROWS)[..., None]), r"\(N, H, W, C\), got shape \(7, 4, 4, 1, 1\)"),
            (lambda: seven_rows(random_images(6)), "labels has 7 rows, index has 6"),
            (lambda: ImageDataset.from_arrays(random_images(2), [0, 3], CLASSES), r"row 1: label 3 is outside 0..2"),
            (lambda: ImageDataset.from_arrays(random_images(2), [-1, 0], CLASSES), "row 0: label -1 is outside"),
            (lambda: ImageDataset.from_arrays(random_images(2), [0.0, 1.0], CLASSES), "labels must be integers"),
            (lambda: ImageDataset.from_arrays(random_images(2), [[0], [1]], CLASSES), r"labels .* shape \(2, 1\)"),
            (lambda: ImageDataset.from_arrays(random_images(2), [0, 0], ("a", "a")), "class_names must be .* unique"),
            (lambda: ImageDataset.from_arrays(random_images(2), [0, 0], ()), "class_names must be non-empty"),
            *(
                (
                    lambda name=name: ImageDataset.from_arrays(random_images(2), [0, 0], ("a", name)),
                    "is empty, has white",
                )
                for name in ("", " padded", "padded ", "line\nbreak", "nul\0", "\u202emirrored", "\x1b[31mred")
            ),
            (lambda: ImageDataset.from_arrays(random_images(2), [0], CLASSES, rows=[2]), r"positions in 0\.\.1"),
            (lambda: ImageDataset.from_arrays(random_images(2), [0], CLASSES, rows=[-1]), r"positions in 0\.\.1"),
            (lambda: ImageDataset.from_arrays(random_images(6), [0], CLASSES, rows=[6]), r"positions in 0\.\.5"),
        ],
    )
    def test_invalid_arrays_are_refused(self, make: Callable[[], object], message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            make()


class TestImages:
    def test_rows_are_gathered_by_slice_positions_or_mask_into_a_new_array(self) -> None:
        images = random_images(ROWS)
        dataset = seven_rows(images)
        mask = np.arange(ROWS) % 2 == 0

        for rows, expected in ((slice(2, 5), images[2:5]), ([5, 0, 5], images[[5, 0, 5]]), (mask, images[mask])):
            gathered = dataset.images[rows]
            assert_array_equal(gathered, expected)
            gathered[:] = 0
        assert_array_equal(dataset.images[:], images)

    @pytest.mark.parametrize("rows", [[], np.zeros(ROWS, bool), slice(0, 0)])
    def test_no_rows(self, rows: slice | list[int]) -> None:
        assert seven_rows().images[rows].shape == (0, 4, 4, 1)

    def test_one_position(self) -> None:
        assert_array_equal(seven_rows().images[3], random_images(ROWS)[3:4])

    def test_images_of_several_blocks_are_gathered_in_order(self) -> None:
        old, new = random_images(ROWS), random_images(2, seed=1)
        grown = seven_rows(old).append(new[:1], parents=[0]).append(new[1:], parents=[1])

        assert_array_equal(grown.images[[8, 0, 7, 6, 8]], np.concatenate([old, new])[[8, 0, 7, 6, 8]])
        assert len(grown.images) == ROWS + 2


class TestTake:
    def test_rows_are_in_the_given_order(self) -> None:
        taken = seven_rows().take([6, 2, 4])

        assert_array_equal(taken.images[:], random_images(ROWS)[[6, 2, 4]])
        assert taken.labels.tolist() == [0, 2, 1]
        assert taken.origin.tolist() == [6, 2, 4]

    def test_a_repeated_row_becomes_a_copy_without_a_step_number(self) -> None:
        taken = seven_rows().take([3, 1, 3, 3])

        assert taken.origin.tolist() == [3, 1, 3, 3]
        assert taken.copies.tolist() == [0, 0, 1, 2]
        assert taken.step.tolist() == [AS_READ, AS_READ, UNSTAMPED, UNSTAMPED]

    def test_copies_of_copies_have_their_own_copy_numbers(self) -> None:
        swapped = seven_rows().take([3, 3]).take([1, 0])

        assert swapped.take([0, 0, 1, 1]).copies.tolist() == [1, 2, 0, 3]
        assert swapped.append(random_images(1), parents=[1]).copies.tolist() == [1, 0, 2]

    def test_a_mask_selects_rows(self) -> None:
        assert seven_rows().take(np.arange(ROWS) > 4).origin.tolist() == [5, 6]

    @pytest.mark.parametrize("rows", [[], (), np.array([], dtype=int)])
    def test_take_and_without_accept_no_rows(self, rows: list[int]) -> None:
        assert len(seven_rows().take(rows)) == 0
        assert len(seven_rows().without(rows)) == ROWS

    def test_without_keeps_the_other_rows_unchanged(self) -> None:
        assert seven_rows().without([1, 5, 1]).origin.tolist() == [0, 2, 3, 4, 6]
        assert seven_rows().without(np.arange(ROWS) != 2).origin.tolist() == [2]

    @pytest.mark.parametrize("rows", [[ROWS], [0.5], np.ones(ROWS + 1, bool)])
    def test_rows_out_of_range_raise_index_errors(self, rows: list[int]) -> None:
        with pytest.raises(IndexError):
            seven_rows().take(rows)


class TestAppend:
    def test_new_rows_are_at_the_end_with_the_origins_of_their_parents(self) -> None:
        new = random_images(3, seed=1)
        grown = seven_rows().append(new, parents=[4, 4, 0])

        assert_array_equal(grown.images[ROWS:], new)
        assert grown.labels[ROWS:].tolist() == [1, 1, 0]
        assert grown.origin[ROWS:].tolist() == [4, 4, 0]
        assert grown.copies[ROWS:].tolist() == [1, 2, 1]
        assert grown.step[ROWS:].tolist() == [UNSTAMPED] * 3

    def test_copies_of_one_source_row_are_numbered_in_the_order_of_their_parents(self) -> None:
        """Whatever the order of the rows and of the new ones: the parents are copies 1 and 0 of row 3, and row 5."""
        rows = seven_rows().take([3, 3, 5])
        swapped = rows.take([2, 1, 0])

        assert rows.append(random_images(3), parents=[1, 0, 2]).copies.tolist() == [0, 1, 0, 3, 2, 1]
        assert swapped.append(random_images(3), parents=[1, 2, 0]).copies.tolist() == [0, 1, 0, 3, 2, 1]
        assert rows.append(random_images(4), parents=[1, 0, 1, 0]).copies[3:].tolist() == [4, 2, 5, 3]

    def test_new_rows_with_labels(self) -> None:
        assert seven_rows().append(random_images(2), [2, 1], parents=[0, 0]).labels[ROWS:].tolist() == [2, 1]

    def test_an_interpolated_row_has_the_origins_of_both_parents(self) -> None:
        grown = seven_rows().append(random_images(2), parents=[[1, 5], [2, 2]])

        assert grown.origins[ROWS:].tolist() == [[1, 5], [2, -1]]
        assert grown.origins[:ROWS].tolist() == [[row, -1] for row in range(ROWS)]
        assert grown.labels[ROWS:].tolist() == [1, 2]

    def test_origins_are_inherited_over_several_steps(self) -> None:
        once = seven_rows().append(random_images(2), parents=[[1, 5], [5, 0]])
        twice = once.append(random_images(1), parents=[[ROWS, ROWS + 1]])

        assert twice.origins[-1].tolist() == [1, 5, 0]

    def test_appended_images_are_copied(self) -> None:
        new = random_images(1)
        grown = seven_rows().append(new, parents=[0])

        new[:] = 0

        assert_array_equal(grown.images[ROWS:], random_images(1))

    def test_appending_no_images_changes_nothing(self) -> None:
        assert seven_rows().append(random_images(0), parents=[]).fingerprint == seven_rows().fingerprint

    @pytest.mark.parametrize(
        ("images", "labels", "parents", "message"),
        [
            (random_images(1, side=5), None, [0], r"appended images have shape \(5, 5, 1\), expected \(4, 4, 1\)"),
            (random_images(1, channels=3), None, [0], r"expected \(4, 4, 1\); resize or convert them"),
            (random_images(1) / 255, None, [0], "must be uint8"),
            (np.zeros((1, 0, 4), np.uint8), None, [0], "have no pixels"),
            (np.zeros((1, 4, 4, 0), np.uint8), None, [0], "have no pixels"),
            (random_images(2), None, [0], "2 appended images, but 1 rows of parents"),
            (random_images(1), None, [ROWS], r"parents must be positions in 0\.\.6"),
            (random_images(1), None, [-1], r"parents must be positions in 0\.\.6"),
            (random_images(1), None, [0.0], "parents must be integers, got float64"),
            (random_images(ROWS), None, np.ones(ROWS, bool), "parents must be integers, got bool"),
            (random_images(1), [3], [0], r"row 7: label 3 is outside 0\.\.2"),
            (random_images(2), [0], [0, 0], "labels has 8 rows, index has 9"),
        ],
    )
    def test_inconsistent_arrays_are_refused(
        self, images: np.ndarray, labels: list[int] | None, parents: list[int], message: str
    ) -> None:
        with pytest.raises(DatasetError, match=message):
            seven_rows().append(images, labels, parents=parents)


class TestStepNumbers:
    def test_step_numbers_are_set_on_new_rows_only(self) -> None:
        first = seven_rows().take([0, 0, 1]).stamped(1)
        second = first.append(random_images(1), parents=[1]).stamped(2)

        assert second.step.tolist() == [AS_READ, 1, AS_READ, 2]

    def test_moved_rows_keep_their_step_number(self) -> None:
        assert seven_rows().take([0, 0]).stamped(1).take([1, 0]).stamped(2).step.tolist() == [1, AS_READ]


class TestRowKeys:
    def test_row_keys_are_unique(self) -> None:
        grown = seven_rows().take([0, 0, 1, 1, 1]).append(random_images(2), parents=[[0, 2], [2, 0]])

        assert len(set(grown.row_keys().tolist())) == len(grown)
        assert grown.row_keys().dtype == np.uint64

    def test_row_keys_of_some_rows(self) -> None:
        keys = seven_rows().row_keys()

        assert_array_equal(seven_rows().row_keys([5, 1]), keys[[5, 1]])
        assert_array_equal(seven_rows().row_keys(slice(2, 4)), keys[2:4])
        assert len(seven_rows().row_keys([])) == 0

    @pytest.mark.parametrize("parents", [[0, 3, 0], [1, 0, 1], [[0, 1], [3, 0], [0, 0]], [[1, 0], [0, 1]], []])
    def test_copy_keys_are_the_keys_of_appended_rows(self, parents: list[int]) -> None:
        dataset = seven_rows().take([0, 0, 1, 2])
        grown = dataset.append(random_images(len(parents)), parents=parents)

        assert_array_equal(dataset.copy_keys(parents), grown.row_keys(slice(len(dataset), None)))


class TestFingerprint:
    def test_equal_contents_have_equal_fingerprints_in_memory_and_on_disk(self, tmp_path: Path) -> None:
        np.save(tmp_path / "images.npy", random_images(ROWS))
        mapped = seven_rows(PixelBlock.open(tmp_path / "images.npy"))
        reversed_block = PixelBlock.of(random_images(ROWS)[::-1])
        indexed = ImageDataset.from_arrays(reversed_block, seven_rows().labels, CLASSES, rows=np.arange(ROWS)[::-1])

        assert {mapped.fingerprint, indexed.fingerprint} == {seven_rows().fingerprint}

    def test_removed_rows_do_not_change_the_fingerprint(self) -> None:
        grown = seven_rows().append(random_images(2), parents=[[0, 1], [2, 3]])

        assert grown.without([ROWS, ROWS + 1]).fingerprint == seven_rows().fingerprint

    @pytest.mark.parametrize(
        "change",
        [
            lambda dataset: dataset.take([1, 0, 2, 3, 4, 5, 6]),
            lambda dataset: dataset.without([6]),
            lambda dataset: dataset.take([0, 0, 1, 2, 3, 4, 5]).take(range(ROWS)),
            lambda dataset: replace(dataset, class_names=("ant", "bee", "dog")),
            lambda dataset: replace(dataset, labels=(dataset.labels + 1) % 3),
            lambda dataset: replace(dataset, origins=dataset.origins + 1),
            lambda dataset: replace(dataset, copies=dataset.copies + 1),
            lambda dataset: seven_rows(random_images(ROWS, seed=1)),
            lambda dataset: seven_rows(random_images(ROWS).reshape(ROWS, 2, 8, 1)),
        ],
    )
    def test_every_change_of_the_contents_changes_the_fingerprint(
        self, change: Callable[[ImageDataset], ImageDataset]
    ) -> None:
        assert change(seven_rows()).fingerprint != seven_rows().fingerprint

    def test_equal_images_have_equal_digests_across_blocks(self) -> None:
        images = random_images(ROWS)
        images[4] = images[1]
        grown = seven_rows(images).append(images[1:2], parents=[0])

        same = grown.digests == grown.digests[1]
        assert np.flatnonzero(same).tolist() == [1, 4, ROWS]


class TestMemoryMaps:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        np.save(tmp_path / "images.npy", random_images(1000, side=48))
        return tmp_path / "images.npy"

    def test_a_million_rows_of_a_file_use_memory_for_indices_only(self, file: Path) -> None:
        rows = np.random.default_rng(0).integers(0, 1000, 1_000_000)
        dataset = ImageDataset.from_arrays(PixelBlock.open(file), np.zeros(1000, int), CLASSES)
        tracemalloc.start()
        taken = dataset.take(rows)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

        assert taken.blocks[0] is dataset.blocks[0]
        assert isinstance(taken.blocks[0].pixels, np.memmap)
        assert peak < 150 * len(rows) < len(rows) * 48 * 48 / 10
        assert_array_equal(taken.images[-5:], random_images(1000, side=48)[rows[-5:]])

    def test_gathered_images_are_plain_writable_arrays(self, file: Path) -> None:
        dataset = ImageDataset.from_arrays(PixelBlock.open(file), np.zeros(1000, int), CLASSES)
        both = dataset.append(dataset.images[:1], parents=[0])

        for gathered in (dataset.images[[3, 1]], both.images[[3, 1000]]):
            assert type(gathered) is np.ndarray
            assert gathered.flags.writeable

    def test_memory_mapped_blocks_are_pickled_as_paths(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(file.parent)
        dataset = ImageDataset.from_arrays(PixelBlock.open(Path(file.name)), np.zeros(1000, int), CLASSES)
        dataset.take(range(10)).fingerprint  # noqa: B018 - cached properties must not be pickled
        pickled = pickle.dumps(dataset.take(range(10)))
        monkeypatch.chdir("/")
        copy = pickle.loads(pickled)

        assert len(pickled) < 2000
        assert isinstance(copy.blocks[0].pixels, np.memmap)
        assert copy.fingerprint == dataset.take(range(10)).fingerprint

    def test_blocks_in_memory_are_pickled_with_their_pixels(self) -> None:
        dataset = seven_rows().append(random_images(1), parents=[0])
        copy = pickle.loads(pickle.dumps(dataset))

        assert_array_equal(copy.images[:], dataset.images[:])
        for name, array in arrays_of(dataset).items():
            assert_array_equal(getattr(copy, name), array)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (np.zeros((2, 4, 4)), "images.npy: images must be uint8 in 0..255, got float64"),
            (np.zeros(5, np.uint8), r"images.npy: images must be \(N, H, W\)"),
            (np.array([{}]), "images.npy: not a readable .npy file"),
            (b"nothing", "images.npy: not a readable .npy file"),
            (None, "images.npy: not a readable .npy file"),
        ],
    )
    def test_invalid_npy_files_are_refused_by_name(
        self, tmp_path: Path, content: np.ndarray | bytes | None, message: str
    ) -> None:
        file = tmp_path / "images.npy"
        if isinstance(content, bytes):
            file.write_bytes(content)
        elif content is not None:
            np.save(file, content, allow_pickle=True)

        with pytest.raises(DatasetError, match=message):
            PixelBlock.open(file)


class TestSourceRows:
    """Names, groups and soft labels belong to source rows and follow them."""

    SOFT = np.array([[0.8, 0.2], [0.5, 0.5], [0.1, 0.9]], dtype=np.float32)

    def data(self, **columns: Any) -> ImageDataset:
        images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
        return ImageDataset.from_arrays(images, [0, 1, 1], ["ant", "bee"], sources=SourceRows(**columns))

    def test_names_follow_their_rows(self) -> None:
        data = self.data(names=("a.png", "b.png", "c.png"))
        mirrored = data.take([2, 0]).append(data.images[[2]][:, :, ::-1], parents=[0])
        assert [mirrored.name_of(row) for row in range(3)] == ["c.png", "a.png", "c.png"]
        assert self.data().name_of(0) is None

    def test_soft_labels_follow_their_rows_and_are_averaged_over_parents(self) -> None:
        data = self.data(targets=self.SOFT)
        targets = data.take([2, 0, 2]).append(data.images[[0]], parents=[[0, 1]]).targets
        assert targets is not None
        np.testing.assert_allclose(targets, [self.SOFT[2], self.SOFT[0], self.SOFT[2], self.SOFT[[0, 2]].mean(axis=0)])
        assert self.data().targets is None

    def test_a_relabeled_row_has_a_one_hot_target(self) -> None:
        data = self.data(targets=self.SOFT)
        targets = data.append(data.images[[2, 1]], labels=[0, 0], parents=[2, 1]).targets
        assert targets is not None
        np.testing.assert_allclose(targets[3:], [[1.0, 0.0], [0.5, 0.5]], err_msg="a tie is no relabeling")

    def test_groups_and_soft_labels_are_part_of_the_fingerprint(self) -> None:
        groups = np.array([0, 0, 1])
        prints = {
            self.data(**columns).fingerprint
            for columns in ({}, {"groups": groups}, {"groups": groups[::-1]}, {"targets": self.SOFT})
        }
        assert len(prints) == 4
        assert self.data(names=("a", "b", "c")).fingerprint == self.data().fingerprint
        assert self.data(groups=groups.astype(np.uint64)).fingerprint in prints

    def test_soft_labels_must_be_shares(self) -> None:
        for row in ([0.5, 0.6], [1.5, -0.5]):
            with pytest.raises(DatasetError, match="row 1: soft labels must be 0 or more and sum to 1"):
                SourceRows(targets=np.array([[1, 0], row], dtype=np.float32))

    def test_soft_labels_must_agree_with_the_labels_of_source_rows(self) -> None:
        nearly = np.array([[0.5, 0.5], [0.5 + 1e-7, 0.5 - 1e-7], [0, 1]], dtype=np.float32)
        targets = self.data(targets=nearly).targets
        np.testing.assert_array_equal(targets, nearly, err_msg="rounding is no contradiction")
        message = "row 1: the label bee has a share of 0.4 in the soft labels, ant has 0.6; label rows with the class"
        with pytest.raises(DatasetError, match=message):
            self.data(targets=np.array([[1, 0], [0.6, 0.4], [0, 1]], dtype=np.float32))


class TestSplits:
    def parts(self) -> dict[str, Any]:
        validation = ImageDataset.from_arrays(random_images(2, seed=1), [0, 1], CLASSES)
        return {"train": seven_rows(), "validation": validation, "test": seven_rows().take([2, 5])}

    def test_parts_are_named_in_order(self) -> None:
        splits = Splits(**self.parts(), source="synthetic")

        assert list(splits.parts) == ["train", "validation", "test"]
        assert splits.class_names == CLASSES

    def test_the_fingerprint_depends_on_the_order_of_splits(self) -> None:
        parts = self.parts()
        swapped = {**parts, "validation": parts["test"], "test": parts["validation"]}

        assert Splits(**parts, source="a").fingerprint == Splits(**self.parts(), source="b").fingerprint
        assert Splits(**parts, source="a").fingerprint != Splits(**swapped, source="a").fingerprint

    def test_notes_on_what_is_not_used_are_omissions(self) -> None:
        notes = (
            Omission("skipped 40 rows without a label"),
            "60 images resized",
            Omission("12 rows of fox: dropped"),
            "columns: image (file), dropped (label)",
            "2 rows (left out.png, not read.png): no group; each is a group of its own",
        )
        splits = Splits(**self.parts(), source="synthetic", notes=notes)

        for copy in (splits, replace(splits, source="other"), pickle.loads(pickle.dumps(splits))):
            assert copy.notes == notes
            assert copy.omissions == (notes[0], notes[2])

    def test_in_train_marks_held_out_rows_with_an_exact_duplicate_in_train(self) -> None:
        splits = Splits(**self.parts(), source="synthetic")

        assert splits.in_train(splits.test).tolist() == [True, True]
        assert splits.in_train(splits.validation).tolist() == [False, False]

    @pytest.mark.parametrize(
        ("name", "part", "message"),
        [
            ("test", seven_rows().take([]), "synthetic: the test split is empty"),
            (
                "test",
                seven_rows(random_images(ROWS, side=5)),
                "synthetic: the test split has images of 5x5x1, train has 4x4x1; save all in one size",
            ),
            (
                "test",
                replace(seven_rows(), class_names=("a", "b", "c")),
                "synthetic: the test split has other classes than train",
            ),
            (
                "train",
                seven_rows().without(seven_rows().rows_of(["cat"])),
                "the test split has rows of cat, the train split has none",
            ),
        ],
    )
    def test_inconsistent_splits_are_refused(self, name: str, part: ImageDataset, message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            Splits(**{**self.parts(), name: part}, source="synthetic")


@given(st.lists(st.integers(-3, 3) | st.sampled_from([2**16, 2**16 + 1, 2**40])))
def test_occurrence_counts_equal_values_before_each(values: list[int]) -> None:
    assert occurrence(np.array(values, dtype=np.int64)).tolist() == [
        values[:place].count(value) for place, value in enumerate(values)
    ]


class ReferenceDataset:
    """A data set, and its expected rows as tuples of pixel, label and origins, maintained with plain loops."""

    def __init__(self) -> None:
        images = np.arange(4, dtype=np.uint8)[:, None, None, None]
        self.dataset = ImageDataset.from_arrays(images, [0, 1, 0, 1], ("a", "b"))
        self.rows = [(row, row % 2, (row,)) for row in range(4)]
        self.pixel = 4

    def change(self, data: st.DataObject) -> None:
        """Make a random change to the data set and to the expected rows."""
        kind = data.draw(st.sampled_from(["take", "without", "append", "interpolate"]))
        positions = st.integers(0, len(self.rows) - 1)
        if kind == "take":
            chosen = data.draw(st.lists(positions, min_size=1, max_size=8))
            self.dataset, self.rows = self.dataset.take(chosen), [self.rows[row] for row in chosen]
        elif kind == "without":
            dropped = data.draw(st.sets(positions, max_size=len(self.rows) - 1))
            self.dataset = self.dataset.without(sorted(dropped))
            self.rows = [row for position, row in enumerate(self.rows) if position not in dropped]
        else:
            many = 1 if kind == "append" else 2
            parents = data.draw(st.lists(st.tuples(*[positions] * many), max_size=3))
            pixels = np.arange(self.pixel, self.pixel + len(parents), dtype=np.uint8)
            self.pixel += len(parents)
            self.dataset = self.dataset.append(
                pixels[:, None, None, None], parents=np.array(parents, dtype=int).reshape(-1, many)
            )
            for pixel, row_parents in zip(pixels.tolist(), parents, strict=True):
                origins = dict.fromkeys(origin for parent in row_parents for origin in self.rows[parent][2])
                self.rows.append((pixel, self.rows[row_parents[0]][1], tuple(origins)))


@given(st.data())
def test_any_sequence_of_changes_keeps_pixels_labels_and_origins(data: st.DataObject) -> None:
    reference = ReferenceDataset()
    for _ in range(data.draw(st.integers(1, 6))):
        reference.change(data)
        dataset = reference.dataset

        rows = zip(dataset.images[:].ravel().tolist(), dataset.labels.tolist(), dataset.origins.tolist(), strict=True)
        actual = [(pixel, label, tuple(o for o in origins if o != -1)) for pixel, label, origins in rows]
        assert actual == reference.rows
        assert len(set(dataset.row_keys().tolist())) == len(dataset)


@given(st.data())
def test_row_keys_do_not_depend_on_other_rows(data: st.DataObject) -> None:
    dataset = seven_rows().append(random_images(3, seed=1), parents=[0, 0, 1])
    keys = dict(zip(dataset.digests.tolist(), dataset.row_keys().tolist(), strict=True))
    order = data.draw(st.permutations(range(len(dataset))))
    moved = dataset.take(order).append(random_images(2, seed=2), parents=[0, 5])
    kept = moved.take(data.draw(st.lists(st.integers(0, len(moved) - 1), unique=True)))

    for digest, key in zip(kept.digests.tolist(), kept.row_keys().tolist(), strict=True):
        assert keys.get(digest, key) == key
