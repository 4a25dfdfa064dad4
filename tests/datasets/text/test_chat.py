"""Texts as questions to instruction-tuned models."""

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from nar.batch import NOT_SCORED
from nar.datasets.text import clrs_text_dataset
from nar.datasets.text.batches import TextCollator
from nar.datasets.text.chat import INSTRUCTION, chat_messages, chat_prompt, chat_text
from nar.datasets.text.tokenizer import END, text_tokenizer
from nar.errors import UserError

ROWS = clrs_text_dataset({"bfs": [4], "insertion_sort": [4, 5]}, 3, use_hints=True)
PROMPT, ANSWER = ROWS[0]["question"], ROWS[0]["answer"]
CHAT_ML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(template: str | None = CHAT_ML) -> Any:
    """One of bytes, which can express whatever a template has."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, chat_template=template, eos_token="<|end|>")


def test_a_prompt_is_the_question_of_a_user_below_what_is_to_be_done() -> None:
    (message,) = chat_messages(PROMPT)
    assert message == {"role": "user", "content": f"{INSTRUCTION}\n\n{PROMPT}"}
    assert chat_messages(PROMPT, ANSWER, instruction="")[0]["content"] == PROMPT
    assert chat_messages(PROMPT, ANSWER)[1] == {"role": "assistant", "content": ANSWER}


def test_a_text_is_written_by_the_chat_template() -> None:
    asked = f"<|im_start|>user\n{INSTRUCTION}\n\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"
    assert chat_prompt(tokenizer(), PROMPT) == asked
    assert chat_text(tokenizer(), PROMPT, "[0]") == (asked, "[0]<|im_end|>\n")


def test_of_the_tokenizer_made_for_texts_a_chat_is_a_text() -> None:
    own = text_tokenizer()
    assert chat_text(own, PROMPT, ANSWER, instruction="") == (PROMPT, ANSWER + END)


def test_a_batch_of_chats_learns_the_answers_and_the_ends_of_turns() -> None:
    made = tokenizer()
    batch, plain = TextCollator(made, as_chat=True)(ROWS), TextCollator(made)(ROWS)
    assert torch.equal(batch["graphs"], plain["graphs"])
    for row, ids, labels in zip(ROWS, batch["input_ids"], batch["labels"], strict=True):
        is_answer = labels != NOT_SCORED
        assert torch.equal(ids[is_answer], labels[is_answer])
        assert made.decode(labels[is_answer]) == row["answer"].rstrip() + "<|im_end|>\n"
        assert made.decode(ids[: int(is_answer.int().argmax())]) == chat_prompt(made, row["question"])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "expected a tokenizer with a chat template, given one that says: "),
        ("{{ raise_exception('no users') }}", "given one that says: no users"),
        ("{{ messages | length }}", "a chat template that leaves a question as it is when its answer follows"),
    ],
)
def test_a_template_that_would_not_do_is_refused_in_one_line(template: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        TextCollator(tokenizer(template), as_chat=True)(ROWS)
    assert "\n" not in str(error.value)
