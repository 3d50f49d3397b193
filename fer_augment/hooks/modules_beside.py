"""Modules beside a local file of strategies or networks, which the file imports by name."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from fer_augment.errors import PluginError

_importable: dict[str, tuple[Path, dict[str, bytes]]] = {}
"""For each name of a module or package beside a local file its folder, and its files as they were when imported."""


def modules_beside(source: bytes, folder: Path) -> dict[str, bytes]:
    """Return the files in a folder that hold what a file in it imports, directly or indirectly.

    An installed module of the same name comes first. All modules of a package are returned.

    Returns:
        The content of each, by its path relative to the folder, with `/`.

    Raises:
        OSError: if one cannot be read.
    """
    found: dict[str, bytes] = {}
    waiting = [source]
    while waiting:
        for name in _imported_names(waiting.pop()):
            for file in _files_of(name, folder):
                path = file.relative_to(folder).as_posix()
                if path not in found:
                    found[path] = file.read_bytes()
                    waiting.append(found[path])
    return dict(sorted(found.items()))


def make_importable(folder: Path, files: Mapping[str, bytes]) -> None:
    """Let this process import modules beside a file; if one of them was edited, all are imported again.

    Args:
        folder: the folder.
        files: the files of the modules, as returned by `modules_beside`.

    Raises:
        PluginError: if a module of the same name and other content was imported from another folder.
    """
    folder, names = folder.resolve(), modules_of(files)
    changed = {name: known for name, known in _importable.items() if name in names and known[1] != names[name]}
    for name, (other, _) in changed.items():
        if other != folder:
            raise PluginError(
                f"{folder / name} and {other / name} are different modules, and one process can import only one of "
                "this name; rename one of them"
            )
    for module in list(sys.modules) if changed else []:
        if module.partition(".")[0] in names:
            del sys.modules[module]
    for name, own in names.items():
        if name not in _importable or changed:
            _importable[name] = (folder, own)
    if names and _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    importlib.invalidate_caches()


def modules_of(files: Mapping[str, bytes]) -> dict[str, dict[str, bytes]]:
    """Return the files of each module or package, as returned by `modules_beside`, by its name."""
    names: dict[str, dict[str, bytes]] = {}
    for path, content in files.items():
        names.setdefault(path.partition("/")[0].removesuffix(".py"), {})[path] = content
    return names


class _Finder:
    """Finds the modules that were made importable, with the content that they had then: files may be gone or edited."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        known = _importable.get(name.partition(".")[0])
        if known is None:
            return None
        folder, files = known
        for file in paths_of(name):
            if file in files:
                place = str(folder / file)
                return spec_from_file_location(name, place, loader=_SourceLoader(name, place, files[file]))
        spec = PathFinder.find_spec(name, path or [str(folder)])
        if spec and spec.origin and isinstance(spec.loader, SourceFileLoader):  # a file that was added since
            spec.loader = _SourceLoader(name, spec.origin, Path(spec.origin).read_bytes())
        return spec


class _SourceLoader(SourceFileLoader):
    """Compiles a given source, never bytecode: the file may have been edited, and the folder may be that of a run."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self.source = source

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self.source, self.path)
        return code


def paths_of(name: str) -> tuple[str, str]:
    """Return the two paths, relative to the folder, that the source of a module or of a package may have."""
    path = name.replace(".", "/")
    return f"{path}/__init__.py", f"{path}.py"


def _imported_names(source: bytes) -> Iterator[str]:
    """Yield the first part of the name of each module that is imported; relative imports stay in a package."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _files_of(name: str, folder: Path) -> list[Path]:
    module, package = folder / f"{name}.py", folder / name
    if name in sys.stdlib_module_names or not (module.is_file() or package.is_dir()):
        return []
    if PathFinder.find_spec(name, [entry for entry in sys.path if Path(entry).resolve() != folder.resolve()]):
        return []
    return sorted(package.rglob("*.py")) if package.is_dir() else [module]
