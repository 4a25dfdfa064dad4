"""The equations of every dense processor, written as loops over nodes, messages and heads."""
# Axes: B graphs, N nodes, H hidden. What belongs to an edge is [B, sender, receiver, ...].

import math
from itertools import product
from typing import Any

import torch
from layers import Inputs, normalised
from torch import Tensor, nn

from nar.ops.linear import Linear
from nar.processors import GAT, PGN, Asynchronous, GATv2, MemNet, PairGMPNN
from nar.processors.asynchronous.layer import Network
from nar.processors.reductions import Concat, Mean, Recurrent, Reduction, Softmax, Sum
from nar.processors.triplet_variants import ConcatRep, VariedTriplets
from nar.processors.triplets import Triplets


def hears(layer: Any, adj: Tensor, graph: int, sender: int, receiver: int) -> bool:
    """Whether a layer's `senders` let a message reach the receiver."""
    match layer.senders:
        case "all":
            return True
        case "self":
            return sender == receiver
        case _:
            return bool(adj[graph, sender, receiver])


def reduced(reduction: Reduction, messages: Tensor, num_receivers: int) -> Tensor:
    """What is left of messages [M, H] to a node that sends to so many."""
    match reduction:
        case Mean(divisor="receivers"):
            return messages.sum(dim=0) / num_receivers
        case Mean():
            return messages.mean(dim=0)
        case Sum():
            return messages.sum(dim=0)
        case Softmax():
            return (messages.exp() / messages.exp().sum(dim=0) * messages).sum(dim=0)
        case Recurrent():
            state = torch.zeros_like(messages[0])
            for message in messages:
                u = 1 / (1 + (-reduction.gate(message)).exp())
                state = (1 - u) * state + u * reduction.candidate(message)
            return state
        case Concat():
            return torch.cat([reduced(part, messages, num_receivers) for part in reduction.parts])
        case _:
            return messages.max(dim=0).values


def node_states_as_loops(processor: PGN, inputs: Inputs) -> Tensor:
    """The equations of PGN, one receiver j after another."""
    p = processor
    states = torch.empty_like(inputs.hidden)
    num_graphs, num_nodes = states.shape[:2]
    z = torch.cat([inputs.node_fts, inputs.hidden], dim=-1)
    for b, j in product(range(num_graphs), range(num_nodes)):
        messages = []
        for i in range(num_nodes):
            if not hears(p, inputs.adj, b, i, j):
                continue
            x = p.message_receiver(z[b, j]) + p.message_sender(z[b, i])
            x = x + p.message_edge(inputs.edge_fts[b, i, j]) + p.message_graph(inputs.graph_fts[b])
            messages.append(p.message_mlp[3](p.message_mlp[1](x.clamp(min=0)).clamp(min=0)))
        number = 1 if p.senders == "self" else sum(hears(p, inputs.adj, b, j, k) for k in range(num_nodes))
        received = reduced(p.reduction.current, torch.stack(messages), number)
        state = normalised((p.update_node(z[b, j]) + p.update_message(received)).clamp(min=0), p.norm)
        if p.gate is not None:
            opening = p.gate.output((p.gate.node(z[b, j]) + p.gate.message(received)).clamp(min=0))
            gate = 1 / (1 + (-opening).exp())
            state = gate * state + (1 - gate) * inputs.hidden[b, j]
        states[b, j] = state
    return states


def edge_states_as_loops(processor: PGN, inputs: Inputs) -> Tensor:
    """The equation of triplets, one edge from j to k after another."""
    t = processor.triplets
    assert isinstance(t, Triplets)
    z = torch.cat([inputs.node_fts, inputs.hidden], dim=-1)
    t1, t2, t3 = t.node_1(z), t.node_2(z), t.node_3(z)
    u1, u2, u3 = t.edge_1(inputs.edge_fts), t.edge_2(inputs.edge_fts), t.edge_3(inputs.edge_fts)
    v = t.graph(inputs.graph_fts)
    states = torch.empty_like(inputs.edge_fts)
    num_graphs, num_nodes = states.shape[:2]
    for b, j, k in product(range(num_graphs), range(num_nodes), range(num_nodes)):
        triplets = [
            t1[b, i] + t2[b, j] + t3[b, k] + u1[b, i, j] + u2[b, i, k] + u3[b, j, k] + v[b] for i in range(num_nodes)
        ]
        states[b, j, k] = t.output(reduced(t.reduction.current, torch.stack(triplets), num_nodes)).clamp(min=0)
    return states


def varied_edge_states_as_loops(processor: PGN, inputs: Inputs) -> Tensor:
    """The equations of variants of triplets, one edge from j to k after another."""
    t = processor.triplets
    assert isinstance(t, VariedTriplets)
    z, e, g = torch.cat([inputs.node_fts, inputs.hidden], dim=-1), inputs.edge_fts, inputs.graph_fts

    def term(layer: Any, x: Tensor) -> Tensor:
        if not isinstance(layer, ConcatRep):
            made: Tensor = layer(x)
            return made
        return torch.cat([layer.linear(x), layer.output(layer.hidden(x).clamp(min=0))])

    states = torch.empty_like(e)
    num_graphs, num_nodes = states.shape[:2]
    for b, j, k in product(range(num_graphs), range(num_nodes), range(num_nodes)):
        triplets = []
        for i in range(num_nodes):
            of_nodes = sum(term(layer, z[b, node]) for layer, node in zip(t.nodes, (i, j, k), strict=True))
            pairs = (e[b, i, j], e[b, i, k], e[b, j, k])
            of_edges = sum(term(layer, x) for layer, x in zip(t.edges, pairs, strict=True))
            match t.variant:
                case "concatrep":
                    triplets.append(of_nodes + of_edges + term(t.graph, g[b]))
                case "div2mean":
                    triplets.append(of_nodes / 2 + of_edges)
                case "tanhexpand":
                    triplets.append(of_nodes + of_edges + 3 * term(t.graph, g[b]))
        every = torch.stack(triplets)
        left = every.mean(dim=0) if t.variant == "div2mean" else every.max(dim=0).values
        states[b, j, k] = t.output(left.tanh() if t.variant == "tanhexpand" else left).clamp(min=0)
    return states


def pairs_as_loops(processor: PairGMPNN, inputs: Inputs) -> Tensor:
    """The equations of the edges of PairGMPNN, one edge from i to j and one head after another."""
    p, states = processor.pairs, torch.empty_like(inputs.edge_fts)
    z = torch.cat([inputs.node_fts, inputs.hidden], dim=-1)
    num_graphs, num_nodes = states.shape[:2]
    for b, i, j in product(range(num_graphs), range(num_nodes), range(num_nodes)):
        one, other = z[b, i], z[b, j]
        x = p.node(one) * p.sender(one) + p.node(other) * p.receiver(other)
        x = x + p.edge(inputs.edge_fts[b, i, j]) + p.graph(inputs.graph_fts[b])
        heads = []
        for head in x.chunk(p.num_heads):
            opening = p.gate[2](p.gate[0](head).clamp(min=0))
            heads.append(head / (1 + (-opening).exp()))
        states[b, i, j] = p.output(torch.cat(heads)).clamp(min=0)
    return states


def pgn_as_loops(processor: PGN, inputs: Inputs) -> tuple[Tensor, ...]:
    """The equations of PGN and of what is made of it."""
    if (f := processor.forget) is not None:
        opening = f.node(inputs.node_fts) + f.state(inputs.hidden)
        inputs = inputs._replace(hidden=inputs.hidden / (1 + (-opening).exp()))
    nodes = node_states_as_loops(processor, inputs)
    if not processor.has_edge_states:
        return (nodes,)
    if isinstance(processor, PairGMPNN):
        return nodes, pairs_as_loops(processor, inputs)
    is_varied = isinstance(processor.triplets, VariedTriplets)
    return nodes, (varied_edge_states_as_loops if is_varied else edge_states_as_loops)(processor, inputs)


def attention_as_loops(a: Any, z: Tensor, edge_fts: Tensor, graph_fts: Tensor, heard: Tensor) -> Tensor:
    """The equations of GAT, and of GATv2 if there are `scores`, one node i and one head after another."""
    num_graphs, num_nodes = z.shape[:2]
    hidden_dim, scores = a.value.out_features, getattr(a, "scores", None)
    num_heads = a.query.out_features if scores is None else len(scores)
    width = hidden_dim // num_heads
    states = torch.empty(num_graphs, num_nodes, hidden_dim, dtype=z.dtype)
    for b, i in product(range(num_graphs), range(num_nodes)):
        neighbours = [j for j in range(num_nodes) if heard[b, i, j]]
        state = a.skip(z[b, i]).clone()
        for head in range(num_heads):
            share = slice(head * width, (head + 1) * width)
            exponentials = []
            for j in neighbours:
                mixed = a.query(z[b, i]) + a.key(z[b, j]) + a.edge(edge_fts[b, i, j]) + a.graph(graph_fts[b])
                mixed = mixed.clamp(min=0) + 0.01 * mixed.clamp(max=0)
                exponentials.append((mixed[head] if scores is None else scores[head](mixed[share])).exp())
            for j, exponential in zip(neighbours, exponentials, strict=True):
                state[share] += exponential / sum(exponentials) * a.value(z[b, j])[share]
        states[b, i] = normalised(state.clamp(min=0), a.norm)
    return states


def gat_as_loops(processor: GAT | GATv2, inputs: Inputs) -> tuple[Tensor, ...]:
    """The equations of GAT or GATv2."""
    z = torch.cat([inputs.node_fts, inputs.hidden], dim=-1)
    heard = inputs.adj | (processor.senders == "all")
    attention = getattr(processor, "attention", processor)
    return (attention_as_loops(attention, z, inputs.edge_fts, inputs.graph_fts, heard),)


def answer_as_loops(p: MemNet, question: Tensor, story: list[Tensor]) -> Tensor:
    """The equations of MemNet for the features of one question and of the sentences of its story."""

    def encoded(sentence: Tensor, embeddings: Tensor) -> Tensor:
        vector = torch.zeros(embeddings.shape[1], dtype=embeddings.dtype)
        for w, feature in enumerate(sentence.tolist()):
            word = math.trunc(feature) % p.hidden_dim
            if word < p.hidden_dim - 1:
                vector += p.encoding[w] * embeddings[word]
        return vector

    u = encoded(question, p.query_embeddings)
    told = [encoded(sentence, p.story_embeddings) for sentence in story]
    exponentials = [(u @ (m + t)).exp() for m, t in zip(told, p.slot_biases, strict=False)]
    exponentials += [(u @ t).exp() for t in p.slot_biases[len(story) :]]
    o = torch.zeros_like(u)
    for exponential, sentence in zip(exponentials, story, strict=False):
        o += exponential / sum(exponentials) * encoded(sentence, p.output_embeddings)
    return p.answer.weight @ (p.project.weight @ (u + o)).clamp(min=0)


def memnet_as_loops(processor: MemNet, inputs: Inputs) -> tuple[Tensor, ...]:
    """The equations of MemNet, one node i after another."""
    expected = torch.empty_like(inputs.hidden)
    num_graphs, num_nodes, hidden_dim = expected.shape
    silence = torch.zeros(hidden_dim, dtype=expected.dtype)
    for b in range(num_graphs):
        from_graph = answer_as_loops(processor, inputs.graph_fts[b], [silence] * (num_nodes + 1))
        for i in range(num_nodes):
            heard = [hears(processor, inputs.adj, b, i, j) for j in range(num_nodes)]
            story = [inputs.edge_fts[b, i, j] if heard[j] else silence for j in range(num_nodes)]
            expected[b, i] = answer_as_loops(processor, inputs.node_fts[b, i], [*story, silence]) + from_graph
    return (expected,)


def argument_map(layer: Any, argument: Tensor) -> Tensor:
    """A or B of an asynchronous layer, one sum after another."""
    if isinstance(layer, Linear):
        return argument @ layer.weight.T
    rows = [[argument[i] + layer.weight[o, i] for i in range(len(argument))] for o in range(len(layer.weight))]
    return torch.stack([together(row, "logsumexp" if layer.temperature else "max", layer.temperature) for row in rows])


def together(terms: list[Tensor], reduction: str, temperature: float) -> Tensor:
    """⊕ of several messages."""
    stacked = torch.stack(terms)
    if reduction == "logsumexp":
        return temperature * (stacked / temperature).exp().sum(dim=0).log()
    return stacked.sum(dim=0) if reduction == "sum" else stacked.max(dim=0).values


def by_network(network: Network, x: Tensor, state: Tensor, received: Tensor) -> Tensor:
    """What a network makes of one node's features, state and received message."""
    made = network.node(torch.cat([x, state])) + network.received(received)
    return normalised(made.clamp(min=0), network.norm)


def asynchronous_as_loops(p: Asynchronous, inputs: Inputs) -> tuple[Tensor, ...]:
    """The equations of Asynchronous, one receiver j after another."""
    x, e, g, adj, h = inputs
    s, a = (h, h) if p.sends_state else h.chunk(2, dim=-1)
    states = torch.empty_like(h)
    for b, j in product(range(len(h)), range(h.shape[1])):
        messages = []
        for i in range(h.shape[1]):
            if not hears(p, adj, b, i, j):
                continue
            terms = p.sender_node(x[b, i]) + p.receiver_node(x[b, j]) + p.edge(e[b, i, j]) + p.graph(g[b])
            terms = terms + argument_map(p.sender_argument, a[b, i])
            if p.receiver_argument is not None:
                terms = terms + argument_map(p.receiver_argument, a[b, j])
            if isinstance(p.message_mlp, nn.Sequential):
                terms = p.message_mlp[3](p.message_mlp[1](terms.clamp(min=0)).clamp(min=0))
            messages.append(terms)
        received = together(messages, p.reduction, p.temperature)
        state = together([s[b, j], received], p.reduction, p.temperature)
        if p.update_network is not None:
            state = by_network(p.update_network, x[b, j], s[b, j], received)
        sent = received
        if p.argument_network is not None:
            sent = by_network(p.argument_network, x[b, j], s[b, j], received)
        states[b, j] = state if p.sends_state else torch.cat([state, sent])
    return (states,)
