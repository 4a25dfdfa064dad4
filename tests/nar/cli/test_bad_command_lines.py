import random
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

NUMBER = 500
SEED = 2024
LONGEST = 300
SECONDS = 30
"""After which a command is taken to hang."""
OF_A_PARSER = ("Traceback", "Union", "<class", "Namespace(", "jsonargparse", "typing.", "Parser key", "object at 0x")
"""What no user has asked to see."""
TELLING = ("expected", "Expected", "invalid", "given", "unrecognized", "unknown")

LONG = "x" * 10_000
HUGE = str(10**25)
NO_NUMBER = ["many", "[]", "{}", "ü", "[1, x]", "1 2", "0x", "--", "1e", LONG]
NO_WHOLE = [*NO_NUMBER, "1.5", "nan", ".nan", ".inf", "null", ""]
NO_CLASS = ["os.path", "math.pi", "torch.nn.Linear", "missing.Module", "nar.Nothing", "..", "x.", "a b", "3", "ü", LONG]
BROKEN = ["raises.Thing", "leaves.Thing", "broken.Thing", "empty.Thing"]
LLAMA = "{model_type: llama, hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2}"


class Whole(NamedTuple):
    """A whole number that is at least this."""

    least: int
    is_limited: bool = True
    is_optional: bool = False

    def bad(self, rng: random.Random) -> str:
        wrong = [value for value in NO_WHOLE if not (self.is_optional and value in ("null", ""))]
        wrong += [str(self.least - 1), str(self.least - 10**9)] + [HUGE] * self.is_limited
        return rng.choice(wrong)


class Real(NamedTuple):
    """A number that is none of these."""

    outside: tuple[str, ...]

    def bad(self, rng: random.Random) -> str:
        return rng.choice([*NO_NUMBER, *self.outside, "nan", ".nan", "-.inf"])


class Choice(NamedTuple):
    """One of these names."""

    names: tuple[str, ...]

    def bad(self, rng: random.Random) -> str:
        return rng.choice([misspelt(rng, rng.choice(self.names)), "3", "[]", "{}", "ü", LONG])


class Sizes(NamedTuple):
    """A list of numbers of nodes."""

    def bad(self, rng: random.Random) -> str:
        return rng.choice(
            ["64", "64,65", "[]", "[0]", "[-1]", f"[{HUGE}]", "[1.5]", "[x]", "[[16]]", "{}", ".nan", "ü"]
        )


class Class(NamedTuple):
    """The name or the import path of a class."""

    names: tuple[str, ...]

    def bad(self, rng: random.Random) -> str:
        return rng.choice([misspelt(rng, rng.choice(self.names)), *NO_CLASS, *BROKEN, "[", "{class_path: 3}"])


class Wrong(NamedTuple):
    """None of these."""

    values: tuple[str, ...]

    def bad(self, rng: random.Random) -> str:
        return rng.choice(self.values)


Kind = Whole | Real | Choice | Sizes | Class | Wrong

ALGORITHMS = Class(("bfs", "dijkstra", "insertion_sort", "floyd_warshall", "[bfs,dfs]", "articulation_points"))
TRAINER: dict[str, Kind] = {
    "trainer.accumulate_grad_batches": Whole(1),
    "trainer.max_steps": Whole(-1),
    "trainer.max_epochs": Whole(-1, is_optional=True),
    "trainer.check_val_every_n_epoch": Whole(1, is_optional=True),
    "trainer.log_every_n_steps": Whole(0, is_optional=True),
    "trainer.num_sanity_val_steps": Whole(-1, is_optional=True),
    "trainer.gradient_clip_val": Real(("-1", ".inf", "1e300")),
    "trainer.val_check_interval": Real(("0", "-1", "1.5", "0.0")),
    "trainer.limit_val_batches": Real(("-1", "1.5", ".inf")),
    "trainer.overfit_batches": Real(("-1", "1.5", "")),
    "trainer.accelerator": Choice(("tpu", "cpu", "cuda", "auto")),
    "trainer.devices": Wrong(("-1", "0", "99", "[0]", "[a]", "many", "1.5", "", LONG)),
    "trainer.num_nodes": Whole(1, is_limited=False),
    "trainer.strategy": Choice(("ddp", "fsdp", "deepspeed")),
    "trainer.precision": Choice(("16-mixed", "32-true")),
    "trainer.logger": Class(("CSVLogger", "TensorBoardLogger")),
    "trainer.callbacks": Class(("EarlyStopping", "nar.analysis.callbacks.LatentPCA")),
    "trainer.profiler": Class(("simple", "advanced")),
    "trainer.plugins": Class(("Precision", "AsyncCheckpointIO")),
    "trainer.max_time": Wrong(("1", "-1", "01:00", "a:b:c:d", "[]", "ü", LONG)),
    "trainer.gradient_clip_algorithm": Choice(("norm", "value")),
    "trainer.enable_progress_bar": Choice(("true", "false")),
    "seed_everything": Whole(0),
}
MODEL: dict[str, Kind] = {
    "model.learning_rate": Real(("0", "-1", "1e30", ".inf", "null", "true")),
    "model.hint_mode": Choice(("encoded_decoded", "decoded_only", "none")),
    "model.hint_teacher_forcing": Real(("-0.1", "1.1", ".inf")),
    "model.hint_feedback": Choice(("soft", "hard", "hard_on_eval")),
    "model.hint_loss": Choice(("all", "none")),
    "model.edge_pointers": Choice(("pairs", "triplets")),
    "model.reconstruction": Class(("Reconstruction",)),
    "model.num_frequencies": Whole(0),
    "model.difference_scales": Whole(0),
    "model.use_lstm": Choice(("true", "false")),
    "model.num_processor_steps": Wrong(
        ("0", "-1", "many", "1.5", "null", "", "[]", "{bfs: 0}", "{bfs: x}", "{bsf: 2}", HUGE, LONG)
    ),
    "model.dropout": Real(("1", "-0.5", "2")),
    "model.latent_decay": Real(("-1", "2")),
    "model.latent_decay_to": Choice(("zero", "mean")),
    "model.latent_noise": Class(("Uniform", "Corrupt")),
    "model.penalties": Wrong(("{action: x}", "{action: 1}", "{ü: 1}", "action", "3", "[action]", LONG)),
    "model.processor": Class(("TripletGMPNN", "PGN", "GATv2", "DeepSets")),
    "model.processor.hidden_dim": Whole(1),
    "model.processor.triplet_dim": Whole(0),
    "model.processor.reduction": Choice(("max", "softmax", "adaptive softmax", "recurrent")),
}
DATA: dict[str, Kind] = {
    "data.algorithms": ALGORITHMS,
    "data.train_sizes": Sizes(),
    "data.test_sizes": Sizes(),
    "data.num_workers": Whole(0),
    "data.source": Choice(("nar", "dm-clrs")),
    "data.test_graphs": Choice(("watts_strogatz", "erdos_renyi")),
    "data.test_graph_args": Wrong(("{p: 0.5}", "{p: x}", "p", "3", "[p]", "{p: .nan}", LONG)),
}
DENSE: dict[str, Kind] = {
    **MODEL,
    **DATA,
    "data.random_pos": Wrong(("3", "tru", "[]", "{bsf: false}", "{bfs: 3}", "{3: true}", "bfs", "ü", LONG)),
    "data.train_communities": Wrong(("4", "[]", "[0]", "[-1]", "[1.5]", "[x]", "{}", "ü", LONG)),
    "data.batch_size": Whole(1),
    "data.eval_batch_size": Whole(1),
    "data.chunk_length": Whole(2, is_optional=True),
    "data.seed": Whole(0, is_limited=False, is_optional=True),
}
SPARSE: dict[str, Kind] = {
    "data.algorithms": ALGORITHMS,
    "data.train_sizes": Sizes(),
    "data.test_sizes": Sizes(),
    "data.batch_size": Whole(1),
    "data.eval_batch_size": Whole(1),
    "data.num_val": Whole(1),
    "data.num_test": Whole(1),
    "data.test_graphs": Choice(("watts_strogatz", "barabasi_albert")),
    "model.learning_rate": MODEL["model.learning_rate"],
    "model.hint_mode": Choice(("encoded_decoded", "none")),
    "model.processor": Class(("ConvProcessor", "PGN")),
    "model.processor.conv": Class(("PGNConv", "torch_geometric.nn.Linear")),
    "model.processor.hidden_dim": Whole(1),
}
TEXT: dict[str, Kind] = {
    "model.language_model": Choice(("{model_type: llama}", "{model_type: gpt2, n_embd: -8}", "/no/such/folder")),
    "model.steps_per_block": Whole(1, is_optional=True),
    "model.num_heads": Whole(1, is_limited=False, is_optional=True),
    "model.learning_rate": MODEL["model.learning_rate"],
    "model.weight_decay": Real(("-1", ".inf")),
    "model.warmup_steps": Whole(0, is_limited=False),
    "model.loss_on": Choice(("answer", "all")),
    "model.positions_in_evaluation": Choice(("random",)),
    "model.reasoner": Choice(("missing.ckpt", "folder", "garbage", "empty.yaml")),
    "data.algorithms": ALGORITHMS,
    "data.test_sizes": Sizes(),
    "data.tokenizer": Choice(("/no/such/folder",)),
    "data.batch_size": Whole(1),
    "data.num_val": Whole(1),
    "data.hints": Choice(("true", "false")),
}
CONFIGS = {
    "empty.yaml": b"",
    "number.yaml": b"3",
    "list.yaml": b"- model\n- data\n",
    "model.yaml": b"model: 3\n",
    "data.yaml": b"data: [bfs]\n",
    "trainer.yaml": b"trainer: true\n",
    "latin.yaml": b"model: \xfc\n",
    "nul.yaml": b'data:\n  cache_dir: "a\\0b"\n',
    "control.yaml": b"model:\0 3\n",
    "broken.yaml": b"model: {processor: [PGN\n",
    "unknown.yaml": b"model:\n  lerning_rate: 0.1\n",
    "unknown_group.yaml": b"modell:\n  learning_rate: 0.1\n",
    "wrong.yaml": b"model:\n  learning_rate: fast\n",
    "itself.yaml": b"model: &a\n  processor: *a\n",
    "bomb.yaml": b"a0: &a0 [x, x]\n"
    + b"".join(b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 12))
    + b"model: *a11\n",
    "deep.yaml": b"model: " + b"[" * 5000 + b"]" * 5000,
    "wide.yaml": b"model: [" + b"x, " * 200_000 + b"x]",
    "tag.yaml": b"model: !!python/object/apply:os.system [ls]\n",
}
FILES = {
    **CONFIGS,
    "garbage": bytes(range(256)) * 9,
    "raises.py": b"raise RuntimeError('no' * 10_000)",
    "leaves.py": b"import sys\nsys.exit(0)",
    "broken.py": b"def (:",
    "empty.py": b"",
}
CHECKPOINTS = ["missing.ckpt", "garbage", "empty.yaml", "folder", "", "a\udcffb", "runs/" + LONG, "last", LONG]
CONTRADICTIONS = [
    ["--model.processor", "PGN", "--model.penalties", "{action: 1}"],
    ["--data.test_graph_args", "{p: 0.5}"],
    ["--data.algorithms", "[bfs,bfs]"],
    ["--data.algorithms", "[bfs,all]"],
    ["--data.algorithms", "[]"],
    ["--data.algorithms", "bfs,dfs"],
    ["--data.algorithms", "dijkstra", "--data.test_graphs", "watts_strogatz", "--data.test_graph_args", "{k: 99}"],
    ["--data.cache_dir", ""],
    ["--data.cache_dir", "a\udcff"],
    ["--trainer.default_root_dir", ""],
    ["--trainer.default_root_dir", "/dev/null/run"],
    ["--model.latent_noise", "Discard"],
    ["--model.reconstruction", "Reconstruction", "--model.reconstruction.mask_ratio", "1"],
    ["--model.reconstruction", "Reconstruction", "--model.hint_mode", "none"],
    ["--model.latent_noise", "Discard", "--model.latent_noise.directions", "garbage"],
    ["--model.latent_noise", "Uniform", "--model.latent_noise.scale", ".nan"],
    ["--model.processor.init_args", "3"],
    ["--model.processor.num_heads", "null", "--model.processor", "GAT"],
    ["--trainer.callbacks", "{class_path: nar.analysis.callbacks.LatentPCA, init_args: {every_n_steps: 0}}"],
    ["--trainer.callbacks", "{class_path: EarlyStopping}"],
    ["--trainer.logger", "WandbLogger"],
    ["--trainer.logger", "{class_path: CSVLogger}"],
    ["--model", "3"],
    ["--data", "bfs"],
    ["--trainer", "[]"],
    ["--model.specs", "{}"],
    ["--model.reasoner", "{}"],
    ["bfs"],
    ["--data.algorithm", "bfs"],
]


def misspelt(rng: random.Random, word: str) -> str:
    """The word with a letter doubled that has none of its kind beside it, so that it is no other word."""
    places = [i for i, letter in enumerate(word) if letter.isalpha()]
    at = rng.choice(places) if places else 0
    return word[:at] + word[at : at + 1] * 3 + word[at + 1 :]


def wrong_setting(rng: random.Random, settings: dict[str, Kind]) -> list[str]:
    name = rng.choice([*settings])
    value = settings[name].bad(rng)
    return rng.choice([[f"--{name}", value], [f"--{name}={value}"]])


def wrong_flag(rng: random.Random, settings: dict[str, Kind]) -> list[str]:
    group, _, name = rng.choice([*settings]).rpartition(".")
    return [f"--{group}.{misspelt(rng, name)}".replace("--.", "--"), "3"]


def wrong_class_argument(rng: random.Random, settings: dict[str, Kind]) -> list[str]:
    return [f"--model.processor.{misspelt(rng, rng.choice(['hidden_dim', 'normalised', 'conv']))}", "3"]


def wrong_config(rng: random.Random, settings: dict[str, Kind]) -> list[str]:
    return ["--config", rng.choice([*CONFIGS, "missing.yaml", "folder", "", "3", "{model: 3}", "[]", LONG])]


def wrong_checkpoint(rng: random.Random, settings: dict[str, Kind]) -> list[str]:
    return ["--ckpt_path", rng.choice(CHECKPOINTS)]


def contradiction(rng: random.Random, settings: dict[str, Kind]) -> list[str]:
    return list(rng.choice(CONTRADICTIONS))


def fit(rng: random.Random, small: list[str]) -> list[str]:
    makers = [wrong_setting] * 9 + [wrong_flag, wrong_class_argument, wrong_config, wrong_checkpoint, contradiction]
    return ["fit", *small, *rng.choice(makers)(rng, {**DENSE, **TRAINER})]


def evaluation(rng: random.Random, small: list[str]) -> list[str]:
    makers = [wrong_setting, wrong_flag, wrong_config, wrong_checkpoint]
    wrong = rng.choice(makers)(rng, {**DENSE, **TRAINER})
    return [rng.choice(["validate", "test", "predict"]), *wrong]


def latents(rng: random.Random, small: list[str]) -> list[str]:
    own: dict[str, Kind] = {"split": Choice(("validation", "test")), "num_extra_steps": Whole(0, is_limited=False)}
    return ["latents", *rng.choice([wrong_setting, wrong_flag, wrong_checkpoint])(rng, {**DENSE, **own})]


def convert(rng: random.Random, small: list[str]) -> list[str]:
    own = [
        ["--from-haiku", "garbage", "--out", "new.ckpt"],
        ["--from-haiku", "missing.pkl", "--out", "new.ckpt"],
        ["--from-haiku", "garbage", "--out", "garbage"],
        ["--from-haiku", "garbage", "--to-haiku", "garbage"],
        ["--from-haiku", ""],
        ["--to-haiku", "new.pkl"],
        ["--to-haiku", "new.pkl", "--ckpt_path", rng.choice(CHECKPOINTS[:-2])],
        [],
    ]
    return ["convert", *rng.choice([rng.choice(own), wrong_setting(rng, MODEL), wrong_flag(rng, MODEL)])]


def data(rng: random.Random, small: list[str]) -> list[str]:
    action = rng.choice(["list", "verify", "clear", "generate"])
    wrong = [["--data.cache_dir", rng.choice(["", "a\udcff"])], ["--data.batch_size", "3"], wrong_flag(rng, DATA)]
    wrong += [[misspelt(rng, action)], [action], ["--config", "model.yaml"]]
    if action == "generate":
        wrong += [wrong_setting(rng, DATA) for _ in range(8)]
    return ["data", action, *rng.choice(wrong)]


def ask(rng: random.Random, small: list[str]) -> list[str]:
    own: dict[str, Kind] = {"number": Whole(1, is_limited=False), "num_nodes": Whole(1), "seed": Whole(0)}
    return ["ask", *rng.choice([wrong_setting, wrong_flag, wrong_checkpoint])(rng, own)]


def view(rng: random.Random, small: list[str]) -> list[str]:
    own: dict[str, Kind] = {"num_nodes": Whole(1), "seed": Whole(0)}
    return ["view", *rng.choice([wrong_setting, wrong_flag, wrong_checkpoint])(rng, own)]


def sparse(rng: random.Random, small: list[str]) -> list[str]:
    makers = [wrong_setting] * 5 + [wrong_flag, wrong_class_argument, wrong_config]
    wrong = rng.choice(makers)(rng, {**SPARSE, **TRAINER})
    width = ["--model.processor.hidden_dim", "7"]
    command = rng.choice(["fit", "fit", "fit", "validate", "test", "predict", "ftt"])
    return [command, "--model", "SparseReasoner", *short(small), *rng.choice([wrong, wrong, wrong, width])]


def text(rng: random.Random, small: list[str]) -> list[str]:
    makers = [wrong_setting] * 5 + [wrong_flag, wrong_config]
    wrong = rng.choice(makers)(rng, {**TEXT, **TRAINER})
    return ["fit", "--model.language_model", LLAMA, "--model.reasoner", "missing.ckpt", *short(small), *wrong]


def commands(rng: random.Random, small: list[str]) -> list[str]:
    words = ["fit", "validate", "test", "predict", "convert", "latents", "ask", "view", "data", "salsa"]
    first = rng.choice([misspelt(rng, rng.choice(words)), "", "ü", LONG, "--", "-x", "--fit", "3", "test best.ckpt"])
    return [first, *rng.choice([[], ["--data.algorithms", "bfs"], ["fit"]])]


def short(small: list[str]) -> list[str]:
    """Those of the settings that all models have."""
    pairs = zip(small[::2], small[1::2], strict=True)
    return [part for pair in pairs if pair[0].startswith("--trainer") for part in pair]


MAKERS = [fit] * 6 + [evaluation] * 2 + [sparse] * 3 + [text] * 3 + [latents, convert, data, ask, view, commands]


def bad_command_lines(small: list[str]) -> list[list[str]]:
    """So many, all different."""
    rng = random.Random(SEED)
    made: dict[tuple[str, ...], None] = {}
    while len(made) < NUMBER:
        made[tuple(MAKERS[len(made) % len(MAKERS)](rng, small))] = None
    return [list(args) for args in made]


@contextmanager
def at_most(seconds: float, args: list[str]) -> Iterator[None]:
    """Ends what hangs."""

    def stop(*_: Any) -> None:
        pytest.fail(f"nar {' '.join(args)[:500]} hangs")

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def fault_of(run: Callable[..., None], args: list[str], right: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What is not as it should be when a bad command line is run; nothing if it is refused in one line.

    Args:
        run: Runs it.
        args: The command line.
        right: Those of its arguments that are.
        capsys: What is printed.
    """
    try:
        with at_most(SECONDS, args):
            run(*args)
    except SystemExit as stop:
        status = stop.code
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    else:
        return "is taken"
    captured = capsys.readouterr()
    printed = captured.err.splitlines()
    lines = [line for line in printed if line.startswith("nar: error: ")]
    if status != 2 or len(lines) != 1 or printed[-1] != lines[0]:
        return f"status {status}: {captured.err[-500:]}"
    words = re.findall(r"\w{2,}", " ".join(arg for arg in args if arg not in right))
    if not any(word[:20] in lines[0] for word in (*TELLING, *words)):
        return f"is refused with {lines[0]!r}, which names nothing that was given"
    if len(lines[0]) > LONGEST or not lines[0].isprintable() or any(words in lines[0] for words in OF_A_PARSER):
        return f"is refused with {lines[0]!r}"
    return ""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder in which commands are given, with files of all kinds."""
    (tmp_path / "folder").mkdir()
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.slow
def test_generated_bad_command_lines_are_each_refused_in_one_line(
    run: Callable[..., None], folder: Path, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    faults = []
    for args in bad_command_lines(small):
        fault = fault_of(run, args, small, capsys)
        if fault:
            faults.append(f"{[arg[:80] for arg in args if arg not in small]}: {fault[:600]}")
    assert not faults, f"{len(faults)} of {NUMBER}:\n" + "\n".join(faults)
