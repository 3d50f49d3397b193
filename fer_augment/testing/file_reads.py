"""The files that a strategy reads, recorded by an audit hook of Python.

Files that a library opens in C, such as OpenCV, and in other processes are not seen.
"""

from __future__ import annotations

import functools
import importlib.machinery
import os
import site
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fer_augment
from fer_augment.cache import cache_folder
from fer_augment.errors import RunError
from fer_augment.hooks.strategy import Strategy
from fer_augment.training.code_digests import named_paths

_SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/run")
_OF_LIBRARIES = ("SystemRoot", "XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR")
"""Variables that name folders of the system or of libraries."""
_CODE = (*importlib.machinery.all_suffixes(), ".pth")
_recorded: list[set[str]] = []
"""The sets to which paths are added; the audit hook, which cannot be removed, does nothing while there is none."""


@contextmanager
def recorded_reads(reads: set[Path]) -> Iterator[None]:
    """Add the existing files that this process opens for reading, but for those that it writes, to a set."""
    _install_the_hook()
    opened: set[str] = set()
    start = time.time_ns()
    _recorded.append(opened)
    try:
        yield
    finally:
        _recorded[:] = [others for others in _recorded if others is not opened]
        for path in opened:
            with suppress(OSError, ValueError):  # it was removed, or is no path
                file = Path(path).resolve()
                status = file.stat()
                if file.is_file() and max(status.st_mtime_ns, status.st_ctime_ns) < start:
                    reads.add(file)


@functools.cache
def _install_the_hook() -> None:
    sys.addaudithook(_record)


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    if _recorded and event == "open":
        path, _, flags = arguments
        if isinstance(path, str | bytes) and not flags & os.O_WRONLY:
            for opened in _recorded:
                opened.add(os.path.abspath(os.fsdecode(path)))


def undeclared_files(reads: Iterable[Path], strategy: Strategy) -> list[Path]:
    """Return which files a strategy has to declare, sorted: those that are no part of its training key.

    Code, files of installed distributions, of its own package, of the system, of the cache and of hidden folders in the
    user's home are left out.
    """
    module = sys.modules.get(type(strategy).__module__.partition(".")[0])  # None for code that was executed alone
    paths = sysconfig.get_paths().values()
    places = [sys.prefix, sys.base_prefix, *paths, *site.getsitepackages(), site.getusersitepackages(), *_SYSTEM]
    places += [*fer_augment.__path__, *getattr(module, "__path__", ())]
    with suppress(RunError):  # without a home directory there is no cache
        places.append(str(cache_folder()))
    places += [os.environ[name] for name in _OF_LIBRARIES if os.environ.get(name)]
    declared = [*strategy.files, *named_paths(strategy)]
    left_out = [folder.resolve() for folder in (*map(Path, places), *declared)]
    home = Path(os.path.expanduser("~")).resolve()

    def is_left_out(file: Path) -> bool:
        own = file.relative_to(home).parts[0] if file.is_relative_to(home) else ""
        return (
            own.startswith(".")
            or own in ("Library", "AppData")
            or any(file.is_relative_to(folder) for folder in left_out if folder != Path(folder.anchor))
            or any(part == "__pycache__" or part.endswith((".egg-info", ".dist-info")) for part in file.parts)
            or file.name.endswith(_CODE)
        )

    return sorted(file for file in reads if not is_left_out(file))
