"""Functions of batches as CUDA graphs: recorded once for every shape, and from then on launched as one.

A step of a processor on a small batch is a hundred kernels of a few microseconds, which a GPU finishes faster than
Python launches them. A graph of a whole trajectory needs shapes that do not depend on the data: all graphs of a batch
are run for equally many steps, which costs a GPU that is not full nothing, and numbers of steps are rounded up, so that
few recordings do for all lengths. Recording takes as long as the function itself does, and no compiler.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch

from nar.batch import Batch, Feedback, num_steps_of

Result = TypeVar("Result")


class Recorder(Generic[Result]):
    """A function of a batch and a number of steps, as a graph for each algorithm, shape and number of steps.

    What it returns is overwritten by its next call. Whatever random numbers it draws are new in every call.

    Args:
        function: Reads nothing of the batch's data on the CPU; returns tensors in any structure.
    """

    def __init__(self, function: Callable[[Batch, int], Result]) -> None:
        self.function = function
        self.recorded: dict[Any, tuple[Batch, Callable[[], None], Result]] = {}
        self.pool: Any = None  # no two graphs are run at a time: all share the memory of what is not returned

    def __call__(self, batch: Batch, num_steps: int | None = None) -> Result:
        """What the function returns for a batch, by a recording of it.

        Args:
            batch: The batch.
            num_steps: At least as many as its graphs take; None for what its hints tell.
        """
        num_steps = _rounded_up(most_steps_of(batch) if num_steps is None else num_steps)
        shapes = [data.shape for data in (*batch.feedback.features.inputs.values(), *batch.feedback.outputs.values())]
        key = (batch.algorithm, num_steps, *shapes)
        if key not in self.recorded:
            kept = _with_room(batch, num_steps)
            self.recorded[key] = (kept, *self.record(lambda: self.function(kept, num_steps)))
        kept, replay, result = self.recorded[key]
        # Hints may be fewer than there is room for: what an earlier batch left behind them is beyond all lengths.
        for old, new in zip(kept.feedback.arrays(), batch.feedback.arrays(), strict=True):
            old[: len(new)].copy_(new, non_blocking=True)
        replay()
        return result

    def record(self, function: Callable[[], Result]) -> tuple[Callable[[], None], Result]:
        """A recording of a function: what runs it once more on the GPU, and the tensors that hold its results."""
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        # What is done once, such as compiling kernels, is no part of a recording; nor are the numbers it draws.
        with torch.cuda.stream(stream), torch.random.fork_rng(devices=[torch.cuda.current_device()]):
            function()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        torch.clear_autocast_cache()  # of weights: a recording is to round them anew every time
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            result = function()
        torch.clear_autocast_cache()
        return graph.replay, result


def most_steps_of(batch: Batch) -> int:
    """The number of steps of a batch's longest trajectory; padded hints tell it without waiting for the GPU."""
    features = batch.feedback.features
    longest = max((len(hint) for hint in features.hints.values()), default=0) or int(features.lengths.max())
    return num_steps_of(longest)


def _rounded_up(num_steps: int) -> int:
    """The next of 1, 2, …, 8, 10, 12, 14, 16, 20, …: four in each octave, at most a quarter more."""
    unit = 1 << max(0, num_steps.bit_length() - 3)
    return -(-num_steps // unit) * unit


def _with_room(batch: Batch, num_steps: int) -> Batch:
    """A copy of a batch with room for hints of `num_steps` steps, which other batches of its shape are copied into."""
    features, outputs = batch.feedback.map(torch.clone)
    hints = {name: hint.new_zeros(num_steps + 1, *hint.shape[1:]) for name, hint in features.hints.items()}
    return batch._replace(feedback=Feedback(features._replace(hints=hints), outputs))
