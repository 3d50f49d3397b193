"""What this installation consists of, and what is wrong with it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fer_augment.cache import cache_folder, entries, size_limit
from fer_augment.errors import excerpt
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.processes import cores
from fer_augment.training.distributions import distributions_of_modules

DISTRIBUTION = "fer_augment"
LEAST_FREE_BYTES = 2 * 10**9
"""With less free space, a comparison may not be able to keep its trainings."""


@dataclass(frozen=True)
class Diagnosis:
    """The state of an installation.

    Attributes:
        facts: sections of names with values.
        problems: what is wrong, each in a line with what to do.
    """

    facts: dict[str, dict[str, str]]
    problems: tuple[str, ...]


def diagnose() -> Diagnosis:
    """Examine this installation; nothing is changed."""
    problems: list[str] = []
    facts = {
        "versions": {"python": platform.python_version(), "platform": platform.platform(), **_requirements(problems)},
        "extras": dict(_extras(problems)),
        "device": _device(problems),
        "cache": _cache(problems),
        "plugins": _plugins(problems),
    }
    return Diagnosis(facts, tuple(problems))


def _requirements(problems: list[str]) -> dict[str, str]:
    versions = {DISTRIBUTION: importlib.metadata.version(DISTRIBUTION)}
    for requirement in _required(extra=""):
        version = _version(requirement.name)
        versions[requirement.name] = "; ".join([version or "missing", *_others_with_modules_of(requirement.name)])
        if version is None:
            problems.append(f"{requirement.name} is missing: pip install '{requirement}'")
        elif not requirement.specifier.contains(version, prereleases=True):
            problems.append(
                f"{requirement.name} {version} does not satisfy {requirement.specifier}: pip install '{requirement}'"
            )
    return versions


def _others_with_modules_of(distribution: str) -> Iterator[str]:
    """Yield a note for each other distribution that installed the same module, such as a fork."""
    own = canonicalize_name(distribution)
    for providers in distributions_of_modules().values():
        names = {canonicalize_name(provider) for provider in providers}
        if own in names:
            yield from (f"{other} {_version(other)} has the same module" for other in sorted(names - {own}))


def _extras(problems: list[str]) -> Iterator[tuple[str, str]]:
    """Yield for each extra for users what of it is installed; outdated packages are problems."""
    for extra in importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or ():
        if extra in ("dev", "bench"):
            continue
        found = []
        needed = [one for one in _required(extra=extra) if one.marker is not None]
        for requirement in needed:
            version = _version(requirement.name)
            if version and not requirement.specifier.contains(version, prereleases=True):
                problems.append(
                    f"{requirement.name} {version} does not satisfy {requirement.specifier} (extra {extra})"
                )
            found += [f"{requirement.name} {version}"] if version else []
        is_complete = len(found) == len(needed)
        yield extra, ", ".join(found) if is_complete else f"not installed: pip install '{DISTRIBUTION}[{extra}]'"


def _required(extra: str) -> list[Requirement]:
    """Return the requirements without extras, or those that an extra adds."""
    lines = map(Requirement, importlib.metadata.requires(DISTRIBUTION) or ())
    return [
        one
        for one in lines
        if (one.marker is None or one.marker.evaluate({"extra": extra}))
        and (not extra or (one.marker is not None and not one.marker.evaluate({"extra": ""})))
    ]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device(problems: list[str]) -> dict[str, str]:
    facts = {"cores": str(cores()), "threads of a run": "training.threads, by default 1"}
    limit = os.environ.get("OMP_NUM_THREADS")
    if limit is not None:
        facts["OMP_NUM_THREADS"] = limit
    try:
        import torch

        from fer_augment.recipe.recipe import TrainingSettings
        from fer_augment.training.machine import device_of, precision_of
    except (ImportError, OSError, RuntimeError) as error:
        problems.append(f"torch cannot be imported ({' '.join(str(error).split())}); install it again")
        return facts
    settings = TrainingSettings()
    device = device_of(settings)
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {"device": f"{device} ({name})", "precision": precision_of(settings), **facts}


def _cache(problems: list[str]) -> dict[str, str]:
    folder = cache_folder()
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        held = entries(folder)
    except OSError as error:
        problems.append(f"{excerpt(str(folder))}: {error.strerror}; set FER_AUGMENT_CACHE to a folder of yours")
        return {"folder": excerpt(str(folder))}
    free = shutil.disk_usage(existing).free
    facts = {
        "folder": str(folder),
        "size": f"{sum(entry.size for entry in held) / 1e9:.2f} GB in {len(held)} entries",
        "free space": f"{free / 1e9:.1f} GB",
    }
    if free < LEAST_FREE_BYTES:
        problems.append(f"{folder}: only {free / 1e9:.1f} GB are free; delete files, or fer-augment cache prune")
    if not _is_writable(existing):
        problems.append(f"{existing}: cannot be written to; set FER_AUGMENT_CACHE to a folder of yours")
    try:
        facts["limit of pixels and features"] = f"{size_limit() / 1e9:.0f} GB"
    except ValueError:
        problems.append("FER_AUGMENT_CACHE_LIMIT is not a number of GB")
    return facts


def _is_writable(folder: Path) -> bool:
    try:
        with TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _plugins(problems: list[str]) -> dict[str, str]:
    catalog = installed_plugins()
    problems += [*catalog.problems, *catalog.slow]
    kinds = Counter((offer.provider, offer.kind) for offer in catalog.offers)
    providers = dict.fromkeys(offer.provider for offer in catalog.offers)
    names = Counter((offer.kind, offer.name) for offer in catalog.offers)
    problems += [
        f"{count} plugins register the {kind} {name!r}; uninstall or rename one"
        for (kind, name), count in names.items()
        if count > 1
    ]
    return {
        provider: ", ".join(f"{kind}: {count}" for (by, kind), count in kinds.items() if by == provider)
        for provider in providers
    }
