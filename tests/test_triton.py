"""The kernels for GPUs: on a GPU if there is one, else by Triton's interpreter on the CPU."""

# Axes: B graphs, N nodes, M rows, H hidden, K channels, F features. An edge's is [B, sender, receiver, ...].
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
from torch import Tensor

from nar.batch import Batch
from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.splits.splits import TrainStream
from nar.model.losses import losses
from nar.model.unroll import EncodeProcessDecode
from nar.ops import device as gpu
from nar.ops import max_message as max_message_module
from nar.ops import max_plus as tropical
from nar.ops import pointer_logits as pointers
from nar.ops.affine import gathered_gradients
from nar.ops.max_message import UNHEARD, max_message
from nar.ops.max_message import triton as max_message_triton
from nar.ops.max_plus import max_plus
from nar.ops.max_plus import triton as tropical_triton
from nar.ops.pointer_logits import triton as pointers_triton
from nar.processors import TripletGMPNN

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
B, N, M, H, K, F = 2, 5, 18, 6, 3, 2
NODES, EDGES, LAYERS = (B, N, H), (B, N, N, K), [(H, H), (H,), (H, H), (H,)]
SHAPES: dict[str, list[tuple[int, ...]]] = {
    "max_plus": [(B, N, N, F), (B, N, N, F)],
    "max_message": [NODES, NODES, EDGES, (H, K), *LAYERS],
    "max_message, masked": [NODES, NODES, EDGES, (H, K), *LAYERS],
    "max_message, no channels": [NODES, NODES, (B, N, N, 0), (H, 0), *LAYERS],
    "edge_logits": [NODES, NODES, (H,), EDGES, (H, K), (H,)],
    "edge_logits, states": [NODES, NODES, (H,), EDGES, (H, K), (H,), (B, N, N, F), (H, F), (H,), (H, H)],
    "product_logits": [(B, M, H), NODES, (H,)],
}
EVERY_OPERATION = pytest.mark.parametrize("operation", SHAPES)
Operation = Callable[..., Tensor]


def some_hear() -> Tensor:
    """A mask of who is heard: by one node nobody."""
    is_heard = torch.rand(B, N, N, generator=torch.Generator().manual_seed(1)) < 0.5
    is_heard[:, :, 0] = False
    return is_heard


def both_forms(operation: str) -> tuple[Operation, Operation]:
    """An operation by kernels, and as the library calls it on whatever device its arguments are."""

    is_heard = some_hear() if operation.endswith("masked") else None
    match operation.split(",")[0]:
        case "max_plus":
            return tropical_triton.max_plus, max_plus
        case "max_message":
            return (
                lambda *given: max_message_triton.max_message(
                    *given, None if is_heard is None else is_heard.to(DEVICE), UNHEARD
                ),
                lambda *given: max_message(*given, is_heard),
            )
        case "edge_logits":
            return pointers_triton.edge_logits, pointers.edge_logits
        case _:
            return pointers_triton.product_logits, pointers.product_logits


def random_arguments(operation: str, dtype: torch.dtype = torch.float64, *, whole: bool = False) -> list[Tensor]:
    """Whole numbers, if asked for: many of what is compared is then equal."""
    arguments = [torch.randn(shape, dtype=torch.float64) for shape in SHAPES[operation]]
    return [(argument.round() if whole else argument).to(dtype) for argument in arguments]


def values_and_gradients(function: Operation, arguments: Sequence[Tensor], device: str) -> list[Tensor]:
    given = [argument.to(device).requires_grad_() for argument in arguments]
    made = function(*given)
    weights = torch.linspace(-1, 1, made.numel(), dtype=made.dtype, device=device).view_as(made)
    return [made.detach().cpu(), *(x.cpu() for x in torch.autograd.grad(made, given, weights))]


def assert_same_function(operation: str, arguments: Sequence[Tensor], tolerance: float) -> None:
    kernels, reference = both_forms(operation)
    expected = values_and_gradients(reference, arguments, "cpu")
    made = values_and_gradients(kernels, arguments, DEVICE)
    torch.testing.assert_close(made, expected, rtol=tolerance, atol=tolerance)


@EVERY_OPERATION
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_kernels_equal_the_operation_on_a_cpu(operation: str, dtype: torch.dtype, tolerance: float) -> None:
    assert_same_function(operation, random_arguments(operation, dtype), tolerance)


@EVERY_OPERATION
def test_kernels_equal_the_formula_where_much_is_equal(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = random_arguments(operation, whole=True)
    kernels, reference = both_forms(operation)
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "is_cpu", False)  # so that the operation is the plain formula
        expected = values_and_gradients(reference, arguments, "cpu")
    torch.testing.assert_close(values_and_gradients(kernels, arguments, DEVICE), expected)


@EVERY_OPERATION
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_half_precision(operation: str, dtype: torch.dtype) -> None:
    arguments = random_arguments(operation, dtype)
    kernels, reference = both_forms(operation)
    made = values_and_gradients(kernels, arguments, DEVICE)
    assert {x.dtype for x in made} == {dtype}
    expected = values_and_gradients(reference, arguments, "cpu")  # computed in float32
    for one, other in zip(made, expected, strict=True):
        scale = float(other.abs().max()) if other.numel() else 0.0
        torch.testing.assert_close(one, other, rtol=0.05, atol=min(0.05 * scale, 0.5))


@EVERY_OPERATION
def test_second_gradients_are_those_of_the_operation_on_a_cpu(operation: str) -> None:
    made = []
    for function, device in zip(both_forms(operation), (DEVICE, "cpu"), strict=True):
        torch.manual_seed(1)
        arguments = [x.to(device).requires_grad_() for x in random_arguments(operation, whole=True)]
        gradients = torch.autograd.grad(function(*arguments).square().sum(), arguments, create_graph=True)
        penalty = torch.stack([x.square().sum() for x in gradients]).sum()
        made.append([x.cpu() for x in (*gradients, *torch.autograd.grad(penalty, arguments))])
    torch.testing.assert_close(made[0], made[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_senders", [17, 40])
def test_more_senders_than_a_program_reads_at_a_time(num_senders: int, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, edges = [(1, num_senders, H), (1, 2, H)], (1, num_senders, 2, K)
    monkeypatch.setitem(SHAPES, "max_message", [*nodes, edges, (H, K), *LAYERS])
    monkeypatch.setitem(SHAPES, "edge_logits", [*reversed(nodes), (H,), edges, (H, K), (H,)])
    for operation in ("max_message", "edge_logits"):
        assert_same_function(operation, random_arguments(operation, whole=True), 1e-12)


def test_a_matrix_of_more_than_sixteen_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "max_plus", [(1, 17, 17, 1), (1, 17, 17, 1)])
    assert_same_function("max_plus", random_arguments("max_plus", whole=True), 1e-12)


@EVERY_OPERATION
def test_what_is_not_a_number_is_not_hidden(operation: str) -> None:
    arguments = random_arguments(operation, torch.float32)
    arguments[0][0, 1, 1] = torch.nan
    kernels, reference = both_forms(operation)
    made = kernels(*(argument.to(DEVICE) for argument in arguments)).cpu()
    assert made[0].isnan().any()
    assert torch.equal(made.isnan(), reference(*arguments).isnan())


@pytest.mark.parametrize("operation", ["edge_logits, states", "product_logits"])
def test_logits_keep_nothing_as_large_as_pairs_times_features(operation: str) -> None:
    kept: list[int] = []
    arguments = [argument.to(DEVICE).requires_grad_() for argument in random_arguments(operation, torch.float32)]
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        both_forms(operation)[0](*arguments)
    assert max(kept, default=0) <= max(argument.numel() for argument in arguments)


def test_the_maximum_of_messages_keeps_a_bit_of_each() -> None:
    messages = torch.randn(B, 40, 2, H, device=DEVICE, requires_grad=True)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.nbytes) or x, lambda x: x):
        max_message_triton.MaxOverSenders.apply(messages, None, UNHEARD)
    assert kept == [2 * B * 2 * H * 4]  # two words hold the bits of 40 senders


@pytest.mark.parametrize(
    ("operation", "module", "kernels"),
    [
        ("max_plus", tropical, tropical_triton),
        ("max_message", max_message_module, max_message_triton),
        ("edge_logits", pointers, pointers_triton),
        ("product_logits", pointers, pointers_triton),
    ],
)
def test_the_library_calls_the_kernels_for_what_is_on_a_gpu(
    operation: str, module: Any, kernels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = random_arguments(operation)
    _, reference = both_forms(operation)
    expected = reference(*arguments)
    calls: list[str] = []
    original = getattr(kernels, operation)
    monkeypatch.setattr(kernels, operation, lambda *given: calls.append(operation) or original(*given))
    monkeypatch.setattr(module, "is_for_triton", lambda x: True)
    torch.testing.assert_close(reference(*(argument.to(DEVICE) for argument in arguments)).cpu(), expected)
    assert calls == [operation]


def test_only_what_is_on_a_gpu_is_for_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu: Any = SimpleNamespace(is_cuda=True)
    assert gpu.is_for_triton(on_gpu)
    assert not gpu.is_for_triton(torch.zeros(1))
    monkeypatch.setattr(gpu, "_has_triton", lambda: False)
    assert not gpu.is_for_triton(on_gpu)


def test_every_kernel_compiles_for_an_h100() -> None:
    script = Path(__file__).parent / "support" / "compile_for_gpu.py"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    compiled = {line.split()[0] for line in result.stdout.splitlines()}
    files = (tropical_triton, max_message_triton, pointers_triton)
    kernels = {name for file in files for name, value in vars(file).items() if hasattr(value, "fn")}
    assert kernels - compiled == {"_message", "_second"}  # which others call


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
    for module in (tropical, max_message_module, pointers):
        monkeypatch.setattr(module, "is_for_triton", lambda x: True)
    how = gathered_gradients() if gathered else nullcontext()
    with torch.autocast(DEVICE, dtype, enabled=dtype is not None), how:
        loss, *gradients = loss_and_gradients(move_data_to_device(batch, DEVICE))
    torch.testing.assert_close(loss, expected[0], rtol=tolerance, atol=0)
    difference = torch.cat([(x - y).flatten() for x, y in zip(gradients, expected[1:], strict=True)])
    assert difference.norm() < 3 * tolerance * torch.cat([x.flatten() for x in expected[1:]]).norm()
