"""Digests of what a plugin uses beyond the file that defines it: helper modules, and the files it is given."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from fer_augment.hooks.modules_beside import paths_of
from fer_augment.hooks.strategy_files import ExecutedFile, executed_file
from fer_augment.training.distributions import distributions_of_modules

_OURS = "fer_augment"


def helper_digests(module_name: str) -> dict[str, str]:
    """Return the SHA-256 of each module of the same author that a module imports, directly or indirectly, by name.

    These are modules of the same package, as in a distribution that is installed in place, and modules that no
    distribution provides, as beside a script. Versions of other distributions are part of the environment. The digests
    are of the code that this process runs, see `source_as_loaded`.
    """
    local = executed_file(module_name)
    waiting = list(_imports_of(module_name, local))
    helpers: dict[str, str] = {}
    checked = set[str]()
    while waiting:
        name = waiting.pop()
        helper = _helper(name, module_name, local) if name not in helpers and name != module_name else None
        if helper is not None:
            source, is_package = helper
            helpers[name] = hashlib.sha256(source).hexdigest()
            waiting += _imported(source, name, is_package=is_package)
        if "." in name and name not in checked:
            waiting.append(name.rpartition(".")[0])  # its package is imported first
        checked.add(name)
    return dict(sorted(helpers.items()))


def path_digests(plugin: BaseModel) -> dict[str, str]:
    """Return the SHA-256 of what parameters of type `FilePath` and `DirectoryPath` name, by path.

    Raises:
        OSError: if one cannot be read.
    """
    return {str(path): content_digest(path) for path in named_paths(plugin)}


def named_paths(plugin: BaseModel) -> list[Path]:
    """Return what parameters of type `FilePath` and `DirectoryPath` name."""
    paths: list[Path] = []
    for name, field in type(plugin).model_fields.items():
        if any(_names_paths(part) for part in (field.annotation, *field.metadata)):
            paths += _paths_in(getattr(plugin, name))
    return paths


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and the content of all files below a directory.

    Raises:
        OSError: if it cannot be read.
    """
    if not path.is_dir():
        status = path.stat()
        return _file_digest(path, status.st_size, status.st_mtime_ns)
    digest = hashlib.sha256()
    below = {file.relative_to(path): file for file in path.rglob("*") if file.is_file()}
    for name in sorted(below, key=lambda name: name.parts):  # paths of Windows have an order of their own
        digest.update(f"{name.as_posix()}\0{content_digest(below[name])}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


@functools.lru_cache(maxsize=4096)
def _file_digest(file: Path, size: int, modified: int) -> str:
    """Return the digest of a file; read again when its size or time of modification changes."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _names_paths(annotation: Any) -> bool:
    """Whether `FilePath` or `DirectoryPath` occurs in an annotation."""
    if getattr(annotation, "path_type", None) in ("file", "dir"):  # metadata of pydantic
        return True
    return any(_names_paths(part) for part in (*typing.get_args(annotation), *getattr(annotation, "__metadata__", ())))


def _paths_in(value: Any) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, Mapping):
        yield from _paths_in(list(value.values()))
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for part in value:
            yield from _paths_in(part)


def _imports_of(module_name: str, local: ExecutedFile | None) -> tuple[str, ...]:
    if local:
        return _imported(local.source, module_name, is_package=False)
    file = _source_file(module_name) if module_name in sys.modules else None
    if file is None:
        return ()
    return _imported(source_as_loaded(module_name, file), module_name, is_package=file.name == "__init__.py")


def _helper(name: str, module_name: str, local: ExecutedFile | None) -> tuple[bytes, bool] | None:
    """Return the source of a module of the same author, and whether it is a package; None for other modules."""
    beside = local.beside if local else {}
    for path in paths_of(name):
        if path in beside:
            return beside[path], path.endswith("__init__.py")
    file = _source_file(name)
    if file is None or not _is_local(name, file, module_name):
        return None
    return source_as_loaded(name, file), file.name == "__init__.py"


@dataclass(frozen=True)
class _Loaded:
    """The source of a module as it was when it was read.

    Attributes:
        source: the content of its file.
        module: the module; None if it was not imported yet.
        spec: the spec of the module, of which `importlib.reload` gives it another.
    """

    source: bytes
    module: ModuleType | None
    spec: object


_loaded: dict[tuple[str, Path], _Loaded] = {}
"""What was read of modules, by their names and files."""


def source_as_loaded(name: str, file: Path) -> bytes:
    """Return the source of a module as this process runs it.

    It is read when it is first asked for, and again only if the module is imported again or reloaded: until then, an
    edit of the file has no effect here. A module that is not imported yet is read every time, and what was read last is
    taken for what is imported then.

    Raises:
        OSError: if the file cannot be read.
    """
    known = _known(name, file)
    if known is None:
        module = sys.modules.get(name)
        known = _loaded[name, file] = _Loaded(file.read_bytes(), module, getattr(module, "__spec__", None))
    return known.source


def _known(name: str, file: Path) -> _Loaded | None:
    """Return what was read of a module if it is still what this process runs."""
    module, known = sys.modules.get(name), _loaded.get((name, file))
    if module is None or known is None:
        return None
    spec = getattr(module, "__spec__", None)
    if known.module is None:
        known = _loaded[name, file] = replace(known, module=module, spec=spec)
    return known if known.module is module and known.spec is spec else None


@functools.lru_cache(maxsize=1024)  # asked for every key, of the same modules
def _imported(source: bytes, name: str, *, is_package: bool) -> tuple[str, ...]:
    """Return the full names of what a module imports; some may be names in a module instead of modules."""
    return tuple(_imports_in(source, name, is_package=is_package))


def _imports_in(source: bytes, name: str, *, is_package: bool) -> Iterator[str]:
    package = name if is_package else name.rpartition(".")[0]
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _is_local(name: str, file: Path, module_name: str) -> bool:
    top, own = name.partition(".")[0], module_name.partition(".")[0]
    if top == _OURS or top in sys.stdlib_module_names:
        return False
    if top == own:
        return True
    # Listing the modules of all distributions takes long, and most files tell that they are from one.
    return not {"site-packages", "dist-packages"}.intersection(file.parts) and top not in distributions_of_modules()


def _source_file(name: str) -> Path | None:
    """Return the file of a module without importing it; None if there is no such module, or it has no source.

    A module of a package may not be imported yet, as where a hook imports it.
    """
    if not name or name.partition(".")[0] in sys.stdlib_module_names:
        return None
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if module is None:
        package, _, own = name.rpartition(".")
        if package:
            places = (
                base for folder in _folders_of(package) for base in (folder / f"{own}.py", folder / own / "__init__.py")
            )
            return next((place for place in places if place.is_file()), None)
        spec = _spec_of(name)
        file = spec.origin if spec else None
    path = Path(file) if file else None
    return path if path and path.suffix == ".py" and (_known(name, path) or path.is_file()) else None


def _folders_of(package: str) -> list[Path]:
    """Return the folders of a package without importing it; none if there is no such package."""
    module = sys.modules.get(package)
    if module is not None:
        return [Path(folder) for folder in getattr(module, "__path__", ())]
    above, _, own = package.rpartition(".")
    if above:
        return [folder / own for folder in _folders_of(above) if (folder / own).is_dir()]
    spec = _spec_of(package)
    return [Path(folder) for folder in spec.submodule_search_locations or ()] if spec else []


def _spec_of(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
