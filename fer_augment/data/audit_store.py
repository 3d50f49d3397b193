"""Audits in the cache, by content of the data and by code of the audit, so that no data set is audited twice."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.resources
import os
from collections.abc import Callable
from contextlib import suppress

from pydantic import ValidationError

from fer_augment.cache import AUDITS, cache_folder
from fer_augment.data.audit import audit
from fer_augment.data.audit_records import Audit
from fer_augment.data.dataset import Splits
from fer_augment.data.whole_files import write_whole

_CODE = (
    "data/audit", "data/dataset", "data/duplicates", "data/near_duplicates", "data/pixel_blocks",
    "data/similar_vectors", "randomness",
)  # fmt: skip
"""The modules of this package that decide an audit."""
_LIBRARIES = ("numpy", "opencv-python-headless", "scipy")


def audited(splits: Splits, progress: Callable[[int, int], None] = lambda done, total: None) -> Audit:
    """Return the audit of a data set: from the cache, or else made now and kept there.

    A cache that cannot be read or written is no error: the audit is made.

    Args:
        splits: the data to audit.
        progress: called with the number of images processed and their total, if the audit is made.
    """
    file = cache_folder() / AUDITS / f"{_key(splits)}.json"
    with suppress(OSError, ValidationError):
        found = Audit.model_validate_json(file.read_bytes())
        with suppress(OSError):
            os.utime(file)  # the time of the last use, for pruning
        return found
    made = audit(splits, progress)
    with suppress(OSError):
        write_whole(file, made.model_dump_json())
    return made


def _key(splits: Splits) -> str:
    """Return a digest of everything that an audit depends on: rows, names of source and files, and code."""
    digest = hashlib.sha256(f"{splits.fingerprint}\0{_code_digest()}\0{splits.source}".encode())
    for part in splits.parts.values():
        names = part.sources.names if part.sources and part.sources.names else ()
        digest.update("\0".join((str(len(names)), *names)).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


@functools.cache
def _code_digest() -> str:
    package = importlib.resources.files("fer_augment")
    digest = hashlib.sha256()
    for name in _CODE:
        digest.update((package / f"{name}.py").read_bytes())
    for library in _LIBRARIES:
        digest.update(f"{library} {importlib.metadata.version(library)}\0".encode())
    return digest.hexdigest()
