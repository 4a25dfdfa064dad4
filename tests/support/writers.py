"""Processes that write one checkpoint again and again, each killed at some moment; run with a folder.

Prints, of each kill, what the file then holds: the number of its version, or that it is damaged.
"""

import os
import random
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from nar.errors import UserError
from nar.files import remove_leftovers
from nar.training.checkpoint import WholeFiles

SIZE = 300_000
KILLS = 20


def content(version: int) -> dict[str, Any]:
    return {"version": version, "weights": torch.full((SIZE,), float(version))}


def held(path: Path) -> str:
    """What a file holds, read as a run that goes on would."""
    try:
        found = WholeFiles().load_checkpoint(path, weights_only=True)
    except UserError:
        return "damaged"
    return str(found["version"]) if (found["weights"] == found["version"]).all() else "mixed"


def kill_writers(writer: TorchCheckpointIO, path: Path) -> None:
    moments = random.Random(0)
    writer.save_checkpoint(content(0), path)
    for _ in range(KILLS):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            version = 1
            while True:
                writer.save_checkpoint(content(version), path)
                os.write(write, b".")
                version += 1
        os.read(read, 1)
        time.sleep(moments.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print(held(path))


def fill_disk(writer: TorchCheckpointIO, path: Path) -> None:
    """Write where there is no room; print what happens and what is then there."""
    writer.save_checkpoint(content(0), path)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE, resource.RLIM_INFINITY))
    try:
        writer.save_checkpoint(content(1), path)
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
    print(held(path))


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1]) / "last.ckpt"
    io = TorchCheckpointIO() if sys.argv[2:] == ["lightning"] else WholeFiles()
    kill_writers(io, target)
    print(len(list(target.parent.iterdir())) - 1)
    remove_leftovers(target)
    fill_disk(io, target)
    print(" ".join(sorted(path.name for path in target.parent.iterdir())))
