"""Training streams, and splits for validation and test."""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from nar.batch import Batch, Feedback, NumpyArray
from nar.datasets import CLRS30, sample
from nar.datasets.clrs30.dm_clrs import sample_from_dm_clrs
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec, train_sampler_args
from nar.datasets.engine.trace import DTYPES
from nar.datasets.splits import splits
from nar.datasets.splits.cache import Cache
from nar.datasets.splits.generation import generate_splits
from nar.datasets.splits.splits import Split, SplitBatches, TrainStream, draw
from nar.datasets.splits.upkeep import data_files
from nar.errors import UserError
from nar.specs import Type

# One with plain outputs, with a permutation, with a mask over two strings, with many samples.
ALGORITHMS = ["bfs", "insertion_sort", "lcs_length", "find_maximum_subarray_kadane"]
STRING_MATCHERS = ("naive_string_matcher", "kmp_matcher")
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """An own cache, so that every split is drawn once for all tests."""
    return Cache(tmp_path_factory.mktemp("cache"))


def drawn_as_dm_clrs_does(clrs: Any, algorithm: str, split: str, times: int, **args: Any) -> Feedback[NumpyArray]:
    """A split with dm-clrs's own seed and number of samples, in the recipe's form."""
    settings, multiplier = clrs.CLRS30[split], clrs.CLRS_30_ALGS_SETTINGS[algorithm]["num_samples_multiplier"]
    num_samples = settings["num_samples"] * multiplier * times
    raw = sample_from_dm_clrs(algorithm, num_nodes=6, num_samples=num_samples, seed=settings["seed"], **args)
    return apply_recipe(algorithm, raw)


def same(ours: Mapping[str, NumpyArray], theirs: Mapping[str, NumpyArray]) -> bool:
    """Whether names, their order, types and all values are equal."""
    return list(ours) == list(theirs) and all(
        ours[name].dtype == theirs[name].dtype and np.array_equal(ours[name], theirs[name]) for name in ours
    )


@every_algorithm
def test_a_test_split_is_the_official_one(clrs: Any, cache: Cache, algorithm: str) -> None:
    ours = Split(algorithm, 6, is_test=True).load(cache)
    theirs = drawn_as_dm_clrs_does(clrs, algorithm, "test", 1)
    assert same(ours.features.inputs, theirs.features.inputs)
    assert same(ours.outputs, theirs.outputs)
    assert np.array_equal(ours.features.lengths, theirs.features.lengths)


@pytest.mark.parametrize("algorithm", STRING_MATCHERS)
def test_the_official_test_split_of_a_string_matcher_has_80_nodes_wherever_it_is_named(
    algorithm: str, tmp_path: Path
) -> None:
    data = CLRS30(algorithm, num_workers=0, cache_dir=str(tmp_path), eval_batch_size=2048)
    assert data.test_splits == [Split(algorithm, 80, is_test=True)]
    generate_splits(data.test_splits, data.cache, num_processes=0)
    (batch,) = data.test_dataloader()
    drawn = sample(algorithm, num_nodes=80, num_samples=2048, seed=3, hints="first")
    assert (batch.algorithm, batch.num_nodes) == (algorithm, 80)
    assert batch.feedback.outputs["match"].tolist() == drawn.outputs["match"].tolist()
    assert batch.feedback.features.inputs["key"].tolist() == drawn.features.inputs["key"].tolist()
    assert [path.name.rpartition("-")[0] for path in data_files(data.cache)] == [f"{algorithm}-80"]


def test_each_size_of_a_test_of_string_matchers_is_a_split_of_its_own(tmp_path: Path) -> None:
    data = CLRS30(["bfs", "kmp_matcher"], test_sizes=[4, 5, 6, 7, 64], cache_dir=str(tmp_path))
    assert [split.num_nodes for split in data.test_splits] == [4, 5, 6, 7, 64, 5, 6, 7, 8, 80]


@every_algorithm
def test_a_test_split_keeps_the_first_hint_alone(clrs: Any, cache: Cache, algorithm: str) -> None:
    ours = Split(algorithm, 6, is_test=True).load(cache).features.hints
    theirs = drawn_as_dm_clrs_does(clrs, algorithm, "test", 1).features.hints
    assert same(ours, {name: hint[:1] for name, hint in theirs.items()})


@pytest.mark.slow
@every_algorithm
def test_a_validation_split_is_drawn_with_seed_2_twice_the_samples_and_the_arguments_of_training(
    clrs: Any, cache: Cache, algorithm: str
) -> None:
    ours = Split(algorithm, 6, is_test=False).load(cache)
    theirs = drawn_as_dm_clrs_does(clrs, algorithm, "val", 2, **train_sampler_args(algorithm, 6))
    but_positions = [{**of.features.inputs, "pos": np.zeros(0)} for of in (ours, theirs)]
    assert same(*but_positions)
    assert same(ours.features.hints, theirs.features.hints)
    assert same(ours.outputs, theirs.outputs)


@every_algorithm
def test_positions_of_a_validation_split_are_random_and_rise_along_each_sequence(
    clrs: Any, cache: Cache, algorithm: str
) -> None:
    pos = Split(algorithm, 6, is_test=False).load(cache).features.inputs["pos"]
    assert ((pos >= 0) & (pos < 1)).all()
    assert len(np.unique(pos)) == pos.size
    for sequence in np.split(pos, 2, axis=1) if algorithm == "lcs_length" else [pos]:
        assert (np.diff(sequence, axis=1) > 0).all()


@every_algorithm
def test_positions_of_a_validation_split_may_be_regular_as_those_of_tests(cache: Cache, algorithm: str) -> None:
    random, regular = (Split(algorithm, 6, is_test=False, random_pos=each).load(cache) for each in (True, False))
    for sequence in np.split(regular.features.inputs["pos"], 2 if algorithm == "lcs_length" else 1, axis=1):
        assert (sequence == np.arange(sequence.shape[1]) / sequence.shape[1]).all()
    but_positions = ({**split.features.inputs, "pos": random.features.inputs["pos"]} for split in (regular, random))
    assert same(*but_positions)
    assert same(regular.features.hints, random.features.hints)
    assert same(regular.outputs, random.outputs)


def test_random_and_regular_positions_are_different_files_but_in_tests() -> None:
    (random, regular), tests = (
        [Split("bfs", 6, is_test, random_pos=x)._key() for x in (True, False)] for is_test in (False, True)
    )
    assert random != regular
    assert tests[0] == tests[1]


@pytest.mark.parametrize(
    ("split", "name"),
    [
        (Split("bfs", 16, is_test=False), "bfs-16-c601ec72b546ab40"),
        (Split("bfs", 64, is_test=True), "bfs-64-5de37ecce2205842"),
    ],
)
def test_splits_as_in_the_recipe_are_in_the_files_that_they_were_in_before_there_was_a_choice(
    split: Split, name: str
) -> None:
    assert Cache("folder").path(split._key()).name == f"{name}.safetensors"


def test_a_validation_split_is_the_same_whenever_it_is_drawn(cache: Cache, tmp_path: Path) -> None:
    once, again = (Split("bfs", 6, is_test=False).load(where) for where in (cache, Cache(tmp_path)))
    assert same(once.features.inputs, again.features.inputs)


def test_a_split_is_in_the_cache_once_it_was_loaded(tmp_path: Path) -> None:
    split, cache = Split("bfs", 6, is_test=True), Cache(tmp_path)
    before = split.is_in(cache)
    split.load(cache)
    assert (before, split.is_in(cache)) == (False, True)


def test_different_splits_are_different_files(tmp_path: Path) -> None:
    different = [Split(name, size, is_test) for name in ("bfs", "dfs") for size in (6, 7) for is_test in (False, True)]
    cache = Cache(tmp_path)
    different[0].load(cache)
    assert [split for split in different if split.is_in(cache)] == different[:1]


@pytest.mark.parametrize(("what", "value"), [("NUM_SAMPLES", 16), ("TEST_SEED", 4), ("VERSION", 2)])
def test_a_split_that_would_be_drawn_otherwise_is_another_file(
    what: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, cache = Split("bfs", 6, is_test=True), Cache(tmp_path)
    split.load(cache)
    monkeypatch.setattr(splits, what, value)
    assert not split.is_in(cache)


@pytest.mark.slow
@every_algorithm
def test_a_split_that_dm_clrs_draws_is_the_same_in_another_file(cache: Cache, algorithm: str, tmp_path: Path) -> None:
    ours, theirs = (Split(algorithm, 6, is_test=False, source=source) for source in ("nar", "dm-clrs"))
    ours.load(other := Cache(tmp_path))
    assert not theirs.is_in(other)
    one, another = ours.load(cache), theirs.load(cache)
    assert same(one.features.inputs, another.features.inputs)
    assert same(one.features.hints, another.features.hints)
    assert same(one.outputs, another.outputs)


def split_batches(cache: Cache, algorithms: Sequence[str], batch_size: int) -> SplitBatches:
    """The batches of validation splits."""
    chosen = [Split(algorithm, 6, is_test=False) for algorithm in algorithms]
    return SplitBatches([(split, split.load(cache)) for split in chosen], batch_size)


def test_graphs_of_a_family_are_drawn_by_this_library_whatever_the_source() -> None:
    args: dict[str, Any] = {"num_nodes": 6, "num_samples": 2, "seed": 0, "graphs": "path"}
    ours, theirs = (draw("bfs", source, **args).features.inputs["adj"] for source in ("nar", "dm-clrs"))
    np.testing.assert_array_equal(theirs, ours)


def test_every_sample_of_every_split_is_in_one_batch(cache: Cache) -> None:
    batches = split_batches(cache, ["bfs", "insertion_sort"], 10)
    for algorithm in ("bfs", "insertion_sort"):
        whole = Split(algorithm, 6, is_test=False).load(cache)
        parts = [batches[i].feedback for i in range(len(batches)) if batches[i].algorithm == algorithm]
        assert torch.cat([part.features.lengths for part in parts]).tolist() == whole.features.lengths.tolist()
        for name, data in whole.features.inputs.items():
            found = torch.cat([part.features.inputs[name] for part in parts])
            assert found.equal(torch.as_tensor(data).to(found.dtype))
        for name, data in whole.outputs.items():
            found = torch.cat([part.outputs[name] for part in parts])
            assert found.equal(torch.as_tensor(data).to(found.dtype))


def test_a_batch_is_of_one_split_and_the_last_of_a_split_has_what_is_left(cache: Cache) -> None:
    batches = split_batches(cache, ["bfs", "insertion_sort"], 40)
    found = [(x.algorithm, x.num_nodes, len(x.feedback.features.lengths)) for x in map(batches.__getitem__, range(4))]
    assert found == [("bfs", 6, 40), ("bfs", 6, 24), ("insertion_sort", 6, 40), ("insertion_sort", 6, 24)]
    assert len(batches) == 4


@pytest.mark.parametrize("num_ranks", [1, 3, 100])
def test_every_sample_of_a_split_falls_to_one_rank(cache: Cache, num_ranks: int) -> None:
    split = Split("bfs", 6, is_test=False)
    whole = split.load(cache)
    shares = [SplitBatches([(split, whole)], 10, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    pos = [share[i].feedback.features.inputs["pos"] for share in shares for i in range(len(share))]
    found = sorted(torch.cat(pos).tolist())
    assert found == sorted(whole.features.inputs["pos"].astype(np.float32).tolist())


def test_a_batch_has_no_padding_that_only_others_need(cache: Cache) -> None:
    whole = Split("bfs", 6, is_test=False).load(cache).features
    batches = split_batches(cache, ["bfs"], 1)
    lengths = [{len(hint) for hint in batches[i].feedback.features.hints.values()} for i in range(len(batches))]
    assert lengths == [{length} for length in whole.lengths]
    assert len(set(whole.lengths)) > 1


def test_a_batch_keeps_the_hints_of_its_samples(cache: Cache) -> None:
    whole = Split("bfs", 6, is_test=False).load(cache).features
    batch = split_batches(cache, ["bfs"], 10)[2].feedback.features
    longest = int(whole.lengths[20:30].max())
    for name, hint in batch.hints.items():
        assert hint.equal(torch.as_tensor(whole.hints[name][:longest, 20:30]).to(hint.dtype))


def test_batches_of_a_test_split_have_its_first_hint(cache: Cache) -> None:
    split = Split("bfs", 6, is_test=True)
    whole = split.load(cache)
    batch = SplitBatches([(split, whole)], 8)[1].feedback.features
    assert {name: hint.tolist() for name, hint in batch.hints.items()} == {
        name: hint[:, 8:16].tolist() for name, hint in whole.features.hints.items()
    }


@every_algorithm
def test_scalars_and_lengths_are_as_torch_has_them_and_all_else_is_as_compact_as_it_is_drawn(
    cache: Cache, algorithm: str
) -> None:
    features, outputs = split_batches(cache, [algorithm], 4)[0].feedback
    dtypes = {name: x.dtype for name, x in {**features.inputs, **features.hints, **outputs}.items()}
    compact = {np.int8: torch.int8, np.int16: torch.int16}
    assert features.lengths.dtype == torch.int64
    assert dtypes == {
        name: torch.float32 if probe.type is Type.SCALAR else compact[DTYPES[probe.type]]
        for name, probe in recipe_spec(algorithm).items()
    }


def stream(
    algorithms: Sequence[str] = ("minimum", "bfs"), sizes: Sequence[int] = (4, 5, 7), batch_size: int = 3, **args: Any
) -> TrainStream:
    """A stream of small batches of two algorithms."""
    return TrainStream(algorithms, sizes, batch_size, **{"seed": 0, **args})


def content(batch: Batch) -> Any:
    """A batch as plain values."""
    (inputs, hints, lengths), outputs = batch.feedback
    probes = [{name: x.tolist() for name, x in stage.items()} for stage in (inputs, hints, outputs)]
    ended = None if batch.ended is None else batch.ended.tolist()
    return batch.algorithm, batch.num_nodes, batch.seed, lengths.tolist(), probes, ended


whole_or_in_chunks = pytest.mark.parametrize("chunk_length", [None, 6])


@whole_or_in_chunks
def test_batch_i_does_not_depend_on_what_was_drawn_before(chunk_length: int | None) -> None:
    used = stream(chunk_length=chunk_length)
    expected = [content(batch) for batch in islice(used, 4)]
    np.random.seed(5)
    again = [content(used[3]), content(stream(chunk_length=chunk_length)[3]), content(used[0])]
    assert again == [expected[3], expected[3], expected[0]]


@whole_or_in_chunks
@pytest.mark.parametrize(
    ("random_pos", "are_random"),
    [(False, (False, False)), ({"bfs": False}, (True, False)), ({"minimum": False, "bfs": True}, (False, True))],
)
def test_positions_are_random_of_the_algorithms_that_are_asked_for(
    random_pos: bool | dict[str, bool], are_random: tuple[bool, bool], chunk_length: int | None
) -> None:
    ours, usual = stream(chunk_length=chunk_length, random_pos=random_pos), stream(chunk_length=chunk_length)
    for index, is_random in enumerate(are_random):
        batch, expected = ours[index], usual[index]
        pos = batch.feedback.features.inputs["pos"]
        assert torch.equal(pos, torch.arange(4).expand_as(pos) / 4) != is_random
        batch.feedback.features.inputs["pos"][:] = expected.feedback.features.inputs["pos"]  # type: ignore[index]
        assert content(batch) == content(expected)


def test_numbers_of_communities_take_turns_each_time_all_sizes_have_had_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, int, int | None]] = []

    def noted(algorithm: Any, *args: Any, **settings: Any) -> Feedback[NumpyArray]:
        drawn.append((algorithm.name, settings["num_nodes"], settings.get("k")))
        return draw(algorithm, *args, **settings)

    monkeypatch.setattr(splits, "draw", noted)
    of_communities = stream(["strongly_connected_components", "dfs"], [4, 5], communities=[1, 4])
    list(islice(of_communities, 10))
    assert [(size, k) for name, size, k in drawn if name != "dfs"] == [(4, 1), (5, 1), (4, 4), (5, 4), (4, 1)]
    assert {k for name, _, k in drawn if name == "dfs"} == {None}


@whole_or_in_chunks
def test_graphs_are_of_as_many_communities_as_are_asked_for(chunk_length: int | None) -> None:
    """Four of single nodes have edges one way alone, and hardly any."""
    batches = [
        stream(["strongly_connected_components"], [4], communities=[k], chunk_length=chunk_length)[0] for k in (1, 4)
    ]
    one, four = (batch.feedback.features.inputs["adj"].float() for batch in batches)
    assert one.triu(1).any()
    assert (one * one.mT).triu(1).any()
    assert not (four * four.mT).triu(1).any()
    usual = stream(["strongly_connected_components"], [4], chunk_length=chunk_length)[0]
    assert content(batches[1]) == content(usual)


def test_data_for_lightning_are_drawn_as_they_are_asked_for_and_tests_are_as_ever(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"cache_dir": str(tmp_path), "num_workers": 0, "train_sizes": [4], "seed": 3}
    names = ["strongly_connected_components", "bfs"]
    usual = CLRS30(names, **settings)
    data = CLRS30(names, **settings, train_communities=[2], random_pos={"bfs": False})
    expected = stream(names, [4], 32, seed=3, communities=[2], random_pos={"bfs": False})
    for index, batch in enumerate(islice(data.train_dataloader(), 2)):
        assert content(batch) == content(expected[index])
    assert data.test_splits == usual.test_splits
    assert [split.random_pos for split in data.val_splits] == [True, False]
    assert data.val_splits[0] == usual.val_splits[0]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"train_communities": [1, 5]}, "expected no more train_communities than nodes, 4, given 5"),
        ({"train_communities": [0]}, "expected train_communities ≥ 1, given 0"),
        ({"random_pos": {"dfss": True}}, "unknown algorithm in random_pos dfss; .*did you mean dfs?"),
        ({"random_pos": {"dfs": 1}}, "expected random_pos to be true or false, given 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(UserError, match=error):
        CLRS30("strongly_connected_components", **settings)


@whole_or_in_chunks
@pytest.mark.parametrize("change", [{"seed": 1}, {"rank": 1}, {"seed": 2**32}])
def test_another_seed_or_rank_is_another_batch(change: dict[str, int], chunk_length: int | None) -> None:
    ours, other = stream(chunk_length=chunk_length)[0], stream(chunk_length=chunk_length, **change)[0]
    for name in ("key", "pos"):
        assert not torch.isin(ours.feedback.features.inputs[name], other.feedback.features.inputs[name]).any()
    assert ours.seed != other.seed


def test_seed_and_rank_are_not_mixed_up() -> None:
    assert content(stream(seed=1, rank=0)[0]) != content(stream(seed=0, rank=1)[0])


def test_a_stream_goes_on_from_where_it_is_told_to() -> None:
    whole = [content(batch) for batch in islice(stream(), 6)]
    assert [content(batch) for batch in islice(stream(start=3), 3)] == whole[3:]


def test_no_trajectory_is_ever_repeated() -> None:
    batches = list(islice(stream(algorithms=["minimum"], sizes=[4]), 50))
    for name in ("key", "pos"):
        values = torch.cat([batch.feedback.features.inputs[name].double() for batch in batches])
        assert len(values.unique(dim=0)) == 150


def test_the_noise_of_no_two_batches_is_the_same() -> None:
    assert len({batch.seed for batch in islice(stream(), 50)}) == 50


def test_algorithms_take_turns_and_sizes_change_when_all_had_theirs() -> None:
    found = [(batch.algorithm, batch.num_nodes) for batch in islice(stream(), 8)]
    assert found == [(name, size) for size in (4, 5, 7, 4) for name in ("minimum", "bfs")]


@whole_or_in_chunks
def test_all_ranks_have_the_same_algorithm_and_size_and_other_samples_in_every_batch(chunk_length: int | None) -> None:
    ranks = [stream(rank=rank, chunk_length=chunk_length) for rank in (0, 1)]
    for one, other in islice(zip(*ranks, strict=True), 12):
        assert (one.algorithm, one.num_nodes) == (other.algorithm, other.num_nodes)
        mine, theirs = one.feedback.features.inputs["pos"], other.feedback.features.inputs["pos"]
        assert not torch.isin(mine, theirs).any()


def test_string_matchers_are_drawn_at_their_own_size() -> None:
    batches = islice(stream(algorithms=["bfs", "kmp_matcher"], sizes=[4, 16]), 4)
    assert [batch.num_nodes for batch in batches] == [4, 20, 16, 20]


def test_positions_rise_and_are_not_those_of_the_sampler() -> None:
    pos = stream(algorithms=["bfs"], sizes=[16])[0].feedback.features.inputs["pos"]
    assert (pos.diff(dim=1) >= 0).all()
    assert not torch.isclose(pos.diff(dim=1), torch.tensor(1 / 16)).all(dim=1).any()


def test_graphs_have_the_densities_of_training() -> None:
    batch = stream(algorithms=["bfs"], sizes=[16], batch_size=60)[0]
    densities = batch.feedback.features.inputs["adj"].double().mean(dim=(1, 2))
    assert densities.min() < 0.1
    assert densities.max() > 0.7


def test_a_batch_of_training_has_the_form_of_the_recipe() -> None:
    features, outputs = stream(algorithms=["insertion_sort"])[0].feedback
    assert {**features.inputs, **features.hints, **outputs}.keys() == recipe_spec("insertion_sort").keys()


def test_whole_trajectories_have_no_mark() -> None:
    assert stream()[0].ended is None


def test_chunks_are_of_the_samples_that_the_whole_batch_has() -> None:
    # Four slices each: three windows of four take all of a batch.
    whole, chunked = (stream(["minimum"], [4], chunk_length=length)[0] for length in (None, 4))
    found, source = chunked.feedback.features.inputs["pos"], whole.feedback.features.inputs["pos"]
    assert found.unique(dim=0).equal(source.unique(dim=0))


def test_samples_are_drawn_until_the_windows_are_full() -> None:
    # Six samples of seven slices, in rounds of two, hold two windows of twenty.
    batch = stream(["bubble_sort"], [4], 2, chunk_length=20)[0]
    features = batch.feedback.features
    assert len(features.inputs["pos"].unique(dim=0)) == 6
    assert 40 - 4 <= features.lengths.sum() <= 40


def test_no_sample_of_a_batch_is_drawn_twice() -> None:
    pos = stream(["minimum"], [4], 2, chunk_length=64)[0].feedback.features.inputs["pos"]
    assert 32 <= len(pos.unique(dim=0)) == len(pos[:, 0].unique())


def test_segments_that_end_have_the_last_hint_of_their_sample() -> None:
    # The last thing a minimum does is to look at the last node.
    found = set()
    for batch in islice(stream(["minimum"], [7], 8, chunk_length=5), 10):
        (_, hints, lengths), _ = batch.feedback
        last = hints["i"][lengths - 1, torch.arange(len(lengths))]
        assert batch.ended is not None
        assert (last == 6).equal(batch.ended)
        found |= set(batch.ended.tolist())
    assert found == {False, True}


@whole_or_in_chunks
def test_a_batch_is_moved_to_a_device_with_all_that_it_has(chunk_length: int | None) -> None:
    batch = stream(chunk_length=chunk_length)[0]
    moved = move_data_to_device(batch, torch.device("meta"))
    assert type(moved) is Batch
    assert moved.feedback.features.lengths.device.type == "meta"
    assert (moved.ended is None) == (chunk_length is None)
    assert moved.ended is None or moved.ended.device.type == "meta"


# In a process of its own: to fork this one, in which jax may have been loaded, would warn.
WORKERS = """
from itertools import islice
from torch import Tensor
from nar.datasets import CLRS30
from nar.datasets.splits import splits

def keys(num_workers, start, chunk_length=None):
    stream = splits.TrainStream(["minimum"], [4, 5], 2, seed=0, start=start, chunk_length=chunk_length)
    batches = list(islice(splits.TrainLoader(stream, num_workers), 5))
    ended = [None if batch.ended is None else batch.ended.tolist() for batch in batches]
    for batch in batches:
        (inputs, hints, lengths), outputs = batch.feedback
        data = [*inputs.values(), *hints.values(), lengths, *outputs.values()]
        assert all(isinstance(x, Tensor) for x in data)
    return [[str(batch)] for batch in batches], ended

splits.LARGEST_SENT_AS_ARRAY = 32  # keys and hints are sent as tensors, lengths as arrays
print(keys(0, 1) == keys(2, 1), keys(0, 1, 6) == keys(2, 1, 6), keys(0, 1) == keys(0, 2))
"""


@pytest.mark.slow
def test_batches_are_the_same_however_many_workers_draw_them(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", WORKERS]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300)
    assert result.stdout.split() == ["True", "True", "False"]


KILLED = """
import os, signal, time
from threading import Thread
import psutil
from nar.datasets.splits.cache import Cache
from nar.datasets.splits.generation import generate_splits
from nar.datasets.splits.splits import Split, TrainLoader, TrainStream

def end(number):
    while len(children := psutil.Process().children()) < number:
        time.sleep(0.01)
    time.sleep(0.2)  # until they are at work
    print(*(child.pid for child in children), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

def draw_batches():
    batches = iter(TrainLoader(TrainStream(["bridges"], [16], 32, seed=0), num_workers=1))
    next(batches)
    end(1)

def generate():
    Split.store = lambda split, cache: time.sleep(600)
    Thread(target=end, args=(2,)).start()
    generate_splits([Split("bfs", size, is_test=True) for size in range(4, 9)], Cache("nowhere"), num_processes=2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("data", ["CLRS30('bfs', num_workers=2)", "CLRSText('bfs', num_workers=1, batch_size=2)"])
@pytest.mark.parametrize("ending", ["pass", "raise SystemExit(3)", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_a_program_ends_while_its_workers_are_at_work(ending: str, data: str, tmp_path: Path) -> None:
    code = f"""
import os, signal
from nar.datasets import CLRS30
from nar.datasets.text.datamodule import CLRSText
signal.signal(signal.SIGTERM, lambda *_: exit(3))
batches = iter({data}.train_dataloader())
next(batches)
{ending}
"""
    status = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=300).returncode
    assert status == (0 if ending == "pass" else 3)


@pytest.mark.slow
@pytest.mark.parametrize("work", ["draw_batches", "generate"])
def test_workers_end_when_their_parent_is_killed(work: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"{KILLED}\n{work}()"]
    killed = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=60)
    workers = [Path("/proc", number) for number in killed.stdout.split()]
    assert workers
    until = time.monotonic() + 20
    while any(is_running(worker) for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.1)


def is_running(process: Path) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return process.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "val_size", "expected"),
    [("bfs", None, 16), ("bfs", 32, 32), ("bfs", 8, 8), ("kmp_matcher", None, 20), ("kmp_matcher", 32, 40)],
)
def test_validation_is_at_the_size_that_is_asked_for_or_at_the_largest_in_training(
    algorithm: str, val_size: int | None, expected: int, tmp_path: Path
) -> None:
    data = CLRS30(algorithm, val_size=val_size, cache_dir=str(tmp_path), num_workers=0)
    data.prepare_data()
    batch = next(iter(data.val_dataloader()))
    assert batch.num_nodes == expected
    assert batch.feedback.features.inputs["pos"].shape[1] == expected
    assert [path.name for path in tmp_path.rglob("*") if "test" in path.name] == []


def test_a_size_of_validation_that_is_too_small_for_an_algorithm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1"):
        CLRS30("quicksort", val_size=1, cache_dir=str(tmp_path))
