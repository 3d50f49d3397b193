"""Plugins are discovered, loaded one by one and looked up by name; a broken plugin is reported and affects no other."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fer_augment import DatasetReader, ImageDataset, Loss, Model, Splits, Strategy, Tracker, hookimpl
from fer_augment.doctor import diagnose
from fer_augment.errors import DatasetError, PluginError
from fer_augment.hooks.plugin_manager import Catalog, collect, installed_plugins, strategy_faults
from tests.data_files import random_images


class Halve(Strategy):
    """Halve the weights."""

    @hookimpl
    def sampling_weights(self, weights: Any, epoch: int) -> Any:
        return weights / 2


def some_splits(source: str = "test") -> Splits:
    part = ImageDataset.from_arrays(random_images(2), [0, 1], ("ant", "bee"))
    return Splits(part, part, part, source)


def reader(name: str, word: str) -> DatasetReader:
    return DatasetReader(name, f"the word {word}", lambda source: source == word, lambda source, _: some_splits(source))


def plugin(**declarations: Any) -> object:
    """Return a stand-in for a plugin module, with one registration hook per keyword."""

    def hook_of(declared: Any) -> Callable[[], Any]:
        def hook() -> Any:
            return declared

        return hookimpl(hook)

    return SimpleNamespace(**{f"register_{kind}": hook_of(declared) for kind, declared in declarations.items()})


def collected(*modules: object) -> Catalog:
    return collect((f"module_{number}", f"dist-{number} 1.{number}", module) for number, module in enumerate(modules))


def problems(*modules: object) -> list[str]:
    return list(collected(*modules).problems)


class TestCollecting:
    def test_everything_registered_is_looked_up_by_name_with_its_provider(self) -> None:
        model = Model("net", "a net", lambda shape, classes: None)
        loss = Loss("hinge", "a loss", lambda logits, targets: logits)
        tracker = Tracker("log", "a log", lambda out: object())
        catalog = collected(
            plugin(strategies=[Halve], models=[model]), plugin(losses=(loss,), trackers=[tracker], dataset_readers=[])
        )

        assert not catalog.problems
        assert catalog.strategy("halve").value is Halve
        assert catalog.strategy("halve").provider == "dist-0 1.0"
        assert catalog.strategy("halve").module == "module_0"
        assert catalog.model("net").value is model
        assert catalog.loss("hinge").value is loss
        assert catalog.tracker("log").value is tracker
        assert catalog.tracker("log").provider == "dist-1 1.1"

    def test_plugins_of_a_kind_are_sorted_by_name(self) -> None:
        losses = [Loss(name, "", lambda logits, targets: logits) for name in "cab"]

        assert [offer.name for offer in collected(plugin(losses=losses)).of_kind("loss")] == ["a", "b", "c"]

    def test_an_unknown_name_is_reported_with_the_closest_one(self) -> None:
        with pytest.raises(PluginError, match=r"there is no strategy 'halv'; did you mean 'halve'\?"):
            collected(plugin(strategies=[Halve])).strategy("halv")

    def test_an_unknown_name_is_reported_with_the_plugins_that_could_not_be_loaded(self) -> None:
        with pytest.raises(
            PluginError, match=r"no model 'net'; none are available \(not loaded: dist-0 1.0: module_0 registers"
        ):
            collected(SimpleNamespace()).model("net")

    def test_a_name_registered_twice_is_an_error_only_when_used_and_names_both_providers(self) -> None:
        losses = [Loss("other", "", lambda logits, targets: logits)]
        catalog = collected(plugin(strategies=[Halve]), plugin(strategies=[Halve], losses=losses))

        assert not catalog.problems
        assert catalog.loss("other").value is losses[0]
        with pytest.raises(
            PluginError,
            match=r"'halve' is registered by dist-0 1.0 \(module_0\) and dist-1 1.1 \(module_1\); uninstall or rename",
        ):
            catalog.strategy("halve")

    def test_a_name_may_be_used_once_per_kind(self) -> None:
        loss = Loss("halve", "", lambda logits, targets: logits)

        assert collected(plugin(strategies=[Halve], losses=[loss])).loss("halve").value is loss


class TestProblems:
    def test_a_broken_plugin_does_not_affect_others(self) -> None:
        @hookimpl
        def register_strategies() -> None:
            raise RuntimeError("out of\n order")

        catalog = collected(SimpleNamespace(register_strategies=register_strategies), plugin(strategies=[Halve]))

        assert list(catalog.problems) == ["dist-0 1.0: module_0: RuntimeError: out of order"]
        assert catalog.strategy("halve").provider == "dist-1 1.1"

    def test_a_broken_part_of_a_plugin_does_not_affect_its_other_parts(self) -> None:
        catalog = collected(plugin(strategies=[Halve, int], losses=None))

        assert catalog.strategy("halve").value is Halve
        assert sorted(catalog.problems) == [
            "dist-0 1.0: module_0: register_losses must return a list, not NoneType",
            "dist-0 1.0: strategy <class 'int'>: must be a subclass of Strategy",
        ]

    def test_a_hook_that_returns_no_list_is_reported(self) -> None:
        assert problems(plugin(trackers="log")) == [
            "dist-0 1.0: module_0: register_trackers must return a list, not str"
        ]

    def test_a_declaration_of_another_kind_is_reported(self) -> None:
        assert problems(plugin(models=[reader("words", "x")])) == [
            "dist-0 1.0: model words: must be a Model or a subclass of ConfigurableModel, is a DatasetReader"
        ]

    def test_a_misspelled_hook_is_reported_with_the_closest_one(self) -> None:
        assert problems(plugin(strategys=[Halve])) == [
            "dist-0 1.0: module_0: there is no hook 'register_strategys'; did you mean 'register_strategies'?"
        ]

    def test_a_registration_hook_with_an_argument_is_reported(self) -> None:
        @hookimpl
        def register_strategies(config: object) -> list[type[Strategy]]:
            return [Halve]

        (problem,) = problems(SimpleNamespace(register_strategies=register_strategies))
        assert problem.startswith("dist-0 1.0: module_0: ")
        assert "Argument(s) {'config'}" in problem
        assert "\n" not in problem

    def test_a_registration_hook_without_hookimpl_is_reported(self) -> None:
        module = plugin(strategies=[Halve])
        module.register_losses = list  # type: ignore[attr-defined]

        assert problems(module) == ["dist-0 1.0: module_0: register_losses is a hook; mark it with @hookimpl"]

    def test_a_plugin_that_registers_nothing_is_reported(self) -> None:
        empty = "registers nothing; mark its registration hooks with @hookimpl"

        assert problems(SimpleNamespace(), plugin(strategies=[]), plugin(strategies=[Halve])) == [
            f"dist-0 1.0: module_0 {empty}",
            f"dist-1 1.1: module_1 {empty}",
        ]


class TestReading:
    def test_a_source_is_read_by_the_reader_that_recognizes_it(self) -> None:
        catalog = collected(plugin(dataset_readers=[reader("one", "a"), reader("two", "b")]))

        assert catalog.read("b").source == "b"

    def test_a_source_that_no_reader_recognizes_is_reported_with_all_formats(self) -> None:
        catalog = collected(plugin(dataset_readers=[reader("one", "a"), reader("two", "b")]))

        with pytest.raises(
            DatasetError, match="^c: no such file or folder; check the path. Supported: the word a; the word b$"
        ):
            catalog.read("c")

    def test_an_existing_file_of_no_supported_format_is_distinguished_from_a_missing_file(self, tmp_path: Path) -> None:
        catalog = collected(plugin(dataset_readers=[reader("one", "a")]))
        path = tmp_path / "faces.psd"
        path.touch()

        with pytest.raises(DatasetError, match="faces.psd: not a supported format. Supported: the word a$"):
            catalog.read(str(path))

    def test_a_misspelled_path_is_reported_with_the_most_similar_existing_path(self, tmp_path: Path) -> None:
        catalog = collected(plugin(dataset_readers=[reader("one", "a")]))
        (tmp_path / "faces").mkdir()
        (tmp_path / "faces" / "train.zip").touch()

        for path, expected in {
            "faces/trian.zip": f"did you mean {tmp_path / 'faces' / 'train.zip'}?",
            "faecs/train.zip": f"did you mean {tmp_path / 'faces'}?",
            "other/train.zip": f"the nearest existing folder is {tmp_path}",
        }.items():
            with pytest.raises(DatasetError) as caught:
                catalog.read(str(tmp_path / path))
            assert str(caught.value) == f"{tmp_path / path}: no such file or folder; {expected}"

    def test_a_source_that_two_readers_recognize_is_reported_with_both(self) -> None:
        catalog = collected(plugin(dataset_readers=[reader("one", "a")]), plugin(dataset_readers=[reader("two", "a")]))

        with pytest.raises(DatasetError, match=r"a: recognized by one \(dist-0 1.0\) and two \(dist-1 1.1\)"):
            catalog.read("a")

    def test_a_pipe_is_refused_without_waiting_for_its_content(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "faces.csv")

        with pytest.raises(DatasetError, match=r"faces.csv: neither a regular file nor a folder"):
            collected(plugin(dataset_readers=[reader("one", "a")])).read(str(tmp_path / "faces.csv"))

    def test_a_reader_that_fails_to_decide_does_not_affect_other_sources(self) -> None:
        broken = DatasetReader("broken", "broken", lambda source: source[1:].index(source[0]) == 0, lambda *_: None)
        catalog = collected(plugin(dataset_readers=[reader("one", "a")]), plugin(dataset_readers=[broken]))

        assert catalog.read("a").source == "a"
        message = r"^b: no reader recognizes it, and the reader broken \(dist-1 1.1\) failed: ValueError: "
        with pytest.raises(DatasetError, match=message):
            catalog.read("b")


class TestStrategyFaults:
    def faults(self, **methods: Any) -> list[str]:
        return strategy_faults(type("Tested", (Strategy,), {"__module__": __name__, **methods}))

    def test_a_hook_may_take_any_of_its_arguments_in_any_order(self) -> None:
        @hookimpl
        def augment_batch(self: Any, targets: Any, images: Any, context: Any) -> Any:
            return images, targets

        assert self.faults(augment_batch=augment_batch) == []

    def test_a_misspelled_hook_is_reported_with_the_closest_one(self) -> None:
        @hookimpl
        def rewrite_trainingset(self: Any, training_set: Any) -> Any:
            return training_set

        assert self.faults(rewrite_trainingset=rewrite_trainingset) == [
            "there is no hook 'rewrite_trainingset'; did you mean 'rewrite_training_set'?"
        ]

    def test_a_misspelled_argument_is_reported_with_the_closest_one(self) -> None:
        @hookimpl
        def rewrite_training_set(self: Any, trainingset: Any) -> Any:
            return trainingset

        assert self.faults(rewrite_training_set=rewrite_training_set) == [
            "rewrite_training_set has no argument 'trainingset'; did you mean 'training_set'?"
        ]

    def test_a_method_named_like_a_hook_needs_hookimpl(self) -> None:
        def sampling_weights(self: Any, weights: Any) -> Any:
            return weights

        assert self.faults(sampling_weights=sampling_weights) == [
            "sampling_weights is a hook; mark the method with @hookimpl"
        ]

    @pytest.mark.parametrize("option", ["tryfirst", "trylast", "wrapper", "hookwrapper"])
    def test_call_order_options_and_wrappers_are_refused(self, option: str) -> None:
        def sampling_weights(self: Any, weights: Any) -> Any:
            yield weights

        options: dict[str, Any] = {option: True}
        marked = hookimpl(**options)(sampling_weights)
        assert self.faults(sampling_weights=marked) == [
            "sampling_weights: remove tryfirst, trylast and wrapper; the recipe decides the order"
        ]

    def test_arguments_with_defaults_or_keyword_only_are_refused_as_old_versions_of_pluggy_do_not_pass_them(
        self,
    ) -> None:
        @hookimpl
        def sampling_weights(self: Any, weights: Any, epoch: int = 0) -> Any:
            return weights

        @hookimpl
        def build_loss(self: Any, *, loss: Any) -> Any:
            return loss

        advice = "must be a plain argument without a default, as it is always passed"
        assert self.faults(sampling_weights=sampling_weights) == [f"sampling_weights: 'epoch' {advice}"]
        assert self.faults(build_loss=build_loss) == [f"build_loss: 'loss' {advice}"]

    @pytest.mark.parametrize("kind", [staticmethod, classmethod])
    def test_a_hook_must_be_an_instance_method(self, kind: Callable[..., Any]) -> None:
        @hookimpl
        def sampling_weights(weights: Any) -> Any:
            return weights

        assert self.faults(sampling_weights=kind(sampling_weights)) == [
            "sampling_weights must be an instance method, not a staticmethod or classmethod"
        ]

    def test_a_strategy_without_a_hook_is_refused(self) -> None:
        assert self.faults() == ["implements no hook; mark at least one method with @hookimpl"]

    def test_a_constructor_is_refused_with_how_to_declare_parameters(self) -> None:
        def __init__(self: Any, sigma: float = 10) -> None:  # noqa: N807
            self.sigma = sigma

        @hookimpl
        def sampling_weights(self: Any, weights: Any) -> Any:
            return weights

        (fault,) = self.faults(__init__=__init__, sampling_weights=sampling_weights)
        assert fault == (
            "a strategy has no `__init__`; declare parameters as annotated class attributes, for example "
            "`sigma: float = 10`"
        )

    def test_only_subclasses_of_strategy_are_accepted(self) -> None:
        for declared in (int, Halve(), None):
            assert strategy_faults(declared) == ["must be a subclass of Strategy"]

    def test_all_faults_are_reported_at_once(self) -> None:
        @hookimpl
        def sampling_weights(self: Any, weight: Any, rows: Any) -> Any:
            return weight

        def build_loss(self: Any) -> None: ...

        assert len(self.faults(sampling_weights=sampling_weights, build_loss=build_loss)) == 3


class TestInstalled:
    @pytest.fixture
    def site(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """Return a folder on the module search path, for distributions and modules."""
        monkeypatch.syspath_prepend(tmp_path)
        installed_plugins.cache_clear()
        yield tmp_path
        for file in tmp_path.glob("*.py"):
            sys.modules.pop(file.stem, None)
        installed_plugins.cache_clear()

    def install(self, site: Path, name: str, version: str, **modules: str) -> None:
        """Write a distribution as if installed: modules, and an entry point for each."""
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        points = [f"{module} = {module}" for module in modules]
        (info / "entry_points.txt").write_text("\n".join(["[fer_augment]", *points]) + "\n")
        for module, source in modules.items():
            (site / f"{module}.py").write_text(source)

    STRATEGY = (
        "from fer_augment import Strategy, hookimpl\n"
        "class Doubled(Strategy):\n"
        "    @hookimpl\n"
        "    def sampling_weights(self, weights):\n"
        "        return weights * 2\n"
        "@hookimpl\n"
        "def register_strategies():\n"
        "    return [Doubled]\n"
    )

    def test_a_distribution_registers_plugins_through_its_entry_points(self, site: Path) -> None:
        self.install(site, "sampler-kit", "2.5", kit_doubled=self.STRATEGY)
        offer = installed_plugins().strategy("doubled")

        assert (offer.provider, offer.module) == ("sampler-kit 2.5", "kit_doubled")
        weights = np.ones(2)
        assert offer.value().sampling_weights(weights).tolist() == [2, 2]  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("import nowhere_to_be_found\n", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
            ("raise ValueError('two\\nlines')\n", "ValueError: two lines"),
            ("def\n", "SyntaxError: "),
            ("raise SystemExit('a script')\n", "SystemExit: a script"),
            ("raise GeneratorExit\n", "GeneratorExit"),
        ],
    )
    def test_a_plugin_that_cannot_be_imported_is_reported_and_does_not_affect_others(
        self, site: Path, source: str, message: str
    ) -> None:
        self.install(site, "a-bad-one", "0.1", bad_module=source)
        self.install(site, "sampler-kit", "2.5", kit_doubled=self.STRATEGY)
        catalog = installed_plugins()

        assert len(catalog.problems) == 1
        assert catalog.problems[0].startswith(f"a-bad-one 0.1: bad_module cannot be imported: {message}")
        assert catalog.strategy("doubled").provider == "sampler-kit 2.5"
        assert catalog.model("convnet5").provider.startswith("fer_augment ")

    BUSY = "import time\nuntil = time.process_time() + 0.6\nwhile time.process_time() < until: pass\n"

    def test_a_plugin_whose_import_takes_long_is_named(self, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fer_augment.hooks.plugin_manager.LONGEST_IMPORT", 0.5)
        self.install(site, "sampler-kit", "2.5", kit_doubled=f"{self.BUSY}{self.STRATEGY}")
        (slow,) = installed_plugins().slow
        assert re.match(r"sampler-kit 2\.5: importing kit_doubled took \d+\.\d s, in every command; ", slow)
        assert installed_plugins().problems == ()
        assert slow in diagnose().problems

    @pytest.mark.parametrize("finder", ["importlib.metadata", "importlib_metadata"])
    def test_a_leftover_folder_of_a_distribution_is_reported_and_does_not_affect_others(
        self, site: Path, finder: str
    ) -> None:
        pytest.importorskip(finder)  # the second replaces the finder of the first, and its errors differ
        self.install(site, "removed-kit", "1.0", gone_module="")
        (site / "gone_module.py").unlink()
        (site / "removed_kit-1.0.dist-info" / "METADATA").unlink()
        self.install(site, "sampler-kit", "2.5", kit_doubled=self.STRATEGY)
        catalog = installed_plugins()

        assert catalog.problems == (
            "unknown distribution of gone_module: gone_module cannot be imported: "
            "ModuleNotFoundError: No module named 'gone_module'",
        )
        assert catalog.strategy("doubled").provider == "sampler-kit 2.5"

    def test_metadata_that_are_not_text_are_reported_and_do_not_affect_others(self, site: Path) -> None:
        self.install(site, "odd-kit", "1.0", odd_module="")
        (site / "odd_kit-1.0.dist-info" / "METADATA").write_bytes(b"Name: odd-kit\nAuthor: \xff\n")
        self.install(site, "sampler-kit", "2.5", kit_doubled=self.STRATEGY)
        assert installed_plugins().strategy("doubled").provider == "sampler-kit 2.5"

    def test_two_distributions_that_register_one_name_are_both_reported(self, site: Path) -> None:
        self.install(site, "sampler-kit", "2.5", kit_doubled=self.STRATEGY)
        self.install(site, "sampler-box", "1.0", box_doubled=self.STRATEGY)

        with pytest.raises(PluginError, match="registered by sampler-box 1.0 .* and sampler-kit 2.5 "):
            installed_plugins().strategy("doubled")
