"""Settings for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("shared machine", deadline=None)  # an example may wait for the processor
settings.load_profile("shared machine")

LONGEST = (
    "test_ray_executor.py", "test_comparing.py", "test_judge_calibration.py", "test_conformity.py", "test_kills.py",
    "test_docs.py", "test_compare_command.py", "test_release.py", "test_originating_report.py",
    "test_cross_validation.py", "test_notebook.py", "test_fine_tuning.py", "test_row_workers.py",
)  # fmt: skip
"""Files of tests that take longest: they start first, so that none of them is left alone at the end of `make test`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests out of the user's cache; those that look into a cache set one of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_AUGMENT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
