"""What CLRS-Text is trained and tested on: sizes, texts with their graphs, and the stream of them."""

import ast
import inspect
import re
from collections import Counter
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from nar.batch import Features
from nar.datasets import ALGORITHMS, sample
from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.clrs30.samplers import CLRS_30
from nar.datasets.splits.cache import Cache
from nar.datasets.splits.splits import Split, SplitBatches
from nar.datasets.text.format import parse, render
from nar.datasets.text.stream import (
    NUM_TRAIN_SAMPLES,
    NUM_VALIDATION_SAMPLES,
    TRAIN_SEEDS,
    TRAIN_SIZES,
    VALIDATION_SEEDS,
    VALIDATION_SIZES,
    TextSample,
    TextStream,
    grouped,
    text_samples,
)
from nar.errors import UserError
from nar.model.unroll import EncodeProcessDecode
from nar.processors import PGN

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
FEW = {"bfs": (4, 6), "insertion_sort": (5,), "kmp_matcher": (4, 7)}


def published() -> dict[str, Any]:
    """The constants of dm-clrs's script for CLRS-Text, which defines command line flags when it is imported."""
    (folder,) = find_spec("clrs").submodule_search_locations  # type: ignore[union-attr, misc]
    source = Path(folder, "_src", "clrs_text", "generate_clrs_text.py").read_text()
    constants = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    scope: dict[str, Any] = {}
    for node in constants:
        if ast.unparse(node.targets[0]).startswith("_DEFAULT"):
            exec(ast.unparse(node), scope)
    return scope


def test_sizes_numbers_and_seeds_are_the_published_ones() -> None:
    theirs = published()
    for ours, name in ((TRAIN_SIZES, "TRAIN_ALGOS_AND_LENGTHS"), (VALIDATION_SIZES, "VAL_ALGOS_AND_LENGTHS")):
        assert {algorithm: list(sizes) for algorithm, sizes in ours.items()} == theirs[f"_DEFAULT_{name}"]
    assert list(TRAIN_SEEDS) == theirs["_DEFAULT_TRAIN_SEEDS"]
    assert list(VALIDATION_SEEDS) == theirs["_DEFAULT_VAL_SEEDS"]
    assert theirs["_DEFAULT_TRAIN_NUMBER_OF_SAMPLES"] == NUM_TRAIN_SAMPLES
    assert theirs["_DEFAULT_VAL_NUMBER_OF_SAMPLES"] == NUM_VALIDATION_SAMPLES


@pytest.mark.parametrize("sizes", [TRAIN_SIZES, VALIDATION_SIZES])
def test_tables_have_every_algorithm_and_cannot_be_changed(sizes: Any) -> None:
    assert set(sizes) == set(ALGORITHMS)
    with pytest.raises(TypeError):
        sizes["bfs"] = (4,)


def assert_equal(one: Features[Any], other: Features[Any]) -> None:
    """Fail if a probe or a length differs."""
    for ours, theirs in ((one.inputs, other.inputs), (one.hints, other.hints)):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name, strict=True)
    np.testing.assert_array_equal(one.lengths, other.lengths, strict=True)


@every_algorithm
def test_a_text_and_its_graph_are_of_one_instance(algorithm: str) -> None:
    for drawn in text_samples(algorithm, num_nodes=5, num_samples=3, seed=1):
        text = parse(drawn.prompt + drawn.answer)
        for name, value in text.inputs.items():
            np.testing.assert_array_equal(drawn.features.inputs[name][0], value)


@pytest.mark.parametrize("hints", [False, True])
def test_texts_are_those_of_the_trajectories_with_this_seed(hints: bool) -> None:
    drawn = text_samples("dijkstra", num_nodes=6, num_samples=3, seed=4, hints=hints, p=(0.9,))
    feedback = sample("dijkstra", num_nodes=6, num_samples=3, seed=4, truncate_decimals=3, p=(0.9,))
    assert [(one.prompt, one.answer) for one in drawn] == render("dijkstra", feedback, hints=hints)


@pytest.mark.parametrize("algorithm", ["bridges", "heapsort", "kmp_matcher", "matrix_chain_order"])
def test_graphs_are_those_of_a_reasoners_test_split(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nar.datasets.splits.splits.NUM_SAMPLES", 4)
    monkeypatch.setattr(CLRS_30[algorithm], "samples_multiplier", 1)
    split = Split(algorithm, 6, is_test=True)
    batch = SplitBatches([(split, split.load(Cache(tmp_path)))], batch_size=4)[0]
    drawn = text_samples(algorithm, num_nodes=6, num_samples=4, seed=3, truncate_decimals=None)
    (graphs,) = grouped(drawn)
    assert_equal(graphs.features, batch.feedback.features)


def test_a_trace_in_the_text_changes_nothing_in_the_graph() -> None:
    with_trace, without = (
        grouped(text_samples("bfs", num_nodes=6, num_samples=3, seed=4, hints=hints))[0].features
        for hints in (True, False)
    )
    assert_equal(with_trace, without)


def test_graphs_of_one_algorithm_and_size_are_put_together_and_keep_their_rows() -> None:
    bfs, larger = (text_samples("bfs", num_nodes=n, num_samples=2, seed=0) for n in (4, 6))
    (sort,) = text_samples("heapsort", num_nodes=4, num_samples=1, seed=0)
    batch = [bfs[0], larger[0], sort, bfs[1], larger[1]]
    groups = grouped(batch)
    assert [(g.algorithm, g.features.inputs["pos"].shape[1], g.rows) for g in groups] == [
        ("bfs", 4, (0, 3)),
        ("bfs", 6, (1, 4)),
        ("heapsort", 4, (2,)),
    ]
    for group in groups:
        for place, row in enumerate(group.rows):
            for name, data in batch[row].features.inputs.items():
                torch.testing.assert_close(group.features.inputs[name][place].double(), torch.tensor(data[0]).double())


@pytest.mark.slow
@every_algorithm
def test_a_reasoner_takes_the_graphs(algorithm: str) -> None:
    (graphs,) = grouped(text_samples(algorithm, num_nodes=5, num_samples=2, seed=0))
    model = EncodeProcessDecode({algorithm: recipe_spec(algorithm)}, PGN(hidden_dim=4)).eval()
    short = graphs.features._replace(lengths=graphs.features.lengths.clamp(max=3))
    outputs = model(algorithm, short, with_hints=False).outputs
    assert all(len(logits) == 2 for logits in outputs.values())


def test_a_sample_depends_on_seed_index_and_rank_alone() -> None:
    stream = TextStream(FEW, 3, seed=1)
    same = TextStream(FEW, 1, seed=1)
    assert [stream.draw(i).prompt for i in range(6)] == [same[i][0].prompt for i in range(6)]
    others = [stream, TextStream(FEW, 3, seed=2), TextStream(FEW, 3, seed=1, rank=1)]
    prompts = [one.draw(index).prompt for one in others for index in range(12)]
    assert len(set(prompts)) == len(prompts)


def test_algorithms_take_turns_and_each_goes_through_its_sizes() -> None:
    drawn = [one for batch in islice(TextStream(FEW, 4, seed=0), 3) for one in batch]
    assert [one.algorithm for one in drawn] == list(FEW) * 4
    assert Counter((one.algorithm, one.num_nodes) for one in drawn) == {
        ("bfs", 4): 2,
        ("bfs", 6): 2,
        ("insertion_sort", 5): 4,
        ("kmp_matcher", 4): 2,
        ("kmp_matcher", 7): 2,
    }


@pytest.mark.parametrize("hints", [False, True])
def test_traces_are_there_if_asked_for(hints: bool) -> None:
    for one in TextStream(FEW, 6, seed=0, hints=hints)[0]:
        assert bool(parse(one.prompt + one.answer).trace) == hints


def test_a_stream_goes_on_where_it_is_started() -> None:
    from_two = islice(TextStream(FEW, 2, seed=0, start=2), 2)
    stream = TextStream(FEW, 2, seed=0)
    for batch, index in zip(from_two, (2, 3), strict=True):
        assert [one.prompt for one in batch] == [one.prompt for one in stream[index]]


@pytest.mark.slow
def test_workers_draw_the_same_batches_in_the_same_order() -> None:
    stream = TextStream(FEW, 4, seed=0)
    batches = list(islice(iter(DataLoader(stream, batch_size=None, num_workers=2, collate_fn=list)), 5))
    for index, batch in enumerate(batches):
        for one, expected in zip(batch, stream[index], strict=True):
            assert one[:4] == expected[:4]
            assert_equal(one.features, expected.features)


def test_groups_made_by_workers_arrive_whole() -> None:
    stream = TextStream(FEW, 6, seed=0)
    (graphs, *_) = islice(iter(DataLoader(stream, batch_size=None, num_workers=1, collate_fn=grouped)), 1)
    for ours, expected in zip(graphs, grouped(stream[0]), strict=True):
        assert ours[:2] == expected[:2]
        assert_equal(ours.features, expected.features)


@pytest.mark.parametrize(
    ("sizes", "batch_size", "message"),
    [
        ({}, 1, "expected one or more algorithms, each with one or more sizes, given {}"),
        ({"bfs": ()}, 1, "expected one or more algorithms, each with one or more sizes, given {'bfs': ()}"),
        ({"bogosort": (4,)}, 1, "unknown algorithm bogosort; known are"),
        ({"bfs": (4, 1)}, 1, "bfs needs at least 2 nodes, given 1"),
        ({"bfs": (4,)}, 0, "expected batch_size to be a whole number of at least 1, given 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(sizes: Any, batch_size: int, message: str) -> None:
    with pytest.raises(UserError) as error:
        TextStream(sizes, batch_size, seed=0)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_by_default_all_algorithms_are_drawn_at_the_published_sizes() -> None:
    assert inspect.signature(TextStream).parameters["sizes"].default is TRAIN_SIZES
    one = TextStream(seed=0).draw(ALGORITHMS.index("bfs"))
    assert isinstance(one, TextSample)
    assert (one.algorithm, one.num_nodes) == (list(TRAIN_SIZES)[ALGORITHMS.index("bfs")], 4)


def test_a_stream_cuts_numbers_off_to_the_decimals_that_it_is_given() -> None:
    stream = TextStream({"activity_selector": (5,)}, 4, seed=0, decimals=2)
    for text in stream[0]:
        assert re.search(r"0\.\d\d", text.prompt)
        assert not re.search(r"\.\d{3}", text.prompt)
        np.testing.assert_array_equal(text.features.inputs["s"], text.features.inputs["s"].round(2))
