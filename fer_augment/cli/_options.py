"""Options that several commands share."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import click

data_option = click.option(
    "--data", "source", required=True, metavar="SRC",
    help="A folder, zip or tar of images, a table, npz, npy or idx files, fer2013.csv, or demo.",
)  # fmt: skip
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="Override a setting of all recipes given, such as training.epochs=5; may be repeated.",
)  # fmt: skip
track_option = click.option(
    "--track", multiple=True, metavar="TRACKER",
    help="Follow each run with a tracker, such as csv, tensorboard or mlflow; may be repeated.",
)  # fmt: skip
quiet_option = click.option(
    "--quiet", "-q", is_flag=True, help="Show no progress and no warnings; results are printed."
)  # fmt: skip
jobs_option = click.option(
    "--jobs", type=click.IntRange(min=1),
    help="Runs at a time.  [default: as many as cores and memory allow, one on an accelerator; on Ray, as many as the "
    "cluster has room for]",
)  # fmt: skip
executor_option = click.option(
    "--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True,
    help="Do runs in processes here, or on the Ray cluster at RAY_ADDRESS, else on a local Ray cluster.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def with_reader(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option --reader to a command with the argument `source`, which then also names the reader."""

    @click.option(
        "--reader", metavar="NAME|FILE.py:NAME",
        help="The reader of the data, see `plugins list`, or one in a file.  [default: the one that recognizes them]",
    )  # fmt: skip
    @functools.wraps(command)
    def with_source(source: str | None, reader: str | None, **options: Any) -> None:
        from fer_augment.reading import Source

        if reader and not source:
            raise click.UsageError("--reader names the reader of --data, which is missing")
        command(source=Source(source, reader) if source and reader else source, **options)

    return with_source


class Seeds(click.ParamType[tuple[int, ...]]):
    """`5` for the seeds 0 to 4, or a list such as `0,3,7`."""

    name = "seeds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse the text; a trailing comma makes a single number a list."""
        if isinstance(value, tuple):
            return value
        text = str(value).replace(" ", "")
        if re.fullmatch(r"\d{1,6}", text) and int(text) > 0:
            return tuple(range(int(text)))
        listed = re.fullmatch(r"\d{1,18}(,\d{1,18})*,?", text) if "," in text else None
        seeds = tuple(int(seed) for seed in text.split(",") if seed) if listed else ()
        if not seeds or len(set(seeds)) != len(seeds):
            hint = "give the number of seeds, such as 5, or a list, such as 0,3,7; `7,` is a list of one"
            self.fail(f"{value!r}: {hint}", param, ctx)
        return seeds
