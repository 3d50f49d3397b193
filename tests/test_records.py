"""A run directory holds all that was put into it, appears whole or not at all, and says what is wrong with it."""

from __future__ import annotations

import json
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
from fer_augment.data.records import (
    Evaluation,
    Predictions,
    RunDirectory,
    RunIdentity,
    RunRecord,
    StepRecord,
    provenance_arrays,
    save_run,
    whole_directory,
    write_whole,
)
from fer_augment.errors import RunError
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


def said(rows: int, seed: int = 0) -> Predictions:
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
    return save_run(path, record, "name: mirror\n", predictions or {"validation": said(3), "test": said(4)}, files)


def rewritten_json(directory: RunDirectory, **changes: Any) -> RunDirectory:
    """Change what stands in record.json; a change to ... takes a key away."""
    file = directory.path / "record.json"
    content = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))
    return directory


class TestRunDirectory:
    def test_the_record_reads_back_as_it_was(self, tmp_path: Path) -> None:
        assert saved(tmp_path / "run").record == RECORD

    def test_record_json_is_plain_json_that_others_can_read(self, tmp_path: Path) -> None:
        record = json.loads((saved(tmp_path / "run").path / "record.json").read_text(encoding="utf-8"))

        assert record["schema_version"] == 2
        assert record["identity"] == {"recipe": "mirror", "seed": 7, "key": "ab12"}
        assert record["steps"][0]["provider"] == "kit 1.0"
        assert record["curve"][0]["validation_recall"] == [0.25, None]

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e-310, 0.1 + 0.2])
    def test_every_number_survives(self, tmp_path: Path, number: float) -> None:
        directory = saved(tmp_path / "run", RECORD.model_copy(update={"test_loss": number}))

        assert_array_equal(directory.record.test_loss, number)
        json.loads((directory.path / "record.json").read_text(), parse_constant=pytest.fail)

    def test_predictions_read_back_as_they_were(self, tmp_path: Path) -> None:
        adjusted = replace(said(4, seed=1), raw_logits=np.asfortranarray(said(4, seed=2).logits))
        directory = saved(tmp_path / "run", validation=said(3), test=adjusted)

        for split, expected in (("validation", said(3)), ("test", adjusted)):
            read = directory.predictions(split)
            for name in ("labels", "logits", "groups", "in_train"):
                array = getattr(read, name)
                assert_array_equal(array, getattr(expected, name))
                assert array.dtype == getattr(expected, name).dtype
        assert directory.predictions("validation").raw_logits is None
        assert_array_equal(directory.predictions("test").raw_logits, adjusted.raw_logits)

    def test_files_are_kept_under_their_own_names(self, tmp_path: Path) -> None:
        (tmp_path / "weights.safetensors").write_bytes(b"weights")
        directory = saved(tmp_path / "runs" / "run", files=[tmp_path / "weights.safetensors"])

        assert sorted(file.name for file in directory.path.iterdir()) == [
            "predictions.safetensors",
            "recipe.yaml",
            "record.json",
            "weights.safetensors",
        ]
        assert (directory.path / "weights.safetensors").read_bytes() == b"weights"
        assert (directory.path / "recipe.yaml").read_text() == "name: mirror\n"

    def test_records_are_frozen_and_take_no_unknown_keys(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            RECORD.test_loss = 0.0  # type: ignore[misc]
        with pytest.raises(ValidationError, match="Extra inputs"):
            RunIdentity.model_validate({"recipe": "a", "seed": 1, "key": "b", "sed": 2})

    def test_reading_a_run_loads_no_torch(self, tmp_path: Path) -> None:
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
            directory.record  # noqa: B018 - reading it is what is tested
        assert "\n" not in str(caught.value)
        return str(caught.value).removeprefix(f"{directory.path}/record.json: ")

    def test_a_missing_record_is_named(self, tmp_path: Path) -> None:
        told = "No such file or directory; delete the directory to run again"
        assert self.refusal(RunDirectory(tmp_path)) == told

    def test_a_cut_off_record_is_named(self, tmp_path: Path) -> None:
        directory = saved(tmp_path / "run")
        content = (directory.path / "record.json").read_bytes()
        (directory.path / "record.json").write_bytes(content[: len(content) // 2])

        assert self.refusal(directory).startswith("is not a readable run record (Invalid JSON: EOF")

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            (
                {"schema_version": 1},
                "has schema version 1 (before `optimiser_steps` was renamed `optimizer_steps`, `held_out_copies` "
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
        ],
    )
    def test_a_record_of_another_version_or_form_is_told_by_its_field(
        self, tmp_path: Path, changes: dict[str, Any], told: str
    ) -> None:
        directory = rewritten_json(saved(tmp_path / "run"), **changes)

        assert self.refusal(directory) == f"{told}; delete the directory to run again"

    @pytest.mark.parametrize("content", [None, b"", b"\x08" * 50])
    def test_predictions_that_are_missing_or_damaged_are_named(self, tmp_path: Path, content: bytes | None) -> None:
        directory = saved(tmp_path / "run")
        file = directory.path / "predictions.safetensors"
        file.unlink() if content is None else file.write_bytes(content)

        with pytest.raises(
            RunError, match=r"predictions.safetensors: not readable .*; delete the directory to run again"
        ):
            directory.predictions("test")

    def test_a_split_that_was_not_predicted_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match=r"not readable \('train.labels'\)"):
            saved(tmp_path / "run").predictions("train")


class TestWholeDirectories:
    def test_a_directory_appears_when_it_is_complete(self, tmp_path: Path) -> None:
        target = tmp_path / "deep" / "target"
        with whole_directory(target) as scratch:
            (scratch / "file").write_text("content")
            assert not target.exists()

        assert (target / "file").read_text() == "content"
        assert list(target.parent.iterdir()) == [target]
        assert target.stat().st_mode & 0o777 == 0o755

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_nothing_is_left_of_a_directory_that_was_not_finished(
        self, tmp_path: Path, error: type[BaseException]
    ) -> None:
        with pytest.raises(error), whole_directory(tmp_path / "target") as scratch:
            (scratch / "file").write_text("content")
            raise error

        assert not list(tmp_path.iterdir())

    def test_where_another_process_was_first_its_directory_stays(self, tmp_path: Path) -> None:
        for content in ("first", "second"):
            with whole_directory(tmp_path / "target") as scratch:
                (scratch / "file").write_text(content)

        assert (tmp_path / "target" / "file").read_text() == "first"
        assert list(tmp_path.iterdir()) == [tmp_path / "target"]

    def test_a_file_in_the_way_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "target").write_text("kept")
        with pytest.raises(OSError, match="target"), whole_directory(tmp_path / "target"):
            pass

        assert (tmp_path / "target").read_text() == "kept"
        assert list(tmp_path.iterdir()) == [tmp_path / "target"]


class TestWholeFiles:
    @pytest.mark.parametrize("content", ["zwölf\n", b"\x00\xff"])
    def test_a_file_is_replaced_and_nothing_else_is_left(self, tmp_path: Path, content: str | bytes) -> None:
        file = tmp_path / "deep" / "file"
        write_whole(file, "old")
        write_whole(file, content)

        assert file.read_bytes() == (content.encode() if isinstance(content, str) else content)
        assert list(file.parent.iterdir()) == [file]


def test_provenance_says_of_each_row_where_it_came_from() -> None:
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
