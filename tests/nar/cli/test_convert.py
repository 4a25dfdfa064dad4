import errno
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nar.datasets.clrs30.recipe import recipe_spec
from nar.errors import UserError
from nar.files import replacing
from nar.model.unroll import EncodeProcessDecode
from nar.processors import TripletGMPNN
from nar.training.checkpoint import config_of, load_reasoner, read_checkpoint, write_checkpoint
from nar.training.haiku import Params, haiku_names, read_pickle, to_haiku, write_pickle

CONFIG = Path(__file__).parents[3] / "scripts" / "configs" / "clrs30.yaml"
SMALL = ["--model.processor.hidden_dim", "4"]
BOTH = [*SMALL, "--data.algorithms", "[bfs,dfs]"]
FROM = ["convert", "--from-haiku", "best.pkl", "--out", "model.ckpt"]

Run = Callable[..., None]


@pytest.fixture
def params(tmp_path: Path) -> Params:
    """Weights for two algorithms, in the file ``best.pkl`` as dm-clrs saves them."""
    model = EncodeProcessDecode({name: recipe_spec(name) for name in ("bfs", "dfs")}, TripletGMPNN(4))
    params = to_haiku(model)
    with open(tmp_path / "best.pkl", "wb") as file:
        write_pickle(file, params)
    return params


def assert_equal(one: Params, other: Params) -> None:
    """The same arrays, bit for bit, by the same names."""
    assert one.keys() == other.keys()
    for module, entries in one.items():
        assert entries.keys() == other[module].keys()
        for entry, array in entries.items():
            np.testing.assert_array_equal(array, other[module][entry], err_msg=f"{module} {entry}")


def error_of(run: Run, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line of a refused command."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(*args)
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nar: error: ")]
    assert len(lines) == 1
    return lines[0].removeprefix("nar: error: ")


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_checkpoint_has_the_weights_of_the_file(run: Run, params: Params) -> None:
    run(*FROM, *BOTH)
    assert_equal(to_haiku(load_reasoner("model.ckpt").model), params)


@pytest.mark.slow
def test_weights_come_back_bit_for_bit(run: Run, params: Params, tmp_path: Path) -> None:
    run(*FROM, *BOTH)
    run("convert", "--to-haiku", "back.pkl", "--ckpt_path", "model.ckpt")
    assert_equal(read_pickle("back.pkl"), params)


def test_algorithms_of_a_checkpoint_are_written_in_the_order_asked_for(run: Run, params: Params) -> None:
    run(*FROM, *BOTH)
    run("convert", "--to-haiku", "back.pkl", "--ckpt_path", "model.ckpt", "--data.algorithms", "[dfs,bfs]")
    model = load_reasoner("model.ckpt").model
    module, entry = haiku_names(model)["heads.bfs.output_decoders.pi.source.weight"]
    there = read_pickle("back.pkl")[module.replace("algo_0", "algo_1")][entry]
    np.testing.assert_array_equal(there, params[module][entry])


@pytest.mark.slow
def test_a_trained_model_goes_to_haiku_and_back(run: Run, small: list[str], tmp_path: Path) -> None:
    run("fit", *small)
    run("convert", "--to-haiku", "best.pkl", "--ckpt_path", "run/last.ckpt")
    # The YAML that the run has left behind configures the same model.
    run(*FROM, "--config", "run/logs/version_0/config.yaml")
    assert_equal(to_haiku(load_reasoner("model.ckpt").model), to_haiku(load_reasoner("run/last.ckpt").model))
    kept, written = (config_of(read_checkpoint(path)) for path in ("run/last.ckpt", "model.ckpt"))
    assert kept == written


def test_the_recipe_configures_the_model_and_nothing_else_is_made(run: Run, params: Params, tmp_path: Path) -> None:
    (tmp_path / "trainer.yaml").write_text(
        "trainer:\n"
        "  default_root_dir: runs\n"
        "  logger: {class_path: CSVLogger, init_args: {save_dir: logs}}\n"
        "  callbacks: {class_path: GradientAccumulationScheduler, init_args: {scheduling: {}}}\n"  # if made it raises
    )
    before = names_in(tmp_path)
    cache = ["--data.cache_dir", "cache"]
    run(*FROM, "--config", str(CONFIG), "--config", "trainer.yaml", *BOTH, *cache)
    assert names_in(tmp_path) == before | {"model.ckpt"}
    written = config_of(read_checkpoint("model.ckpt"))
    assert written["data"]["algorithms"] == ["bfs", "dfs"]
    assert written["model"]["processor"]["init_args"]["triplet_dim"] == 8


@pytest.mark.slow
@pytest.mark.parametrize("command", ["validate", "test"])
def test_the_checkpoint_is_evaluated(
    command: str, run: Run, params: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*FROM, *BOTH, "--data.train_sizes", "[4]", "--data.test_sizes", "[4]", "--data.cache_dir", "cache")
    run(command, "--ckpt_path", "model.ckpt", "--trainer.accelerator", "cpu", "--data.num_workers", "0")
    printed = capsys.readouterr().out
    assert "bfs" in printed
    assert "dfs" in printed


def test_training_does_not_go_on_from_weights_alone(
    run: Run, params: Params, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run(*FROM, *BOTH)
    error = error_of(run, capsys, "fit", *small, "--data.algorithms", "[bfs,dfs]", "--ckpt_path", "model.ckpt")
    assert error == "model.ckpt holds weights alone, from which no training can go on; expected one of nar fit"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], "expects one of --from-haiku and --to-haiku, given neither"),
        (
            ["--from-haiku", "a", "--to-haiku", "b"],
            "expects one of --from-haiku and --to-haiku, given both",
        ),
        (["--from-haiku", "a"], "nar convert --from-haiku needs a checkpoint: --out model.ckpt"),
        (["--to-haiku", "a"], "nar convert --to-haiku needs a checkpoint: --ckpt_path model.ckpt"),
        (
            ["--from-haiku", "a", "--out", "b", "--ckpt_path", "c"],
            "nar convert --from-haiku expects --out and no --ckpt_path, given c",
        ),
        (
            ["--to-haiku", "a", "--out", "b", "--ckpt_path", "c"],
            "nar convert --to-haiku expects --ckpt_path and no --out, given b",
        ),
        (
            ["--from-haiku", "best.pkl", "--out", "./best.pkl"],
            "nar convert expects two different files, given ./best.pkl to read and to write",
        ),
        (["--to-haiku", "a", "--ckpt_path", "missing.ckpt"], "no checkpoint at missing.ckpt"),
        (["--to-haiku", "a", "--ckpt_path", "best.pkl"], "expected one written by nar fit or nar convert"),
        (["--from-haiku", "missing.pkl", "--out", "b"], "cannot read missing.pkl: No such file or directory"),
        (["--from-haiku", "", "--out", "b"], "to be a path, given ''"),
        (["--from-haiku", "best.pkl", "--out", "b", "--config", "missing.yaml"], "missing.yaml"),
        (["--from-haiku", "best.pkl", "--out", "b", "--trainer.steps", "1"], "unrecognized arguments: --trainer.steps"),
        (["--from-haiku", "best.pkl", "--out", "b", "--data.algorithms", "bsf"], "unknown algorithm bsf"),
    ],
)
def test_misuse_is_refused_in_one_line(
    args: list[str], expected: str, run: Run, params: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in error_of(run, capsys, "convert", *args)
    assert names_in(tmp_path) == {"best.pkl"}
    assert_equal(read_pickle("best.pkl"), params)


HEADS = "net/~_construct_encoders_decoders"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--model.processor.gated", "false"], "net/mpnn_aggr_clrs_processor/linear_14 b"),
        (["--model.processor.hidden_dim", "8"], "net/mpnn_aggr_clrs_processor/linear w has the shape [8, 4], expected"),
        (["--data.algorithms", "[dfs,bfs]"], f"{HEADS}/algo_0_color_dec_linear b"),
        (["--data.algorithms", "bfs"], f"{HEADS}/algo_1_A_enc_linear b"),
        (["--model.processor", "custom_processor.MeanProcessor"], "dm-clrs has no processor MeanProcessor"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_weights_of_another_model_are_refused_by_an_entry(
    args: list[str], expected: str, run: Run, params: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in error_of(run, capsys, *FROM, *BOTH, *args)
    assert names_in(tmp_path) == {"best.pkl"}


def test_a_checkpoint_is_not_written_for_another_model_than_its_own(
    run: Run, params: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*FROM, *BOTH)
    back = ["convert", "--to-haiku", "back.pkl", "--ckpt_path", "model.ckpt"]
    error = error_of(run, capsys, *back, "--model.use_lstm", "true")
    assert error == "model.ckpt was made with model.use_lstm False, but the configuration asks for True"
    assert names_in(tmp_path) == {"best.pkl", "model.ckpt"}


def test_code_in_a_file_is_not_run(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'harm'}",)

    (tmp_path / "best.pkl").write_bytes(pickle.dumps({"params": Harmful()}))
    assert "best.pkl holds 'posix.system'; expected arrays" in error_of(run, capsys, *FROM, *BOTH)
    assert names_in(tmp_path) == {"best.pkl"}


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("missing/file", "No such file or directory"),
        ("best.pkl/file", "Not a directory"),
        (".", "it is there already and is no file"),
        ("/dev/null", "it is there already and is no file"),
    ],
)
def test_a_place_that_cannot_be_written_is_named(target: str, reason: str, params: Params, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error, replacing(tmp_path / target):
        pass
    assert str(error.value) == f"cannot write {(tmp_path / target).resolve()}: {reason}"
    assert names_in(tmp_path) == {"best.pkl"}


@pytest.mark.parametrize(
    "args",
    [
        ["--from-haiku", "best.pkl", "--out", "missing/file", *BOTH],
        ["--to-haiku", "missing/file", "--ckpt_path", "model.ckpt"],
    ],
    ids=["a checkpoint", "a pickle"],
)
def test_a_missing_folder_is_named_in_one_line(
    args: list[str], run: Run, params: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*FROM, *BOTH)
    expected = f"cannot write {tmp_path / 'missing' / 'file'}: No such file or directory"
    assert error_of(run, capsys, "convert", *args) == expected


def test_what_is_there_is_overwritten(run: Run, params: Params, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_text("old")
    run(*FROM, *BOTH)
    assert_equal(to_haiku(load_reasoner("model.ckpt").model), params)
    assert names_in(tmp_path) == {"best.pkl", "model.ckpt"}


def test_a_link_stays_and_what_it_leads_to_is_overwritten(run: Run, params: Params, tmp_path: Path) -> None:
    (tmp_path / "real.ckpt").write_text("old")
    (tmp_path / "model.ckpt").symlink_to("real.ckpt")
    run(*FROM, *BOTH)
    assert (tmp_path / "model.ckpt").is_symlink()
    assert_equal(to_haiku(load_reasoner("real.ckpt").model), params)


def test_others_may_read_what_is_written_as_they_may_any_file(run: Run, params: Params, tmp_path: Path) -> None:
    run(*FROM, *BOTH)
    assert (tmp_path / "model.ckpt").stat().st_mode == (tmp_path / "best.pkl").stat().st_mode


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_nothing_half_written_is_left_and_the_old_file_stays(
    error: BaseException, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model.ckpt"
    target.write_text("old")

    def write() -> None:
        with replacing(target) as file:
            file.write(b"half")
            raise error

    with pytest.raises((UserError, KeyboardInterrupt)) as raised:
        write()
    if isinstance(error, OSError):
        assert str(raised.value) == f"cannot write {target}: No space left on device"
    assert target.read_text() == "old"
    assert names_in(tmp_path) == {"best.pkl", "model.ckpt"}


def test_a_full_disk_is_told_from_other_errors(run: Run, params: Params) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            if self.tell() + len(data) > 1000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    run(*FROM, *BOTH)
    with pytest.raises(OSError, match="No space left on device"):
        write_checkpoint(Full(), load_reasoner("model.ckpt"))


@pytest.mark.slow
def test_dm_clrs_is_not_imported(params: Params, tmp_path: Path) -> None:
    code = (
        f"import sys; from nar.cli import main; main({[*FROM, *BOTH]}); "
        "print([m for m in ('clrs', 'jax', 'haiku', 'optax', 'tensorflow') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["written: model.ckpt", "[]"]


def help_of(run: Run, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as stop:
        run(*args, "--help")
    assert stop.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_lists_the_command(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("--help")
    assert "convert Turn weights of dm-clrs into a checkpoint, or back." in " ".join(capsys.readouterr().out.split())


def test_help_begins_with_both_uses(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert help_of(run, capsys, "convert").startswith(
        "usage: nar convert --from-haiku best.pkl --config scripts/configs/clrs30.yaml --out model.ckpt "
        "nar convert --to-haiku best.pkl --ckpt_path model.ckpt "
        "Turn weights that dm-clrs saved into a checkpoint (--from-haiku), or a checkpoint into weights"
    )
