"""The processor and the device of a training, without importing torch where it need not be asked."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fer_augment.cache import PROCESSORS, cache_folder
from fer_augment.data.whole_files import write_whole
from fer_augment.errors import RunError
from fer_augment.recipe.recipe import TrainingSettings

_CPUINFO = Path("/proc/cpuinfo")
_MODEL = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")
"""Lines of that file on x86 that tell processors apart for torch."""
_CHOICE = "ATEN_CPU_CAPABILITY"
"""Environment variable by which people choose the instructions that torch uses."""


@dataclass(frozen=True)
class Processor:
    """What torch says of the processor; results and the choice of a precision depend on it.

    Attributes:
        name: its name.
        instructions: the vector instructions that torch uses, such as `AVX2`.
        has_bfloat16: whether it computes in bfloat16 natively.
    """

    name: str
    instructions: str
    has_bfloat16: bool


_RELIED_ON = dict[Path, Processor]()
"""The kept answer that this process has used, by its file."""


def processor() -> Processor:
    """Return what torch says of the processor, or has said before under the same circumstances.

    Importing torch takes seconds. On x86 under Linux, where `/proc/cpuinfo` lists all that torch looks at, the answer
    is kept in the cache. If torch is imported later, as for any training, the answer is compared with what it says.

    Raises:
        RunError: if torch says something else than the answer that this process has used.
    """
    if _torch_is_loaded():
        return _compared(_asked())
    if not _RELIED_ON:
        file = _file_of_answer()
        answer = _read(file) if file else None
        if not file or not answer:
            return _kept(_asked(), file)
        _RELIED_ON[file] = answer
    return next(iter(_RELIED_ON.values()))


def _compared(asked: Processor) -> Processor:
    for file, answer in _RELIED_ON.items():
        if answer != asked:
            file.unlink(missing_ok=True)
            _RELIED_ON.clear()
            raise RunError(f"{file}: {answer} is not what torch says now, {asked}; it is deleted, run the same again")
    return asked


def _kept(asked: Processor, file: Path | None) -> Processor:
    if file:
        with suppress(OSError):  # a cache that cannot be written costs time only
            write_whole(file, json.dumps(asdict(asked)) + "\n")
    return asked


def _torch_is_loaded() -> bool:
    return sys.modules.get("torch") is not None


def _asked() -> Processor:
    import torch

    found = torch.cpu.get_capabilities()
    has_bfloat16 = any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return Processor(f"{found.get('cpu_name', 'unknown')}", torch.backends.cpu.get_cpu_capability(), has_bfloat16)


def _file_of_answer() -> Path | None:
    """Return where an answer is kept, under a digest of all that it depends on; None if that is not known.

    These are the build of torch, the environment variable that it reads, and the processor. On ARM it is also the
    length of vectors, which a process can change.
    """
    build = _version_file()
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
        built = f"{build} {build.stat().st_mtime_ns}\n{build.read_text(encoding='utf-8')}" if build else ""
    except (OSError, ValueError):
        return None
    parts = [line.partition(":") for line in lines]
    values = {name.strip(): value.strip() for name, _, value in parts}
    if not built or not values.keys() >= set(_MODEL):
        return None
    known = repr((built, os.environ.get(_CHOICE), [values[name] for name in _MODEL]))
    return cache_folder() / PROCESSORS / f"{hashlib.sha256(known.encode()).hexdigest()[:32]}.json"


def _read(file: Path) -> Processor | None:
    try:
        answer = json.loads(file.read_text(encoding="utf-8"))
        types = {name: type(value) for name, value in answer.items()}
    except (OSError, ValueError, AttributeError):
        return None
    return Processor(**answer) if types == {"name": str, "instructions": str, "has_bfloat16": bool} else None


def _version_file() -> Path | None:
    """Return the file in which torch, which is not imported for it, says how it was built; None if there is none."""
    spec = importlib.util.find_spec("torch")
    file = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    return file if file and file.is_file() else None


def device_of(settings: TrainingSettings) -> str:
    """Return `cpu` or `cuda`.

    Raises:
        RunError: if `training.device` is `cuda` and no CUDA device is available.
    """
    if settings.device == "cpu":
        return "cpu"
    available = _cuda_is_available()
    if settings.device == "cuda" and not available:
        raise RunError("training.device is cuda, but no CUDA device is available; set it to auto or cpu")
    return "cuda" if available else "cpu"


def _cuda_is_available() -> bool:
    if not _torch_is_loaded() and _is_built_for_processors():
        return False
    import torch

    return torch.cuda.is_available()


def _is_built_for_processors() -> bool:
    """Return whether torch cannot use any GPU of NVIDIA or AMD, as it says itself."""
    file = _version_file()
    try:
        absent = re.findall(r"^(\w+)\b.*= None$", file.read_text(encoding="utf-8"), re.MULTILINE) if file else []
    except (OSError, ValueError):
        return False
    return {"cuda", "hip"} <= set(absent)


def precision_of(settings: TrainingSettings) -> str:
    """Return `float32` or `bfloat16`; `auto` is bfloat16 if the hardware supports it natively."""
    if settings.precision != "auto":
        return settings.precision
    return "bfloat16" if _has_bfloat16(device_of(settings)) else "float32"


def emulates_bfloat16(settings: TrainingSettings) -> bool:
    """Return whether a training uses bfloat16 without hardware support, which is slower than float32."""
    return precision_of(settings) == "bfloat16" and not _has_bfloat16(device_of(settings))


def _has_bfloat16(device: str) -> bool:
    if device == "cuda":
        import torch

        return torch.cuda.get_device_capability()[0] >= 8
    return processor().has_bfloat16
