"""How many kernels a recorded training step launches, counted where there is no GPU.

``python tests/support/launches.py [ALGORITHM ...]`` prints those of one step of the processor, forward and backward,
and those of a trajectory besides its steps, for a Triplet-GMPNN and batches of 32 graphs of 16 nodes.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.splits.splits import TrainStream
from nar.ops import (
    affine,
    border,
    gated_update,
    max_message,
    max_plus,
    max_triplet_message,
    pair_logits,
    pointer_logits,
    total,
)
from nar.ops.max_plus import triton
from nar.processors import TripletGMPNN, reductions
from nar.training.reasoner import Reasoner

ALGORITHMS = (
    *("insertion_sort", "dijkstra", "heapsort", "bridges", "strongly_connected_components", "articulation_points"),
    "jarvis_march",
)
NO_LAUNCH = {"promote_types", "empty", "empty_like", "empty_strided", "new_empty", "_unsafe_view"}
SEVERAL = {
    **dict.fromkeys(("slice_backward", "select_backward", "native_layer_norm_backward"), 2),
    **{"binary_cross_entropy_with_logits": 4, "index_put": 8, "_index_put_impl_": 8},
}


class Count(NamedTuple):
    """Launches of one step of the processor, and of a trajectory besides its steps."""

    forward: float
    backward: float
    trajectory: float


class _Launches(TorchDispatchMode):
    """The number of launches within it."""

    number = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        name, returned = function.overloadpacket.__name__, function._schema.returns
        is_view = any(x.alias_info is not None and not x.alias_info.is_write for x in returned)
        is_nothing = isinstance(made, Tensor) and made.numel() == 0
        if not (is_view or is_nothing or name in NO_LAUNCH):
            self.number += SEVERAL.get(name, 1)
        return made


@contextmanager
def _as_on_a_gpu(launches: _Launches) -> Iterator[None]:
    """A context in which operations take their kernels, each of which is one launch and computes nothing."""

    def launch(*_: Any, **__: Any) -> None:
        launches.number += 1

    operations = (gated_update, max_message, max_plus, max_triplet_message, pair_logits, pointer_logits, total)
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(type(triton._max_plus), "__getitem__", return_value=launch))
        # Which knows no meta tensors:
        stack.enter_context(mock.patch.object(torch, "is_autocast_enabled", return_value=False))
        stack.enter_context(mock.patch.object(affine, "_rectifies", return_value=True))
        for module in (border, reductions, *operations):
            stack.enter_context(mock.patch.object(module, "is_watched", return_value=False))
        for module in operations:
            stack.enter_context(mock.patch.object(module, "is_for_triton", return_value=True))
        stack.enter_context(launches)
        yield


def _counted(algorithm: str, num_steps: int) -> tuple[int, int]:
    """The launches of losses and of their gradients, where all graphs are run for `num_steps`."""
    batch = move_data_to_device(TrainStream([algorithm], [16], 32, seed=1)[0], torch.device("meta"))
    with torch.device("meta"):
        reasoner = Reasoner({algorithm: recipe_spec(algorithm)}, TripletGMPNN()).train()
    launches, forward, grad = _Launches(), 0, torch.autograd.grad

    def gradients(*args: Any, **options: Any) -> Any:
        nonlocal forward
        forward = launches.number
        return grad(*args, **options)

    with mock.patch.object(torch.autograd, "grad", gradients), _as_on_a_gpu(launches):
        reasoner.execution.losses_and_gradients(batch, num_steps)
    return forward, launches.number - forward


def count(algorithm: str, few: int = 17, many: int = 33) -> Count:
    """The launches of a training step: what `many` steps of the processor take more than `few` is that of a step."""
    counts = [_counted(algorithm, num_steps) for num_steps in (few, many)]
    forward, backward = ((more - fewer) / (many - few) for fewer, more in zip(*counts, strict=True))
    return Count(forward, backward, sum(counts[0]) - few * (forward + backward))


if __name__ == "__main__":
    print(f"{'launches':30} {'forward':>8} {'backward':>8} {'a step':>8} {'besides':>8}")
    for name in sys.argv[1:] or ALGORITHMS:
        made = count(name)
        print(
            f"{name:30} {made.forward:8.1f} {made.backward:8.1f} {made.forward + made.backward:8.1f}"
            f" {made.trajectory:8.0f}",
            flush=True,
        )
