"""Time and memory of a layer with each reduction that reads senders in order, and with the maximum, on one CPU core.

``OMP_NUM_THREADS=1 python scripts/benchmark_reductions.py`` takes MPNNs (hidden 128) forwards and backwards, in turn,
of 32 graphs of 16 nodes and of 4 of 64, and prints medians of the core's time, which other programs hardly
change, and what is kept for the backward pass. ``torch.nn.LSTM`` is the same LSTM as PyTorch computes it for the whole
batch at once.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nar.ops.lstm.sequences import last_states
from nar.processors import MPNN
from nar.processors.reductions import LSTM

HIDDEN_DIM = 128
SIZES = {16: 32, 64: 4}  # how many graphs there are of each number of nodes


class WholeLSTM(LSTM):
    """The state of an LSTM as PyTorch computes it for all receivers at once."""

    def forward(self, messages: Tensor, is_heard: Tensor | None = None) -> Tensor:
        """See :meth:`nar.processors.reductions.Reduction.forward`."""
        return last_states(lambda sequences: self.cell(sequences)[0], messages, is_heard)


LAYERS: dict[str, Callable[[], MPNN]] = {
    "max": lambda: MPNN(HIDDEN_DIM),
    "recurrent": lambda: MPNN(HIDDEN_DIM, reduction="recurrent"),
    "max, recurrent": lambda: MPNN(HIDDEN_DIM, reduction=["max", "recurrent"]),
    "lstm": lambda: MPNN(HIDDEN_DIM, reduction="lstm"),
    "torch.nn.LSTM": lambda: MPNN(HIDDEN_DIM, reduction=WholeLSTM(HIDDEN_DIM)),
}


def inputs_of(num_nodes: int) -> list[Tensor]:
    """What a processor is given; the previous states are to have a gradient."""
    b, n, h = SIZES[num_nodes], num_nodes, HIDDEN_DIM
    adj = torch.ones(b, n, n, dtype=torch.bool)
    features = torch.randn(b, n, h), torch.randn(b, n, n, h), torch.randn(b, h)
    return [*features, adj, torch.randn(b, n, h, requires_grad=True)]


def seconds_of(layer: nn.Module, given: list[Tensor]) -> tuple[float, float]:
    """The core's time of a forward and of a backward pass."""
    start = time.process_time()
    states = layer(*given)[0]
    middle = time.process_time()
    torch.autograd.grad(states.sum(), [given[-1], *layer.parameters()])
    return middle - start, time.process_time() - middle


def kept_by(layer: nn.Module, given: list[Tensor]) -> int:
    """The bytes that are kept for the backward pass, arguments and weights aside."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        states = layer(*given)[0]
    for tensor in (*given, *layer.parameters()):
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    del states
    return sum(kept.values())


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=15)
    repetitions = parser.parse_args().repetitions
    for num_nodes, num_graphs in SIZES.items():
        given = inputs_of(num_nodes)
        layers = {name: make() for name, make in LAYERS.items()}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in layers}
        for _ in range(repetitions + 1):
            for name, layer in layers.items():
                times[name].append(seconds_of(layer, given))
        medians = {
            name: [1000 * statistics.median(x) for x in zip(*each[1:], strict=True)] for name, each in times.items()
        }
        print(f"\n| {num_graphs} graphs, n = {num_nodes} | forward, ms | backward, ms | ratio to max | kept, MB |")
        print("|---|---|---|---|---|")
        for name, (forward, backward) in medians.items():
            ratio = (forward + backward) / sum(medians["max"])
            kept = kept_by(layers[name], given) / 1e6
            print(f"| {name} | {forward:.0f} | {backward:.0f} | {ratio:.1f} | {kept:.0f} |")


if __name__ == "__main__":
    main()
