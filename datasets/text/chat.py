"""Texts of CLRS-Text in the form in which instruction-tuned models are asked."""

from typing import Any

from nar.errors import UserError, one_line

INSTRUCTION = """\
Execute an algorithm on an input. Below are the algorithm's name, the input, and the names of the outputs. Write the \
outputs and nothing else: a number as 3 or 0.25, a list as [0 1 2], a list of lists as [[0 1], [2 3]], several outputs \
with commas between them. If the input has an initial_trace, first write the states of the algorithm that follow it, \
with commas between them, and then " | " before the outputs."""

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)
"""The chat template of models that know nothing but texts: prompts as they are, and after an answer the end."""


def chat_messages(prompt: str, answer: str | None = None, *, instruction: str = INSTRUCTION) -> list[dict[str, str]]:
    """A prompt as the message of a user, and its answer, if given, as that of the assistant.

    Args:
        prompt: Of a text.
        answer: Of the text.
        instruction: What to write above the prompt; nothing for models that know the texts.
    """
    content = f"{instruction}\n\n{prompt}" if instruction else prompt
    messages = [{"role": "user", "content": content}]
    return messages if answer is None else [*messages, {"role": "assistant", "content": answer}]


def chat_prompt(tokenizer: Any, prompt: str, *, instruction: str = INSTRUCTION) -> str:
    """The text by which an instruction-tuned model is asked, up to where its answer begins.

    It is to be given to the model, and the prompt itself to :func:`nar.datasets.text.graph_of`.

    Raises:
        UserError: If the tokenizer has no chat template.
    """
    return _written(tokenizer, chat_messages(prompt, instruction=instruction), is_asked=True)


def chat_text(tokenizer: Any, prompt: str, answer: str, *, instruction: str = INSTRUCTION) -> tuple[str, str]:
    """The text by which an instruction-tuned model is asked, and the answer with which it ends its turn.

    Raises:
        UserError: If the tokenizer has no chat template, or one that writes a question anew where there is an answer.
    """
    asked = chat_prompt(tokenizer, prompt, instruction=instruction)
    whole = _written(tokenizer, chat_messages(prompt, answer, instruction=instruction), is_asked=False)
    if not whole.startswith(asked):
        raise UserError(
            "expected a chat template that leaves a question as it is when its answer follows, given another"
        )
    return asked, whole.removeprefix(asked)


def _written(tokenizer: Any, messages: list[dict[str, str]], *, is_asked: bool) -> str:
    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=is_asked)
    except Exception as error:  # of templates, as many kinds as those who write them like
        raise UserError(f"expected a tokenizer with a chat template, given one that says: {one_line(error)}") from error
    return text
