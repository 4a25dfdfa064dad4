"""What other systems than Linux lack is not needed."""

import os
import subprocess
import sys
from pathlib import Path

import other_system
import pytest

SCRIPT = """
from other_system import plant

if __name__ == "__main__":
    plant()
    from nar.datasets import CLRS30, sample
    from nar.datasets.engine import memory
    import nar.cli
    from nar.ops.process import keep_freed_memory

    memory.UNCHECKED_BYTES = 0  # ask now
    print(sample("bfs", num_nodes=5, num_samples=2, seed=0).outputs["pi"].shape)
    keep_freed_memory()
    settings = {"train_sizes": [4, 5], "test_sizes": [4], "batch_size": 2, "cache_dir": "cache"}
    CLRS30(["bfs", "dfs"], **settings, num_workers=0).prepare_data()
    batch = next(iter(CLRS30("bfs", **settings, num_workers=1).train_dataloader()))
    print(batch.algorithm, batch.feedback.features.inputs["adj"].shape)
    nar.cli.main(["data", "verify", "--data.cache_dir", "cache"])
"""


@pytest.mark.slow
def test_data_are_drawn_kept_and_sent_by_workers_without_what_linux_alone_has(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "bfs-4-0123456789abcdef.safetensors.lock").touch()  # left over
    command = [sys.executable, "-W", "error::ImportWarning", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(Path(other_system.__file__).parent)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "(2, 5)" in result.stdout
    assert "bfs torch.Size([2, 4, 4])" in result.stdout
    assert "2 files read, 0 damaged" in result.stdout
