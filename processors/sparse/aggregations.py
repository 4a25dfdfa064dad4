"""Aggregations for PyTorch Geometric, where its own are not there or not right.

Sources: Veličković et al., "softmax is not enough (for sharp out-of-distribution)", ICML 2025; Xu and Veličković,
"Recurrent Aggregators in Neural Algorithmic Reasoning", LoG 2024.
"""
# Axes: E messages, N receivers, H channels.

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import aggr
from torch_geometric.nn.resolver import aggregation_resolver

from nar.processors.adaptive_temperature import inverse_temperature
from nar.scatter import scatter, scatter_softmax, sizes


def aggregation(given: str | aggr.Aggregation | Sequence[Any], **kwargs: Any) -> aggr.Aggregation:
    """The aggregation of a name, as PyG resolves names, except that these are ours: max, adaptive softmax and lstm.

    Args:
        given: A name such as ``"max"``, ``"mean"``, ``"sum"`` or ``"softmax"``, an aggregation, or several.
        **kwargs: Of the named aggregation, such as ``t`` and ``learn`` of the softmax.
    """
    if isinstance(given, str) and given in OURS:
        return OURS[given](**kwargs)
    if isinstance(given, list | tuple):
        given = [aggregation(one) for one in given]
    return aggregation_resolver(given, **kwargs)


class MaxAggregation(aggr.Aggregation):  # type: ignore[misc]
    """The elementwise maximum, 0 of nothing; PyG's gives a wrong gradient where a maximum is exactly 0."""

    def forward(
        self,
        x: Tensor,
        index: Tensor | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
        dim: int = -2,
    ) -> Tensor:
        """[N, H] from messages [E, H]."""
        return scatter(x, *_groups(self, x, index, ptr, dim_size, dim), "max", ptr=ptr)


class AdaptiveSoftmaxAggregation(aggr.Aggregation):  # type: ignore[misc]
    """``Σ_i softmax_i(β m_i) m_i`` in each channel, with the β of :func:`inverse_temperature` of ``softmax_i(m_i)``.

    Args:
        always: Whether β is used in training too, and not 1 as published.
    """

    def __init__(self, always: bool = False) -> None:
        super().__init__()
        self.always = always

    def forward(
        self,
        x: Tensor,
        index: Tensor | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
        dim: int = -2,
    ) -> Tensor:
        """[N, H] from messages [E, H]."""
        index, dim_size = _groups(self, x, index, ptr, dim_size, dim)
        weights = scatter_softmax(x, index, dim_size, ptr=ptr)
        if self.always or not self.training:
            entropy = -scatter(weights * (weights + 1e-9).log(), index, dim_size, ptr=ptr)
            beta = inverse_temperature(entropy)
            weights = scatter_softmax(x * beta.index_select(0, index), index, dim_size, ptr=ptr)
        return scatter(weights * x, index, dim_size, ptr=ptr)


class LSTMAggregation(aggr.LSTMAggregation):  # type: ignore[misc]
    """The state of an LSTM that reads the messages in their order, after the last; 0 of nothing.

    PyG's goes on reading zeros up to the largest number of messages in the batch, so what a graph's nodes take depends
    on the other graphs. Messages must be in the order of their receivers.

    Args:
        in_channels: Width of a message.
        out_channels: Width of the state.
        **kwargs: Further ones of :class:`torch.nn.LSTM`.
    """

    def forward(
        self,
        x: Tensor,
        index: Tensor | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
        dim: int = -2,
        max_num_elements: int | None = None,
    ) -> Tensor:
        """[N, out_channels] from messages [E, in_channels]."""
        index, dim_size = _groups(self, x, index, ptr, dim_size, dim)
        number = sizes(index, dim_size)
        padded, _ = self.to_dense_batch(x, index, ptr, dim_size, dim, max_num_elements=max_num_elements)
        states = self.lstm(padded)[0]
        last = states[torch.arange(dim_size, device=x.device), number - 1]
        read: Tensor = last * (number > 0)[:, None]
        return read


OURS = {"max": MaxAggregation, "adaptive softmax": AdaptiveSoftmaxAggregation, "lstm": LSTMAggregation}


def _groups(
    module: aggr.Aggregation, x: Tensor, index: Tensor | None, ptr: Tensor | None, dim_size: int | None, dim: int
) -> tuple[Tensor, int]:
    """The group of each message and the number of groups, whichever way PyG was told them."""
    module.assert_two_dimensional_input(x, dim)
    if index is None:
        assert ptr is not None and dim_size is not None  # which the base class sees to  # noqa: PT018
        index = torch.arange(dim_size, device=x.device).repeat_interleave(ptr.diff())
    assert dim_size is not None
    return index, dim_size
