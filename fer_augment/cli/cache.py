"""`fer-augment cache`: what the cache holds, and deleting parts of it."""

from __future__ import annotations

import datetime
import json
import re
from typing import Any

import click
from rich.table import Table

from fer_augment.cache import (
    AUDITS,
    FEATURES,
    LEDGERS,
    PIXELS,
    STRATEGIES,
    TRAININGS,
    Entry,
    cache_folder,
    delete,
    entries,
    prune,
)
from fer_augment.errors import FerAugmentError
from fer_augment.reports.console import messages, print_plain, results

_WORDS = {
    TRAININGS: "trainings",
    PIXELS: "decoded pixels",
    FEATURES: "features",
    AUDITS: "audits",
    STRATEGIES: "work of strategies",
}
_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


class Size(click.ParamType[int]):
    """A number of bytes, such as `20GB` or `500MB`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the text."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([MGT]B)", str(value).strip(), re.IGNORECASE)
        if not match:
            self.fail(f"{value!r}: give a size such as 20GB or 500MB", param, ctx)
        return int(float(match[1]) * _UNITS[match[2].upper()])


@click.group()
def cache() -> None:
    """Show or prune the cache of trainings, pixels, features and audits.

    The cache is the folder $FER_AUGMENT_CACHE, by default ~/.cache/fer_augment. Finished comparisons do not need it;
    without it, new ones repeat trainings. Decoded pixels and features are limited to $FER_AUGMENT_CACHE_LIMIT GB
    together (50 by default).
    """


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(as_json: bool) -> None:
    r"""Show number, size and age of what the cache holds.

    \b
    fer-augment cache show
    """
    folder = cache_folder()
    held = entries(folder)
    kinds = {kind: [entry for entry in held if entry.kind == kind] for kind in _WORDS}
    ledgers = len(list((folder / LEDGERS).glob("*.txt")))
    if as_json:
        content = {
            kind: {"entries": len(of_kind), "bytes": sum(entry.size for entry in of_kind)}
            for kind, of_kind in kinds.items()
        }
        print_plain(json.dumps({"folder": str(folder), **content, "ledgers": ledgers}, indent=1))
        return
    console = results()
    console.print(str(folder), markup=False, soft_wrap=True)
    table = Table("", "entries", "size", "least recently used", box=None, header_style="bold", padding=(0, 2, 0, 0))
    for kind, of_kind in kinds.items():
        oldest = datetime.date.fromtimestamp(of_kind[0].used).isoformat() if of_kind else "-"
        table.add_row(_WORDS[kind], f"{len(of_kind):,}", in_words(sum(entry.size for entry in of_kind)), oldest)
    console.print(table)
    console.print(f"{ledgers} test splits have a ledger of the recipes that were scored on them; ledgers are kept.")


@cache.command("prune")
@click.option("--max-size", type=Size(), help="Delete the least recently used entries until the rest fits, as in 20GB.")
@click.option("--unused-days", type=click.IntRange(min=0), help="Delete entries that were not used for so many days.")
@click.option("--dry-run", is_flag=True, help="Only print what would be deleted.")
def prune_cache(max_size: int | None, unused_days: float | None, dry_run: bool) -> None:
    r"""Delete what was not used for the longest time.

    What a running comparison works on is kept, and so are ledgers, and trainings that were used within the last hour.

    \b
    fer-augment cache prune --max-size 20GB
    fer-augment cache prune --unused-days 90 --dry-run
    """
    if max_size is None and unused_days is None:
        raise FerAugmentError("say what to keep: --max-size, such as 20GB, or --unused-days, such as 90")
    chosen = prune(entries(cache_folder()), max_bytes=max_size, unused_days=unused_days)
    if not dry_run:
        _delete(chosen)
    verb = "Would delete" if dry_run else "Deleted"
    print_plain(f"{verb} {len(chosen):,} entries, {in_words(sum(entry.size for entry in chosen))}.")


def _delete(chosen: list[Entry]) -> None:
    for entry in chosen:
        try:
            delete(entry)
        except OSError as error:
            raise FerAugmentError(f"{entry.path}: cannot be deleted ({error.strerror})") from error
        messages().print(f"deleted {entry.path}", markup=False, soft_wrap=True, style="dim")


def in_words(size: int) -> str:
    """Return a number of bytes as text, such as `1.5 GB`."""
    unit = next((unit for unit in reversed(_UNITS) if size >= _UNITS[unit]), "MB")
    return f"{size / _UNITS[unit]:,.1f} {unit}"
