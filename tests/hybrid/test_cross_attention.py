# Axes: B texts and their graphs, L tokens, N nodes, D width of tokens, H width of states.
import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nar.hybrid import GatedCrossAttention
from nar.ops.adaptive_temperature import adaptive_temperature

B, L, N, D, H, HEADS = 2, 3, 4, 6, 5, 2


def layer(**settings: Any) -> GatedCrossAttention:
    """A layer in float64 whose gate is open."""
    made = GatedCrossAttention(D, HEADS, H, **{"edge_dim": H, **settings}).double()
    torch.nn.init.constant_(made.alpha, 0.7)
    return made


def data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens, node states, edge states, and a mask by which the second graph is smaller."""
    mask = torch.tensor([[True] * N, [True] * (N - 1) + [False]])
    drawn = [torch.randn(*shape, dtype=torch.float64) for shape in ((B, L, D), (B, N, H), (B, N, N, H))]
    return drawn[0], drawn[1], drawn[2], mask


def read_one(attention: Any, x: Tensor, states: list[Tensor], sharpened: bool = False) -> Tensor:
    """What a token [D] reads of some states [H], head by head."""
    width, heads = D // HEADS, []
    for head in range(HEADS):
        rows = slice(head * width, (head + 1) * width)
        query = attention.query.weight[rows] @ x
        logits = torch.stack([query @ (attention.key.weight[rows] @ s) / math.sqrt(width) for s in states])
        if sharpened:
            logits = logits * adaptive_temperature(logits)
        weights = logits.exp() / logits.exp().sum()
        heads.append(sum(w * (attention.value.weight[rows] @ s) for w, s in zip(weights, states, strict=True)))
    return torch.cat(heads)


@pytest.mark.parametrize("sharpened", [False, True])
def test_equals_the_equation_written_as_loops(sharpened: bool) -> None:
    attend = layer(adaptive_temperature=sharpened).eval()
    tokens, nodes, edges, mask = data()
    expected = torch.zeros_like(tokens)
    for b, i in ((b, i) for b in range(B) for i in range(L)):
        own = [n for n in range(N) if mask[b, n]]
        x = attend.norm(tokens[b, i])
        of_nodes = read_one(attend.nodes, x, [nodes[b, n] for n in own], sharpened)
        of_edges = read_one(attend.edges, x, [edges[b, n, m] for n in own for m in own], sharpened)
        mapped = attend.output.weight @ torch.cat([of_nodes, of_edges]) + attend.output.bias
        expected[b, i] = tokens[b, i] + math.tanh(0.7) * mapped
    torch.testing.assert_close(attend(tokens, nodes, edges, mask), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_it_is_the_same_function(dtype: torch.dtype) -> None:
    half = layer().to(dtype)
    full = copy.deepcopy(half).float()
    tokens, nodes, edges, mask = data()
    results = []
    for attend in (full, half):
        given = [x.to(dtype).to(attend.alpha.dtype).requires_grad_() for x in (tokens, nodes, edges)]
        result = attend(*given, mask)
        result.square().sum().backward()
        results.append([result, *(x.grad for x in given)])
    for expected, found in zip(*results, strict=True):
        assert (found.float() - expected).norm() < 0.02 * expected.norm()


def test_a_feed_forward_layer_follows_as_its_equation_says() -> None:
    attend, plain = layer(feed_forward=True), layer()
    torch.nn.init.constant_(attend.beta, -0.4)
    plain.load_state_dict({name: x for name, x in attend.state_dict().items() if "feed" not in name and name != "beta"})
    tokens, nodes, edges, mask = data()
    read = plain(tokens, nodes, edges, mask)
    norm, widen, _, narrow = attend.feed_forward
    hidden = norm(read) @ widen.weight.T + widen.bias
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    expected = read + math.tanh(-0.4) * (hidden @ narrow.weight.T + narrow.bias)
    torch.testing.assert_close(attend(tokens, nodes, edges, mask), expected, rtol=1e-10, atol=1e-12)
    assert widen.out_features == 4 * D


def test_attention_is_sharpened_in_evaluation_alone() -> None:
    attend, plain = layer(adaptive_temperature=True), layer()
    plain.load_state_dict(attend.state_dict())
    tokens, nodes, edges, mask = data()
    torch.testing.assert_close(attend.train()(tokens, nodes, edges, mask), plain(tokens, nodes, edges, mask))
    assert not torch.allclose(attend.eval()(tokens, nodes, edges, mask), plain(tokens, nodes, edges, mask))


@pytest.mark.parametrize("feed_forward", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_shut_gate_leaves_tokens_bit_equal(dtype: torch.dtype, feed_forward: bool) -> None:
    attend = GatedCrossAttention(D, HEADS, H, H, feed_forward=feed_forward).to(dtype)
    tokens, nodes, edges, mask = data()
    tokens = tokens.to(dtype)
    assert torch.equal(attend(tokens, 100 * nodes, 100 * edges, mask), tokens)


def test_a_shut_gate_has_a_gradient_by_which_it_opens() -> None:
    attend = GatedCrossAttention(D, HEADS, H, H).double()
    attend(*data()).square().sum().backward()
    assert attend.alpha.grad is not None
    assert attend.alpha.grad != 0


@pytest.mark.parametrize("sharpened", [False, True])
def test_padding_is_not_read(sharpened: bool) -> None:
    attend = layer(adaptive_temperature=sharpened).eval()
    tokens, nodes, edges, mask = data()
    read = attend(tokens, nodes, edges, mask)
    other_nodes, other_edges = nodes.clone(), edges.clone()
    other_nodes[1, -1] = other_edges[1, -1] = 1e3
    other_edges[1, :, -1] = 1e3
    assert torch.equal(attend(tokens, other_nodes, other_edges, mask), read)
    alone = attend(tokens[1:], nodes[1:, :-1], edges[1:, :-1, :-1])
    torch.testing.assert_close(read[1:], alone)


@pytest.mark.parametrize("sharpened", [False, True])
def test_a_graph_without_nodes_is_read_as_zeros(sharpened: bool) -> None:
    attend = layer(adaptive_temperature=sharpened).eval()
    tokens, nodes, edges, _ = data()
    read = attend(tokens, nodes, edges, torch.zeros(B, N, dtype=torch.bool))
    torch.testing.assert_close(read, tokens + math.tanh(0.7) * attend.output.bias)


def test_renaming_the_nodes_changes_nothing() -> None:
    attend, order = layer(), torch.tensor([2, 0, 3, 1])
    tokens, nodes, edges, mask = data()
    renamed = attend(tokens, nodes[:, order], edges[:, order][:, :, order], mask[:, order])
    torch.testing.assert_close(renamed, attend(tokens, nodes, edges, mask))


def test_gradient_equals_finite_differences() -> None:
    attend = layer()
    tokens, nodes, edges, mask = data()
    inputs = [x.requires_grad_() for x in (tokens, nodes, edges)]
    assert torch.autograd.gradcheck(lambda *x: attend(*x, mask), inputs)


def test_keys_are_those_of_the_same_graphs_for_several_answers() -> None:
    attend = layer()
    tokens, nodes, edges, mask = data()
    twice = attend.read(tokens.repeat_interleave(2, dim=0), attend.keys(nodes, edges, mask).repeated(2))
    torch.testing.assert_close(twice, attend(tokens, nodes, edges, mask).repeat_interleave(2, dim=0))


def test_without_edge_states_nodes_alone_are_read() -> None:
    attend = layer(edge_dim=None)
    tokens, nodes, _, mask = data()
    own = list(nodes[0])
    expected = tokens[0, 0] + math.tanh(0.7) * attend.output(read_one(attend.nodes, attend.norm(tokens[0, 0]), own))
    torch.testing.assert_close(attend(tokens, nodes, node_mask=mask)[0, 0], expected)


def test_what_does_not_fit_is_refused() -> None:
    tokens, nodes, edges, _ = data()
    with pytest.raises(ValueError, match=r"expected a num_heads that divides hidden_dim 6, given 4"):
        GatedCrossAttention(D, 4, H)
    with pytest.raises(ValueError, match=r"expected edge states, given none"):
        layer()(tokens, nodes)
    with pytest.raises(ValueError, match=r"expected no edge states, given \[2, 4, 4, 5\]"):
        layer(edge_dim=None)(tokens, nodes, edges)
    with pytest.raises(ValueError, match=r"expected edge states \[2, 4, 4, \.\.\.\] beside .* given \[2, 3, 4, 5\]"):
        layer()(tokens, nodes, edges[:, 1:])


@pytest.mark.parametrize(
    ("node_states", "edge_states", "node_mask", "message"),
    [
        ((1, 5, 6), (1, 5, 5, 4), None, "expected node states of 2 graphs, one of each text, given 1"),
        ((2, 5, 7), (2, 5, 5, 4), None, r"expected node states that are 6 wide, given \[2, 5, 7\]"),
        ((2, 5, 6), (2, 5, 5, 3), None, r"expected edge states that are 4 wide, given \[2, 5, 5, 3\]"),
        ((2, 5, 6), (2, 5, 5, 4), (2, 4), r"expected a node_mask \[2, 5\], given \[2, 4\]"),
    ],
)
def test_sizes_that_disagree_are_refused(
    node_states: tuple[int, ...], edge_states: tuple[int, ...], node_mask: tuple[int, ...] | None, message: str
) -> None:
    layer = GatedCrossAttention(8, 2, 6, edge_dim=4)
    mask = None if node_mask is None else torch.ones(node_mask, dtype=torch.bool)
    with pytest.raises(ValueError, match=message):
        layer(torch.zeros(2, 3, 8), torch.zeros(node_states), torch.zeros(edge_states), mask)
