"""Feedback on disk."""

import errno
import logging
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from nar.batch import Features, Feedback, NumpyArray
from nar.datasets import CLRS30
from nar.datasets.splits import cache as cache_module
from nar.datasets.splits.cache import Cache, CacheError, read_key
from nar.datasets.splits.upkeep import leftovers
from nar.errors import UserError

KEY = {"algorithm": "bfs", "num_nodes": 3, "seed": 2, "p": (0.1, 0.5)}


def feedback() -> Feedback[NumpyArray]:
    """Arrays of several types, also strided ones, under names that are not in alphabetical order."""
    rng = np.random.RandomState(0)
    inputs = {"pos": rng.uniform(size=(2, 3)), "adj": np.arange(18).reshape(3, 3, 2).T, "s": np.eye(3)[:2] == 1}
    hints = {
        "pi": rng.randint(3, size=(4, 2, 3)).astype(np.int32),
        "d": rng.normal(size=(4, 2, 3)).astype(np.float32),
        "u": rng.randint(3, size=(2, 6)).astype(np.int16)[:, :4].swapaxes(0, 1),  # as trajectories have them
        "mark": rng.randint(-1, 2, size=(2, 6, 3)).astype(np.int8)[:, :4].swapaxes(0, 1),
    }
    return Feedback(Features(inputs, hints, np.array([4.0, 2.0])), {"z": np.full((2, 3), -0.0), "a": np.ones((2, 1))})


class Generator:
    """Makes the feedback, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Feedback[NumpyArray]:
        self.calls += 1
        return feedback()


def never() -> Feedback[NumpyArray]:
    """What is not to be generated."""
    raise AssertionError("generated, though it is in the cache")


def bits(feedback: Feedback[NumpyArray]) -> list[Any]:
    """All that tells one feedback from another, in order."""
    (inputs, hints, lengths), outputs = feedback
    stages = [inputs, hints, {"lengths": lengths}, outputs]
    return [[(name, x.dtype, x.shape, x.tobytes()) for name, x in stage.items()] for stage in stages]


def test_what_is_read_equals_what_was_generated_bit_for_bit(tmp_path: Path) -> None:
    Cache(tmp_path).get(KEY, feedback)
    assert bits(Cache(tmp_path).get(KEY, never)) == bits(feedback())


def test_what_is_generated_is_returned_as_it_is(tmp_path: Path) -> None:
    assert bits(Cache(tmp_path).get(KEY, feedback)) == bits(feedback())


def test_the_folder_is_created(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "new" / "folder")
    cache.get(KEY, feedback)
    assert cache.path(KEY).parent == tmp_path / "new" / "folder"
    assert cache.path(KEY).is_file()


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Cache("~/splits").folder == tmp_path / "splits"


def damaged(content: bytes, damage: str) -> bytes:
    """The content of a file after an accident."""
    header = 8 + int.from_bytes(content[:8], "little")  # of a safetensors file: its length, JSON, then the data
    at = {
        "length": 0,
        "header": 9,
        "checksum": content.index(b"checksum") + 15,
        "data": header,
        "end": len(content) - 1,
    }
    match damage:
        case "empty":
            return b""
        case "truncated":
            return content[:-1]
        case "truncated header":
            return content[: header // 2]
        case "longer":
            return content + b"\0"
        case "another's":
            return b"this is no safetensors file"
        case _:
            i = at[damage]
            return content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :]


every_damage = pytest.mark.parametrize(
    "damage",
    ["empty", "truncated", "truncated header", "longer", "another's", "length", "header", "checksum", "data", "end"],
)


@every_damage
def test_a_damaged_file_is_generated_again(damage: str, tmp_path: Path) -> None:
    cache, generate = Cache(tmp_path), Generator()
    cache.get(KEY, feedback)
    cache.path(KEY).write_bytes(damaged(cache.path(KEY).read_bytes(), damage))
    assert bits(cache.get(KEY, generate)) == bits(feedback())
    assert generate.calls == 1
    assert bits(cache.get(KEY, never)) == bits(feedback())


def test_a_damaged_file_is_warned_of_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(tmp_path)
    cache.get(KEY, feedback)
    cache.path(KEY).write_bytes(b"")
    cache.get(KEY, feedback)
    assert [(record.levelname, str(cache.path(KEY)) in record.getMessage()) for record in caplog.records] == [
        ("WARNING", True)
    ]


def test_a_sound_file_is_not_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        Cache(tmp_path).get(KEY, feedback)
    assert caplog.records == []


def fail_with(error: BaseException) -> Any:
    """A function that cannot do its work."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_failed_write_leaves_nothing(
    function: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, function, fail_with(error))
    with pytest.raises((CacheError, KeyboardInterrupt)):
        Cache(tmp_path).fill(KEY, feedback)
    assert list(tmp_path.iterdir()) == []


def test_a_successful_write_leaves_the_file_alone(tmp_path: Path) -> None:
    Cache(tmp_path).get(KEY, feedback)
    assert list(tmp_path.iterdir()) == [Cache(tmp_path).path(KEY)]


def test_a_file_has_its_name_only_once_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    existed: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: existed.append(cache.path(KEY).exists()))
    cache.get(KEY, feedback)
    assert existed == [False, True]  # of the file, and of the folder that it then is in


def test_after_a_failed_write_the_next_one_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", fail_with(OSError(errno.EIO, "Input/output error")))
        Cache(tmp_path).get(KEY, feedback)
    Cache(tmp_path).get(KEY, feedback)
    assert bits(Cache(tmp_path).get(KEY, never)) == bits(feedback())


def test_a_failed_generation_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dm-clrs"):
        Cache(tmp_path).get(KEY, fail_with(UserError("no dm-clrs")))
    assert not Cache(tmp_path).path(KEY).exists()


def below_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "file").touch()
    return tmp_path / "file" / "folder"


def in_place_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "file").touch()
    return tmp_path / "file"


def in_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cache_module, "_warned_of", set())
    return Path("/proc")


def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As far as root, whom permissions do not stop, can have it: no file can be made there."""
    monkeypatch.setattr(tempfile, "TemporaryFile", fail_with(OSError(errno.EROFS, os.strerror(errno.EROFS))))
    return tmp_path


def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which files can be made and not filled."""

    monkeypatch.setattr(os, "fsync", fail_with(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    return tmp_path


every_unusable_folder = pytest.mark.parametrize(
    ("folder", "reason"),
    [
        (below_a_file, "Not a directory"),
        (in_place_of_a_folder, "File exists"),
        (in_proc, "No such file or directory"),
        (read_only, "Read-only file system"),
        (full, "No space left on device"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)


@every_unusable_folder
def test_without_a_usable_folder_what_is_generated_is_returned_after_a_warning_of_one_line(
    folder: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(folder(tmp_path, monkeypatch))
    assert bits(cache.get(KEY, feedback)) == bits(feedback())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"going on without a cache: cannot use the cache folder {cache.folder}: {reason}; "
        "make room or name a writable one with --data.cache_dir"
    )


@every_unusable_folder
def test_who_wants_a_folder_filled_is_told_that_it_cannot_be_used(
    folder: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(folder(tmp_path, monkeypatch))
    with pytest.raises(CacheError, match=f"^cannot use the cache folder {cache.folder}: {reason}; .*--data.cache_dir$"):
        cache.fill(KEY, feedback)
    assert caplog.records == []


@every_unusable_folder
def test_an_unusable_folder_is_warned_of_once_in_a_process(
    folder: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder(tmp_path, monkeypatch)
    for seed in range(3):
        Cache(path).get({**KEY, "seed": seed}, feedback)
    assert len(caplog.records) == 1


@every_unusable_folder
def test_what_could_not_be_written_is_not_generated_again(
    folder: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, generate = Cache(folder(tmp_path, monkeypatch)), Generator()
    with pytest.raises(CacheError):
        cache.fill(KEY, generate)
    for _ in range(2):
        assert bits(cache.get(KEY, generate)) == bits(feedback())
    assert generate.calls == 1
    assert cache.has(KEY)


def test_what_is_in_a_read_only_folder_is_read_without_a_lock_or_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Cache(tmp_path).get(KEY, feedback)
    read_only(tmp_path, monkeypatch)
    assert bits(Cache(tmp_path).get(KEY, never)) == bits(feedback())
    assert caplog.records == []


def test_what_is_damaged_in_a_read_only_folder_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Cache(tmp_path).get(KEY, feedback)
    Cache(tmp_path).path(KEY).write_bytes(b"")
    read_only(tmp_path, monkeypatch)
    assert bits(Cache(tmp_path).get(KEY, feedback)) == bits(feedback())
    assert ["Read-only file system" in record.getMessage() for record in caplog.records] == [True]


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def socket_file(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("made", [pipe, endless, socket_file, dangling])
def test_what_is_no_file_is_not_waited_for_and_replaced(
    made: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, generate = Cache(tmp_path), Generator()
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    made(Path(cache.path(KEY).name))
    assert read_key(cache.path(KEY)) is None
    assert bits(cache.get(KEY, generate)) == bits(feedback())
    assert generate.calls == 1
    assert bits(cache.get(KEY, never)) == bits(feedback())


def test_a_pipe_in_place_of_a_lock_is_not_waited_for(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    left = Path(f"{cache.path(KEY)}abcdefgh.tmp")
    left.touch()
    os.mkfifo(f"{cache.path(KEY)}.lock")
    leftovers(cache)
    assert bits(cache.get(KEY, feedback)) == bits(feedback())


FORGED_ORDERS = ["[" * 10**5, "{}", "[1]", '["inputs"]', '["nowhere/x"]', '["inputs/x"]', "0", '["a/b/c"]']


@pytest.mark.parametrize("order", FORGED_ORDERS, ids=range(len(FORGED_ORDERS)))
def test_a_file_with_a_right_sum_and_nothing_else_is_generated_again(order: str, tmp_path: Path) -> None:
    cache, generate = Cache(tmp_path), Generator()
    metadata = {"key": cache_module._canonical(KEY), "order": order, "checksum": cache_module._checksum(order, {})}
    save_file({}, cache.path(KEY), metadata)
    assert bits(cache.get(KEY, generate)) == bits(feedback())
    assert generate.calls == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_numbers_that_numpy_has_not_are_generated_again(dtype: torch.dtype, tmp_path: Path) -> None:
    cache, generate = Cache(tmp_path), Generator()
    save_torch_file({"lengths": torch.ones(2, dtype=dtype)}, cache.path(KEY), {"key": cache_module._canonical(KEY)})
    cache.get(KEY, generate)
    assert generate.calls == 1


def test_a_folder_under_the_name_of_a_file_is_gone_on_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Cache(tmp_path).path(KEY).mkdir()
    assert bits(Cache(tmp_path).get(KEY, feedback)) == bits(feedback())
    assert "Is a directory" in caplog.records[-1].getMessage()


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
@every_unusable_folder
def test_the_data_of_a_run_are_the_same_without_a_cache(
    folder: Any,
    reason: str,
    num_workers: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sizes: dict[str, Any] = {"train_sizes": [4], "eval_batch_size": 64, "num_workers": num_workers}
    (with_cache,) = CLRS30("bfs", **sizes, cache_dir=str(tmp_path / "usable")).val_dataloader()
    data = CLRS30("bfs", **sizes, cache_dir=str(folder(tmp_path, monkeypatch)))
    data.prepare_data()
    (batch,) = data.val_dataloader()
    assert len(caplog.records) == 1
    ours, theirs = (of.feedback.features.inputs | of.feedback.outputs for of in (batch, with_cache))
    assert all(ours[name].equal(theirs[name]) for name in theirs)


def test_a_file_under_another_ones_name_is_damaged(tmp_path: Path) -> None:
    cache, generate = Cache(tmp_path), Generator()
    other = {**KEY, "seed": 3}
    cache.get(other, feedback)
    cache.path(other).rename(cache.path(KEY))
    cache.get(KEY, generate)
    assert generate.calls == 1


def test_a_file_of_an_older_format_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = Generator()
    with monkeypatch.context() as before:
        before.setattr(cache_module, "FORMAT", cache_module.FORMAT - 1)
        Cache(tmp_path).get(KEY, feedback)
    Cache(tmp_path).get(KEY, generate)
    assert generate.calls == 1


@pytest.mark.parametrize(
    "change", [{"algorithm": "dfs"}, {"num_nodes": 4}, {"seed": 3}, {"p": (0.1,)}, {"another": None}]
)
def test_another_key_is_another_file(change: dict[str, Any], tmp_path: Path) -> None:
    assert Cache(tmp_path).path({**KEY, **change}) != Cache(tmp_path).path(KEY)


def test_the_order_of_a_key_does_not_matter(tmp_path: Path) -> None:
    assert Cache(tmp_path).path(dict(reversed(KEY.items()))) == Cache(tmp_path).path(KEY)


SECOND_PROCESS = """
import sys, time
from pathlib import Path
import numpy as np
from nar.batch import Features, Feedback
from nar.datasets.splits.cache import Cache

folder, own_name = Path(sys.argv[1]), sys.argv[2]

def generate():
    with open(folder / "calls", "a") as file:
        file.write(own_name)
    time.sleep(1)
    return Feedback(Features({"pos": np.array([[float(own_name)]])}, {}, np.ones(1)), {})

(folder / f"ready-{own_name}").touch()
while len(list(folder.glob("ready-*"))) < 2:
    time.sleep(0.01)
feedback = Cache(folder / "cache").get({"algorithm": "bfs", "num_nodes": 1}, generate)
print(feedback.features.inputs["pos"].item())
"""


@pytest.mark.slow
def test_of_two_processes_that_ask_at_once_one_generates_for_both(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", SECOND_PROCESS, str(tmp_path), name] for name in ("1", "2")]
    processes = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for command in commands]
    results = [process.communicate(timeout=120)[0].strip() for process in processes]
    generated = (tmp_path / "calls").read_text()
    assert results == [f"{generated}.0"] * 2


def test_a_failure_to_generate_is_not_blamed_on_the_folder(tmp_path: Path) -> None:
    def generate() -> Feedback[NumpyArray]:
        raise FileNotFoundError("libfoo.so")

    with pytest.raises(FileNotFoundError, match=r"libfoo\.so"):
        Cache(tmp_path).get({"algorithm": "bfs", "num_nodes": 4}, generate)
