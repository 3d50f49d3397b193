"""Run directories are written atomically, round trip, and damaged files are reported."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from pydantic import ValidationError

from fer_augment import ImageDataset
from fer_augment.data.pixels import PixelSettings
from fer_augment.data.records import (
    Evaluation,
    Predictions,
    RunDirectory,
    RunIdentity,
    RunRecord,
    StepRecord,
    provenance_arrays,
    save_run,
)
from fer_augment.data.whole_files import whole_directory, write_whole
from fer_augment.errors import RunError, full_disk
from tests.data_files import random_images

POINT = Evaluation(
    epoch=1, step=10, training_loss=0.1, selection_loss=0.2, validation_loss=0.3, validation_accuracy=0.5,
    validation_recall=(0.25, None),
)  # fmt: skip
RECORD = RunRecord(
    identity=RunIdentity(recipe="mirror", seed=7, key="ab12"),
    training_key="cd34",
    recipe={"name": "mirror", "model": "convnet5"},
    steps=(StepRecord(name="mirror", parameters={"classes": ["sad"]}, provider="kit 1.0", source="ef56", rows=3),),
    class_names=("fröhlich", "traurig"),
    image_shape=(48, 48, 1),
    data_fingerprint="9a",
    train_counts=(4, 2),
    rewritten_counts=(4, 5),
    class_prior=(4 / 9, 5 / 9),
    optimizer_steps=10,
    parameter_count=100,
    curve=(POINT,),
    test_loss=1 / 3,
    environment={"torch": "2.13.0"},
    warnings=("one",),
    training_seconds=None,
)


def random_predictions(rows: int, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    return Predictions(
        labels=rng.integers(0, 2, rows),
        logits=rng.normal(size=(rows, 2)).astype(np.float32),
        groups=np.arange(rows),
        in_train=rng.random(rows) < 0.5,
    )


def saved(
    path: Path, record: RunRecord = RECORD, files: Iterable[Path] = (), **predictions: Predictions
) -> RunDirectory:
    arrays = predictions or {"validation": random_predictions(3), "test": random_predictions(4)}
    return save_run(path, record, "name: mirror\n", arrays, files)


def with_changed_json(directory: RunDirectory, **changes: Any) -> RunDirectory:
    """Change keys of record.json; `...` as value removes the key."""
    file = directory.path / "record.json"
    content = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))
    return RunDirectory(directory.path)


def fail_as_on_a_full_disk(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as `write`, which does not know the name of the file


class TestRunDirectory:
    def test_records_round_trip(self, tmp_path: Path) -> None:
        assert saved(tmp_path / "run").record == RECORD

    def test_records_of_earlier_versions_are_read(self, tmp_path: Path) -> None:
        directory = saved(tmp_path / "run", RECORD.model_copy(update={"fold_pixels": PixelSettings((8, 8))}))
        assert directory.record.fold_pixels == PixelSettings((8, 8))
        assert with_changed_json(directory, fold_pixels=..., kept_epoch=...).record == RECORD

    def test_the_record_is_read_once_and_damage_is_found_later(self, tmp_path: Path) -> None:
        directory = saved(tmp_path / "run")
        assert directory.record is directory.record and directory.damage is None
        (directory.path / "record.json").write_text("{}")
        file, reason = directory.damage or (None, "")
        assert file == directory.path / "record.json" and reason.startswith("is not a readable run record (")

    def test_record_json_is_plain_json(self, tmp_path: Path) -> None:
        record = json.loads((saved(tmp_path / "run").path / "record.json").read_text(encoding="utf-8"))

        assert record["schema_version"] == 2
        assert record["identity"] == {"recipe": "mirror", "seed": 7, "key": "ab12", "fold": None}
        assert record["steps"][0]["provider"] == "kit 1.0"
        assert record["curve"][0]["validation_recall"] == [0.25, None]

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e-310, 0.1 + 0.2])
    def test_all_floats_round_trip(self, tmp_path: Path, number: float) -> None:
        directory = saved(tmp_path / "run", RECORD.model_copy(update={"test_loss": number}))

        assert_array_equal(directory.record.test_loss, number)
        json.loads((directory.path / "record.json").read_text(), parse_constant=pytest.fail)

    def test_predictions_round_trip(self, tmp_path: Path) -> None:
        raw_logits = np.asfortranarray(random_predictions(4, seed=2).logits)
        adjusted = replace(random_predictions(4, seed=1), raw_logits=raw_logits)
        directory = saved(tmp_path / "run", validation=random_predictions(3), test=adjusted)

        for split, expected in (("validation", random_predictions(3)), ("test", adjusted)):
            read = directory.predictions(split)
            for name in ("labels", "logits", "groups", "in_train"):
                array = getattr(read, name)
                assert_array_equal(array, getattr(expected, name))
                assert array.dtype == getattr(expected, name).dtype
        assert directory.predictions("validation").raw_logits is None
        assert_array_equal(directory.predictions("test").raw_logits, adjusted.raw_logits)

    def test_files_are_copied(self, tmp_path: Path) -> None:
        (tmp_path / "weights.safetensors").write_bytes(b"weights")
        directory = saved(tmp_path / "runs" / "run", files=[tmp_path / "weights.safetensors"])

        assert sorted(file.name for file in directory.path.iterdir()) == [
            "SHA256SUMS",
            "predictions.safetensors",
            "recipe.yaml",
            "record.json",
            "weights.safetensors",
        ]
        assert (directory.path / "weights.safetensors").read_bytes() == b"weights"
        assert (directory.path / "recipe.yaml").read_text() == "name: mirror\n"

    def test_a_full_disk_is_named_with_the_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Path, "write_bytes", fail_as_on_a_full_disk)
        with pytest.raises(OSError, match="No space left on device") as caught:
            saved(tmp_path / "runs" / "run")

        assert str(full_disk(caught.value)).startswith(f"{tmp_path / 'runs' / 'run'}: the file system is full (")
        assert list((tmp_path / "runs").iterdir()) == []

    def test_records_are_frozen_and_refuse_unknown_keys(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            RECORD.test_loss = 0.0  # type: ignore[misc]
        with pytest.raises(ValidationError, match="Extra inputs"):
            RunIdentity.model_validate({"recipe": "a", "seed": 1, "key": "b", "sed": 2})

    def test_reading_a_run_does_not_import_torch(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "run").path
        code = (
            "import sys\nfrom pathlib import Path\nfrom fer_augment.data.records import RunDirectory\n"
            f"run = RunDirectory(Path({str(path)!r}))\nrun.record, run.predictions('test')\n"
            "assert 'torch' not in sys.modules"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestDamage:
    def refusal(self, directory: RunDirectory) -> str:
        with pytest.raises(RunError) as caught:
            directory.record  # noqa: B018 - the property reads the file
        assert "\n" not in str(caught.value)
        return str(caught.value).removeprefix(f"{directory.path}/record.json: ")

    def test_missing_record(self, tmp_path: Path) -> None:
        message = "No such file or directory; delete the directory to run again"
        assert self.refusal(RunDirectory(tmp_path)) == message

    def test_truncated_record(self, tmp_path: Path) -> None:
        directory = saved(tmp_path / "run")
        content = (directory.path / "record.json").read_bytes()
        (directory.path / "record.json").write_bytes(content[: len(content) // 2])

        assert self.refusal(directory).startswith("is not a readable run record (Invalid JSON: EOF")

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            (
                {"schema_version": 1},
                "has schema version 1 (`optimiser_steps` is now `optimizer_steps`, `held_out_copies` is now "
                "`held_out_duplicates`); this version of fer_augment reads 2",
            ),
            ({"schema_version": 0, "test_loss": ...}, "has schema version 0; this version of fer_augment reads 2"),
            ({"test_loss": ...}, "is not a readable run record (test_loss: Field required)"),
            ({"mood": "good"}, "is not a readable run record (mood: Extra inputs are not permitted)"),
            (
                {"identity": {"recipe": "a", "seed": "x", "key": "b"}},
                "is not a readable run record (identity.seed: Input should be a valid integer, unable to parse "
                "string as an integer)",
            ),
            (
                {"pixels": {"size": [0, 8], "fit": None, "channels": None}},
                "is not a readable run record (size: should be one whole number from 1 to 10000, or two: (height, "
                "width), got (0, 8))",
            ),
        ],
    )
    def test_invalid_records_are_refused_with_the_key(
        self, tmp_path: Path, changes: dict[str, Any], reason: str
    ) -> None:
        directory = with_changed_json(saved(tmp_path / "run"), **changes)

        assert self.refusal(directory) == f"{reason}; delete the directory to run again"

    @pytest.mark.parametrize("content", [None, b"", b"\x08" * 50])
    def test_missing_or_damaged_predictions(self, tmp_path: Path, content: bytes | None) -> None:
        directory = saved(tmp_path / "run")
        file = directory.path / "predictions.safetensors"
        file.unlink() if content is None else file.write_bytes(content)

        with pytest.raises(
            RunError, match=r"predictions.safetensors: not readable .*; delete the directory to run again"
        ):
            directory.predictions("test")

    def test_predictions_of_an_unknown_split(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="predictions for validation and test, not for 'train'"):
            saved(tmp_path / "run").predictions("train")


class TestAtomicDirectories:
    def test_the_directory_exists_only_when_complete(self, tmp_path: Path) -> None:
        target = tmp_path / "deep" / "target"
        with whole_directory(target) as scratch:
            (scratch / "file").write_text("content")
            assert not target.exists()

        assert (target / "file").read_text() == "content"
        assert list(target.parent.iterdir()) == [target]
        assert target.stat().st_mode & 0o777 == 0o755

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_nothing_is_left_after_an_error(self, tmp_path: Path, error: type[BaseException]) -> None:
        with pytest.raises(error), whole_directory(tmp_path / "target") as scratch:
            (scratch / "file").write_text("content")
            raise error

        assert not list(tmp_path.iterdir())

    def test_an_existing_directory_of_another_process_is_kept(self, tmp_path: Path) -> None:
        for content in ("first", "second"):
            with whole_directory(tmp_path / "target") as scratch:
                (scratch / "file").write_text(content)

        assert (tmp_path / "target" / "file").read_text() == "first"
        assert list(tmp_path.iterdir()) == [tmp_path / "target"]

    def test_an_existing_file_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "target").write_text("kept")
        with pytest.raises(OSError, match="target"), whole_directory(tmp_path / "target"):
            pass

        assert (tmp_path / "target").read_text() == "kept"
        assert list(tmp_path.iterdir()) == [tmp_path / "target"]


class TestAtomicFiles:
    @pytest.mark.parametrize("content", ["zwölf\n", b"\x00\xff"])
    def test_files_are_replaced_without_leftovers(self, tmp_path: Path, content: str | bytes) -> None:
        file = tmp_path / "deep" / "file"
        write_whole(file, "old")
        write_whole(file, content)

        assert file.read_bytes() == (content.encode() if isinstance(content, str) else content)
        assert list(file.parent.iterdir()) == [file]

    def test_a_link_is_followed_and_a_pipe_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "target")
        write_whole(tmp_path / "link", "new")
        assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "new"
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(RunError, match="is a device, a pipe or a socket"):
            write_whole(tmp_path / "pipe", "new")
        assert (tmp_path / "pipe").is_fifo()

    def test_a_full_disk_is_named_with_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_whole(tmp_path / "file", "old")
        monkeypatch.setattr(Path, "write_bytes", fail_as_on_a_full_disk)
        with pytest.raises(OSError, match="No space left on device") as caught:
            write_whole(tmp_path / "file", "new")

        assert str(full_disk(caught.value)).startswith(f"{tmp_path / 'file'}: the file system is full (")
        assert (tmp_path / "file").read_text() == "old"
        assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_provenance_arrays() -> None:
    dataset = ImageDataset.from_arrays(random_images(3), [0, 1, 1], ("ant", "bee"))
    grown = dataset.append(random_images(2), parents=[[0, 1], [2, 2]]).stamped(1).take([4, 0, 3])

    arrays = provenance_arrays(grown)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "labels": [1, 0, 0],
        "origins": [[2, -1], [0, -1], [0, 1]],
        "copies": [1, 0, 1],
        "step": [1, 0, 1],
    }
    assert all(array.flags.c_contiguous for array in arrays.values())
