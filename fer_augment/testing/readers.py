"""Checks of dataset readers, on an example source that the reader writes, or that is given."""

from __future__ import annotations

import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fer_augment.data.dataset import Splits
from fer_augment.data.image_source import ArraySource, DataSource
from fer_augment.data.pixels import PixelSettings
from fer_augment.errors import FerAugmentError, in_one_line
from fer_augment.hooks.declarations import DatasetReader
from fer_augment.phases import ReportProgress
from fer_augment.testing.losses import name_faults
from fer_augment.testing.scratch import scratch_folder

_SIZE = (20, 24)
_WORDS = ("", "no/such/source", "no-such-word", "\0", "x" * 5000)
"""Sources that do not exist."""
_CLOCK_TICK = 0.05
"""Seconds after which a change of a file gives it another time."""
_MOST_DAMAGED = 500_000_000
"""Largest source, in bytes, of which damaged copies are read."""


class NotChecked(Exception):
    """A check cannot be made on this plugin; the message says why."""


@dataclass(frozen=True, eq=False)
class ReaderSubject:
    """A dataset reader under test.

    Attributes:
        reader: its declaration.
        given: a source that it reads, as typed after `--data`; None for the one that its `example` writes.
    """

    reader: DatasetReader
    given: str | None = None

    @property
    def label(self) -> str:
        """The name of the reader."""
        return self.reader.name

    @cached_property
    def folder(self) -> Path:
        """A folder for sources, removed with the subject."""
        return scratch_folder(self)

    @cached_property
    def source(self) -> str:
        """The source that is read."""
        if self.given is not None:
            return self.given
        assert self.reader.example
        place = Path(tempfile.mkdtemp(dir=self.folder)) / "example"
        place.mkdir()
        return self.reader.example(place)

    @cached_property
    def unread(self) -> dict[Path, tuple[int, int]]:
        """The states of the files of the source and beside it, before it is read for the first time."""
        return _states(self)

    def opened(self, progress: ReportProgress = lambda done, total: None, source: str | None = None) -> DataSource:
        """Open the source, or another one, as a run does."""
        data = self.reader.read(self.source if source is None else source, progress)
        return ArraySource(data) if isinstance(data, Splits) else data

    def splits(self, settings: PixelSettings | None = None) -> Splits:
        """Read the source."""
        return self.opened().splits(settings or PixelSettings(), lambda done, total: None)


def is_declared_as_a_reader(subject: ReaderSubject) -> Iterator[str]:
    """The declaration has a name, a description, two functions, and an example, unless a source is given."""
    reader = subject.reader
    yield from name_faults(reader.name)
    if not reader.summary:
        yield "add a summary; `plugins show` prints it"
    for name in ("recognizes", "read"):
        if not callable(getattr(reader, name)):
            yield f"{name} must be a function, is a {type(getattr(reader, name)).__name__}"
    if subject.given is None and reader.example is None:
        yield "there is no source to read: set `example` to a function that writes a small one, or pass --source"


def recognizes_and_reads_its_example(subject: ReaderSubject) -> Iterator[str]:
    """The reader recognizes the source and reads it."""
    _ = subject.unread
    if subject.reader.recognizes(subject.source) is not True:
        yield f"recognizes({subject.source!r}) must return True"
    opened = subject.reader.read(subject.source, lambda done, total: None)
    if not isinstance(opened, Splits) and not callable(getattr(opened, "splits", None)):
        yield f"read must return Splits or an ImageSource, not {type(opened).__name__}"
        return
    subject.splits()


def recognizes_nothing_else(subject: ReaderSubject) -> Iterator[str]:
    """`recognizes` returns False for sources that do not exist or are noise; it raises nothing, also for a folder."""
    folder, noise = subject.folder / "empty folder", subject.folder / "noise"
    folder.mkdir(exist_ok=True)
    noise.write_bytes(np.random.default_rng(0).bytes(1000))
    for source in (*_WORDS, str(noise), str(folder)):
        try:
            recognized = subject.reader.recognizes(source)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a reader may raise anything, SystemExit included
            yield f"recognizes raises {type(error).__name__} for {source[:40]!r}; it must return False"
        else:
            if recognized is not False and source != str(folder):  # a reader of folders may say what is missing in one
                yield f"recognizes({source[:40]!r}) must return False, returns {recognized!r}"


def reads_the_same_data_twice(subject: ReaderSubject) -> Iterator[str]:
    """Two reads give the same images, labels and splits."""
    first, again = subject.splits(), subject.splits()
    if first.class_names != again.class_names:
        yield "a second read gives other class names; sort them"
    for name, part in first.parts.items():
        if part.fingerprint != again.parts[name].fingerprint:
            yield f"a second read gives another {name} split; sort files, and seed what is random"


def gives_two_classes_and_names_its_source(subject: ReaderSubject) -> Iterator[str]:
    """Training has rows of at least two classes, and the splits name their source, for reports."""
    splits = subject.splits()
    if (splits.train.counts > 0).sum() < 2:
        yield "the training split needs rows of at least two classes"
    if not splits.source:
        yield "name the source: Splits(train, validation, test, source)"


def gives_images_of_any_size(subject: ReaderSubject) -> Iterator[str]:
    """Images are given in the size and color that a recipe asks for."""
    for channels, count in (("gray", 1), ("color", 3)):
        shape = subject.splits(PixelSettings(_SIZE, None, channels)).train.image_shape  # type: ignore[arg-type] # a Literal
        if shape != (*_SIZE, count):
            yield f"images of {_SIZE[0]}x{_SIZE[1]} in {channels} were asked for, given are {shape}"


def reports_its_progress(subject: ReaderSubject) -> Iterator[str]:
    """Progress, if any, is reported as units done and in all: done grows, and ends at the total."""
    of_read: list[tuple[int, int]] = []
    of_splits: list[tuple[int, int]] = []
    opened = subject.opened(lambda done, total: of_read.append((done, total)))
    opened.splits(PixelSettings(), lambda done, total: of_splits.append((done, total)))
    for reports in (of_read, of_splits):
        for done, total in [(done, total) for done, total in reports if not 0 <= done <= total][:1]:
            yield f"progress(done, total) must have done in 0..total, got progress({done}, {total})"
        if any(later < earlier for (earlier, _), (later, _) in zip(reports, reports[1:], strict=False)):
            yield "progress goes back; count all units as one"
        for done, total in reports[-1:]:
            if done < total:
                yield f"progress ends at {done} of {total}; report the last unit, too"


def leaves_the_source_alone(subject: ReaderSubject) -> Iterator[str]:
    """Reading writes nothing into the source or beside it, not even the first time."""
    if not Path(subject.source).exists():
        return
    before = subject.unread
    time.sleep(_CLOCK_TICK)
    subject.splits()
    after = _states(subject)
    for file in sorted(before.keys() | after.keys()):
        if before.get(file) != after.get(file):
            yield f"reading changes {file.name} of the source; write to the cache, or nowhere"


def refuses_damaged_data(subject: ReaderSubject) -> Iterator[str]:
    """A source whose files are cut off or empty is refused with a DatasetError, or read as far as possible."""
    place = Path(subject.source)
    if not place.exists():
        return
    size = sum(file.stat().st_size for file in _files(place))
    if size > _MOST_DAMAGED:
        raise NotChecked(
            f"the source has {size / 1e6:,.0f} MB, and damaged copies are made of at most {_MOST_DAMAGED / 1e6:,.0f} "
            "MB; check with a smaller source, too"
        )
    for title, damage in _DAMAGES.items():
        copy = subject.folder / title / place.name
        shutil.rmtree(copy.parent, ignore_errors=True)
        copy.parent.mkdir()
        (shutil.copytree if place.is_dir() else shutil.copyfile)(place, copy)
        for copied in (copy, *copy.rglob("*")):
            copied.chmod(0o700)  # what copytree copies may be read-only
        for file in _files(copy):
            file.write_bytes(damage(file.read_bytes()))
        try:
            if subject.reader.recognizes(str(copy)):
                subject.opened(source=str(copy)).splits(PixelSettings(), lambda done, total: None)
        except FerAugmentError:
            continue
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a reader may raise anything, SystemExit included
            yield (
                f"files that are {title}: {in_one_line(error)}; raise a DatasetError that names the file and says "
                "what is wrong"
            )
        finally:
            shutil.rmtree(copy.parent, ignore_errors=True)


_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "not what they were": lambda content: content[::-1],
}


def reader_emits_no_warnings(subject: ReaderSubject) -> Iterator[str]:
    """Reading emits no warning: raise an error, or add a note to the ImageSource."""
    with warnings.catch_warnings(record=True) as emitted:
        warnings.simplefilter("always")
        subject.splits()
    for warning in emitted:
        yield f"{warning.category.__name__}: {warning.message}; fix the cause"


def _files(place: Path) -> list[Path]:
    """Return the files of a source: all in a folder, or the file itself."""
    return [file for file in (place, *place.rglob("*")) if file.is_file()]


def _states(subject: ReaderSubject) -> dict[Path, tuple[int, int]]:
    """Return size and time of the last change of each file of the source, and of files and folders beside it.

    Outside of the kit's folder, these are those that begin with its name: other programs may write there, too.
    """
    place = Path(subject.source).absolute()
    if not place.exists():  # a word
        return {}
    name, is_ours = place.name.lstrip(".").partition(".")[0], place.is_relative_to(subject.folder)
    beside = [one for one in place.parent.glob("*") if is_ours or one.name.lstrip(".").startswith(name)]
    files = {file for one in (place, *beside) for file in _files(one)}
    return {file: (file.stat().st_size, file.stat().st_mtime_ns) for file in files}
