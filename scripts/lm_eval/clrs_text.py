"""What the tasks of lm-evaluation-harness in this folder ask, and how right answers are."""

from collections.abc import Mapping, Sequence
from typing import Any

from nar.datasets.text import scores
from nar.datasets.text.chat import chat_messages


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """The scores of an answer by name (see :func:`nar.datasets.text.scores`), of which the paper has ``exact``."""
    return scores(results[0], doc["answer"])._asdict()


def instructed(doc: Mapping[str, Any]) -> str:
    """A question with what is to be done with it above."""
    return chat_messages(doc["question"])[0]["content"]
