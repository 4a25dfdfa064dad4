"""Make ``docs/images/view.png``, the picture in README of a page of ``nar view``.

    nar fit --config scripts/configs/quickstart.yaml --data.algorithms dijkstra --model.processor PGN \\
        --model.processor.hidden_dim 64 --trainer.max_steps 1000 --trainer.default_root_dir runs/pictures
    python scripts/pictures.py --ckpt_path runs/pictures/best.ckpt

The page is opened in Chromium, which has to be installed, at the step and the probe asked for.
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from nar.training.checkpoint import load_reasoner
from nar.viewer import show

OUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "view.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NUM_COLOURS = 128


def picture(page: Path, fragment: str, out: Path, width: int, height: int) -> None:
    """Write what a browser shows of a page, with few colours, which take little room."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit("no browser to open pages in: install Chromium (on Debian, apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        screenshot = Path(folder) / "screenshot.png"
        command = [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}",
        ]
        command += [f"--window-size={width},{height}", "--virtual-time-budget=5000", f"--screenshot={screenshot}"]
        subprocess.run([*command, f"{page.resolve().as_uri()}#{fragment}"], check=True, capture_output=True)
        with Image.open(screenshot) as image:
            out.parent.mkdir(parents=True, exist_ok=True)
            image.convert("RGB").quantize(NUM_COLOURS).save(out, optimize=True)


def main() -> None:
    """Draw a page and take its picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt_path", required=True)
    parser.add_argument("--algorithm", default="dijkstra")
    parser.add_argument("--num_nodes", type=int, default=16)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--step", type=int, default=7)
    parser.add_argument("--probe", default="")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--height", type=int, default=800)
    given = parser.parse_args()
    page = show(load_reasoner(given.ckpt_path), given.algorithm, num_nodes=given.num_nodes, seed=given.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = page.save(Path(folder) / "view.html")
        picture(path, f"step={given.step}&probe={given.probe}", given.out, given.width, given.height)
    print(f"written: {given.out}")


if __name__ == "__main__":
    main()
