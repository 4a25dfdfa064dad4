"""What a hybrid needs to know of a language model of Hugging Face: where its blocks are, and how far it counts."""

import os
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
)

BLOCKS = (
    "model.layers",  # Llama, Gemma, Qwen, Mistral, Phi, OLMo, ...
    "gpt_neox.layers",  # Pythia
    "transformer.h",  # GPT-2, Falcon, BLOOM
    "model.decoder.layers",  # OPT
    "model.language_model.layers",  # Gemma 3 with images
    "transformer.blocks",  # MPT
)
"""Where the decoder blocks of families of language models are."""
MOST, COUNTED, MOST_PARTS = 2**40, ("layers", "n_layer", "experts", "heads", "labels", "blocks", "depth"), 2**14
"""The largest number that a setting may be, and that of one which is how many there are of something."""
_MOST_MODULES = 2**18
_MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**40
T = TypeVar("T", bound=nn.Module)
_MISSPELT = 0.9  # how much a name has in common, of at most 1, with another that is meant


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
        return from_config(source)
    try:
        if Path(source).is_absolute() and not Path(source).is_dir():
            raise FileNotFoundError
        pretrained: PreTrainedModel = AutoModelForCausalLM.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # of what a file may hold, as many kinds as there are libraries that read it
        raise ValueError(
            f"no language model {str(source)!r}: expected a folder or a name on the Hub, which has to be reached"
        ) from error
    return pretrained


def from_config(settings: Mapping[str, Any], **implementations: Any) -> PreTrainedModel:
    """A language model of a configuration, with random weights.

    Args:
        settings: With ``model_type``.
        **implementations: Of attention or of experts, see ``from_config`` of Hugging Face.

    Raises:
        ValueError: If there is none, or it would not fit into memory.
    """
    model_type = _type_of(settings)
    check_sizes(settings)
    given = {name: x for name, x in implementations.items() if x is not None}

    def make() -> PreTrainedModel:
        config = AutoConfig.for_model(**settings)
        made: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False, **given)
        return made

    try:
        return build_if_it_fits(make)
    except ValueError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except Exception as error:  # of settings that do not fit each other, as many kinds as there are families
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ValueError(f"expected settings of which a {model_type} can be made, given others: {reason}") from error


def check_sizes(settings: Any, name: str = "") -> None:
    """Refuse numbers of which nothing can be made, before lists are made that are as long.

    Raises:
        ValueError: With the name of the first.
    """
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            check_sizes(value, str(key))
    elif isinstance(settings, list | tuple):
        for value in settings:
            check_sizes(value, name)
    elif isinstance(settings, int):
        most = MOST_PARTS if any(part in name for part in COUNTED) else MOST
        if abs(settings) > most:
            raise ValueError(f"expected {name} of at most {most}, given {settings}")


def build_if_it_fits(make: Callable[[], T], check: Callable[[T], None] = lambda module: None) -> T:
    """The module that a function makes, if it fits: it is made without memory first, and its size is looked at.

    Args:
        make: Makes it.
        check: Raises a ValueError if it is not as expected; also given one without memory.

    Raises:
        ValueError: If it has more weights than the machine has memory, or more parts than any module.
    """
    number = 0

    def count(*args: Any) -> None:
        nonlocal number
        number += 1
        if number > _MOST_MODULES:
            raise ValueError(f"expected at most {_MOST_MODULES} weights and modules, given more")

    handles = [register_module_parameter_registration_hook(count), register_module_module_registration_hook(count)]

    def made() -> T:
        module = make()
        check(module)
        return module

    is_itself_a_trial = torch.get_default_device().type == "meta"
    try:
        with torch.device("meta"):
            trial = made()
    except ValueError:
        raise
    except Exception:  # something in it cannot be made without memory, or not at all
        return made()
    finally:
        for handle in handles:
            handle.remove()
    needed = sum(x.numel() * x.itemsize for x in (*trial.parameters(), *trial.buffers()))
    if needed > _MEMORY:
        raise ValueError(
            f"expected a model that fits into {_MEMORY / 2**30:.0f} GiB, given one of {needed / 2**30:.0f}"
        )
    return trial if is_itself_a_trial else made()


def _type_of(settings: Mapping[str, Any]) -> str:
    """The type of models that settings are of.

    Raises:
        ValueError: If there is no such type.
    """
    model_type = settings.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise ValueError(f"expected a model_type that transformers knows, such as 'llama', given {model_type!r}")
    return model_type


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse a misspelt configuration, which transformers would take in silence, and then do without.

    Raises:
        ValueError: If there is no such type of models, what is set is nearly the name of one of its settings, or more
            is to be dropped than there is.
    """
    model_type = _type_of(settings)
    kind: Any = CONFIG_MAPPING[model_type]
    for name, value in settings.items():
        if "drop" in name and isinstance(value, int | float) and not 0 <= value < 1:
            raise ValueError(f"expected {name} of at least 0 and below 1, given {value}")
    known = {*signature(kind).parameters, *kind().to_dict(), *kind.attribute_map}
    for name in settings.keys() - known:  # of which some are looked at though no list has them, such as head_dim
        for close in get_close_matches(name, known, n=1, cutoff=_MISSPELT):
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
    """The number of tokens that a language model was made for, or None if it does not say."""
    length: int | None = getattr(language_model.config.get_text_config(), "max_position_embeddings", None)
    return length
