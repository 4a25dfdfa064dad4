"""Edge states made of products of features of the two nodes."""
# Axes: B graphs, N nodes, H hidden. What belongs to an edge is [B, sender, receiver, ...].

import torch
from layers import Inputs, random_inputs, randomised

from nar.processors import MPNN, PairGMPNN


def test_the_state_of_an_edge_depends_on_its_two_nodes_alone() -> None:
    layer, given = randomised(PairGMPNN(8)), random_inputs(8, num_nodes=9)
    first = slice(0, 5)
    alone = Inputs(
        given.node_fts[:, first],
        given.edge_fts[:, first, first],
        given.graph_fts,
        given.adj[:, first, first],
        given.hidden[:, first],
    )
    (_, whole), (_, edges) = layer(*given), layer(*alone)
    torch.testing.assert_close(whole[:, first, first], edges)


def test_nodes_have_the_states_of_an_mpnn() -> None:
    layer, given = randomised(PairGMPNN(8)), random_inputs(8)
    plain = MPNN(8, gated=True).double()
    plain.load_state_dict(layer.state_dict(), strict=False)
    torch.testing.assert_close(layer(*given)[0], plain(*given)[0])


def test_the_two_ends_of_an_edge_are_told_apart() -> None:
    layer, given = randomised(PairGMPNN(8)), random_inputs(8)
    given = given._replace(edge_fts=given.edge_fts + given.edge_fts.transpose(1, 2))
    _, edges = layer(*given)
    assert not torch.allclose(edges, edges.transpose(1, 2))


def test_weights_of_pairs_are_few() -> None:
    """As published: 32 features of each node, of the two ends, of edges and of graphs, and one gate for all heads."""
    layer = PairGMPNN(128)
    assert sum(x.numel() for x in layer.pairs.parameters()) == (
        3 * (256 * 32 + 32) + 2 * (128 * 32 + 32) + (8 * 4 + 4) + (4 * 8 + 8) + 32 * 128 + 128
    )
