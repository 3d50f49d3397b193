"""The conformity kit on a plugin, and its checklist in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fer_augment.reports.console import results

if TYPE_CHECKING:
    from fer_augment.hooks.plugin_manager import Offer
    from fer_augment.testing import CheckResult


def checks_of(plugin: Offer[Any], source: str | None) -> list[CheckResult]:
    """Run the checks of the kind of a plugin; readers read the source, or else their example."""
    from fer_augment import testing

    if plugin.kind == "dataset reader":
        return testing.check_reader(plugin.value, source)
    checks: dict[str, Callable[[Any], list[CheckResult]]] = {
        "strategy": testing.check_strategy,
        "model": testing.check_model,
        "loss": testing.check_loss,
        "tracker": testing.check_tracker,
    }
    return checks[plugin.kind](plugin.value)


def print_checklist(plugin: Offer[Any], checks: Sequence[CheckResult]) -> None:
    """Print the result of each check, with what a failed one requires and what to do."""
    requirements = _requirements(plugin.kind)
    console = results()
    console.print(Text(f"{plugin.name} ({plugin.provider})", style="bold"))
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


def _requirements(kind: str) -> dict[str, str]:
    """Return what each check of a kind of plugins requires, by its name."""
    from fer_augment.testing.checks import CHECKS_OF_KIND

    first, others = CHECKS_OF_KIND[kind]
    return {check.__name__: " ".join((check.__doc__ or "").split()) for check in (*first, *others)}


def _verdict(check: CheckResult) -> Text:
    if not check.passed:
        return Text("FAIL", style="bold red")
    return Text("skip", style="yellow") if check.advice else Text("ok", style="green")
