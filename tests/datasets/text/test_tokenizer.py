"""The tokenizer of CLRS-Text, and others that may or may not express its texts."""

import importlib.util
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from nar.datasets import ALGORITHMS
from nar.datasets.text import tokenizer
from nar.datasets.text.stream import text_samples
from nar.datasets.text.tokenizer import EXAMPLE, encode, load_tokenizer, text_tokenizer
from nar.errors import UserError


@pytest.fixture(scope="module")
def own() -> PreTrainedTokenizerBase:
    return text_tokenizer()


@pytest.fixture(scope="module")
def of_numbers() -> PreTrainedTokenizerBase:
    return text_tokenizer(whole_numbers=True)


def bytewise(*, lowercase: bool) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes, as those of many language models but for merges."""
    model = models.BPE({byte: index for index, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    made = Tokenizer(model)
    if lowercase:
        made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made)


@pytest.mark.parametrize("whole_numbers", [False, True])
@pytest.mark.parametrize("hints", [False, True])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_text_comes_back_letter_by_letter(
    own: PreTrainedTokenizerBase,
    of_numbers: PreTrainedTokenizerBase,
    algorithm: str,
    hints: bool,
    whole_numbers: bool,
) -> None:
    tokenizer = of_numbers if whole_numbers else own
    for decimals in (2, 3) if whole_numbers else (3,):  # 3 as in published texts
        for one in text_samples(algorithm, num_nodes=6, num_samples=3, seed=0, hints=hints, truncate_decimals=decimals):
            for text in (one.prompt, one.answer):
                tokens = encode(tokenizer, text)
                assert tokenizer.unk_token_id not in tokens
                assert tokenizer.decode(tokens) == text
                assert tokenizer.decode(tokens, skip_special_tokens=True) == text


@pytest.mark.parametrize("whole_numbers", [False, True])
def test_numbers_that_are_not_cut_off_come_back(whole_numbers: bool) -> None:
    tokenizer = text_tokenizer(whole_numbers=whole_numbers)
    for high in (1e-5, 1e20):
        (one,) = text_samples("minimum", num_nodes=8, num_samples=1, seed=0, high=high, truncate_decimals=None)
        assert tokenizer.decode(encode(tokenizer, one.prompt)) == one.prompt


def test_numbers_of_two_decimals_are_a_token_each_and_no_part_of_longer_numbers(
    of_numbers: PreTrainedTokenizerBase,
) -> None:
    text = "mst_prim:\ns: 10, A: [[0.5 -1 0.0], [0.123 -0.0 1.99], [2.0 -12 100], [07 5e-06 0.10]]\npi:\n12\n\n"
    begin = ["mst_prim", ":", "\n", "s", ":", " 10", ",", " ", "A", ":", " ", "[", "[", "0.5", " -1", " 0.0", "], ["]
    longer = [*"0.123", " -0.0", " 1.99", "], [", *"2.0 -12 100", "], [", *"07 5e-06 0.10"]
    end = ["]", "]", "\n", "pi", ":", "\n", "12", "\n", "\n"]
    assert of_numbers.convert_ids_to_tokens(encode(of_numbers, text)) == [*begin, *longer, *end]


@pytest.mark.parametrize("algorithm", ["activity_selector", "graham_scan", "task_scheduling", "mst_prim"])
def test_texts_of_two_decimals_of_one_size_have_equally_many_tokens(
    of_numbers: PreTrainedTokenizerBase, own: PreTrainedTokenizerBase, algorithm: str
) -> None:
    drawn = text_samples(algorithm, num_nodes=9, num_samples=20, seed=0, truncate_decimals=2)
    (number,) = {len(encode(of_numbers, one.prompt + one.answer)) for one in drawn}
    assert all(number < 0.6 * len(encode(own, one.prompt + one.answer)) for one in drawn)


def test_a_name_a_digit_and_a_sign_are_a_token_each(own: PreTrainedTokenizerBase) -> None:
    tokens = own.convert_ids_to_tokens(encode(own, "mst_prim:\ns: 10, A: [[0.5 -1]]\npi:\n"))
    signs = ["s", ":", " ", "1", "0", ",", " ", "A", ":", " ", "[", "[", "0", ".", "5", " ", "-", "1", "]", "]", "\n"]
    assert tokens == ["mst_prim", ":", "\n", *signs, "pi", ":", "\n"]


def test_padding_and_the_end_have_tokens_of_their_own(own: PreTrainedTokenizerBase) -> None:
    assert own.pad_token_id != own.eos_token_id
    assert {own.pad_token_id, own.eos_token_id}.isdisjoint(encode(own, EXAMPLE))


def test_texts_of_different_lengths_are_padded(own: PreTrainedTokenizerBase) -> None:
    batch = own(["s: 1\n", "s: 12\n"], padding=True)
    assert [row.count(0) for row in batch["attention_mask"]] == [1, 0]


def test_a_saved_tokenizer_is_loaded_again(own: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    own.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert encode(loaded, EXAMPLE) == encode(own, EXAMPLE)
    assert (loaded.pad_token_id, loaded.eos_token_id) == (own.pad_token_id, own.eos_token_id)


def test_the_tokenizer_made_for_the_texts_is_the_default() -> None:
    assert encode(load_tokenizer(), EXAMPLE) == encode(text_tokenizer(), EXAMPLE)


def test_another_tokenizer_that_can_express_the_texts_is_taken(tmp_path: Path) -> None:
    bytewise(lowercase=False).save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    (one,) = text_samples("bfs", num_nodes=5, num_samples=1, seed=0)
    assert loaded.decode(encode(loaded, one.prompt)) == one.prompt


def test_one_that_cannot_is_refused_in_one_line(tmp_path: Path) -> None:
    bytewise(lowercase=True).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"the tokenizer .* cannot express the text: it makes 'a.*' of 'A.*'$") as error:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["bogosort:\n", "bfs:\ns: é", "s: 1\t"])
def test_a_text_with_other_letters_is_refused_in_one_line(own: PreTrainedTokenizerBase, text: str) -> None:
    with pytest.raises(UserError, match=r"^the tokenizer \S+ cannot express the text: it makes '<unk>.*' of '.*'$"):
        encode(own, text)


def test_what_is_no_tokenizer_is_refused_in_one_line(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(UserError, match=rf"^expected the name or the folder of a tokenizer, given {nowhere}: .+$"):
        load_tokenizer(str(nowhere))
    with pytest.raises(UserError, match=rf"^expected the name or the folder of a tokenizer, given {tmp_path}: .+$"):
        load_tokenizer(str(tmp_path))


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    spec = importlib.util.spec_from_file_location("without_transformers", tokenizer.__file__)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match=r'needs transformers: pip install "transformers>=5.24,<6"'):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
