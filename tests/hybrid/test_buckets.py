"""Batches of texts in buckets of similar lengths."""

# Axes: B texts, L tokens.
from itertools import combinations, pairwise
from pathlib import Path

import pytest
import torch
from hybrids import opened, reasoner

from nar.batch import NOT_SCORED, TextBatch
from nar.datasets.text.batches import text_batch
from nar.datasets.text.stream import TextStream
from nar.datasets.text.tokenizer import text_tokenizer
from nar.hybrid.buckets import _cuts, buckets_of
from nar.hybrid.module import LanguageReasoner
from nar.training.checkpoint import write_checkpoint

SIZES = {"bfs": (4, 8), "insertion_sort": (4, 5)}
SMALL = {"model_type": "llama", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def batch() -> TextBatch:
    """Texts of which those of bfs are far longer."""
    return text_batch(text_tokenizer(), TextStream(SIZES, 16, seed=0, group_size=4)[0])


def test_every_text_is_in_one_bucket_with_its_tokens_its_labels_and_its_graph(batch: TextBatch) -> None:
    buckets = buckets_of(batch, cost=1)
    found = {}
    for bucket in buckets:
        assert bucket.input_ids.shape == (len(bucket.keys), max(bucket.num_tokens))
        graph_of = {row: (group, place) for group in bucket.graphs for place, row in enumerate(group.rows)}
        assert sorted(graph_of) == list(range(len(bucket.keys)))
        for row, number in enumerate(bucket.num_tokens):
            assert bucket.attention_mask[row].sum() == number
            group, place = graph_of[row]
            inputs = {name: data[place] for name, data in group.features.inputs.items()}
            found[tuple(bucket.input_ids[row, :number].tolist())] = (bucket.labels[row, :number], group, inputs)
    assert 1 < len(buckets) < len(batch.graphs) + 1
    assert len(found) == len(batch.keys) == 16
    for group in batch.graphs:
        for place, row in enumerate(group.rows):
            number = batch.num_tokens[row]
            labels, of_bucket, inputs = found[tuple(batch.input_ids[row, :number].tolist())]
            assert torch.equal(labels, batch.labels[row, :number])
            assert of_bucket.algorithm == group.algorithm
            for name, data in group.features.inputs.items():
                assert torch.equal(inputs[name], data[place])


def test_there_is_less_padding_than_in_one_piece_and_more_buckets_if_they_cost_less(batch: TextBatch) -> None:
    numbers, tokens = [], []
    for cost in (1, 100, 10_000):
        buckets = buckets_of(batch, cost)
        numbers.append(len(buckets))
        tokens.append(sum(bucket.input_ids.numel() for bucket in buckets))
    assert numbers == sorted(numbers, reverse=True)
    assert tokens == sorted(tokens)
    assert numbers[-1] == 1
    assert tokens[-1] == batch.input_ids.numel()
    assert tokens[0] < 0.8 * tokens[-1]


def test_cuts_are_the_best_of_all() -> None:
    lengths, sizes = [3, 4, 9, 10, 30], [2, 1, 5, 1, 2]

    def total(cuts: tuple[int, ...], cost: int) -> int:
        return sum(lengths[stop - 1] * sum(sizes[start:stop]) + cost for start, stop in pairwise(cuts))

    ways = [(0, *inner, 5) for number in range(5) for inner in combinations(range(1, 5), number)]
    for cost in (0, 2, 7, 20, 100, 1000):
        assert total(tuple(_cuts(lengths, sizes, cost)), cost) == min(total(way, cost) for way in ways)


def test_texts_without_graphs_or_numbers_of_tokens_are_one_bucket(batch: TextBatch) -> None:
    for given in (batch._replace(graphs=[]), batch._replace(num_tokens=())):
        assert buckets_of(given, cost=1) == [given]


@pytest.mark.parametrize("loss_on", ["answer", "all"])
def test_the_loss_is_that_of_the_batch_in_one_piece(
    loss_on: str, batch: TextBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{tmp_path}/reasoner.ckpt"
    with open(path, "wb") as file:
        write_checkpoint(file, reasoner())
    settings = {"language_model": SMALL, "reasoner": path, "loss_on": loss_on}
    module = LanguageReasoner(text_tokenizer(), list(SIZES), **settings)  # type: ignore[arg-type]
    opened(module.model)
    seen: list[torch.Size] = []
    module.model.language_model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    _, loss = module.losses(batch)
    assert len(seen) > 1
    loss.backward()
    gradients = {name: x.grad.clone() for name, x in module.named_parameters() if x.grad is not None}
    module.zero_grad()
    monkeypatch.setattr("nar.hybrid.module.buckets_of", lambda batch, cost: [batch])
    _, in_one_piece = module.losses(batch)
    in_one_piece.backward()
    torch.testing.assert_close(loss, in_one_piece)
    for name, x in module.named_parameters():
        if x.grad is not None:
            torch.testing.assert_close(gradients[name], x.grad, atol=1e-6, rtol=1e-4)
    labels = batch.labels if loss_on == "answer" else batch.input_ids.masked_fill(batch.attention_mask == 0, NOT_SCORED)
    with torch.no_grad():
        logits = module(batch)[:, :-1].flatten(0, 1)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten()))
