"""Time and memory of sparse message passing, beside PyG's own and torch-scatter's with the same equation, in turn.

``python scripts/benchmark_sparse.py`` runs each of the three in a process of its own for the memory, and all in one for
the time, on 8 graphs of 1600 nodes of degree 6 on average, and writes ``scripts/benchmark_sparse.csv``. The others are
written as a user of PyG would: linear layers of nodes before the messages, features of edges in them.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn

with warnings.catch_warnings():  # PyTorch Geometric 2.8 compiles with what torch 2.13 calls deprecated
    warnings.simplefilter("ignore")
    from torch_geometric.nn import MessagePassing

from nar.processors.sparse import PGNConv

HIDDEN, DEGREE = 128, 6
COLUMNS = ("layer", "forward, ms", "backward, ms", "both, ms", "ratio of times", "memory, MB", "ratio of memory")


class PyGMessages(MessagePassing):
    """The equation of :class:`PGNConv` as PyG passes messages."""

    def __init__(self, conv: PGNConv) -> None:
        super().__init__(aggr="max")
        self.conv = conv

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """New node states."""
        conv = self.conv
        sent, heard, edge = conv.message_sender(x), conv.message_receiver(x), conv.message_edge(edge_attr)
        received = self.propagate(edge_index, sent=sent, heard=heard, edge=edge)
        return conv.norm((conv.update_node(x) + conv.update_message(received)).relu())

    def message(self, sent_j: Tensor, heard_i: Tensor, edge: Tensor) -> Tensor:
        """The message of every edge."""
        return self.conv.message_mlp(sent_j + heard_i + edge)


class TorchScatterMessages(PyGMessages):
    """The same with the maximum of torch-scatter."""

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int) -> Tensor:
        """The maxima."""
        from torch_scatter import scatter_max

        return scatter_max(inputs, index, dim=0, dim_size=dim_size)[0]


LAYERS: dict[str, Callable[[PGNConv], nn.Module]] = {
    "nar": lambda conv: conv,
    "PyG": PyGMessages,
    "torch-scatter": TorchScatterMessages,
}


def arguments(num_nodes: int, num_graphs: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Features of nodes that need a gradient, edges in the order of receivers, and their features."""
    number = num_graphs * num_nodes
    generator = torch.Generator().manual_seed(0)
    graph = torch.arange(num_graphs).repeat_interleave(num_nodes * DEGREE)
    receivers = torch.randint(num_nodes, graph.shape, generator=generator) + graph * num_nodes
    senders = torch.randint(num_nodes, graph.shape, generator=generator) + graph * num_nodes
    edge_index = torch.stack([senders, receivers.sort().values])
    x = torch.randn(number, 2 * HIDDEN, generator=generator).to(device).requires_grad_()
    return x, edge_index.to(device), torch.randn(len(graph), HIDDEN, generator=generator).to(device).requires_grad_()


def synchronise(device: str) -> None:
    """Wait for what was started on a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def step(layer: nn.Module, given: tuple[Tensor, Tensor, Tensor], device: str) -> tuple[float, float]:
    """Seconds of a forward and of a backward pass."""
    begin = time.perf_counter()
    states = layer(*given)
    synchronise(device)
    middle = time.perf_counter()
    states.square().sum().backward()
    synchronise(device)
    return middle - begin, time.perf_counter() - middle


def peak_memory(layer: nn.Module, given: tuple[Tensor, Tensor, Tensor], device: str) -> float:
    """MB that a forward and backward pass takes at its peak beyond what is there before."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(layer, given, device)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    process, peak, done = psutil.Process(), 0, threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    step(layer, given, device)
    done.set()
    watcher.join()
    return (peak - before) / 2**20


def measure(names: list[str], options: argparse.Namespace) -> list[dict[str, str | float]]:
    """A row for each layer."""
    given = arguments(options.num_nodes, options.num_graphs, options.device)
    conv = PGNConv(2 * HIDDEN, HIDDEN, HIDDEN).to(options.device)
    layers = {name: LAYERS[name](conv) for name in names}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for repetition in range(options.repetitions + 1):
        for name, layer in layers.items():
            seconds = step(layer, given, options.device)
            if repetition > 0:  # the first compiles
                times[name].append(seconds)
    rows: list[dict[str, str | float]] = []
    for name in names:
        command = [sys.executable, __file__, "--memory-of", name, "--device", options.device]
        command += ["--num-nodes", str(options.num_nodes), "--num-graphs", str(options.num_graphs)]
        memory = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        forward, backward = (1e3 * statistics.median(part) for part in zip(*times[name], strict=True))
        both = 1e3 * statistics.median(map(sum, times[name]))
        rows.append(dict(zip(COLUMNS, (name, forward, backward, both, 0.0, memory, 0.0), strict=True)))
    for row in rows:
        for ratio, value in (("ratio of times", "both, ms"), ("ratio of memory", "memory, MB")):
            row[ratio] = float(row[value]) / float(rows[0][value])
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-nodes", type=int, default=1600)
    parser.add_argument("--num-graphs", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--memory-of", choices=LAYERS, help="print the memory of one layer alone")
    options = parser.parse_args()
    if options.memory_of:
        given = arguments(options.num_nodes, options.num_graphs, options.device)
        layer = LAYERS[options.memory_of](PGNConv(2 * HIDDEN, HIDDEN, HIDDEN).to(options.device))
        step(layer, arguments(20, 1, options.device), options.device)  # compiles, and loads what is loaded lazily
        print(peak_memory(layer, given, options.device))
        return
    names = list(LAYERS)
    try:
        import torch_scatter  # noqa: F401
    except ImportError:
        names.remove("torch-scatter")
    rows = measure(names, options)
    path = Path(__file__).with_suffix(".csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in rows:
            shown = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in row.items()}
            writer.writerow(shown)
            print(shown)


if __name__ == "__main__":
    main()
