"""The language model and the reasoner of which a hybrid is made, by what a user or a checkpoint says of them."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from transformers import PreTrainedTokenizerBase

from nar.errors import UserError
from nar.hybrid.descriptions import Description, rebuild
from nar.hybrid.language_model import build_if_it_fits, check_sizes, make_language_model
from nar.hybrid.saving import refused
from nar.training.checkpoint import load_reasoner, make_reasoner
from nar.training.reasoner import Reasoner
from nar.training.sparse_reasoner import SparseReasoner


def check_parts(parts: Any) -> dict[str, Any]:
    """The parts of a checkpoint, which hold all that the model needs: what would be looked for elsewhere is refused.

    Raises:
        UserError: With the part that is missing, or no description.
    """
    if not isinstance(parts, Mapping):
        raise UserError(f"expected the parts of a language model in a checkpoint, given {type(parts).__name__}")
    described = dict(parts)
    if isinstance(parts.get("language_model"), Mapping):  # as it once was
        described["language_model"] = json.dumps(parts["language_model"])
    for name in ("language_model", "reasoner"):
        text = described.get(name)
        is_none = name == "reasoner" and name in described and text is None
        if not is_none and not (isinstance(text, str) and text.startswith("{")):
            raise UserError(f"expected the description of a {name} in a checkpoint, given {str(text)[:60]!r}")
    if not isinstance(described.get("tokenizer"), Mapping):
        raise UserError("expected the files of a tokenizer in a checkpoint, given none")
    return described


def language_model_of(source: str | dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> Any:
    """The language model in float32, with at least as many tokens as the tokenizer has."""
    if isinstance(source, Mapping):
        ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        source = {"vocab_size": len(tokenizer), **ends, **source}
    is_text = isinstance(source, str) and source.startswith("{")  # what a model that was made says of itself
    if is_text:
        with refused("the language model of the checkpoint"):
            language_model: Any = rebuild(Description.from_text(str(source)))
    else:
        language_model = make_language_model(source)
    language_model = language_model.float()
    num_tokens = language_model.get_input_embeddings().num_embeddings
    if num_tokens < len(tokenizer):
        raise ValueError(
            f"expected a language model with the tokenizer's {len(tokenizer)} tokens, given one with {num_tokens}"
        )
    return language_model


def _reasoner_config(text: str) -> dict[str, Any]:
    """The configuration of a reasoner that a checkpoint holds as text.

    Raises:
        UserError: If it is no such text.
    """
    try:
        config: dict[str, Any] = json.loads(text)
        if {"model", "specs"} <= config.keys():
            check_sizes(config["model"])
            return config
        reason = "it has no model or no specs"
    except ValueError as error:
        reason = str(error)
    raise UserError(f"expected a checkpoint of nar fit as the reasoner, given {text[:60]!r}: {reason}")


def reasoner_of(source: str, algorithms: Sequence[str]) -> Reasoner | SparseReasoner:
    """The reasoner, which knows these algorithms."""
    if source.startswith("{"):
        config = _reasoner_config(source)
        with refused("the reasoner of the checkpoint"):
            reasoner = build_if_it_fits(partial(make_reasoner, config))
    else:
        reasoner = load_reasoner(source)
    if isinstance(reasoner, SparseReasoner):
        raise UserError(f"{source} is a checkpoint of a SparseReasoner: expected one of a Reasoner")
    unknown = [algorithm for algorithm in algorithms if algorithm not in reasoner.specs]
    if unknown:
        raise UserError(
            f"expected algorithms that the reasoner knows ({', '.join(reasoner.specs)}), given {', '.join(unknown)}"
        )
    return reasoner
