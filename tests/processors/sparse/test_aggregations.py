"""Our aggregations for PyTorch Geometric, and the names by which they are found."""
# Axes: E messages, N receivers, H channels.

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

with warnings.catch_warnings():  # PyTorch Geometric 2.8 compiles with what torch 2.13 calls deprecated
    warnings.simplefilter("ignore")
    from torch_geometric.nn import aggr

from nar.ops.adaptive_temperature import inverse_temperature
from nar.ops.scatter import starts
from nar.processors.sparse import AdaptiveSoftmaxAggregation, LSTMAggregation, MaxAggregation, RecurrentAggregation
from nar.processors.sparse.aggregations import aggregation

N, H = 4, 3
INDEX = torch.tensor([0, 0, 0, 0, 0, 1, 3, 3])  # no messages to receiver 2


def messages() -> Tensor:
    """Random ones to `INDEX`."""
    return torch.randn(len(INDEX), H, dtype=torch.float64)


def adaptive_softmax_of(x: Tensor) -> Tensor:
    """The formula for one receiver's messages and one channel after another."""
    taken = []
    for channel in x.T:
        p = channel.softmax(dim=0)
        e = float(-(p * (p + 1e-9).log()).sum())
        beta = max(1.0, -0.037 * e**4 + 0.481 * e**3 - 2.3 * e**2 + 4.917 * e - 1.791) if e > 0.5 else 1.0
        taken.append(((beta * channel).softmax(dim=0) * channel).sum())
    return torch.stack(taken)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("max", MaxAggregation),
        ("adaptive softmax", AdaptiveSoftmaxAggregation),
        ("mean", aggr.MeanAggregation),
        ("sum", aggr.SumAggregation),
        ("softmax", aggr.SoftmaxAggregation),
        ("median", aggr.MedianAggregation),
    ],
)
def test_a_name_is_found_as_pyg_finds_names_and_ours_before_its(name: str, kind: type) -> None:
    assert type(aggregation(name)) is kind


def test_several_names_are_found_each_by_itself() -> None:
    several = aggregation(["max", "mean"])
    assert [type(one) for one in several.aggrs] == [MaxAggregation, aggr.MeanAggregation]


def test_an_aggregation_of_the_users_is_taken_as_it_is() -> None:
    given = aggr.PowerMeanAggregation()
    assert aggregation(given) is given


def test_an_unknown_name_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'modest'"):
        aggregation("modest")


@pytest.mark.parametrize("given", [{"index": INDEX, "dim_size": N}, {"ptr": starts(INDEX, N)}])
@pytest.mark.parametrize("name", ["max", "adaptive softmax", "recurrent", "lstm"])
def test_groups_may_be_told_by_index_or_by_where_they_begin(name: str, given: dict[str, Any]) -> None:
    widths = {"in_channels": H, "out_channels": 2} if name in ("recurrent", "lstm") else {}
    module = aggregation(name, **widths).double().eval()
    x = messages()
    torch.testing.assert_close(module(x, **given), module(x, index=INDEX, ptr=starts(INDEX, N)))
    assert module(x, **given)[2].eq(0).all()


def test_the_maximum_is_right_where_it_is_zero() -> None:
    x = torch.zeros(len(INDEX), H, requires_grad=True)
    MaxAggregation()(x, INDEX, dim_size=N).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad[:, 0], torch.tensor([0.2] * 5 + [1.0] + [0.5] * 2))


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_the_adaptive_softmax_equals_its_formula(scale: float) -> None:
    x, module = scale * messages(), AdaptiveSoftmaxAggregation().eval()
    found = module(x, INDEX, dim_size=N)
    for receiver in (0, 1, 3):
        torch.testing.assert_close(found[receiver], adaptive_softmax_of(x[receiver == INDEX]))


@pytest.mark.parametrize("always", [True, False])
def test_training_is_with_a_softmax_of_temperature_one_unless_it_is_always_adaptive(always: bool) -> None:
    x, module = messages(), AdaptiveSoftmaxAggregation(always)
    plain = torch.allclose(module(x, INDEX, dim_size=N), aggr.SoftmaxAggregation()(x, INDEX, dim_size=N))
    assert plain != always
    assert not torch.allclose(module.eval()(x, INDEX, dim_size=N), aggr.SoftmaxAggregation()(x, INDEX, dim_size=N))


def test_a_flat_softmax_over_many_is_made_sharper_than_one_over_few() -> None:
    few, many = (float(inverse_temperature(torch.tensor(math.log(number)))) for number in (4, 16))
    assert 1 < few < many


def test_the_lstm_reads_messages_one_after_another_and_nothing_after_them() -> None:
    x, module = messages(), LSTMAggregation(H, 2).double()
    found = module(x, INDEX, dim_size=N)
    for receiver in (0, 1, 3):
        state = cell = torch.zeros(1, 2, dtype=torch.float64)
        cell_of = torch.nn.LSTMCell(H, 2).double()
        cell_of.load_state_dict({name.removesuffix("_l0"): value for name, value in module.lstm.state_dict().items()})
        for message in x[receiver == INDEX]:
            state, cell = cell_of(message[None], (state, cell))
        torch.testing.assert_close(found[receiver], state[0])


def test_the_recurrence_reads_messages_one_after_another() -> None:
    x, module = messages(), RecurrentAggregation(H, 2).double()
    found = module(x, INDEX, dim_size=N)
    assert found[2].eq(0).all()
    for receiver in (0, 1, 3):
        state = torch.zeros(2, dtype=torch.float64)
        for message in x[receiver == INDEX]:
            u = module.gate(message).sigmoid()
            state = (1 - u) * state + u * module.candidate(message)
        torch.testing.assert_close(found[receiver], state)


def test_pygs_own_lstm_depends_on_what_other_nodes_hear() -> None:
    theirs, ours = aggr.LSTMAggregation(H, 2).double(), LSTMAggregation(H, 2).double()
    ours.load_state_dict(theirs.state_dict())
    x = messages()
    alone = INDEX == 3
    one, zeros = x[alone], torch.zeros(2, dtype=torch.int64)
    torch.testing.assert_close(ours(x, INDEX, dim_size=N)[3], ours(one, zeros, dim_size=1)[0])
    assert not torch.allclose(theirs(x, INDEX, dim_size=N)[3], theirs(one, zeros, dim_size=1)[0])


OURS: list[Any] = [
    *(MaxAggregation(), AdaptiveSoftmaxAggregation(always=True)),
    *(RecurrentAggregation(H, H), LSTMAggregation(H, H)),
]


@pytest.mark.parametrize("ours", OURS, ids=str)
def test_an_index_of_any_whole_numbers_is_taken(ours: Any) -> None:
    x = messages().float()
    assert ours(x, INDEX.int(), dim_size=N).equal(ours(x, INDEX, dim_size=N))


@pytest.mark.parametrize("ours", OURS, ids=str)
def test_no_messages_make_zeros(ours: Any) -> None:
    assert ours(messages().float()[:0], INDEX[:0], dim_size=N).equal(torch.zeros(N, H))
    assert ours(messages().float()[:0], INDEX[:0], dim_size=0).shape == (0, H)


@pytest.mark.parametrize("ours", OURS, ids=str)
def test_an_index_that_does_not_fit_is_refused_by_name(ours: Any) -> None:
    x, name = messages().float(), type(ours).__name__
    with pytest.raises(ValueError, match=rf"{name}: expected index \[8\], one of each message, given \[7\]"):
        ours(x, INDEX[1:], dim_size=N)
    with pytest.raises((IndexError, ValueError), match=r"expected .*0 … 3, given -1|expected index"):
        ours(x, INDEX - 1, dim_size=N)


def test_an_lstm_that_reads_backwards_is_refused() -> None:
    with pytest.raises(ValueError, match="expected an LSTM that reads forwards alone, given bidirectional=True"):
        LSTMAggregation(H, H, bidirectional=True)
