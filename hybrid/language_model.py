"""What a hybrid needs to know of a language model of Hugging Face: where its blocks are, and how far it counts."""

import json
import os
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.utils.checkpoint import checkpoint
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedConfig,
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
LIVE, ADAPTERS = "live", "adapters"
ATTENTIONS, EXPERTS = ("eager", "sdpa", "flex_attention"), ("eager", "batched_mm", "grouped_mm")
"""Ways to compute attention and experts that are kept, as they need nothing but PyTorch; others are asked for again."""
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
        return _from_config(source)
    try:
        if Path(source).is_absolute() and not Path(source).is_dir():
            raise FileNotFoundError
        pretrained: PreTrainedModel = AutoModelForCausalLM.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # of what a file may hold, as many kinds as there are libraries that read it
        raise ValueError(
            f"no language model {str(source)!r}: expected a folder or a name on the Hub, which has to be reached"
        ) from error
    return pretrained


def _from_config(settings: Mapping[str, Any], **implementations: Any) -> PreTrainedModel:
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


class Description(NamedTuple):
    """All of a language model but its weights, as plain values.

    Attributes:
        config: Of Hugging Face, with its ``model_type``.
        adapters: The configuration of each adapter of PEFT, in order.
        live: What neither has: how attention is computed, what `generate` does by default, ...
    """

    config: dict[str, Any]
    adapters: dict[str, dict[str, Any]]
    live: dict[str, Any]

    def to_text(self) -> str:
        """The description as JSON: the configuration, and in it what else there is."""
        return json.dumps({**self.config, LIVE: {**self.live, ADAPTERS: self.adapters}})

    @classmethod
    def from_text(cls, text: str) -> "Description":
        """The description that `to_text` wrote, or that of a configuration alone.

        Raises:
            ValueError: If it is neither.
        """
        expected = f"expected the JSON text of a language model, given {text[:60]!r}"
        try:
            config: Any = json.loads(text, object_hook=number_of)
        except ValueError as error:
            raise ValueError(f"{expected}: {error}") from error
        live = config.pop(LIVE, {}) if isinstance(config, dict) else None
        if not isinstance(live, dict):
            raise ValueError(expected)
        return cls(config, live.pop(ADAPTERS, {}), live)


def number_of(values: dict[str, Any]) -> Any:
    """An infinite number that transformers has written as an object; of other objects of JSON, these."""
    return float(values["__float__"]) if values.keys() == {"__float__"} else values


def describe(language_model: nn.Module) -> Description:
    """The description from which :func:`rebuild` makes its like.

    Raises:
        ValueError: If it could not be made again.
    """
    base = without_adapters(language_model)
    if base is language_model and hasattr(base, "peft_config"):
        raise ValueError("expected adapters around the language model, by peft.get_peft_model, given some inside of it")
    if type(base) is not MODEL_FOR_CAUSAL_LM_MAPPING.get(type(base.config), None):
        kind = type(base).__name__
        raise ValueError(f"expected a language model that AutoModelForCausalLM makes of its config, given a {kind}")
    if getattr(base.config, "quantization_config", None) is not None:
        raise ValueError("expected a language model that is not quantised, given one whose weights cannot be kept")
    config = base.config.to_dict()
    inputs, outputs = base.get_input_embeddings(), base.get_output_embeddings()
    config["tie_word_embeddings"] = outputs is not None and outputs.weight is inputs.weight
    live = {
        "attention": _of_parts(base.config, "_attn_implementation", ATTENTIONS),
        "experts": _of_parts(base.config, "_experts_implementation", EXPERTS),
        "generation": json.loads(base.generation_config.to_json_string(keys_to_pop=["compile_config"])),
        "recomputed": _recomputed(base),
    }
    adapters = {name: _plain_adapter(adapter) for name, adapter in getattr(language_model, "peft_config", {}).items()}
    for name in adapters:
        if Path(name).name != name:
            raise ValueError(f"expected adapters whose names could be those of folders, given {name!r}")
    if adapters:
        live["status"] = {"order": list(adapters), **_status(language_model)}
    return Description(json.loads(json.dumps(config)), adapters, live)


def rebuild(description: Description) -> nn.Module:
    """The language model of a description, with random weights; nothing that this names is fetched or run.

    Raises:
        ValueError: If there is no such model.
    """
    config, adapters, live = description
    attention = _allowed(live.get("attention", {}), ATTENTIONS)
    experts = _allowed(live.get("experts", {}), EXPERTS)
    base = _from_config(_without_implementations(config), attn_implementation=attention, experts_implementation=experts)
    if "generation" in live:
        base.generation_config = GenerationConfig(**live["generation"])
    language_model: Any = with_adapters(base, adapters)
    if "status" in live:
        restore_status(language_model, live["status"])
    if live.get("recomputed") is not None:
        _recompute(base, live["recomputed"])
    wrapped: nn.Module = language_model
    return wrapped


def _of_parts(config: PreTrainedConfig, name: str, known: tuple[str, ...]) -> dict[str, str]:
    """The setting `name` of a configuration, under "", and of those in it, where it is one of the known values."""
    parts = {"": config, **{key: getattr(config, key, None) for key in config.sub_configs}}
    values = {key: getattr(part, name, None) for key, part in parts.items()}
    return {key: value for key, value in values.items() if value in known}


def _allowed(values: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, str] | None:
    for value in values.values():
        if value not in known:
            raise ValueError(f"expected one of {', '.join(known)}, given {value!r}")
    return dict(values) or None


def _without_implementations(config: Any) -> Any:
    """A configuration without what could name code of others."""
    if not isinstance(config, Mapping):
        return config
    names = {f"{start}{part}_implementation" for start in ("", "_") for part in ("attn", "experts")}
    dropped = {*names, "auto_map", "quantization_config"}
    return {name: _without_implementations(value) for name, value in config.items() if name not in dropped}


def _recomputed(base: PreTrainedModel) -> dict[str, Any] | None:
    """Which blocks are computed again in the backward pass, and how; None if none are."""
    modules = {name: x for name, x in base.named_modules() if getattr(x, "gradient_checkpointing", False)}
    if not modules:
        return None
    function: Any = next((x._gradient_checkpointing_func for x in modules.values()), None)
    kwargs = {name: x for name, x in function.keywords.items() if isinstance(x, bool | str | int)}
    return {"modules": list(modules), "kwargs": kwargs, "offload": function.func is not checkpoint}


def _recompute(base: PreTrainedModel, recomputed: Mapping[str, Any]) -> None:
    base.activation_checkpointing_enable(dict(recomputed["kwargs"]), offload=bool(recomputed["offload"]))
    for name, module in base.named_modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = name in recomputed["modules"]


def _plain_adapter(adapter: Any) -> dict[str, Any]:
    """The configuration of an adapter as plain values."""
    values = {name: sorted(x) if isinstance(x, set) else x for name, x in adapter.to_dict().items()}
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def with_adapters(language_model: Any, adapters: Mapping[str, Mapping[str, Any]]) -> Any:
    """A language model with adapters of these configurations around it."""
    for name, values in adapters.items():
        from peft import PeftConfig, PeftModel, get_peft_model

        if values.get("megatron_config") is not None:  # which names a module to import
            raise ValueError(f"expected an adapter that needs no Megatron, given {name!r}")
        adapter = PeftConfig.from_peft_type(**{key: x for key, x in values.items() if key != "runtime_config"})
        start = getattr(adapter, "init_lora_weights", None)
        if start is not None:
            adapter.init_lora_weights = True  # what it starts from is of no use, and might have to be computed
        if isinstance(language_model, PeftModel):
            language_model.add_adapter(name, adapter)
        else:
            language_model = get_peft_model(language_model, adapter, adapter_name=name)
        if start is not None:
            language_model.peft_config[name].init_lora_weights = start
    return language_model


def _status(language_model: Any) -> dict[str, Any]:
    """Which adapters are in use and which are merged, if they are in layers."""
    from peft import get_model_status
    from peft.tuners.tuners_utils import BaseTuner

    if not isinstance(language_model.base_model, BaseTuner):
        return {"active": language_model.active_adapters}
    status = get_model_status(language_model)
    state = {"active": status.active_adapters, "merged": status.merged_adapters, "enabled": status.enabled}
    if "irregular" in state.values():
        raise ValueError("expected adapters that are active, merged or disabled in all layers alike, given others")
    return state


def restore_status(language_model: Any, status: Mapping[str, Any]) -> None:
    """Use, merge or disable the adapters of a language model as a description says."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    active = list(status["active"])
    if len(active) == 1:
        language_model.set_adapter(active[0])
    else:
        language_model.base_model.set_adapter(active)
    if not status.get("enabled", True):
        language_model.base_model.disable_adapter_layers()
    for layer in language_model.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.merged_adapters = list(status.get("merged", []))
