"""Plain zip archives are listed without `zipfile`, and exactly as `zipfile` lists them."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_augment import DatasetError
from fer_augment.readers import _zip_files
from fer_augment.readers._zip_files import zip_files

OPEN_FILES = Path("/proc/self/fd")
NAMES = ["a/", "a/1.png", "a/ü.png", "b/2.png", "b\\3.png", "b/café.jpg"]


def write(path: Path, *, comment: bytes = b"", extra: bytes = b"", before: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = comment
        for number, name in enumerate(NAMES):
            info = zipfile.ZipInfo(name)
            info.extra, info.comment = extra, b"of a file" * number
            archive.writestr(info, name.encode() * number)
    path.write_bytes(before + path.read_bytes())
    return path


def by_zipfile(path: Path) -> list[tuple[str, int, int]]:
    with zipfile.ZipFile(path) as archive:
        return [(info.filename, info.file_size, info.CRC) for info in archive.infolist()]


@pytest.mark.parametrize("extra", [b"", struct.pack("<HHL", 0x5455, 4, 7), struct.pack("<HHB", 9, 1, 7) + b"abc"])
def test_a_plain_archive_is_listed_as_by_zipfile(extra: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", extra=extra)
    assert _zip_files._listed(str(path)) == by_zipfile(path)


@pytest.mark.parametrize(
    "rare",
    [
        {"comment": b"comment"},
        {"before": b"#!/bin/sh"},
        {"extra": struct.pack("<HHBL", 0x7075, 5, 1, 0)},
        {"extra": struct.pack("<HH", 9, 60_000)},
    ],
    ids=["comment", "prefix", "other name", "cut off"],
)
def test_what_is_rare_is_left_to_zipfile(rare: dict[str, bytes], tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", **rare)
    assert _zip_files._listed(str(path)) is None
    try:
        expected = by_zipfile(path)
    except zipfile.BadZipFile:
        with pytest.raises(DatasetError, match="a.zip: not a complete zip file"):
            next(zip_files(str(path)))
    else:
        assert [file.path for file in zip_files(str(path))] == [name for name, _, _ in expected]


def test_contents_are_those_of_the_entries(tmp_path: Path) -> None:
    files = list(zip_files(str(write(tmp_path / "a.zip"))))
    assert [file.content() for file in files] == [name.encode() * number for number, name in enumerate(NAMES)]
    assert [file.size for file in files] == [len(file.content()) for file in files]
    assert files[-1].content.head() == files[-1].content()


def test_an_archive_that_is_replaced_after_listing_is_not_read_as_the_listed_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip")
    *_, last = zip_files(str(path))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/0.png", b"another")
    with pytest.raises(DatasetError, match=r"a.zip: changed while it was read; run the same again"):
        last.content()


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="this system does not list the open files of a process")
def test_no_file_is_left_open_by_an_archive_that_was_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip")
    *_, last = zip_files(str(path))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/0.png", b"another")
    before = len(list(OPEN_FILES.iterdir()))
    for _ in range(3):
        with pytest.raises(DatasetError):
            last.content()
    assert len(list(OPEN_FILES.iterdir())) == before


def test_files_are_found_from_another_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.zip")
    monkeypatch.chdir(tmp_path)
    *_, last = zip_files("a.zip")
    monkeypatch.chdir("/")
    assert len(last.content()) == last.size


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_content_is_named(method: int, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a/0.png", bytes(range(256)) * 99)
    damaged = bytearray(path.read_bytes())
    damaged[45:60] = b"\xff" * 15
    path.write_bytes(damaged)
    (file,) = zip_files(str(path))
    with pytest.raises(DatasetError, match=r"a\.zip: a/0\.png: damaged or encrypted"):
        file.content()


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_archive_is_never_listed_otherwise_than_by_zipfile(data: st.DataObject, tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", extra=struct.pack("<HHL", 0x5455, 4, 7))
    content = bytearray(path.read_bytes())
    directory = struct.unpack("<L", content[-6:-2])[0]
    for place in data.draw(st.lists(st.integers(directory, len(content) - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: len(content) - data.draw(st.sampled_from([0, 0, 0, 1, 30]))])
    listed = _zip_files._listed(str(path))
    if listed is not None:
        assert listed == by_zipfile(path)
