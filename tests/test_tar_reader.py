"""Image files in tar archives: read in place or from memory, by several threads, and messages for invalid archives."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fer_augment.readers import _tar_files
from fer_augment.readers._image_members import Member, scan
from tests.data_files import encoded, random_images, release, split_files, write_folder, write_tar, write_zip
from tests.reading import READERS, assert_message, read

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
SPLIT_FILES = split_files({"train": 2, "val": 1, "test": 1})


def members_of(path: Path) -> list[Member]:
    return scan(str(path)).images


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".TAR"])
def test_a_tar_archive_has_the_same_data_as_a_folder(tmp_path, suffix):
    files = release()
    expected = read(write_folder(tmp_path / "folder", files))
    for prefix in ("", "./", "faces/", "/faces/"):
        splits = read(write_tar(tmp_path / f"a{suffix}", {f"{prefix}{name}": files[name] for name in files}))
        assert splits.fingerprint == expected.fingerprint


def test_class_folders_without_splits(tmp_path):
    files = {
        f"{name}/{n}.png": encoded(image) for name in "ab" for n, image in enumerate(random_images(20, seed=ord(name)))
    }
    splits = read(write_tar(tmp_path / "a.tar.gz", files))
    assert sum(map(len, splits.parts.values())) == 40
    names = [part.name_of(row) for part in splits.parts.values() for row in range(len(part))]
    assert sorted(names) == sorted(files)


def test_hidden_files_are_ignored(tmp_path):
    clutter = dict.fromkeys(["._train/cat/0.png", "train/cat/._0.png", "__MACOSX/0.png", "README"], b"")
    expected = read(write_zip(tmp_path / "a.zip", SPLIT_FILES)).fingerprint
    for suffix in SUFFIXES:
        assert read(write_tar(tmp_path / f"a{suffix}", SPLIT_FILES | clutter)).fingerprint == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_contents_may_be_read_by_several_threads(tmp_path, suffix):
    files = {f"a/{number:03}.png": os.urandom(1000 + number) for number in range(200)}
    members = members_of(write_tar(tmp_path / f"a{suffix}", files))
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(lambda member: member.content(), members * 5))
    assert contents == list(files.values()) * 5


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
def test_links_have_the_content_of_their_targets(tmp_path, suffix):
    links = {
        "test/dog/link.png": (tarfile.LNKTYPE, "train/dog/0.png"),
        "test/cat/link.png": (tarfile.SYMTYPE, "../dog/link.png"),
        "README": (tarfile.SYMTYPE, "nowhere"),
    }
    members = {
        "/".join(member.parts): member for member in members_of(write_tar(tmp_path / f"a{suffix}", SPLIT_FILES, links))
    }
    for name in ("test/dog/link.png", "test/cat/link.png"):
        assert members[name].content() == SPLIT_FILES["train/dog/0.png"]
        assert members[name].version == members["train/dog/0.png"].version


def headers_of(path: Path) -> list[int]:
    with tarfile.open(path) as archive:
        return [info.offset for info in archive]


DAMAGE = {
    "one bit": lambda content, at: content[: at + 10] + bytes([content[at + 10] ^ 1]) + content[at + 11 :],
    "cut within a header": lambda content, at: content[: at + 200],
    "cut before a header": lambda content, at: content[:at],
}


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_an_archive_with_a_damaged_header_is_refused(tmp_path, suffix, damage):
    whole = write_tar(tmp_path / "whole.tar", SPLIT_FILES)
    content = damage(whole.read_bytes(), headers_of(whole)[3])
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content if suffix == ".tar" else gzip.compress(content))
    assert_message(path, [f"{path}: not a complete tar archive (", "at byte", "; re-download it"])


@pytest.mark.parametrize(("write", "suffix"), [(write_tar, ".tar"), (write_zip, ".zip")])
def test_paths_with_two_dots_lead_to_another_folder_of_the_archive_or_are_refused(tmp_path, write, suffix):
    moved = {name.replace("train/", "train/x/../"): content for name, content in SPLIT_FILES.items()}
    expected = read(write_folder(tmp_path / "folder", SPLIT_FILES))
    assert read(write(tmp_path / f"a{suffix}", moved)).fingerprint == expected.fingerprint
    path = write(tmp_path / f"b{suffix}", SPLIT_FILES | {"../train/cat/9.png": b""})
    assert_message(path, [f"{path}: ../train/cat/9.png: leads out of the archive"])


@pytest.mark.parametrize("target", ["nowhere.png", "loop.png"])
def test_links_that_lead_to_no_file_are_refused(tmp_path, target):
    path = write_tar(tmp_path / "a.tar", SPLIT_FILES, {"test/cat/loop.png": (tarfile.SYMTYPE, target)})
    assert_message(path, [f"test/cat/loop.png: links to test/cat/{target}, which is no file; unpack the archive"])


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
def test_pipes_and_devices_are_left_out_with_a_note(tmp_path, suffix):
    special = {
        "train/cat/pipe.png": (tarfile.FIFOTYPE, ""),
        "train/dog/device.png": (tarfile.CHRTYPE, ""),
        "train/dog/link.png": (tarfile.SYMTYPE, "device.png"),
    }
    splits = read(write_tar(tmp_path / f"a{suffix}", SPLIT_FILES, special))
    assert splits.notes == (
        "3 files (train/cat/pipe.png, train/dog/device.png, train/dog/link.png): pipes, sockets or devices; left out",
    )
    assert splits.fingerprint == read(write_folder(tmp_path / "folder", SPLIT_FILES)).fingerprint


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
def test_the_last_of_several_files_of_a_name_counts(tmp_path, suffix):
    mode = {".tar": "w", ".tgz": "w:gz"}[suffix]
    path = tmp_path / f"a{suffix}"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for content in (b"old", b"newer"):
            info = tarfile.TarInfo("a/0.png")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert [member.content() for member in members_of(path)] == [b"newer"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_versions_change_with_the_content(tmp_path, suffix):
    path = write_tar(tmp_path / f"a{suffix}", {"a/0.png": b"one", "b/0.png": b"two"})
    versions = [member.version for member in members_of(path)]
    assert versions == [member.version for member in members_of(path)]
    os.utime(write_tar(path, {"a/0.png": b"one", "b/0.png": b"TWO"}), ns=(0, 0))
    assert versions[1] != members_of(path)[1].version


def test_large_compressed_archives_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_tar_files, "COMPRESSED_LIMIT", 1 << 20)
    files = {f"{name}/0.png": bytes(700_000) for name in "ab"}
    assert_message(
        write_tar(tmp_path / "a.tgz", files),
        ["exceed the 1 MiB that are read into memory; unpack it (tar -xf", "or decompress it to .tar"],
    )
    assert len(members_of(write_tar(tmp_path / "a.tar", files))) == 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_invalid_archives_are_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    assert_message(path, ["no such file or folder"])
    path.write_bytes(b"")
    assert_message(path, ["is empty; re-download it"])
    path.write_bytes(b"hello" * 500)
    assert_message(path, ["not a complete tar archive", "re-download it"])
    write_tar(path, {f"{name}/{n}.png": os.urandom(9000) for name in "ab" for n in range(9)})
    os.truncate(path, 50_000)
    assert_message(path, ["not a complete tar archive", "re-download it"])
    assert_message(write_tar(path, {"README": b"hello"}), ["images found"])
    damaged = write_tar(path, SPLIT_FILES | {"train/cat/0.png": b"hello"})
    assert_message(damaged, [f"{path}: train/cat/0.png: not a readable image"])


def test_an_archive_that_is_changed_while_it_is_read(tmp_path):
    path = write_tar(tmp_path / "a.tar", SPLIT_FILES)
    member = members_of(path)[-1]
    source = READERS.open(str(path))
    os.truncate(path, 600)
    with pytest.raises(Exception, match="the archive ends within this file"):
        member.content()
    assert source.description == str(path)
    path.unlink()
    with pytest.raises(Exception, match=r"cannot be read \(No such file or directory\)"):
        member.content()


@pytest.mark.skipif("TRASHNET" not in os.environ, reason="set TRASHNET to the folder of trashnet_small.zip")
@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
def test_photographs_in_a_tar_archive_equal_those_in_a_zip_archive(tmp_path, suffix):
    original = Path(os.environ["TRASHNET"], "trashnet_small.zip")
    with zipfile.ZipFile(original) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    members = members_of(write_tar(tmp_path / f"a{suffix}", files))
    expected = members_of(original)
    assert len(expected) == 330
    for member, other in zip(members, expected, strict=True):
        assert (member.parts, member.content()) == (other.parts, other.content())
