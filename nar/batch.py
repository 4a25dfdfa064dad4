"""Trajectories in batches, as arrays or as tensors.

Source: ``Features`` and ``Feedback`` of ``clrs/_src/samplers.py`` in dm-clrs 2.0.3, with dicts in place of tuples.
"""
# Axes: B graphs, T time.

from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from nar.specs import Location, Spec, Type

Array = TypeVar("Array")
NumpyArray = np.ndarray[Any, np.dtype[Any]]


class Features(NamedTuple, Generic[Array]):
    """What a model may see of a batch of trajectories.

    Attributes:
        inputs: By probe name, [B, ...].
        hints: By probe name, [T, B, ...], padded with zeros after a sample's own end.
        lengths: Each sample's own number of hints, [B].
    """

    inputs: Mapping[str, Array]
    hints: Mapping[str, Array]
    lengths: Array


class Feedback(NamedTuple, Generic[Array]):
    """A batch of trajectories: the features and the outputs by probe name, [B, ...]."""

    features: Features[Array]
    outputs: Mapping[str, Array]


class Batch(NamedTuple):
    """A batch of one algorithm's trajectories as it reaches the model.

    Attributes:
        algorithm: The algorithm's name.
        num_nodes: The size that was asked of the sampler.
        seed: Of the noise that a training step draws.
        feedback: The trajectories.
        ended: Whether each trajectory is there up to its end, where its outputs are, [B]; None if all are.
    """

    algorithm: str
    num_nodes: int
    seed: int
    feedback: Feedback[Tensor]
    ended: Tensor | None = None


def size_of(spec: Spec, inputs: Mapping[str, Any]) -> int:
    """N, from the first input that has a node axis."""
    return next(
        int(data.shape[1])
        for name, data in inputs.items()
        if spec[name].location is not Location.GRAPH and spec[name].type is not Type.MASK_ONE
    )


def to_tensors(feedback: Feedback[NumpyArray], spec: Spec) -> Feedback[Tensor]:
    """The same trajectories as tensors: scalars in torch's default dtype, lengths as int64, all else as compact as it
    is: the device widens it (see :func:`nar.encoders.dense`).
    """

    def convert(probes: Mapping[str, NumpyArray]) -> dict[str, Tensor]:
        return {
            name: torch.as_tensor(data, dtype=torch.get_default_dtype() if spec[name].type is Type.SCALAR else None)
            for name, data in probes.items()
        }

    (inputs, hints, lengths), outputs = feedback
    features = Features(convert(inputs), convert(hints), torch.as_tensor(lengths).to(torch.int64))
    return Feedback(features, convert(outputs))
