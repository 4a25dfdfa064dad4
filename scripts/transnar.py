"""What a reasoner brings to a language model: TransNAR beside the same transformer alone, over several seeds.

    python scripts/transnar.py --reasoner-steps 6000 --steps 3000 --seeds 3
    python scripts/transnar.py --at-once 6 --trainer.accelerator=gpu --trainer.precision=bf16-mixed

First one reasoner learns the algorithms by the multi-task recipe, at sizes up to 16. Then for every seed a hybrid with
this reasoner and a baseline without are trained on equal texts for equally many steps, with equally many parameters
trained: the feed-forward layers of the baseline are made wider until it has as many as the hybrid has. Their last
weights, and the reasoner alone, answer the same texts, whose sizes are between those of training (10), one of them (12)
and beyond them (14).

The algorithms are one each of six families, with short texts, and none of those where Bounsi et al. (2024) found that
the reasoner does not help (binary_search, find_maximum_subarray_kadane, minimum and quickselect).

Everything goes through the command line of the library, as a user would run it; what is not of this script, written
with an ``=``, goes to ``nar fit`` of language models, and what begins with ``--trainer`` also to that of the reasoner.
A run that was cut short goes on from its last checkpoint; those that ``scripts/transnar.csv`` has already are not
repeated. Other settings than those of the steps and the seeds need another ``--root`` and ``--out``. The table is
printed as Markdown: CLRS scores as mean ± standard deviation over seeds, in per cent.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import yaml

from nar.files import newest

CONFIGS = Path(__file__).parent / "configs"
NAR = Path(sys.executable).with_name("nar")
ALGORITHMS = ("activity_selector", "bfs", "graham_scan", "insertion_sort", "matrix_chain_order", "naive_string_matcher")
SIZES = (10, 12, 14)
HYBRID, BASELINE, REASONER = "hybrid", "language model", "reasoner alone"  # as nar test calls them
METRICS = ("parse", "shape", "clrs", "exact")
COLUMNS = ("model", "seed", "algorithm", "num_nodes", "texts", *METRICS, "steps", "seconds", "parameters")
OWN = ("steps", "reasoner_steps", "seeds", "at_once", "root")  # settings that runs in one folder need not share
MOST_APART = 0.01  # numbers of trained parameters, relatively

Row = Mapping[str, str]


def run(folder: Path, command: str, *flags: Any) -> None:
    """Run the command line; what it prints is in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "printed.txt").open("a", encoding="utf-8") as file:
        subprocess.run([NAR, command, *map(str, flags)], check=True, stdout=file, stderr=file)


def train(folder: Path, steps: int, *flags: Any) -> int:
    """Train a model for so many steps, unless it has been; how many seconds that took, over all calls."""
    finished, spent = folder / "finished.txt", folder / "seconds.txt"
    if not finished.exists():
        start = time.monotonic()
        to = ["--trainer.default_root_dir", folder, "--trainer.max_steps", steps]
        to += ["--trainer.val_check_interval", max(1, steps // 4), "--trainer.enable_progress_bar", "false"]
        resume = ["--ckpt_path", "last"] if (folder / "last.ckpt").exists() else []
        try:
            run(folder, "fit", *flags, *to, *resume)
            finished.touch()
        finally:
            with spent.open("a", encoding="utf-8") as file:
                file.write(f"{time.monotonic() - start:.0f}\n")
    return sum(map(int, spent.read_text(encoding="utf-8").split()))


def trained_parameters(language_model: Mapping[str, Any]) -> int:
    """How many a language model of this configuration has."""
    import torch

    from nar.datasets.text.tokenizer import text_tokenizer
    from nar.hybrid import make_language_model

    with torch.device("meta"):
        model = make_language_model({"vocab_size": len(text_tokenizer()), **language_model})
    return sum(parameter.numel() for parameter in model.parameters())


def matched(language_model: Mapping[str, Any], target: int) -> dict[str, Any]:
    """The same with feed-forward layers so wide that about as many parameters are trained as `target` says.

    Raises:
        ValueError: If the two would be too far apart.
    """
    width = language_model["intermediate_size"]
    one, two = (trained_parameters({**language_model, "intermediate_size": n * width}) for n in (1, 2))
    wide = max(1, width + round(width * (target - one) / (two - one)))
    wider = {**language_model, "intermediate_size": wide}
    number = trained_parameters(wider)
    if abs(number - target) > MOST_APART * target:
        raise ValueError(f"expected a language model with {target:,} parameters, given at best {number:,}")
    return wider


def hybrid_parameters(model: Mapping[str, Any], reasoner: Path) -> int:
    """How many parameters of a hybrid are trained."""
    from nar.datasets.text.tokenizer import text_tokenizer
    from nar.hybrid.module import LanguageReasoner

    hybrid = LanguageReasoner(text_tokenizer(), (), **{**model, "reasoner": str(reasoner)})
    return sum(parameter.numel() for parameter in hybrid.parameters() if parameter.requires_grad)


def configured(config: Path, more: Sequence[str]) -> dict[str, Any]:
    """The settings of the model and of the data in a configuration, with flags for the language model in them."""
    groups = yaml.safe_load(config.read_text(encoding="utf-8"))
    content: dict[str, Any] = {name: groups[name].get("init_args", groups[name]) for name in ("model", "data")}
    for flag in more:
        name, _, value = flag.partition("=")
        if name.startswith("--model.language_model."):
            content["model"]["language_model"][name.rpartition(".")[2]] = yaml.safe_load(value)
    return content


def keep_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Write what the runs in a folder have in common.

    Raises:
        SystemExit: If those that are there have others.
    """
    text = yaml.safe_dump({name: str(value) for name, value in settings.items()})
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{path.parent} has runs with other settings: expected another --root, and another --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def measure(name: str, seed: int, folder: Path, steps: int, num_texts: int, flags: Sequence[Any]) -> list[Row]:
    """Train and test one model: a row for each algorithm and size, also of the reasoner alone."""
    seconds = train(folder, steps, *flags, "--seed_everything", seed)
    tests = ["--data.test_sizes", list(SIZES), "--data.num_test", num_texts, "--data.eval_batch_size", num_texts]
    run(folder, "test", "--ckpt_path", folder / "last.ckpt", *tests, "--trainer.enable_progress_bar", "false")
    with newest(folder, "answers*.csv").open(encoding="utf-8", newline="") as file:
        rows = [{**row, **{name: f"{float(row[name]):.4f}" for name in METRICS}} for row in csv.DictReader(file)]
    known = {"seed": str(seed), "steps": str(steps), "seconds": str(seconds)}
    return [{**row, **known} if row["model"] == name else row for row in rows]


def recorded(out: Path, steps: Mapping[str, int]) -> list[Row]:
    """The rows that are there already of models that were trained for so many steps."""
    if not out.exists():
        return []
    with out.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["steps"] == str(steps[row["model"]])]


def record(out: Path, rows: Sequence[Row]) -> None:
    """Add rows."""
    is_new = not out.exists()
    with out.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def table(rows: Sequence[Row], train_sizes: Sequence[int]) -> Iterator[str]:
    """The lines of the table; at its end, the means over algorithms."""
    from nar.analysis.answers import kind_of_size

    models = (HYBRID, BASELINE, REASONER)
    scores: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for row in rows:
        scores[row["model"], row["algorithm"], row["num_nodes"]][row["seed"]] = 100 * float(row["clrs"])
    algorithms = list(dict.fromkeys(row["algorithm"] for row in rows))
    for model in models:
        for size in map(str, SIZES):
            by_algorithm = [scores[model, algorithm, size] for algorithm in algorithms]
            for seed in set.intersection(*map(set, by_algorithm)):
                scores[model, "mean", size][seed] = statistics.mean(of_one[seed] for of_one in by_algorithm)
    yield f"| algorithm | n | {' | '.join(models)} |"
    yield "|---|---|" + "---|" * len(models)
    for algorithm in [*algorithms, "mean"]:
        for size in SIZES:
            cells = []
            for model in models:
                found = list(scores[model, algorithm, str(size)].values())
                spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
                cells.append(f"{statistics.mean(found):.1f}{spread}" if found else "")
            yield f"| {algorithm} | {size}, {kind_of_size(size, train_sizes)} | {' | '.join(cells)} |"


def main() -> None:
    """Run what is not recorded yet, write each run's rows when it ends, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", default=ALGORITHMS)
    parser.add_argument("--reasoner-steps", type=int, default=6000, help="of all algorithms together")
    parser.add_argument("--hidden-dim", type=int, default=128, help="of the reasoner")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--num-texts", type=int, default=64, help="to test on, of each algorithm and size")
    parser.add_argument("--at-once", type=int, default=1, help="how many models to train side by side")
    parser.add_argument("--config", type=Path, default=CONFIGS / "transnar_small.yaml", help="of language models")
    parser.add_argument("--root", type=Path, default=Path("runs/transnar_evidence"), help="where checkpoints go")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    args, more = parser.parse_known_args()

    settings = {name: value for name, value in vars(args).items() if name not in OWN}
    keep_settings(
        args.root / "settings.yaml", {**settings, "config": args.config.read_text(encoding="utf-8"), "more": more}
    )
    data = ["--data.algorithms", f"[{', '.join(args.algorithms)}]"]
    of_trainer = [flag for flag in more if flag.startswith("--trainer")]
    of_reasoner = ["--config", CONFIGS / "generalist.yaml", *data, "--data.chunk_length", "null"]
    of_reasoner += ["--model.processor.init_args.hidden_dim", args.hidden_dim, *of_trainer]
    seconds = train(args.root / f"reasoner_{args.reasoner_steps}", args.reasoner_steps, *of_reasoner)
    reasoner = args.root / f"reasoner_{args.reasoner_steps}" / "last.ckpt"

    config = configured(args.config, more)
    number = hybrid_parameters(config["model"], reasoner)
    wider = matched(config["model"]["language_model"], number)
    parameters = {HYBRID: number, BASELINE: trained_parameters(wider)}
    print("trained parameters:", ", ".join(f"{name} {number:,}" for name, number in parameters.items()), flush=True)
    of_models: dict[str, list[Any]] = {
        HYBRID: ["--model.reasoner", reasoner],
        BASELINE: [
            *("--model.language_model_only", "true"),
            *("--model.language_model.intermediate_size", wider["intermediate_size"]),
        ],
    }
    all_steps = {HYBRID: args.steps, BASELINE: args.steps, REASONER: args.reasoner_steps}
    done = {(row["model"], row["seed"]) for row in recorded(args.out, all_steps)}
    jobs = [(name, seed) for seed in range(args.seeds) for name in of_models if (name, str(seed)) not in done]
    failed = []
    with ThreadPoolExecutor(args.at_once) as pool:
        futures = {}
        for name, seed in jobs:
            folder = args.root / f"{name.replace(' ', '_')}_{args.steps}_{seed}"
            flags = ["--config", args.config, *data, *more, *of_models[name]]
            futures[pool.submit(measure, name, seed, folder, args.steps, args.num_texts, flags)] = (name, seed)
        for future in as_completed(futures):
            name, seed = futures[future]
            if future.exception() is not None:
                failed.append(f"{name}, seed {seed}: {future.exception()}")
                continue
            rows = [{**row, "parameters": str(parameters[name])} for row in future.result() if row["model"] == name]
            if not any(row["model"] == REASONER for row in recorded(args.out, all_steps)):
                alone = {"seed": "0", "steps": str(args.reasoner_steps), "seconds": str(seconds)}
                rows += [{**row, **alone} for row in future.result() if row["model"] == REASONER]
            record(args.out, rows)
            print(f"{name}, seed {seed}: {rows[0]['seconds']} seconds", flush=True)
    print(*table(recorded(args.out, all_steps), config["data"]["train_sizes"]), sep="\n")
    if failed:
        raise SystemExit("\n".join(failed))


if __name__ == "__main__":
    main()
