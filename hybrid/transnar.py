"""A language model whose tokens read the states of a neural algorithmic reasoner.

Source: Bounsi et al., "Transformers meet Neural Algorithmic Reasoners", 2024 (arXiv 2406.09308).
"""
# Axes: B texts, L tokens, N nodes, D width of tokens.

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nar.batch import AnyGraphs, Batch, Feedback, Graphs, num_steps_of
from nar.hybrid.cross_attention import CrossAttention, GatedCrossAttention, GraphKeys
from nar.hybrid.descriptions import rebuild
from nar.hybrid.language_model import build_if_it_fits, context_length, decoder_blocks, without_adapters
from nar.hybrid.positions import (
    RandomPositions,
    check_padding,
    consecutive_positions,
    may_be_padded_on_the_left,
    takes_positions,
)
from nar.hybrid.saving import check_weights, read_folder, read_weights, refused, restore_frozen, write_folder
from nar.hybrid.states import ByBlock, graph_states, states_by_block
from nar.model.unroll import EncodeProcessDecode
from nar.ops.precision import default_dtype
from nar.packed import unpack_graphs
from nar.training.checkpoint import make_reasoner
from nar.training.cuda_graphs import Recorder
from nar.training.reasoner import Reasoner
from nar.training.sparse_reasoner import SparseReasoner

Positions = Literal["random", "consecutive"]


def _check_positive(name: str, value: object) -> None:
    """Refuse an argument that is no whole number above 0.

    Raises:
        ValueError: With its name.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"expected {name} ≥ 1, given {value!r}")


class TransNAR(nn.Module):
    """A causal language model in which, after each decoder block, tokens cross-attend to a reasoner's states.

    The reasoner is given the graph of the instance that a text is about, and takes its steps beside the blocks; it
    hears nothing of the text. As the gates of the cross-attention start shut, the language model starts as it was.

    Language model, cross-attention and reasoner may each have a precision of their own; ``half()`` and ``bfloat16()``
    leave the reasoner in float32.

    Args:
        language_model: Any causal language model of Hugging Face, also with adapters of PEFT.
        reasoner: See :func:`nar.training.checkpoint.load_reasoner`; None for the language model alone, the baseline,
            which does not look at graphs.
        steps_per_block: How many steps the reasoner takes from one block to the next (without steps to take it keeps
            its last states); None to spread the steps that each graph takes evenly over the blocks, so that the first
            read early steps, and the last the last one.
        num_heads: Of each cross-attention; as many as the language model has if None.
        freeze_reasoner: Whether the reasoner is not trained, and in evaluation mode at all times.
        adaptive_temperature: Whether cross-attention is sharpened in evaluation mode, see
            :class:`nar.hybrid.cross_attention.CrossAttention`.
        max_position: From how many positions those of tokens are drawn, in order and anew for every batch, 8192 in
            the paper; None for the language model's own positions.
        positions_in_evaluation: Whether they are drawn in evaluation mode and by `generate` too, as in the code of
            their authors, or are ``"consecutive"``.
        blocks: The attribute of the language model that holds its decoder blocks, as in ``"model.layers"``; None for
            those of known families.
        feed_forward: Whether a feed-forward layer follows each cross-attention, as in equation 3 of the paper.

    Raises:
        ValueError: If the blocks are not found, or an argument does not fit the language model.
    """

    def __init__(
        self,
        language_model: nn.Module,
        reasoner: Reasoner | SparseReasoner | None = None,
        *,
        steps_per_block: int | None = 1,
        num_heads: int | None = None,
        freeze_reasoner: bool = True,
        adaptive_temperature: bool = False,
        max_position: int | None = None,
        positions_in_evaluation: Positions = "random",
        blocks: str | None = None,
        feed_forward: bool = False,
    ) -> None:
        nn.Module.__init__(self)  # and not that of another base, which a subclass calls by itself
        given = {"num_heads": num_heads, "max_position": max_position, "steps_per_block": steps_per_block}
        for name, value in given.items():
            if value is not None:
                _check_positive(name, value)
        if positions_in_evaluation not in get_args(Positions):
            raise ValueError(
                f"expected positions_in_evaluation 'random' or 'consecutive', given {positions_in_evaluation!r}"
            )
        if isinstance(reasoner, SparseReasoner):
            raise ValueError("expected a reasoner of dense graphs, given a SparseReasoner")
        self._made_with: dict[str, Any] = {"num_heads": num_heads, "blocks": blocks, "feed_forward": feed_forward}
        base = without_adapters(language_model)
        self.language_model: Any = language_model
        lengths = [length for length in (context_length(base), max_position) if length is not None]
        self.context_length = min(lengths, default=None)
        """How many tokens a text may have, or None if nobody says."""
        self.steps_per_block = steps_per_block
        self.freeze_reasoner = freeze_reasoner
        self._takes_positions = takes_positions(base)
        self._may_be_padded_on_the_left = may_be_padded_on_the_left(base)
        self.positions = None if max_position is None else RandomPositions(base, max_position)
        self.positions_in_evaluation = positions_in_evaluation
        self.reasoner = None if reasoner is None else reasoner.model
        self.reasoner_config = None if reasoner is None else reasoner.config
        self.cross_attention = nn.ModuleList()
        self._recorded = Recorder(self._states_of_batch)
        self._keys: list[GraphKeys] | None = None  # what the blocks read of the graphs of this batch
        if reasoner is not None:
            self._attach(reasoner.model, base)
        self.adaptive_temperature = adaptive_temperature
        self.train(base.training)

    def _attach(self, reasoner: EncodeProcessDecode, base: PreTrainedModel) -> None:
        """Put cross-attention to the reasoner's states behind every block of the language model."""
        if self.freeze_reasoner:
            reasoner.requires_grad_(False)
        elif reasoner.hint_teacher_forcing > 0:
            raise ValueError(
                "expected a reasoner without teacher forcing to train, as it is given first hints alone, "
                f"given hint_teacher_forcing {reasoner.hint_teacher_forcing}"
            )
        processor, config = reasoner.processor, base.config.get_text_config()
        num_heads = self._made_with["num_heads"]
        for index, block in enumerate(decoder_blocks(base, self._made_with["blocks"])):
            attention = GatedCrossAttention(
                config.hidden_size,
                config.num_attention_heads if num_heads is None else num_heads,
                processor.hidden_dim,
                processor.hidden_dim if processor.has_edge_states else None,
                feed_forward=self._made_with["feed_forward"],
            )
            self.cross_attention.append(attention.to(base.device, base.dtype))
            block.register_forward_hook(partial(self._after_block, index))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TransNAR":
        """Cast or move everything, a reasoner to nothing narrower than float32: its steps depend on the last digits."""
        reasoner = [] if self.reasoner is None else [*self.reasoner.parameters(), *self.reasoner.buffers()]
        wide = {id(x) for tensor in reasoner for x in (tensor, tensor.grad) if x is not None and x.itemsize >= 4}

        def applied(x: Tensor) -> Tensor:
            made = fn(x)
            return x.to(made.device) if id(x) in wide and made.itemsize < 4 else made

        super()._apply(applied, recurse)  # type: ignore[no-untyped-call]
        return self

    def train(self, mode: bool = True) -> "TransNAR":
        """Training mode, for a frozen reasoner excepted."""
        super().train(mode)
        if self.reasoner is not None and self.freeze_reasoner:
            self.reasoner.eval()
        return self

    def forward(
        self,
        input_ids: Tensor,
        graphs: Sequence[AnyGraphs] | Tensor = (),
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """What the language model returns: ``logits`` [B, L, V] and, with `labels`, the ``loss``.

        Args:
            input_ids: [B, L].
            graphs: The graph of each text, see :func:`nar.batch.grouped`, or as rows of a tensor, see
                :func:`nar.packed.pack_graphs`.
            attention_mask: 1 at tokens, 0 at padding, which changes nothing of what comes out at tokens, [B, L], and
                before it that of tokens in a ``cache``. Padding may be on either side, and on the right alone for the
                few language models that count it, such as BART. None if there is none.
            labels: Those of `input_ids` that the loss is of, -100 elsewhere, [B, L].
            **kwargs: Of the language model: ``cache``, ...; ``position_ids`` are counted from each text's first token
                on if not given.

        Raises:
            ValueError: If a text has no graph, a graph does not fit its algorithm, a text is too long, or padding is
                elsewhere; or if positions are drawn and there is a cache, whose positions are not known any more.
        """
        with self._given(input_ids, graphs, attention_mask, {"labels": labels, **kwargs}) as given:
            return self.language_model(**given)

    @contextmanager
    def _given(
        self,
        input_ids: Tensor,
        graphs: Sequence[AnyGraphs] | Tensor,
        attention_mask: Tensor | None,
        kwargs: dict[str, Any],
    ) -> Iterator[dict[str, Any]]:
        """The arguments of the language model, or its backbone, which reads the graphs as long as this is entered."""
        num_tokens = input_ids.shape[1]
        if self._draws_positions:
            if kwargs.get("cache") is not None or kwargs.get("past_key_values") is not None:
                raise ValueError("expected no cache in forward where positions are drawn, given one")
            attention_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if attention_mask is not None:
            check_padding(attention_mask, input_ids, may_be_left=self._may_be_padded_on_the_left)
            if self._takes_positions:
                kwargs.setdefault("position_ids", consecutive_positions(attention_mask)[:, -num_tokens:])
        self._check_length(num_tokens if attention_mask is None else attention_mask.shape[1])
        with self._reading(input_ids, graphs, attention_mask):
            yield {"input_ids": input_ids, "attention_mask": attention_mask, **kwargs}

    def generate(
        self,
        input_ids: Tensor,
        graphs: Sequence[AnyGraphs] | Tensor = (),
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """What the language model's own `generate` returns: prompts and answers, [B, L + new].

        The states of graphs are computed once.

        Args:
            input_ids: Prompts, [B, L].
            graphs: The graph of each text, as for `forward`.
            attention_mask: 1 at tokens, 0 at padding, which is on the left, [B, L]; None if there is none.
            **kwargs: Of `generate`: ``max_new_tokens``, ``do_sample``, ``num_beams``, ``use_cache``, ...

        Raises:
            ValueError: As `forward`, or if padding is on the right.
        """
        num_new = self._num_new_tokens(input_ids.shape[1], kwargs)
        self._check_length(input_ids.shape[1] + num_new)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        check_padding(attention_mask, input_ids, may_be_left=self._may_be_padded_on_the_left)
        if not attention_mask[:, -1].all():
            raise ValueError("expected padding on the left alone of prompts to go on from, given some on the right")
        with torch.no_grad(), self._reading(input_ids, graphs, attention_mask, num_new):
            return self.language_model.generate(input_ids=input_ids, attention_mask=attention_mask, **kwargs)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, besides language model and reasoner, with which a model like this one is made."""
        return {
            "steps_per_block": self.steps_per_block,
            "freeze_reasoner": self.freeze_reasoner,
            "adaptive_temperature": self.adaptive_temperature,
            "max_position": None if self.positions is None else self.positions.maximum,
            "positions_in_evaluation": self.positions_in_evaluation,
            **self._made_with,
        }

    @property
    def adaptive_temperature(self) -> bool:
        """Whether cross-attention is sharpened in evaluation mode, which may be set."""
        return self._adaptive_temperature

    @adaptive_temperature.setter
    def adaptive_temperature(self, value: bool) -> None:
        self._adaptive_temperature = value
        for module in self.cross_attention.modules():
            if isinstance(module, CrossAttention):
                module.adaptive_temperature = value

    def save_pretrained(self, folder: str | Path) -> None:
        """Write everything to a folder: weights as safetensors, and what the parts are made of.

        What is read from it is this model to the bit, in what is trained and how it is computed too; of ways to compute
        attention, those that need nothing but PyTorch.

        Raises:
            ValueError: If the language model could not be made again.
        """
        config = {"transnar": self.settings, "reasoner": self.reasoner_config}
        write_folder(Path(folder), self, self.language_model, config)

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype | None = None) -> "TransNAR":
        """What `save_pretrained` wrote, in evaluation mode on the CPU; cast to `dtype`, by default as it was.

        The reasoner's class is imported by the name that is written there: load only folders that you trust. Nothing
        else is run, and nothing is fetched.

        Raises:
            UserError: If there is none, or it is damaged.
        """
        folder = Path(folder)
        with refused(folder):
            config, parts = read_folder(folder)

            def make() -> TransNAR:
                reasoner = None if config["reasoner"] is None else make_reasoner(config["reasoner"])
                return cls._of_parts(rebuild(parts), reasoner, **config["transnar"])

            model: TransNAR = build_if_it_fits(make, partial(check_weights, folder=folder))
            read_weights(model, folder)
            if "frozen" in config:
                restore_frozen(model, config["frozen"])
        if dtype is not None:
            model.to(dtype)
        model.eval()
        return model

    @classmethod
    def _of_parts(cls, language_model: nn.Module, reasoner: Any, **settings: Any) -> "TransNAR":
        """A model of this class of its parts, however its constructor takes them."""
        return cls(language_model, reasoner, **settings)

    @contextmanager
    def _reading(
        self, input_ids: Tensor, graphs: Sequence[AnyGraphs] | Tensor, attention_mask: Tensor | None, num_new: int = 0
    ) -> Iterator[None]:
        """Let the language model read these graphs, and texts and so many new tokens be at drawn positions."""
        if isinstance(graphs, Tensor):
            graphs = () if self.reasoner is None else unpack_graphs(graphs.to(self._device))
        keys = None if self.reasoner is None else self._graph_keys(self.reasoner, graphs, len(input_ids))
        with ExitStack() as stack:
            stack.enter_context(self._with_keys(keys))
            if self._draws_positions:
                assert self.positions is not None
                assert attention_mask is not None
                stack.enter_context(self.positions.draw(attention_mask, num_new))
            yield

    def _graph_keys(
        self, reasoner: EncodeProcessDecode, graphs: Sequence[AnyGraphs], num_texts: int
    ) -> list[GraphKeys]:
        """The keys of the graphs that each block reads."""
        with (
            torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_reasoner),
            torch.autocast(self._device.type, enabled=False),  # its steps depend on the last ones' digits
            default_dtype(next(reasoner.parameters()).dtype),  # of which encoders make features
        ):
            blocks = graph_states(reasoner, graphs, num_texts, self._states_by_block)
        return [self._attention(index).keys(*states) for index, states in enumerate(blocks)]

    def _states_by_block(self, group: AnyGraphs) -> ByBlock:
        """The states of a group of graphs that each block is given, of a frozen reasoner at once with those of other
        batches, which are kept for these.
        """
        if isinstance(group, Graphs) or not self.freeze_reasoner:
            return self._states_of_group(group)
        if group.joint.kept is None or group.joint.kept[0] is not self.reasoner:
            every = Graphs(group.algorithm, (), group.joint.features.to(self._device))
            group.joint.kept = self.reasoner, self._states_of_group(every)
        own = slice(group.start, group.start + len(group.rows))
        return [(node[own], None if edge is None else edge[own]) for node, edge in group.joint.kept[1]]

    def _states_of_group(self, group: AnyGraphs) -> ByBlock:
        if self._device.type == "cpu" and not self._is_recorded:
            return self._states_of(group, None)
        num_steps = len(self.cross_attention) * (self.steps_per_block or 0)
        num_steps = num_steps or int(num_steps_of(group.features.lengths).max())  # for which a GPU is waited for
        if not self._is_recorded:
            return self._states_of(group, num_steps)
        made = self._recorded(Batch(group.algorithm, 0, 0, Feedback(group.features, {})), num_steps)
        return [(node.clone(), None if edge is None else edge.clone()) for node, edge in made]  # or the next group

    def _states_of(self, group: AnyGraphs, num_steps: int | None) -> ByBlock:
        assert self.reasoner is not None
        return states_by_block(self.reasoner, group, len(self.cross_attention), self.steps_per_block, num_steps)

    def _states_of_batch(self, batch: Batch, num_steps: int) -> ByBlock:
        """The states of a batch of graphs that each block is given, all of them at every step, to be recorded."""
        return self._states_of(Graphs(batch.algorithm, (), batch.feedback.features), num_steps)

    @property
    def _is_recorded(self) -> bool:
        """Whether a GPU launches all steps of the reasoner as one: in training, where shapes come again and again."""
        return self.training and self.freeze_reasoner and self._device.type == "cuda"

    @property
    def _device(self) -> torch.device:
        """Where the reasoner is, if there is one."""
        return next((self if self.reasoner is None else self.reasoner).parameters()).device

    @contextmanager
    def _with_keys(self, keys: list[GraphKeys] | None) -> Iterator[None]:
        before, self._keys = self._keys, keys
        try:
            yield
        finally:
            self._keys = before

    def _after_block(self, index: int, block: nn.Module, args: Any, output: Any) -> Any:
        """Let tokens read, after the block of this index; a language model that is called by itself stays as it is."""
        if self._keys is None:
            return output
        tokens, keys = output if isinstance(output, Tensor) else output[0], self._keys[index]
        if len(tokens) != len(keys.node.key):  # for texts with several answers
            keys = keys.repeated(len(tokens) // len(keys.node.key))
        read = self._attention(index).read(tokens, keys)
        return read if isinstance(output, Tensor) else (read, *output[1:])

    def _attention(self, index: int) -> GatedCrossAttention:
        attention = self.cross_attention[index]
        assert isinstance(attention, GatedCrossAttention)
        return attention

    @property
    def _draws_positions(self) -> bool:
        return self.positions is not None and (self.training or self.positions_in_evaluation == "random")

    def _num_new_tokens(self, num_tokens: int, kwargs: Mapping[str, Any]) -> int:
        """At most how many tokens `generate` adds to a prompt of so many."""
        for given in (kwargs, (kwargs.get("generation_config") or self.language_model.generation_config).to_dict()):
            if given.get("max_new_tokens") is not None:
                return int(given["max_new_tokens"])
            if given.get("max_length") is not None:
                return max(0, int(given["max_length"]) - num_tokens)
        return 20  # the default of transformers

    def _check_length(self, num_tokens: int) -> None:
        if self.context_length is not None and num_tokens > self.context_length:
            raise ValueError(
                f"expected at most {self.context_length} tokens, the language model's context or max_position, "
                f"given {num_tokens}"
            )
