"""Runs of `nar fit` that are stopped, disturbed or gone on with."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from own_algorithm import EveryKind

from nar.datasets import CLRS30
from nar.files import replacing
from nar.noise import Uniform
from nar.processors import PGN
from nar.training.checkpoint import config_of, load_reasoner, read_checkpoint, write_checkpoint
from nar.training.reasoner import Reasoner

Run = Callable[..., None]
EIGHT = ("--trainer.max_steps", "8", "--trainer.val_check_interval", "4")
NOISY = (
    *("--model.latent_noise", "Uniform", "--data.eval_batch_size", "16"),
    *("--model.reconstruction", "Reconstruction", "--model.reconstruction.mask_ratio", "0.5"),
)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(path)["state_dict"])


def assert_equal_weights(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def best_score(path: Path) -> float:
    """What the run that wrote a checkpoint took for its best score."""
    callbacks = read_checkpoint(path)["callbacks"]
    (score,) = (float(state["best_model_score"]) for name, state in callbacks.items() if name.startswith("ModelCh"))
    return score


def ending(run: Run, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[Any, str]:
    """The status of a command that ends early, and its last line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(*args)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nar: ")]
    assert len(lines) == 1
    return stop.value.code, lines[0]


def error_of(run: Run, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line of a refused command."""
    status, line = ending(run, capsys, *args)
    assert status == 2
    return line.removeprefix("nar: error: ")


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int, signal.Signals], None]:
    """Sends this process a signal when a step of the model is called for the so manieth time."""

    def signalled(step: str, number: int, sent: signal.Signals) -> None:
        original, calls = getattr(Reasoner, step), iter(range(1, 1000))

        def stepping(self: Reasoner, *args: Any) -> Any:
            if next(calls) == number:
                os.kill(os.getpid(), sent)
            return original(self, *args)

        monkeypatch.setattr(Reasoner, step, stepping)

    return signalled


@pytest.fixture(scope="session")
def folder_of_whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for a run that several tests compare others with."""
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def whole(folder_of_whole: Path, run: Run, small: list[str]) -> Path:
    """The folder of a run of eight steps that nothing disturbed."""
    if not (folder_of_whole / "last.ckpt").exists():
        run("fit", *small, *EIGHT, *NOISY, "--trainer.default_root_dir", str(folder_of_whole))
    return folder_of_whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "number", "sent", "status", "saved"),
    [
        ("training_step", 3, signal.SIGTERM, 143, 3),
        ("training_step", 8, signal.SIGTERM, 143, 8),
        ("validation_step", 2, signal.SIGTERM, 143, 4),
        ("validation_step", 7, signal.SIGINT, 130, 8),
    ],
)
def test_a_signal_ends_a_run_with_its_status_and_a_checkpoint_from_which_it_goes_on_as_if_it_had_not_come(
    step: str,
    number: int,
    sent: signal.Signals,
    status: int,
    saved: int,
    whole: Path,
    signalled: Callable[[str, int, signal.Signals], None],
    run: Run,
    small: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handlers = [signal.getsignal(other) for other in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context():
        signalled(step, number, sent)
        line = f"nar: ended by {sent.name} after step {saved}; go on by --ckpt_path last"
        assert ending(run, capsys, "fit", *small, *EIGHT, *NOISY) == (status, line)
    assert [signal.getsignal(other) for other in (signal.SIGINT, signal.SIGTERM)] == handlers
    last = tmp_path / "run" / "last.ckpt"
    assert read_checkpoint(last)["global_step"] == saved
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    run("fit", *small, *EIGHT, *NOISY, "--ckpt_path", "last")
    for name in ("best.ckpt", "last.ckpt"):
        assert_equal_weights(tmp_path / "run" / name, whole / name)
    assert best_score(last) == best_score(whole / "last.ckpt")
    run("fit", *small, *EIGHT, *NOISY, "--ckpt_path", "last", "--trainer.max_steps", "10")  # nothing is done twice
    assert read_checkpoint(last)["global_step"] == 10


@pytest.mark.slow
def test_gradients_that_wait_for_others_are_waited_for(
    signalled: Callable[[str, int, signal.Signals], None],
    run: Run,
    small: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    signalled("training_step", 4, signal.SIGTERM)
    several = ["--trainer.accumulate_grad_batches", "3", "--trainer.val_check_interval", "9"]
    assert ending(run, capsys, "fit", *small, *several)[1].startswith("nar: ended by SIGTERM after step 2;")
    run("fit", *small, *several, "--ckpt_path", "last")
    run("fit", *small, *several, "--trainer.default_root_dir", "whole")
    assert_equal_weights(tmp_path / "run" / "last.ckpt", tmp_path / "whole" / "last.ckpt")


@pytest.mark.slow
def test_a_job_that_slurm_starts_again_goes_on_where_it_was(
    whole: Path,
    signalled: Callable[[str, int, signal.Signals], None],
    run: Run,
    small: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho $* > {tmp_path / 'asked'}\n")
    (tmp_path / "scontrol").chmod(0o755)
    job = {
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": "1",
        "SLURM_JOB_NAME": "fit",
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    signalled("training_step", 4, signal.SIGUSR1)
    signalled("training_step", 5, signal.SIGTERM)
    assert ending(run, capsys, "fit", *small, *EIGHT, *NOISY)[0] == 143
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    assert read_checkpoint(tmp_path / "run" / "hpc_ckpt_1.ckpt")["global_step"] == 4
    run("fit", *small, *EIGHT, *NOISY)
    for name in ("best.ckpt", "last.ckpt"):
        assert_equal_weights(tmp_path / "run" / name, whole / name)


@pytest.mark.slow
def test_a_run_that_has_a_best_checkpoint_alone_goes_on_from_it(
    whole: Path, run: Run, small: list[str], tmp_path: Path
) -> None:
    run("fit", *small, *EIGHT, *NOISY, "--trainer.max_steps", "4")
    (tmp_path / "run" / "last.ckpt").unlink()  # as if it had been killed before this was written
    run("fit", *small, *EIGHT, *NOISY, "--ckpt_path", "last")
    for name in ("best.ckpt", "last.ckpt"):
        assert_equal_weights(tmp_path / "run" / name, whole / name)


@pytest.mark.slow
def test_a_run_whose_folder_was_moved_keeps_its_best_checkpoint_until_there_is_a_better_one(
    run: Run, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.5, 0.7, 0.6, 0.8])
    monkeypatch.setattr(Reasoner, "on_validation_epoch_end", lambda self: self.log("val/score", next(scores)))
    run("fit", *small)
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = [*small, "--trainer.default_root_dir", "moved", "--ckpt_path", "last"]
    run("fit", *moved, "--trainer.max_steps", "6")
    assert read_checkpoint(tmp_path / "moved" / "best.ckpt")["global_step"] == 4
    run("fit", *moved, "--trainer.max_steps", "8")
    assert read_checkpoint(tmp_path / "moved" / "best.ckpt")["global_step"] == 8


@pytest.mark.slow
def test_what_a_killed_run_left_unfinished_is_removed_by_the_next(run: Run, small: list[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.ckpt0123abcd.tmp").touch()
    run("fit", *small)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"best.ckpt", "curves.png", "last.ckpt", "logs"}


@pytest.mark.slow
def test_a_full_disk_ends_a_run_in_one_line_and_leaves_its_checkpoints(
    run: Run,
    small: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run("fit", *small)
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.ckpt")}

    fsync = os.fsync

    def full(descriptor: int) -> None:
        if ".ckpt" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    error = error_of(run, capsys, "fit", *small, "--ckpt_path", "last", "--trainer.max_steps", "8")
    assert error.startswith(f"cannot write {tmp_path / 'run'}")
    assert error.endswith(".ckpt: No space left on device")
    assert {path: path.read_bytes() for path in (tmp_path / "run").glob("*.ckpt*")} == before


@pytest.mark.slow
def test_a_second_run_in_a_folder_is_refused_and_writes_nothing(
    run: Run,
    small: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors: list[str] = []
    original = Reasoner.on_train_start

    def starting(self: Reasoner) -> None:
        original(self)
        if not errors:
            errors.append("")
            errors[0] = error_of(run, capsys, "fit", *small, "--seed_everything", "7")

    monkeypatch.setattr(Reasoner, "on_train_start", starting)
    run("fit", *small)
    assert errors == [
        f"another run is writing into {tmp_path / 'run'}: wait for its end, or choose another "
        "--trainer.default_root_dir"
    ]
    assert [path.name for path in (tmp_path / "run" / "logs").iterdir()] == ["version_0"]
    run("fit", *small, "--ckpt_path", "last", "--trainer.max_steps", "6")  # it is free again


@pytest.mark.slow
def test_a_run_to_see_whether_all_is_well_leaves_nothing_in_the_way_of_the_real_one(
    run: Run, small: list[str], tmp_path: Path
) -> None:
    run("fit", *small, "--trainer.fast_dev_run", "true")
    assert not list(tmp_path.glob("run/*.ckpt"))
    run("fit", *small)
    before = (tmp_path / "run" / "last.ckpt").read_bytes()
    run("fit", *small, "--trainer.fast_dev_run", "2")
    assert (tmp_path / "run" / "last.ckpt").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--trainer.enable_checkpointing=false", "--trainer.barebones=true"])
@pytest.mark.filterwarnings("ignore:.*barebones.*")
@pytest.mark.filterwarnings("ignore:.*self.log.*")
def test_without_checkpoints_none_is_written_and_none_is_in_the_way(
    flag: str, run: Run, small: list[str], tmp_path: Path
) -> None:
    if "barebones" in flag:
        without = ("--trainer.enable_progress_bar", "--trainer.log_every_n_steps", "--trainer.enable_model_summary")
        places = [small.index(name) for name in without]
        small = [x for i, x in enumerate(small) if i not in places and i - 1 not in places]
    run("fit", *small, flag)
    run("fit", *small, flag)
    assert not list(tmp_path.glob("run/*.ckpt"))


@pytest.mark.slow
def test_a_run_without_logs_keeps_its_checkpoints(run: Run, small: list[str], tmp_path: Path) -> None:
    run("fit", *small, "--trainer.logger", "false")
    assert {path.name for path in tmp_path.glob("run/*.ckpt")} == {"best.ckpt", "last.ckpt"}


OTHERS = [
    ("{class_path: ModelCheckpoint, init_args: {dirpath: mine, every_n_train_steps: 1, save_top_k: -1}}", 4, True),
    ("{class_path: ModelCheckpoint, init_args: {dirpath: mine, monitor: val/score, mode: max}}", 1, False),
]


@pytest.mark.slow
@pytest.mark.parametrize(("given", "number", "has_best"), OTHERS, ids=["of every step", "of the best"])
def test_checkpoints_of_a_users_own_are_written_beside_ours_or_in_their_place(
    given: str, number: int, has_best: bool, run: Run, small: list[str], tmp_path: Path
) -> None:
    run("fit", *small, "--trainer.callbacks", f"[{given}]")
    assert len(list(tmp_path.glob("mine/*.ckpt"))) == number
    assert (tmp_path / "run" / "best.ckpt").exists() == has_best
    assert (tmp_path / "run" / "last.ckpt").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "old", "new"),
    [
        ("seed_everything", "42", "7"),
        ("trainer.precision", "32-true", "bf16-mixed"),
        ("trainer.accumulate_grad_batches", "1", "2"),
        ("trainer.gradient_clip_val", "1.0", "0.5"),
        ("trainer.gradient_clip_algorithm", "norm", "value"),
        ("trainer.overfit_batches", "0.0", "2"),
        ("data.seed", "42", "5"),
        ("model.dropout", "0.0", "0.5"),
        ("model.penalties", "None", "{action: 1.0}"),
    ],
)
def test_a_run_goes_on_with_the_settings_that_it_had(
    setting: str, old: str, new: str, half: Path, run: Run, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*small, "--model.processor", "Asynchronous", "--model.processor.hidden_dim", "4"]
    error = error_of(run, capsys, "fit", *given, "--trainer.max_steps", "6", "--ckpt_path", "last", f"--{setting}", new)
    assert error.startswith(
        f"{Path('run') / 'last.ckpt'} was made with {setting} {old}, but the configuration asks "
    ) or (error.startswith(f"{half} was made with {setting} {old}, but the configuration asks for "))


@pytest.fixture(scope="session")
def half_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for a run that several tests go on with."""
    return tmp_path_factory.mktemp("half")


@pytest.fixture
def half(half_run: Path, run: Run, small: list[str], tmp_path: Path) -> Path:
    """The last checkpoint of a run of four steps."""
    processor = ["--model.processor", "Asynchronous", "--model.processor.hidden_dim", "4"]
    if not (half_run / "last.ckpt").exists():
        clip = ["--trainer.gradient_clip_algorithm", "norm"]
        run("fit", *small, *processor, *clip, "--trainer.default_root_dir", str(half_run))
    shutil.copytree(half_run, tmp_path / "run")
    return tmp_path / "run" / "last.ckpt"


@pytest.mark.slow
def test_settings_that_are_not_given_again_stay_as_they_were(run: Run, small: list[str], tmp_path: Path) -> None:
    given = ["--seed_everything", "7", "--trainer.gradient_clip_val", "0.01", "--trainer.accumulate_grad_batches", "2"]
    run("fit", *small, *given)
    run("fit", *small, "--ckpt_path", "last", "--trainer.max_steps", "6")
    run("fit", *small, *given, "--trainer.max_steps", "6", "--trainer.default_root_dir", "whole")
    assert_equal_weights(tmp_path / "run" / "last.ckpt", tmp_path / "whole" / "last.ckpt")


def moments(path: Path) -> dict[str, torch.Tensor]:
    """What Adam remembers of each parameter."""
    (state,) = read_checkpoint(path)["optimizer_states"]
    (group,) = state["param_groups"]
    numbers = zip(group["param_names"], group["params"], strict=True)
    return {name: state["state"][number]["exp_avg"] for name, number in numbers if number in state["state"]}


@pytest.mark.slow
def test_algorithms_in_another_order_keep_what_the_optimiser_knows_of_each(
    run: Run, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("fit", *small, "--data.algorithms", "[bfs,minimum]")
    last = tmp_path / "run" / "last.ckpt"
    before, seen = moments(last), {}

    def look(self: Reasoner) -> None:
        (optimizer,) = self.trainer.optimizers
        names = {id(parameter): name for name, parameter in self.named_parameters()}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if optimizer.state[parameter]:
                    seen[names[id(parameter)]] = optimizer.state[parameter]["exp_avg"].clone()

    monkeypatch.setattr(Reasoner, "on_train_start", look)
    turned = [*small, "--data.algorithms", "[minimum,bfs]", "--ckpt_path", "last", "--trainer.max_steps", "6"]
    old = last.read_bytes()
    run("fit", *turned)
    assert seen.keys() == before.keys()
    assert all(torch.equal(seen[name], before[name]) for name in seen)

    last.write_bytes(old)
    checkpoint = torch.load(last, weights_only=True)  # as it was written before names were
    for group in checkpoint["optimizer_states"][0]["param_groups"]:
        del group["param_names"]
    torch.save(checkpoint, last)
    expected = "for ['bfs', 'minimum'], but the configuration asks for ['minimum', 'bfs']"
    assert expected in error_of(run, capsys, "fit", *turned)
    run("fit", *small, "--data.algorithms", "[bfs,minimum]", "--ckpt_path", "last", "--trainer.max_steps", "6")


def forget(*names: Any) -> Callable[[dict[str, Any]], None]:
    def forget(checkpoint: dict[str, Any]) -> None:
        place: Any = checkpoint
        for name in names[:-1]:
            place = place[name]
        del place[names[-1]]

    return forget


def turn(checkpoint: dict[str, Any]) -> None:
    state = checkpoint["optimizer_states"][0]["state"]
    state[0]["exp_avg"] = torch.zeros(3, 5)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (forget("optimizer_states"), "holds weights alone"),
        (forget("loops"), "has no loops"),
        (forget("state_dict"), "has no weights by name"),
        (forget("state_dict", "model.heads.bfs.output_decoders.pi.source.weight"), "has no model.heads.bfs.output"),
        (forget("optimizer_states", 0, "param_groups"), "param_groups"),
        (forget("optimizer_states", 0, "param_groups", 0, "params"), "params"),
        (forget("loops", "fit_loop", "epoch_progress", "total"), "total"),
        (forget("CLRS30", "num_batches_seen"), "num_batches_seen"),
        (turn, "expected exp_avg of model.processor"),
    ],
)
def test_no_training_goes_on_from_a_damaged_checkpoint(
    damage: Callable[[dict[str, Any]], None],
    expected: str,
    half: Path,
    run: Run,
    small: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = torch.load(half, weights_only=True)
    damage(checkpoint)
    torch.save(checkpoint, half)
    assert expected in error_of(run, capsys, "fit", *small, "--ckpt_path", "last", "--trainer.max_steps", "6")


NO_MODEL = (forget("nar_config", "model"), "as its configuration's model")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "damage", "expected"),
    [
        ("test", forget("state_dict", "model.heads.bfs.output_decoders.pi.source.weight"), "has no model.heads.bfs"),
        ("test", lambda c: c["nar_config"]["model"].update(processor={"class_path": "missing.PGN"}), "'missing'"),
        ("test", lambda c: c["nar_config"]["model"].update(depth=3), "depth"),
        ("test", lambda c: c["nar_config"]["data"].update(algorithms=[3]), "3"),
        ("test", *NO_MODEL),
        ("latents", *NO_MODEL),
        ("predict", *NO_MODEL),
        ("validate", *NO_MODEL),
        ("convert --to-haiku model.pkl", *NO_MODEL),
    ],
)
def test_a_damaged_checkpoint_ends_every_command_in_one_line(
    command: str,
    damage: Callable[[dict[str, Any]], None],
    expected: str,
    half: Path,
    run: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = torch.load(half, weights_only=True)
    damage(checkpoint)
    torch.save(checkpoint, half)
    assert expected in error_of(run, capsys, *command.split(), "--ckpt_path", str(half))


@pytest.mark.slow
@pytest.mark.parametrize("has_data_module", [True, False])
def test_what_lightnings_trainer_saved_is_loaded_and_tested(has_data_module: bool, run: Run, tmp_path: Path) -> None:
    data = CLRS30(
        ["bfs"], train_sizes=[4], test_sizes=[4], batch_size=2, num_workers=0, cache_dir=str(tmp_path / "cache")
    )
    reasoner = Reasoner(data.specs, PGN(4, gated=True), latent_noise=Uniform(0.5, when="training"))
    trainer = Trainer(
        max_steps=2,
        default_root_dir=tmp_path / "run",
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        val_check_interval=2,
        check_val_every_n_epoch=None,
    )
    if has_data_module:
        trainer.fit(reasoner, data)
    else:
        data.setup("fit")
        trainer.fit(reasoner, data.train_dataloader(), data.val_dataloader())
    (path,) = tmp_path.glob("run/**/*.ckpt")
    (hparams,) = tmp_path.glob("run/**/hparams.yaml")
    assert "class_path: nar.processors.PGN" in hparams.read_text()
    for loaded in (load_reasoner(path), Reasoner.load_from_checkpoint(path)):
        assert isinstance(loaded.model.latent_noise, Uniform)
        assert loaded.model.latent_noise.scale == 0.5
        assert loaded.specs == reasoner.specs
        assert all(torch.equal(x, reasoner.state_dict()[name]) for name, x in loaded.state_dict().items())
    assert config_of(read_checkpoint(path))["data"]["algorithms"] == ["bfs"]
    own = [] if has_data_module else ["--data.test_sizes", "[4]", "--data.cache_dir", str(tmp_path / "cache")]
    run("test", "--ckpt_path", str(path), *own)
    assert (path.parent / "ood.csv").exists()


def test_an_algorithm_that_does_not_tell_its_arguments_is_refused_by_name_where_it_is_to_be_drawn(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = CLRS30([EveryKind(["output"])], train_sizes=[4], cache_dir=str(tmp_path / "cache"))
    with replacing(tmp_path / "model.ckpt") as file:
        write_checkpoint(file, Reasoner(data.specs, PGN(4)), data)
    assert list(load_reasoner(tmp_path / "model.ckpt").specs) == ["EveryKind"]
    error = error_of(run, capsys, "test", "--ckpt_path", "model.ckpt")
    assert error.endswith("refused: data.algorithms.0 was given as EveryKind, which no checkpoint holds")


@pytest.mark.slow
def test_a_run_is_drawn_when_it_ends_and_when_it_has_been_gone_on_with(
    run: Run, small: list[str], tmp_path: Path
) -> None:
    logged = ("--trainer.log_every_n_steps", "1")
    run("fit", *small, *logged)
    picture = tmp_path / "run" / "curves.png"
    first = picture.read_bytes()
    run("fit", *small, *EIGHT, *logged, "--ckpt_path", "last")
    assert picture.read_bytes() != first
    run("fit", *small, "--trainer.default_root_dir", "silent", "--trainer.logger", "false")
    assert not Path("silent/curves.png").exists()
