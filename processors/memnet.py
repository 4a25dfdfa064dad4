"""End-to-end memory network: a node asks a question of its edges.

Source: Sukhbaatar et al., "End-To-End Memory Networks", NeurIPS 2015; ``MemNetMasked`` and ``MemNetFull`` in
``clrs/_src/processors.py`` of dm-clrs 2.0.3.
"""
# Axes: B graphs, N nodes, H hidden, D embedding, M memory. What belongs to an edge is [B, sender, receiver, ...].

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, pad

from nar.errors import UserError
from nar.ops.linear import Linear
from nar.processor import Processor, aligned


class MemNet(Processor):
    """Features are cut to whole numbers and read as sentences of H words; node i asks ``x_i`` of ``e_i1 … e_iN``::

        h'_i = answer(x_i, e_i) + answer(g, 0)
        answer(q, s) = W ReLU(P (u + Σ_j softmax_j(u · m_j) o_j))      over all M slots of the memory
        u   = Σ_w l_w ⊙ Q[q_w]
        m_j = Σ_w l_w ⊙ S[s_jw] + T_j                                  slots after the last sentence hold T_j
        o_j = Σ_w l_w ⊙ O[s_jw]                                        and give 0

    l is :func:`position_encoding`. Every story has one more sentence, for the graph, of H times word 0; all of g's are
    such. The last word embeds as 0.

    Peculiarities of the reference: the previous states are not looked at; features get no gradient; a node hears its
    outgoing edges and no other node's features; an edge that is not in `adj` is not left out but reads as H times word
    0; the learnt T tells nodes apart by their numbers. Q, S, T and O start at 0, so all states are 0, and so is every
    gradient: training from there leaves them at 0.

    Args:
        hidden_dim: H, the width of every feature and state, and the number of words.
        senders: Which of its edges a node hears: those to its ``"neighbours"`` in `adj`, or to ``"all"`` nodes.
        embedding_dim: D, the width of embeddings.
        memory_size: M, the slots of the memory; one is the graph's, so graphs have at most ``M - 1`` nodes.
    """

    encoding: Tensor

    def __init__(
        self,
        hidden_dim: int = 128,
        *,
        senders: Literal["neighbours", "all"] = "neighbours",
        embedding_dim: int = 16,
        memory_size: int = 128,
    ) -> None:
        super().__init__()
        if hidden_dim < 1 or embedding_dim < 1 or memory_size < 2:
            raise ValueError(
                "expected hidden_dim ≥ 1, embedding_dim ≥ 1 and memory_size ≥ 2, "
                f"given {hidden_dim}, {embedding_dim} and {memory_size}"
            )
        if senders not in ("neighbours", "all"):
            raise ValueError(f"expected senders 'neighbours' or 'all', given {senders!r}")
        self.hidden_dim = hidden_dim
        self.senders = senders
        self.memory_size = memory_size
        self.query_embeddings = nn.Parameter(torch.zeros(hidden_dim - 1, embedding_dim))
        self.story_embeddings = nn.Parameter(torch.zeros(hidden_dim - 1, embedding_dim))
        self.slot_biases = nn.Parameter(torch.zeros(memory_size, embedding_dim))
        self.output_embeddings = nn.Parameter(torch.zeros(hidden_dim - 1, embedding_dim))
        self.project = Linear(embedding_dim, hidden_dim, bias=None)
        self.answer = Linear(hidden_dim, hidden_dim, bias=None)
        self.register_buffer("encoding", position_encoding(hidden_dim, embedding_dim), persistent=False)

    def forward(
        self, node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor, hidden: Tensor
    ) -> tuple[Tensor, None]:
        """See :meth:`nar.processor.Processor.forward`.

        Raises:
            UserError: If there are more than ``memory_size - 1`` nodes.
        """
        node_fts, edge_fts, graph_fts, adj, hidden = aligned(self, node_fts, edge_fts, graph_fts, adj, hidden)
        num_nodes = node_fts.shape[1]
        if num_nodes > self.memory_size - 1:
            raise UserError(f"expected num_nodes ≤ memory_size - 1 = {self.memory_size - 1}, given {num_nodes}")
        questions = torch.cat([self.words(node_fts), self.words(graph_fts)[:, None]], dim=1)
        stories, is_lost = self.words(edge_fts), edge_fts.isnan().any(dim=-1)
        if self.senders == "neighbours":
            stories, is_lost = stories.masked_fill(~adj.bool()[..., None], 0), is_lost & adj.bool()
        answers = self.answers(questions, pad(stories, (0, 0, 0, 1, 0, 1)))
        # What is not a number is no word: what depends on it is not a number either.
        is_lost = is_lost.any(dim=2) | node_fts.isnan().any(dim=-1) | graph_fts.isnan().any(dim=-1)[:, None]
        states = answers[:, :-1] + answers[:, -1:]
        return states.masked_fill(is_lost[..., None], torch.nan), None

    def words(self, features: Tensor) -> Tensor:
        """The words that features stand for: truncated, counted from the end if negative, [..., H] in [0, H).

        Truncated features out of [-H, H) become its ends; the reference makes them NaN.
        """
        h = self.hidden_dim
        # All of it fits an integer; half precision may round h itself.
        bounded = features.nan_to_num(0, 2 * h, -2 * h).clamp(-2 * h, 2 * h)
        return bounded.int().clamp(-h, h - 1) % h

    def answers(self, questions: Tensor, stories: Tensor) -> Tensor:
        """Answers [B, N, H] to questions [B, N, H] of words about stories [B, N, N, H] of words."""
        num_sentences = stories.shape[2]
        u = self.encoded(questions, self.query_embeddings)
        told = self.encoded(stories, self.story_embeddings)
        memory = pad(told, (0, 0, 0, self.memory_size - num_sentences)) + self.slot_biases
        weights = (memory * u[:, :, None]).sum(dim=-1).softmax(dim=-1)[..., :num_sentences, None]
        o = (weights * self.encoded(stories, self.output_embeddings)).sum(dim=2)
        answers: Tensor = self.answer(self.project(u + o).relu())
        return answers

    def encoded(self, words: Tensor, embeddings: Tensor) -> Tensor:
        """Sentences [..., H] of words as vectors [..., D]; the last word embeds as 0."""
        return (embedding(words, pad(embeddings, (0, 0, 0, 1))) * self.encoding).sum(dim=-2)


def position_encoding(sentence_size: int, embedding_dim: int) -> Tensor:
    """``l_wd = 1 + 4 (w - W/2) (d - D/2) / (W D)``, with w and d from 1, by the W words of a sentence, [W, D].

    In single precision whatever the default is, as in the reference.
    """
    sizes = (sentence_size, embedding_dim)
    word, feature = (torch.arange(1, size + 1, dtype=torch.float32) - size / 2 for size in sizes)
    return 1 + 4 * torch.outer(word, feature) / embedding_dim / sentence_size
