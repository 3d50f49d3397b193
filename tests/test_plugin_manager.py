"""Plugins are found, loaded one by one and looked up by name; whatever is wrong with one is told, the others go on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fer_augment import DatasetReader, ImageDataset, Loss, Model, Splits, Strategy, Tracker, hookimpl
from fer_augment.errors import DatasetError, PluginError
from fer_augment.hooks.plugin_manager import Catalog, collect, installed_plugins, strategy_faults
from tests.data_files import random_images


class Halve(Strategy):
    """Halve the weights."""

    @hookimpl
    def sampling_weights(self, weights: Any, epoch: int) -> Any:
        return weights / 2


def some_splits(source: str = "drawn") -> Splits:
    part = ImageDataset.from_arrays(random_images(2), [0, 1], ("ant", "bee"))
    return Splits(part, part, part, source)


def reader(name: str, word: str) -> DatasetReader:
    return DatasetReader(name, f"the word {word}", lambda source: source == word, lambda source, _: some_splits(source))


def plugin(**offered: Any) -> object:
    """Return what stands for a module that offers some things, one list for each registration hook."""

    def hook_of(things: Any) -> Callable[[], Any]:
        def hook() -> Any:
            return things

        return hookimpl(hook)

    return SimpleNamespace(**{f"register_{kind}": hook_of(things) for kind, things in offered.items()})


def collected(*modules: object) -> Catalog:
    return collect((f"module_{number}", f"dist-{number} 1.{number}", module) for number, module in enumerate(modules))


def problems(*modules: object) -> list[str]:
    return list(collected(*modules).problems)


class TestCollecting:
    def test_everything_that_is_offered_is_found_by_its_name_with_who_offers_it(self) -> None:
        model = Model("net", "a net", lambda shape, classes: None)  # type: ignore[arg-type,return-value]
        loss = Loss("hinge", "a loss", lambda logits, targets: logits)
        tracker = Tracker("log", "a log", object)
        offers = collected(
            plugin(strategies=[Halve], models=[model]), plugin(losses=(loss,), trackers=[tracker], dataset_readers=[])
        )

        assert not offers.problems
        assert offers.strategy("halve").value is Halve
        assert offers.strategy("halve").provider == "dist-0 1.0"
        assert offers.strategy("halve").module == "module_0"
        assert offers.model("net").value is model
        assert offers.loss("hinge").value is loss
        assert offers.tracker("log").value is tracker
        assert offers.tracker("log").provider == "dist-1 1.1"

    def test_offers_of_a_kind_are_sorted_by_name(self) -> None:
        losses = [Loss(name, "", lambda logits, targets: logits) for name in "cab"]

        assert [offer.name for offer in collected(plugin(losses=losses)).of_kind("loss")] == ["a", "b", "c"]

    def test_an_unknown_name_is_told_with_the_nearest_known_one(self) -> None:
        with pytest.raises(PluginError, match=r"there is no strategy 'halv'; did you mean 'halve'\?"):
            collected(plugin(strategies=[Halve])).strategy("halv")

    def test_an_unknown_name_is_told_with_the_plugins_that_could_not_be_loaded(self) -> None:
        with pytest.raises(
            PluginError, match=r"no model 'net'; none is known \(not loaded: dist-0 1.0: module_0 offers"
        ):
            collected(SimpleNamespace()).model("net")

    def test_a_name_offered_twice_is_an_error_only_for_who_uses_it_and_names_both_providers(self) -> None:
        losses = [Loss("other", "", lambda logits, targets: logits)]
        offers = collected(plugin(strategies=[Halve]), plugin(strategies=[Halve], losses=losses))

        assert not offers.problems
        assert offers.loss("other").value is losses[0]
        with pytest.raises(
            PluginError,
            match=r"'halve' is offered by dist-0 1.0 \(module_0\) and dist-1 1.1 \(module_1\); uninstall or rename one",
        ):
            offers.strategy("halve")

    def test_a_name_may_be_taken_once_in_each_kind(self) -> None:
        loss = Loss("halve", "", lambda logits, targets: logits)

        assert collected(plugin(strategies=[Halve], losses=[loss])).loss("halve").value is loss


class TestProblems:
    def test_one_broken_plugin_leaves_the_others_working(self) -> None:
        @hookimpl
        def register_strategies() -> None:
            raise RuntimeError("out of\n order")

        offers = collected(SimpleNamespace(register_strategies=register_strategies), plugin(strategies=[Halve]))

        assert list(offers.problems) == ["dist-0 1.0: module_0: RuntimeError: out of order"]
        assert offers.strategy("halve").provider == "dist-1 1.1"

    def test_a_broken_part_of_a_plugin_leaves_its_other_parts_working(self) -> None:
        offers = collected(plugin(strategies=[Halve, int], losses=None))

        assert offers.strategy("halve").value is Halve
        assert sorted(offers.problems) == [
            "dist-0 1.0: module_0: register_losses must return a list, not NoneType",
            "dist-0 1.0: strategy <class 'int'>: must be a subclass of Strategy",
        ]

    def test_a_hook_that_returns_no_list_is_named(self) -> None:
        assert problems(plugin(trackers="log")) == [
            "dist-0 1.0: module_0: register_trackers must return a list, not str"
        ]

    def test_a_declaration_of_another_kind_is_named(self) -> None:
        assert problems(plugin(models=[reader("words", "x")])) == [
            "dist-0 1.0: model words: must be a Model, is a DatasetReader"
        ]

    def test_a_misspelt_hook_is_named_with_the_nearest_one(self) -> None:
        assert problems(plugin(strategys=[Halve])) == [
            "dist-0 1.0: module_0: there is no hook 'register_strategys'; did you mean 'register_strategies'?"
        ]

    def test_a_hook_that_wants_an_argument_is_named(self) -> None:
        @hookimpl
        def register_strategies(config: object) -> list[type[Strategy]]:
            return [Halve]

        (told,) = problems(SimpleNamespace(register_strategies=register_strategies))
        assert told.startswith("dist-0 1.0: module_0: ")
        assert "Argument(s) {'config'}" in told
        assert "\n" not in told

    def test_a_registration_without_the_marker_is_named(self) -> None:
        module = plugin(strategies=[Halve])
        module.register_losses = list  # type: ignore[attr-defined]

        assert problems(module) == ["dist-0 1.0: module_0: register_losses is a hook; mark it with @hookimpl"]

    def test_every_plugin_that_offers_nothing_is_named(self) -> None:
        empty = "offers nothing; mark its registration hooks with @hookimpl"

        assert problems(SimpleNamespace(), plugin(strategies=[]), plugin(strategies=[Halve])) == [
            f"dist-0 1.0: module_0 {empty}",
            f"dist-1 1.1: module_1 {empty}",
        ]


class TestReading:
    def test_a_source_is_read_by_the_reader_that_recognizes_it(self) -> None:
        offers = collected(plugin(dataset_readers=[reader("one", "a"), reader("two", "b")]))

        assert offers.read("b").source == "b"

    def test_a_source_that_nobody_recognizes_is_told_with_all_formats(self) -> None:
        offers = collected(plugin(dataset_readers=[reader("one", "a"), reader("two", "b")]))

        with pytest.raises(DatasetError, match="^c: no such file, or nothing .* Readable: the word a; the word b$"):
            offers.read("c")

    def test_a_source_that_two_readers_recognize_is_told_with_both(self) -> None:
        offers = collected(plugin(dataset_readers=[reader("one", "a")]), plugin(dataset_readers=[reader("two", "a")]))

        with pytest.raises(DatasetError, match=r"a: recognized by one \(dist-0 1.0\) and two \(dist-1 1.1\)"):
            offers.read("a")


class TestStrategyFaults:
    def faults(self, **methods: Any) -> list[str]:
        return strategy_faults(type("Tested", (Strategy,), {"__module__": __name__, **methods}))

    def test_a_strategy_may_take_any_arguments_of_its_hooks_in_any_order(self) -> None:
        @hookimpl
        def augment_batch(self: Any, targets: Any, images: Any, context: Any) -> Any:
            return images, targets

        @hookimpl
        def run_finished(self: Any) -> None: ...

        assert self.faults(augment_batch=augment_batch, run_finished=run_finished) == []

    def test_a_misspelt_hook_is_named_with_the_nearest_one(self) -> None:
        @hookimpl
        def rewrite_trainingset(self: Any, training_set: Any) -> Any:
            return training_set

        assert self.faults(rewrite_trainingset=rewrite_trainingset) == [
            "there is no hook 'rewrite_trainingset'; did you mean 'rewrite_training_set'?"
        ]

    def test_a_misspelt_argument_is_named_with_the_nearest_one(self) -> None:
        @hookimpl
        def rewrite_training_set(self: Any, trainingset: Any) -> Any:
            return trainingset

        assert self.faults(rewrite_training_set=rewrite_training_set) == [
            "rewrite_training_set has no argument 'trainingset'; did you mean 'training_set'?"
        ]

    def test_a_method_called_like_a_hook_needs_the_marker(self) -> None:
        def sampling_weights(self: Any, weights: Any) -> Any:
            return weights

        assert self.faults(sampling_weights=sampling_weights) == [
            "sampling_weights is a hook; mark the method with @hookimpl"
        ]

    @pytest.mark.parametrize("option", ["tryfirst", "trylast", "wrapper", "hookwrapper"])
    def test_an_order_of_its_own_or_a_wrapper_is_refused(self, option: str) -> None:
        def sampling_weights(self: Any, weights: Any) -> Any:
            yield weights

        marked = hookimpl(**{option: True})(sampling_weights)
        assert self.faults(sampling_weights=marked) == [
            "sampling_weights: the recipe decides the order; no tryfirst, trylast or wrapper"
        ]

    def test_arguments_must_be_plain_since_older_versions_of_pluggy_do_not_pass_others(self) -> None:
        @hookimpl
        def sampling_weights(self: Any, weights: Any, epoch: int = 0) -> Any:
            return weights

        @hookimpl
        def build_loss(self: Any, *, loss: Any) -> Any:
            return loss

        advice = "is always passed; take it as a plain argument, without a default"
        assert self.faults(sampling_weights=sampling_weights) == [f"sampling_weights: 'epoch' {advice}"]
        assert self.faults(build_loss=build_loss) == [f"build_loss: 'loss' {advice}"]

    @pytest.mark.parametrize("kind", [staticmethod, classmethod])
    def test_a_hook_is_a_plain_method(self, kind: Callable[..., Any]) -> None:
        @hookimpl
        def sampling_weights(weights: Any) -> Any:
            return weights

        assert self.faults(sampling_weights=kind(sampling_weights)) == [
            "sampling_weights must be a plain method, not a staticmethod or classmethod"
        ]

    def test_a_strategy_without_a_hook_can_do_nothing(self) -> None:
        assert self.faults() == ["implements no hook; mark one of its methods with @hookimpl"]

    def test_what_is_no_strategy_class_is_refused(self) -> None:
        for declared in (int, Halve(), None):
            assert strategy_faults(declared) == ["must be a subclass of Strategy"]

    def test_all_faults_are_told_at_once(self) -> None:
        @hookimpl
        def sampling_weights(self: Any, weight: Any, rows: Any) -> Any:
            return weight

        def build_loss(self: Any) -> None: ...

        assert len(self.faults(sampling_weights=sampling_weights, build_loss=build_loss)) == 3


class TestInstalled:
    @pytest.fixture
    def site(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """Give a folder that Python finds distributions and modules in."""
        monkeypatch.syspath_prepend(tmp_path)
        installed_plugins.cache_clear()
        yield tmp_path
        for file in tmp_path.glob("*.py"):
            sys.modules.pop(file.stem, None)
        installed_plugins.cache_clear()

    def install(self, site: Path, name: str, version: str, **modules: str) -> None:
        """Install a distribution by hand: modules, and an entry point for each."""
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

    def test_a_distribution_offers_through_its_entry_points(self, site: Path) -> None:
        self.install(site, "sampler-kit", "2.5", kit_doubled=self.STRATEGY)
        offer = installed_plugins().strategy("doubled")

        assert (offer.provider, offer.module) == ("sampler-kit 2.5", "kit_doubled")
        weights = np.ones(2)
        assert offer.value().sampling_weights(weights).tolist() == [2, 2]  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("source", "told"),
        [
            ("import nowhere_to_be_found\n", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
            ("raise ValueError('two\\nlines')\n", "ValueError: two lines"),
            ("def\n", "SyntaxError: "),
            ("raise SystemExit('a script')\n", "SystemExit: a script"),
        ],
    )
    def test_a_plugin_that_cannot_be_imported_is_named_and_the_others_go_on(
        self, site: Path, source: str, told: str
    ) -> None:
        self.install(site, "a-bad-one", "0.1", bad_module=source)
        self.install(site, "sampler-kit", "2.5", kit_doubled=self.STRATEGY)
        offers = installed_plugins()

        assert len(offers.problems) == 1
        assert offers.problems[0].startswith(f"a-bad-one 0.1: bad_module cannot be imported: {told}")
        assert offers.strategy("doubled").provider == "sampler-kit 2.5"
        assert offers.model("convnet5").provider.startswith("fer_augment ")

    def test_two_distributions_that_offer_one_name_are_both_named(self, site: Path) -> None:
        self.install(site, "sampler-kit", "2.5", kit_doubled=self.STRATEGY)
        self.install(site, "sampler-box", "1.0", box_doubled=self.STRATEGY)

        with pytest.raises(PluginError, match="offered by sampler-box 1.0 .* and sampler-kit 2.5 "):
            installed_plugins().strategy("doubled")
