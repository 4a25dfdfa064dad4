"""Training and evaluation on dense graphs with Lightning.

Source: Ibarz et al., "A Generalist Neural Algorithmic Learner", LoG 2022; ``clrs/_src/baselines.py`` and
``clrs/examples/run.py`` of dm-clrs 2.0.3.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from nar.batch import Batch, Key
from nar.model.heads import EdgePointers, HintMode
from nar.model.metrics import counts_by_graph, definite, scores
from nar.model.reconstruction import Reconstruction
from nar.model.unroll import DecayTo, EncodeProcessDecode, HintFeedback, Predictions
from nar.noise import Noise
from nar.processor import Processor
from nar.specs import Spec, Type
from nar.training.execution import Execution
from nar.training.pretrained import PretrainedReasoner

HintLoss = Literal["all", "none"]


class Reasoner(PretrainedReasoner):
    """An :class:`~nar.model.unroll.EncodeProcessDecode` model that learns to execute algorithms.

    Logs the loss and, where scored, the score of every probe by name, and ``val/score``, the mean over the algorithms,
    by which the best weights are chosen: errors of outputs that are scalars count negatively in it.

    Args:
        specs: The spec of each algorithm by name; on the command line, those of the data.
        processor: The graph network; a short name such as ``TripletGMPNN``, or the import path of a subclass of
            :class:`nar.processor.Processor`.
        learning_rate: Of Adam, if no other optimizer is given.
        hint_mode: Whether hints are fed back and predicted, only predicted, or not used.
        hint_teacher_forcing: Probability, per graph and step, that training feeds the true hint.
        hint_feedback: Whether predicted hints are fed back as probabilities or as definite values.
        hint_loss: Whether the losses of ``"all"`` hints are added to those of the outputs, or of ``"none"``: hints are
            then predicted and fed back in the same way, but nothing tells the model what they are to say, and their
            losses are neither computed nor logged. That is a variant of the task, in which an algorithm's result is
            learnt and not its way.
        edge_pointers: Whether edge pointers are encoded and decoded on ``"pairs"`` of nodes, as in dm-clrs, or also on
            ``"triplets"``, which need a processor with messages over triplets, such as ``TripletGMPNN``.
        reconstruction: Settings of a network that encodes a step's hints together and from which training decodes them
            again, a :class:`nar.model.reconstruction.Reconstruction`; None for no such network. The losses of hints
            that are decoded so are named ``reconstruction/…``.
        num_frequencies: F: beside a scalar x, ``sin(2^f π x)`` and ``cos(2^f π x)`` are encoded for f from 0 to F - 1.
        difference_scales: S: of every input x that is a scalar of nodes, such as keys, ``tanh(10^s (x_i - x_j))`` is
            encoded on the edges for s from 0 to S - 1, and with every input g that is one of the graph, such as the
            target of a search, ``tanh(10^s (x_i - g))`` on the nodes. With 4, numbers that differ by .001 are told
            apart. Hints have none: predictions that are a little off would have differences as sharp.
        use_lstm: Whether node states pass through an LSTM after the processor.
        num_processor_steps: How often the processor is applied between two hints: a number for all algorithms, or some
            by their names, of all others being 1.
        dropout: Probability that an entry of the node states is dropped in training.
        latent_decay: What is left, in [0, 1], of the node states between one step and the next, before the processor;
            the decoders are given what they were.
        latent_decay_to: What they decay to: zero, or the mean over each node's own entries.
        latent_noise: What becomes of node states after the processor: one of :mod:`nar.noise`, or the import path of a
            subclass of :class:`nar.noise.Noise`; None for nothing.
        penalties: Weights of those penalties of the processor, by name, that are added to the loss.
        lr_scheduler: What changes the learning rate after every step: the ``class_path`` of a scheduler such as
            :class:`nar.training.schedules.WarmupCosine`, and its ``init_args``; None for nothing.
        optimizer: The ``class_path`` of an optimizer such as :class:`torch.optim.AdamW`, and its ``init_args``, with a
            learning rate of its own; None for Adam.
    """

    kind = "dense"
    objects: ClassVar[Mapping[str, Any]] = {
        "processor": Processor,
        "reconstruction": Reconstruction | None,
        "latent_noise": Noise | None,
    }

    def __init__(
        self,
        specs: Mapping[str, Spec],
        processor: Processor,
        learning_rate: float = 1e-3,
        hint_mode: HintMode = "encoded_decoded",
        hint_teacher_forcing: float = 0.0,
        hint_feedback: HintFeedback = "soft",
        hint_loss: HintLoss = "all",
        edge_pointers: EdgePointers = "pairs",
        reconstruction: Reconstruction | None = None,
        num_frequencies: int = 0,
        difference_scales: int = 0,
        use_lstm: bool = False,
        num_processor_steps: int | Mapping[str, int] = 1,
        dropout: float = 0.0,
        latent_decay: float = 1.0,
        latent_decay_to: DecayTo = "zero",
        latent_noise: Noise | None = None,
        penalties: Mapping[str, float] | None = None,
        lr_scheduler: dict[str, Any] | None = None,
        optimizer: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(learning_rate, lr_scheduler, optimizer)
        self.penalties = dict(penalties or {})
        for name, weight in self.penalties.items():
            if name not in processor.penalty_names:
                known = " or ".join(map(repr, processor.penalty_names)) or "none"
                raise ValueError(f"expected a penalty of {type(processor).__name__}, {known}, given {name!r}")
            if not 0 <= weight < math.inf:
                raise ValueError(f"expected a weight of 0 or more for the penalty {name!r}, given {weight}")
        if hint_loss not in get_args(HintLoss):
            raise ValueError(f"expected hint_loss 'all' or 'none', given {hint_loss!r}")
        if reconstruction is not None and hint_loss != "all":
            raise ValueError(f"expected hint_loss 'all' with a reconstruction, given {hint_loss!r}")
        self.hint_loss: str = hint_loss
        self.specs = specs
        self.model = EncodeProcessDecode(
            specs,
            processor,
            hint_mode=hint_mode,
            hint_teacher_forcing=hint_teacher_forcing,
            hint_feedback=hint_feedback,
            edge_pointers=edge_pointers,
            reconstruction=reconstruction,
            num_frequencies=num_frequencies,
            difference_scales=difference_scales,
            use_lstm=use_lstm,
            num_processor_steps=num_processor_steps,
            dropout=dropout,
            latent_decay=latent_decay,
            latent_decay_to=latent_decay_to,
            latent_noise=latent_noise,
        )
        self.execution = Execution(self)

    def make_optimizer(self) -> Optimizer:
        """Adam, of all parameters."""
        return Adam(self.named_parameters(), lr=self.learning_rate)

    def forward(self, batch: Batch, *, with_hints: bool = True) -> Predictions:
        """Logits of outputs, and of hints if asked for."""
        predictions: Predictions = self.model(batch.algorithm, batch.feedback.features, with_hints=with_hints)
        return predictions

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of all probes and the penalties by name, and their sum, of penalties by their weights."""
        return self.execution.train(batch)

    def run(
        self,
        *given: Any,
        source: Any = None,
        target: Any = None,
        needle: Any = None,
        weight: str | None = "weight",
        names: Any = None,
        steps: Any = "auto",
        limit: int | None = None,
    ) -> Any:
        """The answer on data of your own, or a list of answers on a list of them: see :func:`nar.inference.run`.

        ``run(data)``, or ``run(algorithm, data)`` for one of several algorithms.
        """
        from nar.inference import run

        options = {"source": source, "target": target, "needle": needle, "weight": weight, "names": names}
        return run(self, *given, **options, steps=steps, limit=limit)

    def trace(
        self,
        *given: Any,
        source: Any = None,
        target: Any = None,
        needle: Any = None,
        weight: str | None = "weight",
        names: Any = None,
        steps: Any = "auto",
        limit: int | None = None,
        replace: Any = None,
    ) -> Any:
        """The states inside the model at each step, on data of your own or a batch (:func:`nar.inference.trace`).

        ``replace(place, state)`` may put other states in their place.
        """
        from nar.inference import trace

        options = {"source": source, "target": target, "needle": needle, "weight": weight, "names": names}
        return trace(self, *given, **options, steps=steps, limit=limit, replace=replace)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The sum of the losses of outputs and hints, and of the penalties by their weights."""
        loss = super().training_step(batch, batch_idx)
        self.log(f"train/{batch.algorithm}/loss", loss.detach(), batch_size=1)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the scores and losses of its algorithm."""
        outputs, by_probe = self.execution.validate(batch)
        self._count(batch, outputs)
        self.tally.add_losses(batch.key, by_probe, len(batch.feedback.features.lengths))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the scores of its algorithm and size."""
        self.tally.add_marks(batch.key, self._count(batch, self(batch, with_hints=False).outputs))

    def _count(self, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Add a batch to the scores; what was counted of each trajectory."""
        by_graph = counts_by_graph(self.specs[batch.algorithm], outputs, batch.feedback.outputs)
        self.tally.add_counts(batch.key, {name: counts.sum(dim=0) for name, counts in by_graph.items()})
        return by_graph

    def scores_of(self, algorithm: str, counts: Mapping[str, Tensor]) -> dict[str, float]:
        """The scores of an algorithm's outputs by name, and under ``"score"`` their mean."""
        return scores(self.specs[algorithm], counts)

    def on_validation_epoch_end(self) -> None:
        """Log scores and losses."""
        tally = self.finish_tally()
        for (algorithm, _), by_probe in tally.mean_losses().items():
            by_name = {f"loss/{name}": torch.tensor(value, device=self.device) for name, value in by_probe.items()}
            total = torch.stack(list(by_name.values())).sum()
            self.check_finite(by_name, total, algorithm)
            self.check_pending()
            self.log_dict({f"val/{algorithm}/{name}": value for name, value in by_name.items()})
            self.log(f"val/{algorithm}/loss", total)
        for (algorithm, _), by_output in self.scores.items():
            self.log_dict({f"val/{algorithm}/{name}": value for name, value in by_output.items()})
        merits = [self._merit(algorithm, by_output) for (algorithm, _), by_output in self.scores.items()]
        self.log("val/score", sum(merits) / len(merits), prog_bar=True)

    def _merit(self, algorithm: str, by_output: Mapping[str, float]) -> float:
        """The score of an algorithm, in which errors of scalar outputs count negatively: the best has the most."""
        spec = self.specs[algorithm]
        outputs = {name: value for name, value in by_output.items() if name != "score"}
        return sum(-x if spec[name].type is Type.SCALAR else x for name, x in outputs.items()) / len(outputs)

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Key, dict[str, Tensor]]:
        """The algorithm and the size of a batch, and its definite outputs by name."""
        outputs = definite(self.specs[batch.algorithm], self(batch, with_hints=False).outputs)
        return batch.key, outputs
