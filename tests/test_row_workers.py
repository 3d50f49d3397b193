"""Rows that are augmented ahead in processes: the same bytes for any number of them, clear errors, none left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fer_augment as fa
from fer_augment import Context, Effect, ImageDataset, RunError, Strategy, StrategyError, StrategyWarning, hookimpl
from fer_augment.data.records import Evaluation
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.hooks.strategy_files import strategy_in_file
from fer_augment.hooks.strategy_warnings import collected_warnings
from fer_augment.training.row_workers import AugmentedRows
from fer_augment.training.specification import Training
from fer_augment.training.trainer import train
from tests.processes import start
from tests.test_ray_executor import processes_with
from tests.tiny_runs import write_recipe, write_squares
from tests.tiny_training import same_bits, training_of, weights_of


class Noise(Strategy):
    """Change rows at random, by the streams of the rows and of the batch."""

    @hookimpl
    def augment_rows(
        self, images: Any, rows: Any, draws: Any, training_set: ImageDataset, epoch: int, context: Context
    ) -> NDArray[np.uint8]:
        own = context.row_seeds(training_set.row_keys(rows), draws) % 50
        change = own.astype(np.int64) + context.rng.integers(0, 50, len(rows)) + epoch
        return (images + change[:, None, None, None]).astype(np.uint8)


class Fails(Strategy):
    """Do something else in the third batch of the second epoch."""

    how: str = "raise"

    @hookimpl
    def augment_rows(self, images: Any, epoch: int, context: Context) -> Any:
        if epoch == 1 and context.batch == 2:
            if self.how == "leave":
                os._exit(3)
            if self.how == "exit":
                sys.exit(4)
            return None if self.how == "nothing" else 1 / 0
        return images


class Warns(Strategy):
    """Warn in every batch, and once more in the second epoch."""

    @hookimpl
    def augment_rows(self, images: Any, epoch: int) -> Any:
        warnings.warn("too dark", StrategyWarning, stacklevel=1)
        if epoch == 1:
            warnings.warn("darker still", StrategyWarning, stacklevel=1)
        return images


class Asks(Strategy):
    """Query a scout in every batch."""

    @property
    def effects(self) -> Effect:
        return Effect.IN_SAMPLE_MINING

    @hookimpl
    def augment_rows(self, images: Any, training_set: ImageDataset, context: Context) -> Any:
        context.require_scout().probabilities(training_set, how="in_sample")
        return images


def albumentations() -> Strategy:
    strategy_class = installed_plugins().strategy("albumentations").value
    return strategy_class.model_validate({"transforms": ["HorizontalFlip", {"GaussNoise": {"p": 0.5}}]})


def trained(*strategies: Strategy, **settings: Any) -> list[np.ndarray]:
    weights = weights_of(train(training_of(*strategies, epochs=3, **settings)).model)
    assert not multiprocessing.active_children()
    return weights


def test_weights_are_the_same_for_any_number_of_processes() -> None:
    alone = trained(Noise(), albumentations(), workers=0)
    assert same_bits(trained(Noise(), albumentations(), workers=1), alone)
    assert same_bits(trained(Noise(), albumentations(), workers=3), alone)
    assert not same_bits(trained(albumentations(), workers=0), alone), "the noise has an effect"


def test_batches_have_streams_of_their_own() -> None:
    rows = np.zeros((2, 4), dtype=np.int64)
    augmented = AugmentedRows(training_of(Noise(), workers=0))
    first, second = augmented.epoch(rows, 0)
    assert (first != second).any()
    again, _ = augmented.epoch(rows, 0)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("workers", [0, 2])
def test_warnings_of_strategies_are_passed_on_once(workers: int, capfd: pytest.CaptureFixture[str]) -> None:
    with collected_warnings() as messages:
        trained(Warns(), workers=workers)
    assert messages == ["too dark", "darker still"]
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        trained(Warns(), workers=workers)
    assert len(shown) == 2 or not workers
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            "raise",
            r"^step 1 \(fails\), augment_rows: ZeroDivisionError: division by zero \(test_row_workers.py, line \d+\)$",
        ),
        ("exit", r"^step 1 \(fails\), augment_rows: SystemExit: 4 \(test_row_workers.py, line \d+\)$"),
        ("nothing", r"^step 1 \(fails\), augment_rows returned nothing; end it with a return statement$"),
    ],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_the_same_with_and_without_processes(how: str, message: str, workers: int) -> None:
    with pytest.raises(StrategyError, match=message) as raised:
        train(training_of(Fails(how=how), workers=workers))
    assert not multiprocessing.active_children()
    if workers:
        assert "pipeline.py" in str(raised.value.__cause__), "the traceback of the process is kept"


def test_a_process_that_dies_is_named() -> None:
    with pytest.raises(RunError, match=r"a process of training.workers ended with exit code 3; .*training.workers=0"):
        train(training_of(Fails(how="leave"), workers=2))
    assert not multiprocessing.active_children()


def test_a_training_that_is_interrupted_resumes_with_the_same_weights(tmp_path: Path) -> None:
    def interrupt(evaluation: Evaluation) -> None:
        if evaluation.epoch == 2:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"epochs": 3, "evaluate_every": 1, "workers": 2}
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        train(
            training_of(Noise(), **options), checkpoint=checkpoint, evaluated=interrupt, seconds_between_checkpoints=0
        )
    assert checkpoint.exists() and not multiprocessing.active_children()
    resumed = train(training_of(Noise(), **options), checkpoint=checkpoint)
    assert same_bits(weights_of(resumed.model), trained(Noise(), evaluate_every=1, workers=0))


class TestNumberOfProcesses:
    def count(self, training: Training) -> int:
        augmented = AugmentedRows(training)
        try:
            next(augmented.epoch(np.zeros((1, 4), np.int64), 0), None)
            return len(multiprocessing.active_children())
        finally:
            augmented.close()

    def test_is_none_on_the_cpu_by_default(self) -> None:
        assert self.count(training_of(Noise())) == 0
        assert self.count(training_of(Noise(), workers=2)) == 2

    def test_is_none_for_steps_that_query_a_scout(self) -> None:
        training = training_of(Asks(), workers=2)
        with pytest.raises(StrategyError, match="no scout is available here"):  # there is none in this test
            self.count(training)
        assert not multiprocessing.active_children()

    def test_is_refused_for_classes_that_no_other_process_can_load(self) -> None:
        class Typed(Strategy):
            """Defined where no other process finds it."""

            @hookimpl
            def augment_rows(self, images: Any) -> Any:
                return images

        with pytest.raises(StrategyError, match=r"cannot act in processes of its own \(.*; set training.workers to 0"):
            self.count(training_of(Typed(), workers=1))
        assert self.count(training_of(Typed())) == 0


OWN = '''
import numpy as np
from fer_augment import Strategy, hookimpl

class Darker(Strategy):
    """Makes images darker."""

    slowly: bool = False

    @hookimpl
    def augment_rows(self, images, epoch):
        while self.slowly and epoch == 1:
            pass
        return images // 2
'''


@pytest.mark.parametrize("change", ["edited", "deleted"])
def test_a_local_strategy_acts_in_a_process_as_it_was_when_it_was_bound(tmp_path: Path, change: str) -> None:
    helper, file = tmp_path / "shade_beside.py", tmp_path / "own.py"
    helper.write_text("SHADE = 3\n")
    own = OWN.replace("return images // 2", "import shade_beside\n        return images // shade_beside.SHADE")
    file.write_text(own)
    strategy = strategy_in_file(file, "Darker")()
    alone = trained(strategy, workers=0)
    for path in (helper, file):
        path.unlink()
        if change == "edited":
            path.write_text("raise ImportError('edited')\n")
    assert same_bits(trained(strategy, workers=1), alone)


class TestRuns:
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
        write_squares(tmp_path / "squares")
        (tmp_path / "own.py").write_text(OWN)
        return tmp_path

    def test_of_local_strategies_in_processes_of_an_executor(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_recipe(place, "darker", steps="- ./own.py:Darker: {}", epochs=2)
        files = []
        for workers in (0, 2):
            monkeypatch.setenv("FER_AUGMENT_CACHE", str(place / f"cache {workers}"))
            comparison = fa.compare(
                "darker.yaml", "squares", seeds=2, jobs=2, out=f"out {workers}", progress=False,
                overrides={"training.workers": workers},
            )  # fmt: skip
            runs = comparison.runs["darker"]
            files.append([(run.record.identity.key, (run.path / "weights.safetensors").read_bytes()) for run in runs])
        assert files[0] == files[1]

    def test_leave_no_process_behind_at_ctrl_c(self, place: Path) -> None:
        write_recipe(place, "slow", steps="- ./own.py:Darker: {slowly: true}", epochs=2, workers=2)
        program = str(Path(sys.executable).with_name("fer-augment"))
        command = [program, "compare", "slow.yaml", "--data", "squares", "--seeds", "2", "--jobs", "2"]
        started = start(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        variable = f"FER_AUGMENT_CACHE={os.environ['FER_AUGMENT_CACHE']}"
        deadline = time.monotonic() + 240
        # 2 runs with 2 processes each; on Linux they are forked from 3 servers
        kind, count = ("forkserver", 9) if sys.platform == "linux" else ("spawn_main", 6)
        while sum(kind in line for line in processes_with(variable)) < count:
            assert started.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=60)
        assert started.returncode == 130 and "interrupted" in err
        deadline = time.monotonic() + 30
        while processes_with(variable) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not processes_with(variable)
