"""Files that are what their names say: nothing that could be waited for without end is opened for reading."""

import errno
import os
import stat
from pathlib import Path


def check_file(path: str | Path) -> None:
    """Raise an OSError with the reason if there is no file to read, as where there is a folder, a pipe or a device."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
