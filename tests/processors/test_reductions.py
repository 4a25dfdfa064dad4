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
    Concat,
    Max,
    Mean,
    Recurrent,
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
    "Recurrent": lambda: Recurrent(H),
    "LSTM": lambda: LSTM(H),
    "Concat": lambda: Concat([Max(), Recurrent(H)]),
    "Concat, in no order": lambda: Concat([Mean(), Sum(), Max()]),
}
LEARNT = ("recurrent", "lstm")
every_reduction = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def softmax_mean(values: Tensor, reduction: Softmax) -> Tensor:
    """As it is written, for values [M, H]."""
    logits = values / reduction.temperature
    if reduction.adapts:
        logits = adaptive_temperature(logits, dim=0) * logits
    exponentials = logits.exp()
    return (exponentials / exponentials.sum(dim=0) * values).sum(dim=0)


def recurrent_state(values: Tensor, reduction: Recurrent) -> Tensor:
    """The state after one message after another, of values [M, H]."""
    state = values.new_zeros(values.shape[1])
    for value in values:
        u = 1 / (1 + (-reduction.gate(value)).exp())
        state = (1 - u) * state + u * reduction.candidate(value)
    return state


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
        case Recurrent():
            return recurrent_state(values, reduction)
        case Concat():
            return torch.cat([by_the_formula(part, values, num_receivers) for part in reduction.parts])
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
    parts = list(reduction.parts) if isinstance(reduction, Concat) else [reduction]
    for part, left in zip(parts, received[0, 1].split(H), strict=True):
        assert left.eq(UNHEARD if isinstance(part, Max) else 0).all()
    (gradient,) = torch.autograd.grad(received.square().sum(), messages)
    assert gradient.isfinite().all()


@every_reduction
@pytest.mark.parametrize("other", [0.0, 1e30, -1e30, float("inf"), float("nan")])
def test_who_is_not_heard_has_no_influence(make: Callable[[], Reduction], other: float) -> None:
    reduction, (messages, is_heard) = make().double(), random_messages()
    weights = torch.randn(B, N, H * reduction.multiple, dtype=torch.float64)
    changed = messages.detach().masked_fill(~is_heard[..., None], other).requires_grad_()
    both = [reduction(given, is_heard) for given in (messages, changed)]
    assert both[0].equal(both[1])
    gradients = [
        torch.autograd.grad((x * weights).sum(), (y, *reduction.parameters()))
        for x, y in zip(both, (messages, changed), strict=True)
    ]
    assert all(one.equal(other) for one, other in zip(*gradients, strict=True))
    assert gradients[0][0][~is_heard].eq(0).all()


@every_reduction
def test_the_order_of_senders_matters_to_those_that_read_in_order(make: Callable[[], Reduction]) -> None:
    reduction, (messages, is_heard) = make().double(), random_messages()
    order = torch.tensor([3, 0, 4, 1, 2])
    if isinstance(reduction, Mean):
        is_heard = is_heard | is_heard.mT  # the number of receivers is no matter of senders alone
        order = torch.arange(N) if reduction.divisor == "receivers" else order
    same = torch.allclose(reduction(messages[:, order], is_heard[:, order]), reduction(messages, is_heard))
    assert same != reduction.reads_in_order
    assert reduction.reads_in_order == any(isinstance(part, Recurrent | LSTM) for part in reduction.modules())


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


def test_a_recurrence_keeps_most_of_its_state_at_the_start() -> None:
    reduction = Recurrent(H)
    assert reduction.gate.bias.tolist() == [-1] * H
    assert reduction.candidate.bias.tolist() == [0] * H


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


@pytest.mark.parametrize(
    "reduction", [*REDUCTIONS, Softmax(0.5), LSTM(4), ["max", "recurrent"], ["mean", LSTM(4), "max"]]
)
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
def test_only_reductions_that_read_in_order_have_weights(reduction: ReductionName) -> None:
    arguments: dict[str, Any] = {"reduction": reduction, "triplet_reduction": reduction}
    names = set(TripletGMPNN(4, **arguments).state_dict())
    assert (names == set(TripletGMPNN(4).state_dict())) == (reduction not in LEARNT)


def test_weights_of_a_maximum_fit_the_same_layers_beside_a_recurrence() -> None:
    one, both = TripletGMPNN(4).state_dict(), TripletGMPNN(4, reduction=["max", "recurrent"]).state_dict()
    assert set(one) <= set(both)
    wider = {name for name, weight in one.items() if both[name].shape != weight.shape}
    assert wider == {"update_message.weight", "gate.message.weight"}
    assert both["update_message.weight"].shape == (4, 8)


def test_a_list_of_one_is_that_one() -> None:
    alone, listed = (TripletGMPNN(4, reduction=x, triplet_reduction=x) for x in ("mean", ["mean"]))  # type: ignore[arg-type]
    listed.load_state_dict(alone.state_dict())
    inputs = random_inputs(4, dtype=torch.float32)
    torch.testing.assert_close(listed(*inputs), alone(*inputs))


def test_a_recurrence_beside_the_maximum_does_not_change_what_that_leaves() -> None:
    alone, both = PGN(4).double(), PGN(4, reduction=["max", "recurrent"]).double()
    both.load_state_dict(
        {name: x for name, x in alone.state_dict().items() if name != "update_message.weight"}, strict=False
    )
    given = random_inputs(4)
    z = torch.cat([given.node_fts, given.hidden], dim=-1)
    expected = alone.received(z, given.edge_fts, given.graph_fts, given.adj)
    torch.testing.assert_close(both.received(z, given.edge_fts, given.graph_fts, given.adj)[..., :4], expected)


@pytest.mark.parametrize("in_evaluation", [name for name in REDUCTIONS if name not in LEARNT])
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
@pytest.mark.parametrize("learning", [*LEARNT, Softmax(learnt=True), ["max", "recurrent"]])
def test_what_would_never_be_trained_is_refused_in_evaluation(name: str, learning: AnyReduction) -> None:
    with pytest.raises(ValueError, match=f"expected a {name}_in_evaluation with nothing to be learnt"):
        TripletGMPNN(8, **{f"{name}_in_evaluation": learning})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["reduction", "triplet_reduction"])
def test_another_number_of_reductions_is_refused_in_evaluation(name: str) -> None:
    two, three = ["max", "mean"], ["max", "max", "sum"]
    assert TripletGMPNN(8, **{name: ["max", "recurrent"], f"{name}_in_evaluation": two})  # type: ignore[arg-type]
    for given in ("max", three):
        with pytest.raises(
            ValueError, match=f"expected as many reductions in {name}_in_evaluation as in {name}, .*given"
        ):
            TripletGMPNN(8, **{name: two, f"{name}_in_evaluation": given})  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [[], ["max", "median"], [["max"]], 3, ["max", None]])
def test_a_list_of_anything_else_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"expected reduction 'max', .* a list of such or a Reduction, given"):
        PGN(8, reduction=given)


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
