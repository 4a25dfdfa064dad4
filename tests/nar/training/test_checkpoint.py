import copy
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nar.configuration import import_path, plain
from nar.datasets import CLRS30
from nar.datasets.clrs30.recipe import recipe_spec
from nar.errors import UserError
from nar.files import replacing
from nar.noise import Uniform
from nar.processor import Processor
from nar.processors import MPNN, PGN
from nar.processors.reductions import Max, Mean, Softmax
from nar.training.checkpoint import load_reasoner, read_checkpoint, write_checkpoint
from nar.training.reasoner import Reasoner
from nar.training.saving import matched_by_name

SPECS = {name: recipe_spec(name) for name in ("bfs", "minimum")}


def saved(reasoner: Any, path: Path) -> Path:
    with replacing(path) as file:
        write_checkpoint(file, reasoner)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint of a small model."""
    return saved(Reasoner(SPECS, PGN(4)), tmp_path / "model.ckpt")


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        load_reasoner(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    return bool(one == other)


def result_of(function: Callable[[Path], Any], path: Path) -> Any:
    """What a function returns or how it refuses."""
    try:
        return function(path)
    except UserError as error:
        return error


@pytest.mark.slow
def test_of_150_damaged_bits_none_changes_what_is_read(path: Path) -> None:
    whole, bits = path.read_bytes(), random.Random(0)
    expected = read_checkpoint(path)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[bits.randrange(len(whole))] ^= 1 << bits.randrange(8)
        path.write_bytes(damaged)
        found = result_of(read_checkpoint, path)
        if isinstance(found, UserError):
            refused += 1
            assert str(found).startswith(f"{path} is ")
        else:
            assert same(found, expected)
    assert refused > 75


WEIGHT = "model.processor.message_edge.weight"


def without(checkpoint: dict[str, Any], *names: str) -> None:
    *folders, last = names
    for name in folders:
        checkpoint = checkpoint[name]
    del checkpoint[last]


def put(checkpoint: dict[str, Any], value: Any, *names: str) -> None:
    *folders, last = names
    for name in folders:
        checkpoint = checkpoint[name]
    checkpoint[last] = value


PROCESSOR = ("nar_config", "model", "processor")
FORGED: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a weight missing": (lambda c: without(c, "state_dict", WEIGHT), f"has no {WEIGHT}"),
    "a weight more": (lambda c: put(c, torch.ones(1), "state_dict", "x"), "has x, which its model has not"),
    "another shape": (lambda c: put(c, torch.ones(4, 5), "state_dict", WEIGHT), "of the shape [4, 5], where [4, 4] is"),
    "another dtype": (lambda c: put(c, torch.ones(4, 4).double(), "state_dict", WEIGHT), "as torch.float64"),
    "whole numbers": (lambda c: put(c, torch.ones(4, 4).long(), "state_dict", WEIGHT), "as torch.int64, where"),
    "no numbers": (lambda c: put(c, torch.full((4, 4), torch.nan), "state_dict", WEIGHT), "that are no numbers"),
    "no tensor": (lambda c: put(c, 3, "state_dict", WEIGHT), "no weights by name"),
    "no weights": (lambda c: put(c, {}, "state_dict"), "no weights by name"),
    "no state_dict": (lambda c: without(c, "state_dict"), "no weights by name"),
    "another width": (lambda c: put(c, 8, *PROCESSOR, "init_args", "hidden_dim"), "of the shape"),
    "a width that is none": (lambda c: put(c, "wide", *PROCESSOR, "init_args", "hidden_dim"), "cannot be made"),
    "no width": (lambda c: put(c, -1, *PROCESSOR, "init_args", "hidden_dim"), "expected hidden_dim ≥ 1"),
    "an argument more": (lambda c: put(c, 1, *PROCESSOR, "init_args", "depth"), "cannot be made"),
    "an empty configuration": (lambda c: put(c, {}, "nar_config"), "None as its configuration's model"),
    "a list": (lambda c: put(c, [], "nar_config"), "no configuration but []"),
    "no specs": (lambda c: without(c, "nar_config", "specs"), "None as its configuration's specs"),
    "specs of another form": (lambda c: put(c, [["x"]], "nar_config", "specs", "bfs", "pi"), "specs" and "bfs"),
    "an unknown stage": (lambda c: put(c, ["x", "node", "mask", 0], "nar_config", "specs", "bfs", "pi"), "bfs's pi"),
    "an unknown kind": (lambda c: put(c, "x", "nar_config", "kind"), "of the kind 'x'"),
    "a model that is none": (lambda c: put(c, 3, "nar_config", "model"), "3 as its configuration's model"),
    "an unknown setting": (lambda c: put(c, 3, "nar_config", "model", "depth"), "depth"),
    "no processor": (lambda c: without(c, *PROCESSOR), "cannot be made"),
    "a missing module": (lambda c: put(c, "missing.PGN", *PROCESSOR, "class_path"), "missing.PGN"),
    "no processor of that name": (lambda c: put(c, "nar.processors.GNP", *PROCESSOR, "class_path"), ".GNP"),
    "a class of another kind": (lambda c: put(c, "pathlib.Path", *PROCESSOR, "class_path"), "pathlib.Path"),
    "a change of nothing": (lambda c: put(c, {"model.x.y": 3}, "nar_config", "changed"), "no model.x to have y"),
    "frozen nothing": (lambda c: put(c, ["x"], "nar_config", "frozen"), "there is no x"),
    "an unknown dtype": (lambda c: put(c, "float3", "nar_config", "dtypes"), "cannot be made"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("damage", FORGED)
def test_what_is_damaged_or_forged_is_refused_in_one_line_that_names_it(damage: str, path: Path) -> None:
    change, expected = FORGED[damage]
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, path)
    message = refusal(path)
    assert expected in message
    assert str(path) in message


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys of everything in nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    inner = [place for key, item in items for place in places(item, (*path, key))]
    return [path, *inner] if path else inner


@pytest.mark.slow
def test_whatever_is_changed_in_a_checkpoint_it_is_read_or_refused_in_one_line(path: Path) -> None:
    sound, choices = torch.load(path, weights_only=True), random.Random(1)
    values = [
        None,
        0,
        -1,
        2.5,
        "",
        "nar.processors.MPNN",
        [],
        {},
        [1],
        {"class_path": "x"},
        torch.ones(2),
        True,
        "x" * 999,
    ]
    outcomes = {"read": 0, "refused": 0}
    for _ in range(80):
        mutated = copy.deepcopy(sound)
        for _ in range(choices.choice([1, 1, 2])):
            candidates = places({"nar_config": mutated["nar_config"]}) if choices.random() < 0.8 else places(mutated)
            *folders, last = choices.choice(candidates)
            place = mutated
            for name in folders:
                place = place[name]
            if choices.random() < 0.3:
                del place[last]
            else:
                place[last] = choices.choice(values)
        torch.save(mutated, path)
        found = result_of(load_reasoner, path)
        outcomes["refused" if isinstance(found, UserError) else "read"] += 1
        if isinstance(found, UserError):
            assert "\n" not in str(found)
            assert len(str(found)) < 1000
    assert min(outcomes.values()) > 5, outcomes


def test_a_checkpoint_of_before_there_were_such_settings_is_read(path: Path) -> None:
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["nar_config"]["kind"]
    torch.save(checkpoint, path)
    assert load_reasoner(path).specs == SPECS


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_model_is_loaded_in_its_own_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    reasoner = Reasoner(SPECS, PGN(4)).to(dtype)
    loaded = load_reasoner(saved(reasoner, tmp_path / "model.ckpt"))
    assert loaded.dtype == dtype
    assert same(dict(loaded.state_dict()), dict(reasoner.state_dict()))


def test_a_model_of_two_precisions_is_loaded_in_both(tmp_path: Path) -> None:
    reasoner = Reasoner(SPECS, PGN(4))
    reasoner.model.processor.norm.double()
    loaded = load_reasoner(saved(reasoner, tmp_path / "model.ckpt"))
    assert same(dict(loaded.state_dict()), dict(reasoner.state_dict()))


def test_an_older_checkpoint_of_another_precision_is_loaded_in_it(tmp_path: Path) -> None:
    path = saved(Reasoner(SPECS, PGN(4)).double(), tmp_path / "model.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["nar_config"]["dtypes"]
    torch.save(checkpoint, path)
    assert load_reasoner(path).dtype == torch.float64


def set_dropout(reasoner: Any) -> None:
    reasoner.model.dropout = 0.25


def set_rate(reasoner: Any) -> None:
    reasoner.learning_rate = 0.5


def set_noise(reasoner: Any) -> None:
    reasoner.model.latent_noise = Uniform(0.5)


def set_scale(reasoner: Any) -> None:
    reasoner.model.latent_noise.scale = 3.0


def set_reduction(reasoner: Any) -> None:
    reasoner.model.processor.reduction.in_evaluation = Mean(divisor="receivers")


def set_temperature(reasoner: Any) -> None:
    reasoner.model.processor.reduction.usual.fixed_temperature = 0.125


def set_senders(reasoner: Any) -> None:
    reasoner.model.processor.senders = "all"


def take_norm(reasoner: Any) -> None:
    reasoner.model.processor.norm = nn.Identity()


def freeze(reasoner: Any) -> None:
    reasoner.model.processor.requires_grad_(False)


CHANGES = (
    set_dropout,
    set_rate,
    set_noise,
    set_scale,
    set_reduction,
    set_temperature,
    set_senders,
    take_norm,
    freeze,
)


def description(reasoner: Any) -> str:
    """All that can be seen of a model."""
    plain_values = (bool, int, float, str, type(None))
    seen = {
        name: {
            k: v
            for k, v in vars(module).items()
            if isinstance(v, plain_values) and not k.startswith("_") and k != "training"
        }
        for name, module in reasoner.model.named_modules()
    }
    trained = [name for name, parameter in reasoner.named_parameters() if parameter.requires_grad]
    return f"{reasoner.learning_rate} {seen} {trained} {reasoner.model}"


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_in_a_model_after_it_was_made_is_kept(change: Callable[[Any], None], tmp_path: Path) -> None:
    def made() -> Reasoner:
        return Reasoner(SPECS, PGN(4, reduction=Softmax(2.0)), latent_noise=Uniform()).eval()

    reasoner = made()
    change(reasoner)
    assert description(reasoner) != description(made())
    once = load_reasoner(saved(reasoner, tmp_path / "once.ckpt"))
    assert description(once) == description(reasoner)
    copied = copy.deepcopy(once)
    assert description(load_reasoner(saved(copied, tmp_path / "twice.ckpt"))) == description(reasoner)


def test_what_was_changed_before_the_model_was_made_of_it_is_kept(tmp_path: Path) -> None:
    softmax = Softmax(2.0)
    softmax.fixed_temperature = 0.5
    processor = PGN(4, reduction=softmax)
    processor.reduction.in_evaluation = Max()
    reasoner = Reasoner(SPECS, processor).eval()
    assert description(load_reasoner(saved(reasoner, tmp_path / "model.ckpt"))) == description(reasoner)


class Scaled(Processor):
    """A processor one of whose arguments is no plain value."""

    def __init__(self, hidden_dim: int = 4, scale: Any = None, **others: Any) -> None:
        super().__init__()
        self.hidden_dim, self.others = hidden_dim, others
        self.layer = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, node_fts: Any, *_: Any) -> tuple[Any, None]:
        """Next states."""
        return self.layer(node_fts), None


def test_an_argument_that_is_no_plain_value_is_refused_by_name_where_the_model_is_loaded(tmp_path: Path) -> None:
    path = saved(Reasoner(SPECS, Scaled(scale=torch.ones(4))), tmp_path / "model.ckpt")
    assert refusal(path) == f"the model of {path} cannot be made: scale was given as Tensor, which no checkpoint holds"


def test_arguments_are_kept_by_name_as_plain_values_with_the_defaults() -> None:
    class Local(Scaled):
        pass

    made = plain(Local(8, scale=Path("a"), first=(1, 2), second={"x": Softmax(3.0)}))
    assert json.loads(json.dumps(made))["init_args"] == {
        "hidden_dim": 8,
        "scale": "a",
        "first": [1, 2],
        "second": {"x": plain(Softmax(3.0))},
    }
    assert plain(Softmax(3.0)) == {
        "class_path": "nar.processors.reductions.Softmax",
        "init_args": {"temperature": 3.0, "learnt": False, "adaptive": "never"},
    }
    assert import_path(MPNN) == "nar.processors.MPNN"


def test_data_of_python_is_known_by_its_arguments(tmp_path: Path) -> None:
    data = CLRS30(["bfs", "minimum"], train_sizes=[4], cache_dir=str(tmp_path), batch_size=3)
    with replacing(tmp_path / "model.ckpt") as file:
        write_checkpoint(file, Reasoner(data.specs, PGN(4)), data)
    kept = read_checkpoint(tmp_path / "model.ckpt")["nar_config"]["data"]
    assert (kept["algorithms"], kept["train_sizes"], kept["batch_size"]) == (["bfs", "minimum"], [4], 3)


def test_the_state_of_an_optimiser_goes_by_the_names_of_parameters() -> None:
    def optimiser(names: list[str]) -> tuple[torch.optim.Optimizer, dict[str, nn.Parameter]]:
        parameters = {name: nn.Parameter(torch.full((2,), float(ord(name)))) for name in names}
        return matched_by_name(torch.optim.Adam(parameters.items())), parameters

    one, parameters = optimiser(["a", "b", "c"])
    for name, parameter in parameters.items():
        parameter.grad = torch.full((2,), float(ord(name)))
    one.step()
    other, others = optimiser(["c", "a", "b"])
    other.load_state_dict(one.state_dict())
    for name in others:
        assert same(dict(other.state[others[name]]), dict(one.state[parameters[name]]))
    assert other.param_groups[0]["param_names"] == ["c", "a", "b"]
    with pytest.raises(UserError, match="expected a state of the optimiser for 2 parameters"):
        optimiser(["a", "d"])[0].load_state_dict(one.state_dict())


def test_a_checkpoint_has_algorithms_of_clrs_30_by_their_names(tmp_path: Path) -> None:
    data = CLRS30(["bfs", "minimum"])
    with (tmp_path / "model.ckpt").open("wb") as file:
        write_checkpoint(file, Reasoner(data.specs, PGN(4)), data)
    config = read_checkpoint(tmp_path / "model.ckpt")["nar_config"]
    assert config["data"]["algorithms"] == ["bfs", "minimum"]
