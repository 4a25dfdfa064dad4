"""Where numba keeps what it compiled, when that is compiled again, and what becomes of damaged files."""

import ast
import errno
import importlib
import importlib.util
import inspect
import os
import pickle
import random
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numba
import pytest
from numba.core.caching import CacheImpl, IndexDataCacheFile, InTreeCacheLocator
from numba.core.dispatcher import Dispatcher

from nar.ops import numba_cache
from nar.ops.numba_cache import STAMP, Locator, SummedCacheFile, stamp
from nar.sources import Module, find_module, sources_of

ROOT = Path(__file__).resolve().parents[3]
CALLEE = "from numba import njit\n\n\n@njit(cache=True)\ndef callee():\n    return {}\n"
CALLER = (
    "from numba import njit\nfrom callee import callee\n\n\n@njit(cache=True)\ndef caller():\n    return callee()\n"
)


def write(folder: Path, number: int) -> None:
    """A function that calls one of another file, which returns `number`."""
    folder.mkdir(exist_ok=True)
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


# When it is compiled again


def test_a_users_function_is_compiled_again_if_one_changes_that_it_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        write(tmp_path, number)
        assert load(tmp_path, monkeypatch).caller() == number


def test_by_itself_numba_does_not_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CacheImpl, "_locator_classes", [InTreeCacheLocator])
    write(tmp_path, 1)
    times = (tmp_path / "caller.py").stat()
    assert load(tmp_path, monkeypatch).caller() == 1
    write(tmp_path, 2)
    os.utime(tmp_path / "caller.py", ns=(times.st_atime_ns, times.st_mtime_ns))  # earlier releases look at these
    assert load(tmp_path, monkeypatch).caller() == 1


def test_a_function_is_not_compiled_again_if_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 1)
    load(tmp_path, monkeypatch).caller()
    again = load(tmp_path, monkeypatch)
    again.caller()
    assert sum(again.caller.stats.cache_hits.values()) == 1


def test_a_stamp_is_of_what_is_imported_directly_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {"a": "from b import f\n", "b": "from c import g\n", "c": "", "plain": ""}
    monkeypatch.syspath_prepend(tmp_path)
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
    module = Module("a", str(tmp_path / "a.py"), "")
    stamps = [stamp(module)]
    for name in ("c", "b", "a", "plain"):
        with (tmp_path / f"{name}.py").open("a") as file:
            file.write("# changed\n")
        stamps.append(stamp(module))
    assert [new != old for old, new in pairwise(stamps)] == [True, True, True, False]


def test_another_version_of_llvm_gives_another_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stamp(module_of("nar.ops.loops"))
    monkeypatch.setattr("llvmlite.__version__", "0.0.0")
    assert stamp(module_of("nar.ops.loops")) != before


def module_of(name: str) -> Module:
    """A module that there is."""
    module = find_module(name)
    assert module is not None
    return module


def library() -> list[str]:
    """The dotted name of every module of the library but for those that run commands."""
    folders: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    names = (
        ".".join([package, *path.relative_to(ROOT / folder).with_suffix("").parts]).removesuffix(".__init__")
        for package, folder in folders.items()
        for path in (ROOT / folder).rglob("*.py")
    )
    return sorted({name for name in names if not name.startswith("nar.cli")})


def compiled_functions() -> list[Any]:
    """Every function of the library that numba keeps."""
    modules = [importlib.import_module(name) for name in library()]
    functions = {id(value): value for module in modules for value in vars(module).values() if is_kept(value)}
    return list(functions.values())


def is_kept(value: object) -> bool:
    """Whether it is a function of the library that numba keeps."""
    return isinstance(value, Dispatcher) and value.py_func.__module__.startswith("nar")


def origins(function: Any, seen: set[int]) -> Iterator[str]:
    """The file of everything of the library that a function uses: functions, constants and modules, directly or not."""
    if id(function) in seen:
        return
    seen.add(id(function))
    plain = getattr(function, "py_func", function)
    yield inspect.getfile(plain)
    imports = names_from_elsewhere(inspect.getfile(plain))
    cells = [cell.cell_contents for cell in plain.__closure__ or ()]
    names = [name for name in names_in(plain.__code__) if name in plain.__globals__]
    for value in [*cells, *(plain.__globals__[name] for name in names)]:
        if inspect.ismodule(value):
            if value.__name__.startswith("nar"):
                yield str(value.__file__)
        elif (inspect.isfunction(value) or isinstance(value, Dispatcher)) and value.__module__.startswith("nar"):
            yield from origins(value, seen)
    yield from (module_of(imports[name]).path for name in names if name in imports)


def names_in(code: CodeType) -> set[str]:
    """The names that a function looks up, and those in it."""
    inner = [names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)


def names_from_elsewhere(file: str) -> dict[str, str]:
    """The module of the library that each name in a file is imported from."""
    nodes = [node for node in ast.walk(ast.parse(Path(file).read_text())) if isinstance(node, ast.ImportFrom)]
    pairs = [(alias, str(node.module)) for node in nodes for alias in node.names if str(node.module).startswith("nar")]
    return {alias.asname or alias.name: module for alias, module in pairs}


@pytest.mark.slow
@pytest.mark.parametrize(
    "first", ["nar.datasets", "nar.ops.loops", "nar.hybrid", "nar.viewer", "nar.processors.sparse"]
)
def test_whatever_is_imported_first_functions_have_stamps(first: str, tmp_path: Path) -> None:
    code = f"""
import sys, {first}, nar.datasets, nar.ops.edge_max_message
from numba.core.dispatcher import Dispatcher
modules = [module for name, module in sys.modules.items() if name.startswith("nar")]
functions = [x for module in modules for x in vars(module).values() if isinstance(x, Dispatcher)]
stamps = [x._cache._cache_file._source_stamp for x in functions if x.py_func.__module__.startswith("nar.")]
print(len(stamps), all(bytes(stamp).startswith(b"nar") for stamp in stamps))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    number, are_stamped = result.stdout.split()
    assert int(number) > 50
    assert are_stamped == "True"


@pytest.mark.slow
def test_the_stamp_of_every_function_of_the_library_is_of_all_that_it_is_compiled_with() -> None:
    functions = compiled_functions()
    used_elsewhere = set()
    for function in functions:
        module = module_of(function.py_func.__module__)
        covered = {found.path for found in sources_of(module, lambda found: found.is_of("nar"))}
        needed = set(origins(function, set()))
        assert needed <= covered, f"{function}: {needed - covered}"
        assert function._cache._cache_file._source_stamp == stamp(module), function
        used_elsewhere |= {(module.name, Path(path).parent.name) for path in needed - {module.path}}
    assert len(functions) > 70
    assert {("nar.ops.max_message.loops", "ops"), ("nar.ops.edge_max_message.loops", "ops")} <= used_elsewhere


PARTS = (
    "nar/__init__.py",
    "nar/sources.py",
    "nar/ops/numba_cache.py",
    "nar/ops/loops.py",
    "nar/ops/edge_max_message/loops.py",
)
MINE = """
import numpy as np
from numba import njit
from nar.ops.loops import rectify
from nar.ops.edge_max_message.loops import first_layer

@njit(cache=True)
def mine(x):
    rectify(x, x[0])
    return x

def ones(*shape):
    return np.ones(shape)

out, i = ones(1, 1), np.zeros(2, np.int64)
i[1] = 1
first_layer(ones(1, 1), ones(1, 1), ones(1, 1), ones(1, 1), i[:1], i[:1], i, 0, 1, ones(1, 1), out)
results = out.item(), mine(ones(1, 1)).item()
print(*results, *(sum(function.stats.cache_hits.values()) for function in (first_layer, mine)))
"""


@pytest.mark.slow
def test_an_edit_of_the_library_is_seen_in_its_other_folders_and_in_a_users_script(tmp_path: Path) -> None:
    for part in PARTS:
        target = tmp_path / part
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, target)
    for package in ("nar/ops", "nar/ops/edge_max_message"):  # without what else they import, to be quick
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "mine.py").write_text(MINE)
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    command = [sys.executable, "-B", "mine.py"]

    def printed() -> str:
        settings: dict[str, Any] = {"env": {**environment, "PYTHONPATH": str(tmp_path)}, "cwd": tmp_path}
        return subprocess.run(command, **settings, capture_output=True, text=True, check=True, timeout=120).stdout

    assert [printed(), printed()] == ["3.0 2.0 0 0\n", "3.0 2.0 1 1\n"]
    shared = tmp_path / "nar" / "ops" / "loops.py"
    edited = shared.read_text().replace("np.dot(a, b, out)", "np.dot(a, b, out)\n        out += 1")
    shared.write_text(edited.replace("total = x[row, h] + bias[h]", "total = x[row, h] + bias[h] + 10"))
    assert printed() == "4.0 12.0 0 0\n"


# For whom


def test_what_installed_packages_compile_is_left_to_numba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder := tmp_path / "site-packages", 1)
    caller = load(folder, monkeypatch).caller
    assert Locator.from_function(caller.py_func, str(folder / "caller.py")) is None
    assert caller() == 1
    (data,) = (folder / "__pycache__").glob("caller*.nbc")
    assert caller._cache._cache_file._source_stamp[: len(STAMP)] != STAMP  # a tuple in earlier releases
    pickle.loads(data.read_bytes())
    assert sum(load(folder, monkeypatch).caller.stats.cache_hits.values()) == 0


def test_an_installed_package_that_imports_this_library_is_stamped(tmp_path: Path) -> None:
    (folder := tmp_path / "site-packages").mkdir()
    (folder / "caller.py").write_text(f"from nar.datasets import record\n{CALLER}")
    assert Locator.from_function(located, str(folder / "caller.py")) is not None


def test_what_has_no_file_is_left_to_numba(tmp_path: Path) -> None:
    for file in ("<string>", str(tmp_path / "gone.py"), str(tmp_path)):
        assert Locator.from_function(located, file) is None


# Where


def located(folder: Path) -> Path:
    """Where a function of this folder would be kept."""
    write(folder, 1)
    return Path(Locator.from_function(located, str(folder / "caller.py")).get_cache_path())


def test_functions_are_kept_beside_their_file(tmp_path: Path) -> None:
    assert located(tmp_path) == tmp_path / "__pycache__"


def test_functions_are_kept_where_the_user_wants_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "chosen"))
    assert located(tmp_path).parent == tmp_path / "chosen"


def test_a_folder_without_room_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(numba_cache, "_has_room", lambda folder: not folder.endswith("__pycache__"))
    assert located(tmp_path).is_relative_to(tmp_path / "home")


def test_where_no_folder_can_be_written_there_is_one_for_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/home")
    monkeypatch.setattr(InTreeCacheLocator, "from_function", classmethod(in_temporary_folder_alone))
    write(tmp_path, 1)
    assert located(tmp_path) == Path(numba_cache.temporary_folder().name)
    assert load(tmp_path, monkeypatch).caller() == 1


def in_temporary_folder_alone(cls: Any, function: Any, file: str) -> Any:
    """As if the folder beside the file could not be written."""
    return cls(function, file) if cls is numba_cache.InTemporaryFolder else None


def test_a_full_disk_has_no_room() -> None:
    numba_cache._has_room.cache_clear()
    assert not numba_cache._has_room("/dev/full")
    assert not numba_cache._has_room("/proc")


# Damaged files


def is_compiled_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the function is in a new process; what it returns is right in any case."""
    caller = load(folder, monkeypatch).caller
    assert caller() == 1
    return sum(caller.stats.cache_hits.values()) == 0


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def with_another_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(1000))


def of_plain_numba(path: Path) -> None:
    """Without our sum."""
    path.write_bytes(path.read_bytes()[: -numba_cache.SUM_LENGTH])


def another_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(numba.__version__) + pickle.dumps([1]))


def unreadable(path: Path) -> None:
    path.chmod(0)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def gone(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


DAMAGES = [
    *(empty, truncated, halved, longer, with_another_bit, garbage, of_plain_numba, another_pickle),
    *(unreadable, pipe, gone, folder, dangling, endless),
]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_compiled_again(
    damage: Callable[[Path], None], suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1)
    assert is_compiled_again(tmp_path, monkeypatch)
    for path in (tmp_path / "__pycache__").glob(f"*.{suffix}"):
        damage(path)
    assert is_compiled_again(tmp_path, monkeypatch) == (damage is not unreadable or os.geteuid() != 0)
    assert is_compiled_again(tmp_path, monkeypatch) == (damage is folder)


def test_a_full_disk_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(SummedCacheFile, "_open_for_write", full)
    write(tmp_path, 1)
    assert is_compiled_again(tmp_path, monkeypatch)


def cache_file(folder: Path, source: bytes = b"") -> SummedCacheFile:
    """What a process uses, of which the function has this source."""
    return SummedCacheFile(str(folder), "function", STAMP + source)


def test_no_bit_of_a_file_can_change_unnoticed(tmp_path: Path) -> None:
    cache_file(tmp_path).save("key", {"code": bytes(100)})
    rng = random.Random(0)
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        for _ in range(200):
            changed = bytearray(content)
            changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            path.write_bytes(changed)
            assert cache_file(tmp_path).load("key") is None
        path.write_bytes(content)
    assert cache_file(tmp_path).load("key") == {"code": bytes(100)}


def test_what_is_kept_is_found_by_its_key_alone(tmp_path: Path) -> None:
    for key in ("a", "b", "a"):
        cache_file(tmp_path).save(key, key)
    assert [cache_file(tmp_path).load(key) for key in ("a", "b", "c")] == ["a", "b", None]
    assert len(list(tmp_path.iterdir())) == 3


def test_keys_of_one_text_are_told_apart(tmp_path: Path) -> None:
    for key in ("1", 1):
        cache_file(tmp_path).save(key, repr(key))
    assert [cache_file(tmp_path).load(key) for key in ("1", 1)] == ["'1'", "1"]


@pytest.mark.parametrize("kind", [IndexDataCacheFile, SummedCacheFile])
def test_of_two_processes_that_write_at_once_none_is_given_the_others_code(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (kind(str(tmp_path), "function", STAMP) for _ in range(2))
    save_data = one._save_data

    def beaten(name: str, data: Any) -> None:
        """Another process has read the index when this one did, and writes before this one has written all."""
        with monkeypatch.context() as before:
            before.setattr(other, "_load_index", dict)
            other.save("b", "code of b")
        save_data(name, data)

    monkeypatch.setattr(one, "_save_data", beaten)
    one.save("a", "code of a")
    found = [kind(str(tmp_path), "function", STAMP).load(key) for key in ("a", "b")]
    is_right = found[0] in (None, "code of a") and found[1] in (None, "code of b")
    assert is_right == (kind is SummedCacheFile)


def test_code_of_another_source_is_not_taken_whenever_it_is_written(tmp_path: Path) -> None:
    old, new = cache_file(tmp_path, b"old"), cache_file(tmp_path, b"new")
    new.save("key", "new code")
    (index,) = tmp_path.glob("*.nbi")
    content = index.read_bytes()
    old.save("key", "old code")
    index.write_bytes(content)
    assert new.load("key") is None
