"""Encode-process-decode: a processor unrolled along an algorithm's hints.

Source: Ibarz et al., "A Generalist Neural Algorithmic Learner", LoG 2022; ``clrs/_src/nets.py`` of dm-clrs 2.0.3.
Decay and noise of the latent space: Mirjanić et al., "Latent Space Representations of Neural Algorithmic Reasoners",
LoG 2023.
"""
# Axes: B graphs, N nodes, H hidden, P (graph, step) pairs.

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from nar.batch import Features, num_steps_of, size_of
from nar.errors import UserError
from nar.limits import check_of_scalars, check_steps
from nar.model.decoders import States, decode, hard_value, soft_value
from nar.model.encoders import Encoding, dense
from nar.model.heads import EdgePointers, Heads, HintMode
from nar.model.reconstruction import Reconstructed, Reconstruction
from nar.model.schedule import Schedule, schedule_of
from nar.model.visits import Visit, VisitStep, visited, visited_messages
from nar.noise import Noise
from nar.ops.channels import as_tensor, concat
from nar.ops.linear import Linear, may_be_given_channels
from nar.processor import Processor, takes_triplet_fts
from nar.specs import Spec, of_algorithm

HintFeedback = Literal["soft", "hard", "hard_on_eval"]
DecayTo = Literal["zero", "mean"]


class Predictions(NamedTuple):
    """Logits by probe name.

    Attributes:
        outputs: At each graph's own last step, [B, ...].
        hints: At every step that has a hint to compare with, one after the other, [P, ...].
        time: The time index of that hint in the trajectory, at least 1, [P]; beyond a trajectory's end only if a model
            was told for how many steps to run.
        graph: The graph it belongs to, [P].
        penalties: Those of the processor by name, if they were asked for: means over all steps of all graphs.
        reconstructed: The hints that the steps were given, one before `time`, as they are decoded from what a network
            made of them; None if there is none or it was not asked for.
    """

    outputs: dict[str, Tensor]
    hints: dict[str, Tensor]
    time: Tensor
    graph: Tensor
    penalties: Mapping[str, Tensor] = MappingProxyType({})
    reconstructed: Reconstructed | None = None


class Step(NamedTuple):
    """What a step computed of the C graphs that took it.

    Attributes:
        graphs: The places of these graphs in the batch, [C].
        states: What decoders read.
        node_states: The node states after the step, [C, N, H].
        hints: The logits of hints by probe name, [C, ...].
        reconstructed: Of :class:`Predictions`, of this step.
    """

    graphs: Tensor
    states: States
    node_states: Tensor
    hints: dict[str, Tensor]
    reconstructed: Reconstructed | None = None


class EncodeProcessDecode(nn.Module):
    """One processor, with encoders and decoders for each of several algorithms.

    A graph with T hints is run for max(1, T - 1) steps. Every step encodes the inputs and the hints again (the true
    ones at the first step, then the predicted ones), applies the processor, and decodes the next hints; the outputs are
    decoded at the graph's last step.

    Args:
        specs: The spec of each algorithm by name.
        processor: Its `hidden_dim` is the width of everything.
        hint_mode: Whether hints are fed back and predicted, only predicted, or not used.
        hint_teacher_forcing: Probability, per graph and step, that training feeds the true hint.
        hint_feedback: Whether predicted hints are fed back as probabilities or as definite values.
        edge_pointers: Whether edge pointers are encoded and decoded on pairs of nodes, as in the reference, or also on
            triplets (see :class:`nar.model.encoders.Encoder` and :class:`nar.model.decoders.TripletPointerDecoder`), of
            which the processor has to have messages.
        reconstruction: Of a model that encodes its hints by a network; None for one that does not.
        num_frequencies: F: beside a scalar x, ``sin(2^f π x)`` and ``cos(2^f π x)`` are encoded for f from 0 to F - 1.
        difference_scales: S: of every input x that is a scalar of nodes, ``tanh(10^s (x_i - x_j))`` is encoded on the
            edges for s from 0 to S - 1, and with every input g that is one of the graph ``tanh(10^s (x_i - g))`` on the
            nodes (see :class:`nar.model.encoders.Encoder`).
        use_lstm: Whether node states pass through an LSTM after the processor.
        num_processor_steps: How often the processor is applied between two hints: a number for all algorithms, or some
            by their names, of all others being 1.
        dropout: Probability that an entry of the node states is dropped in training.
        latent_decay: What is left, in [0, 1], of the node states between one step and the next, before the processor;
            the decoders are given what they were.
        latent_decay_to: What they decay to: zero, or the mean over each node's own H entries.
        latent_noise: What becomes of node states after the processor; None for nothing.
    """

    def __init__(
        self,
        specs: Mapping[str, Spec],
        processor: Processor,
        *,
        hint_mode: HintMode = "encoded_decoded",
        hint_teacher_forcing: float = 0.0,
        hint_feedback: HintFeedback = "soft",
        edge_pointers: EdgePointers = "pairs",
        reconstruction: Reconstruction | None = None,
        num_frequencies: int = 0,
        difference_scales: int = 0,
        use_lstm: bool = False,
        num_processor_steps: int | Mapping[str, int] = 1,
        dropout: float = 0.0,
        latent_decay: float = 1.0,
        latent_decay_to: DecayTo = "zero",
        latent_noise: Noise | None = None,
    ) -> None:
        super().__init__()
        for name, part in (("hint_teacher_forcing", hint_teacher_forcing), ("latent_decay", latent_decay)):
            if not 0 <= part <= 1:
                raise ValueError(f"expected a {name} between 0 and 1, given {part}")
        if not 0 <= dropout < 1:
            raise ValueError(f"expected a dropout of at least 0 and below 1, given {dropout}")
        if latent_decay_to not in get_args(DecayTo):
            raise ValueError(f"expected latent_decay_to 'zero' or 'mean', given {latent_decay_to!r}")
        if edge_pointers not in get_args(EdgePointers):
            raise ValueError(f"expected edge_pointers 'pairs' or 'triplets', given {edge_pointers!r}")
        if edge_pointers == "triplets" and not takes_triplet_fts(processor):
            expected = "a processor with triplet_dim ≥ 1 whose forward takes triplet_fts"
            raise UserError(f"expected {expected} for edge_pointers 'triplets', given {type(processor).__name__}")
        if reconstruction is not None and hint_mode != "encoded_decoded":
            raise UserError(f"expected hint_mode 'encoded_decoded' for a reconstruction, given {hint_mode!r}")
        check_of_scalars(num_frequencies=num_frequencies, difference_scales=difference_scales)
        by_name = num_processor_steps if isinstance(num_processor_steps, Mapping) else {"": num_processor_steps}
        for number in by_name.values():
            check_steps("num_processor_steps", number)
        self.processor = processor
        self.encodes_hints = hint_mode == "encoded_decoded"
        self.hint_teacher_forcing = hint_teacher_forcing
        self.hint_feedback = hint_feedback
        self.reconstruction = reconstruction
        self.num_processor_steps = num_processor_steps
        self.dropout = dropout
        self.latent_decay = latent_decay
        self.latent_decay_to = latent_decay_to
        self.latent_noise = latent_noise
        self.lstm = LSTM(processor.hidden_dim) if use_lstm else None
        self.heads = nn.ModuleDict(
            {
                name: Heads(
                    spec, processor, hint_mode, edge_pointers, reconstruction, num_frequencies, difference_scales
                )
                for name, spec in specs.items()
            }
        )

    def forward(
        self,
        algorithm: str,
        features: Features[Tensor],
        *,
        with_hints: bool = True,
        with_penalties: bool = False,
        with_reconstruction: bool = False,
        num_steps: int | None = None,
        visit: Visit | None = None,
    ) -> Predictions:
        """Predictions for a batch of one algorithm's graphs of equal size; of the outputs alone unless `with_hints`.

        In training mode hints may be teacher-forced and noise is drawn from torch's generator; in evaluation mode only
        the first hint of `features` is looked at.

        Args:
            algorithm: Whose encoders and decoders to use.
            features: The batch.
            with_hints: Whether to predict hints.
            with_penalties: Whether to compute the processor's penalties.
            with_reconstruction: Whether to decode the hints that steps are given, of a model with a reconstruction.
            num_steps: How many steps to run all graphs for, at least as many as the longest needs. Nothing then depends
                on the lengths but which states outputs are decoded of, so no shape does. If None, graphs leave the
                batch when they end.
            visit: Called with each state at each step, which it may replace; None for nothing.
        """
        heads = self.heads[algorithm]
        assert isinstance(heads, Heads)
        schedule = schedule_of(features.lengths, num_steps)
        final_states: list[States] = []
        all_logits: list[dict[str, Tensor]] = []
        all_reconstructed: list[Reconstructed] = []
        penalties: list[dict[str, Tensor]] | None = [] if with_penalties else None
        steps = self._steps(algorithm, features, schedule, penalties, visit, with_reconstruction=with_reconstruction)
        for step, places in zip(steps, schedule.kept, strict=True):
            if with_hints:
                all_logits.append(step.hints)
            if step.reconstructed is not None:
                all_reconstructed.append(step.reconstructed)
            if places.start < places.stop:
                final_states.append(step.states.select(places))

        # Outputs are decoded of all graphs at once, each at its own last step, in the order of the batch.
        final = States.concatenated(final_states).select(schedule.last)
        outputs = decode(heads.output_decoders, final)
        time, graph = schedule.time, schedule.graph
        mean_penalties = _summed(penalties or [], sum(schedule.counts) * self._processor_steps_of(algorithm))
        if not with_hints:
            return Predictions(outputs, {}, time[:0], graph[:0], mean_penalties)
        hints = {name: torch.cat([logits[name] for logits in all_logits]) for name in heads.hint_decoders}
        reconstructed = Reconstructed.concatenated(all_reconstructed) if all_reconstructed else None
        if num_steps is None and (features.lengths == 1).any():  # a step, but no second hint to compare it with
            has_hint = features.lengths[graph] > time
            hints = {name: logits[has_hint] for name, logits in hints.items()}
            time, graph = time[has_hint], graph[has_hint]
            reconstructed = None if reconstructed is None else reconstructed.select(has_hint)
        return Predictions(outputs, hints, time, graph, mean_penalties, reconstructed)

    def steps(
        self,
        algorithm: str,
        features: Features[Tensor],
        num_steps: int | None = None,
        visit: Visit | None = None,
    ) -> "Iterator[Step]":
        """What `forward` computes, step by step, of which no more are taken than are asked for.

        Graphs leave the batch when they end, unless `num_steps` says how many all of them take; `visit` is called as
        by `forward`.
        """
        return self._steps(algorithm, features, schedule_of(features.lengths, num_steps), None, visit)

    def outputs(self, algorithm: str, states: States) -> dict[str, Tensor]:
        """The logits of the outputs of graphs that have come to these states at their last step."""
        heads = self.heads[algorithm]
        assert isinstance(heads, Heads)
        return decode(heads.output_decoders, states)

    def _processor_steps_of(self, algorithm: str) -> int:
        """How often the processor is applied between two hints of an algorithm."""
        return of_algorithm(self.num_processor_steps, algorithm, 1)

    def _steps(
        self,
        algorithm: str,
        features: Features[Tensor],
        schedule: Schedule,
        penalties: list[dict[str, Tensor]] | None,
        visit: Visit | None,
        *,
        with_reconstruction: bool = False,
    ) -> "Iterator[Step]":
        """The steps of a batch, one after the other; the processor's penalties are added to `penalties`, if any."""
        heads = self.heads[algorithm]
        assert isinstance(heads, Heads)
        num_applications = self._processor_steps_of(algorithm)
        graphs, num_nodes = schedule.order, size_of(heads.inputs, features.inputs)
        empty = Encoding.empty(len(graphs), num_nodes, next(self.parameters()), self.processor.hidden_dim)
        inputs = heads.input_encoder(_dense(heads.inputs, features.inputs, graphs, num_nodes), empty)
        num_steps = num_steps_of(features.lengths)[graphs]
        hidden = cell = empty.graph_fts.data.new_zeros(len(graphs), num_nodes, self.processor.hidden_dim)
        with_adj = self._looks_at_adj(heads)
        logits: dict[str, Tensor] = {}
        for step, count in enumerate(schedule.counts):
            # Who still runs are the first `count` graphs in the order. A slice of all of them would be for nothing, and
            # on a GPU two launches in the backward pass.
            if count < len(graphs):
                graphs, num_steps = graphs[:count], num_steps[:count]
                inputs, empty = inputs.first(count), empty.first(count)
                hidden, cell = hidden[:count], cell[:count]
                logits = {name: x[:count] for name, x in logits.items()}
            encoding, reconstructed = inputs, None
            if self.encodes_hints:
                true = {name: hint[min(step, len(hint) - 1)] for name, hint in features.hints.items()}
                if step == 0:
                    hints = _dense(heads.hints, true, graphs, num_nodes)
                else:
                    hints = self._fed_back(heads.hints, logits)
                    if self.training and self.hint_teacher_forcing > 0:
                        forced = torch.rand(count, device=graphs.device) < self.hint_teacher_forcing
                        hints = _where(forced, _dense(heads.hints, true, graphs, num_nodes), hints)
                encoding = heads.hint_encoder(hints, encoding, with_adj=with_adj)
                if heads.hint_network is not None and self.reconstruction is not None:
                    z = heads.hint_encoder(hints, empty, with_adj=False)
                    made = heads.hint_network(z)
                    encoding = heads.hint_network.blended(encoding, z, made, empty)
                    if with_reconstruction:
                        given = (made, heads.hint_encoder, hints, self.reconstruction.mask_ratio)
                        reconstructed = heads.hint_network.reconstructed(*given)
            at_step = None if visit is None else partial(visit, step, graphs)
            states, hidden, cell = self._step(
                encoding, hidden, cell, step, num_steps, num_applications, penalties, at_step
            )
            logits = decode(heads.hint_decoders, states)
            logits = {name: visited(at_step, f"hints.{name}", x) for name, x in logits.items()}
            yield Step(graphs, states, hidden, logits, reconstructed)

    def _looks_at_adj(self, heads: Heads) -> bool:
        """Whether anything may look at which nodes hints connect: the processor, a decoder, or what is a user's own."""
        is_as_defined = may_be_given_channels(self.processor) and may_be_given_channels(heads)
        return self.processor.looks_at_adj or self.processor.masks_decoders or not is_as_defined

    def _fed_back(self, spec: Spec, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predicted hints as the next step is given them, by probe name, in the shape of their logits."""
        hard = self.hint_feedback == "hard" or (self.hint_feedback == "hard_on_eval" and not self.training)
        value = hard_value if hard else soft_value
        return {name: value(probe, logits[name]) for name, probe in spec.items()}

    def _step(
        self,
        encoding: Encoding,
        hidden: Tensor,
        cell: Tensor,
        step: int,
        num_steps: Tensor,
        num_applications: int,
        penalties: list[dict[str, Tensor]] | None,
        visit: VisitStep | None,
    ) -> tuple[States, Tensor, Tensor]:
        """The states that decoders read after one step, the node states, and the cell of the LSTM.

        The step's penalties, if `penalties` is not None, are added to it, each for as many graphs as take the step.
        Steps are counted from 0, and `num_steps` is how many each of these graphs takes, [C]; in each the processor is
        applied `num_applications` times.
        """
        node_fts = visited(visit, "node_features", encoding.node_fts)
        edge_fts = visited(visit, "edge_features", encoding.edge_fts)
        graph_fts, adj = visited(visit, "graph_features", encoding.graph_fts), encoding.adj
        new_hidden, edge_states = self._decayed(hidden), None
        nodes: Any = node_fts if self.processor.takes_channels else as_tensor(node_fts)
        edges: Any = edge_fts if self.processor.takes_channels else as_tensor(edge_fts)
        graph: Any = graph_fts if self.processor.takes_graph_channels else as_tensor(graph_fts)
        triplets = {} if encoding.triplet_fts is None else {"triplet_fts": encoding.triplet_fts}
        for _ in range(num_applications):
            if penalties is not None:
                of_step = self.processor.penalties(nodes, edges, graph, adj, new_hidden)
                penalties.append({name: len(hidden) * penalty for name, penalty in of_step.items()})
            with visited_messages(visit, self.processor, hidden):
                new_hidden, edge_states = self.processor(nodes, edges, graph, adj, new_hidden, **triplets)
        if edge_states is not None:
            edge_states = visited(visit, "edge_states", edge_states)
        if self.latent_noise is not None:
            new_hidden = self.latent_noise(new_hidden, num_steps == step + 1)
        new_hidden = functional.dropout(new_hidden, self.dropout, training=self.training)
        if self.lstm is not None:
            new_hidden, cell = self.lstm(new_hidden, hidden, cell)
            cell = visited(visit, "lstm_cells", cell)
        new_hidden = visited(visit, "node_states", new_hidden)
        node = concat(node_fts, hidden, new_hidden)
        edge = edge_fts if edge_states is None else concat(edge_fts, edge_states)
        pointers = None if encoding.triplet_fts is None else encoding.triplet_fts.data
        return States(node, edge, graph_fts, adj, pointers), new_hidden, cell

    def _decayed(self, hidden: Tensor) -> Tensor:
        """The last node states after their decay, which is what the processor is given of them, [B, N, H]."""
        if self.latent_decay == 1:
            return hidden
        centre = hidden.mean(dim=-1, keepdim=True) if self.latent_decay_to == "mean" else 0
        return centre + self.latent_decay * (hidden - centre)


class LSTM(nn.Module):
    """One step of an LSTM whose forget gate starts open.

    Source: ``hk.LSTM`` of dm-haiku 0.0.17 (Jozefowicz et al., "An Empirical Exploration of Recurrent Network
    Architectures", ICML 2015).
    """

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.gates = Linear(2 * hidden_dim, 4 * hidden_dim)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """The new hidden state and cell; everything is [B, N, H]."""
        enter, candidate, keep, leave = self.gates(torch.cat([x, hidden], dim=-1)).chunk(4, dim=-1)
        cell = (keep + 1).sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        return leave.sigmoid() * cell.tanh(), cell


def _dense(spec: Spec, data: Mapping[str, Tensor], graphs: Tensor, num_nodes: int) -> dict[str, Tensor]:
    """The data of the probes of `spec` for the graphs at these places of the batch, in the shape of their logits."""
    return {name: dense(probe, data[name][graphs], num_nodes) for name, probe in spec.items()}


def _summed(parts: Sequence[Mapping[str, Tensor]], number: int) -> dict[str, Tensor]:
    """The sum of each entry of several mappings, divided by `number`."""
    return {name: torch.stack([part[name] for part in parts]).sum() / number for name in (parts[0] if parts else ())}


def _where(graphs: Tensor, one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values of probes by name: for each graph those of `one` where `graphs` is True, else those of `other`."""
    return {name: torch.where(graphs.view(-1, *[1] * (x.dim() - 1)), x, other[name]) for name, x in one.items()}
