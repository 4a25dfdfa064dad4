"""Make ``nar/pretrained``: of each algorithm the run of a campaign that validated best, with a card.

    python scripts/pretrained.py runs/clrs30 --recipe scripts/configs/clrs30_averaged.yaml

The campaign is a folder of ``nar sweep``. Scores are those of the weights that are written, after they were rounded, on
official test splits of 16, 32 and 64 nodes and on 32 instances of 128. What is there of other algorithms stays.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import nar
from nar.errors import UserError
from nar.evaluation import evaluate
from nar.evaluation.report import rows_of
from nar.training.checkpoint import config_of, read_checkpoint
from nar.training.folders import in_half_precision, list_pretrained, write_folder

TESTS = {(16, 32, 64): None, (128,): 32}
"""Sizes of test splits, and how many of their instances are taken: of some algorithms there are 2,048, for hours."""
OUT = Path(nar.__file__).parent / "pretrained"
MOST_BYTES = 30 * 2**20


def best_runs(campaign: Path) -> dict[str, tuple[Path, float]]:
    """The checkpoint of each algorithm with the best score in validation, and that score."""
    best: dict[str, tuple[Path, float]] = {}
    for path in sorted(campaign.glob("*/*/seed*/best.ckpt")):
        algorithm, score = path.parent.parent.name, validation_score(read_checkpoint(path))
        if algorithm not in best or score > best[algorithm][1]:
            best[algorithm] = (path, score)
    if not best:
        raise UserError(f"{campaign} has no checkpoints: expected a folder of nar sweep")
    return best


def flags_of(campaign: Path, checkpoint: Path) -> list[str]:
    """The flags besides its configurations that a campaign gave to the run of a checkpoint."""
    variants = json.loads((campaign / "campaign.json").read_text(encoding="utf-8"))
    flags = variants[checkpoint.parents[2].name]
    return [flag for before, flag in pairwise(["", *flags]) if "--config" not in (before, flag)]


def validation_score(checkpoint: dict[str, Any]) -> float:
    """The score by which a checkpoint was chosen as the best of its run."""
    scores = [
        float(state["best_model_score"])
        for state in checkpoint["callbacks"].values()
        if state.get("monitor") == "val/score" and state.get("best_model_score") is not None
    ]
    return max(scores)


def scores_of(folder: Path, cache_dir: str) -> Iterator[tuple[int, dict[str, float | int]]]:
    """The score of a reasoner at each size, with its interval."""
    for sizes, num_samples in TESTS.items():
        with tempfile.TemporaryDirectory() as scratch:
            evaluation = evaluate([folder], scratch, sizes=sizes, num_samples=num_samples, cache_dir=cache_dir)
        for unit, marks in evaluation.marks.items():
            for row in rows_of(evaluation.specs, unit, marks):
                if row.kind == "mean":
                    score, low, high = (round(x, 4) for x in row.estimate)
                    yield unit.size, {"score": score, "low": low, "high": high, "num_samples": row.num_samples}


def main() -> None:
    """Write the folders, and say what each scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", type=Path, help="A folder of nar sweep.")
    parser.add_argument("--recipe", required=True, help="The configuration that the campaign was started with.")
    parser.add_argument("--commit", help="At which it ran; that of this checkout if not given.")
    parser.add_argument("--algorithms", nargs="*", help="Of which to write the best; all if not given.")
    parser.add_argument("--cache_dir", default="~/.cache/nar", help="Folder of the cache of splits.")
    given = parser.parse_args()
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    commit = given.commit or head.stdout.strip()
    for algorithm, (path, score) in best_runs(given.campaign).items():
        if given.algorithms and algorithm not in given.algorithms:
            continue
        checkpoint = read_checkpoint(path)
        config, seed = config_of(checkpoint), int(path.parent.name.removeprefix("seed"))
        weights, folder = in_half_precision(checkpoint["state_dict"]), OUT / algorithm
        steps = checkpoint["global_step"]
        run_steps = json.loads((path.parent / "run.json").read_text(encoding="utf-8"))["steps"]
        facts: dict[str, Any] = {
            "algorithm": algorithm,
            "recipe": given.recipe,
            "steps": steps,
            "run": f"{run_steps} steps, the best by validation taken",
            "seed": seed,
            "commit": commit,
            "precision": "float16, read as float32",
            "validation": round(score, 4),
            "command": f"nar sweep --config {given.recipe} --data.algorithms [{algorithm}] --seeds {seed + 1} "
            + shlex.join(flags_of(given.campaign, path)),
        }
        with tempfile.TemporaryDirectory() as scratch:
            write_folder(scratch, config, weights, facts=facts)
            facts["scores"] = dict(scores_of(Path(scratch), given.cache_dir))
        shutil.rmtree(folder, ignore_errors=True)
        write_folder(folder, config, weights, facts=facts)
        reached = ", ".join(f"{found['score']:.3f} at {size}" for size, found in facts["scores"].items())
        print(f"{algorithm}: seed {seed} after {steps} steps, {reached}")
    num_bytes = sum(path.stat().st_size for path in OUT.rglob("*") if path.is_file())
    print(f"{len(list_pretrained())} reasoners, {num_bytes / 2**20:.1f} MiB")
    if num_bytes > MOST_BYTES:
        raise SystemExit(f"expected at most {MOST_BYTES / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
