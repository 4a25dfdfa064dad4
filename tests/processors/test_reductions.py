"""Reductions of messages and of triplets."""
# Axes: B graphs, N nodes, H hidden; S sender, R receiver. What belongs to an edge is [B, S, R, ...].

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from layers import Inputs, random_inputs
from torch import Tensor
from torch.autograd import gradcheck

from nar.ops.adaptive_temperature import adaptive_temperature
from nar.ops.precision import UNHEARD
from nar.processors import MPNN, PGN, TripletGMPNN
from nar.processors.reductions import (
    LSTM,
    REDUCTIONS,
    AnyReduction,
    Max,
    Mean,
    Reduction,
    ReductionName,
    Softmax,
    Sum,
)

B, N, H = 2, 5, 3


def random_messages(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Messages, and who hears them; receiver 1 of graph 0 hears nobody."""
    is_heard = torch.rand(B, N, N) < 0.5
    is_heard[0, :, 1] = False
    is_heard[:, 2, 2] = True
    return torch.randn(B, N, N, H, dtype=dtype, requires_grad=True), is_heard


def random_triplets() -> list[Tensor]:
    return [torch.randn(B, N, N, H, dtype=torch.float64, requires_grad=True) for _ in range(3)]


MAKERS: dict[str, Callable[[], Reduction]] = {
    "Max": Max,
    "Mean": Mean,
    "Mean by receivers": lambda: Mean("receivers"),
    "Sum": Sum,
    "Softmax": Softmax,
    "Softmax at 0.3": lambda: Softmax(0.3),
    "Softmax, learnt": lambda: Softmax(0.3, learnt=True),
    "Softmax, adaptive": lambda: Softmax(adaptive="always"),
    "Softmax, learnt and adaptive": lambda: Softmax(2.0, learnt=True, adaptive="always"),
    "LSTM": lambda: LSTM(H),
}
every_reduction = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def softmax_mean(values: Tensor, reduction: Softmax) -> Tensor:
    """As it is written, for values [M, H]."""
    logits = values / reduction.temperature
    if reduction.adapts:
        logits = adaptive_temperature(logits, dim=0) * logits
    exponentials = logits.exp()
    return (exponentials / exponentials.sum(dim=0) * values).sum(dim=0)


def lstm_state(values: Tensor, cell: Any) -> Tensor:
    """The state after one message after another, of values [M, H]."""
    hidden = state = values.new_zeros(values.shape[1])
    for value in values:
        gates = cell.weight_ih_l0 @ value + cell.bias_ih_l0 + cell.weight_hh_l0 @ hidden + cell.bias_hh_l0
        enter, keep, candidate, leave = gates.chunk(4)
        state = keep.sigmoid() * state + enter.sigmoid() * candidate.tanh()
        hidden = leave.sigmoid() * state.tanh()
    return hidden


def by_the_formula(reduction: Reduction, values: Tensor, num_receivers: int) -> Tensor:
    """What is left of at least one value, of [M, H], to a node that sends to so many."""
    match reduction:
        case Max():
            return values.amax(dim=0)
        case Sum():
            return values.sum(dim=0)
        case Mean():
            return values.sum(dim=0) / (len(values) if reduction.divisor == "senders" else max(1, num_receivers))
        case Softmax():
            return softmax_mean(values, reduction)
        case LSTM():
            return lstm_state(values, reduction.cell)
    raise AssertionError(reduction)


@every_reduction
def test_equals_the_formula_of_those_that_are_heard(make: Callable[[], Reduction]) -> None:
    reduction, (messages, is_heard) = make().double(), random_messages()
    found = reduction(messages, is_heard)
    for b, r in is_heard.any(dim=1).nonzero().tolist():
        values = messages[b, is_heard[b, :, r], r]
        torch.testing.assert_close(found[b, r], by_the_formula(reduction, values, int(is_heard[b, r].sum())))


@every_reduction
def test_without_a_mask_all_are_heard(make: Callable[[], Reduction]) -> None:
    reduction, (messages, _) = make().double(), random_messages()
    everything = torch.ones(B, N, N, dtype=torch.bool)
    torch.testing.assert_close(reduction(messages), reduction(messages, everything))


@every_reduction
def test_who_hears_nobody_is_left_with_nothing(make: Callable[[], Reduction]) -> None:
    reduction, (messages, is_heard) = make().double(), random_messages()
    received = reduction(messages, is_heard)
    assert received[0, 1].eq(UNHEARD if isinstance(reduction, Max) else 0).all()
    (gradient,) = torch.autograd.grad(received.square().sum(), messages)
    assert gradient.isfinite().all()


@every_reduction
@pytest.mark.parametrize("other", [0.0, 1e30, -1e30, float("inf"), float("nan")])
def test_who_is_not_heard_has_no_influence(make: Callable[[], Reduction], other: float) -> None:
    reduction, (messages, is_heard) = make().double(), random_messages()
    weights = torch.randn(B, N, H, dtype=torch.float64)
    changed = messages.detach().masked_fill(~is_heard[..., None], other).requires_grad_()
    both = [reduction(given, is_heard) for given in (messages, changed)]
    assert both[0].equal(both[1])
    gradients = [torch.autograd.grad((x * weights).sum(), y)[0] for x, y in zip(both, (messages, changed), strict=True)]
    assert gradients[0].equal(gradients[1])
    assert gradients[0][~is_heard].eq(0).all()


@every_reduction
def test_the_order_of_senders_matters_to_the_lstm_alone(make: Callable[[], Reduction]) -> None:
    reduction, (messages, is_heard) = make().double(), random_messages()
    order = torch.tensor([3, 0, 4, 1, 2])
    if isinstance(reduction, Mean):
        is_heard = is_heard | is_heard.mT  # the number of receivers is no matter of senders alone
        order = torch.arange(N) if reduction.divisor == "receivers" else order
    same = torch.allclose(reduction(messages[:, order], is_heard[:, order]), reduction(messages, is_heard))
    assert same != isinstance(reduction, LSTM)


@every_reduction
def test_gradient_equals_finite_differences(make: Callable[[], Reduction]) -> None:
    reduction, (messages, is_heard) = make().double(), random_messages()
    names, parameters = zip(*reduction.named_parameters(), strict=True) if list(reduction.parameters()) else ((), ())

    def function(messages: Tensor, *given: Tensor) -> Tensor:
        made: Tensor = torch.func.functional_call(reduction, dict(zip(names, given, strict=True)), (messages, is_heard))
        return made

    assert gradcheck(function, (messages, *parameters), fast_mode=isinstance(reduction, LSTM))


@every_reduction
def test_of_triplets_it_is_the_same_as_of_messages(make: Callable[[], Reduction]) -> None:
    reduction, (ij, ik, jk) = make().double(), random_triplets()
    sums = ij[:, :, :, None] + ik[:, :, None] + jk[:, None]  # [B, I, J, K, H]
    expected = reduction(sums.flatten(2, 3)).unflatten(1, (N, N))
    found = reduction.over_triplets(ij, ik, jk)
    torch.testing.assert_close(found, expected)
    variables = [ij, ik, jk, *reduction.parameters()]
    weights = torch.randn_like(found)
    gradients = [torch.autograd.grad(x, variables, weights) for x in (found, expected)]
    torch.testing.assert_close(*gradients)


@every_reduction
def test_triplets_are_never_all_kept(make: Callable[[], Reduction]) -> None:
    reduction, num_nodes = make(), 40
    kept: dict[int, int] = {}
    terms = [torch.randn(1, num_nodes, num_nodes, H, requires_grad=True) for _ in range(3)]

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        reduction.over_triplets(*terms).sum()
    assert sum(kept.values()) < terms[0].untyped_storage().nbytes() * num_nodes / 2


@every_reduction
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_single(make: Callable[[], Reduction], dtype: torch.dtype) -> None:
    reduction, (messages, is_heard) = make(), random_messages(torch.float32)
    terms = [term.float() for term in random_triplets()]
    with torch.autocast("cpu", dtype=dtype):
        received = reduction(messages.to(dtype), is_heard)
        triplets = reduction.over_triplets(*(term.to(dtype) for term in terms))
    assert received.dtype == triplets.dtype == dtype
    is_left = is_heard.any(dim=1)
    expected = reduction(messages, is_heard)
    torch.testing.assert_close(received[is_left].float(), expected[is_left], rtol=0.05, atol=0.05)
    torch.testing.assert_close(triplets.float(), reduction.over_triplets(*terms), rtol=0.05, atol=0.05)
    assert received.isfinite().all()


# Softmax.


def test_at_a_low_temperature_softmax_is_the_maximum() -> None:
    messages, is_heard = random_messages()
    is_left = is_heard.any(dim=1)
    found = Softmax(1e-4)(messages, is_heard)[is_left]
    torch.testing.assert_close(found, Max()(messages, is_heard)[is_left])
    ij, ik, jk = random_triplets()
    torch.testing.assert_close(Softmax(1e-4).over_triplets(ij, ik, jk), Max().over_triplets(ij, ik, jk))


def test_at_a_high_temperature_softmax_is_the_mean() -> None:
    messages, is_heard = random_messages()
    torch.testing.assert_close(Softmax(1e8)(messages, is_heard), Mean()(messages, is_heard))


def test_a_learnt_temperature_is_one_number_above_zero() -> None:
    (log_temperature,) = Softmax(0.3, learnt=True).parameters()
    assert log_temperature.exp().item() == pytest.approx(0.3)
    assert list(Softmax(0.3).parameters()) == []


@pytest.mark.parametrize(
    ("adaptive", "in_training", "in_evaluation"),
    [("never", False, False), ("evaluation", False, True), ("always", True, True)],
)
def test_softmax_adapts_when_it_is_told_to(adaptive: str, in_training: bool, in_evaluation: bool) -> None:
    messages, is_heard = torch.randn(B, 20, 20, H), torch.rand(B, 20, 20) < 0.8
    terms = torch.randn(3, B, 20, 20, H)
    reduction = Softmax(adaptive=adaptive)  # type: ignore[arg-type]
    for training, adapts in ((True, in_training), (False, in_evaluation)):
        reduction.train(training)
        assert adapts != reduction(messages, is_heard).equal(Softmax()(messages, is_heard))
        assert adapts != torch.allclose(reduction.over_triplets(*terms), Softmax().over_triplets(*terms))


def test_an_adaptive_softmax_is_nearer_the_maximum() -> None:
    messages = torch.randn(B, 40, 40, H)
    adaptive, usual, highest = (r(messages) for r in (Softmax(adaptive="always"), Softmax(), Max()))
    assert (usual < adaptive).all()
    assert (adaptive < highest).all()


def test_an_lstm_starts_with_an_open_forget_gate() -> None:
    cell = LSTM(H).cell
    biases = cell.bias_ih_l0 + cell.bias_hh_l0  # type: ignore[operator]
    assert biases.tolist() == [0] * H + [1] * H + [0] * 2 * H


# What a processor does with them.


def messages_of(processor: PGN, inputs: Inputs) -> Tensor:
    """[B, S, R, H]."""
    z = torch.cat([inputs.node_fts, inputs.hidden], dim=-1)
    mixed = processor.message_sender(z)[:, :, None] + processor.message_receiver(z)[:, None]
    mixed = mixed + processor.message_edge(inputs.edge_fts) + processor.message_graph(inputs.graph_fts)[:, None, None]
    made: Tensor = processor.message_mlp(mixed)
    return made


@pytest.mark.parametrize("reduction", [*REDUCTIONS, Softmax(0.5), LSTM(4)])
@pytest.mark.parametrize("senders", ["neighbours", "all", "self"])
def test_a_node_receives_the_reduction_of_its_messages(senders: str, reduction: AnyReduction) -> None:
    processor = PGN(4, senders=senders, reduction=reduction).double()  # type: ignore[arg-type]
    inputs = random_inputs(4)
    messages, own = messages_of(processor, inputs), torch.eye(5, dtype=torch.bool).expand(2, 5, 5)
    is_heard = {"neighbours": inputs.adj, "all": torch.ones_like(inputs.adj), "self": own}[senders]
    z = torch.cat([inputs.node_fts, inputs.hidden], dim=-1)
    received = processor.received(z, inputs.edge_fts, inputs.graph_fts, inputs.adj)
    torch.testing.assert_close(received, processor.reduction.usual(messages, is_heard))


def test_every_name_is_that_of_a_reduction() -> None:
    assert set(get_args(ReductionName)) == set(REDUCTIONS)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weights_are_of_no_reduction_but_the_lstm(reduction: ReductionName) -> None:
    arguments: dict[str, Any] = {"reduction": reduction, "triplet_reduction": reduction}
    names = set(TripletGMPNN(4, **arguments).state_dict())
    assert (names == set(TripletGMPNN(4).state_dict())) == (reduction != "lstm")


@pytest.mark.parametrize("in_evaluation", [name for name in REDUCTIONS if name != "lstm"])
@pytest.mark.parametrize("kind", [PGN, MPNN, TripletGMPNN])
def test_another_reduction_takes_its_place_in_evaluation(kind: type[PGN], in_evaluation: ReductionName) -> None:
    both: dict[str, Any] = {"triplet_dim": 2, "reduction": "softmax", "triplet_reduction": "softmax"}
    one = kind(4, **both, reduction_in_evaluation=in_evaluation, triplet_reduction_in_evaluation=in_evaluation)
    trained, other = kind(4, **both), kind(4, triplet_dim=2, reduction=in_evaluation, triplet_reduction=in_evaluation)
    for processor in (trained, other):
        processor.load_state_dict(one.state_dict())
    inputs = random_inputs(4, dtype=torch.float32)
    for mode, expected in ((True, trained), (False, other.eval())):
        for found, wanted in zip(one.train(mode)(*inputs), expected(*inputs), strict=True):
            assert found.equal(wanted)


@pytest.mark.parametrize("name", ["reduction", "triplet_reduction"])
@pytest.mark.parametrize("kind", [PGN, MPNN, TripletGMPNN])
def test_an_unknown_reduction_is_refused_by_name(kind: type[PGN], name: str) -> None:
    for argument in (name, f"{name}_in_evaluation"):
        with pytest.raises(ValueError, match=f"expected {argument} 'max', 'mean', .* or a Reduction, given 'median'"):
            kind(8, triplet_dim=2, **{argument: "median"})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["reduction", "triplet_reduction"])
@pytest.mark.parametrize("learning", ["lstm", Softmax(learnt=True)])
def test_what_would_never_be_trained_is_refused_in_evaluation(name: str, learning: AnyReduction) -> None:
    with pytest.raises(ValueError, match=f"expected a {name}_in_evaluation with nothing to be learnt"):
        TripletGMPNN(8, **{f"{name}_in_evaluation": learning})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["triplet_reduction", "triplet_reduction_in_evaluation"])
def test_a_reduction_of_triplets_that_there_are_not_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected triplet_dim ≥ 1 for a reduction of triplets, given 0"):
        PGN(8, **{name: "softmax"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Softmax(0.0), "expected a temperature above 0, given 0.0"),
        (lambda: Softmax(float("nan")), "expected a temperature above 0, given nan"),
        (lambda: Softmax(adaptive="test"), "expected adaptive 'never', 'evaluation' or 'always', given 'test'"),  # type: ignore[arg-type]
        (lambda: Mean("nodes"), "expected divisor 'senders' or 'receivers', given 'nodes'"),  # type: ignore[arg-type]
    ],
)
def test_a_bad_setting_is_refused_by_name(make: Callable[[], Reduction], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
