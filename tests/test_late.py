"""Modules that load when they are first used, and no others."""

import sys
from importlib import import_module
from threading import Thread

import pytest

from evergallery.late import late_imports, loaded


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that nobody has loaded."""
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    return "wave"


def test_a_function_loads_its_module_and_is_itself() -> None:
    with late_imports():
        from evergallery.retrieval import knn
    function = loaded(knn.nearest)
    assert function is import_module("evergallery.retrieval.knn").nearest
    from evergallery.retrieval import knn as really

    assert really.nearest is function, "after the block, imports are what they were"


def test_nothing_is_loaded_before() -> None:
    with late_imports():
        from evergallery.no_room import nowhere  # type: ignore[import-not-found]
    with pytest.raises(ModuleNotFoundError, match=r"evergallery\.no_room"):
        loaded(nowhere.function)


def test_another_thread_imports_as_ever(unloaded: str) -> None:
    found = []

    def look() -> None:
        import wave

        found.append(wave.open)

    with late_imports():
        other = Thread(target=look)
        other.start()
        other.join()
    assert found == [import_module(unloaded).open]
