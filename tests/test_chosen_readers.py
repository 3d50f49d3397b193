"""Which reader reads a source: the one that is named, else one of another distribution, else one of fer_augment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fer_augment as fa
from fer_augment import DatasetError, DatasetReader, ImageFile, ImageSource, PluginError, Splits
from fer_augment.data.pixels import PixelSettings
from fer_augment.hooks.plugin_manager import Catalog, Offer, installed_plugins
from tests.command_line import assert_refused, fer_augment
from tests.data_files import release, write_zip
from tests.tiny_training import tiny_splits


def offer(name: str, provider: str, read: Any = None, recognized: str = ".zip") -> Offer[DatasetReader]:
    def tiny(source: str, progress: Any) -> Splits:
        return tiny_splits()

    reader = DatasetReader(name, "", lambda source: source.endswith(recognized), read or tiny)
    return Offer("dataset reader", name, reader, provider, "module")


BUILT_IN = offer("image_files", "fer_augment 0.1.0")


def with_readers(*offers: Offer[DatasetReader]) -> Catalog:
    return Catalog(offers, ())


class TestPrecedence:
    def test_a_reader_of_another_distribution_comes_first_and_the_source_says_so(self) -> None:
        opened = with_readers(BUILT_IN, offer("scans", "hospital 2.0")).read("faces.zip")
        assert opened.class_names == ("ant", "bee", "cat")
        assert opened.notes == (
            "Read by scans (hospital 2.0), although image_files would read it, too; --reader image_files chooses the "
            "latter.",
        )
        assert not with_readers(BUILT_IN, offer("scans", "hospital 2.0", recognized=".tar")).read("faces.zip").notes

    def test_a_source_without_notes_is_opened_without_one(self) -> None:
        class Own:
            description = "own"

            def splits(self, settings: Any, progress: Any) -> Splits:
                return tiny_splits()

        readers = with_readers(BUILT_IN, offer("scans", "hospital 2.0", lambda source, progress: Own()))
        assert readers.open("faces.zip").description == "own"

    def test_two_of_other_distributions_are_refused(self) -> None:
        readers = with_readers(BUILT_IN, offer("scans", "hospital 2.0"), offer("films", "cinema 1.0"))
        with pytest.raises(
            DatasetError,
            match=r"by films \(cinema 1.0\) and scans \(hospital 2.0\); choose one with --reader",
        ):
            readers.open("faces.zip")
        assert readers.open("faces.zip", reader="films").description == "tiny"

    def test_a_named_reader_need_not_recognize_the_source(self) -> None:
        readers = with_readers(BUILT_IN, offer("scans", "hospital 2.0", recognized=".scan"))
        assert not readers.read("faces.zip").notes
        assert readers.open("faces.scan", reader="image_files").description == "tiny"
        with pytest.raises(PluginError, match="there is no dataset reader 'scan'; did you mean 'scans'"):
            readers.open("faces.zip", reader="scan")

    def test_a_reader_that_fails_is_named(self) -> None:
        def read(source: str, progress: Any) -> Splits:
            raise KeyError("pixels")

        with pytest.raises(DatasetError, match=r"faces.zip: the reader scans \(.*\) failed: KeyError: 'pixels'"):
            with_readers(offer("scans", "hospital 2.0", read)).open("faces.zip")

    @pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit(), MemoryError(), BaseException("x")])
    def test_nothing_that_a_reader_raises_passes(self, error: BaseException) -> None:
        def read(source: str, progress: Any) -> Splits:
            raise error

        with pytest.raises(DatasetError, match=rf"the reader scans \(.*\) failed: {type(error).__name__}(: .+)?$"):
            with_readers(offer("scans", "hospital 2.0", read)).open("faces.zip")

        def recognizes(source: str) -> bool:
            raise error

        asked = DatasetReader("scans", "", recognizes, read)
        with pytest.raises(DatasetError, match="no reader recognizes it, and the reader scans"):
            with_readers(Offer("dataset reader", "scans", asked, "hospital 2.0", "module")).open("faces.zip")

    def test_a_reader_that_returns_something_else_is_named(self) -> None:
        with pytest.raises(DatasetError, match=r"scans \(.*\) must return Splits or an ImageSource, returned NoneType"):
            with_readers(offer("scans", "hospital 2.0", lambda source, progress: None)).open("faces.zip")


def image_source(content: Any = lambda: b"", **parts: Any) -> ImageSource:
    files = [ImageFile(f"{number}.png", content, "") for number in range(4)]
    given: dict[str, Any] = {
        "files": files,
        "labels": np.arange(4) % 2,
        "split": np.full(4, -1, np.int8),
        "class_names": ("a", "b"),
    }
    return ImageSource("faces", **(given | parts))


class TestContentOfImages:
    @pytest.mark.parametrize("error", [ValueError("x"), SystemExit(0), GeneratorExit(), BaseException()])
    def test_nothing_that_it_raises_passes(self, error: BaseException) -> None:
        def content() -> bytes:
            raise error

        with pytest.raises(DatasetError, match=rf"^0.png: its reader failed: {type(error).__name__}(: .+)?$"):
            image_source(content).splits(PixelSettings())

    @pytest.mark.parametrize("content", [None, "text"])
    def test_something_else_than_bytes_is_refused(self, content: Any) -> None:
        with pytest.raises(DatasetError, match="0.png: its reader must give bytes, gave"):
            image_source(lambda: content).splits(PixelSettings())

    def test_labels_splits_and_names_are_checked_before_decoding(self) -> None:
        for labels in (np.arange(4) % 2 + 1, np.arange(4) % 2 - 1, np.array([0.5, 0, 1, 1])):
            with pytest.raises(DatasetError, match="faces: labels must be whole numbers of the 2 classes"):
                image_source(labels=labels)
        with pytest.raises(DatasetError, match="faces: splits must be whole numbers from -1 to 2"):
            image_source(split=np.full(4, 3))
        with pytest.raises(DatasetError, match="faces: several files have the same name"):
            image_source(files=[ImageFile("x.png", bytes, "")] * 4)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zip of images, and an installed reader of another distribution that reads its classes as `scans`."""

    def read(source: str, progress: Any) -> ImageSource:
        opened = catalog.open(source, progress, reader="image_files")
        assert isinstance(opened, ImageSource)
        return replace(opened, class_names=tuple(f"scan of {name}" for name in opened.class_names))

    catalog = installed_plugins()
    with_scans = Catalog((*catalog.offers, offer("scans", "hospital 2.0", read)), catalog.problems)
    for module in ("fer_augment.reading", "fer_augment.readers.description"):
        monkeypatch.setattr(f"{module}.installed_plugins", lambda: with_scans)
    monkeypatch.chdir(tmp_path)
    return write_zip(tmp_path / "faces.zip", release())


class TestChoice:
    def test_in_python(self, archive: Path) -> None:
        names = fa.read_data(fa.Source("faces.zip", reader="image_files"), progress=False).class_names
        scans = fa.read_data("faces.zip", progress=False)
        assert scans.class_names == tuple(f"scan of {name}" for name in names)
        assert scans.notes[-1].startswith("Read by scans (hospital 2.0)")
        assert fa.read_data(fa.Source(archive), progress=False).class_names == scans.class_names

    def test_on_the_command_line(self, archive: Path) -> None:
        shown = fer_augment("data", "show", "faces.zip", "--reader", "image_files").out
        assert "scan of" not in shown
        shown = fer_augment("data", "show", "faces.zip").out
        assert "scan of" in shown and "--reader image_files" in shown
        assert_refused(fer_augment("data", "show", "faces.zip", "--reader", "scan"), "did you mean 'scans'")
        assert_refused(
            fer_augment("compare", "modern", "--data", "faces.zip", "--reader", "no_such", "--dry-run"), "no_such"
        )

    def test_in_a_description(self, archive: Path) -> None:
        Path("one.yaml").write_text("images: faces.zip\nreader: image_files\n", encoding="utf-8")
        Path("other.yaml").write_text("images: faces.zip\nreader: scans\n", encoding="utf-8")
        one, other = (fa.read_data(f"{name}.yaml", progress=False).class_names for name in ("one", "other"))
        assert other == tuple(f"scan of {name}" for name in one)
        Path("table.yaml").write_text("images: faces.zip\ntable: labels.csv\nreader: scans\n", encoding="utf-8")
        assert_refused(fer_augment("data", "show", "table.yaml"), "table.yaml", "reader is for images alone")
