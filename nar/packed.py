"""The graphs of a batch of texts as one tensor, which libraries that know nothing of graphs can pass on.

A row holds all that is known of a text's graph, as bytes: whatever moves, splits or joins the rows of a batch does so
with the graphs, and nothing rounds them, as programs do with numbers that they take for activations.
"""
# Axes: B texts, M bytes.

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from nar.batch import Features, Graphs, grouped

_NUM_DIGITS = 8  # of how long what a row holds is, before zeros up to the longest row
_ALGORITHM, _LENGTHS = "algorithm", "lengths"


def pack_graphs(graphs: Sequence[tuple[str, Features[Tensor]]]) -> Tensor:
    """The graphs of a batch of texts as rows of bytes, uint8 [B, M], with zeros after the shorter ones.

    Args:
        graphs: For each text the algorithm's name and the features of its graph, a batch of one, as
            :func:`nar.batch.grouped` takes them; of the hints, the first are kept.
    """
    rows = [torch.tensor(list(_written(*graph)), dtype=torch.uint8) for graph in graphs]
    return pad_sequence(rows, batch_first=True) if rows else torch.zeros(0, 0, dtype=torch.uint8)


def unpack_graphs(rows: Tensor) -> list[Graphs]:
    """The graphs that :func:`pack_graphs` was given, in groups and on the device of the rows.

    Raises:
        ValueError: If a row holds no graph.
    """
    if rows.dtype != torch.uint8 or rows.dim() != 2:
        expected = "expected graphs of a batch of texts, as of pack_graphs or in groups"
        raise ValueError(f"{expected}, given a tensor of {str(rows.dtype).removeprefix('torch.')} {list(rows.shape)}")
    groups = grouped([_read(number, row.numpy().tobytes()) for number, row in enumerate(rows.cpu())])
    return [group._replace(features=group.features.to(rows.device)) for group in groups]


def _written(algorithm: str, features: Features[Tensor]) -> bytes:
    stages: dict[str, Mapping[str, Tensor]] = {"inputs": features.inputs, "hints": features.first_hints().hints}
    probes = [(stage, name, data) for stage, by_name in stages.items() for name, data in by_name.items()]
    tensors = {f"{place:03}/{stage}/{name}": data for place, (stage, name, data) in enumerate(probes)}
    tensors[_ALGORITHM] = torch.tensor(list(algorithm.encode()), dtype=torch.uint8)
    tensors[_LENGTHS] = features.lengths
    content = save({name: data.detach().cpu().contiguous() for name, data in tensors.items()})
    return f"{len(content):0{_NUM_DIGITS}}".encode() + content


def _read(text: int, row: bytes) -> tuple[str, Features[Tensor]]:
    try:
        tensors: dict[str, Any] = load(row[_NUM_DIGITS : _NUM_DIGITS + int(row[:_NUM_DIGITS])])
        algorithm = bytes(tensors.pop(_ALGORITHM).tolist()).decode()
        lengths = tensors.pop(_LENGTHS)
        stages: dict[str, dict[str, Tensor]] = {"inputs": {}, "hints": {}}
        for key in sorted(tensors):  # they have their places in front, as the file has them in an order of its own
            _, stage, name = key.split("/", 2)
            stages[stage][name] = tensors[key]
    except (KeyError, ValueError, SafetensorError) as error:
        raise ValueError(f"expected a graph as pack_graphs writes it for text {text}, given other bytes") from error
    return algorithm, Features(stages["inputs"], stages["hints"], lengths)
