"""What a hybrid needs to know of a language model of Hugging Face: where its blocks are, and how far it counts."""

import shutil
from collections.abc import Mapping
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

BLOCKS = (
    "model.layers",  # Llama, Gemma, Qwen, Mistral, Phi, OLMo, ...
    "gpt_neox.layers",  # Pythia
    "transformer.h",  # GPT-2, Falcon, BLOOM
    "model.decoder.layers",  # OPT
    "model.language_model.layers",  # Gemma 3 with images
    "transformer.blocks",  # MPT
)
"""Where the decoder blocks of families of language models are."""
ADAPTERS = "adapters"
MISSPELT = 0.9  # how much a name has in common, of at most 1, with another that is meant


def make_language_model(source: str | Path | Mapping[str, Any]) -> PreTrainedModel:
    """A causal language model, in evaluation mode if it is a pretrained one.

    Args:
        source: A name on the Hugging Face Hub, or a folder that `save_pretrained` wrote; or, for random weights, a
            configuration with its ``model_type``, as in ``{"model_type": "llama", "hidden_size": 64, ...}``.

    Raises:
        ValueError: If there is no such model, or no such type of models, or it has no such setting.
    """
    if isinstance(source, Mapping):
        check_settings(source)
        return configured(source)
    try:
        if Path(source).is_absolute() and not Path(source).is_dir():
            raise FileNotFoundError
        pretrained: PreTrainedModel = AutoModelForCausalLM.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no language model {str(source)!r}: expected a folder or a name on the Hub, which has to be reached"
        ) from error
    return pretrained


def configured(settings: Mapping[str, Any]) -> PreTrainedModel:
    """A language model of this configuration, with random weights."""
    made: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings))
    return made


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse a misspelt configuration, which transformers would take in silence, and then do without.

    Raises:
        ValueError: If there is no such type of models, or what is set is nearly the name of one of its settings.
    """
    model_type = settings.get("model_type")
    if model_type not in CONFIG_MAPPING:
        raise ValueError(f"expected a model_type that transformers knows, such as 'llama', given {model_type!r}")
    kind: Any = CONFIG_MAPPING[model_type]
    known = {*signature(kind).parameters, *kind().to_dict(), *kind.attribute_map}
    for name in settings.keys() - known:  # of which some are looked at though no list has them, such as head_dim
        for close in get_close_matches(name, known, n=1, cutoff=MISSPELT):
            raise ValueError(f"expected a setting of {model_type}, such as {close}, given {name}")


def without_adapters(language_model: Any) -> PreTrainedModel:
    """The model that PEFT has wrapped, or the given one."""
    base = language_model.get_base_model() if hasattr(language_model, "get_base_model") else language_model
    if not isinstance(base, PreTrainedModel):
        raise ValueError(f"expected a language model of Hugging Face, given a {type(base).__name__}")
    return base


def decoder_blocks(language_model: PreTrainedModel, path: str | None = None) -> nn.ModuleList:
    """The blocks, in the order in which tokens go through them.

    Args:
        language_model: Of any family.
        path: The attribute that holds them, as in ``"model.layers"``; None to look at those of :data:`BLOCKS`.

    Raises:
        ValueError: If none is a list of modules.
    """
    for candidate in (path,) if path is not None else BLOCKS:
        module: Any = language_model
        for name in candidate.split("."):
            module = getattr(module, name, None)
        if isinstance(module, nn.ModuleList) and len(module) > 0:
            return module
    looked_for = ", ".join((path,) if path is not None else BLOCKS)
    raise ValueError(
        f"no decoder blocks found in {type(language_model).__name__}: looked for a list at {looked_for}; "
        "say where they are by `blocks`"
    )


def context_length(language_model: PreTrainedModel) -> int | None:
    """How many tokens it was made for, or None if it does not say."""
    length: int | None = getattr(language_model.config.get_text_config(), "max_position_embeddings", None)
    return length


def save_architecture(language_model: nn.Module, folder: Path) -> None:
    """Write what `load_architecture` needs: all but the weights."""
    base = without_adapters(language_model)
    if base is language_model and hasattr(base, "peft_config"):
        raise ValueError("expected adapters around the language model, by peft.get_peft_model, given some inside of it")
    base.config.save_pretrained(folder)
    base.generation_config.save_pretrained(folder)
    shutil.rmtree(folder / ADAPTERS, ignore_errors=True)  # of a model that was saved there before
    for name, adapter in getattr(language_model, "peft_config", {}).items():
        adapter.save_pretrained(folder / ADAPTERS / name)


def load_architecture(folder: Path) -> nn.Module:
    """A language model with its adapters as `save_architecture` found it, with random weights."""
    config = AutoConfig.from_pretrained(folder)
    language_model = AutoModelForCausalLM.from_config(config, dtype=config.dtype)
    language_model.generation_config = GenerationConfig.from_pretrained(folder)
    adapters = sorted((folder / ADAPTERS).iterdir()) if (folder / ADAPTERS).is_dir() else []
    for path in adapters:
        from peft import PeftConfig, PeftModel, get_peft_model

        adapter = PeftConfig.from_pretrained(path)
        if isinstance(language_model, PeftModel):
            language_model.add_adapter(path.name, adapter)
        else:
            language_model = get_peft_model(language_model, adapter, adapter_name=path.name)
    wrapped: nn.Module = language_model
    return wrapped
