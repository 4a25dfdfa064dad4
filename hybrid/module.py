"""Training and evaluation of hybrids, and of their language models alone, with Lightning.

Source: Bounsi et al., "Transformers meet Neural Algorithmic Reasoners", 2024 (arXiv 2406.09308).
"""
# Axes: B texts, L tokens, V vocabulary.

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.nn import functional
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerBase

from nar.batch import NOT_SCORED, AnyGraphs, TextBatch
from nar.errors import UserError
from nar.hybrid.answers import generate_answers, longest_answer
from nar.hybrid.buckets import buckets_of
from nar.hybrid.descriptions import describe
from nar.hybrid.parts import check_parts, language_model_of, reasoner_of
from nar.hybrid.saving import dtypes, frozen, refused, restore_dtypes, restore_frozen
from nar.hybrid.states import exchanged
from nar.hybrid.transnar import Positions, TransNAR
from nar.limits import check_steps
from nar.tokenizer_files import files_of_tokenizer, tokenizer_of_files
from nar.training.base import BaseReasoner
from nar.training.checkpoint import config_of, kind_of, load_weights, read_checkpoint
from nar.training.distributed import gather

_COST_ON_CPU, _COST_ON_GPU = 64, 8192
"""How many tokens take about as long, in training, as the calls of Python and the launches that a bucket needs."""


class Answer(NamedTuple):
    """What a model answered to a text, and what it should have."""

    algorithm: str
    num_nodes: int
    prompt: str
    truth: str
    answer: str


class LanguageReasoner(BaseReasoner):
    """A :class:`~nar.hybrid.TransNAR` that learns to write the answers of texts whose graphs its reasoner is given.

    Logs the loss, the mean over the tokens of answers; in validation besides, of every algorithm and of all,
    ``score``, the share of these tokens that are the most probable after those before them, and ``exact``, that of
    texts where all are. Of all algorithms the score is ``val/score``, by which the best weights are chosen.

    Args:
        tokenizer: Of the texts; on the command line, that of the data.
        algorithms: What the texts are about; on the command line, as in the data.
        language_model: The name of a pretrained one on the Hugging Face Hub, or its folder; or, for random weights, a
            configuration with its ``model_type``, without what the tokenizer tells, or its JSON text.
        reasoner: A checkpoint of ``nar fit``; or, for random weights, the JSON text that :meth:`parts` has of one.
        language_model_only: Whether the language model is trained alone, as the baseline, whatever reasoner is given.
        steps_per_block: Steps of the reasoner for each block of the language model; null to spread the steps that each
            graph takes over the blocks.
        num_heads: Of the cross-attention to the reasoner's states; as many as the language model has if not given.
        freeze_reasoner: Whether the reasoner is not trained.
        adaptive_temperature: Whether the cross-attention is sharpened in evaluation.
        max_position: From how many positions those of tokens are drawn; the language model's own if not given.
        positions_in_evaluation: Whether they are drawn in evaluation too.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        warmup_steps: Over which the learning rate rises to its value.
        loss_on: Whether the loss is that of the answer, or of the prompt too.
        feed_forward: Whether a feed-forward layer follows each cross-attention.
        shuffle_graphs: Whether every text is given the graph of another one of its algorithm and size in its batch: a
            control, of what graphs bring that are not the text's own.
    """

    kind = "text"
    not_in_config = ("tokenizer", "algorithms")

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        algorithms: Sequence[str],
        language_model: str | dict[str, Any],
        reasoner: str | None = None,
        language_model_only: bool = False,
        steps_per_block: int | None = 1,
        num_heads: int | None = None,
        freeze_reasoner: bool = True,
        adaptive_temperature: bool = False,
        max_position: int | None = None,
        positions_in_evaluation: Positions = "random",
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        warmup_steps: int = 0,
        loss_on: Literal["answer", "all"] = "answer",
        feed_forward: bool = False,
        shuffle_graphs: bool = False,
    ) -> None:
        super().__init__(learning_rate)
        for name, value in (("weight_decay", weight_decay), ("warmup_steps", warmup_steps)):
            if not 0 <= value < math.inf:
                raise ValueError(f"expected {name} of 0 or more, given {value}")
        if steps_per_block is not None:
            check_steps("steps_per_block", steps_per_block)
        for name, number in (("num_heads", num_heads), ("max_position", max_position)):
            if number is not None and number < 1:
                raise ValueError(f"expected {name} ≥ 1, given {number}")
        if loss_on not in ("answer", "all"):
            raise ValueError(f"expected loss_on 'answer' or 'all', given {loss_on!r}")
        if not language_model:
            raise ValueError(
                f"expected the name, the folder or the settings of a language_model, given {language_model!r}"
            )
        if reasoner is None and not language_model_only:
            raise ValueError(
                "expected a reasoner, as in --model.reasoner runs/several/best.ckpt, or --model.language_model_only "
                "true, given neither"
            )
        if shuffle_graphs and language_model_only:
            raise ValueError("expected shuffle_graphs for a model with a reasoner, given language_model_only too")
        self.tokenizer = tokenizer
        self.algorithms = tuple(algorithms)
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.loss_on = loss_on
        self.shuffle_graphs = shuffle_graphs
        self.model = TransNAR(
            language_model_of(language_model, tokenizer),
            None if reasoner is None or language_model_only else reasoner_of(reasoner, algorithms),
            steps_per_block=steps_per_block,
            num_heads=num_heads,
            freeze_reasoner=freeze_reasoner,
            adaptive_temperature=adaptive_temperature,
            max_position=max_position,
            positions_in_evaluation=positions_in_evaluation,
            feed_forward=feed_forward,
        ).train()
        self.answers: list[Answer] = []
        """The answers to all texts of the last test."""

    def parts(self) -> dict[str, Any]:
        """What the language model, the reasoner and the tokenizer are made of, as plain values."""
        config = self.model.reasoner_config
        return {
            # As text: of a dict the command line would make objects, of whatever class it names.
            "language_model": describe(self.model.language_model).to_text(),
            "reasoner": None if config is None else json.dumps(config),
            "tokenizer": files_of_tokenizer(self.tokenizer),
            "state": {"settings": self.model.settings, "frozen": frozen(self.model), "dtypes": dtypes(self.model)},
        }

    def parts_config(self) -> dict[str, Any]:
        """What is to be known besides the arguments of the model: what its parts are made of."""
        return {"parts": self.parts()}

    def algorithm_names(self) -> list[str]:
        """The names of the algorithms that its texts are about."""
        return list(self.algorithms)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *_: Any, **kwargs: Any) -> "LanguageReasoner":
        """The model of a checkpoint with its weights; the tokenizer is the checkpoint's.

        Args:
            checkpoint_path: Of what Lightning's trainer or `nar fit` has saved.
            **kwargs: Arguments of the model that are to be others.

        Raises:
            UserError: If there is no file, or it is damaged, or not that of a language model.
        """
        return cls.of_checkpoint(read_checkpoint(checkpoint_path), checkpoint_path, **kwargs)

    @classmethod
    def of_checkpoint(cls, checkpoint: dict[str, Any], path: str | Path, **kwargs: Any) -> "LanguageReasoner":
        """The model of a checkpoint that has been read, with its weights.

        Args:
            checkpoint: What it holds.
            path: Where it is from, for what is refused.
            **kwargs: Arguments of the model that are to be others.

        Raises:
            UserError: If it is damaged, or not that of a language model.
        """
        config = config_of(checkpoint)
        if kind_of(config) != "text":
            raise UserError(f"{path} is a checkpoint of a reasoner alone: expected one with a language model")
        with refused(path):
            made = check_parts(config["parts"])
            state = made.pop("state", {"settings": {}, "frozen": None, "dtypes": {}})
            tokenizer = tokenizer_of_files(made.pop("tokenizer"))
            settings = {name: value for name, value in state["settings"].items() if name != "blocks"}
            algorithms = config["data"].get("algorithms", ())
            module = cls(tokenizer, algorithms, **{**config["model"], **settings, **made, **kwargs})
            restore_dtypes(module.model, state["dtypes"])
            if state["frozen"] is not None:
                restore_frozen(module.model, state["frozen"])
            module.on_load_checkpoint(checkpoint)
        load_weights(module, checkpoint["state_dict"], path)
        return module

    @property
    def has_unused_parameters(self) -> bool:
        """Whether a reasoner is trained, of which a step leaves the parameters of other algorithms without gradient."""
        return self.model.reasoner is not None and not self.model.freeze_reasoner

    def make_optimizer(self) -> Optimizer:
        """AdamW of the parameters that are trained."""
        trained = [(name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad]
        eps = max([1e-8, *(torch.finfo(parameter.dtype).tiny for _, parameter in trained)])  # 1e-8 is 0 in float16
        return AdamW(trained, lr=self.learning_rate, weight_decay=self.weight_decay, eps=eps)

    def configure_optimizers(self) -> Any:
        """The optimizer, whose learning rate rises over `warmup_steps` to its value."""
        optimizer = super().configure_optimizers()
        if not self.warmup_steps:
            return optimizer
        warmup = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / self.warmup_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": warmup, "interval": "step"}}

    def on_fit_start(self) -> None:
        """Print how many parameters are trained, in which a hybrid and a baseline should be equal."""
        number = sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)
        rank_zero_info(f"{number:,} parameters are trained")

    def forward(self, batch: TextBatch) -> Tensor:
        """Logits of the next tokens, [B, L, V]."""
        self.check_length(batch, batch.input_ids.shape[1])
        output = self.model(batch.input_ids, self._graphs(batch), batch.attention_mask, use_cache=False)
        logits: Tensor = output.logits
        return logits

    def _graphs(self, batch: TextBatch) -> Sequence[AnyGraphs]:
        """The graphs that the texts of a batch are given."""
        return exchanged(batch.graphs) if self.shuffle_graphs else batch.graphs

    def losses(self, batch: TextBatch) -> tuple[dict[str, Tensor], Tensor]:
        """The mean loss of the tokens."""
        number = (self._labels(batch)[:, 1:] != NOT_SCORED).sum()
        cost = _COST_ON_CPU if self.device.type == "cpu" else _COST_ON_GPU
        loss = torch.stack([self._total_loss(bucket) for bucket in buckets_of(batch, cost)]).sum() / number
        return {"loss": loss}, loss

    def _total_loss(self, batch: TextBatch) -> Tensor:
        """The sum of the losses of tokens."""
        shifted = _shifted(self(batch), self._labels(batch))
        return functional.cross_entropy(*shifted, ignore_index=NOT_SCORED, reduction="sum")

    def _labels(self, batch: TextBatch) -> Tensor:
        """The tokens that the loss is of, [B, L]."""
        is_all = self.loss_on == "all"
        return batch.input_ids.masked_fill(batch.attention_mask == 0, NOT_SCORED) if is_all else batch.labels

    def validation_step(self, batch: TextBatch, batch_idx: int) -> None:
        """Add a batch to the sums of its algorithm and size."""
        logits, labels = _shifted(self(batch), batch.labels)
        is_scored = labels != NOT_SCORED
        is_wrong = (logits.argmax(dim=-1) != labels) & is_scored
        loss = functional.cross_entropy(logits, labels, ignore_index=NOT_SCORED, reduction="sum")
        exact = ~is_wrong.view(len(batch.keys), -1).any(dim=-1)
        sums = {
            "loss": loss,
            "num_tokens": is_scored.sum(),
            "num_wrong": is_wrong.sum(),
            "num_exact": exact.sum(),
            "num_texts": exact.new_tensor(len(exact), dtype=torch.float32),
        }
        (key,) = set(batch.keys)
        self.tally.add_counts(key, {name: x.float() for name, x in sums.items()})

    def scores_of(self, algorithm: str, counts: Mapping[str, Tensor]) -> dict[str, float]:
        """The scores of texts: the mean loss of a token, the ``score`` and the share that is ``exact``."""
        loss, num_tokens, num_wrong, num_exact, num_texts = (x.item() for x in counts.values())
        return {"loss": loss / num_tokens, "score": 1 - num_wrong / num_tokens, "exact": num_exact / num_texts}

    def on_validation_epoch_end(self) -> None:
        """Log scores."""
        self.finish_tally()
        by_algorithm: dict[str, list[dict[str, float]]] = defaultdict(list)
        for (algorithm, _), of_key in self.scores.items():
            loss = torch.tensor(of_key["loss"], device=self.device)
            self.check_finite({"loss": loss}, loss)
            self.check_pending()
            by_algorithm[algorithm].append(of_key)
        means = {algorithm: _mean(values) for algorithm, values in by_algorithm.items()}
        for algorithm, values in means.items():
            self.log_dict({f"val/{algorithm}/{name}": value for name, value in values.items()})
        self.log_dict({f"val/{name}": value for name, value in _mean(list(means.values())).items()}, prog_bar=True)

    def test_step(self, batch: TextBatch, batch_idx: int) -> None:
        """Answer a batch, greedily."""
        self.check_length(batch, batch.input_ids.shape[1])
        bound = longest_answer(self.tokenizer, batch.answers)
        try:
            graphs = self._graphs(batch)
            answers = generate_answers(self.model, self.tokenizer, batch.prompts, graphs, max_new_tokens=bound)
        except ValueError as error:  # of prompts that the language model does not read beside padding
            raise UserError(str(error)) from error
        texts = zip(batch.keys, batch.prompts, batch.answers, answers, strict=True)
        self.answers += [Answer(*key, *rest) for key, *rest in texts]

    def on_test_start(self) -> None:
        """Begin without answers."""
        self.answers = []

    def on_test_epoch_end(self) -> None:
        """Gather the answers of all processes."""
        self.answers = [answer for part in gather(self.answers) for answer in part]

    def check_length(self, batch: TextBatch, num_tokens: int) -> None:
        """Raise a :class:`UserError` that names what is too long for the language model."""
        context = self.model.context_length
        if context is not None and num_tokens > context:
            algorithm, num_nodes = batch.keys[int(batch.attention_mask.sum(dim=-1).argmax())]
            raise UserError(
                f"expected texts of at most {context} tokens, the language model's context or max_position, given one "
                f"of {num_tokens}: {algorithm} with n = {num_nodes}"
            )


def load_transnar(path: str | Path) -> tuple[TransNAR, PreTrainedTokenizerBase]:
    """The model of a checkpoint of `nar fit` with its weights, in evaluation mode on the CPU, and its tokenizer.

    ``save_pretrained`` of both writes what :meth:`nar.hybrid.TransNAR.from_pretrained` and transformers read.

    Raises:
        UserError: If there is no file, or it is damaged, or not that of a language model.
    """
    module = LanguageReasoner.load_from_checkpoint(path)
    return module.model.eval(), module.tokenizer


def _shifted(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The logits of each token but the first, and what it should be."""
    return logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten()


def _mean(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(value[name] for value in values) / len(values) for name in values[0]}
