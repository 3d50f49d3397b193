"""A data set is frozen and checked, shares pixels with the sets it was made from, and never forgets a row's origin."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fer_augment.data.dataset import AS_READ, UNSTAMPED, ImageDataset, PixelBlock, Splits, occurrence
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


class TestMaking:
    def test_source_rows_descend_from_themselves_and_no_step_made_them(self) -> None:
        dataset = seven_rows()

        assert dataset.origins.tolist() == [[row] for row in range(ROWS)]
        assert dataset.copies.tolist() == [0] * ROWS
        assert dataset.step.tolist() == [AS_READ] * ROWS

    def test_images_without_channels_get_one(self) -> None:
        assert seven_rows(random_images(ROWS)[..., 0]).image_shape == (4, 4, 1)

    def test_any_size_and_number_of_channels_will_do(self) -> None:
        images = np.arange(ROWS * 2 * 5 * 3, dtype=np.uint8).reshape(ROWS, 2, 5, 3)

        assert seven_rows(images).images.shape == (ROWS, 2, 5, 3)
        assert repr(seven_rows(images)) == "ImageDataset(7 rows of 2x5x3, 3 classes)"

    def test_what_is_done_to_the_arrays_afterwards_does_not_reach_the_set(self) -> None:
        images, labels, rows = random_images(3), np.array([0, 1, 2]), np.array([2, 1, 0])
        dataset = ImageDataset.from_arrays(images, labels, CLASSES, rows=rows)
        kept = images.copy()

        images[:], labels[:], rows[:] = 0, 0, 0

        assert_array_equal(dataset.images[:], kept[::-1])
        assert dataset.labels.tolist() == [0, 1, 2]

    def test_nothing_in_a_set_can_be_written_to(self) -> None:
        writable = random_images(ROWS)
        for dataset in (seven_rows(), seven_rows(PixelBlock(writable)), pickle.loads(pickle.dumps(seven_rows()))):
            for array in (*arrays_of(dataset).values(), dataset.origin, dataset.blocks[0].pixels):
                with pytest.raises(ValueError, match="read-only"):
                    array[0] = 1
            with pytest.raises(FrozenInstanceError):
                dataset.labels = np.zeros(ROWS)  # type: ignore[misc]

    def test_counts_name_every_class_even_one_without_rows(self) -> None:
        assert ImageDataset.from_arrays(random_images(3), [2, 0, 2], CLASSES).counts.tolist() == [1, 0, 2]

    def test_rows_and_labels_are_found_by_class_name(self) -> None:
        assert seven_rows().rows_of(["cat", "ant"]).tolist() == [0, 2, 3, 5, 6]
        assert seven_rows().rows_of([]).tolist() == []
        assert seven_rows().class_number("bee") == 1

    def test_an_unknown_class_is_told_with_the_nearest_known_one(self) -> None:
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
            (lambda: ImageDataset.from_arrays(random_images(2), [0, 0], ("a", "a")), "differ from each other"),
            (lambda: ImageDataset.from_arrays(random_images(2), [0, 0], ()), "class names must be given"),
            (lambda: ImageDataset.from_arrays(random_images(2), [0], CLASSES, rows=[2]), r"positions in 0\.\.1"),
            (lambda: ImageDataset.from_arrays(random_images(2), [0], CLASSES, rows=[-1]), r"positions in 0\.\.1"),
        ],
    )
    def test_arrays_that_do_not_fit_are_refused(self, make: Callable[[], object], message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            make()


class TestImages:
    def test_rows_are_gathered_by_slice_positions_or_mask_into_an_array_of_the_callers_own(self) -> None:
        images = random_images(ROWS)
        dataset = seven_rows(images)
        mask = np.arange(ROWS) % 2 == 0

        for rows, expected in ((slice(2, 5), images[2:5]), ([5, 0, 5], images[[5, 0, 5]]), (mask, images[mask])):
            gathered = dataset.images[rows]
            assert_array_equal(gathered, expected)
            gathered[:] = 0
        assert_array_equal(dataset.images[:], images)

    @pytest.mark.parametrize("rows", [[], np.zeros(ROWS, bool), slice(0, 0)])
    def test_no_rows_give_no_images(self, rows: slice | list[int]) -> None:
        assert seven_rows().images[rows].shape == (0, 4, 4, 1)

    def test_one_position_gives_one_image(self) -> None:
        assert_array_equal(seven_rows().images[3], random_images(ROWS)[3:4])

    def test_images_of_several_blocks_are_gathered_in_order(self) -> None:
        old, new = random_images(ROWS), random_images(2, seed=1)
        grown = seven_rows(old).append(new[:1], parents=[0]).append(new[1:], parents=[1])

        assert_array_equal(grown.images[[8, 0, 7, 6, 8]], np.concatenate([old, new])[[8, 0, 7, 6, 8]])
        assert len(grown.images) == ROWS + 2


class TestTake:
    def test_rows_come_in_the_order_asked_for_with_all_that_belongs_to_them(self) -> None:
        taken = seven_rows().take([6, 2, 4])

        assert_array_equal(taken.images[:], random_images(ROWS)[[6, 2, 4]])
        assert taken.labels.tolist() == [0, 2, 1]
        assert taken.origin.tolist() == [6, 2, 4]

    def test_a_row_named_again_becomes_a_copy_that_no_step_has_claimed_yet(self) -> None:
        taken = seven_rows().take([3, 1, 3, 3])

        assert taken.origin.tolist() == [3, 1, 3, 3]
        assert taken.copies.tolist() == [0, 0, 1, 2]
        assert taken.step.tolist() == [AS_READ, AS_READ, UNSTAMPED, UNSTAMPED]

    def test_a_copy_of_a_copy_is_told_apart_from_it(self) -> None:
        swapped = seven_rows().take([3, 3]).take([1, 0])

        assert swapped.take([0, 0, 1, 1]).copies.tolist() == [1, 2, 0, 3]
        assert swapped.append(random_images(1), parents=[1]).copies.tolist() == [1, 0, 2]

    def test_a_mask_keeps_the_rows_it_marks(self) -> None:
        assert seven_rows().take(np.arange(ROWS) > 4).origin.tolist() == [5, 6]

    @pytest.mark.parametrize("rows", [[], (), np.array([], dtype=int)])
    def test_no_rows_may_be_taken_and_none_left_out(self, rows: list[int]) -> None:
        assert len(seven_rows().take(rows)) == 0
        assert len(seven_rows().without(rows)) == ROWS

    def test_without_leaves_the_other_rows_as_they_were(self) -> None:
        assert seven_rows().without([1, 5, 1]).origin.tolist() == [0, 2, 3, 4, 6]
        assert seven_rows().without(np.arange(ROWS) != 2).origin.tolist() == [2]

    @pytest.mark.parametrize("rows", [[ROWS], [0.5], np.ones(ROWS + 1, bool)])
    def test_rows_that_are_not_there_are_an_error(self, rows: list[int]) -> None:
        with pytest.raises(IndexError):
            seven_rows().take(rows)


class TestAppend:
    def test_new_rows_stand_at_the_end_and_descend_from_their_parents(self) -> None:
        new = random_images(3, seed=1)
        grown = seven_rows().append(new, parents=[4, 4, 0])

        assert_array_equal(grown.images[ROWS:], new)
        assert grown.labels[ROWS:].tolist() == [1, 1, 0]
        assert grown.origin[ROWS:].tolist() == [4, 4, 0]
        assert grown.copies[ROWS:].tolist() == [1, 2, 1]
        assert grown.step[ROWS:].tolist() == [UNSTAMPED] * 3

    def test_new_rows_may_have_labels_of_their_own(self) -> None:
        assert seven_rows().append(random_images(2), [2, 1], parents=[0, 0]).labels[ROWS:].tolist() == [2, 1]

    def test_a_row_between_two_descends_from_the_origins_of_both(self) -> None:
        grown = seven_rows().append(random_images(2), parents=[[1, 5], [2, 2]])

        assert grown.origins[ROWS:].tolist() == [[1, 5], [2, -1]]
        assert grown.origins[:ROWS].tolist() == [[row, -1] for row in range(ROWS)]
        assert grown.labels[ROWS:].tolist() == [1, 2]

    def test_descent_is_handed_on_over_generations(self) -> None:
        once = seven_rows().append(random_images(2), parents=[[1, 5], [5, 0]])
        twice = once.append(random_images(1), parents=[[ROWS, ROWS + 1]])

        assert twice.origins[-1].tolist() == [1, 5, 0]

    def test_what_is_done_to_the_images_afterwards_does_not_reach_the_set(self) -> None:
        new = random_images(1)
        grown = seven_rows().append(new, parents=[0])

        new[:] = 0

        assert_array_equal(grown.images[ROWS:], random_images(1))

    def test_no_images_leave_the_set_as_it_is(self) -> None:
        assert seven_rows().append(random_images(0), parents=[]).fingerprint == seven_rows().fingerprint

    @pytest.mark.parametrize(
        ("images", "labels", "parents", "message"),
        [
            (random_images(1, side=5), None, [0], r"appended images are \(5, 5, 1\), the data set's \(4, 4, 1\)"),
            (random_images(1, channels=3), None, [0], r"appended images are \(4, 4, 3\)"),
            (random_images(1) / 255, None, [0], "must be uint8"),
            (random_images(2), None, [0], "2 appended images have 1 parents"),
            (random_images(1), None, [ROWS], r"parents must be positions in 0\.\.6"),
            (random_images(1), None, [-1], r"parents must be positions in 0\.\.6"),
            (random_images(1), None, [0.0], "parents must be integers, got float64"),
            (random_images(ROWS), None, np.ones(ROWS, bool), "parents must be integers, got bool"),
            (random_images(1), [3], [0], r"row 7: label 3 is outside 0\.\.2"),
            (random_images(2), [0], [0, 0], "labels has 8 rows, index has 9"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, images: np.ndarray, labels: list[int] | None, parents: list[int], message: str
    ) -> None:
        with pytest.raises(DatasetError, match=message):
            seven_rows().append(images, labels, parents=parents)


class TestStamping:
    def test_a_step_claims_the_rows_that_nobody_has_claimed(self) -> None:
        first = seven_rows().take([0, 0, 1]).stamped(1)
        second = first.append(random_images(1), parents=[1]).stamped(2)

        assert second.step.tolist() == [AS_READ, 1, AS_READ, 2]

    def test_a_row_that_is_only_moved_keeps_its_step(self) -> None:
        assert seven_rows().take([0, 0]).stamped(1).take([1, 0]).stamped(2).step.tolist() == [1, AS_READ]


class TestRowKeys:
    def test_all_rows_of_a_set_have_different_keys(self) -> None:
        grown = seven_rows().take([0, 0, 1, 1, 1]).append(random_images(2), parents=[[0, 2], [2, 0]])

        assert len(set(grown.row_keys().tolist())) == len(grown)
        assert grown.row_keys().dtype == np.uint64

    def test_keys_can_be_asked_for_some_rows(self) -> None:
        keys = seven_rows().row_keys()

        assert_array_equal(seven_rows().row_keys([5, 1]), keys[[5, 1]])
        assert_array_equal(seven_rows().row_keys(slice(2, 4)), keys[2:4])
        assert len(seven_rows().row_keys([])) == 0

    @pytest.mark.parametrize("parents", [[0, 3, 0], [[0, 1], [3, 0], [0, 0]], []])
    def test_keys_of_new_rows_are_known_before_they_are_made(self, parents: list[int]) -> None:
        dataset = seven_rows().take([0, 0, 1, 2])
        grown = dataset.append(random_images(len(parents)), parents=parents)

        assert_array_equal(dataset.copy_keys(parents), grown.row_keys(slice(len(dataset), None)))


class TestFingerprint:
    def test_equal_contents_have_equal_fingerprints_wherever_they_lie(self, tmp_path: Path) -> None:
        np.save(tmp_path / "images.npy", random_images(ROWS))
        mapped = seven_rows(PixelBlock.open(tmp_path / "images.npy"))
        reversed_block = PixelBlock.of(random_images(ROWS)[::-1])
        indexed = ImageDataset.from_arrays(reversed_block, seven_rows().labels, CLASSES, rows=np.arange(ROWS)[::-1])

        assert {mapped.fingerprint, indexed.fingerprint} == {seven_rows().fingerprint}

    def test_rows_that_came_and_went_leave_no_trace(self) -> None:
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
    def test_whatever_changes_what_is_learnt_changes_the_fingerprint(
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

    def test_a_million_rows_of_a_file_take_the_room_of_their_numbers(self, file: Path) -> None:
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

    def test_gathered_images_are_plain_arrays(self, file: Path) -> None:
        dataset = ImageDataset.from_arrays(PixelBlock.open(file), np.zeros(1000, int), CLASSES)
        both = dataset.append(dataset.images[:1], parents=[0])

        for gathered in (dataset.images[[3, 1]], both.images[[3, 1000]]):
            assert type(gathered) is np.ndarray
            assert gathered.flags.writeable

    def test_a_file_is_pickled_as_its_path_and_opened_again(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(file.parent)
        dataset = ImageDataset.from_arrays(PixelBlock.open(Path(file.name)), np.zeros(1000, int), CLASSES)
        dataset.take(range(10)).fingerprint  # noqa: B018 - what is kept for later must not be pickled either
        pickled = pickle.dumps(dataset.take(range(10)))
        monkeypatch.chdir("/")
        copy = pickle.loads(pickled)

        assert len(pickled) < 2000
        assert isinstance(copy.blocks[0].pixels, np.memmap)
        assert copy.fingerprint == dataset.take(range(10)).fingerprint

    def test_images_in_memory_are_pickled_with_their_pixels(self) -> None:
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
    def test_a_file_of_anything_else_is_refused_by_name(
        self, tmp_path: Path, content: np.ndarray | bytes | None, message: str
    ) -> None:
        file = tmp_path / "images.npy"
        if isinstance(content, bytes):
            file.write_bytes(content)
        elif content is not None:
            np.save(file, content, allow_pickle=True)

        with pytest.raises(DatasetError, match=message):
            PixelBlock.open(file)


class TestSplits:
    def parts(self) -> dict[str, ImageDataset]:
        validation = ImageDataset.from_arrays(random_images(2, seed=1), [0, 1], CLASSES)
        return {"train": seven_rows(), "validation": validation, "test": seven_rows().take([2, 5])}

    def test_parts_are_named_in_order(self) -> None:
        splits = Splits(**self.parts(), source="drawn")

        assert list(splits.parts) == ["train", "validation", "test"]
        assert splits.class_names == CLASSES

    def test_the_fingerprint_tells_which_part_is_which(self) -> None:
        parts = self.parts()
        swapped = {**parts, "validation": parts["test"], "test": parts["validation"]}

        assert Splits(**parts, source="a").fingerprint == Splits(**self.parts(), source="b").fingerprint
        assert Splits(**parts, source="a").fingerprint != Splits(**swapped, source="a").fingerprint

    def test_held_out_rows_that_stand_in_train_are_found(self) -> None:
        splits = Splits(**self.parts(), source="drawn")

        assert splits.in_train(splits.test).tolist() == [True, True]
        assert splits.in_train(splits.validation).tolist() == [False, False]

    @pytest.mark.parametrize(
        ("name", "part", "message"),
        [
            ("test", seven_rows().take([]), "drawn: the test split is empty"),
            ("test", seven_rows(random_images(ROWS, side=5)), "drawn: the test split has other classes or image sizes"),
            ("test", replace(seven_rows(), class_names=("a", "b", "c")), "drawn: the test split has other classes"),
            ("train", seven_rows().without(seven_rows().rows_of(["cat"])), "test has rows of cat, the train split has"),
        ],
    )
    def test_parts_that_do_not_belong_together_are_refused(self, name: str, part: ImageDataset, message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            Splits(**{**self.parts(), name: part}, source="drawn")


@given(st.lists(st.integers(-3, 3) | st.sampled_from([2**16, 2**16 + 1, 2**40])))
def test_occurrence_counts_equal_values_before_each(values: list[int]) -> None:
    assert occurrence(np.array(values, dtype=np.int64)).tolist() == [
        values[:place].count(value) for place, value in enumerate(values)
    ]


class Ledger:
    """What a set should be, told by plain loops: of each row its pixel, label and ancestors, one tuple a row."""

    def __init__(self) -> None:
        images = np.arange(4, dtype=np.uint8)[:, None, None, None]
        self.dataset = ImageDataset.from_arrays(images, [0, 1, 0, 1], ("a", "b"))
        self.rows = [(row, row % 2, (row,)) for row in range(4)]
        self.pixel = 4

    def change(self, data: st.DataObject) -> None:
        """Make one change, drawn at random, to the set and to the ledger."""
        kind = data.draw(st.sampled_from(["take", "without", "append", "interpolate"]))
        positions = st.integers(0, len(self.rows) - 1)
        if kind == "take":
            chosen = data.draw(st.lists(positions, min_size=1, max_size=8))
            self.dataset, self.rows = self.dataset.take(chosen), [self.rows[row] for row in chosen]
        elif kind == "without":
            left_out = data.draw(st.sets(positions, max_size=len(self.rows) - 1))
            self.dataset = self.dataset.without(sorted(left_out))
            self.rows = [row for place, row in enumerate(self.rows) if place not in left_out]
        else:
            many = 1 if kind == "append" else 2
            parents = data.draw(st.lists(st.tuples(*[positions] * many), max_size=3))
            pixels = np.arange(self.pixel, self.pixel + len(parents), dtype=np.uint8)
            self.pixel += len(parents)
            self.dataset = self.dataset.append(
                pixels[:, None, None, None], parents=np.array(parents, dtype=int).reshape(-1, many)
            )
            for pixel, family in zip(pixels.tolist(), parents, strict=True):
                ancestors = dict.fromkeys(origin for parent in family for origin in self.rows[parent][2])
                self.rows.append((pixel, self.rows[family[0]][1], tuple(ancestors)))


@given(st.data())
def test_no_sequence_of_changes_loses_a_row_its_pixels_or_its_descent(data: st.DataObject) -> None:
    ledger = Ledger()
    for _ in range(data.draw(st.integers(1, 6))):
        ledger.change(data)
        dataset = ledger.dataset

        told = zip(dataset.images[:].ravel().tolist(), dataset.labels.tolist(), dataset.origins.tolist(), strict=True)
        assert [(pixel, label, tuple(o for o in origins if o != -1)) for pixel, label, origins in told] == ledger.rows
        assert len(set(dataset.row_keys().tolist())) == len(dataset)


@given(st.data())
def test_a_rows_key_stays_with_it_while_other_rows_come_and_go(data: st.DataObject) -> None:
    dataset = seven_rows().append(random_images(3, seed=1), parents=[0, 0, 1])
    keys = dict(zip(dataset.digests.tolist(), dataset.row_keys().tolist(), strict=True))
    order = data.draw(st.permutations(range(len(dataset))))
    moved = dataset.take(order).append(random_images(2, seed=2), parents=[0, 5])
    kept = moved.take(data.draw(st.lists(st.integers(0, len(moved) - 1), unique=True)))

    for digest, key in zip(kept.digests.tolist(), kept.row_keys().tolist(), strict=True):
        assert keys.get(digest, key) == key
