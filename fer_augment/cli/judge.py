"""`fer-augment judge`: verdicts for predictions of any trainer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fer_augment.cli._comparison_output import against_option, chosen_format, fail_option, finish, format_option
from fer_augment.cli._options import json_option, quiet_option

if TYPE_CHECKING:
    from fer_augment.results.comparison import Against


@click.command(no_args_is_help=True)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--baseline", metavar="ARM", help="The arm that the others are compared with.")
@against_option
@click.option(
    "--pattern", metavar="NAME", help="Where names of files contain arm and seed, such as '{arm}_seed{seed}.csv'."
)
@click.option(
    "--column", "columns", multiple=True, metavar="ROLE=NAME",
    help="A column that is not named after its role, such as true=label; may be repeated.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="Directory for comparison.json and report.html.")
@format_option
@json_option
@fail_option
@quiet_option
def judge(
    files: tuple[str, ...],
    baseline: str | None,
    against: Against,
    pattern: str | None,
    columns: tuple[str, ...],
    out: Path | None,
    chosen: str | None,
    as_json: bool,
    fail_on: str | None,
    quiet: bool,
) -> None:
    r"""Compare predictions of any trainer with those of a baseline.

    A FILE (csv, tsv, jsonl, parquet, npz) has one row per test image: `id`, `true` label, `predicted` label or one
    score per class (prob_CLASS or logit_CLASS), and `arm` and `seed` unless its name contains them. Several runs may be
    in one file. Images are matched by id; nothing is trained, and torch is not needed. Formats and examples for other
    trainers: docs/judge.md.

    \b
    fer-augment judge all.csv --baseline plain --column true=label
    fer-augment judge *.npz --pattern '{arm}_{seed}.npz' --baseline plain
    fer-augment judge all.csv --baseline plain --out judged --fail-on worse
    fer-augment judge all.csv --against all
    """
    from fer_augment.judging import judge as judged

    if baseline is None and against == "baseline":
        raise click.UsageError("Missing option '--baseline'; or use --against all")
    shown = chosen_format(chosen, as_json=as_json)
    named = list(map(_role_and_name, columns))
    repeated = [role for role, count in Counter(role for role, _ in named).items() if count > 1]
    if repeated:
        raise click.UsageError(f"--column {repeated[0]}=… is given twice; name one column")
    comparison = judged(
        list(files),
        baseline=baseline,
        against=against,
        out=out,
        pattern=pattern,
        columns=dict(named),
        progress=not quiet,
    )
    finish(comparison, shown, fail_on, quiet=quiet)


def _role_and_name(setting: str) -> tuple[str, str]:
    role, equals, name = setting.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--column {setting}: expected ROLE=NAME, such as true=label")
    return role, name
