"""A hybrid as a model of Hugging Face: its configuration, Auto classes, `from_pretrained` and `push_to_hub`.

After ``import nar.hybrid``, ``AutoModelForCausalLM.from_pretrained`` knows its folders.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    GenerationConfig,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.configuration_utils import SubConfigSpec

from nar.batch import AnyGraphs
from nar.errors import UserError
from nar.hybrid.cross_attention import GatedCrossAttention
from nar.hybrid.descriptions import describe, restore_status, with_adapters
from nar.hybrid.language_model import without_adapters
from nar.hybrid.saving import CONFIG, dtypes, frozen, restore_frozen
from nar.hybrid.transnar import TransNAR
from nar.ops.precision import default_dtype
from nar.training.checkpoint import make_reasoner
from nar.training.reasoner import Reasoner
from nar.training.sparse_reasoner import SparseReasoner

_ALIGNED = 64  # bytes, as memory of torch's is
_FORMER = "transnar"  # what the configuration of a folder of `TransNAR.save_pretrained` has, and no other


class TransNARConfig(PreTrainedConfig):  # type: ignore[misc]
    """What a :class:`TransNARModel` is made of.

    Attributes:
        text_config: The configuration of the language model.
        reasoner: That of the reasoner (see :func:`nar.training.checkpoint.make_reasoner`) as JSON text, since it has an
            order, which transformers would not keep; may be given as it is. None for the language model alone.
        adapters: The configuration of each adapter of PEFT in the language model.
        adapter_status: Their order, and which of them are active, merged or disabled.
        dtypes: By name, what is in another precision than float32; None where all is in that of the language model,
            but for the reasoner, which is in float32.
        steps_per_block: This and what follows: see :class:`TransNAR`.
    """

    model_type = "transnar"
    sub_configs_defaults = {"text_config": SubConfigSpec(AutoConfig, model_type="llama")}  # noqa: RUF012

    text_config: Any = None
    reasoner: Any = None
    adapters: dict[str, Any] | None = None
    adapter_status: dict[str, Any] | None = None
    dtypes: dict[str, str] | None = None
    steps_per_block: int | None = 1
    num_heads: int | None = None
    freeze_reasoner: bool = True
    adaptive_temperature: bool = False
    max_position: int | None = None
    positions_in_evaluation: str = "random"
    blocks: str | None = None
    feed_forward: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.reasoner, Mapping):
            self.reasoner = json.dumps(self.reasoner)
        super().__post_init__(**kwargs)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of :class:`TransNAR` besides language model and reasoner."""
        names = ("steps_per_block", "num_heads", "freeze_reasoner", "adaptive_temperature", "max_position")
        return {name: getattr(self, name) for name in (*names, "positions_in_evaluation", "blocks", "feed_forward")}


class TransNARModel(TransNAR, PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A :class:`TransNAR` that is a model of Hugging Face too; it computes the same, to the bit.

    Args:
        config: Of which a model with random weights is made.
        language_model: In place of that of `config`; see :meth:`from_parts`.
        reasoner: In place of that of `config`.

    Raises:
        ValueError: As :class:`TransNAR`.
    """

    config: TransNARConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True
    _no_split_modules = ["GatedCrossAttention", "EncodeProcessDecode"]  # noqa: RUF012
    _keep_in_fp32_modules_strict = ["reasoner"]  # noqa: RUF012

    def __init__(
        self,
        config: TransNARConfig,
        language_model: nn.Module | None = None,
        reasoner: Reasoner | SparseReasoner | None = None,
    ) -> None:
        PreTrainedModel.__init__(self, config)
        if language_model is None:
            language_model = _language_model(config)
            # On the CPU, as it has numbers that no file has and that transformers would have it do without.
            with torch.device("cpu"), default_dtype(torch.float32):
                reasoner = None if config.reasoner is None else make_reasoner(json.loads(config.reasoner))
        TransNAR.__init__(self, language_model, reasoner, **config.settings)
        config.text_config = without_adapters(language_model).config
        for name, x in (*self.named_parameters(), *self.named_buffers()):
            if config.dtypes is not None and x.is_floating_point():
                x.data = x.data.to(getattr(torch, config.dtypes.get(name, "float32")))
        self._constants = [] if self.reasoner is None else list(_constants(self.reasoner))
        self._untrained = frozen(self)
        PreTrainedModel.post_init(self)
        tied = PreTrainedModel.get_expanded_tied_weights_keys(self, all_submodels=True)  # inside of adapters too
        self.all_tied_weights_keys = tied

    @classmethod
    def from_parts(
        cls, language_model: nn.Module, reasoner: Reasoner | SparseReasoner | None = None, **settings: Any
    ) -> "TransNARModel":
        """A model of a language model and a reasoner, with the arguments of :class:`TransNAR`."""
        of_reasoner = None if reasoner is None else reasoner.config
        # The constructor adds the configuration of the language model, in which this one would set ways of attention.
        config = TransNARConfig(reasoner=of_reasoner, dtype=without_adapters(language_model).dtype, **settings)
        return cls(config, language_model, reasoner)

    @classmethod
    def _of_parts(cls, language_model: nn.Module, reasoner: Any, **settings: Any) -> "TransNARModel":
        return cls.from_parts(language_model, reasoner, **settings)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *args: Any, dtype: Any = None, **kwargs: Any) -> Any:
        """The model of a folder or of the Hub, as `PreTrainedModel.from_pretrained` reads it, in evaluation mode.

        Also what :meth:`TransNAR.save_pretrained` wrote. The reasoner's class is imported by the name that is written
        there: load only what you trust.

        Args:
            folder: Or a name on the Hub.
            *args: As for `PreTrainedModel.from_pretrained`.
            dtype: Of all but the reasoner, which is in float32; if not given, everything is in what it was saved in.
            **kwargs: As for `PreTrainedModel.from_pretrained`: ``device_map``, ``attn_implementation``, ...

        Raises:
            UserError: If a folder of `TransNAR.save_pretrained` is damaged.
            ValueError: If a `device_map` leaves anything but the language model out of memory.
        """
        if _is_former(folder):
            former: Any = super().from_pretrained(folder)
            if dtype is None and not args and not kwargs:
                return former
            kwargs.pop("config", None)  # which AutoModel has made of what it does not know
            with tempfile.TemporaryDirectory() as converted:
                former.save_pretrained(converted)
                return cls.from_pretrained(converted, *args, dtype=dtype, **kwargs)
        if dtype not in (None, "auto"):
            config = kwargs.get("config")
            if isinstance(config, TransNARConfig):
                kwargs["config"] = TransNARConfig.from_dict({**config.to_dict(), "dtypes": None})
            else:
                kwargs["dtypes"] = None
        given = super(TransNAR, cls).from_pretrained(folder, *args, dtype=dtype, **kwargs)
        loaded = given[0] if isinstance(given, tuple) else given  # beside a report, if one was asked for
        if any(x.is_meta for name, x in loaded.named_parameters() if not name.startswith("language_model.")):
            raise ValueError("expected a device_map that leaves reasoner and cross_attention in memory, given another")
        restore_frozen(loaded, loaded._untrained)
        for parameter in loaded.parameters():  # of a file in memory, where sums of products differ by where they begin
            if parameter.device.type == "cpu" and parameter.data_ptr() % _ALIGNED:
                parameter.data = parameter.data.clone()
        return given

    def save_pretrained(self, folder: str | Path, **kwargs: Any) -> None:
        """Write the model as `PreTrainedModel.save_pretrained` does; what is trained and what not is not kept.

        Args:
            folder: To write to.
            **kwargs: As for `PreTrainedModel.save_pretrained`.

        Raises:
            ValueError: If the language model could not be made again.
        """
        parts, config = describe(self.language_model), self.config
        config.text_config.tie_word_embeddings = parts.config["tie_word_embeddings"]
        config.adapters, config.adapter_status = parts.adapters or None, parts.live.get("status")
        for name, value in self.settings.items():
            setattr(config, name, value)
        is_in_one = self._is_in_one_dtype() and not parts.adapters  # to which PEFT gives dtypes of their own
        config.dtypes = None if is_in_one else dtypes(self)
        super(TransNAR, self).save_pretrained(folder, **kwargs)

    @property
    def generation_config(self) -> GenerationConfig:
        """What `generate` does by default: that of the language model."""
        return without_adapters(self.language_model).generation_config

    @generation_config.setter
    def generation_config(self, value: GenerationConfig) -> None:
        if "language_model" in self._modules:  # transformers sets one before there is anything
            without_adapters(self.language_model).generation_config = value

    @property
    def base_model(self) -> "_Backbone":
        """What makes the last hidden states of tokens, of which TRL makes logits itself."""
        return _Backbone(self)

    def get_output_embeddings(self) -> Any:
        """The layer that makes logits."""
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Exchange the layer that makes logits."""
        self.language_model.set_output_embeddings(new_embeddings)

    def init_weights(self) -> None:
        """Leave the parts as they are, which have been initialised when they were made."""

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise what a folder had no weights of."""
        if isinstance(module, nn.Linear | nn.LayerNorm):
            module.reset_parameters()  # which transformers keeps, like the next, from what has been read
        if isinstance(module, GatedCrossAttention):
            for gate in module.parameters(recurse=False):
                nn.init.zeros_(gate)
        for owner, name, value in self._constants:
            if owner is module:
                owner._buffers[name] = value.to(owner._buffers[name].device)  # type: ignore[union-attr]

    def _is_in_one_dtype(self) -> bool:
        """Whether all that is trained is in the precision of the first weight, but for a reasoner in float32."""
        kept = self.state_dict().keys()
        return all(
            x.dtype == (self.dtype if name in kept and not name.startswith("reasoner.") else torch.float32)
            for name, x in (*self.named_parameters(), *self.named_buffers())
            if x.is_floating_point()
        )


class _Backbone:
    """A hybrid without its output embeddings; no module, as its weights are the hybrid's."""

    def __init__(self, model: TransNARModel) -> None:
        self.model = model

    def __call__(
        self,
        input_ids: Tensor,
        graphs: Sequence[AnyGraphs] | Tensor = (),
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """What the backbone of the language model returns: ``last_hidden_state`` [B, L, D]; see `TransNAR.forward`."""
        model = self.model
        with model._given(input_ids, graphs, attention_mask, kwargs) as given:
            given = given if model.positions is None else model.positions.replaced(given)
            return without_adapters(model.language_model).base_model(**given)


def _language_model(config: TransNARConfig) -> nn.Module:
    """The language model of a configuration, with random weights; nothing that is named there is fetched or run."""
    base = AutoModelForCausalLM.from_config(config.text_config, trust_remote_code=False)
    adapters, status = config.adapters or {}, config.adapter_status
    language_model: nn.Module = with_adapters(
        base, {name: adapters[name] for name in (status or {}).get("order", adapters)}
    )
    if status is not None:
        restore_status(language_model, status)
    return language_model


def _constants(module: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """The buffers that are in no file: of which module, by which name, and their values."""
    for part in module.modules():
        for name in part._non_persistent_buffers_set:
            value = part._buffers[name]
            if value is not None:
                yield part, name, value


def _is_former(folder: str | Path) -> bool:
    """Whether a folder is one that `TransNAR.save_pretrained` wrote."""
    path = Path(folder) / CONFIG
    try:
        return path.is_file() and _FORMER in json.loads(path.read_text("utf-8"))
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: expected settings, given {error}") from error


AutoConfig.register(TransNARConfig.model_type, TransNARConfig)
AutoModel.register(TransNARConfig, TransNARModel)
AutoModelForCausalLM.register(TransNARConfig, TransNARModel)
