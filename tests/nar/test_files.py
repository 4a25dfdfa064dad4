"""What is refused before it is read."""

import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nar.cli.answers import read_baseline
from nar.errors import UserError
from nar.files import check_archive, check_file, newest, unused
from nar.noise import read_directions
from nar.training.checkpoint import load_reasoner, read_checkpoint
from nar.training.haiku import read_pickle


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def socket_file(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(path.name)


def folder(path: Path) -> None:
    path.mkdir()


def nothing(path: Path) -> None:
    pass


NO_FILES = {
    pipe: "Not a regular file",
    endless: "Not a regular file",
    socket_file: "Not a regular file",
    folder: "Is a directory",
    nothing: "No such file or directory",
}


@pytest.mark.parametrize("made", NO_FILES)
@pytest.mark.parametrize("read", [read_checkpoint, load_reasoner, read_pickle, read_directions, read_baseline])
def test_what_is_no_file_is_refused_and_not_waited_for(
    read: Callable[[str], Any], made: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    made(tmp_path / "given")
    with pytest.raises(OSError, match=NO_FILES[made]):
        check_file(tmp_path / "given")
    with pytest.raises((UserError, ValueError), match="given"):
        read(str(tmp_path / "given"))


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A checkpoint of this library, as far as it is looked at here."""
    config: dict[str, Any] = {"model": {}, "data": {}, "specs": {}}
    torch.save({"nar_config": config, "state_dict": {"weight": torch.zeros(1000)}}, tmp_path / "sound.ckpt")
    return tmp_path / "sound.ckpt"


def changed(sound: Path, change: Callable[[str, bytes], bytes] = lambda name, data: data, **settings: Any) -> Path:
    """The same archive with other members."""
    path = sound.with_name("changed.ckpt")
    with zipfile.ZipFile(sound) as archive, zipfile.ZipFile(path, "w", **settings) as other:
        for name in archive.namelist():
            other.writestr(name, change(name, archive.read(name)))
    return path


def deflated(sound: Path) -> Path:
    return changed(sound, compression=zipfile.ZIP_DEFLATED)


def with_one_compressed(sound: Path) -> Path:
    with zipfile.ZipFile(path := changed(sound), "a") as archive:
        archive.writestr("sound/data/1", bytes(10**6), zipfile.ZIP_LZMA)
    return path


def naming_the_same_data(sound: Path) -> Path:
    """An archive whose members are all at one place."""
    path = changed(sound)
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(100):
            archive.writestr(f"sound/data/{number + 1}", bytes(8))
        (first,) = (member for member in archive.infolist() if member.filename == "sound/data/0")
        for member in archive.infolist()[-100:]:
            member.header_offset, member.CRC = first.header_offset, first.CRC
            member.file_size = member.compress_size = first.file_size
    return path


def asking_for_bytes(sound: Path) -> Path:
    hostile = b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."
    return changed(sound, lambda name, data: hostile if name.endswith("data.pkl") else data)


def of_another_format(sound: Path) -> Path:
    """As torch wrote files before 1.6: pickles, of any size when read."""
    torch.save({"nar_config": {}}, sound, _use_new_zipfile_serialization=False)
    return sound


def cut(sound: Path) -> Path:
    sound.write_bytes(sound.read_bytes()[:-10])
    return sound


@pytest.mark.parametrize(
    "forged", [deflated, with_one_compressed, naming_the_same_data, asking_for_bytes, of_another_format, cut]
)
def test_an_archive_that_is_more_than_its_file_is_refused_before_it_is_read(
    forged: Callable[[Path], Path], sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "load", lambda *args, **settings: pytest.fail("it has been read"))
    with pytest.raises(UserError, match="is damaged or no checkpoint at all"):
        read_checkpoint(forged(sound))


def test_an_archive_of_torch_is_none_of_these(sound: Path) -> None:
    for path in (sound, changed(sound)):
        check_archive(path)
        assert len(read_checkpoint(path)["state_dict"]["weight"]) == 1000


def test_files_of_a_name_get_the_first_number_that_none_of_them_has(tmp_path: Path) -> None:
    def names() -> list[str]:
        return [path.name for path in unused(tmp_path, "scores", ("csv", "png"))]

    assert names() == ["scores.csv", "scores.png"]
    (tmp_path / "scores.png").touch()
    assert names() == ["scores_2.csv", "scores_2.png"]
    (tmp_path / "scores_2.csv").touch()
    (tmp_path / "scores_4.csv").touch()
    assert names() == ["scores_3.csv", "scores_3.png"]


def test_the_newest_file_is_the_one_that_was_written_last(tmp_path: Path) -> None:
    for time, name in ((3, "a.csv"), (5, "a_2.csv"), (9, "b.csv"), (4, "a_3.csv")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time, time))
    assert newest(tmp_path, "a*.csv").name == "a_2.csv"
    with pytest.raises(FileNotFoundError, match="c"):
        newest(tmp_path, "c*.csv")
