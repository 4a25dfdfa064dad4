"""``nar data``, which keeps the cache of splits; and runs that go on without one."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from nar.datasets.splits import cache as cache_module
from nar.datasets.splits import splits
from nar.datasets.splits.cache import Cache
from nar.datasets.splits.splits import Split

Run = Callable[..., None]
DATA = ["--data.algorithms", "[bfs,minimum]", "--data.train_sizes", "[4,5]", "--data.test_sizes", "[6]"]
SPLITS = [Split(name, size, size == 6) for name in ("bfs", "minimum") for size in (5, 6)]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """One with four splits, and with files beside them that are not its own."""
    cache = Cache(tmp_path / "cache")
    for split in SPLITS:
        split.load(cache)
    (cache.folder / "folder").mkdir()
    for name in (
        "notes.txt",
        "bfs-6.safetensors",
        "model.safetensors",
        "bfs-6-0123456789abcdef.safetensors.old",
        "a.lock",
    ):
        (cache.folder / name).write_text("mine")
    return cache


@pytest.fixture
def data(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command prints of the cache."""

    def data(action: str, *args: str, status: int = 0) -> str:
        capsys.readouterr()
        command = ["data", action, *args, "--data.cache_dir", str(tmp_path / "cache")]
        if status == 0:
            run(*command)
        else:
            with pytest.raises(SystemExit) as stop:
                run(*command)
            assert stop.value.code == status
        return capsys.readouterr().out

    return data


def files(cache: Cache) -> list[Path]:
    """The files of the four splits."""
    return sorted(path for path in cache.folder.iterdir() if re.search(r"-[0-9a-f]{16}\.safetensors$", path.name))


def others(cache: Cache) -> set[str]:
    """All else that the folder holds."""
    return {path.name for path in cache.folder.iterdir()} - {path.name for path in files(cache)}


def cells(table: str) -> list[list[str]]:
    """The rows of a printed table but for its head."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if "│" in line]


def test_splits_are_listed_by_algorithm_and_size(data: Callable[..., str], cache: Cache) -> None:
    printed = data("list")
    assert [row[:4] for row in cells(printed)] == [
        ["bfs", "5", "validation", "64"],
        ["bfs", "6", "test", "32"],
        ["minimum", "5", "validation", "4096"],
        ["minimum", "6", "test", "2048"],
    ]
    assert "4 files, " in printed


def test_a_listed_file_has_its_size_and_its_date(data: Callable[..., str], cache: Cache) -> None:
    path = next(path for path in files(cache) if path.name.startswith("minimum-6"))
    os.utime(path, (0, time.mktime((2026, 1, 2, 3, 4, 0, 0, 0, -1))))
    (row,) = [row for row in cells(data("list")) if row[:2] == ["minimum", "6"]]
    assert row[4:] == [f"{path.stat().st_size / 1e6:.2f}", "2026-01-02 03:04"]


def test_a_split_that_is_no_longer_read_is_listed_as_outdated(
    data: Callable[..., str], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((cache_module, "FORMAT"), (splits, "VERSION")):
        with monkeypatch.context() as before:
            before.setattr(module, name, getattr(module, name) - 1)
            SPLITS[0].load(cache)
    assert [row[2] for row in cells(data("list")) if row[:2] == ["bfs", "5"]].count("validation, outdated") == 2


def test_a_damaged_file_is_listed_as_such(data: Callable[..., str], cache: Cache) -> None:
    files(cache)[0].write_bytes(b"")
    assert cells(data("list"))[0][:4] == ["bfs", "5", "damaged", "?"]


def test_splits_drawn_otherwise_are_told_apart(data: Callable[..., str], tmp_path: Path, clrs: Any) -> None:
    Split("bfs", 4, is_test=True, source="dm-clrs").load(Cache(tmp_path / "cache"))
    assert cells(data("list"))[0][2] == "test, dm-clrs"


@pytest.mark.parametrize("action", ["list", "verify", "clear"])
def test_a_missing_folder_is_an_empty_cache(action: str, data: Callable[..., str], tmp_path: Path) -> None:
    assert "0 files" in data(action)
    assert not (tmp_path / "cache").exists()


def test_a_sound_cache_is_verified(data: Callable[..., str], cache: Cache) -> None:
    assert data("verify").splitlines() == [f"{cache.folder}: 4 files read, 0 damaged, 0 left over"]


def test_damaged_files_are_found_by_name_and_by_exit_status(data: Callable[..., str], cache: Cache) -> None:
    first, second, third, _ = files(cache)
    first.write_bytes(first.read_bytes()[:-1])
    changed = bytearray(second.read_bytes())
    changed[-1] ^= 1
    second.write_bytes(changed)
    os.replace(third, third.with_name("bfs-9-0123456789abcdef.safetensors"))
    printed = data("verify", status=1).splitlines()
    assert {line for line in printed if line.startswith("damaged: ")} == {
        f"damaged: {path}" for path in (first, second, third.with_name("bfs-9-0123456789abcdef.safetensors"))
    }
    assert f"{cache.folder}: 4 files read, 3 damaged, 0 left over" in printed


def test_clearing_removes_the_cache_and_nothing_else(data: Callable[..., str], cache: Cache) -> None:
    before = others(cache)
    size = sum(path.stat().st_size for path in files(cache)) / 1e6
    assert data("clear") == f"{cache.folder}: 4 files and 0 left over removed, {size:.2f} MB freed\n"
    assert {path.name for path in cache.folder.iterdir()} == before


KILLED = """
import os, sys, time
from nar.datasets.splits.cache import Cache
from nar.datasets.splits.splits import Split

def wait(descriptor):
    print("writing", flush=True)
    time.sleep(600)

os.fsync = wait
Split("dfs", 5, True).load(Cache(sys.argv[1]))
"""


@pytest.mark.slow
def test_what_a_killed_process_left_is_found_and_cleared(data: Callable[..., str], cache: Cache) -> None:
    mine = others(cache)
    command = [sys.executable, "-c", KILLED, str(cache.folder)]
    with subprocess.Popen(command, cwd=cache.folder, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        used = others(cache) - mine
        assert "0 left over" in data("verify")
        data("clear")
        assert others(cache) == mine | used
        process.send_signal(signal.SIGKILL)
    kinds = sorted(name.rpartition(".")[2] for name in used)
    assert kinds == ["lock", "tmp"]
    printed = data("verify").splitlines()
    assert printed[:2] == [f"left by a process that was killed: {cache.folder / name}" for name in sorted(used)]
    assert printed[2] == f"{cache.folder}: 0 files read, 0 damaged, 2 left over"
    assert "0 files and 2 left over removed" in data("clear")
    assert others(cache) == mine


def test_verifying_leaves_a_lock_to_its_holder(data: Callable[..., str], cache: Cache) -> None:
    lock = Path(f"{files(cache)[0]}.lock")
    with FileLock(lock):
        assert "0 left over" in data("verify")
    assert "1 left over" in data("verify")
    assert lock.exists()


@pytest.mark.slow
def test_splits_are_generated_ahead_and_then_read(data: Callable[..., str], tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    printed = data("generate", *DATA, "--data.num_workers", "2")
    assert f"{cache.folder}: has 4 of 4 splits" in printed
    assert ": 4 of 4" in printed
    assert all(split.is_in(cache) for split in SPLITS)
    assert len(files(cache)) == 4


def test_what_is_there_is_not_generated_again(data: Callable[..., str], cache: Cache) -> None:
    before = [path.stat().st_mtime_ns for path in files(cache)]
    assert data("generate", *DATA) == f"{cache.folder}: has 4 of 4 splits\n"
    assert [path.stat().st_mtime_ns for path in files(cache)] == before


@pytest.mark.slow
def test_what_is_generated_ahead_is_what_a_run_reads(
    data: Callable[..., str], run: Run, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data("generate", "--data.train_sizes", "[4,5]", "--data.test_sizes", "[6]")
    before = {path: path.stat().st_mtime_ns for path in files(Cache(tmp_path / "cache"))}
    run("fit", *small)
    run("test", "--ckpt_path", "run/best.ckpt", "--data.test_sizes", "[6]")
    assert {path: path.stat().st_mtime_ns for path in files(Cache(tmp_path / "cache"))} == before
    assert "generat" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["list", "--data.cache_dir", "/dev/full"], "cannot use the cache folder /dev/full: Not a directory"),
        (["verify", "--data.cache_dir", "/dev/null/x"], "cannot use the cache folder /dev/null/x: Not a directory"),
        (["clear", "--data.cache_dir", "/dev/null/x"], "cannot use the cache folder /dev/null/x: Not a directory"),
        (["generate", "--data.cache_dir", "/proc"], "cannot use the cache folder /proc: No such file or directory"),
        (
            ["generate", "--data.cache_dir", "/dev/null/x", "--data.num_workers", "0"],
            "cannot use the cache folder /dev/null/x: Not a directory",
        ),
        (["generate", "--data.algorithms", "bsf"], "unknown algorithm bsf; known are articulation_points"),
        (["generate", "--data.test_sizes", "[1]"], "bfs needs at least 2 nodes, given 1"),
        (
            ["generate", "--data.test_graph_args", "{k: 3}"],
            "expected test_graphs, the family of test_graph_args, given {'k': 3} alone",
        ),
        (["generate", "--data.batch_size", "3"], "unrecognized arguments: --data.batch_size"),
        (["list", "--data.algorithms", "bfs"], "unrecognized arguments: --data.algorithms"),
        (["sort"], "nar data expects a command: list, verify, clear, generate; given sort"),
        ([], "nar data expects a command: list, verify, clear, generate; given none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_one_line(
    args: list[str], expected: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run("data", *args)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nar: error: ")
    assert expected in line


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", ["0", "2"])
def test_a_disk_that_fills_up_is_said_in_one_line(
    num_workers: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(SystemExit):
        run("data", "generate", *DATA, "--data.cache_dir", str(tmp_path / "cache"), "--data.num_workers", num_workers)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nar: error: ")]
    assert f"cannot use the cache folder {tmp_path / 'cache'}: No space left on device; make room" in line
    assert caplog.records == []
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.slow
def test_training_and_testing_go_on_without_a_cache(
    run: Run, small: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run("fit", *small, "--trainer.default_root_dir", "with", "--data.cache_dir", str(tmp_path / "cache"))
    (tmp_path / "file").touch()
    run("fit", *small, "--trainer.default_root_dir", "without", "--data.cache_dir", str(tmp_path / "file" / "cache"))
    with_cache, without = (
        re.findall(r"[\d.]+", (tmp_path / name / "logs" / "version_0" / "metrics.csv").read_text())
        for name in ("with", "without")
    )
    assert with_cache == without
    (record,) = [record for record in caplog.records if record.name == cache_module.__name__]
    assert record.getMessage().startswith("going on without a cache: cannot use the cache folder ")
