#!/usr/bin/env python3
# fmt: off
#SBATCH --array=0-89
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --output=slurm-%A_%a.txt
# fmt: on
"""Train a model for every algorithm and seed in one job array of SLURM.

    sbatch slurm_array.py
    sbatch --array=0-29 slurm_array.py --model.processor PGN

SLURM reads the comments above, and runs this file once for every number of the array: numbers 0 to 29 are the 30
algorithms with seed 0, the next 30 are those with seed 1. A job whose time runs out saves its state, and is queued
again. Arguments go to `nar fit`. Without SLURM, one model: `SLURM_ARRAY_TASK_ID=3 python slurm_array.py`.
"""

import os
import sys

from nar import ALGORITHMS
from nar.cli import main

if __name__ == "__main__":
    task = int(os.environ["SLURM_ARRAY_TASK_ID"])
    seed, place = divmod(task, len(ALGORITHMS))
    algorithm = list(ALGORITHMS)[place]
    folder = f"runs/array/{algorithm}/seed{seed}"
    print(f"task {task}: {algorithm} with seed {seed} in {folder}", flush=True)
    which = ["--data.algorithms", algorithm, "--seed_everything", str(seed), "--trainer.default_root_dir", folder]
    main(["fit", *which, *sys.argv[1:]])
    main(["test", "--ckpt_path", f"{folder}/best.ckpt", "--data.test_sizes", "[16,32,64]"])
