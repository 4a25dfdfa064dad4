"""Where numba keeps what it compiled, and when that is compiled again."""

import importlib.util
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import pytest
from numba.core.caching import IndexDataCacheFile, InTreeCacheLocator

import nar.datasets.shortest_paths
from nar import numba_cache
from nar.numba_cache import Locator, stamp

CALLEE = "from numba import njit\n\n\n@njit(cache=True)\ndef callee():\n    return {}\n"
CALLER = (
    "from numba import njit\nfrom callee import callee\n\n\n@njit(cache=True)\ndef caller():\n    return callee()\n"
)


@pytest.fixture
def of_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose functions are kept as those of the library are."""
    monkeypatch.setattr(numba_cache, "FOLDERS", {tmp_path})
    return tmp_path


def write(folder: Path, number: int) -> None:
    """A function that calls one of another file, which returns `number`."""
    (folder / "callee.py").write_text(CALLEE.format(number))
    (folder / "caller.py").write_text(CALLER)


def load(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What a new process would import."""
    for name in ("callee", "caller"):
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
    return module


def test_a_function_is_compiled_again_if_one_changes_that_it_calls(
    of_this_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        write(of_this_folder, number)
        assert load(of_this_folder, monkeypatch).caller() == number


def test_by_itself_numba_does_not_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 1)
    assert load(tmp_path, monkeypatch).caller() == 1
    write(tmp_path, 2)
    assert load(tmp_path, monkeypatch).caller() == 1


def test_a_function_is_not_compiled_again_if_nothing_changes(
    of_this_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(of_this_folder, 1)
    load(of_this_folder, monkeypatch).caller()
    again = load(of_this_folder, monkeypatch)
    again.caller()
    assert sum(again.caller.stats.cache_hits.values()) == 1


def test_a_stamp_is_of_what_is_imported_directly_or_not(tmp_path: Path) -> None:
    sources = {"a": "from nar.datasets.b import f\n", "b": "from nar.datasets.c import g\n", "c": "", "d": ""}
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(f"import numba\n{source}")
    (tmp_path / "plain.py").write_text("")
    stamps = [stamp(tmp_path / "a.py")]
    for name in ("c", "b", "a", "d", "plain"):
        with (tmp_path / f"{name}.py").open("a") as file:
            file.write("# changed\n")
        stamps.append(stamp(tmp_path / "a.py"))
    assert [new != old for old, new in pairwise(stamps)] == [True, True, True, False, False]


def test_every_function_of_the_library_is_stamped_so() -> None:
    file = nar.datasets.shortest_paths.__file__
    dispatcher: Any = nar.datasets.shortest_paths.dijkstra
    index: IndexDataCacheFile = dispatcher._cache._cache_file
    assert index._source_stamp == stamp(Path(file))


def test_functions_of_other_folders_are_left_to_numba(tmp_path: Path) -> None:
    write(tmp_path, 1)
    assert Locator.from_function(test_by_itself_numba_does_not_notice, str(tmp_path / "caller.py")) is None


def located(folder: Path) -> Path:
    """Where a function of this folder would be kept."""
    write(folder, 1)
    return Path(Locator.from_function(located, str(folder / "caller.py")).get_cache_path())


def test_functions_are_kept_beside_their_file(of_this_folder: Path) -> None:
    assert located(of_this_folder) == of_this_folder / "__pycache__"


def test_functions_are_kept_where_the_user_wants_them(of_this_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(of_this_folder / "chosen"))
    assert located(of_this_folder).parent == of_this_folder / "chosen"


def test_a_folder_without_room_is_passed_over(of_this_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(of_this_folder / "home"))
    monkeypatch.setattr(numba_cache, "has_room", lambda folder: not folder.endswith("__pycache__"))
    assert located(of_this_folder).is_relative_to(of_this_folder / "home")


def test_where_no_folder_can_be_written_there_is_one_for_this_process(
    of_this_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/home")
    monkeypatch.setattr(InTreeCacheLocator, "from_function", classmethod(in_temporary_folder_alone))
    write(of_this_folder, 1)
    assert located(of_this_folder) == Path(numba_cache.temporary_folder().name)
    assert load(of_this_folder, monkeypatch).caller() == 1


def in_temporary_folder_alone(cls: Any, function: Any, file: str) -> Any:
    """As if the folder beside the file could not be written."""
    return cls(function, file) if cls is numba_cache.InTemporaryFolder else None


def test_a_full_disk_has_no_room() -> None:
    numba_cache.has_room.cache_clear()
    assert not numba_cache.has_room("/dev/full")
    assert not numba_cache.has_room("/proc")
