"""Losses, trackers and readers in a file next to a recipe: checked, used in a comparison, and carried by its runs.

Runs are used without what only their training read.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fer_augment as fa
from fer_augment import PluginError
from fer_augment.errors import RecipeError
from fer_augment.hooks.local_declarations import declaration_in_file
from fer_augment.reading import Source
from tests.command_line import assert_refused, fer_augment
from tests.planted_faults import readers
from tests.tiny_runs import do_run, write_recipe, write_squares

PLUGINS = """
from fer_augment import Loss, Tracker, hookimpl


def squared(logits, targets):
    return ((logits.softmax(dim=1) - targets) ** 2).sum(dim=1)


own_mse = Loss("own_mse", "squared error", squared, over_logits=False)


class Log:
    def __init__(self, out):
        self.file = out / "own.log"

    @hookimpl
    def run_finished(self, run, scores):
        with self.file.open("a") as file:
            print(run.recipe, sorted(scores)[0], file=file)


own_log = Tracker("own_log", "a log", Log)


@hookimpl
def register_losses():
    return [own_mse, Loss("registered", "squared error", squared, over_logits=False)]
"""

READS_FILES = '''
from pydantic import DirectoryPath, FilePath

from fer_augment import Strategy, hookimpl


class ReadsWhileTraining(Strategy):
    """Reads a file and a folder while it rewrites the training set."""

    file: FilePath
    folder: DirectoryPath

    @hookimpl
    def rewrite_training_set(self, training_set):
        assert self.file.read_text() and self.folder.is_dir()
        return training_set


class ReadsForViews(Strategy):
    """Reads a file for each batch of predictions."""

    file: FilePath

    @hookimpl
    def predict_views(self, views):
        assert self.file.read_text()
        return views
'''


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "own.py").write_text(PLUGINS)
    return tmp_path


def recipe_in(place: Path, loss: str = "own.py:own_mse", trackers: str = "[own.py:own_log]") -> Path:
    recipe = write_recipe(place / "ours", loss=loss)
    recipe.write_text(f"{recipe.read_text()}trackers: {trackers}\n")
    return recipe


def test_a_run_uses_them_and_can_be_used_after_their_folder_is_gone(place: Path) -> None:
    run = do_run(recipe_in(place), write_squares(place / "data"), place / "results")
    record = json.loads((run / "record.json").read_text())
    assert record["recipe"]["training"]["loss"] == f"{place / 'ours' / 'own.py'}:own_mse"
    assert [line.split()[0] for line in (place / "results" / "own.log").read_text().splitlines()] == ["tiny"]
    assert (run / "sources" / "loss" / "own.py").read_text() == PLUGINS
    (place / "ours").rename(place / "theirs")
    assert do_run(place / "theirs" / "tiny.yaml", place / "data", place / "moved").name == run.name
    images = np.zeros((2, *record["image_shape"]), np.uint8)
    assert fa.load_run(run).predict(images).shape == (2, len(record["class_names"]))


def run_that_reads(place: Path, step: str) -> Path:
    ours = place / "ours"
    (ours / "reads.py").write_text(READS_FILES)
    (ours / "rows.txt").write_text("1 2 3")
    run = do_run(write_recipe(ours, steps=step.format(ours)), write_squares(place / "data"), place / "results")
    ours.rename(place / "theirs")
    return run


def test_a_run_is_used_without_the_files_that_a_step_read_in_training(place: Path) -> None:
    run = run_that_reads(place, "- ./reads.py:ReadsWhileTraining: {{file: {0}/rows.txt, folder: {0}}}")
    image = str(next((place / "data" / "test").rglob("*.png")))
    for command in (
        ("predict", str(run), image),
        ("explain", str(run), "--image", image, "--out", "maps.png"),
        ("export", str(run), "--out", "network.safetensors"),
        ("verify", str(run)),
    ):
        assert fer_augment(*command).code == 0, command
    # A repetition of the run needs them.
    message = f"step 1 (ReadsWhileTraining): file: Path does not point to a file, got '{place}/ours/rows.txt'"
    assert_refused(fer_augment("verify", str(run), "--data", str(place / "data")), message)


def test_a_file_that_a_step_reads_for_predictions_has_to_be_there(place: Path) -> None:
    run = run_that_reads(place, "- ./reads.py:ReadsForViews: {{file: {0}/rows.txt}}")
    image = str(next((place / "data" / "test").rglob("*.png")))
    assert_refused(fer_augment("predict", str(run), image), "step 1 (ReadsForViews): file: Path does not point to")


def test_an_edited_loss_is_trained_again(place: Path) -> None:
    recipe, data = recipe_in(place), write_squares(place / "data")
    first = do_run(recipe, data, place / "results")
    (place / "ours" / "own.py").write_text(PLUGINS.replace("** 2).sum", "** 4).sum"))
    again = do_run(recipe, data, place / "results")
    keys = [json.loads((run / "record.json").read_text())["training_key"] for run in (first, again)]
    assert keys[0] != keys[1]


def test_those_that_a_hook_registers_are_found_by_their_name(place: Path) -> None:
    assert fer_augment("recipes", "check", str(recipe_in(place, "own.py:registered"))).code == 0


@pytest.mark.parametrize(
    ("loss", "trackers", "message"),
    [
        ("own.py:own_mes", "[]", "own.py has no loss 'own_mes'; did you mean 'own_mse'?"),
        ("own.py:own_log", "[]", "own.py has no loss 'own_log'"),
        ("mse", "[own.py:own_lag]", "own.py has no tracker 'own_lag'; did you mean 'own_log'?"),
        ("gone.py:x", "[]", "gone.py: cannot be read"),
    ],
)
def test_what_a_file_does_not_have_is_refused_with_the_position(
    place: Path, loss: str, trackers: str, message: str
) -> None:
    recipe = recipe_in(place, loss, trackers)
    ran = fer_augment("recipes", "check", str(recipe))
    assert ran.code == 2
    assert message in ran.out and f"{recipe}:" in ran.out
    with pytest.raises(RecipeError, match="has no|cannot be read"):
        fa.run(recipe, write_squares(place / "data"), progress=False)


@pytest.mark.parametrize(
    ("hook", "problem"),
    [
        ("@hookimpl\ndef register_losses():\n    return [1 / 0]\n", "ZeroDivisionError: division by zero"),
        ("def register_losses():\n    return []\n", "register_losses is a hook; mark it with @hookimpl"),
    ],
)
def test_why_a_hook_of_a_file_registers_nothing_is_said(tmp_path: Path, hook: str, problem: str) -> None:
    (tmp_path / "own.py").write_text(f"from fer_augment import hookimpl\n\n\n{hook}")
    with pytest.raises(PluginError, match=rf"own.py has no loss 'mine'.* \(not loaded: {problem}\)$"):
        declaration_in_file(tmp_path / "own.py", "loss", "mine")


def test_a_tracker_in_a_file_can_be_named_on_the_command_line(place: Path) -> None:
    data = write_squares(place / "data")
    fa.run(write_recipe(place), data, out=place / "results", track="ours/own.py:own_log", progress=False)
    assert (place / "results" / "own.log").read_text().startswith("tiny ")
    with pytest.raises(PluginError, match="track: .* has no tracker 'own_mse'"):
        fa.run(write_recipe(place), data, out=place / "more", track="ours/own.py:own_mse", progress=False)


def test_all_plugins_of_a_file_are_checked(place: Path) -> None:
    ran = fer_augment("plugins", "check", "ours/own.py")
    titles = [line for line in ran.out.splitlines() if line.endswith("(file own.py)")]
    assert titles == ["own_mse (file own.py)", "registered (file own.py)", "own_log (file own.py)"]
    assert ran.code == 0, ran.out


def test_what_a_registration_hook_returns_wrongly_is_named(place: Path) -> None:
    hook = "@hookimpl\ndef register_losses():\n    return own_mse\n"
    (place / "ours" / "own.py").write_text(PLUGINS[: PLUGINS.index("@hookimpl\ndef register")] + hook)
    message = "own.py: register_losses must return a list, not Loss"
    assert_refused(fer_augment("plugins", "check", "ours/own.py"), message)
    assert_refused(fer_augment("plugins", "check", "ours/own.py:registered"), message)
    assert fer_augment("plugins", "show", "ours/own.py:own_mse").code == 0


def test_a_plugin_of_a_file_has_the_names_that_recipes_accept(place: Path) -> None:
    (place / "ours" / "beside.py").write_text(READS_FILES)
    named = 'other = Loss("named_otherwise", "squared error", squared, over_logits=False)\n'
    (place / "ours" / "own.py").write_text(f"from beside import ReadsForViews\n{PLUGINS}\n\n{named}")
    for name, title in (("named_otherwise", "own.py:other"), ("ReadsForViews", "own.py:ReadsForViews")):
        shown = fer_augment("plugins", "show", f"ours/own.py:{name}")
        assert (shown.code, shown.out.splitlines()[0]) == (0, title), shown.err
    assert "ReadsForViews" not in fer_augment("plugins", "show", "ours/own.py").out


def test_a_reader_in_a_file_reads_a_source(place: Path) -> None:
    file = Path(readers.__file__)
    source = readers.write_dots(place)
    (place / "dots.py").write_text(f"{file.read_text()}\ndots = reader()\n")
    data = Source(source, "dots.py:dots")
    assert len(fa.read_data(data, progress=False).train) == 14
    assert_refused(
        fer_augment("data", "show", source, "--reader", "dots.py:dost"),
        "has no dataset reader 'dost'; did you mean 'dots'?",
    )
    assert fer_augment("data", "show", source, "--reader", "dots.py:dots").code == 0
    ran = fer_augment("plugins", "check", "dots.py:dots", "--source", source)
    assert ran.code == 0, ran.out


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ("run_finish", "cannot have a hook 'run_finish'; did you mean 'run_finished'?"),
        ("epoch_finished", "'scores'"),
    ],
)
def test_a_misspelled_hook_of_a_tracker_is_found_before_a_run(place: Path, hook: str, message: str) -> None:
    (place / "ours" / "own.py").write_text(PLUGINS.replace("def run_finished", f"def {hook}"))
    recipe = recipe_in(place)
    ran = fer_augment("recipes", "check", str(recipe))
    assert ran.code == 2
    assert message in ran.out and "trackers.0" in ran.out
    assert not list(place.rglob("own.log"))
