"""What failed runs leave behind; an unwritable ledger; folders that were renamed, and defaults that were changed."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fer_augment as fa
from fer_augment.arguments import LARGEST_SEED
from fer_augment.data.records import RunDirectory
from fer_augment.errors import NothingFinishedError
from fer_augment.runs.experiment import PlannedRun
from fer_augment.runs.failures import keep_traceback
from fer_augment.runs.ledger import Ledger
from tests.command_line import assert_refused, fer_augment
from tests.tiny_runs import write_recipe, write_squares

OWN = '''
import os
import numpy as np
from fer_augment import Strategy, StrategyError, hookimpl
from inversion_beside.pixels import inverted

class Fails(Strategy):
    """Fails with seed 1."""

    how: str = "raise"

    @hookimpl
    def rewrite_training_set(self, training_set, context):
        if context.seed == 1:
            if self.how == "leave":
                os._exit(7)
            raise StrategyError("refused on purpose") if self.how == "refuse" else GeneratorExit("odd")
        rows = np.arange(4)
        return training_set.append(inverted(training_set.images[rows]), parents=rows)
'''

HELPER = "def inverted(images):\n    return 255 - images\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    write_squares(tmp_path / "squares")
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "inversion_beside").mkdir()
    (tmp_path / "inversion_beside/pixels.py").write_text(HELPER)
    write_recipe(tmp_path, "fails", steps="- ./own.py:Fails: {}")
    write_recipe(tmp_path, "refuses", steps="- ./own.py:Fails: {how: refuse}")
    return tmp_path


def test_the_traceback_is_kept_named_and_shown_on_demand() -> None:
    arguments = ["run", "refuses.yaml", "--data", "squares", "--seed", "1", "--out", "out"]
    ran = fer_augment(*arguments)
    file = "out/failures/refuses-seed-1.txt"
    assert ran.code == 1 and ran.err.count("\n") <= 3
    assert f"refused on purpose (traceback: {file})" in " ".join(ran.err.split())
    assert "own.py" in Path(file).read_text() and "raise StrategyError" in Path(file).read_text()
    assert "raise StrategyError" in fer_augment(*arguments, "--traceback").err


def test_exceptions_of_hooks_are_named_by_file_and_line_in_every_command() -> None:
    Path("alone.py").write_text(OWN.replace("from inversion_beside.pixels import inverted", "inverted = None"))
    write_recipe(Path(), "alone", steps="- ./alone.py:Fails: {}")
    arguments = ["rewrite", "alone.yaml", "--data", "squares", "--dry-run"]
    refused = "TypeError: 'NoneType' object is not callable (alone.py, line 19)"
    assert_refused(fer_augment(*arguments), f"step 1 (fails), rewrite_training_set: {refused}")
    shown = fer_augment(*arguments, "--traceback").err
    assert shown.startswith("Traceback ") and "append(inverted(" in shown and shown.endswith(f"{refused}\n")


def test_a_crash_of_the_interpreter_fails_its_run_only() -> None:
    write_recipe(Path(), "leaves", steps="- ./own.py:Fails: {how: leave}")
    comparison = fa.compare(["leaves.yaml", "fails.yaml"], "squares", seeds=2, jobs=1, out="out", progress=False)
    assert [arm.seeds for arm in comparison.arms] == [(0,), (0,)]
    messages = [failure.message for failure in comparison.failures]
    assert messages[0].startswith("its process ended with exit code 7")
    assert messages[1] == "step 1 (fails), rewrite_training_set: GeneratorExit: odd (own.py, line 17)"
    assert [file.name for file in Path("out/failures").iterdir()] == ["fails-seed-1.txt"]


def test_the_traceback_goes_when_the_run_succeeds() -> None:
    with pytest.raises(NothingFinishedError, match=r"\(traceback: out/failures/fails-seed-1.txt\)"):
        fa.run("fails.yaml", "squares", seed=1, out="out", progress=False)
    Path("own.py").write_text(OWN.replace("context.seed == 1", "False"))
    fa.run("fails.yaml", "squares", seed=1, out="out", progress=False)
    assert not list(Path("out/failures").iterdir())


@pytest.mark.parametrize("command", [["run", "--seed", "1"], ["compare", "--seeds", "1,"]])
def test_a_traceback_that_cannot_be_written_does_not_hide_why_a_run_failed(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_a_full_disk(path: Path, content: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    old = Path("out/failures/refuses-seed-1.txt")
    old.parent.mkdir(parents=True)
    old.write_text("of an earlier attempt")
    monkeypatch.setattr("fer_augment.runs.failures.write_whole", on_a_full_disk)
    ran = fer_augment(*command, "refuses.yaml", "--data", "squares", "--out", "out")
    warning, *_, last = ran.err.splitlines()[-2:]
    assert ran.code == 1
    assert warning == "warning: out/failures: tracebacks of failed runs cannot be written (No space left on device)"
    assert "refused on purpose" in last and "traceback" not in last
    assert not old.exists()


def test_files_of_the_longest_name_and_seed_can_be_written(place: Path) -> None:
    run = PlannedRun(fa.Recipe(name="\u00e9" * 100, model="tiny"), LARGEST_SEED)
    assert keep_traceback(place, run, "odd") == ()
    assert [file.read_text() for file in (place / "failures").iterdir()] == ["odd"]


def test_a_ledger_that_cannot_be_written_does_not_stop_anything(place: Path) -> None:
    (place / "cache").mkdir()
    (place / "cache/scored").write_text("a file where the ledgers belong")
    comparison = fa.compare("fails.yaml", "squares", seeds=[0], out="out", progress=False)
    (warning,) = [warning for warning in comparison.warnings if "ledger" in warning]
    assert "cannot be written" in warning and "so they are not counted" in warning
    assert not comparison.failures
    ledger = Ledger(place / "ledgers")
    assert ledger.fault("digest") is None
    ledger.note(fa.load_recipe("paper"), "digest")
    assert (ledger.count("digest"), ledger.fault("digest")) == (1, None)


def test_runs_of_a_renamed_folder_predict_and_verify(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fa.run("fails.yaml", "squares", out="out", progress=False)
    images = fa.read_data("squares", progress=False).test.images[:]
    expected = before.predict(images)
    relative = before.path.relative_to("out")
    renamed = place.with_name("renamed")
    place.rename(renamed)
    monkeypatch.chdir(renamed)
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(renamed / "cache"))
    (renamed / "own.py").unlink()
    shutil.rmtree(renamed / "inversion_beside")
    run = renamed / "out" / relative
    assert RunDirectory(run).damage is None
    assert (run / "sources/step-1/own.py").read_text() == OWN
    assert (fa.load_run(run).predict(images) == expected).all()
    verify = [sys.executable, "-m", "fer_augment", "verify", str(run), "--data", "squares"]  # nothing is imported yet
    verified = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    copied = sorted(file.relative_to(run).as_posix() for file in (run / "sources").rglob("*") if file.is_file())
    assert copied == ["sources/step-1/inversion_beside/pixels.py", "sources/step-1/own.py"]


DEFAULTS = """
from torch import nn

from fer_augment import ConfigurableModel, Strategy, hookimpl


class OneLayer(ConfigurableModel):
    width: int = 4

    def build(self, image_shape, classes):
        layers = nn.Conv2d(image_shape[2], self.width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        return nn.Sequential(*layers, nn.Linear(self.width, classes))


class Dimmed(Strategy):
    by: float = 0.5

    @hookimpl
    def predict_views(self, views):
        return [*views, *(view * self.by for view in views)]
"""


def test_defaults_that_are_changed_later_do_not_change_what_a_run_is(place: Path) -> None:
    Path("defaults.py").write_text(DEFAULTS)
    recipe = "model: defaults.py:OneLayer\ntraining: {epochs: 1, batch_size: 16}\nstrategies: [defaults.py:Dimmed]\n"
    Path("recorded.yaml").write_text(recipe)
    run = fa.run("recorded.yaml", "squares", out="out", progress=False)
    images = fa.read_data("squares", progress=False).test.images[:]
    expected = run.predict(images)
    Path("defaults.py").write_text(DEFAULTS.replace("width: int = 4", "width: int = 8").replace("0.5", "0.1"))
    assert run.record.model_parameters == {"weights": None, "width": 4}
    assert (fa.load_run(run.path).predict(images) == expected).all()
