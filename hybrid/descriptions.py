"""Language models of Hugging Face as plain values, adapters of PEFT among them, and models that are made of these."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, GenerationConfig, PreTrainedConfig, PreTrainedModel

from nar.hybrid.language_model import from_config, without_adapters

LIVE, ADAPTERS = "live", "adapters"
ATTENTIONS, EXPERTS = ("eager", "sdpa", "flex_attention"), ("eager", "batched_mm", "grouped_mm")
"""Ways to compute attention and experts that are kept, as they need nothing but PyTorch; others are asked for again."""


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
    base = from_config(_without_implementations(config), attn_implementation=attention, experts_implementation=experts)
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
