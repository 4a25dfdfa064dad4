"""Reductions: what becomes of all the messages that a node hears, or of all triplets that an edge is the last side of.

Sources: softmax by Mirjanić et al., "Latent Space Representations of Neural Algorithmic Reasoners", LoG 2023; its
adaptive temperature by Veličković et al., "softmax is not enough (for sharp out-of-distribution)", 2024; LSTM by Xu and
Veličković, "Recurrent Aggregators in Neural Algorithmic Reasoning", 2024 (arXiv 2409.07154); linear recurrence, there
of texts, by Feng et al., "Were RNNs All We Needed?", 2024 (arXiv 2410.01201); several side by side by Corso et al.,
"Principal Neighbourhood Aggregation for Graph Nets", NeurIPS 2020.
"""
# Axes: B graphs, N nodes, H hidden; S sender, R receiver; F triplet features. Of an edge: [B, S, R, ...].

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from nar.configuration import KeepsArguments
from nar.ops.adaptive_temperature import adaptive_temperature, masked_softmax
from nar.ops.border import is_watched
from nar.ops.channels import TripletChannels
from nar.ops.linear import Linear, is_plain
from nar.ops.lstm import lstm
from nar.ops.lstm.sequences import last_states
from nar.ops.max_plus import max_plus
from nar.ops.precision import at_least_float32, unheard
from nar.ops.recurrence import recurrence
from nar.ops.softmax_plus import softmax_plus
from nar.ops.triplets import triplet_max

Adaptive = Literal["never", "evaluation", "always"]


class Reduction(KeepsArguments, nn.Module, ABC):
    """The base of what makes one message of all that a node hears.

    Attributes:
        multiple: By how much what a receiver is left with is wider than a message.
        reads_in_order: Whether it depends on the order of the nodes. If it does, a layer no longer commutes with
            renaming them.
    """

    multiple: int = 1
    reads_in_order: bool = False

    @abstractmethod
    def forward(self, messages: Tensor, is_heard: Tensor | None = None) -> Tensor:
        """What every receiver is left with, [B, R, H · multiple].

        Args:
            messages: [B, S, R, H].
            is_heard: True where the receiver hears the sender, [B, S, R]; None if all hear all. Other messages have no
                influence, whatever they hold.
        """

    def over_triplets(self, ij: Tensor, ik: Tensor, jk: Tensor) -> Tensor:
        """The reduction of ``ij_ij + ik_ik + jk_jk`` over all i, for every j and k, [B, N, N, F · multiple].

        The N³ sums are not held; reductions that can do with fewer operations do.

        Args:
            ij: [B, N, N, F].
            ik: [B, N, N, F].
            jk: [B, N, N, F].
        """
        return _by_sums(self, ij, ik, jk)


class Max(Reduction):
    """The maximum; equal messages share the gradient evenly. Who hears nobody is left with -1e6, as in dm-clrs.

    :class:`nar.processors.PGN` does not call it unless hooks look on: it takes the maximum together with its messages,
    by :func:`nar.ops.max_message.max_message`.
    """

    def forward(self, messages: Tensor, is_heard: Tensor | None = None) -> Tensor:
        """See :meth:`Reduction.forward`."""
        if is_heard is not None:
            messages = messages.masked_fill(~is_heard[..., None], unheard(messages.dtype))
        return messages.amax(dim=1) if messages.shape[1] else messages.sum(dim=1)

    def over_triplets(self, ij: Tensor, ik: Tensor, jk: Tensor) -> Tensor:
        """See :meth:`Reduction.over_triplets`."""
        # max_i (ij + ik) is a product of matrices over (max, +) for each F; what holds no i moves out of the maximum.
        return max_plus(ij, ik) + jk


class Sum(Reduction):
    """The sum; who hears nobody is left with 0."""

    def forward(self, messages: Tensor, is_heard: Tensor | None = None) -> Tensor:
        """See :meth:`Reduction.forward`."""
        return heard(messages, is_heard).sum(dim=1)

    def over_triplets(self, ij: Tensor, ik: Tensor, jk: Tensor) -> Tensor:
        """See :meth:`Reduction.over_triplets`."""
        # Σ_i (ij + ik + jk): what holds no i is added once for each of the N of them.
        return ij.sum(dim=1)[:, :, None] + ik.sum(dim=1)[:, None] + ij.shape[1] * jk


class Mean(Reduction):
    """The mean; who hears nobody is left with 0.

    Args:
        divisor: What the sum is divided by: the number of a node's ``"senders"``, or of its ``"receivers"``, as dm-clrs
            does (issue 92 of its tracker); the same, where the edges go both ways.
    """

    def __init__(self, divisor: Literal["senders", "receivers"] = "senders") -> None:
        super().__init__()
        if divisor not in ("senders", "receivers"):
            raise ValueError(f"expected divisor 'senders' or 'receivers', given {divisor!r}")
        self.divisor = divisor

    def forward(self, messages: Tensor, is_heard: Tensor | None = None) -> Tensor:
        """See :meth:`Reduction.forward`."""
        if is_heard is None:
            return messages.mean(dim=1)
        number = is_heard.sum(dim=1 if self.divisor == "senders" else 2)
        return heard(messages, is_heard).sum(dim=1) / number.clamp(min=1)[..., None]

    def over_triplets(self, ij: Tensor, ik: Tensor, jk: Tensor) -> Tensor:
        """See :meth:`Reduction.over_triplets`."""
        return ij.mean(dim=1)[:, :, None] + ik.mean(dim=1)[:, None] + jk


class Softmax(Reduction):
    """The mean of messages weighted by their own softmax, ``Σ_i softmax_i(m_i / T) m_i``, for each entry by itself.

    It goes from the mean at a high temperature T to the maximum at a low one. Who hears nobody is left with 0.

    Args:
        temperature: T, above 0; what it starts at if it is learnt.
        learnt: Whether the logarithm of T is a parameter. It is one number, so that it fits messages of any width: the
            layer that makes the messages can scale each of their entries by itself.
        adaptive: When the logits ``m_i / T`` are multiplied by :func:`adaptive_temperature` of those that are heard.
            Over triplets this takes N³ operations, where otherwise three products of matrices do.
    """

    def __init__(self, temperature: float = 1.0, *, learnt: bool = False, adaptive: Adaptive = "never") -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(f"expected a temperature above 0, given {temperature}")
        if adaptive not in ("never", "evaluation", "always"):
            raise ValueError(f"expected adaptive 'never', 'evaluation' or 'always', given {adaptive!r}")
        self.fixed_temperature = temperature
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature))) if learnt else None
        self.adaptive = adaptive

    @property
    def temperature(self) -> float | Tensor:
        """T, a tensor if it is learnt."""
        return self.fixed_temperature if self.log_temperature is None else self.log_temperature.exp()

    @property
    def adapts(self) -> bool:
        """Whether the temperature adapts to the logits in the present mode."""
        return self.adaptive == "always" or (self.adaptive == "evaluation" and not self.training)

    def forward(self, messages: Tensor, is_heard: Tensor | None = None) -> Tensor:
        """See :meth:`Reduction.forward`."""
        values = at_least_float32(heard(messages, is_heard))
        mask = None if is_heard is None else is_heard[..., None]
        logits = values / self.temperature
        if self.adapts:
            logits = logits * adaptive_temperature(logits, mask, dim=1)
        return (masked_softmax(logits, mask, dim=1) * values).sum(dim=1).to(messages.dtype)

    def over_triplets(self, ij: Tensor, ik: Tensor, jk: Tensor) -> Tensor:
        """See :meth:`Reduction.over_triplets`."""
        if self.adapts:
            return super().over_triplets(ij, ik, jk)
        # What holds no i cancels in the weights; exp(ij + ik) is a product, so sums over i are products of matrices.
        logits = (at_least_float32(x) / self.temperature for x in (ij, ik))
        return (self.temperature * softmax_plus(*logits)).to(jk.dtype) + jk


class Recurrent(Reduction):
    """The state of a linear recurrence after it has read the messages in the order of the nodes::

        h ← (1 - u_i) h + u_i (C m_i + c)           for each sender i that is heard, from h = 0
        u_i = σ(U m_i + d)                          d starts at -1, so that most of h is kept

    Its gates look at messages and not at h, so that all its steps are taken at once, in O(log N) depth, where an LSTM
    takes one after the other (:mod:`nar.ops.recurrence`). Who hears nobody is left with 0.

    Args:
        hidden_dim: H, the width of messages and state.
    """

    reads_in_order = True

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.gate = Linear(hidden_dim, hidden_dim, bias=-1.0)
        self.candidate = Linear(hidden_dim, hidden_dim)

    def forward(self, messages: Tensor, is_heard: Tensor | None = None) -> Tensor:
        """See :meth:`Reduction.forward`."""
        read = heard(messages, is_heard)
        return recurrence(self.gate(read), self.candidate(read), is_heard)


class LSTM(Reduction):
    """The state of an LSTM after it has read the messages in the order of the nodes; who hears nobody is left with 0.

    As in dm-haiku, the forget gate starts open.

    Args:
        hidden_dim: H, the width of messages and state.
    """

    reads_in_order = True

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.cell = nn.LSTM(hidden_dim, hidden_dim)
        std = 1 / math.sqrt(2 * hidden_dim)
        for name, parameter in self.cell.named_parameters():
            if name.startswith("weight"):
                nn.init.trunc_normal_(parameter, std=std, a=-2 * std, b=2 * std)
            else:
                nn.init.zeros_(parameter)
            if name.startswith("bias_ih"):
                nn.init.ones_(parameter[hidden_dim : 2 * hidden_dim])

    def forward(self, messages: Tensor, is_heard: Tensor | None = None) -> Tensor:
        """See :meth:`Reduction.forward`."""
        if is_plain(self.cell, nn.LSTM):
            own: Any = self.cell
            return lstm(messages, own.weight_ih_l0, own.weight_hh_l0, own.bias_ih_l0, own.bias_hh_l0, is_heard)
        if messages.shape[1] == 0:
            return messages.sum(dim=1)
        with torch.autocast(messages.device.type, enabled=False):
            read = messages.to(next(self.cell.parameters()).dtype)
            return last_states(lambda sequences: self.cell(sequences)[0], read, is_heard).to(messages.dtype)


class Concat(Reduction):
    """What each of several reductions leaves of the same messages, side by side, [B, R, H · multiple].

    Args:
        parts: The reductions, in order.
    """

    def __init__(self, parts: Sequence[Reduction]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.multiple = sum(part.multiple for part in parts)
        self.reads_in_order = any(part.reads_in_order for part in parts)

    def forward(self, messages: Tensor, is_heard: Tensor | None = None) -> Tensor:
        """See :meth:`Reduction.forward`."""
        return torch.cat([part(messages, is_heard) for part in self.parts], dim=-1)

    def over_triplets(self, ij: Tensor, ik: Tensor, jk: Tensor) -> Tensor:
        """See :meth:`Reduction.over_triplets`."""
        return torch.cat([over_triplets(part, ij, ik, jk) for part in self.parts], dim=-1)


def heard(messages: Tensor, is_heard: Tensor | None) -> Tensor:
    """The messages, with 0 for those that are not heard, [B, S, R, H]."""
    return messages if is_heard is None else messages.masked_fill(~is_heard[..., None], 0)


ReductionName = Literal["max", "mean", "dm-clrs mean", "sum", "softmax", "adaptive softmax", "recurrent", "lstm"]
OneReduction = ReductionName | Reduction
AnyReduction = OneReduction | list[OneReduction]

REDUCTIONS: Mapping[ReductionName, Callable[[int], Reduction]] = {
    "max": lambda width: Max(),
    "mean": lambda width: Mean(),
    "dm-clrs mean": lambda width: Mean("receivers"),
    "sum": lambda width: Sum(),
    "softmax": lambda width: Softmax(),
    "adaptive softmax": lambda width: Softmax(adaptive="evaluation"),
    "recurrent": Recurrent,
    "lstm": LSTM,
}
"""Makers, from the width of messages, by name."""


class ReductionByMode(nn.Module):
    """A reduction that another may take the place of in evaluation.

    Args:
        name: Of the argument that these are given by, for errors.
        reduction: A name, a reduction, or a list of such, which are put side by side.
        in_evaluation: Another, without parameters of its own, which would never be trained; None for the same.
        width: Of the messages.

    Attributes:
        width: Of what a receiver is left with.
    """

    def __init__(self, name: str, reduction: AnyReduction, in_evaluation: AnyReduction | None, width: int) -> None:
        super().__init__()
        self.usual = _make_reduction(name, reduction, width)
        self.in_evaluation = (
            None if in_evaluation is None else _make_reduction(f"{name}_in_evaluation", in_evaluation, width)
        )
        if self.in_evaluation is not None and any(True for _ in self.in_evaluation.parameters()):
            raise ValueError(f"expected a {name}_in_evaluation with nothing to be learnt, given {in_evaluation!r}")
        if self.in_evaluation is not None and self.in_evaluation.multiple != self.usual.multiple:
            raise ValueError(
                f"expected as many reductions in {name}_in_evaluation as in {name}, {reduction!r}, given "
                f"{in_evaluation!r}"
            )
        self.width = width * self.usual.multiple

    @property
    def current(self) -> Reduction:
        """The reduction of the present mode, training or evaluation."""
        return self.usual if self.training or self.in_evaluation is None else self.in_evaluation

    def forward(self, messages: Tensor, is_heard: Tensor | None = None) -> Tensor:
        """See :meth:`Reduction.forward`."""
        reduced: Tensor = self.current(messages, is_heard)
        return reduced


def takes_max(reduction: nn.Module) -> bool:
    """Whether a reduction is the maximum, at which no hook looks."""
    return is_plain(reduction, ReductionByMode) and is_plain(reduction.current, Max)  # type: ignore[arg-type]


def over_triplets(
    reduction: nn.Module, ij: Tensor, ik: Tensor, jk: Tensor, ijk: TripletChannels | None = None
) -> Tensor:
    """A reduction over all i of ``ij_ij + ik_ik + jk_jk + ijk_ijk``, by its calls where hooks look on, [B, N, N, …].

    See :meth:`Reduction.over_triplets`; beside the maximum, features of triplets are for :func:`_by_sums`.
    """
    current = reduction.current if is_plain(reduction, ReductionByMode) else reduction
    if ijk is not None and isinstance(current, Max) and is_plain(current, Max):
        return triplet_max(ij, ik, ijk.data, ijk.weight) + jk
    if ijk is None and isinstance(current, Reduction) and is_plain(current, type(current)):
        return current.over_triplets(ij, ik, jk)
    return _by_sums(reduction, ij, ik, jk, ijk)


def _by_sums(reduction: nn.Module, ij: Tensor, ik: Tensor, jk: Tensor, ijk: TripletChannels | None = None) -> Tensor:
    """A reduction over all i of ``ij_ij + ik_ik + jk_jk + ijk_ijk``, [B, N, N, F], made of the sums themselves.

    The reduction is given the N² sums of one j at a time, again in the backward pass; all N³ at a time, if something
    (a compiler, a transform) is to see the operations.
    """
    if is_watched(ij, ik, jk) or ij.numel() == 0:
        every = ij[:, :, :, None] + ik[:, :, None] + jk[:, None]  # [B, i, j, k, F]
        every = every if ijk is None else every + linear(ijk.data, ijk.weight)
        made: Tensor = reduction(every.flatten(2, 3))  # to each pair of j and k
        return made.view(*jk.shape[:3], made.shape[-1])

    def of_one(ij: Tensor, jk: Tensor, x: Tensor | None = None) -> Tensor:
        sums = ij[:, :, None] + ik + jk[:, None]
        one: Tensor = reduction(sums if x is None or ijk is None else sums + linear(x, ijk.weight))
        return one

    of_three = [] if ijk is None else [ijk.data.unbind(dim=2)]
    parts = zip(ij.unbind(dim=2), jk.unbind(dim=1), *of_three, strict=True)
    each = [checkpoint(of_one, *part, use_reentrant=False) for part in parts]
    return torch.stack(each, dim=1)


def _make_reduction(name: str, reduction: AnyReduction, width: int) -> Reduction:
    """A reduction that is given by the argument `name`, as itself, by its name or as a list, for some width."""
    if isinstance(reduction, list | tuple) and reduction:
        return Concat([_make_one(name, one, width) for one in reduction])
    return _make_one(name, reduction, width)


def _make_one(name: str, reduction: Any, width: int) -> Reduction:
    """A reduction that is given by the argument `name`, as itself or by its name."""
    if isinstance(reduction, Reduction):
        return reduction
    if reduction not in list(REDUCTIONS):
        names = ", ".join(map(repr, REDUCTIONS))
        raise ValueError(f"expected {name} {names}, a list of such or a Reduction, given {reduction!r}")
    return REDUCTIONS[reduction](width)
