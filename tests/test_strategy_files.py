"""Strategies in files next to a recipe: a file is executed once per content, and errors name the file."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from fer_augment import Strategy
from fer_augment.errors import PluginError
from fer_augment.hooks.strategy_files import executed_files, sources_as_executed, strategies_in_file, strategy_in_file
from fer_augment.training.keys import source_digest

HEAD = "from __future__ import annotations\nfrom fer_augment import ClassName, Strategy, hookimpl\n"
SCALE = (
    HEAD
    + """
Factor = float

class Scale(Strategy):
    by: Factor = 2.0
    classes: list[ClassName] = []

    @hookimpl
    def sampling_weights(self, weights):
        return weights * self.by
"""
)


@pytest.fixture(autouse=True)
def _forget_modules() -> object:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("fer_augment_local_"):
            del sys.modules[name]


def write(file: Path, source: str) -> Path:
    file.write_text(source, encoding="utf-8")
    return file


def refusal(file: Path, class_name: str = "Scale") -> str:
    with pytest.raises(PluginError) as caught:
        strategy_in_file(file, class_name)
    return str(caught.value)


def test_a_class_in_a_file_is_a_strategy(tmp_path: Path) -> None:
    scale = strategy_in_file(write(tmp_path / "mine.py", SCALE), "Scale")

    assert scale.strategy_name() == "scale"
    assert scale(by=3).sampling_weights(np.ones(2)).tolist() == [3, 3]  # type: ignore[call-arg,attr-defined]


def test_the_digest_is_of_the_code_that_runs(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.py", SCALE)
    scale = strategy_in_file(file, "Scale")
    write(file, SCALE.replace("* self.by", "+ self.by"))
    edited = strategy_in_file(file, "Scale")
    assert source_digest(scale) == hashlib.sha256(SCALE.encode()).hexdigest() != source_digest(edited)


def test_postponed_annotations_are_resolved_in_the_file(tmp_path: Path) -> None:
    scale = strategy_in_file(write(tmp_path / "mine.py", SCALE), "Scale")

    assert scale.model_validate({"classes": [3]}).classes == ["3"]  # type: ignore[attr-defined]


def test_a_file_is_executed_once_so_its_class_is_always_the_same(tmp_path: Path) -> None:
    counting = f"import pathlib\nwith open({str(tmp_path / 'runs')!r}, 'a') as runs:\n    runs.write('x')\n"
    file = write(tmp_path / "mine.py", HEAD + counting + SCALE.removeprefix(HEAD))

    assert strategy_in_file(file, "Scale") is strategy_in_file(file, "Scale")
    assert (tmp_path / "runs").read_text() == "x"


def test_a_changed_file_is_executed_again(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.py", SCALE)
    old = strategy_in_file(file, "Scale")
    write(file, SCALE.replace("2.0", "5.0"))

    assert strategy_in_file(file, "Scale")().by == 5.0  # type: ignore[attr-defined]
    assert old().by == 2.0  # type: ignore[attr-defined]


def test_files_with_the_same_name_in_two_folders_are_different(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    one, two = (write(tmp_path / folder / "mine.py", SCALE) for folder in ("one", "two"))

    assert strategy_in_file(one, "Scale") is not strategy_in_file(two, "Scale")


WITH_HELPER = SCALE.replace("Factor = float\n", "from factor_beside import FACTOR\nFactor = float\n").replace(
    "2.0", "FACTOR"
)


def test_a_file_imports_modules_beside_it_and_imports_them_again_when_they_are_edited(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.py", WITH_HELPER)
    write(tmp_path / "factor_beside.py", "from factor_of_factor import FACTOR\n")
    write(tmp_path / "factor_of_factor.py", "FACTOR = 3.0\n")
    old = strategy_in_file(file, "Scale")
    write(tmp_path / "factor_of_factor.py", "FACTOR = 4.0\n")
    new = strategy_in_file(file, "Scale")

    assert (old().by, new().by) == (3.0, 4.0)  # type: ignore[attr-defined]
    assert list(sources_as_executed(new)) == ["mine.py", "factor_beside.py", "factor_of_factor.py"]
    assert sources_as_executed(old)["factor_of_factor.py"] == b"FACTOR = 3.0\n"
    assert not list(tmp_path.rglob("__pycache__"))
    assert str(tmp_path) not in sys.path


def test_a_module_beside_a_file_is_imported_as_it_was_when_the_file_was_executed(tmp_path: Path) -> None:
    late = "import late_beside\n        return weights * late_beside.FACTOR"
    file = write(tmp_path / "mine.py", SCALE.replace("return weights * self.by", late))
    beside = write(tmp_path / "late_beside.py", "FACTOR = 3.0\n")
    scale = strategy_in_file(file, "Scale")
    beside.unlink()
    assert scale().sampling_weights(np.ones(2)).tolist() == [3, 3]  # type: ignore[attr-defined]


def test_files_that_define_a_class_are_found_also_if_it_is_in_a_module_beside(tmp_path: Path) -> None:
    write(tmp_path / "scale_beside.py", SCALE)
    imported = strategy_in_file(write(tmp_path / "mine.py", "from scale_beside import Scale\n"), "Scale")
    own = strategy_in_file(write(tmp_path / "own.py", SCALE), "Scale")
    assert [file.path.name for file in executed_files([imported])] == ["mine.py"]
    assert [file.path.name for file in executed_files([own])] == ["own.py"]
    assert executed_files([Strategy]) == []


def test_modules_beside_two_files_may_have_one_name_only_if_they_are_equal(tmp_path: Path) -> None:
    for folder, factor in (("one", 5.0), ("same", 5.0), ("other", 6.0)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "mine.py", WITH_HELPER.replace("factor_beside", "factor_twice"))
        write(tmp_path / folder / "factor_twice.py", f"FACTOR = {factor}\n")
    assert [strategy_in_file(tmp_path / name / "mine.py", "Scale")().by for name in ("one", "same")] == [5.0, 5.0]  # type: ignore[attr-defined]
    message = refusal(tmp_path / "other/mine.py")
    assert "other/factor_twice and " in message and "one/factor_twice are different modules" in message
    assert "rename one of them" in message


def test_an_installed_module_is_not_hidden_by_one_beside_a_file(tmp_path: Path) -> None:
    write(tmp_path / "numpy.py", "raise RuntimeError('not the installed numpy')\n")
    file = write(tmp_path / "mine.py", HEAD + "import numpy as np\n" + SCALE.removeprefix(HEAD))
    assert list(sources_as_executed(strategy_in_file(file, "Scale"))) == ["mine.py"]


def test_all_strategies_in_a_file_are_listed_including_those_without_hooks(tmp_path: Path) -> None:
    source = SCALE + "\nclass Idle(Strategy):\n    pass\n"

    listed = strategies_in_file(write(tmp_path / "mine.py", source))
    assert {name: strategy_class.__name__ for name, strategy_class in listed.items()} == {
        "Scale": "Scale",
        "Idle": "Idle",
    }


def test_strategies_of_a_function_are_listed_by_their_first_variable(tmp_path: Path) -> None:
    source = SCALE + "\ndef make():\n    class Idle(Strategy):\n        pass\n    return Idle\n\n"
    listed = strategies_in_file(write(tmp_path / "mine.py", f"{source}One = Same = make()\nTwo = make()\n"))
    assert list(listed) == ["Scale", "One", "Two"]


def test_a_pipe_is_refused_without_waiting_for_its_content(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(PluginError, match="pipe.py: not a regular file"):
        strategy_in_file(tmp_path / "pipe.py", "Scale")


def test_an_unknown_class_is_reported_with_the_closest_one(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.py", SCALE)

    assert refusal(file, "Scala") == f"{file} has no class 'Scala'; did you mean 'Scale'?"
    assert refusal(write(tmp_path / "empty.py", ""), "Scale").endswith("has no class 'Scale'; none are available")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def\n", "SyntaxError: invalid syntax (mine.py, line 1)"),
        ("import nowhere_to_be_found\n", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("raise ValueError('two\\nlines')\n", "ValueError: two lines"),
        ("import sys\nsys.exit('a script')\n", "SystemExit: a script"),
        ("\0", ""),
    ],
)
def test_a_file_that_cannot_be_executed_is_reported_with_the_reason(tmp_path: Path, source: str, message: str) -> None:
    file = write(tmp_path / "mine.py", source)
    before = set(sys.modules)

    assert refusal(file).startswith(f"{file}: cannot be imported: {message}")
    assert not [name for name in set(sys.modules) - before if name.startswith("fer_augment_local_")]
    write(file, SCALE)
    assert strategy_in_file(file, "Scale")


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.py") == f"{tmp_path / 'gone.py'}: cannot be read: No such file or directory"
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


def test_all_faults_of_a_class_are_reported_in_one_line(tmp_path: Path) -> None:
    source = HEAD + (
        "class Scale(Strategy):\n    @hookimpl\n    def sampling_weight(self): ...\n    def build_loss(self): ...\n"
    )
    file = write(tmp_path / "mine.py", source)

    assert refusal(file) == (
        f"{file}: Scale: build_loss is a hook; mark the method with @hookimpl | "
        "there is no hook 'sampling_weight'; did you mean 'sampling_weights'?"
    )
    assert refusal(file, "hookimpl") == f"{file}: hookimpl: must be a subclass of Strategy"
