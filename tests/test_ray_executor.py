"""Tasks and runs on a real Ray cluster of two nodes: as on this machine, and what is lost is done again elsewhere."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fer_augment as fa
from fer_augment import RunError, Splits
from fer_augment.data.pixel_blocks import PixelBlock
from fer_augment.hooks.observers import Observers
from fer_augment.progress import Advance
from fer_augment.recipe.recipe import Recipe, load_recipes
from fer_augment.runs.executors import FailedTask, do_tasks
from fer_augment.runs.experiment import Experiment, runs_in_order
from fer_augment.runs.finished_runs import FinishedRuns
from fer_augment.runs.plan import plan
from fer_augment.runs.ray_executor import RETRIES, Needs, do_tasks_on_ray
from fer_augment.runs.recipe_data import RecipeData
from fer_augment.runs.remote_runs import RemoteExperiment, _unpack, do_runs_on_ray
from fer_augment.training.store import TrainingStore
from tests.command_line import assert_refused, fer_augment
from tests.comparison_place import write_place
from tests.processes import start
from tests.ray_tasks import WORKING, node_of, times_done, work
from tests.test_executors import Recorder
from tests.test_tracking import Log
from tests.tiny_runs import write_recipe, write_squares
from tests.tiny_training import tiny_splits

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray leaves closing to the end of the process
WITHOUT_RAY = "ray is not installed: pip install 'fer_augment[ray]'"


def splits_in(experiment: Experiment) -> Splits:
    return experiment.data.as_read(Recipe(name="any", model="any"))


@pytest.fixture(scope="module", autouse=True)
def priority_of_workers() -> Iterator[None]:
    """Give Ray's workers the priority of other processes: with their own they starve beside other tests."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_worker_niceness", "0")
        yield


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start a cluster of two nodes, whose machines have a cache of their own."""
    pytest.importorskip("ray", reason=WITHOUT_RAY)
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("FER_AUGMENT_CACHE", str(tmp_path_factory.mktemp("cache of the nodes")))
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        yield cluster
        cluster.shutdown()


@pytest.fixture
def second_node(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the node that may be lost: it has a GPU, as far as Ray knows."""
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    node = next(iter(cluster.worker_nodes), None) or cluster.add_node(num_cpus=1, num_gpus=1)
    cluster.wait_for_nodes()
    return node


def do_on_ray(work: Any, tasks: list[str], listener: Recorder, *, threads: int = 1) -> list[Any]:
    def receive(task: str, made: str) -> str:
        if task == "full":
            raise OSError("no space left")
        return made

    return do_tasks_on_ray(work, tasks, lambda task: Needs(threads), listener, receive=receive)


def test_pixels_of_the_cache_are_sent_to_several_machines(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("fer_augment.runs.remote_runs.several_machines", lambda: True)
    (tmp_path / "cache").mkdir()
    pixels = tiny_splits().train.images[:]
    blocks = []
    for folder in (tmp_path, tmp_path / "cache"):
        np.save(folder / "pixels.npy", pixels)
        blocks.append(PixelBlock.open(folder / "pixels.npy"))
    in_source, in_cache = (replace(tiny_splits().train, blocks=(block,)) for block in blocks)
    data = RecipeData.of(replace(tiny_splits(), train=in_cache, test=in_cache, validation=in_source))
    experiment = Experiment(data, TrainingStore(tmp_path / "trainings"), tmp_path / "runs")
    sent = pickle.dumps(RemoteExperiment(experiment, (), frozenset()))
    assert len(sent) < 1.5 * pixels.nbytes + 20_000, "once"
    shutil.rmtree(tmp_path / "cache")
    received = pickle.loads(sent).experiment.data.as_read(Recipe(name="any", model="any"))
    assert received.fingerprint == data.as_read(Recipe(name="any", model="any")).fingerprint
    assert received.validation.blocks[0].path == tmp_path / "pixels.npy"


class TestTasks:
    def test_have_outcomes_in_their_order_and_fail_alone_and_once(self, second_node, tmp_path, capfd):
        recorder = Recorder()
        tasks = ["a", "fail", "bug", "b", "full"]
        outcomes = do_on_ray(functools.partial(work, folder=tmp_path), tasks, recorder)
        a, known, bug, b, full = outcomes
        assert (a, b) == ("A", "B")
        assert known.message == "it failed for a known reason" and "in work" in known.details
        assert bug.message == "ZeroDivisionError: nobody foresaw this"
        assert "in work" in bug.details
        assert full.message == "OSError: no space left"
        for task, outcome in zip(tasks, outcomes, strict=True):
            of_task = [event for event in recorder.events if event[1] == task]
            assert of_task == [("started", task), ("progressed", task, WORKING), ("ended", task, outcome)]
            assert times_done(tmp_path, task) == 1
        assert capfd.readouterr().out == ""

    def test_whose_process_is_killed_are_done_again(self, second_node, tmp_path, capfd):
        recorder = Recorder()
        outcomes = do_on_ray(functools.partial(work, folder=tmp_path), ["die once", "a", "die", "b"], recorder)
        assert [outcomes[place] for place in (0, 1, 3)] == ["DIE ONCE", "A", "B"]
        assert outcomes[2].message.startswith(f"its process or machine was lost {RETRIES + 1} times; enough memory? ")
        done = {task: times_done(tmp_path, task) for task in ("die once", "a", "die", "b")}
        assert done == {"die once": 2, "a": 1, "die": RETRIES + 1, "b": 1}
        of_lost = [event for event in recorder.events if event[1] == "die once"]
        assert [event[0] for event in of_lost].count("started") == 1
        assert ("progressed", "die once", Advance("lost its process, waiting for another", 0, 1)) in of_lost
        assert capfd.readouterr().out == ""

    def test_that_want_a_gpu_go_where_one_is_no_more_at_a_time_than_is_said(self, second_node):
        recorder = Recorder()
        devices = ("auto", "cuda", "auto")
        nodes = do_tasks_on_ray(
            node_of, devices, lambda task: Needs(1, task), recorder, receive=lambda *_: _[1], at_once=1
        )
        assert nodes == [second_node.node_id] * 3
        assert [event[:2] for event in recorder.events] == [
            (what, device) for device in devices for what in ("started", "ended")
        ]

    def test_that_fit_no_machine_are_refused(self, second_node):
        with pytest.raises(RunError, match="needs 9 CPUs and 0 GPUs on one machine, .* have 1 and 0, 1 and 1; lower"):
            do_on_ray(node_of, ["a"], Recorder(), threads=9)

    def test_that_are_none_need_no_cluster(self, monkeypatch):
        pytest.importorskip("ray", reason=WITHOUT_RAY)
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        assert do_on_ray(node_of, [], Recorder()) == []


MINING = "- hard_examples: {predictions: out_of_fold}"
STRATEGIES = '''
import time
from pathlib import Path
import numpy as np
from fer_augment import Strategy, hookimpl

class TakesDown(Strategy):
    """Notes seed and node of every training; on one node the second never ends, on others all wait for that one."""

    file: str
    node: str

    @hookimpl
    def rewrite_training_set(self, training_set, context):
        import ray
        here, notes = ray.get_runtime_context().get_node_id(), Path(self.file)
        with notes.open("a") as file:
            file.write(f"{here} {context.seed}\\n")
        is_lost = here == self.node and notes.read_text().count(here) == 2
        while is_lost or (here != self.node and notes.read_text().count(self.node) < 2):
            time.sleep(0.05)
        return training_set

class Turned(Strategy):
    """Adds every image turned."""

    @hookimpl
    def rewrite_training_set(self, training_set):
        rows = np.arange(len(training_set))
        return training_set.append(training_set.images[rows][:, ::-1], parents=rows)
'''


@pytest.fixture
def recipes(tmp_path: Path) -> list[Recipe]:
    """Two arms, one of them with a strategy in a file beside it."""
    (tmp_path / "own.py").write_text(STRATEGIES)
    plain = write_recipe(tmp_path, "plain", device="cpu")
    turned = write_recipe(tmp_path, "turned", device="cpu", steps="- ./own.py:Turned")
    return load_recipes([str(plain), str(turned)])


def experiment_in(folder: Path) -> Experiment:
    return Experiment(RecipeData.of(tiny_splits()), TrainingStore(folder / "cache" / "trainings"), folder / "runs")


def paths_of(outcomes: list[Path | FailedTask]) -> list[Path]:
    """Return the run directories, and check that no run failed."""
    paths = [outcome for outcome in outcomes if isinstance(outcome, Path)]
    assert len(paths) == len(outcomes), outcomes
    return paths


def contents(outcomes: list[Path | FailedTask]) -> list[dict[str, bytes]]:
    return [{file.name: file.read_bytes() for file in path.glob("*.safetensors")} for path in paths_of(outcomes)]


class TestRuns:
    @pytest.fixture(scope="class", autouse=True)
    @staticmethod
    def connection(cluster: Any) -> Iterator[None]:
        """Stay connected meanwhile: the tests share worker processes, each of which imports torch."""
        import ray

        ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        yield
        ray.shutdown()

    def test_have_the_same_bytes_as_on_this_machine(self, second_node, recipes, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        runs = runs_in_order(recipes, [0, 1])
        here = do_tasks(experiment_in(tmp_path / "local"), runs, 1, Recorder())
        there = do_runs_on_ray(experiment_in(Path("ray")), runs, Recorder())
        assert contents(there) == contents(here)
        expected = [path.relative_to(tmp_path / "local") for path in paths_of(here)]
        assert [path.relative_to("ray") for path in paths_of(there)] == expected
        assert not list(Path("ray").rglob(".*"))

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="there is no /proc/self/fd, a place only seen here")
    def test_come_back_from_machines_that_do_not_see_our_directories(self, second_node, recipes, tmp_path):
        local, ours = tmp_path / "local", tmp_path / "ours"
        ours.mkdir()
        runs = runs_in_order(recipes, [0])
        here = contents(do_tasks(experiment_in(local), runs, 1, Recorder()))
        descriptor = os.open(ours, os.O_RDONLY)
        try:
            experiment = experiment_in(Path(f"/proc/self/fd/{descriptor}"))
            back = do_runs_on_ray(experiment, runs, Recorder())
            assert contents(back) == here
            assert experiment.ledger.count(splits_in(experiment).test.fingerprint) == 2
            changed = [path.stat().st_mtime_ns for path in paths_of(back)]
            assert do_runs_on_ray(experiment, runs, Recorder()) == back
            assert [path.stat().st_mtime_ns for path in paths_of(back)] == changed
        finally:
            os.close(descriptor)
        assert not list((ours / "cache" / "trainings").iterdir())

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="there is no /proc/self/fd, a place only seen here")
    def test_wait_for_scouts_that_come_back_and_are_sent_along(self, second_node, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        mined = write_recipe(tmp_path, "mined", device="cpu", steps=MINING, scout="{folds: 2}")
        runs = runs_in_order(load_recipes([str(mined)]), [0, 1])
        here = contents(do_tasks(experiment_in(tmp_path / "local"), runs, 1, Recorder()))
        (tmp_path / "ours").mkdir()
        descriptor = os.open(tmp_path / "ours", os.O_RDONLY)
        try:
            experiment = experiment_in(Path(f"/proc/self/fd/{descriptor}"))
            planned = plan(runs, experiment, FinishedRuns.among(runs, experiment))
            recorder = Recorder()
            tasks = [one.task for one in planned.tasks]
            back = do_runs_on_ray(experiment, tasks, recorder, waits=planned.waits)
            assert contents(back[2::3]) == here
            scouts = {path.name for outcome in (back[0], back[1], back[3], back[4]) for path in paths_of([outcome])}
            assert {path.name for path in experiment.store.root.iterdir()} == scouts
        finally:
            os.close(descriptor)
        order = [str(event[1]) for event in recorder.events if event[0] == "ended"]
        assert order.index("mined, seed 0") > max(order.index(str(tasks[number])) for number in (0, 1))

    def test_receive_trainings_that_their_machine_does_not_have(self, second_node, tmp_path):
        import ray

        reference = ray.put({"weights.safetensors": b"weights", "facts.json": b"{}"})
        store = TrainingStore(tmp_path / "trainings")
        _unpack({"key": reference}, store)
        assert (store.root / "key/weights.safetensors").read_bytes() == b"weights"
        (store.root / "key/facts.json").write_bytes(b"own")
        _unpack({"key": reference}, store)
        assert (store.root / "key/facts.json").read_bytes() == b"own"

    def test_send_their_events_to_trackers(self, second_node, tmp_path, monkeypatch):
        monkeypatch.chdir(write_place(tmp_path))
        log = Log()
        prepared = fa.prepare("small.yaml", "faces", seeds=1, executor="ray", progress=False)
        replace(prepared, observers=Observers({"log": log})).run()
        assert log.events == [
            ("comparison_started", "small"),
            ("run_started", "small", 0),
            1,
            2,
            ("run_finished", 0, 2),
        ]

    def test_of_a_lost_node_are_done_elsewhere_and_finished_ones_stay(self, cluster, second_node, recipes, tmp_path):
        notes = tmp_path / "notes"
        notes.touch()
        steps = f"- ./own.py:TakesDown: {{file: {notes}, node: {second_node.node_id}}}"
        runs = runs_in_order(load_recipes([str(write_recipe(tmp_path, "noted", device="cpu", steps=steps))]), range(4))

        class LosesANode(Recorder):
            def ended(self, task: object, outcome: object) -> None:
                super().ended(task, outcome)
                if cluster.worker_nodes and notes.read_text().count(second_node.node_id) == 2:
                    cluster.remove_node(second_node)

        recorder = LosesANode()
        outcomes = do_runs_on_ray(experiment_in(tmp_path), runs, recorder)
        assert not cluster.worker_nodes
        assert [path.name[:6] for path in paths_of(outcomes)] == [f"seed-{seed}" for seed in range(4)]
        assert len(contents(outcomes)) == 4
        lines = [line.split() for line in notes.read_text().splitlines()]
        begun = [int(seed) for _, seed in lines]
        finished_there, lost = (int(seed) for node, seed in lines if node == second_node.node_id)
        assert begun.count(lost) == 2
        assert begun.count(finished_there) == 1
        assert sorted(begun) == sorted([*range(4), lost])


class TestCommand:
    @pytest.fixture(autouse=True)
    def own_place(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        write_squares(tmp_path / "squares")
        write_recipe(tmp_path, device="cpu")

    arguments = ("compare", "tiny.yaml", "--data", "squares", "--executor", "ray")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a process, as one that was connected to a cluster cannot start another one."""
        pytest.importorskip("ray", reason=WITHOUT_RAY)
        command = [str(Path(sys.executable).with_name("fer-augment")), *self.arguments, *arguments]
        return start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def assert_nothing_runs(self) -> None:
        """All processes of a command have this test's cache in their environment."""
        deadline = time.monotonic() + 30
        while (left := processes_with(f"FER_AUGMENT_CACHE={os.environ['FER_AUGMENT_CACHE']}")) and (
            time.monotonic() < deadline
        ):
            time.sleep(0.1)
        assert not left

    def test_ends_its_cluster_and_gives_the_same_comparison_as_python_and_the_terminal(self, tmp_path, monkeypatch):
        write_recipe(tmp_path, "more", steps="- imblearn: {sampler: RandomOverSampler}", device="cpu")
        arms, threads = ["tiny.yaml", "more.yaml"], "training.threads=2"
        started = self.start("more.yaml", "--seeds", "2", "--set", threads, "--json", "--out", "ray")
        out, err = started.communicate()
        assert started.returncode == 0, err
        assert [arm["seeds"] for arm in json.loads(out)["arms"]] == [[0, 1], [0, 1]]
        assert re.fullmatch(r"(done   (tiny|more), seed \d \(\d+ s\)\n){4}Results are in .*\n", err)
        self.assert_nothing_runs()

        monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache of python"))
        fa.compare(arms, "squares", seeds=2, overrides=[threads], jobs=1, out="python", progress=False)
        monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache of the terminal"))
        options = ["--seeds", "2", "--set", threads, "--jobs", "1", "--out", "terminal"]
        fer_augment("compare", *arms, "--data", "squares", *options)
        files = {name: Path(name, "comparison.json").read_text() for name in ("python", "terminal", "ray")}
        texts = {name: re.sub(r'"training_seconds": \{[^}]*\}', "", text) for name, text in files.items()}
        assert files["ray"].count("training_seconds") == 2
        assert texts["python"] == texts["terminal"] == texts["ray"]

    def test_ends_everything_at_ctrl_c(self, tmp_path):
        started = self.start("--set", "training.epochs=100000")
        while not list((tmp_path / "cache" / "trainings").glob("*.lock")):
            assert started.poll() is None
            time.sleep(0.1)
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=60)
        assert (started.returncode, out) == (130, "")
        assert err.strip() == "fer-augment: interrupted; run the same command again to resume"
        self.assert_nothing_runs()

    def test_refuses_a_cluster_that_is_not_there(self, monkeypatch):
        pytest.importorskip("ray", reason=WITHOUT_RAY)
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        assert_refused(fer_augment(*self.arguments), "RAY_ADDRESS=127.0.0.1:1: cannot be joined", "refused")

    def test_refuses_when_ray_is_not_installed(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "ray", None)  # makes `import ray` fail, as where there is none
        assert_refused(fer_augment(*self.arguments), "Ray is not installed: pip install 'fer_augment[ray]'")


def processes_with(variable: str) -> list[str]:
    """Return the command lines of the processes that have a variable in their environment, but for this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if variable.encode() in (process / "environ").read_bytes() and process.name != str(os.getpid()):
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found
