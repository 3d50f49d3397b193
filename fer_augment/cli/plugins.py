"""`fer-augment plugins`: list and show installed plugins; create strategies; check strategies and networks."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fer_augment.reports.console import messages, print_plain, results

if TYPE_CHECKING:
    from fer_augment.hooks.plugin_manager import Offer
    from fer_augment.testing import CheckResult

_KINDS = {
    "strategy": "Strategies",
    "model": "Models",
    "loss": "Losses",
    "dataset reader": "Dataset readers",
    "tracker": "Trackers",
    "recipe": "Recipes",
}

_json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


@click.group()
def plugins() -> None:
    """List installed plugins; create strategies; check strategies and networks."""


@plugins.command("list")
@_json_option
def list_plugins(as_json: bool) -> None:
    r"""List the installed strategies, models, losses, dataset readers, trackers and recipes, by provider.

    \b
    fer-augment plugins list
    fer-augment plugins list --json
    """
    from fer_augment.hooks.plugin_manager import installed_plugins
    from fer_augment.recipe.strategy_description import summary_of

    catalog = installed_plugins()
    offers = [offer for kind in _KINDS for offer in catalog.of_kind(kind)]
    if as_json:
        _write_json({"plugins": [_listed(offer) for offer in offers], "problems": list(catalog.problems)})
        return
    console = results()
    name_width = max((len(offer.name) for offer in offers), default=0)
    offers.sort(key=lambda offer: (list(_KINDS).index(offer.kind), offer.provider))
    for (kind, provider), group in itertools.groupby(offers, key=lambda offer: (offer.kind, offer.provider)):
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(min_width=name_width, no_wrap=True)
        table.add_column()
        for offer in group:
            table.add_row(Text(offer.name), Text(summary_of(offer)))
        console.print(Text.assemble((_KINDS[kind], "bold"), f" from {provider}"))
        console.print(Padding(table, (0, 0, 0, 2)))
        console.print()
    console.print("`fer-augment plugins show NAME` shows details and parameters.", soft_wrap=True)


@plugins.command("show")
@click.argument("name")
@_json_option
def show_plugin(name: str, as_json: bool) -> None:
    r"""Show what a plugin does, its parameters, and how to use it in a recipe.

    \b
    fer-augment plugins show confusion_mirror
    """
    from fer_augment.cli._plugin_text import print_offer
    from fer_augment.errors import PluginError, did_you_mean
    from fer_augment.hooks.plugin_manager import installed_plugins
    from fer_augment.recipe.strategy_description import described, parameters_of

    catalog = installed_plugins()
    matching = [offer for offer in catalog.offers if offer.name == name]
    if not matching:
        hint = did_you_mean(name, {offer.name for offer in catalog.offers})
        broken = f" (not loaded: {' | '.join(catalog.problems)})" if catalog.problems else ""
        raise PluginError(f"no plugin named {name!r} is installed{hint}{broken}")
    for offer in matching:
        if not as_json:
            print_offer(results(), offer)
        elif offer.kind == "strategy":
            _write_json({"kind": offer.kind, **asdict(described(offer))})
        elif offer.kind == "model" and isinstance(offer.value, type):
            _write_json({**_listed(offer), "parameters": [asdict(one) for one in parameters_of(offer.value)]})
        else:
            _write_json(_listed(offer))


@plugins.command("new")
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to create; default: ./NAME.")
def new_plugin(name: str, out: Path | None) -> None:
    r"""Create a distribution with a working strategy, a recipe and tests.

    NAME is the name of the strategy in recipes, such as `mirror_classes`.

    \b
    fer-augment plugins new mirror_classes
    """
    from fer_augment.scaffold import strategy_name_of, write_distribution

    given, name = name, strategy_name_of(name)
    folder = Path(name) if out is None else out
    files = write_distribution(name, folder)
    console = results()
    if name != given:
        console.print(f"The strategy is named {name}, as a recipe writes it.", markup=False, soft_wrap=True)
    console.print(f"Wrote {folder}/", markup=False, soft_wrap=True)
    width = max(map(len, files))
    for file, purpose in files.items():
        console.print(f"  {file:{width}}  {purpose}", markup=False, soft_wrap=True)
    console.print("\nNext:")
    for command in (f"cd {folder}", "pip install -e '.[test]'", f"fer-augment plugins check {name}", "pytest"):
        console.print(f"  {command}", markup=False, soft_wrap=True)


@plugins.command("check")
@click.argument("plugin", metavar="NAME|PATH.py[:NAME]")
@_json_option
def check_plugin(plugin: str, as_json: bool) -> None:
    r"""Run the conformity kit on a strategy or a network, installed or in a Python file.

    Without a name, all strategies and networks of the file are checked. Exits with status 1 if a check fails.

    \b
    fer-augment plugins check confusion_mirror
    fer-augment plugins check vgg_mini
    fer-augment plugins check my_idea.py:MirrorClasses
    """
    checklists = []
    for checked in _checked_plugins(plugin):
        with messages().status(f"Checking {checked.name} …"):
            checklists.append((checked, checked.run()))
    for checked, checks in checklists:
        if as_json:
            results_of_checks = [asdict(check) for check in checks]
            _write_json({checked.kind: checked.name, "provider": checked.provider, "checks": results_of_checks})
        else:
            _print_checklist(checked, checks)
    if not all(check.passed for _, checks in checklists for check in checks):
        sys.exit(1)


@dataclass(frozen=True)
class _CheckedPlugin:
    """A plugin that is checked.

    Attributes:
        kind: `strategy` or `model`.
        name: its name in recipes.
        value: the strategy class, or the declaration or class of a network.
        provider: where it comes from.
    """

    kind: str
    name: str
    value: Any
    provider: str

    def run(self) -> list[CheckResult]:
        """Run the checks of its kind."""
        from fer_augment import testing

        return testing.check_strategy(self.value) if self.kind == "strategy" else testing.check_model(self.value)

    @property
    def requirements(self) -> dict[str, str]:
        """What each check of its kind requires."""
        from fer_augment.testing.checks import CHECKS, FIRST_CHECKS, FIRST_MODEL_CHECKS, MODEL_CHECKS

        checks = (*FIRST_CHECKS, *CHECKS) if self.kind == "strategy" else (*FIRST_MODEL_CHECKS, *MODEL_CHECKS)
        return {check.__name__: _in_one_paragraph(check.__doc__ or "") for check in checks}


def _checked_plugins(argument: str) -> list[_CheckedPlugin]:
    """Return the strategies and networks that the argument of `plugins check` refers to."""
    from fer_augment.errors import PluginError, did_you_mean
    from fer_augment.hooks.strategy_files import models_in_file, strategies_in_file
    from fer_augment.reading import loaded_plugins

    in_file = re.fullmatch(r"(?P<file>.+\.py)(?::(?P<name>\w+))?", argument)
    if not in_file:
        catalog = loaded_plugins()
        is_model = argument in {offer.name for offer in catalog.of_kind("model")}
        offer = catalog.model(argument) if is_model else catalog.strategy(argument)
        return [_CheckedPlugin(offer.kind, offer.name, offer.value, offer.provider)]
    file, name = Path(in_file["file"]), in_file["name"]
    provider = f"file {file.name}"
    found = {
        defined.__name__: _CheckedPlugin("strategy", defined.strategy_name(), defined, provider)
        for defined in strategies_in_file(file)
    }
    for variable, model in models_in_file(file).items():
        found[variable] = _CheckedPlugin(
            "model", model.model_name() if isinstance(model, type) else model.name, model, provider
        )
    if name and name not in found:
        raise PluginError(f"{file} has no strategy or network {name!r}{did_you_mean(name, found)}")
    chosen = [plugin for variable, plugin in found.items() if variable == (name or variable.lstrip("_"))]
    if not chosen:
        raise PluginError(f"{file} defines no subclass of Strategy and no network")
    return chosen


def _print_checklist(checked: _CheckedPlugin, checks: Sequence[CheckResult]) -> None:
    requirements = checked.requirements
    console = results()
    console.print(Text(f"{checked.name} ({checked.provider})", style="bold"))
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(no_wrap=True)
    lines.add_column()
    for check in checks:
        verdict = Text("ok", style="green") if check.passed else Text("FAIL", style="bold red")
        lines.add_row(verdict, Text(check.name.replace("_", " ")))
        if not check.passed:
            lines.add_row("", Text(requirements[check.name], style="dim"))
            lines.add_row("", Text(check.advice))
    console.print(Padding(lines, (0, 0, 0, 2)))
    failed = sum(not check.passed for check in checks)
    remaining = len(requirements) - len(checks)
    console.print(
        f"{len(checks) - failed} passed, {failed} failed"
        + (f"; {remaining} not run until this one passes" if remaining else "")
    )


def _in_one_paragraph(docstring: str) -> str:
    return " ".join(docstring.split())


def _listed(offer: Offer[Any]) -> dict[str, str]:
    from fer_augment.recipe.strategy_description import summary_of

    return {
        "kind": offer.kind,
        "name": offer.name,
        "summary": summary_of(offer),
        "provider": offer.provider,
        "module": offer.module,
    }


def _write_json(content: Any) -> None:
    print_plain(json.dumps(content, indent=2, ensure_ascii=False))
