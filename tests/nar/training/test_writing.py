import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from nar.errors import UserError
from nar.files import LEFT_OVER, lock_folder, release, remove_leftovers, replacing, replacing_text

WRITERS = Path(__file__).parents[2] / "support" / "writers.py"
HOLDER = """
import sys, time
from pathlib import Path
from nar.files import lock_folder
lock = lock_folder(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_of_twenty_writers_that_are_killed_each_leaves_a_whole_checkpoint_and_so_does_a_full_disk(
    tmp_path: Path,
) -> None:
    other_disk = {"TMPDIR": "/dev/shm"} if os.path.isdir("/dev/shm") else {}
    command = [sys.executable, str(WRITERS), str(tmp_path)]
    result = subprocess.run(command, env={**os.environ, **other_disk}, capture_output=True, text=True, check=True)
    *versions, num_left, refusal, old, names = result.stdout.splitlines()
    assert len(versions) == 20
    assert not set(versions) & {"damaged", "mixed"}
    assert int(num_left) > 0  # some were killed while they wrote
    assert refusal == f"UserError: cannot write {tmp_path / 'last.ckpt'}: File too large"
    assert old == versions[-1] or old == "0"
    assert names == "last.ckpt"


def test_what_is_written_is_on_the_disk_before_it_has_its_name_and_then_its_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[bool, bool]] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append((os.path.isdir(f"/proc/self/fd/{descriptor}"), (tmp_path / "file").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with replacing(tmp_path / "file") as file:
        file.write(b"new")
    assert synced == [(False, False), (True, True)]


def test_a_disk_that_is_full_when_the_file_is_sent_there_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "table.csv").write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(UserError, match=r"^cannot write .*table\.csv: No space left on device$"),
        replacing_text(tmp_path / "table.csv") as file,
    ):
        file.write("new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_text_is_written_with_the_ends_of_lines_that_it_has(tmp_path: Path) -> None:
    with replacing_text(tmp_path / "file") as file:
        file.write("ü\r\nx\n")
    assert (tmp_path / "file").read_bytes() == "ü\r\nx\n".encode()


def test_what_killed_writers_left_long_ago_is_removed_by_the_next_and_nothing_else_is(tmp_path: Path) -> None:
    left, recent, others = tmp_path / "a.csv01234567.tmp", tmp_path / "a.csv89abcdef.tmp", tmp_path / "a.csv.tmp"
    for path in (left, recent, others):
        path.touch()
    long_ago = time.time() - 2 * LEFT_OVER
    for path in (left, others):
        os.utime(path, (long_ago, long_ago))
    with replacing(tmp_path / "a.csv"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", recent.name, others.name}
    remove_leftovers(tmp_path / "a.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", others.name}


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which has locked the folder."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_is_one_process_s_until_that_is_killed(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(UserError, match=f"^another run is writing into {tmp_path}: wait for its end, or choose"):
        lock_folder(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    lock = lock_folder(tmp_path)
    assert lock is not None
    release(lock)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_a_run_goes_on_after_a_warning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    assert lock_folder(tmp_path) is None
    assert f"{tmp_path} is on a file system without locks" in caplog.text


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"^cannot write into {tmp_path / 'file'}: File exists$"):
        lock_folder(tmp_path / "file")
