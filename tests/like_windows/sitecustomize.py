"""Takes from Python what Windows lacks; for interpreters with this folder on PYTHONPATH, and those that they start.

Modules and functions of POSIX are gone, processes are started with `spawn` only, files that are open or mapped in this
process can be neither moved nor deleted, nothing is renamed onto something that exists, links need privileges, and
names that Windows refuses cannot be created. The class of paths, the console and the locks of Windows are not imitated.
"""

from __future__ import annotations

import multiprocessing.reduction
import os
import re
import subprocess  # noqa: F401 - on POSIX it needs modules that are removed below
import sys
from collections.abc import Callable
from typing import Any

MODULES = ("crypt", "fcntl", "grp", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty")
FUNCTIONS = (
    "chown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getuid", "killpg", "mkfifo",
    "nice", "sched_getaffinity", "sched_setaffinity", "setsid",
)  # fmt: skip
"""What torch and numpy call on Linux stays."""
REFUSED_NAME = re.compile(r'[<>:"|?*\\\x00-\x1f]|[. ]$|^(?i:con|prn|aux|nul|com\d|lpt\d)(\.|$)')


def is_open(path: Any) -> bool:
    """Return whether this process has opened or mapped a file, or one below a folder."""
    real = os.path.realpath(path)
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        held = {line.rstrip("\n").split(maxsplit=5)[5] for line in file if line.count("/")}
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:  # that of listdir itself
            continue
        if not os.path.isdir(target):  # rmtree opens folders on POSIX
            held.add(target)
    return any(name == real or name.startswith(f"{real}/") for name in held)


def like_windows(function: Callable[..., Any], *, may_replace: bool = True) -> Callable[..., Any]:
    """Return a function that moves or deletes what nothing has opened."""

    def changed(path: Any, *others: Any, **options: Any) -> Any:
        for each in (path, *others):
            if options.get("dir_fd") is None and is_open(each):
                raise PermissionError(13, "The process cannot access the file because it is being used", str(each))
        if others and os.path.lexists(others[0]) and not (may_replace and os.path.isfile(others[0])):
            raise FileExistsError(17, "Cannot create a file when that file already exists", str(others[0]))
        return function(path, *others, **options)

    return changed


def refuse_links(*_: Any, **__: Any) -> None:
    """Take the place of `os.symlink`."""
    raise OSError(22, "A required privilege is not held by the client")


def refuse_names(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse to create files and folders with names that Windows does not allow."""
    creates = event == "os.mkdir" or (event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT)
    if creates and isinstance(arguments[0], str | bytes | os.PathLike):
        name = os.path.basename(os.fsdecode(arguments[0]))
        if REFUSED_NAME.search(name):
            raise OSError(22, "The filename, directory name, or volume label syntax is incorrect", name)


for module in MODULES:
    sys.modules[module] = None  # makes imports raise ImportError
for name in FUNCTIONS:
    if hasattr(os, name):
        delattr(os, name)
setattr(multiprocessing.reduction, "HAVE_SEND_HANDLE", False)  # noqa: B010 - a constant for mypy
os.rename = like_windows(os.rename, may_replace=False)
os.replace = like_windows(os.replace)
os.unlink = os.remove = like_windows(os.unlink)
os.symlink = refuse_links
sys.addaudithook(refuse_names)
