"""Losses and scores on sparse graphs.

Source: Minder et al., "SALSA-CLRS: A Sparse and Scalable Benchmark for Algorithmic Reasoning", LoG 2023, for the
accuracies of nodes and of graphs.
"""
# Axes: B graphs; N nodes, E edges of all graphs together; D entries of a probe's data.

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from nar.ops.scatter import scatter, scatter_log_softmax, sizes
from nar.sparse.batch import SparseBatch
from nar.sparse.model import SparsePredictions
from nar.specs import Probe, Spec, Type

GRAPHS = "graphs"  # of which all outputs are right: what is counted beside the outputs


def losses(spec: Spec, predictions: SparsePredictions, batch: SparseBatch) -> dict[str, Tensor]:
    """The mean loss of every predicted probe by name: over all entries, of hints at all steps that graphs have."""
    by_probe = {
        name: entry_losses(spec[name], logits, batch.outputs[name], batch).mean()
        for name, logits in predictions.outputs.items()
    }
    totals: dict[str, Tensor] = {}
    numbers: dict[str, Tensor] = {}
    for time, by_name in enumerate(predictions.hints, start=1):
        for name, logits in by_name.items():
            has_hint = (batch.lengths > time)[batch.graph_of(spec[name])]
            truth = batch.hints[name][..., min(time, batch.hints[name].shape[-1] - 1)]
            new = entry_losses(spec[name], logits, truth, batch)
            totals[name] = totals.get(name, 0) + torch.where(has_hint, new, 0).sum()
            numbers[name] = numbers.get(name, 0) + has_hint.sum()
    return by_probe | {name: total / numbers[name].clamp(min=1) for name, total in totals.items()}


def entry_losses(probe: Probe, logits: Tensor, truth: Tensor, batch: SparseBatch) -> Tensor:
    """Squared error of a scalar, binary cross entropy of a mask, cross entropy of what is chosen, [D]."""
    match probe.type:
        case Type.SCALAR:
            return (logits - truth).square()
        case Type.MASK:
            return functional.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), reduction="none")
        case Type.CATEGORICAL:
            return functional.cross_entropy(logits, truth.long(), reduction="none")
    return -scatter_log_softmax(logits, *batch.groups(probe)).index_select(0, truth.long())


def counts_by_graph(spec: Spec, logits: Mapping[str, Tensor], batch: SparseBatch) -> dict[str, Tensor]:
    """How many entries of each output are right in each graph, of how many, and 0; int64 [B, 3].

    They are as :func:`nar.model.metrics.counts_by_graph` has those of pointers, whatever the output's type.
    """
    by_output = {}
    for name, x in logits.items():
        is_right = _is_right(spec[name], x, batch.outputs[name], batch).long()
        graph, number = batch.graph_of(spec[name]), len(batch.lengths)
        right, of = (scatter(entries, graph, number) for entries in (is_right, torch.ones_like(is_right)))
        by_output[name] = torch.stack([right, of, torch.zeros_like(of)], dim=1)
    return by_output


def counts(by_graph: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """How many entries of each output, and how many :data:`GRAPHS`, are right, and of how many; int64 [2] each.

    Args:
        by_graph: Of :func:`counts_by_graph`.
    """
    is_right = torch.stack([x[:, 0] == x[:, 1] for x in by_graph.values()]).all(dim=0)
    graphs = torch.stack([is_right.sum(), is_right.new_tensor(len(is_right), dtype=torch.int64)])
    return {name: x[:, :2].sum(dim=0) for name, x in by_graph.items()} | {GRAPHS: graphs}


def _is_right(probe: Probe, logits: Tensor, truth: Tensor, batch: SparseBatch) -> Tensor:
    """Whether each entry is predicted: a scalar if it rounds to the truth, [D]."""
    predicted = predicted_value(probe, logits, batch)
    return (predicted.round() if probe.type is Type.SCALAR else predicted) == truth


def predicted_value(probe: Probe, logits: Tensor, batch: SparseBatch) -> Tensor:
    """The definite prediction in the form of the data, [D]; of equal logits the first is chosen."""
    match probe.type:
        case Type.SCALAR:
            return logits
        case Type.MASK:
            return (logits > 0).to(torch.int8)
        case Type.CATEGORICAL:
            return logits.argmax(dim=-1)
    return _first_of_the_highest(logits, *batch.groups(probe))


def confidence(probe: Probe, logits: Tensor, batch: SparseBatch) -> Tensor:
    """How probable each entry is that :func:`predicted_value` chooses of masks and choices, [D]."""
    match probe.type:
        case Type.MASK:
            return logits.abs().sigmoid()
        case Type.CATEGORICAL:
            return logits.softmax(dim=-1).amax(dim=-1)
    index, number = batch.groups(probe)
    return scatter(scatter_log_softmax(logits, index, number), index, number, "max").exp()


def _first_of_the_highest(logits: Tensor, index: Tensor, num_groups: int) -> Tensor:
    """The first entry of each group that has its largest logit, [num_groups]; of none, the number of entries."""
    is_top = logits == scatter(logits, index, num_groups, "max").index_select(0, index)
    entries = torch.arange(len(logits), device=logits.device)
    nothing = torch.full_like(sizes(index, num_groups), len(logits))
    return nothing.scatter_reduce(0, index[is_top], entries[is_top], "amin")


def scores(counts: Mapping[str, Tensor]) -> dict[str, float]:
    """The accuracy of each output and of :data:`GRAPHS`, and under ``"score"`` the mean over outputs."""
    by_name = {name: right / number for name, (right, number) in ((n, x.tolist()) for n, x in counts.items())}
    outputs = [value for name, value in by_name.items() if name != GRAPHS]
    return by_name | {"score": sum(outputs) / len(outputs)}
