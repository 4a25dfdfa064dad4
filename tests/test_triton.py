"""The kernels for GPUs: on a GPU if there is one, else by Triton's interpreter on the CPU."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from operations import OPERATIONS, random_arguments
from torch import Tensor

from nar.batch import Batch
from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.splits.splits import TrainStream
from nar.model.losses import losses
from nar.model.unroll import EncodeProcessDecode
from nar.ops import device as gpu
from nar.ops.affine import gathered_gradients
from nar.ops.max_message import triton as max_message_triton
from nar.ops.precision import UNHEARD
from nar.ops.recurrence import triton as recurrence_triton
from nar.processors import TripletGMPNN

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = {"B": 2, "N": 5, "S": 5, "R": 5, "M": 18, "H": 6, "K": 3, "F": 2, "W": 6, "P": 2, "D": 12, "C": 15}
# The maximum along edges has kernels for float32 alone, and a test of its own.
WITH_KERNELS = [name for name, (*_, kernels, _) in OPERATIONS.items() if kernels and name != "edge_max_message"]
# By name, the operation and its sizes.
CASES = {name: (name, SIZES) for name in WITH_KERNELS} | {
    "max_message, no channels": ("max_message", SIZES | {"K": 0}),
    "max_message, many channels": ("max_message", SIZES | {"K": 65}),
    "pair_logits, pointers alone": ("pair_logits", SIZES | {"C": 12}),
    "pair_logits, no pointers": ("pair_logits, states", SIZES | {"P": 0, "D": 0, "C": 3, "K": 0}),
}
EVERY_CASE = pytest.mark.parametrize("case", CASES)
Function = Callable[..., Tensor]


def both_forms(case: str) -> tuple[Function, Function]:
    """An operation by kernels, and as the library calls it on whatever device its arguments are."""
    operation = OPERATIONS[CASES[case][0]]
    assert operation.kernels is not None
    return operation.kernels, operation.call


def random_case(case: str, dtype: torch.dtype = torch.float64, *, whole: bool = False) -> list[Tensor]:
    """Arguments of a case; whole numbers, if asked for: many of what is compared is then equal."""
    arguments = [argument.detach() for argument in random_arguments(*CASES[case])]
    return [(argument.round() if whole else argument).to(dtype) for argument in arguments]


def values_and_gradients(function: Function, arguments: Sequence[Tensor], device: str) -> list[Tensor]:
    given = [argument.to(device).requires_grad_() for argument in arguments]
    made = function(*given)
    weights = torch.linspace(-1, 1, made.numel(), dtype=made.dtype, device=device).view_as(made)
    return [made.detach().cpu(), *(x.cpu() for x in torch.autograd.grad(made, given, weights))]


def assert_same_function(case: str, arguments: Sequence[Tensor], tolerance: float) -> None:
    kernels, reference = both_forms(case)
    expected = values_and_gradients(reference, arguments, "cpu")
    made = values_and_gradients(kernels, arguments, DEVICE)
    torch.testing.assert_close(made, expected, rtol=tolerance, atol=tolerance)


@EVERY_CASE
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_kernels_equal_the_operation_on_a_cpu(case: str, dtype: torch.dtype, tolerance: float) -> None:
    assert_same_function(case, random_case(case, dtype), tolerance)


@pytest.mark.slow
@EVERY_CASE
def test_kernels_equal_the_formula_where_much_is_equal(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = random_case(case, whole=True)
    kernels, reference = both_forms(case)
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "is_cpu", False)  # so that the operation is the plain formula
        expected = values_and_gradients(reference, arguments, "cpu")
    torch.testing.assert_close(values_and_gradients(kernels, arguments, DEVICE), expected)


@pytest.mark.slow
@EVERY_CASE
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_half_precision(case: str, dtype: torch.dtype) -> None:
    arguments = random_case(case, dtype)
    kernels, reference = both_forms(case)
    made = values_and_gradients(kernels, arguments, DEVICE)
    assert {x.dtype for x in made} == {dtype}
    expected = values_and_gradients(reference, arguments, "cpu")  # computed in float32
    for one, other in zip(made, expected, strict=True):
        scale = float(other.abs().max()) if other.numel() else 0.0
        torch.testing.assert_close(one, other, rtol=0.05, atol=min(0.05 * scale, 0.5))


@pytest.mark.slow
@EVERY_CASE
def test_second_gradients_are_those_of_the_operation_on_a_cpu(case: str) -> None:
    made = []
    for function, device in zip(both_forms(case), (DEVICE, "cpu"), strict=True):
        torch.manual_seed(1)
        arguments = [x.to(device).requires_grad_() for x in random_case(case, whole=True)]
        gradients = torch.autograd.grad(function(*arguments).square().sum(), arguments, create_graph=True)
        penalty = torch.stack([x.square().sum() for x in gradients]).sum()
        made.append([x.cpu() for x in (*gradients, *torch.autograd.grad(penalty, arguments))])
    torch.testing.assert_close(made[0], made[1], rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [{"S": 17, "R": 2}, {"S": 40, "R": 2}, {"S": 2, "R": 17}], ids=str)
def test_more_nodes_than_a_program_reads_at_a_time(sizes: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for operation, own in (("max_message", sizes), ("pair_logits, states", {"N": max(sizes.values())})):
        monkeypatch.setitem(CASES, operation, (operation, SIZES | {"B": 1} | own))
        assert_same_function(operation, random_case(operation, whole=True), 1e-12)


@pytest.mark.slow
def test_a_matrix_of_more_than_sixteen_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CASES, "max_plus", ("max_plus", {"B": 1, "N": 17, "F": 1}))
    assert_same_function("max_plus", random_case("max_plus", whole=True), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["recurrence", "recurrence, masked"])
def test_a_state_of_more_entries_than_a_program_holds(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrence_triton, "_ENTRIES", 1)  # of each sender 16 all the same
    monkeypatch.setitem(CASES, case, (case, SIZES | {"S": 17, "H": 20}))
    assert_same_function(case, random_case(case), 1e-12)


@pytest.mark.slow
def test_more_triplets_than_a_word_has_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    case = "max_triplet_message"
    monkeypatch.setitem(CASES, case, (case, {"B": 1, "N": 34, "F": 1, "K": 1}))
    arguments = random_case(case, whole=True)
    arguments[0][0, 33] = arguments[0].max()  # so that the last often exceeds all before it, or is equal to some
    assert_same_function(case, arguments, 1e-12)


@pytest.mark.slow
@EVERY_CASE
def test_what_is_not_a_number_is_not_hidden(case: str) -> None:
    arguments = random_case(case, torch.float32)
    arguments[0][0, 1, 1] = torch.nan
    kernels, reference = both_forms(case)
    made = kernels(*(argument.to(DEVICE) for argument in arguments)).cpu()
    assert made.isnan().any()
    assert torch.equal(made.isnan(), reference(*arguments).isnan())


@pytest.mark.slow
@pytest.mark.parametrize("case", ["gated_update", "max_triplet_message"])
def test_what_is_not_a_number_in_any_argument_is_not_hidden(case: str) -> None:
    kernels, reference = both_forms(case)
    for argument in (arguments := random_case(case, torch.float32)):
        last = argument.flatten()[-1].clone()
        argument.view(-1)[-1] = torch.nan
        made = kernels(*(x.to(DEVICE) for x in arguments)).cpu()
        assert made.isnan().any()
        assert torch.equal(made.isnan(), reference(*arguments).isnan())
        argument.view(-1)[-1] = last


@pytest.mark.parametrize("case", ["pair_logits, states", "product_logits"])
def test_logits_keep_nothing_as_large_as_pairs_times_features(case: str) -> None:
    kept: list[int] = []
    arguments = [argument.to(DEVICE).requires_grad_() for argument in random_case(case, torch.float32)]
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        both_forms(case)[0](*arguments)
    assert max(kept, default=0) <= max(argument.numel() for argument in arguments)


def test_the_maximum_of_messages_keeps_a_bit_of_each() -> None:
    messages = torch.randn(2, 40, 3, 6, device=DEVICE, requires_grad=True)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.nbytes) or x, lambda x: x):
        max_message_triton.MaxOverSenders.apply(messages, None, UNHEARD)
    assert kept == [2 * 2 * 3 * 6 * 4]  # two words hold the bits of 40 senders


@pytest.mark.parametrize("case", WITH_KERNELS)
def test_the_library_calls_the_kernels_for_what_is_on_a_gpu(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = random_case(case)
    _, call = both_forms(case)
    expected = call(*arguments)
    calls: list[str] = []
    package, function = OPERATIONS[case].package, case.partition(",")[0]
    kernels = importlib.import_module(f"{package}.triton")
    original = getattr(kernels, function)
    monkeypatch.setattr(kernels, function, lambda *given: calls.append(function) or original(*given))
    monkeypatch.setattr(f"{package}.is_for_triton", lambda x: True)
    torch.testing.assert_close(call(*(argument.to(DEVICE) for argument in arguments)).cpu(), expected)
    assert calls == [function]


def test_only_what_is_on_a_gpu_is_for_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu: Any = SimpleNamespace(is_cuda=True)
    assert gpu.is_for_triton(on_gpu)
    assert not gpu.is_for_triton(torch.zeros(1))
    monkeypatch.setattr(gpu, "_has_triton", lambda: False)
    assert not gpu.is_for_triton(on_gpu)


@pytest.mark.slow
def test_every_kernel_compiles_for_an_h100() -> None:
    script = Path(__file__).parent / "support" / "compile_for_gpu.py"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    compiled = {line.split()[0] for line in result.stdout.splitlines()}
    folder = Path(gpu.__file__).parent
    files = [importlib.import_module(f"nar.ops.{path.parent.name}.triton") for path in folder.glob("*/triton.py")]
    kernels = {name for file in files for name, value in vars(file).items() if hasattr(value, "fn")}
    others = {"_compose", "_grad_sum", "_message", "_plus", "_product", "_step", "_sum", "_z"}  # which others call
    assert kernels - compiled == others


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(None, 1e-4), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("gathered", [False, True])
def test_a_model_that_goes_through_the_kernels_is_the_same(
    dtype: torch.dtype | None, tolerance: float, gathered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32, and in bfloat16 as Lightning's ``bf16-mixed`` has it; as recordings have it, too."""
    algorithm = "insertion_sort"  # which has pointers
    spec = recipe_spec(algorithm)
    batch = TrainStream([algorithm], [4], 1, seed=1)[0]
    model = EncodeProcessDecode({algorithm: spec}, TripletGMPNN(8)).eval()

    def loss_and_gradients(batch: Batch) -> list[Tensor]:
        by_probe = losses(spec, model(algorithm, batch.feedback.features), batch.feedback)
        loss = torch.stack(list(by_probe.values())).sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
        return [loss.detach().cpu(), *(gradient.cpu() for gradient in gradients)]

    expected = loss_and_gradients(batch)
    model.to(DEVICE)
    for name in WITH_KERNELS:
        monkeypatch.setattr(f"{OPERATIONS[name].package}.is_for_triton", lambda x: True)
    how = gathered_gradients() if gathered else nullcontext()
    with torch.autocast(DEVICE, dtype, enabled=dtype is not None), how:
        loss, *gradients = loss_and_gradients(move_data_to_device(batch, DEVICE))
    torch.testing.assert_close(loss, expected[0], rtol=tolerance, atol=0)
    difference = torch.cat([(x - y).flatten() for x, y in zip(gradients, expected[1:], strict=True)])
    assert difference.norm() < 3 * tolerance * torch.cat([x.flatten() for x in expected[1:]]).norm()
