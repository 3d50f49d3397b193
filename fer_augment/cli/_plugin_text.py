"""Print a plugin in the terminal."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fer_augment.hooks.plugin_manager import model_faults, strategy_faults
from fer_augment.recipe.binding import class_names_in
from fer_augment.recipe.strategy_description import (
    Parameter,
    StrategyDescription,
    described,
    example_of,
    paragraphs_of,
    parameters_of,
    summary_of,
)

if TYPE_CHECKING:
    from fer_augment.hooks.plugin_manager import Offer
    from fer_augment.hooks.strategy import Strategy

_USE = {
    "model": "model: {name}",
    "loss": "training: {{loss: {name}}}",
    "tracker": "trackers: [{name}]",
}
"""How a recipe refers to a plugin, by kind; strategies and readers are not included."""


def print_offer(console: Console, offer: Offer[Any]) -> None:
    """Print the description of a plugin and how to use it in a recipe, or why it cannot be used."""
    description = described(offer) if offer.kind == "strategy" else None
    is_configurable = offer.kind == "model" and isinstance(offer.value, type)
    console.print(Text(offer.name, style="bold"))
    console.print(Text(summary_of(offer)))
    details = paragraphs_of(offer.value)[1:] if is_configurable else description.details if description else ()
    for paragraph in details:
        console.print()
        console.print(Text(paragraph))
    console.print()
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True, style="dim")
    facts.add_column()
    facts.add_row("kind", offer.kind)
    facts.add_row("provider", Text(f"{offer.provider}, module {offer.module}" if offer.module else offer.provider))
    if description:
        _add_strategy_facts(facts, description)
    console.print(facts)
    parameters = parameters_of(offer.value) if is_configurable else description.parameters if description else ()
    if parameters:
        _print_parameters(console, parameters)
    faults = faults_of(offer)
    if faults:
        console.print()
        console.print(Text("Cannot be used", style="bold red"))
        for fault in faults:
            console.print(Padding(Text(fault), (0, 0, 0, 2)))
        return
    _print_use(console, offer, description)


def faults_of(offer: Offer[Any]) -> list[str]:
    """Return what is wrong with a strategy or a network of a file, one line per fault; installed ones have none."""
    if offer.kind == "strategy":
        return strategy_faults(offer.value)
    return model_faults(offer.value) if offer.kind == "model" else []


def _add_strategy_facts(facts: Table, description: StrategyDescription) -> None:
    effects = "unknown, see `plugins check`" if description.effects is None else ", ".join(description.effects)
    rows = {
        "helps when": description.when,
        "costs": description.cost,
        "try": description.values,
        "elsewhere": description.elsewhere,
        "measured": description.measured,
        "acts at": ", ".join(description.stages),
        "effects": effects.replace("_", " ") or "none",
        "recipes": ", ".join(description.recipes),
        "source": "\n".join(description.sources),
    }
    for fact, text in rows.items():
        if text:
            facts.add_row(fact, Text(text))


def _print_parameters(console: Console, parameters: tuple[Parameter, ...]) -> None:
    console.print()
    console.print(Text("Parameters", style="bold"))
    for parameter in parameters:
        allowed = ", ".join(filter(None, (parameter.type, parameter.limits)))
        default = "required" if parameter.required else f"default {parameter.default_in_words}"
        console.print(Padding(Text.assemble((parameter.name, "cyan"), f": {allowed}; {default}"), (0, 0, 0, 2)))
        if parameter.description:
            console.print(Padding(Text(parameter.description), (0, 0, 0, 6)))


def _print_use(console: Console, offer: Offer[Any], description: StrategyDescription | None) -> None:
    console.print()
    if offer.kind == "dataset reader":
        if offer.module:
            console.print("The reader is selected by the value of `--data`, not by its name.")
        else:
            console.print(f"`--reader {offer.name}` selects the reader.", markup=False, soft_wrap=True)
        return
    if offer.kind == "recipe":
        console.print(f"`fer-augment recipes show {offer.name}` prints it, `extends: {offer.name}` builds on it.")
        return
    lines = description.example_yaml if description else _USE[offer.kind].format(name=_written(offer))
    console.print(Text("In a recipe", style="bold"))
    if description and _names_classes(offer.value):
        lines = f"# replace ant, bee and cat by classes of your data\n{lines}"
    console.print(Text(textwrap.indent(lines.rstrip(), "  ")), soft_wrap=True)


def _written(offer: Offer[Any]) -> str:
    """Return the name of a plugin as a recipe writes it, with parameters if a network has required ones."""
    example = example_of(offer.value) if isinstance(offer.value, type) else {}
    given = ", ".join(f"{key}: {value}" for key, value in example.items())
    return f"{{{offer.name}: {{{given}}}}}" if given else offer.name


def _names_classes(strategy_class: type[Strategy]) -> bool:
    try:
        return any(class_names_in(strategy_class(**strategy_class.example)))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a validator of a plugin may raise anything
        return False
