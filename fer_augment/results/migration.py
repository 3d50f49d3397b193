"""Comparisons of earlier schema versions in the form of the present one.

Schema 1 is what was written before November 29, 2026. Compared with schema 2:

- `optimizer_steps` of an arm was named `optimiser_steps`, but for the last files;
- two verdicts had other words;
- cross-validations, grids, pairs of arms, ensembles, `seeds_for_precision`, intervals of the ECE and near duplicates
  were not known. These have defaults, with which reports leave them out.
"""

from __future__ import annotations

from typing import Final

EARLIEST: Final = 1
_RENAMED_KEYS = {"optimiser_steps": "optimizer_steps"}
_RENAMED_VERDICTS = {"one run cannot tell": "not tested (one run)", "cannot be tested": "not testable"}


def migrated(content: object, schema: int) -> object:
    """Return the content of `comparison.json` in the present schema.

    Args:
        content: the parsed file.
        schema: the present schema version.

    Returns:
        The content with keys and verdicts of the present schema if its version is an earlier one that is known, or the
        present one, whose first files had the verdicts of schema 1; else the content itself.
    """
    if not isinstance(content, dict):
        return content
    version = content.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or not EARLIEST <= version <= schema:
        return content
    arms, tests = content.get("arms"), content.get("versus")
    return {
        **content,
        "schema_version": schema,
        "arms": [_with_keys(arm) for arm in arms] if isinstance(arms, list) else arms,
        "versus": _with_verdicts(tests),
    }


def _with_keys(arm: object) -> object:
    if not isinstance(arm, dict):
        return arm
    return {_RENAMED_KEYS.get(key, key): value for key, value in arm.items()}


def _with_verdicts(value: object) -> object:
    """Rename verdicts in tests of any depth; a class may be named `verdict`, but its value is no text."""
    if isinstance(value, dict):
        return {
            key: _RENAMED_VERDICTS.get(one, one) if key == "verdict" and isinstance(one, str) else _with_verdicts(one)
            for key, one in value.items()
        }
    return [_with_verdicts(one) for one in value] if isinstance(value, list) else value
