"""Batches of texts for programs of Hugging Face."""

# Axes: B texts, L tokens.
from typing import Any

import pytest
import torch
from hybrids import language_model, opened, reasoner
from torch import Tensor
from torch.utils.data import DataLoader

from nar.datasets.text import clrs_text_dataset, samples_of
from nar.datasets.text.batches import TextCollator, text_batch
from nar.datasets.text.tokenizer import text_tokenizer
from nar.errors import UserError
from nar.hybrid import TransNARModel
from nar.packed import unpack_graphs

TOKENIZER = text_tokenizer()
ROWS = clrs_text_dataset({"bfs": [4, 5], "dijkstra": [5], "insertion_sort": [4]}, 8)


def model() -> TransNARModel:
    """A small hybrid that knows the texts' tokens."""
    made = TransNARModel.from_parts(language_model(vocab_size=len(TOKENIZER), max_position_embeddings=400), reasoner())
    return opened(made).eval()


def assert_same(given: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert given.keys() == expected.keys()
    for name, data in given.items():
        assert torch.equal(data, expected[name]), name


def test_a_batch_is_that_of_the_data_module_with_graphs_as_one_tensor() -> None:
    batch, expected = TextCollator(TOKENIZER)(ROWS), text_batch(TOKENIZER, samples_of(ROWS))
    assert batch.keys() == {"input_ids", "attention_mask", "labels", "graphs"}
    for name in ("input_ids", "attention_mask", "labels"):
        assert torch.equal(batch[name], getattr(expected, name))
    graphs = unpack_graphs(batch["graphs"])
    assert [(group.algorithm, group.rows) for group in graphs] == [(x.algorithm, x.rows) for x in expected.graphs]
    with torch.no_grad():
        logits = [model()(batch["input_ids"], x, batch["attention_mask"]).logits for x in (graphs, expected.graphs)]
    assert torch.equal(*logits)


def test_texts_with_graphs_make_the_same_batch_as_rows() -> None:
    collator = TextCollator(TOKENIZER)
    assert_same(collator(samples_of(ROWS)), collator(ROWS))


def test_a_language_model_alone_is_given_no_graphs() -> None:
    batch = TextCollator(TOKENIZER, with_graphs=False)(ROWS)
    assert "graphs" not in batch
    assert language_model(vocab_size=len(TOKENIZER), max_position_embeddings=400)(**batch).loss > 0


def test_rows_without_questions_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"Trainer with remove_unused_columns=False\), given text$"):
        TextCollator(TOKENIZER)([{"text": "bfs"}])


def test_accelerate_passes_a_batch_through() -> None:
    utils: Any = pytest.importorskip("accelerate.utils")
    batch = TextCollator(TOKENIZER)(ROWS)
    assert_same(utils.send_to_device(batch, "cpu"), batch)
    halves = [utils.slice_tensors(batch, slice(start, start + 4)) for start in (0, 4)]
    assert_same(utils.concatenate(halves), batch)
    assert utils.find_batch_size(batch) == 8
    assert utils.convert_to_fp32(batch)["graphs"].dtype == torch.uint8


def test_a_prepared_loader_gives_batches_of_which_a_hybrid_learns() -> None:
    accelerate: Any = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    hybrid, loader = accelerator.prepare(model().train(), DataLoader(ROWS, 4, collate_fn=TextCollator(TOKENIZER)))
    for batch in loader:
        accelerator.backward(hybrid(**batch).loss)
    gates = [attention.alpha.grad for attention in accelerator.unwrap_model(hybrid).cross_attention]
    assert all(gate is not None and gate != 0 for gate in gates)
