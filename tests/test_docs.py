"""The documentation matches the code: examples run, commands print the shown output, signatures agree."""

from __future__ import annotations

import ast
import contextlib
import doctest
import inspect
import json
import re
import shlex
import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import click
import numpy as np
import pytest
import torch
import yaml

import fer_augment as fa
from docs.builder.page import catalog_page
from fer_augment import Effect, Splits, Strategy, functional, testing
from fer_augment.arguments import LARGEST_SEED, MOST_FOLDS, MOST_JOBS, MOST_SEEDS
from fer_augment.cache import CACHE_VARIABLE
from fer_augment.cli import group
from fer_augment.data.class_order import LONGEST_CLASS_NAME
from fer_augment.data.decoding import MAX_PIXELS
from fer_augment.data.image_files import LARGEST_FILE
from fer_augment.data.records import RECORD_SCHEMA, Evaluation, RunIdentity, RunRecord
from fer_augment.hooks.observer_specs import OBSERVERS, ObserverSpecs
from fer_augment.hooks.observers import Observers
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import Catalog, collect, installed_plugins
from fer_augment.hooks.specs import RegistrationSpecs, StageSpecs
from fer_augment.hooks.stages import STAGES
from fer_augment.hooks.strategy import Context
from fer_augment.readers._tar_files import COMPRESSED_LIMIT
from fer_augment.recipe.binding import bind
from fer_augment.recipe.json_schema import recipe_json_schema
from fer_augment.recipe.parameter_grid import MAX_ARMS, grid_arms
from fer_augment.recipe.recipe import load_recipes
from fer_augment.reports.html import REPORT_FILE
from fer_augment.results.comparison import COMPARISON_FILE
from fer_augment.results.confused_images import CONFUSED_FILE
from fer_augment.testing import assert_conforms, tiny_dataset
from tests.command_line import fer_augment
from tests.markdown import (
    DOCS,
    ROOT,
    Block,
    blocks_of,
    commands_of,
    headings_of,
    links_of,
    mentioned_commands_of,
    pages,
)


def run(block: Block, namespace: dict[str, Any]) -> None:
    exec(compile(block.text, f"{block.page}:{block.line}", "exec", dont_inherit=True), namespace)


def signatures(specs: type) -> dict[str, str]:
    """Return the definition of every hook, without its documentation."""
    (spec_class,) = ast.parse(textwrap.dedent(inspect.getsource(specs))).body
    assert isinstance(spec_class, ast.ClassDef)
    return {hook.name: _signature(hook) for hook in spec_class.body if isinstance(hook, ast.FunctionDef)}


def _signature(hook: ast.FunctionDef) -> str:
    hook.body, hook.decorator_list = [ast.Expr(ast.Constant(...))], []
    return ast.unparse(hook)


STAGE_HOOKS, OBSERVER_HOOKS = signatures(StageSpecs), signatures(ObserverSpecs)
REGISTRATION_HOOKS = signatures(RegistrationSpecs)
ALL_HOOKS = STAGE_HOOKS | OBSERVER_HOOKS | REGISTRATION_HOOKS


HOOK_PAGES = DOCS / "hooks"
SAMPLE = ROOT / "tests" / "sample_distribution" / "fer_augment_sample"


class TestHooks:
    """One page per hook: its signature, then complete examples."""

    every_hook = pytest.mark.parametrize("hook", ALL_HOOKS)

    @pytest.fixture(scope="class")
    @classmethod
    def examples(cls) -> dict[str, dict[str, Any]]:
        """Run the examples on each page; return the objects that they define."""
        return {hook: cls.definitions_in(hook) for hook in ALL_HOOKS}

    @staticmethod
    def definitions_in(hook: str) -> dict[str, Any]:
        _, *examples = blocks_of(HOOK_PAGES / f"{hook}.md")
        defined: dict[str, Any] = {}
        for example in examples:
            namespace: dict[str, Any] = {"__name__": hook, "__file__": str(SAMPLE / "plugin.py")}
            run(example, namespace)
            defined |= {name: value for name, value in namespace.items() if getattr(value, "__module__", None) == hook}
        return defined

    def test_index_lists_every_hook_in_code_order(self) -> None:
        index = (HOOK_PAGES / "README.md").read_text(encoding="utf-8")
        assert re.findall(r"(?m)^\| \[(\w+)\]\(\1\.md\) \|", index) == [*ALL_HOOKS]

    def test_hooks_and_pages_correspond(self) -> None:
        names = {page.stem for page in HOOK_PAGES.glob("*.md")}
        assert names == {"README", *ALL_HOOKS}

    @every_hook
    def test_signature_matches_the_code(self, hook: str) -> None:
        shown, *_ = blocks_of(HOOK_PAGES / f"{hook}.md")
        (parsed,) = ast.parse(shown.text).body
        assert isinstance(parsed, ast.FunctionDef)
        assert shown.section == hook
        assert _signature(parsed) == ALL_HOOKS[hook]

    @every_hook
    def test_page_and_index_agree(self, hook: str) -> None:
        index = (HOOK_PAGES / "README.md").read_text(encoding="utf-8")
        called, returns = re.findall(rf"(?m)^\| \[{hook}\]\({hook}\.md\) \| (.*) \| (.*) \|$", index)[0]
        assert f" · called {called} · returns {returns} · " in (HOOK_PAGES / f"{hook}.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize("stage", STAGES)
    def test_page_lists_the_shipped_strategies_of_the_stage(self, stage: str) -> None:
        page = (HOOK_PAGES / f"{stage}.md").read_text(encoding="utf-8")
        acting = [
            offer.name
            for offer in installed_plugins().of_kind("strategy")
            if offer.module.startswith("fer_augment_plugins.") and hasattr(offer.value, stage)
        ]
        assert acting
        assert re.findall(r"\[(\w+)\]\(\.\./strategies\.md#\1\)", page) == acting

    @pytest.mark.parametrize("stage", STAGES)
    def test_stage_example_is_a_conforming_strategy(
        self, stage: str, examples: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        np.save("generated.npy", np.random.default_rng(0).integers(0, 256, (5, 24, 20), dtype=np.uint8))
        assert examples[stage]
        for strategy_class in examples[stage].values():
            assert issubclass(strategy_class, Strategy)
            assert stage in vars(strategy_class)
            assert_conforms(strategy_class)

    @pytest.mark.parametrize("hook", OBSERVERS)
    def test_observer_example_prints_events(
        self, hook: str, examples: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        (observer_class,) = examples[hook].values()
        run = RunIdentity(recipe="mine", seed=3, key="k")
        curve = tuple(
            Evaluation(
                epoch=epoch,
                step=epoch * 10,
                training_loss=1.0,
                selection_loss=1.0,
                validation_loss=loss,
                validation_accuracy=0.5,
                validation_recall=(0.5, None),
            )
            for epoch, loss in ((1, 0.9), (2, 0.4), (3, 0.6))
        )
        record = RunRecord.model_construct(identity=run, curve=curve)  # type: ignore[call-arg] # has what is needed
        comparison = fa.Comparison.model_construct()  # type: ignore[call-arg] # likewise
        comparison._directory = Path("results/mine")
        given: dict[str, dict[str, object]] = {
            "comparison_started": {"recipes": ["paper", "mine"], "seeds": [0, 3], "source": "faces.zip"},
            "run_started": {"run": run, "recipe": {"training": {"epochs": 3}}, "class_names": ["ant", "bee"]},
            "epoch_finished": {"run": run, "evaluation": curve[0], "class_names": ["ant", "bee"]},
            "run_finished": {
                "run": run,
                "record": record,
                "scores": {"test_accuracy": 0.75},
                "directory": Path("results/mine/runs/mine/seed-3-k"),
            },
            "run_failed": {"run": run, "message": "the loss is not finite"},
            "comparison_finished": {"comparison": comparison},
            "comparison_failed": {"message": "all runs failed"},
        }
        assert not Observers({"example": observer_class()}).notify(hook, **given[hook])
        assert (
            capsys.readouterr().out
            == {
                "comparison_started": "paper, mine with 2 seeds on faces.zip\n",
                "run_started": "mine, seed 3: 3 epochs\n",
                "epoch_finished": "mine, epoch 1: 0.900\n",
                "run_finished": "mine: test accuracy 75.0 %, smallest validation loss at epoch 2\n",
                "run_failed": "mine, seed 3: the loss is not finite\n",
                "comparison_finished": "results/mine/report.html\n",
                "comparison_failed": "all runs failed\n",
            }[hook]
        )

    @pytest.fixture(scope="class")
    @classmethod
    def offered(cls, examples: dict[str, dict[str, Any]]) -> Catalog:
        """Collect the declarations of the registration examples, as from one plugin module."""
        module = types.ModuleType("example")
        for hook in REGISTRATION_HOOKS:
            setattr(module, hook, examples[hook][hook])
        return collect([("example", "docs 1.0", module)])

    def test_registration_examples_declare_one_of_each_kind(self, offered: Catalog) -> None:
        assert offered.problems == ()
        assert {(offer.kind, offer.name) for offer in offered.offers} == {
            ("strategy", "negative"),
            ("model", "linear"),
            ("dataset reader", "dots"),
            ("loss", "absolute_error"),
            ("tracker", "loss_log"),
            ("recipe", "dimmed_rings"),
        }

    def test_example_model_and_loss_work(self, offered: Catalog) -> None:
        model: Any = offered.model("linear").value
        network = model.build((4, 5, 1), 3)
        images = torch.rand(2, 1, 4, 5)
        assert torch.equal(network(images), network.head(network.features(images)))
        losses = offered.loss("absolute_error").value.of_batch(network(images), torch.eye(3)[:2])
        assert losses.shape == (2,) and bool((losses > 0).all())

    def test_example_reader_and_tracker_work(self, offered: Catalog) -> None:
        splits = offered.read("dots")
        assert isinstance(splits, Splits)
        assert (len(splits.train), len(splits.test), splits.train.image_shape) == (200, 50, (8, 8, 1))
        side = splits.train.images[:].argmax(axis=2).max(axis=1)[:, 0] > 4
        assert np.array_equal(side, splits.train.labels == 1)
        assert not Observers.of([offered.tracker("loss_log").value], Path("results")).failures


@pytest.mark.parametrize(
    "page", ["write_a_strategy", "recipes", "networks", "data", "statistics", "python", "tutorials/folds"]
)
def test_page_code_and_commands_run_in_order(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for block in blocks_of(DOCS / f"{page}.md"):
        if file := re.match(r"# (\w+\.(?:py|yaml))\n", block.text):
            Path(file[1]).write_text(block.text, encoding="utf-8")
        if block.language == "python":
            run(block, namespace)
        elif block.language == "pycon":
            run_session(block, namespace)
        elif block.language == "console":
            run_command(block)


def run_session(block: Block, namespace: dict[str, Any]) -> None:
    session = doctest.DocTestParser().get_doctest(block.text, namespace, block.section, None, block.line)
    report: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(session, out=report.append, clear_globs=False)
    assert result.attempted and not result.failed, "".join(report)
    namespace.update(session.globs)


def run_command(block: Block) -> None:
    first, _, output = block.text.partition("\n")
    program, *arguments = shlex.split(first.removeprefix("$ "))
    assert program == "fer-augment"
    ran = fer_augment(*arguments)
    expected = output.replace("…", "...")
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.OutputChecker().check_output(expected, ran.out + ran.err, options), (first, ran)


class TestTutorial:
    """`docs/write_a_strategy.md`."""

    blocks = blocks_of(DOCS / "write_a_strategy.md")

    def test_first_block_is_a_working_plugin(self) -> None:
        module = types.ModuleType("mirror")
        run(self.blocks[0], vars(module))
        (offer,) = collect([("mirror", "docs 1.0", module)]).of_kind("strategy")
        data = tiny_dataset()
        ants, strategy = data.rows_of(["ant"]), offer.value(classes=["ant"])
        pipeline = Pipeline(steps_of([strategy]), Context(0, data.class_names))
        grown = pipeline.fold("rewrite_training_set", data)
        assert offer.name == "mirror_classes"
        assert np.array_equal(grown.images[len(data) :], data.images[ants][:, :, ::-1])
        assert grown.origin[len(data) :].tolist() == data.origin[ants].tolist()
        assert grown.step[len(data) :].tolist() == [1] * len(ants)


class TestEffects:
    """`docs/effects.md`: a paragraph and a complete example of every effect."""

    page = DOCS / "effects.md"
    by_section: ClassVar[dict[str, Block]] = {block.section: block for block in blocks_of(page)}

    def test_every_effect_has_a_section_in_code_order(self) -> None:
        text = self.page.read_text(encoding="utf-8")
        names = [effect.name for effect in Effect]
        assert re.findall(r"(?m)^## (\w+)$", text) == names == [*self.by_section]
        for section in text.split("\n## ")[1:]:
            assert len(section.partition("```")[0].split()) > 25, section.partition("\n")[0]

    @pytest.mark.parametrize("effect", Effect, ids=lambda effect: str(effect.name))
    def test_example_declares_the_effect_and_has_it(self, effect: Effect) -> None:
        namespace: dict[str, Any] = {"__name__": "example"}
        run(self.by_section[str(effect.name)], namespace)
        (strategy_class,) = (value for value in namespace.values() if getattr(value, "__module__", "") == "example")
        assert effect in strategy_class().effects
        assert_conforms(strategy_class)


def command_named(arguments: Sequence[str]) -> tuple[str, click.Command, list[str]]:
    """Resolve a command line to the command's name, the command, and the remaining arguments."""
    command: click.Command = group
    name, left = "fer-augment", list(arguments)
    while isinstance(command, click.Group) and left and not left[0].startswith("-"):
        subcommand_name, subcommand, left = command.resolve_command(click.Context(command), left)
        assert subcommand_name is not None and subcommand is not None
        name, command = subcommand_name, subcommand
    return name, command, left


class TestPages:
    """Every page, including README, CONTRIBUTING and CHANGELOG."""

    pages = pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))

    @pages
    def test_commands_are_accepted_by_the_command_line(self, page: Path) -> None:
        for arguments in commands_of(page):
            name, command, left = command_named(arguments)
            with contextlib.suppress(click.exceptions.Exit):  # --help and --version
                command.make_context(name, left)

    @pages
    def test_recipes_in_commands_are_shipped_and_overrides_valid(self, page: Path) -> None:
        for arguments in commands_of(page):
            name, command, left = command_named(arguments)
            if name in ("compare", "run", "rewrite"):
                parameters = command.make_context(name, left).params
                recipes = parameters["recipes"] if name == "compare" else (parameters["recipe"],)
                shipped = [recipe for recipe in recipes if not recipe.endswith(".yaml")]
                for arm in grid_arms(load_recipes(shipped, parameters["overrides"]), parameters.get("grid", ())):
                    bind(arm.recipe, installed_plugins())

    @pages
    def test_inline_commands_and_their_options_exist(self, page: Path) -> None:
        for arguments in mentioned_commands_of(page):
            name, command, left = command_named([word for word in arguments if word not in ("…", "COMMAND")])
            assert command is group or not isinstance(command, click.Group) or not left, (name, left)
            options = {option for parameter in command.get_params(click.Context(command)) for option in parameter.opts}
            assert {word for word in left if word.startswith("-")} <= options, arguments

    @pages
    def test_links_resolve_to_files_and_headings(self, page: Path) -> None:
        for file, anchor in links_of(page):
            assert file.exists(), file
            assert not anchor or anchor in headings_of(file), f"{file.name}#{anchor}"

    def test_indexes_list_every_page(self) -> None:
        for index in (DOCS / "README.md", DOCS / "decisions" / "README.md", DOCS / "hooks" / "README.md"):
            listed = {file for file, _ in links_of(index)}
            assert {*index.parent.glob("*.md")} - {index} <= listed

    def test_decisions_are_numbered_consecutively(self) -> None:
        files = sorted((DOCS / "decisions").glob("0*.md"))
        assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1))
        for number, file in enumerate(files, 1):
            assert file.read_text(encoding="utf-8").startswith(f"# {number}. "), file.name


def test_stated_limits_are_those_of_the_code() -> None:
    limits = (DOCS / "data.md").read_text(encoding="utf-8").partition("## Limits")[2].partition("\n## ")[0]
    stated = {row.split("|")[1].strip(): row.split("|")[2].strip() for row in limits.splitlines() if row[:2] == "| "}
    del stated["input"]
    assert stated == {
        "pixels of an image": f"{MAX_PIXELS:,}",
        "bytes of an image file, on disk or in an archive": f"{LARGEST_FILE >> 20} MiB",
        "bytes of a compressed tar archive": f"{COMPRESSED_LIMIT >> 30} GiB",
        "characters of a class name": f"{LONGEST_CLASS_NAME}",
        "seeds of an arm; the largest seed": f"{MOST_SEEDS:,}; 2^63 - 1",
        "folds; repeats": f"{MOST_FOLDS:,}; {MOST_FOLDS:,}",
        "runs at a time": f"{MOST_JOBS:,}",
        "arms of a grid": f"{MAX_ARMS}",
    }
    assert LARGEST_SEED == 2**63 - 1


class TestRecipeSettings:
    """The settings table in `docs/recipes.md`."""

    kinds = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "array": "list",
        "null": "null",
        "object": "mapping",
    }
    limits = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}

    def test_table_matches_the_json_schema(self) -> None:
        lines = (DOCS / "recipes.md").read_text(encoding="utf-8").splitlines()
        schema = recipe_json_schema(installed_plugins())
        expected = [self.line(key, setting) for key, setting in self.settings(schema, schema["properties"])]
        assert [line for line in lines if line.startswith("| `")] == expected

    def settings(
        self, schema: dict[str, Any], properties: dict[str, Any], above: str = ""
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, setting in properties.items():
            if "$ref" in setting:
                inner = schema["$defs"][setting["$ref"].rpartition("/")[2]]
                yield from self.settings(schema, inner["properties"], f"{above}{name}.")
            else:
                yield above + name, setting

    def line(self, key: str, setting: dict[str, Any]) -> str:
        default = f"`{json.dumps(setting['default'])}`" if "default" in setting else ""
        cells = f"`{key}`", self.values(key, setting), default, setting["description"]
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    def values(self, key: str, setting: dict[str, Any]) -> str:
        if "enum" in setting and key != "training.loss":  # which lists what is installed
            return f"`{' | '.join(setting['enum'])}`"
        options = [option for option in setting.get("anyOf", [setting]) if key != "model" or "type" in option]
        limits = [
            f"{text} {option[name]}" for option in options for name, text in self.limits.items() if name in option
        ]
        kinds = [" | ".join(option.get("enum", [self.kinds[option["type"]]])) for option in options]
        return ", ".join([f"`{' | '.join(kinds)}`", *limits])


def modules_in(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.py") if file.stem != "__init__")


class TestArchitecture:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")

    def test_every_module_is_listed_in_its_package(self) -> None:
        package = ROOT / "fer_augment"
        rows = re.findall(r"(?m)^\| `(\w+)` \| [^|]+ \| (.+) \|$", self.page)
        listed = {name: sorted(re.findall(r"`(\w+)`", modules)) for name, modules in rows}
        folders = {folder.parent for folder in package.glob("*/__init__.py")}
        assert listed == {folder.name: modules_in(folder) for folder in folders}

    def test_every_module_beside_the_packages_is_listed(self) -> None:
        paragraph = self.page.partition("\nModules beside the packages: ")[2].partition("\n\n")[0]
        assert sorted(re.findall(r"`(\w+)`", paragraph)) == modules_in(ROOT / "fer_augment")

    def test_files_of_a_comparison_are_listed(self) -> None:
        names = [COMPARISON_FILE, REPORT_FILE, CONFUSED_FILE, CACHE_VARIABLE]
        assert not [name for name in names if name not in self.page]

    def test_schema_version_is_current(self) -> None:
        assert f"schema version {RECORD_SCHEMA}\n" in self.page


class TestGlossary:
    """`docs/glossary.md`."""

    entries = re.findall(
        r"(?ms)^\*\*(.+?)\*\*: (.+?)$(?=\n\n|\n?\Z)", (DOCS / "glossary.md").read_text(encoding="utf-8")
    )

    def test_terms_are_unique_and_alphabetical(self) -> None:
        terms = [term for term, _ in self.entries]
        assert len(terms) > 30
        assert terms == sorted(set(terms), key=str.casefold)

    def test_definitions_have_one_to_three_sentences(self) -> None:
        long = [
            term for term, definition in self.entries if len(re.findall(r"\.(?=\s|$)", definition)) not in (1, 2, 3)
        ]
        assert not long


class TestContributing:
    """`CONTRIBUTING.md` and the commands that it names."""

    def test_page_has_at_most_60_lines(self) -> None:
        assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 60

    def test_pre_commit_hooks_are_the_commands_of_make_lint(self) -> None:
        config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
        hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
        recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
        commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()[1:]]
        assert [hook["entry"] for hook in hooks] == commands
        assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in hooks)


@pytest.mark.parametrize(("page", "module"), [("commands.md", "commands"), ("shipped_recipes.md", "recipe_list")])
def test_generated_page_is_up_to_date(page: str, module: str) -> None:
    command = [sys.executable, "-m", f"docs.builder.{module}"]  # click keeps the help option of an earlier context
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=True)
    assert (DOCS / page).read_text(encoding="utf-8") == made.stdout, "out of date: run make docs"


def test_the_api_page_lists_every_public_name() -> None:
    listed = re.findall(r"(?m)^::: [\w.]+\.(\w+)$", (DOCS / "api.md").read_text(encoding="utf-8"))
    assert {*fa.__all__, *functional.__all__, *testing.__all__} <= {*listed}


class TestCatalog:
    page = (DOCS / "strategies.md").read_text(encoding="utf-8")

    def test_page_matches_the_installed_strategies(self) -> None:
        assert self.page == catalog_page(), "out of date: run python -m docs.builder.page > docs/strategies.md"

    def test_every_shipped_strategy_has_a_section_with_its_source(self) -> None:
        sections = self.page.split("\n## ")[1:]
        built_in = [
            offer
            for offer in installed_plugins().of_kind("strategy")
            if offer.module.startswith("fer_augment_plugins.")
        ]
        assert [section.partition("\n")[0] for section in sections] == [offer.name for offer in built_in]
        assert not [section for section in sections if "\n- source: " not in section]

    def test_hook_links_resolve(self) -> None:
        linked = set(re.findall(r"\]\(hooks/(\w+)\.md\)", self.page))
        assert linked and linked <= set(STAGE_HOOKS)
