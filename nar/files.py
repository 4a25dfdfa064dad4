"""Files that are what they are taken for, as far as it shows before they are read."""

import errno
import os
import stat
import zipfile
from pathlib import Path


def check_file(path: str | Path) -> None:
    """Raise an OSError with the reason if there is no file to read, as where there is a folder, a pipe or a device."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))


def check_archive(path: str | Path) -> None:
    """Raise an exception, of any kind, if what torch makes of an archive is not as large as the file.

    ``torch.save`` compresses nothing and writes no ``bytearray``, of which a pickle may ask for any number of bytes.
    """
    check_file(path)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("compressed")
        if sum(member.file_size for member in members) > os.path.getsize(path):
            raise ValueError("members that are larger than the file")
        pickles = [member for member in members if member.filename.endswith("data.pkl")]
        if any(b"\nbytearray\n" in archive.read(member) for member in pickles):
            raise ValueError("bytes out of nothing")
