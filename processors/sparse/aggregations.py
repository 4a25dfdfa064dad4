"""Aggregations for PyTorch Geometric, where its own are not there or not right.

Sources: Veličković et al., "softmax is not enough (for sharp out-of-distribution)", ICML 2025; Xu and Veličković,
"Recurrent Aggregators in Neural Algorithmic Reasoning", LoG 2024.
"""
# Axes: E messages, N receivers, H channels.

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_exporting
from torch_geometric.nn import aggr
from torch_geometric.nn.resolver import aggregation_resolver

from nar.ops.adaptive_temperature import inverse_temperature
from nar.ops.border import check_index
from nar.ops.linear import Linear
from nar.ops.recurrence import recurrence
from nar.ops.scatter import scatter, scatter_softmax, sizes


def aggregation(given: str | aggr.Aggregation | Sequence[Any], **kwargs: Any) -> aggr.Aggregation:
    """The aggregation of a name, as PyG resolves names, but for our own: max, adaptive softmax, recurrent and lstm.

    Args:
        given: A name such as ``"max"``, ``"mean"``, ``"sum"`` or ``"softmax"``, an aggregation, or several.
        **kwargs: Of the named aggregation, such as ``t`` and ``learn`` of the softmax.
    """
    if isinstance(given, str) and given in _OURS:
        return _OURS[given](**kwargs)
    if isinstance(given, list | tuple):
        given = [aggregation(one) for one in given]
    return aggregation_resolver(given, **kwargs)


def aggregation_of_width(
    width: int, given: str | aggr.Aggregation | Sequence[Any], kwargs: Any = None
) -> aggr.Aggregation:
    """The aggregation of a name, once it is known to make H channels of H.

    Args:
        width: H, of which a recurrent one is made.
        given: As in :func:`aggregation`.
        kwargs: Of the named aggregation.

    Raises:
        ValueError: If it makes another number, or is no aggregation.
    """
    widths = {"in_channels": width, "out_channels": width} if given in ("recurrent", "lstm", "gru") else {}
    try:
        made = aggregation(given, **{**widths, **(kwargs or {})})
        if not isinstance(made, aggr.Aggregation):
            raise TypeError("it is none")
        found = _tried(made, width).shape
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"expected an aggregation of {width} channels (out_channels), given {given!r}: {reason}"
        ) from error
    if found != (1, width):
        raise ValueError(
            f"expected an aggregation that makes {width} channels (out_channels) of {width}, given {given!r}, which "
            f"makes {found[-1]}"
        )
    return made


def _tried(module: aggr.Aggregation, width: int) -> Tensor:
    """The result of an aggregation for two messages of this width, all 0, to one node, in evaluation."""
    like = next((x for x in module.state_dict().values() if x.is_floating_point()), torch.zeros(()))
    was_training = module.training
    with torch.no_grad():
        x = torch.zeros(2, width, dtype=like.dtype, device=like.device)
        made: Tensor = module.eval()(x, torch.zeros(2, dtype=torch.int64, device=x.device), dim_size=1)
    module.train(was_training)
    return made


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
        """What each group is left with, [N, H], from messages [E, H]."""
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
        """What each group is left with, [N, H], from messages [E, H]."""
        index, dim_size = _groups(self, x, index, ptr, dim_size, dim)
        weights = scatter_softmax(x, index, dim_size, ptr=ptr)
        if self.always or not self.training:
            entropy = -scatter(weights * (weights + 1e-9).log(), index, dim_size, ptr=ptr)
            beta = inverse_temperature(entropy)
            weights = scatter_softmax(x * beta.index_select(0, index), index, dim_size, ptr=ptr)
        return scatter(weights * x, index, dim_size, ptr=ptr)


class _OfKnownSizes(aggr.Aggregation):  # type: ignore[misc]
    """The base of aggregations that have to know how many messages each receiver has."""

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Call :meth:`forward`, unless that is exported or mapped, where numbers of messages are hidden."""
        if is_exporting() or torch._C._functorch.is_batchedtensor(x):
            name = type(self).__name__
            raise NotImplementedError(f"{name}: expected no torch.export and no vmap, which hide numbers of messages")
        made: Tensor = super().__call__(x, *args, **kwargs)
        return made


class RecurrentAggregation(_OfKnownSizes):
    """The state of a linear recurrence that reads the messages in their order, after the last; 0 of nothing.

    It is that of :class:`nar.processors.reductions.Recurrent`. Messages must be in the order of their receivers.

    Args:
        in_channels: Width of a message.
        out_channels: Width of the state.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.gate = Linear(in_channels, out_channels, bias=-1.0)
        self.candidate = Linear(in_channels, out_channels)

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        self.gate.reset_parameters()
        self.candidate.reset_parameters()

    def forward(
        self,
        x: Tensor,
        index: Tensor | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
        dim: int = -2,
    ) -> Tensor:
        """The last state of each group, [N, out_channels], from messages [E, in_channels]."""
        index, dim_size = _groups(self, x, index, ptr, dim_size, dim)
        steps = self.gate(x), self.candidate(x)
        if x.shape[0] == 0:
            nothing: Tensor = steps[1].new_zeros(dim_size, steps[1].shape[1])
            return nothing
        # To N receivers, of one graph, go messages from as many senders as any of them has.
        gate, candidate = (self.to_dense_batch(y, index, ptr, dim_size, dim)[0].transpose(0, 1)[None] for y in steps)
        is_heard = torch.arange(gate.shape[1], device=x.device)[:, None] < sizes(index, dim_size)
        return recurrence(gate, candidate, is_heard[None])[0]


class LSTMAggregation(_OfKnownSizes, aggr.LSTMAggregation):  # type: ignore[misc]
    """The state of an LSTM that reads the messages in their order, after the last; 0 of nothing.

    PyG's goes on reading zeros up to the largest number of messages in the batch, so what a graph's nodes take depends
    on the other graphs. Messages must be in the order of their receivers.

    Args:
        in_channels: Width of a message.
        out_channels: Width of the state.
        **kwargs: Further ones of :class:`torch.nn.LSTM`, which has to read forwards.
    """

    def __init__(self, in_channels: int, out_channels: int, **kwargs: Any) -> None:
        if kwargs.get("bidirectional"):
            raise ValueError("expected an LSTM that reads forwards alone, given bidirectional=True")
        super().__init__(in_channels, out_channels, **kwargs)

    def forward(
        self,
        x: Tensor,
        index: Tensor | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
        dim: int = -2,
        max_num_elements: int | None = None,
    ) -> Tensor:
        """The last state of each group, [N, out_channels], from messages [E, in_channels]."""
        index, dim_size = _groups(self, x, index, ptr, dim_size, dim)
        if x.shape[0] == 0:
            return x.new_zeros(dim_size, self.lstm.proj_size or self.out_channels)
        number = sizes(index, dim_size)
        padded, _ = self.to_dense_batch(x, index, ptr, dim_size, dim, max_num_elements=max_num_elements)
        states = self.lstm(padded)[0]
        last = states[torch.arange(dim_size, device=x.device), number - 1]
        read: Tensor = last * (number > 0)[:, None]
        return read


_OURS = {
    "max": MaxAggregation,
    "adaptive softmax": AdaptiveSoftmaxAggregation,
    "recurrent": RecurrentAggregation,
    "lstm": LSTMAggregation,
}


def _groups(
    module: aggr.Aggregation, x: Tensor, index: Tensor | None, ptr: Tensor | None, dim_size: int | None, dim: int
) -> tuple[Tensor, int]:
    """The group of each message and the number of groups, whichever way PyG was told them."""
    module.assert_two_dimensional_input(x, dim)
    name = type(module).__name__
    if index is None:
        assert ptr is not None and dim_size is not None  # which the base class sees to  # noqa: PT018
        index = torch.arange(dim_size, device=x.device).repeat_interleave(ptr.diff())
    assert dim_size is not None
    if index.shape != x.shape[:1]:
        raise ValueError(f"{name}: expected index [{len(x)}], one of each message, given {list(index.shape)}")
    return check_index(name, "index", index, dim_size), dim_size
