"""`fer-augment verify`: a run is repeated and compared bit by bit."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fer_augment.data.records import RunDirectory
from fer_augment.runs.verification import _rows_compared
from tests.command_line import Ran, assert_readable, assert_refused, fer_augment
from tests.data_files import write_squares
from tests.tiny_runs import tiny_place

STEPS = "- confusion_mirror: {pairs: [[ant, bee], [bee, ant]]}\n- mirror_views\n- logit_adjustment: {tau: 1}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `data`, a finished run with scouts in `run`, and the `cache` of its trainings."""
    with tiny_place(tmp_path_factory.mktemp("verify"), steps=STEPS, scout="{folds: 2}") as folder:
        yield folder


@pytest.fixture
def copied_run(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place / "run", tmp_path / "run"))


def verify(run: Path, data: Path, *arguments: str) -> Ran:
    return fer_augment("verify", str(run), "--data", str(data), *arguments)


def edit_record(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((run / "record.json").read_text())
    change(record)
    (run / "record.json").write_text(json.dumps(record))


def test_a_repeated_run_is_equal_bit_by_bit(place: Path) -> None:
    ran = verify(place / "run", place / "data")

    assert (ran.code, ran.err) == (0, "")
    assert_readable(ran)
    weights = len(load_file(place / "run/weights.safetensors"))
    rows = sum(RunDirectory(place / "run").record.rewritten_counts)
    assert ran.out.splitlines() == [
        f"equal: rewritten training set, {rows} rows",
        f"equal: weights, {weights} tensors",
        "equal: validation logits, 27 rows",
        "equal: test logits, 24 rows",
    ]


def test_the_cache_is_not_used_and_no_files_are_left(
    place: Path, copied_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    shutil.rmtree(place / "cache")

    assert verify(copied_run, place / "data").code == 0

    assert not (place / "cache").exists()
    assert list((tmp_path / "scratch").iterdir()) == []
    assert sorted(file.name for file in copied_run.iterdir()) == sorted(file.name for file in (place / "run").iterdir())


def test_a_changed_weight_is_reported(place: Path, copied_run: Path) -> None:
    weights = load_file(copied_run / "weights.safetensors")
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    weights[name].view(-1)[0] += 0.25
    save_file(weights, copied_run / "weights.safetensors")

    ran = verify(copied_run, place / "data")

    assert ran.code == 1
    assert_readable(ran)
    assert f"different: weights, 1 of {len(weights)} tensors, by up to 0.25" in ran.out
    assert "equal: test logits" in ran.out
    assert "the files of the run were modified" in " ".join(ran.out.split())


def test_nan_is_reported_as_valid_json(place: Path, copied_run: Path) -> None:
    predictions = load_file(copied_run / "predictions.safetensors")
    predictions["test.logits"][3, 0] = float("nan")
    save_file(predictions, copied_run / "predictions.safetensors")

    result = json.loads(verify(copied_run, place / "data", "--json").out, parse_constant=pytest.fail)

    parts = {part["name"]: part for part in result["parts"]}
    assert parts["test logits"]["different"] == 1 and parts["validation logits"]["different"] == 0


@pytest.mark.parametrize(
    ("then", "now", "different"),
    [
        (
            torch.tensor([[0.0, 1.0], [torch.nan, 1.0], [2.0, 3.0]]),
            torch.tensor([[-0.0, 1], [torch.nan, 1], [2, 4]]),
            2,
        ),
        (torch.arange(9000), torch.arange(9000) // 4096 * 4096, 9000 - 3),
        (torch.zeros(0, 3), torch.zeros(0, 3), 0),
        (torch.zeros(5, 2), torch.zeros(5, 2, dtype=torch.float64), 5),
        (torch.zeros(5, 2), torch.zeros(4, 2), 5),
    ],
)
def test_rows_are_compared_by_their_bytes(then: torch.Tensor, now: torch.Tensor, different: int) -> None:
    part = _rows_compared("rows", then, now)
    assert (part.total, part.different) == (max(len(then), len(now)), different)


def test_another_seed_differs_and_changes_of_the_environment_are_listed(place: Path, copied_run: Path) -> None:
    def change_environment(record: dict[str, Any]) -> None:
        record["identity"]["seed"] = 1
        record["environment"] |= {"torch": "1.0.0", "threads": "8"}
        record["environment"]["processor"] = "abacus"

    edit_record(copied_run, change_environment)

    ran = verify(copied_run, place / "data")

    assert ran.code == 1
    assert_readable(ran)
    assert "different: weights" in ran.out and "different: test logits, 24 of 24 rows, by up to" in ran.out
    changes = [line.split() for line in ran.out.partition("Changes since the run:")[2].splitlines()]
    assert ["torch", "1.0.0", torch.__version__] in changes
    assert ["threads", "8", "1"] in changes
    assert any(words[:2] == ["processor", "abacus"] for words in changes)


def test_equal_results_are_equal_despite_changes(place: Path, copied_run: Path) -> None:
    edit_record(copied_run, lambda record: record["environment"].update(torch="1.0.0"))
    edit_record(copied_run, lambda record: record["steps"][0].update(source="0" * 64))

    ran = verify(copied_run, place / "data", "--json")

    result = json.loads(ran.out)
    assert (ran.code, result["equal"]) == (0, True)
    changed = {change["what"].partition(" (fer_augment")[0] for change in result["changes"]}
    assert changed == {"torch", "code of step 1 (confusion_mirror)"}


def test_a_changed_run_key_is_reported_as_changed_code(place: Path, copied_run: Path) -> None:
    edit_record(copied_run, lambda record: record["identity"].update(key="0" * 64))

    ran = verify(copied_run, place / "data")

    assert ran.code == 0
    assert "code of fer_augment" in ran.out


def test_different_data_is_reported_without_training(place: Path, tmp_path: Path) -> None:
    ran = verify(place / "run", write_squares(tmp_path / "others", classes=("dog", "elk", "fox")))

    assert ran.code == 1
    assert_readable(ran)
    assert "not the data that the run was trained on" in " ".join(ran.out.split())
    assert RunDirectory(place / "run").record.data_fingerprint[:16] in ran.out
    assert "weights" not in ran.out


def test_invalid_arguments_are_refused_in_one_line(place: Path, copied_run: Path, tmp_path: Path) -> None:
    assert_refused(verify(tmp_path, place / "data"), "not a run directory")
    assert_refused(verify(place / "run", tmp_path / "nothing"), "nothing: no such file")
    (copied_run / "weights.safetensors").write_bytes(b"")
    assert_refused(verify(copied_run, place / "data"), "weights.safetensors", "not readable")
