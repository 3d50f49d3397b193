"""The plugins that `plugins check` checks, and their checklists in the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fer_augment.reports.console import results

if TYPE_CHECKING:
    from fer_augment.testing import CheckResult


@dataclass(frozen=True)
class CheckedPlugin:
    """A plugin that is checked.

    Attributes:
        kind: `strategy`, `model`, `loss`, `dataset reader` or `tracker`.
        name: its name in recipes.
        value: the declaration, or the class of a strategy or of a network with parameters.
        provider: where it comes from.
    """

    kind: str
    name: str
    value: Any
    provider: str

    def run(self, source: str | None) -> list[CheckResult]:
        """Run the checks of its kind; readers read the source, or else their example."""
        from fer_augment import testing

        if self.kind == "dataset reader":
            return testing.check_reader(self.value, source)
        checks: dict[str, Callable[[Any], list[CheckResult]]] = {
            "strategy": testing.check_strategy,
            "model": testing.check_model,
            "loss": testing.check_loss,
            "tracker": testing.check_tracker,
        }
        return checks[self.kind](self.value)

    @property
    def requirements(self) -> dict[str, str]:
        """What each check of its kind requires."""
        from fer_augment.testing.checks import CHECKS_OF_KIND

        first, others = CHECKS_OF_KIND[self.kind]
        return {check.__name__: " ".join((check.__doc__ or "").split()) for check in (*first, *others)}


def checked_plugins(argument: str) -> list[CheckedPlugin]:
    """Return the plugins that the argument of `plugins check` refers to.

    Raises:
        PluginError: if there are none.
    """
    from fer_augment.errors import PluginError, did_you_mean, excerpt
    from fer_augment.reading import loaded_plugins

    in_file = re.fullmatch(r"(?P<file>.+\.py)(?::(?P<name>\w+))?", argument)
    if not in_file:
        offers = loaded_plugins().offers
        chosen = [
            CheckedPlugin(one.kind, one.name, one.value, one.provider)
            for one in offers
            if one.name == argument and one.kind != "recipe"  # which `recipes check` checks
        ]
        if not chosen:
            hint = did_you_mean(argument, {offer.name for offer in offers})
            raise PluginError(f"there is no plugin {excerpt(argument, 60)!r}{hint}")
        return chosen
    file, name = Path(in_file["file"]), in_file["name"]
    found = dict(_in_file(file))
    if name and name not in found:
        raise PluginError(f"{file} has no plugin {name!r}{did_you_mean(name, found)}")
    chosen = [plugin for variable, plugin in found.items() if variable == (name or variable.lstrip("_"))]
    if not chosen:
        raise PluginError(f"{file} defines no strategy, network, loss, reader or tracker")
    return chosen


def _in_file(file: Path) -> Iterator[tuple[str, CheckedPlugin]]:
    """Yield what a file defines, with the name of its class or variable."""
    from fer_augment.hooks.local_declarations import DECLARED, declarations_in_file
    from fer_augment.hooks.strategy_files import models_in_file, strategies_in_file

    provider = f"file {file.name}"
    for strategy in strategies_in_file(file):
        yield strategy.__name__, CheckedPlugin("strategy", strategy.strategy_name(), strategy, provider)
    for variable, model in models_in_file(file).items():
        name = model.model_name() if isinstance(model, type) else model.name
        yield variable, CheckedPlugin("model", name, model, provider)
    for kind in DECLARED:
        for variable, declared in declarations_in_file(file, kind).items():
            yield variable, CheckedPlugin(kind, declared.name, declared, provider)


def print_checklist(checked: CheckedPlugin, checks: Sequence[CheckResult]) -> None:
    """Print the result of each check, with what a failed one requires and what to do."""
    requirements = checked.requirements
    console = results()
    console.print(Text(f"{checked.name} ({checked.provider})", style="bold"))
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(no_wrap=True)
    lines.add_column()
    for check in checks:
        lines.add_row(_verdict(check), Text(check.name.replace("_", " ")))
        if not check.passed:
            lines.add_row("", Text(requirements[check.name], style="dim"))
        if check.advice:
            lines.add_row("", Text(check.advice))
    console.print(Padding(lines, (0, 0, 0, 2)))
    failed = sum(not check.passed for check in checks)
    skipped = sum(check.passed and bool(check.advice) for check in checks)
    remaining = len(requirements) - len(checks)
    console.print(
        f"{len(checks) - failed - skipped} passed, {failed} failed"
        + (f", {skipped} skipped" if skipped else "")
        + (f"; {remaining} not run until {'this' if failed == 1 else 'the first'} one passes" if remaining else "")
    )


def _verdict(check: CheckResult) -> Text:
    if not check.passed:
        return Text("FAIL", style="bold red")
    return Text("skip", style="yellow") if check.advice else Text("ok", style="green")
