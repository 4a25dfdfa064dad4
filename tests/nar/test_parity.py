"""Our model and dm-clrs's on the same batch with the same weights: the same function."""

import importlib
import inspect
import re
import warnings
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import parity
import pytest
from cases import CASES, FAMILIES, INITIALISED, Case, read_golden, read_moments
from parity import TOLERANCES, assert_equal, assert_initialised_alike, our_moments, our_results
from torch import Tensor, nn

import nar.model.decoders
import nar.model.unroll
from nar.model.unroll import EncodeProcessDecode, Predictions
from nar.ops.channels import as_tensor
from nar.ops.linear import Linear
from nar.processors.pgn import PGN, Gate
from nar.processors.triplets import Triplets

LIVE = [Case("bfs", "triplet_gmpnn"), Case("quicksort", "pgn"), Case("bridges", "triplet_gpgn_mask")]

every_case = pytest.mark.parametrize("case", CASES, ids=map(str, CASES))


@pytest.mark.slow
def test_every_processor_that_dm_clrs_makes_is_compared_on_each_family(clrs: Any) -> None:
    source = inspect.getsource(clrs.get_processor_factory)
    theirs = re.findall(r"kind == '(\w+)'", source)
    assert len(theirs) == source.count("kind ==") > 0
    assert {(case.algorithm, case.kind) for case in CASES} >= set(product(FAMILIES, theirs))


def test_trajectories_of_every_case_differ_in_length() -> None:
    assert [str(case) for case in CASES if len(set(read_golden(case)["lengths"].tolist())) == 1] == []


@every_case
@pytest.mark.parametrize("precision", TOLERANCES)
def test_equals_what_dm_clrs_made_of_the_batch(case: Case, precision: str) -> None:
    record = read_golden(case)
    assert_equal(record, our_results(case, record, precision), precision)


@pytest.mark.slow
@pytest.mark.parametrize("case", LIVE, ids=map(str, LIVE))
def test_equals_what_dm_clrs_makes_of_a_new_batch(clrs: Any, case: Case) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record = importlib.import_module("oracle").record(case, seed=21)
    for precision in TOLERANCES:
        assert_equal(record, our_results(case, record, precision), precision)


@pytest.mark.slow
@pytest.mark.parametrize("case", INITIALISED, ids=map(str, INITIALISED))
def test_weights_start_with_the_moments_that_those_of_dm_clrs_have(case: Case) -> None:
    assert_initialised_alike(read_moments(case), our_moments(case, num_draws=400))


# Faults of which each has to make the comparison fail.

Plant = Callable[[pytest.MonkeyPatch], None]


def edges_read_backwards(patch: pytest.MonkeyPatch) -> None:
    """Sender and receiver swapped."""
    right = PGN.received

    def wrong(self: PGN, z: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor) -> Tensor:
        return right(self, z, as_tensor(edge_fts).transpose(1, 2), graph_fts, adj.mT)

    patch.setattr(PGN, "received", wrong)


def sent_messages_read_as_received(patch: pytest.MonkeyPatch) -> None:
    """Sender and receiver swapped, in the terms of the nodes."""
    right = PGN.received

    def wrong(self: PGN, *args: Tensor) -> Tensor:
        sender, receiver = self.message_sender, self.message_receiver
        self.message_sender, self.message_receiver = receiver, sender
        received = right(self, *args)
        self.message_sender, self.message_receiver = sender, receiver
        return received

    patch.setattr(PGN, "received", wrong)


def triplet_axis_swapped(patch: pytest.MonkeyPatch) -> None:
    right = Triplets.forward
    patch.setattr(Triplets, "forward", lambda self, *args: as_tensor(right(self, *args)).transpose(1, 2))


def first_triplet_weight_used_for_the_third(patch: pytest.MonkeyPatch) -> None:
    right = Triplets.forward

    def wrong(self: Triplets, *args: Tensor) -> Tensor:
        third, self.node_3 = self.node_3, self.node_1
        edges = right(self, *args)
        self.node_3 = third
        return edges

    patch.setattr(Triplets, "forward", wrong)


def decoder_fed_the_states_in_the_wrong_order(patch: pytest.MonkeyPatch) -> None:
    right = EncodeProcessDecode._step

    def wrong(self: EncodeProcessDecode, *args: Any) -> Any:
        states, hidden, cell = right(self, *args)
        node_fts, old, new = as_tensor(states.node).chunk(3, dim=-1)
        return states._replace(node=nar.model.unroll.torch.cat([node_fts, new, old], dim=-1)), hidden, cell

    patch.setattr(EncodeProcessDecode, "_step", wrong)


def hints_compared_one_step_early(patch: pytest.MonkeyPatch) -> None:
    right = parity.losses

    def wrong(spec: Any, predictions: Predictions, feedback: Any) -> Any:
        return right(spec, predictions._replace(time=predictions.time - 1), feedback)

    patch.setattr(parity, "losses", wrong)


def sinkhorn_without_its_zero_diagonal(patch: pytest.MonkeyPatch) -> None:
    right = nar.model.decoders.log_sinkhorn

    def wrong(logits: Tensor, num_steps: int) -> Tensor:
        back = (
            1e6
            * nar.model.decoders.SINKHORN_TEMPERATURE
            * nar.model.unroll.torch.eye(logits.shape[-1], dtype=logits.dtype)
        )
        return right(logits + back, num_steps)

    patch.setattr(nar.model.decoders, "log_sinkhorn", wrong)


def outputs_read_at_the_last_step_of_the_batch(patch: pytest.MonkeyPatch) -> None:
    right = EncodeProcessDecode.forward

    def wrong(self: EncodeProcessDecode, algorithm: str, features: Any, **kwargs: Any) -> Predictions:
        longest = features.lengths.max().expand_as(features.lengths)
        outputs = right(self, algorithm, features._replace(lengths=longest), **kwargs).outputs
        return right(self, algorithm, features, **kwargs)._replace(outputs=outputs)

    patch.setattr(EncodeProcessDecode, "forward", wrong)


def soft_hints_detached(patch: pytest.MonkeyPatch) -> None:
    right = nar.model.unroll.soft_value
    patch.setattr(nar.model.unroll, "soft_value", lambda probe, logits: right(probe, logits).detach())


FAULTS: list[Plant] = [
    edges_read_backwards,
    sent_messages_read_as_received,
    triplet_axis_swapped,
    first_triplet_weight_used_for_the_third,
    decoder_fed_the_states_in_the_wrong_order,
    hints_compared_one_step_early,
    sinkhorn_without_its_zero_diagonal,
    outputs_read_at_the_last_step_of_the_batch,
    soft_hints_detached,
]


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch, plant: Plant, precision: str) -> None:
    case = Case("insertion_sort", "triplet_gmpnn")
    record = read_golden(case)
    plant(monkeypatch)
    with pytest.raises(AssertionError, match="train"):
        assert_equal(record, our_results(case, record, precision), precision)


def test_a_gate_that_does_not_start_at_minus_three_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Gate.__init__

    def wrong(self: Gate, *widths: int) -> None:
        right(self, *widths)
        nn.init.zeros_(self.output.bias)

    monkeypatch.setattr(Gate, "__init__", wrong)
    case = Case("dijkstra", "triplet_gmpnn", {"use_lstm": True})
    with pytest.raises(AssertionError, match=r"net/mpnn_aggr_clrs_processor/linear_16\|b"):
        assert_initialised_alike(read_moments(case), our_moments(case, num_draws=20))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.88, 1 / 0.88], ids=["rescaled for the cut", "not cut"])
def test_weights_of_another_spread_are_found(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    right = Linear.reset_parameters

    def wrong(self: Linear) -> None:
        right(self)
        self.weight.data *= scale

    monkeypatch.setattr(Linear, "reset_parameters", wrong)
    with pytest.raises(AssertionError, match="w"):
        assert_initialised_alike(read_moments(INITIALISED[0]), our_moments(INITIALISED[0], num_draws=400))


@pytest.mark.parametrize("algorithm", ["bfs", "insertion_sort"])
@pytest.mark.parametrize(
    "key",
    ["train|loss", "train|gradient", "train|hints", "test|hints", "test|outputs", "predicted", "score", "hint_score"],
)
def test_the_comparison_finds_a_single_entry_that_differs(key: str, algorithm: str) -> None:
    record = read_golden(Case(algorithm, "triplet_gmpnn"))
    ours = {name: array.astype(np.float64) for name, array in record.items() if parity.is_result(name)}
    assert_equal(record, ours, "float64")

    def sizes(name: str) -> Any:
        return np.abs(np.where(ours[name] > parity.IMPOSSIBLE, ours[name], 0))

    name = max((name for name in ours if name.startswith(key)), key=lambda name: sizes(name).max())
    ours[name].flat[sizes(name).argmax()] *= 1.001
    with pytest.raises(AssertionError, match=re.escape(name)):
        assert_equal(record, ours, "float64")
