"""What entries into compiled code do with tensors that are not as their loops expect them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from layers import Inputs, random_inputs
from operations import OPERATIONS, random_arguments
from torch import Tensor

from nar.ops import border
from nar.ops.border import check_index, check_shapes
from nar.ops.edge_max_message import by_receiver, edge_max_message
from nar.ops.max_message import max_message
from nar.ops.scatter import scatter, scatter_softmax
from nar.processors import GAT, MPNN, PGN, Asynchronous, DeepSets, GATv2, MemNet, TripletGMPNN

PROCESSORS = [PGN, MPNN, DeepSets, TripletGMPNN, GAT, GATv2, MemNet, Asynchronous]
EVERY_OPERATION = pytest.mark.parametrize("operation", OPERATIONS)
EVERY_PROCESSOR = pytest.mark.parametrize("kind", PROCESSORS)
H = 4


def values_and_gradients(function: Callable[..., Tensor], arguments: list[Tensor]) -> list[Tensor]:
    given = [argument.detach().requires_grad_() for argument in arguments]
    made = function(*given)
    weights = torch.linspace(-1, 1, made.numel(), dtype=made.dtype).view_as(made)
    return [made, *torch.autograd.grad(made, given, weights, materialize_grads=True)]


def misshapen(argument: Tensor) -> Iterator[Tensor]:
    """The same data with an axis longer, shorter, missing or more."""
    yield argument[None]
    for axis in range(argument.dim()):
        yield torch.cat([argument, argument], dim=axis)
        yield argument.narrow(axis, 0, argument.shape[axis] - 1)
        yield argument.select(axis, 0)


def test_every_folder_of_an_operation_is_in_the_table() -> None:
    packages = {operation.package for operation in OPERATIONS.values()} - {""}
    folders = {path.parent.name for path in Path(border.__file__).parent.glob("*/reference.py")}
    assert packages == {f"nar.ops.{folder}" for folder in folders}


@EVERY_OPERATION
def test_shapes_that_disagree_are_refused(operation: str) -> None:
    for index, axes in enumerate(OPERATIONS[operation].axes):
        known = {other for i, names in enumerate(OPERATIONS[operation].axes) for other in names.split() if i != index}
        right = random_arguments(operation)[index].detach()
        for wrong in misshapen(right):
            arguments: list[Tensor] = random_arguments(operation)
            arguments[index] = wrong
            sizes = zip(axes.split(), wrong.shape, right.shape, strict=False)
            if wrong.dim() == right.dim() and not any(own != usual for axis, own, usual in sizes if axis in known):
                continue  # an axis that no other argument has
            if operation == "scatter":
                continue  # of which the index is made to fit
            with pytest.raises((ValueError, IndexError), match=r"expected .* given"):
                OPERATIONS[operation].call(*arguments)


@EVERY_OPERATION
def test_numbers_that_are_whole_are_refused(operation: str) -> None:
    if operation == "scatter":
        pytest.skip("sums whole numbers")
    for index in range(len(OPERATIONS[operation].axes)):
        arguments = random_arguments(operation)
        arguments[index] = arguments[index].detach().long()
        with pytest.raises(TypeError, match=r"expected \w+ of a floating-point type, given torch.int64"):
            OPERATIONS[operation].call(*arguments)


def in_other_layouts(argument: Tensor) -> Iterator[Tensor]:
    """The same numbers, elsewhere in memory."""
    for axis in range(argument.dim()):
        yield argument.transpose(0, axis).contiguous().transpose(0, axis)
        yield argument.repeat_interleave(2, dim=axis).narrow(axis, 0, 2 * argument.shape[axis])[
            (slice(None),) * axis + (slice(None, None, 2),)
        ]
    yield torch.cat([argument.flatten(), argument.flatten()])[argument.numel() :].view_as(argument)


@EVERY_OPERATION
def test_it_does_not_matter_how_arguments_lie_in_memory(operation: str) -> None:
    arguments = [argument.detach() for argument in random_arguments(operation)]
    call = OPERATIONS[operation].call
    expected = values_and_gradients(call, arguments)
    for index, argument in enumerate(arguments):
        for other in in_other_layouts(argument):
            given = [*arguments[:index], other, *arguments[index + 1 :]]
            torch.testing.assert_close(values_and_gradients(call, given), expected, rtol=1e-12, atol=1e-12)


@EVERY_OPERATION
def test_what_is_expanded_counts_as_what_it_shows(operation: str) -> None:
    arguments = [argument.detach() for argument in random_arguments(operation)]
    for index, argument in enumerate(arguments):
        for axis in range(argument.dim()):
            given = list(arguments)
            given[index] = argument.narrow(axis, 0, 1).expand_as(argument)
            copied = [x.contiguous() for x in given]
            made, expected = (values_and_gradients(OPERATIONS[operation].call, x) for x in (given, copied))
            torch.testing.assert_close(made, expected, rtol=1e-12, atol=1e-12)


@EVERY_OPERATION
@pytest.mark.parametrize("empty", ["B", "N", "S", "R", "M", "E", "H", "K", "F", "W", "P", "D"])
def test_axes_may_be_empty(operation: str, empty: str) -> None:
    axes = {axis for names in OPERATIONS[operation].axes for axis in names.split()}
    if empty not in axes:
        return
    sizes = {empty: 0} | ({"D": 0} if empty == "P" else {})  # w's of no pointers are none
    if operation == "edge_max_message" and empty in ("M", "N"):
        sizes["E"] = 0  # edges have senders and receivers
    arguments = [argument.detach() for argument in random_arguments(operation, sizes)]
    made = values_and_gradients(OPERATIONS[operation].call, arguments)
    torch.testing.assert_close(made, values_and_gradients(OPERATIONS[operation].plain, arguments))


@pytest.mark.parametrize("wrong", [(1, 3, 4), (2, 4, 4), (2, 3, 1), (3, 4)])
def test_a_mask_is_of_every_pair(wrong: tuple[int, ...]) -> None:
    arguments = random_arguments("max_message")
    with pytest.raises(ValueError, match=r"max_message: expected is_heard \[B=2, S=3, R=4\], given"):
        max_message(*arguments, torch.ones(wrong, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"max_message: expected is_heard of torch.bool, given torch.float32"):
        max_message(*arguments, torch.ones(2, 3, 4))


def test_an_axis_may_be_a_multiple_of_another() -> None:
    check_shapes("f", x=(torch.ones(2), "A"), y=(torch.ones(6), "3A"))
    assert check_shapes("f", y=(torch.ones(6), "3A"), x=(torch.ones(2), "A"))["A"] == 2
    for wrong in (5, 7, 2):
        with pytest.raises(ValueError, match=rf"f: expected y \[3A=6\], given \[{wrong}\]"):
            check_shapes("f", x=(torch.ones(2), "A"), y=(torch.ones(wrong), "3A"))


def test_all_is_on_one_device() -> None:
    with pytest.raises(TypeError, match="f: expected y on cpu, given one on meta"):
        check_shapes("f", x=(torch.ones(2), "A"), y=(torch.ones(2, device="meta"), "A"))


@pytest.mark.parametrize("wrong", [-1, 5, 10**6])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_an_index_without_a_row_is_refused(wrong: int, dtype: torch.dtype) -> None:
    index = torch.tensor([0, wrong, 1], dtype=dtype)
    with pytest.raises(IndexError, match=f"f: expected rows in 0 … 4, given {wrong}"):
        check_index("f", "rows", index, 5)
    for edge_index in (torch.stack([index, index * 0]), torch.stack([index * 0, index])):
        with pytest.raises(IndexError, match=f"expected edge_index in 0 … 4, given {wrong}"):
            by_receiver(edge_index, 5)
        with pytest.raises(IndexError, match=r"expected (senders in 0 … 4|receivers in 0 … 0|receivers in 0 … 4)"):
            by_receiver(edge_index, 5 if wrong in edge_index[1] else 1, 5 if wrong in edge_index[0] else 1)
    for function in (scatter, scatter_softmax):
        with pytest.raises(IndexError, match=f"scatter: expected index in 0 … 4, given {wrong}"):
            function(torch.ones(3, 2), index, 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_an_index_is_of_whole_numbers(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"expected edge_index of whole numbers, given {dtype}"):
        by_receiver(torch.ones(2, 3, dtype=dtype), 5)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_an_index_may_be_of_any_whole_numbers(dtype: torch.dtype) -> None:
    index = torch.tensor([0, 2, 2, 1])
    torch.testing.assert_close(scatter(torch.eye(4), index.to(dtype), 3, "max"), scatter(torch.eye(4), index, 3, "max"))
    edges, expected = by_receiver(torch.stack([index, index]).to(dtype), 3), by_receiver(torch.stack([index, index]), 3)
    torch.testing.assert_close(edges, expected)


def test_edges_are_those_of_the_nodes() -> None:
    arguments = random_arguments("edge_max_message", {"M": 4})
    more = by_receiver(torch.zeros(2, 12, dtype=torch.long), 5)
    with pytest.raises(ValueError, match="edge_max_message: expected edges of 4 receivers, given those of 5"):
        edge_max_message(*arguments, more)
    with pytest.raises(IndexError, match="edge_max_message: expected senders in 0 … 3, given 6"):
        edge_max_message(*arguments, by_receiver(torch.tensor([[6], [0]]).expand(2, 12), 4, 7))
    with pytest.raises(ValueError, match=r"edge_max_message: expected senders \[E=12\], given \[3\]"):
        edge_max_message(*arguments, by_receiver(torch.zeros(2, 3, dtype=torch.long), 4))
    with pytest.raises(ValueError, match=r"expected edge_index \[2, E\], given \[3, 4\]"):
        by_receiver(torch.zeros(3, 4, dtype=torch.long), 4)


@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
@pytest.mark.parametrize("backend", ["torch", None])
def test_rows_and_their_groups_are_equally_many(reduce: Any, backend: Any) -> None:
    with pytest.raises(ValueError, match=r"scatter: expected index \[3\], given \[1\]"):
        scatter(torch.ones(3, 2), torch.tensor([0]), 2, reduce, backend=backend)


@pytest.mark.parametrize("ptr", [[0, 3], [0, 1, 3, 3], [1, 1, 3], [0, 2, 3], [0, 1, 9], [0, -1, 3], [0, 3, 1]])
@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
def test_a_ptr_that_does_not_belong_to_the_index_is_refused(reduce: Any, ptr: list[int]) -> None:
    index = torch.tensor([0, 1, 1])
    scatter(torch.ones(3, 2), index, 2, reduce, ptr=torch.tensor([0, 1, 3]))
    with pytest.raises((ValueError, IndexError), match="scatter: expected"):
        scatter(torch.ones(3, 2), index, 2, reduce, ptr=torch.tensor(ptr))


def inputs() -> Inputs:
    return random_inputs(H, num_graphs=3, dtype=torch.float32)


@EVERY_PROCESSOR
@pytest.mark.parametrize("name", Inputs._fields)
def test_what_is_given_once_is_that_of_all_graphs(kind: Any, name: str) -> None:
    layer, given = kind(H), inputs()
    if isinstance(layer, MemNet):
        torch.nn.init.normal_(layer.query_embeddings)
        torch.nn.init.normal_(layer.output_embeddings)
        torch.nn.init.normal_(layer.story_embeddings)
    shared = getattr(given, name)[:1]
    expected = layer(*given._replace(**{name: shared.expand_as(getattr(given, name)).contiguous()}))
    for form in (shared, shared[0], shared.expand_as(getattr(given, name))):
        torch.testing.assert_close(layer(*given._replace(**{name: form})), expected, rtol=0, atol=0)


@EVERY_PROCESSOR
@pytest.mark.parametrize("name", Inputs._fields)
def test_a_processor_refuses_shapes_that_disagree(kind: Any, name: str) -> None:
    layer, given = kind(H), inputs()
    right = getattr(given, name)
    for axis in range(right.dim()):
        for wrong in (torch.cat([right, right], dim=axis), right.narrow(axis, 0, right.shape[axis] - 1)):
            with pytest.raises(ValueError, match=rf"{kind.__name__}: expected \w+ \[B=.*\], given \["):
                layer(*given._replace(**{name: wrong}))
    with pytest.raises(ValueError, match=rf"{kind.__name__}: expected {name} \[.*\], given \[1, 3, "):
        layer(*given._replace(**{name: right[None]}))
    if name != "adj":
        with pytest.raises(ValueError, match=rf"{kind.__name__}: expected {name} \[.*H=4\], given \[.*, 1\]"):
            layer(*given._replace(**{name: right[..., :1]}))
